"""RDMs of features on disk, block by block, and over windows of time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

import brainmap.rsa.rdm.blocks as blocks
from brainmap.errors import BrainmapWarning, InputError
from brainmap.features import extract_activations
from brainmap.features.activations.stored import open_activations
from brainmap.rsa import compare_rdms, compute_rdms
from brainmap.rsa.rdm.alignment import list_rdm_names
from brainmap.rsa.rdm.blocks import yield_slabs

ITEMS = [f"s{k}" for k in range(12)]
WORDS = [f"w{k // 2}" for k in range(12)]


class Watched:
    """An array on disk that counts what it is asked for."""

    def __init__(self, array: Any, chunks: tuple[int, ...] | None = None) -> None:
        self.array, self.shape, self.dtype = array, tuple(array.shape), array.dtype
        if chunks is not None:
            self.chunks = chunks
        self.asked: list[int] = []
        self.rows: list[int] = []

    def __getitem__(self, key: Any) -> Any:
        found = np.asarray(self.array[key])
        self.asked.append(found.nbytes)
        self.rows.append(len(found))
        return found

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("read as a whole")


class Layers:
    """A feature set of such arrays, with the times of their frames."""

    def __init__(self, times: dict[str, Any] | None = None, **layers: Any) -> None:
        self._layers, self._times = layers, times or {}
        self.items, self.conditions, self.layers = ITEMS, WORDS, list(layers)

    def __getitem__(self, layer: str) -> Any:
        return self._layers[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def frame_times(self, layer: str) -> Any:
        return self._times.get(layer)


def chunked(folder: Path, values: np.ndarray, rows: int) -> Any:
    """On disk as the store keeps features: whole rows a chunk."""
    array = zarr.create_array(folder, shape=values.shape, chunks=(rows, *values.shape[1:]), dtype=values.dtype)
    array[...] = values
    return array


@pytest.fixture
def small_slabs(monkeypatch: pytest.MonkeyPatch) -> int:
    """Memory for 7 units of 12 items at a time."""
    monkeypatch.setattr(blocks, "SLAB_BYTES", 12 * 7 * 4)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 12 * 8 * 5)
    return 12 * 7 * 4


@pytest.mark.parametrize("items", ["stimulus", "condition"])
@pytest.mark.parametrize(
    ("dissimilarity", "units"),
    [*itertools.product(("correlation", "euclidean", "cosine"), (None, "zscore")), ("poisson", None)],
)
def test_streamed_equals_in_memory(
    dissimilarity: Any, units: Any, items: Any, small_slabs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.random.default_rng(0).gamma(2.0, size=(12, 4, 61)).astype(np.float32)
    x[3] = np.nan
    watched = Watched(chunked(tmp_path / "a", x, rows=2), chunks=(2, 4, 61))
    settings: dict[str, Any] = {"dissimilarity": dissimilarity, "units": units, "items": items}
    streamed = compute_rdms(Layers(conv1=watched), **settings).dissimilarities
    assert max(watched.asked) <= small_slabs
    assert sum(watched.asked) == x.nbytes, "every number is read once"
    monkeypatch.undo()
    whole = compute_rdms(Layers(conv1=x), **settings).dissimilarities
    np.testing.assert_allclose(streamed, whole, rtol=0, atol=1e-12)


def test_few_chunks_are_decoded_at_a_time_and_each_once_where_memory_holds_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.random.default_rng(1).normal(size=(12, 400)).astype(np.float32)
    monkeypatch.setattr(blocks, "DECODED_BYTES", 5 * 400 * 4)
    watched = Watched(chunked(tmp_path / "a", x, rows=2), chunks=(2, 400))
    compute_rdms(Layers(fc=watched))
    assert watched.rows == [4, 4, 4], "whole chunks of two rows, no more than five rows at once"


def test_memory_stays_bounded_when_features_are_larger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    n_units = 200_000
    array = zarr.create_array(tmp_path / "a", shape=(40, n_units), chunks=(4, n_units), dtype="float32")
    some = np.random.default_rng(2).normal(size=(40, 1000)).astype(np.float32)
    for row in range(0, 40, 4):
        array[row : row + 4] = np.tile(some[row : row + 4], n_units // 1000)
    for name, most in (("SLAB_BYTES", 4 << 20), ("DECODED_BYTES", 1 << 20), ("BLOCK_BYTES", 1 << 20)):
        monkeypatch.setattr(blocks, name, most)
    named = {"stimulus_id": [f"s{k}" for k in range(40)]}
    wanted = compute_rdms(some, units="zscore", descriptors=named)  # what is imported is not counted
    tracemalloc.start()
    rdms = compute_rdms(array, units="zscore", descriptors=named)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < array.nbytes / 2, f"{peak / 1e6:.0f} MB of {array.nbytes / 1e6:.0f}"
    np.testing.assert_allclose(rdms.dissimilarities, wanted.dissimilarities, atol=1e-12)


def test_a_memmap_is_read_in_parts(small_slabs: int, tmp_path: Path) -> None:
    x = np.random.default_rng(3).normal(size=(12, 60)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    parts = list(yield_slabs(mapped, "x"))
    assert max(part.nbytes for part in parts) <= small_slabs
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), x)
    named = {"stimulus_id": ITEMS}
    found, wanted = compute_rdms(mapped, descriptors=named), compute_rdms(x, descriptors=named)
    np.testing.assert_allclose(found.dissimilarities, wanted.dissimilarities, atol=1e-12)


def test_one_channel_that_is_too_long_is_cut_in_time(small_slabs: int) -> None:
    x = np.random.default_rng(4).normal(size=(12, 3, 50)).astype(np.float32)
    parts = list(yield_slabs(Watched(x), "x"))
    assert max(part.shape[1] for part in parts) == 7
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), x.reshape(12, -1))


def test_what_is_wrong_with_features_on_disk_is_said(small_slabs: int) -> None:
    x = np.random.default_rng(5).normal(size=(12, 60)).astype(np.float32)
    torn = x.copy()
    torn[[2, 5], 40:] = np.nan
    with pytest.raises(InputError, match="2 patterns of layer fc are NaN in some units only"):
        compute_rdms(Layers(fc=Watched(torn)))
    with pytest.raises(InputError, match="layer fc holds infinite"):
        compute_rdms(Layers(fc=Watched(np.where(x > 2.5, np.inf, x))))
    with pytest.raises(InputError, match="all 60 units of layer fc are constant"):
        compute_rdms(Layers(fc=Watched(np.ones_like(x))), units="zscore")
    with pytest.raises(InputError, match="expected 12 rows in layer fc, one per item, got 11"):
        compute_rdms(Layers(fc=x[:11]))
    with pytest.raises(InputError, match="expected real numbers in layer fc, got <U3"):
        compute_rdms(Layers(fc=np.full((12, 3), "abc")))
    with pytest.raises(InputError, match="at least one layer, got none"):
        compute_rdms(Layers(fc=x), layers=[])
    x[:, 7] = 3
    with pytest.warns(BrainmapWarning, match="dropped before z-scoring: 1 in fc"):
        compute_rdms(Layers(fc=Watched(x)), units="zscore")


@pytest.mark.parametrize("dissimilarity", ["correlation", "euclidean"])
def test_patterns_on_a_large_offset_keep_their_digits(dissimilarity: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 12 * 8 * 100)
    rng = np.random.default_rng(6)
    x = rng.normal(size=(12, 3000))
    for offset in (0.0, 30.0, 1e4, 1e6 * (1 + rng.normal(size=(12, 1)))):
        if dissimilarity == "euclidean" and np.ndim(offset):
            continue
        y = x + offset
        ours = compute_rdms(y, dissimilarity=dissimilarity, descriptors={"stimulus_id": ITEMS}).dissimilarities[0]
        i, j = np.triu_indices(12, 1)
        z = y - y.mean(axis=1, keepdims=True)
        plain = 1 - (z[i] * z[j]).sum(1) / np.sqrt((z[i] ** 2).sum(1) * (z[j] ** 2).sum(1))
        wanted = plain if dissimilarity == "correlation" else ((y[i] - y[j]) ** 2).mean(1)
        np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-10)


def test_a_pattern_that_is_constant_in_every_block_but_not_over_all_is_no_constant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1)  # blocks of 64 units
    x = np.random.default_rng(7).normal(size=(12, 128))
    x[4] = np.repeat([0.1, 0.3], 64)
    found = compute_rdms(x, descriptors={"stimulus_id": ITEMS}).dissimilarities[0]
    np.testing.assert_allclose(found, 1 - np.corrcoef(x)[np.triu_indices(12, 1)], atol=1e-12)
    x[4] = 0.1
    with pytest.warns(BrainmapWarning, match="constant pattern"):
        found = compute_rdms(x, descriptors={"stimulus_id": ITEMS}).dissimilarities[0]
    assert np.isnan(found).sum() == 11


def planted(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise over one second, in which a geometry lies from 300 to 400 ms; its frames' times; and its patterns."""
    times = (np.arange(100) + 0.5) / 100
    geometry = rng.normal(size=(12, 40))
    x = rng.normal(size=(12, 40, 100))
    x[..., (times > 0.3) & (times < 0.4)] += 1.5 * geometry[..., None]
    return x, times, geometry


