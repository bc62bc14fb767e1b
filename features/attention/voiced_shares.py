"""Test whether a network attends more to unvoiced than to voiced sound, by maps over time and kinds of frames.

For the positive part p of a map over the sounding frames of a clip, the share of its mass on frames of a kind is
compared with an expected share: that of as many frames, or, by default, that of a map which depends only on the energy
of the same frames (the least-squares fit of p to level, amplitude and power within the clip). Unvoiced sounds are soft,
so that a map which follows loudness would otherwise favor voicing. Silent frames are excluded from these shares and
have columns of their own.

The null distribution comes from circular shifts of the map relative to kinds and energies, within the sounding part of
each clip, with a new fit after each. Shifts keep the similarity of neighboring frames, which permutations would
destroy.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_enough, check_literals, list_some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.features.attribution.results import find_own_class, select_maps
from brainmap.features.sounds.voicing import KINDS, Voicing
from brainmap.types import Alternative, VoicingKind, WordCorrection

WORD_COLUMNS = {
    "word": "word, or category, that was said",
    "n": "clips that took part",
    "share": "share of the map's positive mass on frames of the kind",
    "expected": "share expected of a map that follows the frames' energy, or of as many frames",
    "effect": "share less expected, mean over clips",
    "low": "lower end of the effect's 95 % t interval over clips",
    "high": "upper end of it",
    "p": "by circular shifts within the sounding part of each clip",
    "p_corrected": "corrected over words",
    "silent_share": "share of the positive mass on silent frames, of the whole clip",
    "silent_frames": "share of silent frames",
}
_LEFT_OVER = 1e-6  # share of a kind's variance that energy must leave unexplained


@dataclass(frozen=True, kw_only=True)
class VoicedAttention:
    """Hold how much more of a map's mass lies on frames of one kind than expected.

    Attributes
    ----------
    words : DataFrame
        One row per word: `word`, `n` clips, `share` of the mass on the kind, `expected`, `effect` (their difference),
        `low` and `high` (its 95 % t interval over clips), `p` (circular shifts), `p_corrected` (over words),
        `silent_share` and `silent_frames` (of the whole clip).
    clips : DataFrame
        One row per clip: `stimulus_id`, `word`, `frames` used, and the columns of `words`; NaN where the clip is left
        out.
    effect, p : float
        Mean over words, and its p from the same shifts.
    kind, alternative, correction : str
    energy : bool
        True where the expected share follows the frames' energy.
    mass : ndarray (n_items, n_frames)
        Positive part of the maps in each frame.
    voicing : Voicing
    source : str
        Origin of the maps, as in "layer-cam at conv4".
    """

    words: pd.DataFrame = field(repr=False)
    clips: pd.DataFrame = field(repr=False)
    effect: float
    p: float
    kind: str
    alternative: str
    correction: str
    energy: bool
    mass: NDArray[np.float64] = field(repr=False)
    voicing: Voicing = field(repr=False)
    source: str


def voiced_attention(
    maps: Any,
    voicing: Voicing,
    *,
    kind: VoicingKind = "unvoiced",
    energy: bool = True,
    alternative: Alternative = "two-sided",
    correction: WordCorrection = "fdr",
    permutations: int = 4999,
    minimum: int = 3,
    rng: np.random.Generator | None = None,
) -> VoicedAttention:
    """Test the share of a map's positive mass on frames of a kind minus the expected share, per word and over words.

    Parameters
    ----------
    maps : ClassActivationMaps, Attributions or array (n_items, t)
        Maps over the samples or the frames of the clips. Of maps of several classes, those of the spoken class are
        used.
    voicing : Voicing
        Voicing of the same clips; their conditions are the words.
    kind : {"unvoiced", "voiced", "silent"}
        With "silent" all frames of the clip are used, and `energy` is ignored because it defines silence.
    energy : bool
        Expect the share of a map that follows energy; with False, the share of frames.
    alternative : {"two-sided", "greater", "less"}
    correction : {"fdr", "bonferroni", "none"}
        Correction of p over words; "fdr" is that of Benjamini and Hochberg.
    permutations : int
        Number of joint random shifts of all clips of a word; the p of a single clip counts all of its shifts.
    minimum : int
        Clips with fewer frames of the kind, or of the other kinds, are left out.
    rng : numpy.random.Generator, optional
        Random numbers of the shifts; by default a generator with seed 0.

    Returns
    -------
    VoicedAttention
        p includes the identity shift: (count + 1) / (permutations + 1).

    Raises
    ------
    InputError
        Maps are of other clips or lengths, coarser than the frames of `voicing`, not finite, or without mass; or no
        clip has enough frames of both kinds.

    Warns
    -----
    BrainmapWarning
        Some clips are left out; their number is given.

    References
    ----------
    Phipson B, Smyth GK (2010), why + 1: doi:10.2202/1544-6115.1585; Benjamini Y, Hochberg Y (1995):
    doi:10.1111/j.2517-6161.1995.tb02031.x

    Examples
    --------
    >>> from brainmap.features.sounds.voicing import find_voicing
    >>> rng, t = np.random.default_rng(0), np.arange(8000) / 16_000
    >>> half = np.where(t < 0.25, np.sin(2 * np.pi * 120 * t), 0.3 * rng.standard_normal(8000))[None, None]
    >>> found = voiced_attention((t > 0.25)[None], find_voicing(half, rate=16_000), energy=False, rng=rng)
    >>> round(found.effect, 2)
    0.5
    """
    check_literals(
        (kind, VoicingKind, "kind"),
        (alternative, Alternative, "alternative"),
        (correction, WordCorrection, "correction"),
    )
    check_enough(permutations, 99, "voiced attention", "permutations")
    rng = np.random.default_rng(0) if rng is None else rng
    mass = _average_frames(maps, voicing)
    use_energy = energy and kind != "silent"
    found = [
        _measure_clip(*parts, kind=kind, energy=use_energy, minimum=minimum)
        for parts in zip(mass, voicing.kinds, voicing.energy, strict=True)
    ]
    _check_some(found, kind, minimum)
    clips = _tabulate_clips(found, voicing, alternative)
    silent = voicing.of("silent")
    clips["silent_share"] = (mass * silent).sum(axis=1) / np.where(mass.any(axis=1), mass.sum(axis=1), np.nan)
    clips["silent_frames"] = silent.mean(axis=1)
    rows, nulls = [], []
    for word, here in clips.groupby("word", sort=False):
        kept = [one.shifted for k in here.index if (one := found[k]) is not None]
        null = _shift_clips(kept, permutations, rng)
        rows.append({"word": word, **_summarize_word(here), "p": _compute_p(here["effect"].mean(), null, alternative)})
        nulls += [null] if kept else []
    words = pd.DataFrame(rows)
    words["p_corrected"] = _correct_p(words["p"].to_numpy(), correction)
    effects = words["effect"].dropna().to_numpy()
    effect = float(effects.mean())
    return VoicedAttention(
        words=words[[*WORD_COLUMNS]],
        clips=clips,
        effect=effect,
        p=_compute_p(effect, np.mean(nulls, axis=0), alternative),
        kind=kind,
        alternative=alternative,
        correction=correction,
        energy=use_energy,
        mass=mass,
        voicing=voicing,
        source=_name_source(maps),
    )


@dataclass(frozen=True)
class _Clip:
    """Hold the shares of one clip, and its effect after every circular shift, of which the identity is the first."""

    frames: int
    share: float
    expected: float
    shifted: NDArray[np.float64]


def _average_frames(maps: Any, voicing: Voicing) -> NDArray[np.float64]:
    """Average the positive part of the spoken classes' maps over the samples of each frame, `(n_items, n_frames)`."""
    courses = _select_own_maps(maps, voicing)
    n, n_frames = voicing.kinds.shape
    if courses.ndim != 2 or len(courses) != n:
        raise InputError(
            f"maps: expected a course for each of the {n} clips, (n_items, t), got an array of shape {courses.shape}"
        )
    bad = np.flatnonzero(~np.isfinite(courses).all(axis=1))
    if len(bad):
        raise InputError(f"maps: that of item {voicing.items[bad[0]]!r} is not finite")
    positive = np.maximum(courses, 0).astype(np.float64)
    if courses.shape[1] == voicing.n_samples:
        positive = positive[:, : n_frames * voicing.hop].reshape(n, n_frames, voicing.hop).mean(axis=2)
    elif courses.shape[1] != n_frames:
        step_ms = 1000 * voicing.n_samples / voicing.rate / courses.shape[1]
        raise InputError(
            f"maps: expected one value for each sample ({voicing.n_samples}) or frame of voicing ({n_frames}), got "
            f"{courses.shape[1]} (one in {step_ms:.3g} ms); upsample maps of a layer with fine enough frames"
        )
    if not positive.any():
        raise InputError("maps: expected positive values, got none; take maps of the spoken class")
    return np.asarray(positive)


