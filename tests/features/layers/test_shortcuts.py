"""What is done faster in place of a network's own operations gives the same values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from brainmap.features.layers import shortcuts as _am_fast
from brainmap.features.maximization.site import find_site, freeze, read


def one_d(norm: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv1d(1, 6, 9, padding=4, bias=False),
        nn.BatchNorm1d(6) if norm else nn.Identity(),
        nn.ReLU(),
        nn.MaxPool1d(3),
        nn.Conv1d(6, 8, 5),
        nn.BatchNorm1d(8, affine=False) if norm else nn.Identity(),
        nn.MaxPool1d(2, ceil_mode=True),
        nn.ELU(),
        nn.Flatten(),
        nn.LazyLinear(4),
    )
    net(torch.randn(16, 1, 100))  # statistics that are not 0 and 1
    return net


def plain_first(padding: int, size: int, length: int) -> nn.Sequential:
    """A first convolution that is computed together with the pooling behind it."""
    torch.manual_seed(padding)
    pooled = nn.Conv1d(1, 5, 4, padding=padding), nn.MaxPool1d(size)
    net = nn.Sequential(*pooled, nn.Tanh(), nn.Conv1d(5, 3, 3), nn.Flatten(), nn.LazyLinear(2))
    net(torch.zeros(1, 1, length))
    return net


def two_d() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3))
    net(torch.randn(8, 1, 20, 24))
    return net


class Reused(nn.Module):
    """A convolution whose result is used beside its normalization too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.pool = nn.Conv1d(1, 3, 5), nn.BatchNorm1d(3), nn.MaxPool1d(2)

    def forward(self, x: Tensor) -> Tensor:
        heard = self.conv(x)
        spoken = torch.relu(self.norm(heard))
        out: Tensor = self.pool(spoken).sum(2) + spoken.sum(2) + heard.mean(2)
        return out


@pytest.mark.parametrize("large", [True, False])
@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (plain_first(0, 2, 50), (1, 50)),
        (plain_first(3, 5, 51), (1, 51)),
        (one_d(), (1, 100)),
        (one_d(norm=False), (1, 100)),
        (two_d(), (1, 20, 24)),
        (Reused(), (1, 60)),
    ],
)
def test_shortcuts_change_nothing(
    net: nn.Module, shape: tuple[int, ...], large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_am_fast, "LARGE", 0 if large else 1 << 40)
    with freeze(net, "cpu") as model:
        site = find_site(model, "output", torch.zeros(1, *shape))
        assert site.fast
        plain = torch.randn(5, *shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
        (slow,), (fast,) = (read(model, plain, site.after, fast=fast) for fast in ({}, site.fast))
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)
        weights = torch.randn(slow.shape)
        gradients = [torch.autograd.grad((out * weights).sum(), plain)[0] for out in (slow, fast)]
        torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-5)


def test_a_first_convolution_is_pooled_filter_by_filter_only_where_it_has_one_channel_and_every_sample() -> None:
    def list_fused(first: nn.Conv1d) -> list[str]:
        net = nn.Sequential(first, nn.MaxPool1d(2), nn.Flatten(), nn.LazyLinear(2))
        example = torch.zeros(1, first.in_channels, 60)
        net(example)
        with freeze(net, "cpu") as model:
            fast = find_site(model, "output", example).fast
        return [name for name, instead in fast.values() if instead.__name__ == "filter_pool"]

    assert list_fused(nn.Conv1d(1, 3, 5)) == ["conv1d"]
    for other in (nn.Conv1d(1, 3, 5, stride=2), nn.Conv1d(1, 3, 5, dilation=2), nn.Conv1d(2, 3, 5)):
        assert not list_fused(other)


def test_normalization_and_relu_are_folded_where_nothing_else_needs_them() -> None:
    with freeze(one_d(), "cpu") as net:
        names = [name for name, _ in find_site(net, "output", torch.zeros(1, 1, 100)).fast.values()]
    assert names.count("batch_norm") == 2
    assert names.count("max_pool1d") == 1  # the other rounds up
    with freeze(Reused(), "cpu") as net:
        names = [name for name, _ in find_site(net, "output", torch.zeros(1, 1, 60)).fast.values()]
    assert "batch_norm" not in names
    assert "relu" not in names


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("gated", [True, False])
def test_pooling_takes_the_first_maximum_and_passes_nan_on(gated: bool, compiled: bool) -> None:
    x = torch.tensor([[[1.0, 1.0, 0.0, -1.0, -2.0, -1.0, 0.0, torch.nan, 5.0, 9.0]]], requires_grad=True)
    found = _am_fast._make_pool(3, gated, compiled)(None, x)
    wanted = nn.functional.max_pool1d(torch.relu(x) if gated else x, 3)
    torch.testing.assert_close(found, wanted, equal_nan=True)
    given = torch.tensor([[[1.0, 2.0, 3.0]]])
    (mine,), (theirs,) = (torch.autograd.grad(out, x, given) for out in (found, wanted))
    torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("size", [2, 3, 4, 5, 7])
def test_pooling_of_every_size(size: int) -> None:
    x = torch.randn(3, 2, 37, requires_grad=True)
    found, wanted = _am_fast._make_pool(size, False, True)(None, x), nn.functional.max_pool1d(x, size)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    given = torch.randn(wanted.shape)
    (mine,), (theirs,) = (torch.autograd.grad(out, x, given) for out in (found, wanted))
    torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("width", [1, 3, 4, 5])
def test_filters_and_pooling_of_every_size(width: int, size: int) -> None:
    rng = torch.Generator().manual_seed(width)
    x, filters = torch.randn(2, 1, 3301, generator=rng), torch.randn(3, 1, width, generator=rng)  # several stretches
    offset = torch.randn(3, generator=rng)
    x.requires_grad_()
    found = _am_fast._make_filter_pool(filters, offset, 2, size, gated=True)(None, x)
    plain = nn.functional.conv1d(x.double(), filters.double(), offset.double(), padding=2)
    wanted = nn.functional.max_pool1d(plain.relu(), size)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
    given = torch.randn(wanted.shape, generator=rng)
    (mine,), (theirs,) = (torch.autograd.grad(out, x, given.to(out.dtype)) for out in (found, wanted))
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_network_that_runs_otherwise_is_read_as_it_is() -> None:
    class Moody(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.other = nn.Conv1d(1, 2, 3), nn.MaxPool1d(2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.conv(x).mean(2) if len(x) == 1 else self.other(self.other(x)).mean(2)
            return out

    with freeze(Moody(), "cpu") as net:
        site = find_site(net, "output", torch.zeros(1, 1, 16))
        (values,) = read(net, torch.ones(3, 1, 16), site.after, fast=site.fast)
        assert len(values) == 3