def test_a_geometry_is_found_when_it_was_there() -> None:
    x, times, geometry = planted(np.random.default_rng(8))
    acts = Layers({"conv1": times}, conv1=x)
    rdms = compute_rdms(acts, over="time", window_ms=100, step_ms=50)
    assert rdms.rdm_descriptors["time"] == [round(0.05 + 0.05 * k, 9) for k in range(19)]
    assert rdms.descriptors["window_ms"] == 100
    brain = compute_rdms(geometry, descriptors={"stimulus_id": ITEMS})
    course = compare_rdms(rdms, brain, measure="spearman")[:, 0]
    assert rdms.rdm_descriptors["time"][int(course.argmax())] == 0.35
    assert course.max() > 0.8
    far = np.abs(np.array(rdms.rdm_descriptors["time"]) - 0.35) > 0.101
    assert np.abs(course[far]).max() < 0.5
    assert list_rdm_names(rdms)[6] == "conv1@0.35"


@pytest.mark.parametrize("items", ["stimulus", "condition"])
def test_a_window_is_the_mean_of_its_frames_and_reads_items_once(items: Any, tmp_path: Path) -> None:
    x, times, _ = planted(np.random.default_rng(9))
    watched = Watched(chunked(tmp_path / "a", x, rows=5), chunks=(5, 40, 100))
    acts = Layers({"conv1": times}, conv1=watched)
    rdms = compute_rdms(acts, over="time", window_ms=200, items=items, units="zscore")
    assert sum(watched.asked) == x.nbytes
    for k, center in enumerate(rdms.rdm_descriptors["time"]):
        inside = (times >= center - 0.1) & (times < center + 0.1)
        alone = compute_rdms(Layers(conv1=x[..., inside].mean(-1)), items=items, units="zscore")
        np.testing.assert_allclose(rdms.dissimilarities[k], alone.dissimilarities[0], atol=1e-12)
    assert [round(t, 3) for t in rdms.rdm_descriptors["time"]] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def test_coarse_layers_share_the_windows_and_say_which_they_miss() -> None:
    rng = np.random.default_rng(10)
    times = {"conv1": (np.arange(100) + 0.5) / 100, "conv8": 0.1 + 0.3 * np.arange(4)}
    acts = Layers(
        times, conv1=rng.normal(size=(12, 5, 100)), conv8=rng.normal(size=(12, 5, 4)), fc=rng.normal(size=(12, 9))
    )
    with (
        pytest.warns(BrainmapWarning, match=r"of 10 windows, .*: 7 of conv8 \(a frame every 300 ms\)"),
        pytest.warns(BrainmapWarning, match="'fc' are left out, because they keep no time"),
    ):
        rdms = compute_rdms(acts, over="time", window_ms=100, step_ms=100)
    layer, time = np.array(rdms.rdm_descriptors["layer"]), np.array(rdms.rdm_descriptors["time"])
    assert (layer == "conv1").sum() == 10
    np.testing.assert_allclose(time[layer == "conv8"], [0.15, 0.45, 0.75])


