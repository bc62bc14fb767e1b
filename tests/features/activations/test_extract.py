import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from brainmap import features
from brainmap.errors import InputError, RunError
from brainmap.features.layers.ear import tap
from brainmap.features.layers.selection import choose_layers
from brainmap.features.sounds.batches import SoundSource
from brainmap.types import FeatureSet, Pooling

Array = NDArray[np.float32]


def small_network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv1d(1, 4, 5, padding=2),
            nn.BatchNorm1d(4),
            nn.ReLU(inplace=True),
            nn.MaxPool1d(3),
            nn.Conv1d(4, 6, 3),
            nn.Tanh(),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(6 * 8, 3),
        )


class Streamed:
    """Labelled sounds that exist one batch at a time."""

    def __init__(self, n: int, length: int = 30) -> None:
        self.n, self.length = n, length
        self.items = [f"s{i:04d}" for i in range(n)]
        self.conditions = [f"word{i % 3}" for i in range(n)]

    def __len__(self) -> int:
        return self.n

    def batches(self, size: int) -> Iterator[Array]:
        for start in range(0, self.n, size):
            rngs = [np.random.default_rng(i) for i in range(start, min(start + size, self.n))]
            yield np.stack([rng.standard_normal((1, self.length), np.float32) for rng in rngs])


@pytest.fixture
def sounds() -> Array:
    return np.concatenate(list(Streamed(7).batches(4)))


def by_hand(net: nn.Sequential, sounds: Array) -> dict[str, Array]:
    """The same activations, child by child."""
    x, seen = torch.as_tensor(sounds), {}
    net.eval()
    with torch.no_grad():
        for name, child in net.named_children():
            x = child(x.clone())
            seen[name] = x.numpy()
    return seen


