"""Average responses over windows of stories, for one pattern a window, and join windows to longer segments."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.encoding.folds import Places
from brainmap.rsa.encoding.stories import (
    CUTOFF,
    StorySettings,
    check_stories,
    clean_repetitions,
    list_repetitions,
    read_windows,
)
from brainmap.types import Dataset, Floats

LAG = 5.0  # [s]; about when the hemodynamic response to a brief sound is highest
_SLACK = 1e-6  # [s]


def story_patterns(
    acts: Any,
    responses: Mapping[str, NDArray[np.floating] | Sequence[NDArray[np.floating]]],
    *,
    t_r: float,
    lag: float = LAG,
    silence: tuple[float, float] = (0.0, 0.0),
    slice_time_ref: float = 0.0,
    high_pass: float | None = CUTOFF,
    confounds: Mapping[str, NDArray[np.floating] | Sequence[NDArray[np.floating]]] | None = None,
    targets: pd.DataFrame | None = None,
    mesh: Sequence[int] = (),
    participant: str = "",
) -> Dataset:
    """Average the responses to stories over the windows of a network's features, as patterns for `compute_rdms`.

    Responses are cleaned and z-scored inside each repetition of a story as in `encode_stories`. The pattern of a window
    is the mean over the scans that lie in it, `lag` seconds later. Windows whose scans were not measured (at the end of
    a story that was scanned no longer than it sounds) are NaN and counted.

    Neighboring windows resemble each other in a brain and in a network, whatever both compute. Leave out the pairs of
    windows of one story (`leave_out_pairs_within`) before RDMs are compared.

    Parameters
    ----------
    acts : feature set
        Activations of windows that do not overlap (`extract_activations(..., window=10.0, hop=10.0)`), with a `table`
        of `sound`, `onset` and `duration` [s]; only the windows are used.
    responses : mapping of sound to array (n_scans, n_targets), or to a list of these, one a repetition
    t_r : float [s]
        Time from scan to scan.
    lag : float [s]
        From a sound to the response to it.
    silence, slice_time_ref, high_pass, confounds, targets, mesh, participant
        As in `encode_stories`.

    Returns
    -------
    rsatoolbox.data.Dataset
        Observations are windows (`stimulus_id`, as in the features; `condition`, the story; `run`, the repetition;
        `onset` [s]), and channels are targets (`voxel`, `roi`).

    Raises
    ------
    InputError
        Sounds differ, windows overlap or are shorter than the time between scans, or no window has its scans.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> windows = [(story, 10.0 * k, 10.0) for story in ("fox", "hen", "owl") for k in range(5)]
    >>> table = pd.DataFrame(windows, columns=["sound", "onset", "duration"])
    >>> acts = SimpleNamespace(table=table, items=[f"{s}@{t:g}" for s, t, _ in windows])
    >>> rng = np.random.default_rng(0)
    >>> bold = {story: rng.normal(size=(30, 4)) for story in ("fox", "hen", "owl")}
    >>> data = story_patterns(acts, bold, t_r=2.0)
    >>> data.measurements.shape, data.obs_descriptors["stimulus_id"][1]
    ((15, 4), 'fox@10')
    """
    from rsatoolbox.data.dataset import Dataset

    windows = read_windows(acts, str(getattr(acts, "network", "") or ""))
    check_stories({"": windows}, responses)
    windows = windows.assign(onset=acts.table["onset"].to_numpy(np.float64), item=[str(name) for name in acts.items])
    _check_windows(windows, t_r)
    settings = StorySettings(t_r=t_r, delays=(), high_pass=high_pass, silence=silence, slice_time_ref=slice_time_ref)
    rows, labels, lost = [], [], 0
    for story, given in responses.items():
        removed = None if confounds is None else list_repetitions(confounds[story], story)
        cleaned = clean_repetitions(list_repetitions(given, story), removed, story, settings)
        own = windows[windows["sound"] == story]
        means = _average_windows(cleaned, own, settings, lag)
        lost += int(np.isnan(means[0, :, 0]).sum())
        for run, mean in enumerate(means, start=1):
            rows.append(mean)
            labels += [(item, story, str(run), onset) for item, onset in zip(own["item"], own["onset"], strict=True)]
    values = np.concatenate(rows)
    if lost == len(windows):
        raise InputError(f"story_patterns: expected scans {lag:g} s after the windows, got none; take a shorter lag")
    if lost:
        warnings.warn(
            f"story_patterns: {lost} of {len(windows)} windows have no pattern (NaN), because what follows them by "
            f"{lag:g} s was not scanned",
            BrainmapWarning,
            stacklevel=2,
        )
    if targets is None:
        targets = pd.DataFrame({"roi": [""] * values.shape[1], "voxel": np.arange(values.shape[1])})
    channels = {name: targets[name].to_numpy() for name in targets if not targets[name].isna().any()}
    described = {"participant": participant, **({"mesh_vertices": "+".join(map(str, mesh))} if len(mesh) else {})}
    names = ("stimulus_id", "condition", "run", "onset")
    return Dataset(
        values,
        descriptors=described,
        obs_descriptors={name: [row[k] for row in labels] for k, name in enumerate(names)},
        channel_descriptors=channels or {"voxel": np.arange(values.shape[1])},
    )


def _check_windows(windows: pd.DataFrame, t_r: float) -> None:
    """Refuse windows that overlap, which share scans, or are shorter than the time between scans."""
    for story, own in windows.groupby("sound", sort=False):
        ordered = own.sort_values("onset")
        shortest = float((ordered["end"] - ordered["onset"]).min())
        overlap = float((ordered["end"].shift() - ordered["onset"]).max())
        if overlap > _SLACK:
            raise InputError(
                f"story_patterns: expected windows that do not overlap, got some of {story!r} that share {overlap:g} s "
                "and so their scans; extract them with a hop as long as the window"
            )
        if shortest < t_r - _SLACK:
            raise InputError(
                f"story_patterns: expected windows of {t_r:g} s (the time between scans) or more, got {shortest:g} s "
                f"in {story!r}; extract longer ones"
            )


def _average_windows(cleaned: Floats, own: pd.DataFrame, settings: StorySettings, lag: float) -> Floats:
    """Average scans over windows `(n_runs, n_windows, n_targets)`; NaN where some scans lack."""
    times = settings.find_times(cleaned.shape[1]) - lag
    found = np.full((len(cleaned), len(own), cleaned.shape[2]), np.nan)
    for k, (onset, end) in enumerate(zip(own["onset"], own["end"], strict=True)):
        inside = (times >= onset - _SLACK) & (times < end - _SLACK)
        if inside.any() and times[-1] >= end - settings.t_r - _SLACK and times[0] <= onset + settings.t_r + _SLACK:
            found[:, k] = cleaned[:, inside].mean(axis=1)
    return found


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