def test_silence_that_sounds_were_padded_with_has_no_rdm_and_is_counted() -> None:
    x, times, _ = planted(np.random.default_rng(13))
    x[..., 80:] = 0.25
    acts = Layers({"conv1": times}, conv1=x)
    with pytest.warns(BrainmapWarning, match="of 10 windows, .* all sounds are alike in them: 2 of conv1"):
        rdms = compute_rdms(acts, over="time", window_ms=100, step_ms=100, units="zscore")
    assert rdms.rdm_descriptors["time"][-1] == 0.75
    with pytest.raises(InputError, match="the sounds differ in none of 10 windows"):
        compute_rdms(Layers({"conv1": times}, conv1=0 * x), over="time", step_ms=100)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": ["fc"]}, "got 'fc' without time; extract them with pooling='none'"),
        ({"window_ms": 0}, "expected window_ms above 0 milliseconds, got 0"),
        ({"step_ms": -5}, "step_ms above 0 milliseconds, got -5"),
        ({"window_ms": 3000}, "windows of 3000 ms do not fit into sounds of 1000 ms"),
        ({"over": "tiem"}, "did you mean 'time'"),
    ],
)
def test_windows_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    rng = np.random.default_rng(11)
    acts = Layers({"conv1": (np.arange(20) + 0.5) / 20}, conv1=rng.normal(size=(12, 5, 20)), fc=rng.random((12, 9)))
    with pytest.raises(InputError, match=message):
        compute_rdms(acts, **{"over": "time", "layers": ["conv1"], **settings})
    with pytest.raises(InputError, match="layers that keep time for over='time'"):
        compute_rdms(acts["conv1"], over="time", descriptors={"stimulus_id": ITEMS})


