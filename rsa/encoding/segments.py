"""Join the short windows of stories to longer segments, so that RDMs come from the features of encoding models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.rsa.encoding.folds import Places
from brainmap.rsa.encoding.stories import read_windows
from brainmap.types import Floats

_SLACK = 1e-6  # [s]


@dataclass(frozen=True, eq=False)
class Segments:
    """Hold the features of segments of stories, each the mean over its windows; a layer is read when asked for.

    Attributes
    ----------
    network : str
    layers : tuple of str
    items, conditions : tuples of str (n_segments,)
        `items` are story@onset, `conditions` those of the windows.
    table : DataFrame (n_segments,)
        `sound`, `onset` and `duration` [s].
    acts : feature set
        The windows.
    members : tuple of int arrays (n_segments,)
        The windows of each segment.
    """

    network: str
    layers: tuple[str, ...]
    items: tuple[str, ...]
    conditions: tuple[str, ...]
    table: pd.DataFrame
    acts: Any
    members: tuple[Places, ...]

    def __getitem__(self, layer: str) -> Floats:
        """Return the features of a layer `(n_segments, n_units)`."""
        windows: NDArray[Any] = np.asarray(self.acts[layer][:], np.float64).reshape(len(self.acts.items), -1)
        return np.stack([windows[rows].mean(axis=0) for rows in self.members])

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)


def join_windows(acts: Any, seconds: float) -> Segments:
    """Average the windows of stories over segments that do not overlap, for RDMs over the segments.

    A window belongs to the segment in which its center lies. What remains of a story behind its last whole segment is
    left out.

    Parameters
    ----------
    acts : feature set
        Activations of windows (`extract_activations(..., window=, hop=)`), with a `table` of `sound`, `onset` and
        `duration` [s]; they may overlap, as those of encoding models do.
    seconds : float [s]
        Length of a segment.

    Returns
    -------
    Segments
        A feature set for `compute_rdms` and `story_patterns`.

    Raises
    ------
    InputError
        A segment is shorter than the windows, a story has no whole segment, or a segment has no window.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> table = pd.DataFrame({"sound": ["fox"] * 4, "onset": [0.0, 1.0, 2.0, 3.0], "duration": 1.0})
    >>> acts = SimpleNamespace(items=list("abcd"), conditions=["fox"] * 4, layers=["conv1"], table=table)
    >>> found = join_windows(acts, 2.0)
    >>> found.items, [rows.tolist() for rows in found.members]
    (('fox@0', 'fox@2'), [[0, 1], [2, 3]])
    """
    network = str(getattr(acts, "network", "") or "")
    windows = read_windows(acts, network)
    onset = np.asarray(acts.table["onset"], np.float64)
    end = windows["end"].to_numpy(np.float64)
    longest = float((end - onset).max())
    if not seconds >= longest - _SLACK:
        raise InputError(
            f"segments: expected {longest:g} s (the length of the windows) or more, got {seconds:g} s; take longer ones"
        )
    sounds, rows, members = windows["sound"].to_numpy(str), [], []
    for sound in dict.fromkeys(sounds.tolist()):
        own = np.flatnonzero(sounds == sound)
        hop = float(np.median(np.diff(np.sort(onset[own])))) if len(own) > 1 else 0.0
        place = np.floor((onset[own] + end[own]) / 2 / seconds + _SLACK).astype(np.intp)
        count = int((end[own].max() + max(hop - _SLACK, _SLACK)) / seconds)  # less than a hop lacks of the last one
        lacking = [k for k in range(count) if not (place == k).any()]
        if not count or lacking:
            where = f"the segment at {lacking[0] * seconds:g} s has no window" if lacking else "it is shorter"
            raise InputError(f"segments: expected windows in segments of {seconds:g} s of {sound!r}, but {where}")
        rows += [(sound, k * seconds, seconds) for k in range(count)]
        members += [own[place == k] for k in range(count)]
    conditions = [str(name) for name in acts.conditions]
    return Segments(
        network=network,
        layers=tuple(str(layer) for layer in acts.layers),
        items=tuple(f"{sound}@{start:g}" for sound, start, _ in rows),
        conditions=tuple(conditions[own[0]] for own in members),
        table=pd.DataFrame(rows, columns=["sound", "onset", "duration"]),
        acts=acts,
        members=tuple(members),
    )