def test_activations_are_those_after_norm_and_nonlinearity_and_before_pooling(sounds: Array) -> None:
    net = small_network()
    seen = by_hand(net, sounds)
    acts = features.extract_activations(net, sounds, batch_size=3)
    assert acts.layers == ("0", "4", "output")
    np.testing.assert_allclose(acts["0"][:], seen["2"].mean(2), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(acts["4"][:], seen["5"].mean(2), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(acts["output"][:], seen["8"], rtol=1e-5, atol=1e-6)


def test_stage_before_gives_the_normalized_tensor_though_the_nonlinearity_is_in_place(sounds: Array) -> None:
    net = small_network()
    seen = by_hand(net, sounds)
    acts = features.extract_activations(net, sounds, layers=["0", "4"], stage="before", pooling="none")
    np.testing.assert_allclose(acts["0"][:], seen["1"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(acts["4"][:], seen["4"], rtol=1e-5, atol=1e-6)
    assert (acts["0"][:] < 0).any()


@pytest.mark.parametrize(
    ("pooling", "oracle"),
    [
        ("mean", lambda a: a.mean(-1)),
        ("max", lambda a: a.max(-1)),
        ("rms", lambda a: np.sqrt((a.astype(float) ** 2).mean(-1))),
        ("none", lambda a: a),
        ("flatten", lambda a: a.reshape(len(a), -1)),
    ],
)
def test_pooling_over_time(sounds: Array, pooling: Pooling, oracle: Callable[[Array], Array]) -> None:
    net = small_network()
    acts = features.extract_activations(net, sounds, layers="0", pooling=pooling)
    np.testing.assert_allclose(acts["0"][:], oracle(by_hand(net, sounds)["2"]), rtol=1e-5, atol=1e-6)


def test_two_dimensional_networks_are_pooled_over_time_and_over_frequency_when_asked() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    x = np.random.default_rng(0).standard_normal((4, 2, 6, 5), np.float32)
    acts = features.extract_activations(net, x, pool_frequency=True)
    np.testing.assert_allclose(acts["0"][:], by_hand(net, x)["1"].mean((2, 3)), rtol=1e-5, atol=1e-6)
    in_bands = features.extract_activations(net, x)["0"][:]
    np.testing.assert_allclose(in_bands, by_hand(net, x)["1"].mean(3).reshape(4, -1), rtol=1e-5, atol=1e-6)


def test_items_keep_their_labels_on_disk(tmp_path: Path) -> None:
    streamed = Streamed(5)
    assert isinstance(streamed, SoundSource)
    features.extract_activations(small_network(), streamed, store=tmp_path / "a.zarr", network="tiny").close()
    with features.open_activations(tmp_path / "a.zarr") as acts:
        assert isinstance(acts, FeatureSet)
        assert acts.items == tuple(streamed.items)
        assert acts.conditions == tuple(streamed.conditions)
        assert acts.network == "tiny"
        assert list(acts) == ["0", "4", "output"]
        assert np.asarray(acts["0"]).shape == (5, 4)


def test_permuting_items_permutes_activations(sounds: Array) -> None:
    order = np.random.default_rng(1).permutation(len(sounds))
    net = small_network()
    straight = features.extract_activations(net, sounds)
    permuted = features.extract_activations(net, sounds[order], batch_size=2)
    for layer in straight:
        np.testing.assert_allclose(
            np.asarray(permuted[layer]), np.asarray(straight[layer])[order], rtol=1e-5, atol=1e-6
        )


def test_a_second_extraction_runs_nothing_and_a_changed_weight_runs_again(sounds: Array, tmp_path: Path) -> None:
    net = small_network()
    runs = []
    net.register_forward_pre_hook(lambda _, x: runs.append(len(x[0])))
    features.extract_activations(net, sounds, store=tmp_path / "a")
    first = sum(runs)
    features.extract_activations(net, sounds, store=tmp_path / "a", batch_size=2)
    assert sum(runs) == first + 1  # the one item that finds the layers
    with torch.no_grad():
        net.get_parameter("4.bias").add_(1)
    changed = features.extract_activations(net, sounds, store=tmp_path / "a")
    assert sum(runs) == 2 * first + 1
    np.testing.assert_allclose(changed["4"][:], by_hand(net, sounds)["5"].mean(2), rtol=1e-5, atol=1e-6)


def test_only_missing_layers_are_computed(sounds: Array, tmp_path: Path) -> None:
    net = small_network()
    features.extract_activations(net, sounds, layers=["0"], store=tmp_path / "a")
    written = {p: p.stat().st_mtime_ns for p in (tmp_path / "a/activations/0").rglob("*")}
    both = features.extract_activations(net, sounds, layers=["0", "4"], store=tmp_path / "a")
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "a/activations/0").rglob("*")} == written
    np.testing.assert_allclose(both["4"][:], by_hand(net, sounds)["5"].mean(2), rtol=1e-5, atol=1e-6)


def test_a_run_that_broke_off_is_not_believed_and_is_done_again(sounds: Array, tmp_path: Path) -> None:
    net = small_network()
    broken = sounds.copy()
    broken[5] = np.nan
    with pytest.raises(RunError, match="layer '0' is not finite for item '5'"):
        features.extract_activations(net, broken, store=tmp_path / "a", batch_size=2, key="same")
    with pytest.raises(InputError, match="no finished activations"):
        features.open_activations(tmp_path / "a")
    acts = features.extract_activations(net, sounds, store=tmp_path / "a", key="same")
    np.testing.assert_allclose(acts["0"][:], by_hand(net, sounds)["2"].mean(2), rtol=1e-5, atol=1e-6)


def test_the_model_is_as_it_was_even_after_an_error(sounds: Array) -> None:
    net = small_network().train()
    net[1].eval()  # frozen on purpose: its flag is its own
    features.extract_activations(net, sounds)
    with pytest.raises(RunError):
        features.extract_activations(net, np.full_like(sounds, np.inf))
    assert [m.training for m in net] == [True, False] + [True] * 7
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert torch.is_grad_enabled()


def test_float16_on_disk_and_its_overflow(sounds: Array) -> None:
    net = small_network()
    assert features.extract_activations(net, sounds, dtype="float16")["0"].dtype == np.float16
    with torch.no_grad():
        net.get_parameter("8.weight").mul_(1e7)
    with pytest.raises(RunError, match="65504"):
        features.extract_activations(net, sounds, dtype="float16")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layers": "conv9"}, "nothing fits 'conv9'"),
        ({"layers": ["outptu"]}, "did you mean 'output'"),
        ({"pooling": "median"}, "pooling: expected one of 'mean'"),
        ({"device": "cuda:99"}, "device: 'cuda:99' cannot be used"),
        ({"batch_size": 0}, "batch_size: expected 1 or more, got 0"),
    ],
)
def test_a_mistake_gets_one_line(sounds: Array, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        features.extract_activations(small_network(), sounds, **given)
    assert "\n" not in str(caught.value)


def test_sounds_of_another_length_or_without_channels_are_refused(sounds: Array) -> None:
    with pytest.raises(InputError, match=r"refuses sounds of shape \(1, 50\)"):
        features.extract_activations(small_network(), np.zeros((2, 1, 50), np.float32))
    with pytest.raises(InputError, match=r"expected an array \(n, c, t\)"):
        features.extract_activations(small_network(), sounds[:, 0])


def test_a_store_that_is_something_else_is_refused(sounds: Array, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else"):
        features.extract_activations(small_network(), sounds, store=tmp_path)
    with pytest.raises(InputError, match="no zarr arrays"):
        features.open_activations(tmp_path / "absent")


def test_memory_does_not_grow_with_the_number_of_sounds(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv1d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 2))
    peaks = []
    for n in (250, 1000):
        tracemalloc.start()
        sounds, where = Streamed(n, 500), tmp_path / str(n)
        features.extract_activations(net, sounds, layers="0", pooling="flatten", store=where)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]  # four times the sounds; chunks that are being written at once differ
    assert 2 * peaks[1] < 1000 * 8 * 498 * 4  # holding all of it would have shown