def _name_source(maps: Any) -> str:
    method, layer = getattr(maps, "method", "maps"), getattr(maps, "layer", None)
    return f"{method} at {layer}" if layer else str(method)


def _select_own_maps(maps: Any, voicing: Voicing) -> NDArray[np.floating[Any]]:
    items = getattr(maps, "items", None)
    if items is None or not hasattr(maps, "class_names"):
        return np.asarray(maps)
    if tuple(items) != voicing.items:
        raise InputError(
            f"maps: of items {list_some(items, 4)}, voicing of {list_some(voicing.items, 4)}; give the same sounds"
        )
    own = find_own_class(maps.conditions, maps.class_names)
    return select_maps(maps, maps.courses if hasattr(maps, "courses") else maps.maps, own)


def _measure_clip(
    mass: NDArray[np.float64],
    kinds: NDArray[np.int8],
    level: NDArray[np.float32],
    *,
    kind: VoicingKind,
    energy: bool,
    minimum: int,
) -> _Clip | None:
    """Compute the shares of one clip, or None where its frames are not sufficient."""
    taking_part = np.full(len(kinds), True) if kind == "silent" else kinds != KINDS.index("silent")
    is_kind = (kinds[taking_part] == KINDS.index(kind)).astype(float)
    mass = mass[taking_part]
    total = mass.sum()
    if min(is_kind.sum(), len(is_kind) - is_kind.sum()) < minimum or not total > 0:
        return None
    columns = _build_covariates(level)[taking_part] if energy else np.ones((len(mass), 1))
    basis, sizes, _ = np.linalg.svd(columns / np.linalg.norm(columns, axis=0), full_matrices=False)
    basis = basis[:, sizes > 1e-9 * sizes[0]]

    contrast = is_kind - basis @ (basis.T @ is_kind)
    if contrast @ contrast < _LEFT_OVER * (is_kind - is_kind.mean()) @ (is_kind - is_kind.mean()):
        return None
    shifts = np.arange(len(mass))
    shifted = mass[(shifts - shifts[:, None]) % len(mass)] @ contrast / total
    share = float(is_kind @ mass / total)
    return _Clip(len(mass), share, share - float(shifted[0]), shifted)


