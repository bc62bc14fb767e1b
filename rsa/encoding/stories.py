"""Encoding models of continuous sounds: features in windows, delayed responses, whole stories left out.

Neighboring scans resemble each other, so that folds that divide a story predict even noise: scans of the test lie
between scans of the training. Here a fold is one or several whole stories, and nothing passes from one story to
another: features are resampled, z-scored and delayed, and responses are detrended and z-scored, inside each story.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_ranges, count_threads, list_some, refuse_some
from brainmap.errors import InputError
from brainmap.rsa.encoding.encode import Encoding, fit_encoding
from brainmap.rsa.encoding.fits import EncodingSettings
from brainmap.rsa.encoding.folds import Folds, Places, deal_groups
from brainmap.rsa.encoding.responses import Features, FeatureSpace, Responses, name_networks
from brainmap.rsa.encoding.ridge import check_alphas, find_device
from brainmap.rsa.encoding.scans import delay_features, sample_scans, zscore
from brainmap.rsa.rdm.sources import choose_layers
from brainmap.types import Device, Floats, ScanSampling

LONGEST_DELAY = 8.0  # [s]; delays reach at least this far, which spans the peak of the hemodynamic response
CUTOFF = 120.0  # [s]
LEAST_STORIES = 3  # one to test, two to choose alpha among
_SLACK = 2  # scans by which responses may be longer or shorter than their sound
_OTHER_TR = 0.05  # share by which lengths differ where another time between scans is likely
BLOCK = 20.0  # [s]; shorter blocks of slow noise are exchanged too freely, so that tests reject too often


@dataclass(frozen=True, kw_only=True)
class StorySettings:
    """Hold how features and responses of a story are brought to the same scans.

    Attributes
    ----------
    t_r : float [s]
    delays : tuple of int [scans]
    sampling : {"lanczos", "mean"}
    high_pass : float or None [s]
        Slower changes of responses are removed inside each story.
    trim : tuple of int [scans]
        Scans that are left out at the beginning and at the end of each story.
    silence : tuple of float [s]
        What was scanned before the sound began and after it ended.
    slice_time_ref : float [TR]
        Moment within a scan that its values represent.
    """

    t_r: float
    delays: tuple[int, ...]
    sampling: ScanSampling = "lanczos"
    high_pass: float | None = CUTOFF
    trim: tuple[int, int] = (0, 0)
    silence: tuple[float, float] = (0.0, 0.0)
    slice_time_ref: float = 0.0

    def find_times(self, n: int) -> Floats:
        """Return the times of n scans from the onset of the sound [s]."""
        return np.asarray((np.arange(n) + self.slice_time_ref) * self.t_r - self.silence[0])


@dataclass(frozen=True, eq=False)
class AlignedStories:
    """Hold layers, responses and test folds of a participant, all with scans as items.

    Attributes
    ----------
    spaces : tuple of FeatureSpace
    responses : Responses
    folds : Folds
    """

    spaces: tuple[FeatureSpace, ...]
    responses: Responses
    folds: Folds


def encode_stories(
    acts: Features,
    responses: Mapping[str, NDArray[np.floating] | Sequence[NDArray[np.floating]]],
    *,
    t_r: float,
    alphas: Sequence[float] | NDArray[np.floating] | None = None,
    inner_folds: int = 5,
    components: int | None = None,
    reliability_floor: float = 0.0,
    device: Device = "auto",
    threads: int | None = 1,
    **settings: Any,
) -> Encoding:
    """Predict the time courses of voxels while stories are heard, from windows of the layers of networks.

    Inside each story, features are sampled at the scans, z-scored and delayed; responses are cleaned of slow drifts
    and confounds, z-scored, and averaged over repetitions. Test folds are whole stories, and so are the folds in which
    alpha is chosen. No option divides a story. Scans before the first window of a story and after its last one have
    features of 0, their mean.

    Parameters
    ----------
    acts : feature set, or mapping of network to feature set
        Activations of windows (`extract_activations(..., window=, hop=)`), with a `table` of `sound`, `onset` and
        `duration` [s]. A window counts at its end, so that no feature knows what is heard later.
    responses : mapping of sound to array (n_scans, n_targets), or to a list of these, one a repetition
        `brainmap.rsa.load_stories` reads them from images.
    t_r : float [s]
        Time from scan to scan.
    alphas, inner_folds, components, reliability_floor, device, threads
        As in `encode`.
    **settings
        seconds : mapping of sound to float [s], optional
            Length of each sound; by default the end of its last window.
        silence : (float, float) [s]
            What was scanned before the sound began and after it ended; by default nothing, so that the first scan is at
            the onset of the sound.
        slice_time_ref : float from 0 to 1 [TR]
            Moment within a scan that its values represent; by default its start.
        delays : sequence of float [s], optional
            Multiples of `t_r`; by default all of them from one scan to at least 8 s.
        sampling : {"lanczos", "mean"}
            How features are brought to the scans.
        high_pass : float or None [s]
            Longest period that is kept in responses, by default 120; None keeps all.
        confounds : mapping like `responses`, optional
            Regressors `(n_scans, n_confounds)` that are removed from responses.
        trim : (int, int) [scans]
            Scans left out at the beginning and at the end of each story, after everything else.
        layers : names or "all"
            As in `encode`.
        targets : DataFrame, optional
            `roi` and `voxel` of each target; of vertices also `hemisphere` and `vertex`.
        mesh : (int, int)
            Numbers of vertices of both hemispheres, where targets are vertices, for maps of them.
        participant : str
            Label of the participant.
        folds : int, optional
            Number of test folds; by default each story is one.
        block : float [s]
            Length of the blocks that a permutation test exchanges within stories (`encoding_test`), at least 20.

    Returns
    -------
    Encoding
        As `encode` returns it; items are scans, and conditions are stories.

    Raises
    ------
    InputError
        Sounds or layers differ, there are fewer than 3 stories, responses are longer or shorter than their sound, a
        story is shorter than the delays, or a delay is no multiple of `t_r`.

    References
    ----------
    Huth et al. 2016, doi:10.1038/nature17637
    """
    found = align_stories(acts, responses, t_r=t_r, **settings)
    ridge = EncodingSettings(
        alphas=check_alphas(alphas), inner_folds=inner_folds, components=components, device=find_device(device)
    )
    count = count_threads(threads, "encode_stories")
    return fit_encoding(found.spaces, found.responses, found.folds, ridge, floor=reliability_floor, threads=count)


def align_stories(
    acts: Features,
    responses: Mapping[str, NDArray[np.floating] | Sequence[NDArray[np.floating]]],
    *,
    t_r: float,
    seconds: Mapping[str, float] | None = None,
    silence: tuple[float, float] = (0.0, 0.0),
    slice_time_ref: float = 0.0,
    delays: Sequence[float] | None = None,
    sampling: ScanSampling = "lanczos",
    high_pass: float | None = CUTOFF,
    confounds: Mapping[str, NDArray[np.floating] | Sequence[NDArray[np.floating]]] | None = None,
    trim: tuple[int, int] = (0, 0),
    layers: Sequence[str] | str = "all",
    targets: pd.DataFrame | None = None,
    participant: str = "",
    mesh: Sequence[int] = (),
    folds: int | None = None,
    block: float = BLOCK,
) -> AlignedStories:
    """Bring features and responses of stories to the same scans, and divide stories into test folds.

    Parameters and errors are those of `encode_stories`.
    """
    check_choice(sampling, get_args(ScanSampling), "sampling")
    settings = StorySettings(
        t_r=t_r,
        delays=count_delays(delays, t_r),
        sampling=sampling,
        high_pass=high_pass,
        trim=trim,
        silence=silence,
        slice_time_ref=slice_time_ref,
    )
    networks = name_networks(acts, None)
    tables = {name: read_windows(one, name) for name, one in networks.items()}
    check_stories(tables, responses)
    if confounds is not None and set(confounds) != set(responses):
        lost = sorted(set(confounds) ^ set(responses))
        raise InputError(f"confounds: expected those of each story, got only one side of {list_some(lost)}; give all")
    refuse_some(
        sorted(set(seconds or {}) - set(responses)),
        "seconds: expected lengths of the stories, got one of ",
        "; name the stories",
    )
    runs = {story: list_repetitions(given, story) for story, given in responses.items()}
    removed = {story: list_repetitions(given, story) for story, given in (confounds or {}).items()}
    ends = pd.concat(tables.values()).groupby("sound")["end"].max()
    for story, (first, *_) in runs.items():
        check_length(len(first), float((seconds or {}).get(story, ends[story])), settings, story)
    cleaned = {story: clean_repetitions(one, removed.get(story), story, settings) for story, one in runs.items()}
    spaces = []
    for network, one in networks.items():
        for layer in choose_layers(one, layers, network, who="encoding"):
            x = _arrange_features(np.asarray(one[layer][:]), tables[network], cleaned, settings)
            spaces.append(FeatureSpace(network, layer, x, tuple(np.arange(len(x))[:, None])))
    found = replace(_join_responses(cleaned, targets, participant), mesh=tuple(mesh))
    group = np.repeat(np.arange(len(cleaned)), [one.shape[1] for one in cleaned.values()])
    divided = _leave_out_stories(group, len(cleaned) if folds is None else folds)
    return AlignedStories(tuple(spaces), found, replace(divided, block=count_block(block, t_r)))


def count_delays(delays: Sequence[float] | None, t_r: float) -> tuple[int, ...]:
    """Return delays in scans; by default all from one scan to at least 8 s.

    Raises
    ------
    InputError
        A delay is no multiple of the time between scans, or below 0.
    """
    check_ranges("stories", ("t_r above 0 s", t_r, t_r > 0))
    if delays is None:
        return tuple(range(1, int(np.ceil(LONGEST_DELAY / t_r - 1e-9)) + 1))
    scans = np.asarray(delays, dtype=np.float64) / t_r
    wrong = [f"{d:g} s" for d, k in zip(delays, scans, strict=True) if abs(k - round(k)) > 1e-6 or k < 0]
    if wrong or not len(scans):
        raise InputError(
            f"delays: expected multiples of the time between scans ({t_r:g} s), got {list_some(wrong) or 'none'}"
        )
    return tuple(sorted({round(k) for k in scans}))


def count_block(block: float, t_r: float) -> int:
    """Return the scans of a block that a test exchanges.

    Raises
    ------
    InputError
        The block is shorter than 20 s.
    """
    if not block >= BLOCK:
        raise InputError(
            f"block: expected {BLOCK:g} s or more, got {block:g} s; neighboring scans resemble each other, so that "
            "tests of shorter blocks reject too often"
        )
    return int(np.ceil(block / t_r - 1e-9))


def read_windows(acts: Any, network: str) -> pd.DataFrame:
    """Return the sound and the end [s] of each row of a feature set."""
    table = getattr(acts, "table", None)
    if table is None or not {"sound", "onset", "duration"} <= set(table.columns) or table["duration"].isna().any():
        raise InputError(
            f"stories: expected features of windows{f' of {network}' if network else ''} (a table of sound, onset and "
            "duration), got features of whole sounds; extract them with window= and hop= (--window, --hop)"
        )
    return pd.DataFrame({"sound": table["sound"].astype(str), "end": table["onset"] + table["duration"]})


def check_stories(tables: Mapping[str, pd.DataFrame], responses: Mapping[str, Any]) -> None:
    """Refuse stories that only features or only responses have, and fewer than three of them.

    Raises
    ------
    InputError
    """
    for network, table in tables.items():
        heard, answered = set(table["sound"]), set(responses)
        more, less = sorted(heard - answered), sorted(answered - heard)
        if more or less:
            told = [f"{list_some(x)} only in the {who}" for who, x in (("features", more), ("responses", less)) if x]
            raise InputError(
                f"stories: expected the same sounds in features{f' of {network}' if network else ''} and responses, "
                f"got {'; '.join(told)}; leave out what one side lacks"
            )
    if len(responses) < LEAST_STORIES:
        raise InputError(
            f"stories: expected {LEAST_STORIES} stories or more (one to test, two to choose alpha among), got "
            f"{len(responses)}; cut no story into several, since its parts resemble each other"
        )


def list_repetitions(given: NDArray[np.floating] | Sequence[NDArray[np.floating]], story: str) -> list[Floats]:
    """Return the repetitions of a story `(n_scans, n_columns)`."""
    arrays = [given] if isinstance(given, np.ndarray) and given.ndim == 2 else list(given)
    found = [np.asarray(one, dtype=np.float64) for one in arrays]
    shapes = list(dict.fromkeys(one.shape for one in found))
    if not found or len(shapes) > 1 or found[0].ndim != 2:
        got = list_some(map(str, shapes)) or "none"
        raise InputError(f"stories: expected arrays (n_scans, n_targets) of one shape for {story!r}, got {got}")
    if not all(np.isfinite(one).all() for one in found):
        raise InputError(
            f"stories: expected numbers in the responses to {story!r}, got NaN or infinity; leave those voxels out"
        )
    return found


def check_length(n: int, seconds: float, settings: StorySettings, story: str) -> None:
    """Refuse n scans that are longer or shorter than their sound, or shorter than the delays.

    Raises
    ------
    InputError
    """
    t_r, (before, after) = settings.t_r, settings.silence
    whole = before + seconds + after
    expected = whole / t_r
    if abs(n - expected) > _SLACK:
        around = f" and {before + after:g} s of silence" if before + after else ""
        cause = _suggest_silence(n * t_r - seconds, settings.silence)
        if n < expected:
            cause += "was the scan stopped early, or were scans cut off?"
        if abs(whole / n / t_r - 1) > _OTHER_TR:
            cause += f"; or is the time between scans {whole / n:.3g} s, at which they would fit?"
        raise InputError(
            f"stories: expected {expected:.1f} scans of {t_r:g} s for {story!r} ({seconds:g} s of sound{around}), got "
            f"{n} ({n * t_r:g} s); {cause}"
        )
    left, longest = n - sum(settings.trim), max(settings.delays)
    if left <= longest + 2:
        raise InputError(
            f"stories: expected {story!r} to be longer than the delays ({longest} scans), got {left} scans after "
            "trimming; leave it out, or take shorter delays"
        )


def _suggest_silence(over: float, silence: tuple[float, float]) -> str:
    """Say which silence would make scans fit that are `over` seconds longer than their sound.

    Examples
    --------
    >>> _suggest_silence(10.0, (6.0, 0.0))[-76:]
    'silence = [before, after]: [6, 4] would fit, or another two that sum to 10 s'
    >>> _suggest_silence(3.0, (12.0, 8.0))[:47]
    'is silence = [12, 8] too long? [3, 0] would fit'
    """
    before, after = silence
    if over < 0:
        return "no silence would make them fit; "
    fits = (
        f"[{min(before, over):.4g}, {max(0.0, over - before):.4g}] would fit, or another two that sum to {over:.4g} s"
    )
    if over < before + after:
        return f"is silence = [{before:g}, {after:g}] too long? {fits if over > 1e-6 else 'Without it they fit'}; or "
    return f"if silence was scanned before and after the sound, give silence = [before, after]: {fits}"


def clean_repetitions(
    runs: list[Floats], confounds: list[Floats] | None, story: str, settings: StorySettings
) -> Floats:
    """Remove drifts and confounds from each repetition, z-score and trim it, `(n_repetitions, n_scans, n_targets)`."""
    n = len(runs[0])
    order = 0 if settings.high_pass is None else int(np.floor(2 * n * settings.t_r / settings.high_pass))
    drifts = np.cos(np.pi * np.outer((np.arange(n) + 0.5) / n, np.arange(order + 1)))  # the first one is the mean
    if confounds is not None and [len(one) for one in confounds] != [n] * len(runs):
        raise InputError(
            f"stories: expected {len(runs)} confound arrays of {n} scans for {story!r}, got "
            f"{[len(one) for one in confounds]}"
        )
    cleaned = []
    for k, run in enumerate(runs):
        columns = drifts if confounds is None else np.column_stack([drifts, confounds[k]])
        if columns.shape[1] >= n - 1:
            raise InputError(
                f"stories: expected fewer regressors than scans in {story!r}, got {columns.shape[1]} for {n}; take "
                "fewer confounds"
            )
        cleaned.append(zscore(run - columns @ np.linalg.lstsq(columns, run, rcond=None)[0]))
    first, last = settings.trim
    return np.stack(cleaned)[:, first : n - last]


def _arrange_features(
    x: NDArray[np.floating], table: pd.DataFrame, cleaned: Mapping[str, Floats], settings: StorySettings
) -> Floats:
    """Sample, z-score, delay and trim the features of all stories, `(n_scans, n_units * n_delays)`."""
    first, last = settings.trim
    parts = []
    for story, responses in cleaned.items():
        rows = np.flatnonzero(table["sound"].to_numpy() == story)
        n = responses.shape[1] + first + last
        scans = settings.find_times(n)
        times = table["end"].to_numpy(dtype=np.float64)[rows]
        _check_hop(times, story, settings)
        earliest = times.min() - (settings.t_r if settings.sampling == "lanczos" else 1e-9)
        near = (scans >= earliest) & (scans < times.max() + settings.t_r - 1e-9)  # before and after there is no sound
        sampled = np.zeros((n, int(np.prod(x.shape[1:]))))
        flat = x[rows].reshape(len(rows), -1)
        sampled[near] = zscore(sample_scans(flat, times, scans[near], settings.sampling))
        parts.append(delay_features(sampled, settings.delays)[first : n - last])
    return np.concatenate(parts)


def _check_hop(times: Floats, story: str, settings: StorySettings) -> None:
    """Refuse windows that come less often than scans, between which nothing is known."""
    longest = float(np.diff(np.sort(times)).max(initial=0.0))
    if len(times) < 2 or longest > settings.t_r + 1e-6:
        raise InputError(
            f"stories: expected windows at least every {settings.t_r:g} s in {story!r}, got {len(times)} with up to "
            f"{longest:g} s between them; extract them with a shorter hop"
        )


def _join_responses(cleaned: Mapping[str, Floats], targets: pd.DataFrame | None, participant: str) -> Responses:
    """Join the stories; repetitions that a story lacks are NaN."""
    n_runs, n_targets = max(map(len, cleaned.values())), next(iter(cleaned.values())).shape[2]
    wrong = [story for story, one in cleaned.items() if one.shape[2] != n_targets]
    if wrong or (targets is not None and len(targets) != n_targets):
        raise InputError(
            f"stories: expected {n_targets if targets is None else len(targets)} targets in every story, got others in "
            f"{list_some(wrong or list(cleaned))}; read all stories with one mask"
        )
    values = np.concatenate(
        [np.pad(one, ((0, n_runs - len(one)), (0, 0), (0, 0)), constant_values=np.nan) for one in cleaned.values()],
        axis=1,
    )
    if targets is None:
        targets = pd.DataFrame({"roi": [""] * n_targets, "voxel": pd.array(np.arange(n_targets), dtype="Int64")})
    return Responses(
        values,
        items=tuple(f"{story}@{k}" for story, one in cleaned.items() for k in range(one.shape[1])),
        conditions=tuple(story for story, one in cleaned.items() for _ in range(one.shape[1])),
        runs=tuple(str(k + 1) for k in range(n_runs)),
        targets=targets,
        participant=participant,
    )


def _leave_out_stories(group: Places, n_folds: int) -> Folds:
    """Divide whole stories into test folds of nearly equal lengths."""
    n_stories = int(group.max()) + 1
    check_ranges("stories", (f"2 to {n_stories} folds of whole stories", n_folds, 2 <= n_folds <= n_stories))
    return Folds(deal_groups(group, n_folds), group, "story")
