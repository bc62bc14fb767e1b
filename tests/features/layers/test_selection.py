from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from brainmap.errors import InputError
from brainmap.features.activations.extract import extract_activations
from brainmap.features.activations.stored import open_activations
from brainmap.features.layers.layer import Layer
from brainmap.features.layers.selection import choose, select_layers
from brainmap.features.networks.zoo import build_network
from brainmap.rsa.rdm.compute import compute_rdms

NAMES = (*(f"conv{i}" for i in range(1, 9)), "output")
MODULES = dict(build_network("ch32").named_modules())
LISTED = tuple(
    Layer(
        name,
        "Linear" if name == "output" else "Conv1d",
        (4, 9),
        5,
        1,
        0.0,
        10,
        classes=("Linear",) if name == "output" else ("Conv1d", "_ConvNd"),
    )
    for name in NAMES
)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("all", NAMES),
        ("conv3", ("conv3",)),
        ("conv[2-4]", ("conv2", "conv3", "conv4")),
        ("last-conv", ("conv8",)),
        ("conv", NAMES[:-1]),
        ("Conv1d", NAMES[:-1]),
        ("linear", ("output",)),
        ("Linear", ("output",)),
        ("MaxPool1d", tuple(f"pool{i}" for i in range(1, 8))),
        ("1:3", ("conv2", "conv3")),
        ("-2:", ("conv8", "output")),
        ("::4", ("conv1", "conv5", "output")),
        ("depth:0", ("conv1",)),
        ("depth:1", ("output",)),
        ("depth:0.5", ("conv5",)),
        ("depth:.25-.5", ("conv3", "conv4", "conv5")),
        (["linear", "depth:0.1", "conv1", "pool2"], ("conv1", "conv2", "output", "pool2")),
    ],
)
def test_layers_are_chosen_by_name_pattern_kind_place_or_depth(
    pattern: str | list[str], expected: tuple[str, ...]
) -> None:
    assert choose(pattern, LISTED, MODULES) == expected


def test_a_name_comes_before_its_other_meanings() -> None:
    net = nn.Sequential()
    for name in ("linear", "conv"):
        net.add_module(name, nn.Conv1d(1, 1, 1))
    listed = [
        Layer(name, "Conv1d", (1, 4), 1, 1, 0.0, 2, classes=("Conv1d", "_ConvNd")) for name, _ in net.named_children()
    ]
    assert choose("conv", listed, dict(net.named_modules())) == ("conv",)
    assert choose("linear", listed, dict(net.named_modules())) == ("linear",)
    assert choose("Conv1d", listed, dict(net.named_modules())) == ("linear", "conv")


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("conv9", "did you mean 'conv[78]'"),
        ("Conv1D", "did you mean 'Conv1d'"),
        ("convs*", "nothing fits 'convs\\*'"),
        ("5:3", "nothing fits '5:3'"),
        ("depth:0.41-0.45", "nothing fits"),
        ("depth:1.5", "nothing fits"),
        ("depth:half", "depth:0.5"),
        ("", "nothing fits ''"),
    ],
)
def test_what_fits_nothing_is_told_with_the_nearest_name(pattern: str, hint: str) -> None:
    with pytest.raises(InputError, match=hint) as caught:
        choose(["conv1", pattern], LISTED, MODULES)
    assert "\n" not in str(caught.value)


class Block(nn.Module):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv, self.bn, self.pool = nn.Conv2d(n_in, n_out, 3, padding=1), nn.BatchNorm2d(n_out), nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(torch.relu(self.bn(self.conv(x))))  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    """Blocks in a ModuleList, a GRU, and a head that is defined before all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(6, 3))
        self.relu = nn.ReLU()
        self.blocks = nn.ModuleList([Block(1, 2), Block(2, 4)])
        self.rnn = nn.GRU(8, 6, batch_first=True)
        self.spare = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = self.relu(block(x))
        steps, _ = self.rnn(x.permute(0, 3, 1, 2).flatten(2))
        return self.head(steps.mean(1))  # type: ignore[no-any-return]


ENDED = (
    "blocks.0.conv", "blocks.0.bn", "blocks.0.pool", "blocks.0", "relu", "blocks.1.conv", "blocks.1.bn",
    "blocks.1.pool", "blocks.1", "relu#2", "rnn", "head.1", "head", "output",
)  # fmt: skip


@pytest.mark.parametrize(
    "asked",
    [
        ENDED,
        ENDED[::-1],
        ("blocks.0", "blocks.1", "rnn", "output"),
        ("blocks.0.pool", "blocks.0.conv", "blocks.1.pool", "rnn"),
        ("output", "head", "relu#2", "linear", "conv", "MaxPool2d"),
        ("0:2", "blocks.0", "depth:1"),
    ],
)
def test_layers_are_in_the_order_in_which_the_forward_pass_ends_them(asked: tuple[str, ...], tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, x = Recurrent().eval(), torch.randn(3, 1, 8, 12)
    ended: list[str] = []
    hooks = [
        one.register_forward_hook(lambda *_, name=name: ended.append(f"{name}#2" if name in ended else name))
        for name, one in net.named_modules()
    ]
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    assert [name or "output" for name in ended if name not in ("head.0",)] == list(ENDED)
    chosen = select_layers(net, x, asked)
    assert list(chosen) == [name for name in ENDED if name in chosen]
    assert set(chosen) >= set(asked) & set(ENDED)
    found = extract_activations(net, x, layers=asked, store=tmp_path / "a.zarr", rate=100.0)
    assert found.layers == open_activations(tmp_path / "a.zarr").layers == chosen
    assert list(compute_rdms(found).rdm_descriptors["layer"]) == list(chosen)


def test_a_module_that_takes_no_part_is_refused_before_anything_runs() -> None:
    net, x = Recurrent().eval(), torch.randn(1, 1, 8, 12)
    for name, kind in (("spare", "Linear"), ("blocks", "ModuleList")):
        with pytest.raises(InputError, match=f"got '{name}' \\({kind}\\), which is not called or gives no tensor"):
            select_layers(net, x, ["rnn", name])
