"""Activations of windows of long recordings: equal to those of slices, with onsets in the store."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from torch import nn

from brainmap.errors import InputError
from brainmap.features.activations.extract import extract_activations
from brainmap.features.activations.store import ArrayWriter
from brainmap.features.activations.stored import open_activations
from brainmap.features.sounds.files import load_sounds, sounds_from_array
from brainmap.rsa.rdm.compute import compute_rdms

RATE = 16_000


def network(padding: int = 4) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv1d(1, 4, 9, stride=4, padding=padding),
        nn.ReLU(),
        nn.Conv1d(4, 6, 9, stride=4, padding=padding),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    )


def story(path: Path, seconds: float = 4.6, seed: int = 0) -> NDArray[np.float32]:
    sound = 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE)).astype(np.float32)
    soundfile.write(path, sound, RATE, subtype="FLOAT")
    return sound


def test_windows_have_the_activations_of_slices_and_the_store_their_onsets(tmp_path: Path) -> None:
    sound = story(tmp_path / "story.wav")
    sound *= 0.05 / np.sqrt(np.mean(np.square(sound, dtype=np.float64)))
    slices = np.stack([sound[k * RATE // 2 :][:RATE] for k in range(8)])[:, None]
    wanted = extract_activations(network(), slices)
    extract_activations(
        network(), load_sounds(tmp_path / "story.wav"), window=1.0, hop=0.5, store=tmp_path / "a.zarr"
    ).close()
    with open_activations(tmp_path / "a.zarr") as found:
        for layer in wanted.layers:
            np.testing.assert_allclose(found[layer][:], wanted[layer][:], rtol=1e-4, atol=1e-6)
        assert list(found.table) == ["stimulus_id", "condition", "sound", "onset", "duration"]
        assert found.table["onset"].tolist() == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]
        assert set(found.table["sound"]) == {"story"}
        assert set(found.table["duration"]) == {1.0}
        assert found.items[1] == found.table["stimulus_id"][1] == "story@0.5"
        assert np.isfinite(compute_rdms(found).dissimilarities).all()


def test_windows_average_to_the_conditions_of_their_sounds(tmp_path: Path) -> None:
    for seed, name in enumerate(("rain", "speech", "wind")):
        story(tmp_path / f"{name}.wav", seed=seed)
    sounds = load_sounds([tmp_path / f"{name}.wav" for name in ("rain", "speech", "wind")])
    found = extract_activations(network(), sounds, window=1.0, layers="2")
    rdms = compute_rdms(found, items="condition", units=None, dissimilarity="euclidean")
    means = np.asarray(found["2"][:]).reshape(3, 4, -1).mean(axis=1)
    pairs = [np.sum((means[a] - means[b]) ** 2) for a, b in ((0, 1), (0, 2), (1, 2))]
    np.testing.assert_allclose(rdms.dissimilarities[0] / rdms.dissimilarities[0, 0], pairs / pairs[0], rtol=1e-3)
    assert list(rdms.pattern_descriptors["condition"]) == ["rain", "speech", "wind"]


def test_frames_count_from_the_onset_of_their_window(tmp_path: Path) -> None:
    story(tmp_path / "story.wav")
    found = extract_activations(network(), load_sounds(tmp_path / "story.wav"), window=1.0, layers="0", pooling="none")
    times = found.frame_times("0")
    assert times is not None
    np.testing.assert_allclose(times, np.arange(4_000) * 4 / RATE, atol=1e-9)


def test_other_cuts_are_other_results(tmp_path: Path) -> None:
    story(tmp_path / "story.wav")
    sounds = load_sounds(tmp_path / "story.wav")
    shapes = [
        extract_activations(network(), sounds, store=tmp_path / "a.zarr", layers="0", **cut)["0"].shape[0]  # type: ignore[arg-type]
        for cut in ({"window": 1.0}, {"window": 1.0, "hop": 0.5}, {"window": 1.0, "last": "pad"}, {})
    ]
    assert shapes == [4, 8, 5, 1]


def test_whole_sounds_begin_at_0() -> None:
    table = extract_activations(network(), np.zeros((2, 1, 400), np.float32)).table
    assert table["sound"].tolist() == table["stimulus_id"].tolist() == ["0", "1"]
    assert table["onset"].tolist() == [0.0, 0.0]
    assert table["duration"].isna().all()


def test_a_layer_that_sees_more_than_a_window_is_named(caplog: pytest.LogCaptureFixture) -> None:
    wave = np.random.default_rng(0).standard_normal((1, 1, 400)).astype(np.float32)
    with caplog.at_level(logging.WARNING, logger="brainmap"):
        extract_activations(network(), wave, rate=1_000, window=0.02, layers=["0", "2"])
    (said,) = caplog.messages
    assert "units of '2 (0.041 s)' see more than a window of 0.02 s" in said
    assert "a window of 0.041 s holds all" in said
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="brainmap"):
        extract_activations(network(), wave, rate=1_000, window=0.041, layers=["0", "2"])
    assert not caplog.messages


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"hop": 0.5}, "window: expected one with hop or last, got none"),
        ({"last": "pad"}, "window: expected one with hop or last, got none"),
        ({"window": 1.0}, r"window: expected sounds of `load_sounds`, or waveforms \(n, 1, t\) and their rate"),
        ({"window": 9.0, "rate": 100.0}, "window: expected at most the length of every sound"),
    ],
)
def test_windows_that_cannot_be_are_refused(given: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        extract_activations(network(), np.zeros((1, 1, 400), np.float32), **given)  # type: ignore[arg-type]


def test_windows_of_windows_are_refused() -> None:
    from brainmap.features.sounds.windows import cut_windows

    windows = cut_windows(sounds_from_array(np.ones((1, 1, 400)), rate=100), window=1.0)
    with pytest.raises(InputError, match="got windows of sounds"):
        extract_activations(network(), windows, window=1.0)


class Killed(Exception):
    """End an extraction in its midst."""


@pytest.mark.parametrize(("torn", "kept"), [(False, 512), (True, 256)])
def test_the_cost_is_said_and_a_killed_run_goes_on_behind_whole_chunks_with_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, torn: bool, kept: int
) -> None:
    story(tmp_path / "story.wav", seconds=60)
    given = {"window": 0.25, "hop": 0.1, "threads": 1}
    sounds = load_sounds(tmp_path / "story.wav")
    whole = extract_activations(network(), sounds, **given)
    write = ArrayWriter.write
    done: dict[int, int] = {}

    def write_some(self: ArrayWriter, rows: NDArray[np.floating]) -> None:
        done[id(self)] = done.get(id(self), 0) + len(rows)
        if done[id(self)] > 560:
            raise Killed
        write(self, rows)

    monkeypatch.setattr(ArrayWriter, "write", write_some)
    with pytest.raises(Killed):
        extract_activations(network(), sounds, store=tmp_path / "a.zarr", **given)
    monkeypatch.setattr(ArrayWriter, "write", write)
    if torn:
        last = next(tmp_path.glob("a.zarr/activations/0/*/c/1/0"))
        last.write_bytes(last.read_bytes()[:-9])
    with caplog.at_level(logging.INFO, logger="brainmap"):
        extract_activations(network(), sounds, store=tmp_path / "a.zarr", **given).close()
    said = "\n".join(caplog.messages)
    assert f"{kept} of 598 windows are there from an earlier run; now {598 - kept} windows in 3 layers, " in said
    with open_activations(tmp_path / "a.zarr") as found:
        for layer in whole.layers:
            np.testing.assert_array_equal(found[layer][:], whole[layer][:])