class Network(torch.nn.Module):
    """Two strided convolutions and a head."""

    def __init__(self, *kernel: int) -> None:
        super().__init__()
        conv = torch.nn.Conv1d if len(kernel) == 1 else torch.nn.Conv2d
        self.one, self.two = conv(1, 3, kernel), conv(3, 2, kernel, stride=2)
        self.head = torch.nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.tanh(self.two(torch.tanh(self.one(x))))
        return self.head(y.flatten(2).mean(2))  # type: ignore[no-any-return]


def sequence(*shape: int) -> np.ndarray:
    return np.random.default_rng(12).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(4, 1, 41), (4, 1, 9, 41)])
def test_a_network_says_when_its_frames_are(shape: Sequence[int], tmp_path: Path) -> None:
    model = Network(*[5] * (len(shape) - 2))
    store = tmp_path / "acts.zarr"
    acts = extract_activations(model, sequence(*shape), pooling="none", store=store, rate=100.0)
    np.testing.assert_allclose(acts.frame_times("one"), (2 + np.arange(37)) / 100)
    np.testing.assert_allclose(acts.frame_times("two"), (4 + 2 * np.arange(17)) / 100)
    assert acts.frame_times("output") is None
    with pytest.warns(BrainmapWarning, match="'output' are left out"):
        rdms = compute_rdms(open_activations(store), over="time", window_ms=100)
    assert set(rdms.rdm_descriptors["layer"]) == {"one", "two"}
    values = np.asarray(acts["two"])[..., [3, 4, 5, 6, 7]].mean(-1).reshape(4, -1)  # 100 to 200 ms
    wanted = compute_rdms(values, descriptors={"stimulus_id": list(acts.items)}).dissimilarities[0]
    at = list_rdm_names(rdms).index("two@0.15")
    np.testing.assert_allclose(rdms.dissimilarities[at], wanted, atol=1e-12)


def test_pooled_features_and_those_without_a_rate_have_no_times() -> None:
    model = Network(5)
    assert extract_activations(model, sequence(3, 1, 41), rate=100.0).frame_times("one") is None
    assert extract_activations(model, sequence(3, 1, 41), pooling="none").frame_times("one") is None
    with pytest.raises(InputError, match="expected one of 'one'"):
        extract_activations(model, sequence(3, 1, 41)).frame_times("onee")