def _build_covariates(level: NDArray[np.float32]) -> NDArray[np.float64]:
    """Build the covariates of energy: a constant, level, amplitude and power, `(n_frames, 4)`."""
    decibels = level.astype(np.float64)
    return np.stack([np.ones(len(level)), decibels, 10 ** (decibels / 20), 10 ** (decibels / 10)], axis=1)


def _check_some(found: Sequence[_Clip | None], kind: str, minimum: int) -> None:
    left_out = sum(one is None for one in found)
    why = f"fewer than {minimum} {kind} or other frames, no positive mass, or a kind that energy tells alone"
    if left_out == len(found):
        raise InputError(f"voiced attention: each of the {len(found)} clips has {why}")
    if left_out:
        warnings.warn(
            f"voiced attention: {left_out} of {len(found)} clips are left out: {why}", BrainmapWarning, stacklevel=3
        )


def _tabulate_clips(found: Sequence[_Clip | None], voicing: Voicing, alternative: str) -> pd.DataFrame:
    rows = []
    for item, word, one in zip(voicing.items, voicing.conditions, found, strict=True):
        row: dict[str, Any] = {"stimulus_id": item, "word": word, "frames": 0 if one is None else one.frames}
        if one is not None:
            effect = float(one.shifted[0])
            p = _compute_p(effect, one.shifted[1:], alternative)
            row |= {"share": one.share, "expected": one.expected, "effect": effect, "p": p}
        rows.append(row)
    return pd.DataFrame(rows, columns=["stimulus_id", "word", "frames", "share", "expected", "effect", "p"])


def _summarize_word(clips: pd.DataFrame) -> dict[str, float]:
    """Average over the clips of a word that were used, with the t interval of the effect."""
    from scipy.stats import t

    effects = clips["effect"].dropna().to_numpy()
    n = len(effects)
    margin = t.ppf(0.975, n - 1) * effects.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    means = clips[["share", "expected", "effect", "silent_share", "silent_frames"]].mean()
    found = {str(name): float(value) for name, value in means.items()}
    return {"n": n, **found, "low": found["effect"] - margin, "high": found["effect"] + margin}


def _shift_clips(shifted: Sequence[NDArray[np.float64]], n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Compute the mean over clips after random shifts, each clip by its own, `(n,)`."""
    if not shifted:
        return np.full(n, np.nan)
    return np.asarray(np.mean([one[rng.integers(len(one), size=n)] for one in shifted], axis=0))


def _compute_p(effect: float, null: NDArray[np.float64], alternative: str) -> float:
    """Compute the share of shifts, the identity included, with at least this effect."""
    if np.isnan(effect):
        return float("nan")
    extreme = {"greater": null - effect, "less": effect - null, "two-sided": np.abs(null) - abs(effect)}[alternative]
    return float((1 + (extreme >= -1e-12).sum()) / (1 + len(null)))


def _correct_p(p: NDArray[np.float64], correction: str) -> NDArray[np.float64]:
    from scipy.stats import false_discovery_control

    out, tested = p.copy(), np.isfinite(p)
    if correction == "fdr":
        out[tested] = false_discovery_control(p[tested])
    elif correction == "bonferroni":
        out[tested] = np.minimum(p[tested] * tested.sum(), 1)
    return out
