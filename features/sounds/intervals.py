"""Handle intervals of time: as marks on samples, as a table, or as thresholded stretches of a map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

from brainmap.checks import list_some, refuse_some, suggest_word
from brainmap.errors import InputError
from brainmap.features.sounds.batches import Sounds, get_labels, iterate_tensors
from brainmap.features.sounds.front_ends import WAVEFORM
from brainmap.features.sounds.inputs import get_waveforms
from brainmap.types import VoicingKind

if TYPE_CHECKING:
    from brainmap.features.sounds.files import Sounds as LabelledSounds
    from brainmap.features.sounds.voicing import Voicing

COLUMNS = {
    "stimulus_id": "sound",
    "start_s": "start of the interval [s]",
    "end_s": "end of the interval [s]",
}
_FRAME_S = 0.01


def check_intervals(table: pd.DataFrame, items: Sequence[str], *, seconds: float) -> pd.DataFrame:
    """Select the intervals of a table that belong to `items`, and convert them to numbers.

    Parameters
    ----------
    table : DataFrame
        `stimulus_id`, `start_s`, `end_s`; several rows of a sound are several intervals.
    items : sequence of str
        Sounds that must be in the table; other sounds are left out.
    seconds : float [s]
        Length of the sounds.

    Raises
    ------
    InputError
        A column is missing, a sound has no interval, a value is not a number, an interval is empty or lies outside the
        sound.

    Examples
    --------
    >>> table = pd.DataFrame({"stimulus_id": ["a"], "start_s": [0.1], "end_s": ["0.4"]})
    >>> check_intervals(table, ["a"], seconds=1.0)["end_s"].tolist()
    [0.4]
    """
    for column in COLUMNS:
        if column not in table:
            found = [str(c) for c in table.columns]
            raise InputError(
                f"intervals: expected a column {column!r}, got {list_some(found)}{suggest_word(column, found)}"
            )
    kept = table[table["stimulus_id"].astype(str).isin(set(items))].copy()
    missing = [item for item in items if item not in set(kept["stimulus_id"].astype(str))]
    refuse_some(missing, "intervals: none of ", "; give every sound one", most=4)
    for column in ("start_s", "end_s"):
        kept[column] = pd.to_numeric(kept[column], errors="coerce").astype(float)
    wrong = kept[~((kept["start_s"] >= 0) & (kept["start_s"] < kept["end_s"]) & (kept["end_s"] <= seconds + 1e-6))]
    if len(wrong):
        row = wrong.iloc[0]
        raise InputError(
            f"intervals: expected 0 <= start < end <= {seconds:g} s, got {row['start_s']} to {row['end_s']} s of "
            f"{row['stimulus_id']!r}"
        )
    return kept.reset_index(drop=True)


def mark_intervals(table: pd.DataFrame, items: Sequence[str], *, rate: float, n_samples: int) -> NDArray[np.bool_]:
    """Mark the samples of each sound that lie within its intervals, `(n_items, n_samples)`.

    Raises
    ------
    InputError
        As `check_intervals`.

    Examples
    --------
    >>> table = pd.DataFrame({"stimulus_id": ["a"], "start_s": [0.2], "end_s": [0.4]})
    >>> mark_intervals(table, ["a"], rate=10, n_samples=6).astype(int).tolist()
    [[0, 0, 1, 1, 0, 0]]
    """
    kept = check_intervals(table, items, seconds=n_samples / rate)
    row_of = {item: row for row, item in enumerate(items)}
    marks = np.zeros((len(items), n_samples), bool)
    for item, start, end in zip(kept["stimulus_id"].astype(str), kept["start_s"], kept["end_s"], strict=True):
        marks[row_of[item], round(start * rate) : round(end * rate)] = True
    return marks


def mark_voicing(found: Voicing, kind: VoicingKind = "voiced") -> NDArray[np.bool_]:
    """Mark the samples of each clip that lie in frames of one kind, `(n_items, n_samples)`."""
    frames = np.arange(found.n_samples) // found.hop
    inside = frames < found.kinds.shape[1]
    return np.asarray(found.of(kind)[:, np.minimum(frames, found.kinds.shape[1] - 1)] & inside)


def find_sounding_intervals(sounds: Sounds, *, rate: float, threshold_db: float = -30.0) -> pd.DataFrame:
    """Find the interval from the first to the last loud frame of 10 ms: a table `stimulus_id`, `start_s`, `end_s`.

    Parameters
    ----------
    sounds : Sounds or array (n_items, c, t)
    rate : float [Hz]
    threshold_db : float [dB]
        Threshold relative to the loudest frame of the same sound.

    Raises
    ------
    InputError
        A sound is silent throughout.
    """
    sounds = get_waveforms(sounds)
    items, _ = get_labels(sounds)
    hop = max(1, round(_FRAME_S * rate))
    rows: list[tuple[float, float]] = []
    for batch in iterate_tensors(sounds, 64):
        for wave in batch.numpy():
            power = np.square(wave).mean(axis=0)
            power = np.add.reduceat(power, np.arange(0, len(power), hop))
            if not power.any():
                raise InputError(f"sounds: {items[len(rows)]!r} is silent throughout")
            loud = np.flatnonzero(power >= power.max() * 10 ** (threshold_db / 10))
            rows.append((loud[0] * hop / rate, min((loud[-1] + 1) * hop, wave.shape[-1]) / rate))
    starts, ends = zip(*rows, strict=True)
    return pd.DataFrame({"stimulus_id": items, "start_s": starts, "end_s": ends})


def smooth_maps(maps: NDArray[np.floating[Any]], width: int) -> NDArray[np.float32]:
    """Average maps `(..., t)` over a window of `width` samples around each sample.

    Examples
    --------
    >>> smooth_maps(np.array([0.0, 0.0, 3.0, 0.0, 0.0]), 3).tolist()
    [0.0, 1.0, 1.0, 1.0, 0.0]
    """
    values = np.asarray(maps, dtype=np.float32)
    return values if width <= 1 else np.asarray(scipy.ndimage.uniform_filter1d(values, width, axis=-1, mode="constant"))


def mark_above(maps: NDArray[np.floating[Any]], threshold: float) -> NDArray[np.bool_]:
    """Mark where a map reaches a share of its maximum over the last axis; without positive values nothing is marked."""
    peak = maps.max(axis=-1, keepdims=True)
    return np.asarray((maps >= threshold * peak) & (peak > 0))


def find_longest_stretch(there: NDArray[np.bool_]) -> tuple[int, int]:
    """Find the start and end (first sample after) of the first longest unbroken stretch; 0, 0 where there is none.

    Examples
    --------
    >>> find_longest_stretch(np.array([1, 0, 1, 1, 1, 0], bool))
    (2, 5)
    """
    padded = np.r_[False, there, False]
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    if not len(edges):
        return 0, 0
    best = int(np.argmax(edges[1::2] - edges[::2]))
    return int(edges[2 * best]), int(edges[2 * best + 1])


def plant_sounds(
    sounds: LabelledSounds, *, seconds: float, background_db: float = -40.0, rng: np.random.Generator
) -> tuple[LabelledSounds, pd.DataFrame]:
    """Place each sound, without the silence around it, at a random time in noise of another length.

    Parameters
    ----------
    sounds : Sounds
    seconds : float [s]
        Length of the result.
    background_db : float [dB]
        Level of the white noise relative to that of the sound itself; -inf for silence.
    rng : numpy.random.Generator

    Returns
    -------
    sounds : Sounds
        The sounds in noise, with the same ids and conditions.
    boundaries : DataFrame
        `stimulus_id`, `start_s`, `end_s` of each placed sound.

    Raises
    ------
    InputError
        A sound that is silent, or longer than `seconds`.
    """
    from brainmap.features.sounds.files import sounds_from_array

    taken, sounds = sounds.front_end, replace(sounds, front_end=WAVEFORM)
    n_samples, rate = round(seconds * sounds.rate), sounds.rate
    spans = find_sounding_intervals(sounds, rate=rate)
    planted, starts, ends = np.zeros((len(sounds), 1, n_samples), np.float32), [], []
    for row, wave in enumerate(sounds.padded[:, 0]):
        word = wave[round(spans["start_s"][row] * rate) : round(spans["end_s"][row] * rate)]
        if len(word) > n_samples:
            raise InputError(
                f"sounds: expected at most {seconds:g} s, got {len(word) / rate:.2f} s of {sounds.items[row]!r}; "
                "plant it in a longer background"
            )
        start = int(rng.integers(n_samples - len(word) + 1))
        level = float(np.sqrt(np.mean(word**2))) * 10 ** (background_db / 20)
        planted[row, 0] = rng.standard_normal(n_samples) * level
        planted[row, 0, start : start + len(word)] += word
        starts.append(start / rate)
        ends.append((start + len(word)) / rate)
    table = pd.DataFrame({"stimulus_id": sounds.items, "start_s": starts, "end_s": ends})
    found = sounds_from_array(planted, rate=rate, items=sounds.items, conditions=sounds.conditions)
    return replace(found, front_end=taken), table
