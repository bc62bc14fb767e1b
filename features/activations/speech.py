"""Compute simple features of continuous speech that any network has to beat: energy, word rate, speech onsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd

from brainmap.checks import check_each, list_some
from brainmap.errors import InputError
from brainmap.features.activations import store as stores
from brainmap.features.activations.stored import KIND, Activations, get_window_columns, read_store
from brainmap.features.sounds.files import Sounds
from brainmap.features.sounds.windows import cut_windows
from brainmap.features.sounds.word_times import SPEECH, check_word_times
from brainmap.types import Floats, SpeechFeature

RANGE_DB = 60.0
PAUSE_S = 0.5
_OF_WORDS = ("word-rate", "speech-onset")


def speech_features(
    sounds: Sounds,
    *,
    words: Mapping[str, str | Path | pd.DataFrame] | None = None,
    features: Sequence[SpeechFeature] | None = None,
    step: float = 0.1,
    store: str | Path | None = None,
) -> Activations:
    """Compute features of speech in short steps, in the form of a network's activations of windows.

    * `sound-energy`: level of each step [dB], at most 60 dB below the loudest step of its sound.
    * `word-rate`: words that begin in the step, per second.
    * `speech-onset`: 1 where a word begins after a pause of half a second or more, or is the first; else 0.

    Parameters
    ----------
    sounds : Sounds
        As `load_sounds` describes them; their length plays no role.
    words : mapping of sound to path or DataFrame, optional
        Word times of each sound: files that `read_word_times` reads, or what it returns.
    features : sequence of {"sound-energy", "word-rate", "speech-onset"}, optional
        By default all that can be computed: the last two need `words`.
    step : float [s]
    store : path, optional
        A zarr folder, as in `extract_activations`.

    Returns
    -------
    Activations
        Each feature is a layer with one unit; the network is called "speech".

    Raises
    ------
    InputError
        A feature is unknown or needs words, a sound has no words, or a word begins after the end of its sound.

    Examples
    --------
    >>> from brainmap.features.sounds.files import sounds_from_array
    >>> tone = sounds_from_array(np.ones((1, 1, 30)), rate=10, items=["tone"])
    >>> times = pd.DataFrame({"word": ["a", "b"], "start_s": [0.2, 2.1], "end_s": [0.5, 2.5]})
    >>> found = speech_features(tone, words={"tone": times}, step=1.0)
    >>> found["word-rate"][:, 0].tolist(), found["speech-onset"][:, 0].tolist()
    ([1.0, 0.0, 1.0], [1.0, 0.0, 1.0])
    """
    known = get_args(SpeechFeature)
    asked = list(features or (known if words is not None else known[:1]))
    check_each(asked, known, "speech feature")
    if words is None and (needy := [name for name in asked if name in _OF_WORDS]):
        raise InputError(f"speech features: expected word times for {list_some(needy)}, got none; give words")
    windows = cut_windows(sounds, window=step)
    table = windows.table
    lengths = (table["onset"] + table["duration"]).groupby(table["sound"], sort=False).max()
    columns: dict[str, Floats] = {}
    if "sound-energy" in asked:
        power = [np.square(x, dtype=np.float64).mean(axis=(1, 2)) for x in windows.iterate_waveforms(1024)]
        columns["sound-energy"] = _measure_level(np.concatenate(power), table["sound"])
    if words is not None and any(name in _OF_WORDS for name in asked):
        times = {sound: _read_times(words, str(sound), float(lengths[sound]), step) for sound in lengths.index}
        columns |= _count_words(table, times, step)
    root = stores.open_store(store)
    about = {
        "items": list(windows.items),
        "conditions": list(windows.conditions),
        "pooling": "mean",
        "stage": "after",
        "dtype": "float32",
        "step": step,
        "windows": get_window_columns(windows),
    }
    for name in asked:
        stores.keep_array(root, (KIND, name), columns[name][:, None], about, network=SPEECH, dimensions=("unit",))
    kept = stores.list_arrays(root, KIND)
    stores.set_current(root, KIND, {name: kept[name] for name in asked}, network=SPEECH)
    return read_store(root)


def _measure_level(power: Floats, sounds: pd.Series) -> Floats:
    """Return the level of each step in dB, at most `RANGE_DB` below the loudest of its sound."""
    loudest = pd.Series(power).groupby(sounds.to_numpy()).transform("max").to_numpy()
    floor = np.maximum(loudest * 10 ** (-RANGE_DB / 10), np.finfo(float).tiny)
    return np.asarray(10 * np.log10(np.maximum(power, floor)))


def _read_times(
    words: Mapping[str, str | Path | pd.DataFrame], sound: str, seconds: float, step: float
) -> pd.DataFrame:
    """Read the words of a sound, none of which may begin behind its end."""
    if sound not in words:
        raise InputError(f"speech features: expected word times of each sound, got none of {sound!r}; give them")
    return check_word_times(words[sound], seconds + step).sort_values("start_s")  # the last step may be cut off


def _count_words(table: pd.DataFrame, times: Mapping[str, pd.DataFrame], step: float) -> dict[str, Floats]:
    """Count the words and the beginnings of speech in each step."""
    rate, onset = np.zeros(len(table)), np.zeros(len(table))
    for sound, said in times.items():
        rows = np.flatnonzero(table["sound"].to_numpy() == sound)
        start, end = said["start_s"].to_numpy(float), said["end_s"].to_numpy(float)
        place = np.floor(start / step + 1e-9).astype(np.intp)
        inside = place < len(rows)
        np.add.at(rate, rows[place[inside]], 1 / step)
        before = np.concatenate([[-np.inf], np.maximum.accumulate(end)[:-1]])
        fresh = inside & (start - before >= PAUSE_S)
        onset[rows[place[fresh]]] = 1.0
    return {"word-rate": rate, "speech-onset": onset}
