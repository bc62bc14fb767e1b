"""Checkpoints as people have them: nests, keys of training, weight norm in both forms, precision, harmless objects."""

from __future__ import annotations

import argparse
import copy
import pathlib
import pickle
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from brainmap import features
from brainmap.errors import BrainmapWarning, InputError
from brainmap.features.networks.checkpoints import load_network
from brainmap.features.networks.state_dicts import load_pickled, match_names


def plain() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(1, 4, 9, stride=4), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 3)
    )


def old_norm() -> nn.Module:
    net = plain()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have the newer form
        net[0] = torch.nn.utils.weight_norm(net[0])
    return net


def new_norm() -> nn.Module:
    net = plain()
    net[0] = torch.nn.utils.parametrizations.weight_norm(net[0])
    return net


@pytest.fixture(autouse=True)
def builders(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("foreign_nets")
    module.__dict__.update(plain=plain, old_norm=old_norm, new_norm=new_norm)
    monkeypatch.setitem(sys.modules, "foreign_nets", module)


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return plain().eval()


def load(path: Path, builder: str = "plain") -> tuple[nn.Module, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", BrainmapWarning)
        model = load_network(path, architecture=f"foreign_nets:{builder}")
    return model, [str(one.message) for one in caught]


def agree(one: nn.Module, other: nn.Module) -> None:
    x = torch.randn(2, 1, 100, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(one(x), other.eval()(x))


def test_a_lightning_file_with_everything_in_it_gives_its_network(net: nn.Module, tmp_path: Path) -> None:
    state = {f"model.{k}": v for k, v in net.state_dict().items()}
    torch.save(
        {
            "state_dict": {**state, "criterion.weight": torch.ones(3), "n_averaged": torch.tensor(7)},
            "hyper_parameters": argparse.Namespace(lr=0.1, data=pathlib.PurePosixPath("/data")),
            "epoch": np.int64(3),
            "best_score": np.float64(0.5),
            "history": np.arange(3.0),
            "optimizer_states": [torch.optim.Adam(net.parameters()).state_dict()],
        },
        tmp_path / "last.ckpt",
    )
    found, said = load(tmp_path / "last.ckpt")
    agree(found, net)
    assert any(
        "'criterion.weight', 'n_averaged' of last.ckpt belong to its training and are left out" in s for s in said
    )
    assert any("'model.0.weight' is read as '0.weight'" in s for s in said)


@pytest.mark.parametrize("nest", ["model_state", "net", "generator", "params"])
def test_weights_are_found_by_content_and_shadows_are_no_second_set(nest: str, net: nn.Module, tmp_path: Path) -> None:
    shadow = {k: v + 1 for k, v in net.state_dict().items()}
    torch.save({nest: net.state_dict(), "model_ema": shadow, "ema": {"shadow": shadow}, "step": 4}, tmp_path / "a.pt")
    agree(load(tmp_path / "a.pt")[0], net)


def test_an_averaged_model_is_read_without_its_counter(net: nn.Module, tmp_path: Path) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(net)
    torch.save(averaged.state_dict(), tmp_path / "swa.pt")
    found, said = load(tmp_path / "swa.pt")
    agree(found, net)
    assert any("n_averaged" in s for s in said)


def test_numbers_of_training_among_the_weights_are_no_weights(net: nn.Module, tmp_path: Path) -> None:
    torch.save({**net.state_dict(), "epoch": 3, "name": "mine"}, tmp_path / "a.pt")
    agree(load(tmp_path / "a.pt")[0], net)


def test_weights_that_the_network_lacks_are_still_refused(net: nn.Module, tmp_path: Path) -> None:
    torch.save({**net.state_dict(), "6.weight": torch.zeros(2)}, tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"'6.weight'.*lacks"):
        load_network(tmp_path / "a.pt", architecture="foreign_nets:plain")


@pytest.mark.parametrize("written", ["old_norm", "new_norm"])
@pytest.mark.parametrize("read", ["old_norm", "new_norm", "plain"])
def test_weight_norm_is_read_in_every_form(written: str, read: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = globals()[written]().eval()
    torch.save({f"module.{k}": v for k, v in net.state_dict().items()}, tmp_path / "a.pt")
    found, said = load(tmp_path / "a.pt", read)
    agree(found, net)
    assert any("weight norm" in s for s in said) == (written != read)


class Harmful:
    def __reduce__(self) -> tuple[object, ...]:
        return (exec, ("raise SystemExit",))


def test_objects_that_are_not_on_the_list_are_refused(net: nn.Module, tmp_path: Path) -> None:
    for name, bad in (("a.pt", Harmful()), ("b.pt", pathlib.Path), ("c.pt", {"args": Harmful()})):
        torch.save({"state_dict": net.state_dict(), "other": bad}, tmp_path / name)
        with pytest.raises(InputError, match="would run code"):
            load_network(tmp_path / name, architecture="foreign_nets:plain")
        with pytest.raises(pickle.UnpicklingError):
            load_pickled(tmp_path / name)


def test_settings_of_a_trainer_that_is_not_installed_do_not_stop_the_weights(
    net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("pytorch_lightning.utilities.parsing")
    attributes = type("AttributeDict", (dict,), {"__module__": module.__name__})
    module.AttributeDict = attributes
    for name in ("pytorch_lightning", "pytorch_lightning.utilities", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    torch.save({"state_dict": net.state_dict(), "hyper_parameters": attributes(lr=0.1)}, tmp_path / "a.ckpt")
    for name in ("pytorch_lightning", "pytorch_lightning.utilities", module.__name__):
        monkeypatch.delitem(sys.modules, name)
    assert load_pickled(tmp_path / "a.ckpt")["hyper_parameters"] == {"lr": 0.1}
    agree(load(tmp_path / "a.ckpt")[0], net)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-6), (torch.bfloat16, 0.02), (torch.float16, 2e-3)])
def test_networks_are_fed_their_own_precision(dtype: torch.dtype, close: float, net: nn.Module) -> None:
    x = np.random.default_rng(0).standard_normal((4, 1, 100)).astype(np.float32)
    other = copy.deepcopy(net).to(dtype)
    wanted, found = (features.extract_activations(one, x) for one in (net, other))
    assert found.layers == wanted.layers
    assert np.abs(found["output"][:] - wanted["output"][:]).max() < close
    fields = [[(one.name, one.receptive_field, one.shape) for one in features.list_layers(m, x)] for m in (net, other)]
    assert fields[0] == fields[1]
    for method in ("cam", "grad-cam", "score-cam"):
        maps = [features.class_activation_maps(m, x, method=method).maps for m in (net, other)]
        assert np.abs(maps[0] - maps[1]).max() < 10 * close
    for method in ("saliency", "integrated-gradients"):
        maps = [features.attribute(m, x, method=method, classes=[0]).maps for m in (net, other)]
        assert np.abs(maps[0] - maps[1]).max() < 10 * close
    few = features.MaximizationSettings(steps=2)
    am = features.maximize_activation(other, layer="output", units=[0], settings=few, length=100, rate=1000)
    assert np.isfinite(am.patterns).all()
    assert all(p.dtype == dtype for p in other.parameters())
    assert not other._forward_pre_hooks
    assert not other._forward_hooks


class Mono(nn.Module):
    """A network on (n, samples), with a short Fourier transform that refuses an axis of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(17, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spectrum = torch.stft(x, 32, 16, window=torch.ones(32), return_complex=True).abs()
        return torch.as_tensor(self.conv(spectrum).mean(2))


class Wrapper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = Mono()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.net(x[:, 0]))


@pytest.mark.parametrize("prefix", ["", "module.", "model.module.", "net.", "module._orig_mod."])
def test_weights_fit_a_wrapper_of_ones_own_whatever_their_prefix(prefix: str) -> None:
    plain, wrapper = Mono(), Wrapper()
    given = {f"{prefix}{name}": value for name, value in plain.state_dict().items()}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = match_names(Path("net.pt"), given, wrapper)
    wrapper.load_state_dict(found)
    x = torch.randn(2, 1, 200)
    assert torch.equal(wrapper(x), plain(x[:, 0]))
    assert len(said) == (prefix != "net.")
    if said:
        words = (
            "share is replaced by that of the network" if prefix else "the network share is put before those of net.pt"
        )
        assert words in str(said[0].message)
        assert f"'{prefix}conv.weight' is read as 'net.conv.weight'" in str(said[0].message)


def test_a_network_without_an_axis_of_channels_is_told_with_its_remedy() -> None:
    sounds = np.random.default_rng(0).normal(size=(3, 1, 200)).astype(np.float32)
    with pytest.raises(InputError, match=r"refuses sounds of shape \(1, 200\): it takes \(n, samples\), .* subclass"):
        features.extract_activations(Mono(), sounds)

    class Mended(Mono):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x[:, 0])

    assert features.extract_activations(Mended(), sounds).layers == ("conv", "output")
    with pytest.raises(InputError, match="expects 10 values along its last axis"):
        features.extract_activations(nn.Sequential(nn.Flatten(), nn.Linear(10, 2)), sounds)