class Windowed(nn.Module):
    """A network whose second layer folds time into its items, so that other lengths must tell its axes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.folded, self.passes = nn.Conv1d(1, 4, 3, padding=1), nn.Linear(4, 2), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        heard = self.first(x).unfold(2, 5, 5).permute(0, 2, 3, 1).reshape(-1, 5, 4)
        out: torch.Tensor = self.folded(heard).mean(1).unflatten(0, (len(x), -1)).mean(1)
        return out


def test_other_lengths_are_tried_only_where_layers_that_are_asked_for_need_them(sounds: Array) -> None:
    net = Windowed()
    with torch.no_grad():
        wanted = net.first(torch.from_numpy(sounds)).mean(2).numpy()
    for layers, extra in ((["first"], 0), (["first", "folded"], 1)):
        net.passes = 0
        _, chosen = choose_layers(net, sounds, layers, only=True)
        assert net.passes == 1 + extra
        assert chosen == choose_layers(net, sounds, layers)[1]
    found = features.extract_activations(net, sounds, layers=["first"], threads=1, batch_size=len(sounds))
    np.testing.assert_allclose(found["first"], wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("threads", [1, 2])
def test_layers_are_tapped_once_for_all_batches_and_left_free(
    threads: int, sounds: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, taps = small_network().eval(), []

    @contextmanager
    def counted(model: nn.Module, *given: Any, **settings: Any) -> Iterator[dict[str, torch.Tensor]]:
        taps.append(model)
        with tap(model, *given, **settings) as heard:
            yield heard

    monkeypatch.setattr("brainmap.features.activations.extract.tap", counted)
    found = features.extract_activations(net, sounds, layers=["4"], pooling="none", batch_size=1, threads=threads)
    assert 1 <= len(taps) <= threads < len(sounds)
    assert not any(one._forward_hooks or one._forward_pre_hooks for model in taps for one in model.modules())
    assert torch.is_grad_enabled()
    with torch.no_grad():
        wanted = net[:6](torch.from_numpy(sounds)).numpy()
    np.testing.assert_allclose(found["4"], wanted, rtol=1e-5, atol=1e-5)


def test_nothing_of_a_pass_is_held_while_the_next_one_runs(sounds: Array) -> None:
    held: list[bool] = []
    outputs: list[weakref.ref[torch.Tensor]] = []

    class Watching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(1, 2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            held.append(any(one() is not None for one in outputs))
            out: torch.Tensor = self.conv(x).flatten(1)
            outputs.append(weakref.ref(out))
            return out

    features.extract_activations(Watching(), sounds, layers=["conv", "output"], batch_size=1, threads=1)
    assert len(held) > len(sounds)
    assert not any(held)
