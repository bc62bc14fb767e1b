"""Analyze class activation maps of words: the mean map of each class per word, and how much of a word a class covers.

Two hypotheses can be tested. *Target attention*: the mean map of class j over the words of class i, as a matrix of
time courses. *Cover*: the share of the input over which the map of a class spreads. In the source study, attention to
the spoken class covered the whole word, and attention to other classes did not.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_literals, check_ranges, list_some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.features.attribution.results import find_own_class
from brainmap.types import Alternative, CoverMeasure, CoverScale, Empty

if TYPE_CHECKING:
    from brainmap.features.attribution.results import ClassActivationMaps


COVER_COLUMNS = {
    "word": "word that was said, one of the classes",
    "sounds": "number of its sounds",
    "own": "mean cover of its own class: share of the input, 0 to 1",
    "others": "mean cover of all other classes: share of the input, 0 to 1",
    "difference": "own minus others",
    "own_empty": "share of maps of its own class that are nowhere positive",
    "others_empty": "share of maps of other classes that are nowhere positive",
}
_EXACT_WORDS = 20  # 2^20 sign flips take seconds


def keep_known_words(sounds: Any, cams: Any) -> tuple[Any, Any, tuple[str, ...]]:
    """Leave out sounds whose condition is no class of the network, since they have no map of their own class.

    Parameters
    ----------
    sounds : object with `conditions` and `take`
    cams : ClassActivationMaps
        Of the same sounds.

    Returns
    -------
    sounds, cams
        None where no condition is a class.
    tuple of str
        The conditions that were left out.
    """
    known = [str(name) for name in cams.class_names]
    strange = tuple(dict.fromkeys(str(one) for one in sounds.conditions if str(one) not in known))
    if not strange:
        return sounds, cams, ()
    rows = [k for k, one in enumerate(sounds.conditions) if str(one) in known]
    return (sounds.take(rows), cams.take(rows), strange) if rows else (None, None, strange)


@dataclass(frozen=True)
class TargetAttention:
    """Hold mean maps of every class over the sounds of every word.

    Attributes
    ----------
    maps : ndarray float32 (n_classes, n_classes, t) or (n_classes, n_classes, h, w)
        `maps[i, j]` is the mean map of class j over the sounds of word i; NaN where a word has no sound.
    counts : ndarray int (n_classes,)
        Number of sounds of each word.
    class_names : tuple of str
        Names along both axes.
    method, layer : str
    """

    maps: NDArray[np.float32] = field(repr=False)
    counts: NDArray[np.intp] = field(repr=False)
    class_names: tuple[str, ...]
    method: str
    layer: str


def target_attention(cams: ClassActivationMaps) -> TargetAttention:
    """Average the maps of class j over the sounds of word i, for all i and j.

    Parameters
    ----------
    cams : ClassActivationMaps
        Signed maps of every class; the condition of each item is the name of its class.

    Returns
    -------
    TargetAttention

    Raises
    ------
    InputError
        A condition is not a class.

    Warns
    -----
    BrainmapWarning
        A class has no sound; it is named and its row is NaN.
    """
    own = find_own_class(cams.conditions, cams.class_names)
    counts = np.bincount(own, minlength=len(cams.class_names))
    _warn_of_absent(cams.class_names, counts, "its row of the target attention is empty")
    maps = average_by_word(cams.maps, own).astype(np.float32)
    return TargetAttention(maps, counts, tuple(cams.class_names), cams.method, cams.layer)


def average_by_word(values: NDArray[np.floating], own: NDArray[np.intp]) -> NDArray[np.float64]:
    """Average over the items of each class: `(n_items, n_classes, ...)` to `(n_classes, n_classes, ...)`.

    Parameters
    ----------
    values : ndarray (n_items, n_classes, ...)
        NaN values are left out.
    own : ndarray int (n_items,)
        The class of each item; a class without items has a row of NaN.

    Examples
    --------
    >>> average_by_word(np.array([[1.0, 4.0], [3.0, np.nan]]), np.array([1, 1])).tolist()
    [[nan, nan], [2.0, 4.0]]
    """
    n = values.shape[1]
    means = np.full((n, *values.shape[1:]), np.nan)
    for word in np.unique(own):
        here = values[own == word]
        known = np.isfinite(here)
        count = known.sum(axis=0)
        total = np.where(known, here, 0).sum(axis=0, dtype=float)
        means[word] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return means


def compute_cover(
    maps: NDArray[np.floating],
    *,
    measure: CoverMeasure = "entropy",
    threshold: float = 0.5,
    reference: NDArray[np.floating] | None = None,
) -> NDArray[np.float64]:
    """Compute the share of the input that each map covers, 0 to 1.

    Only the positive part p of a map is evidence for its class. "entropy" is the share of positions that p fills when
    it is read as a distribution: exp(-sum q log q) / n_positions with q = p / sum p; it is 1 for a uniform map and 1 /
    n_positions for a single peak. "area" is the share of positions where p reaches `threshold` times its maximum. Both
    do not depend on the scale of a map. A map without positive values has a cover of 0.

    Parameters
    ----------
    maps : ndarray (..., t)
        Signed maps; height and width are flattened first.
    measure : {"entropy", "area"}
    threshold : float
        Threshold of "area" as a share of the maximum, above 0 and at most 1.
    reference : ndarray (...), optional
        Another maximum for "area", for example that over all classes of the same sound.

    Returns
    -------
    ndarray float64 (...)

    Raises
    ------
    InputError
        An unknown measure, a threshold out of range, a reference with "entropy", or a map that is not finite.

    Examples
    --------
    >>> maps = np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 3.0, -1.0, 0.0], [-1.0, -1.0, -1.0, -2.0]])
    >>> compute_cover(maps).round(6).tolist()
    [1.0, 0.25, 0.0]
    >>> compute_cover(np.array([1.0, 2.0, 4.0, 2.0]), measure="area").item()
    0.75
    """
    check_choice(measure, get_args(CoverMeasure), "cover")
    check_ranges(
        "cover", ("a threshold above 0 and at most 1, as a share of the maximum", threshold, 0 < threshold <= 1)
    )
    if reference is not None and measure == "entropy":
        raise InputError("cover: 'entropy' knows no common scale; take measure 'area', or each map on its own")
    if not np.isfinite(maps).all():
        raise InputError("cover: maps hold values that are not finite; compute them again")
    positive = np.maximum(np.asarray(maps, dtype=float), 0)
    if measure == "area":
        top = positive.max(axis=-1) if reference is None else np.asarray(reference, dtype=float)
        reached = (positive >= threshold * top[..., None]) & (positive > 0)
        return np.asarray(reached.mean(axis=-1))
    total = positive.sum(axis=-1, keepdims=True)
    share = positive / np.where(total > 0, total, 1)
    entropy = -(share * np.log(np.where(share > 0, share, 1))).sum(axis=-1)
    return np.where(total[..., 0] > 0, np.exp(entropy) / maps.shape[-1], 0.0)


@dataclass(frozen=True)
class AttentionCover:
    """Hold how much of a word its own class covers in comparison with the other classes, tested over words.

    Attributes
    ----------
    table : DataFrame
        One row per word with sounds: `word`, `sounds`, `own` (mean cover of its own class), `others` (mean over the
        other classes), `difference`, and `own_empty`, `others_empty`: shares of maps without positive values.
    covers : ndarray float64 (n_items, n_classes)
        Cover of each map; NaN where a map without positive values was left out.
    matrix : ndarray float64 (n_classes, n_classes)
        Mean cover of class j over the sounds of word i; NaN where a word has no sound.
    class_names : tuple of str
    own, others, difference : float
        Means over the words that have both.
    effect : float
        Mean difference in standard deviations over words (Cohen's d).
    p : float
        p of sign flips over words, which are enumerated up to 20 words.
    n_words : int
    alternative, measure, scale, method, layer : str
    """

    table: pd.DataFrame = field(repr=False)
    covers: NDArray[np.float64] = field(repr=False)
    matrix: NDArray[np.float64] = field(repr=False)
    class_names: tuple[str, ...] = field(repr=False)
    own: float
    others: float
    difference: float
    effect: float
    p: float
    n_words: int
    alternative: str
    measure: str
    scale: str
    method: str
    layer: str


@dataclass(frozen=True, kw_only=True)
class CoverSettings:
    """Describe how cover is measured and tested.

    Attributes
    ----------
    measure : {"entropy", "area"}
        Measure of `compute_cover`.
    scale : {"map", "sound"}
        "map" compares shapes, each map relative to its own maximum. "sound" (with "area") compares every map with the
        largest value of any class on that sound, so that weak maps cover little.
    threshold : float
        Threshold of "area", a share of the maximum.
    empty : {"zero", "leave-out"}
        A map without positive values has a cover of 0 ("zero"), or is left out, which measures the shape of attention
        only where there is any.
    alternative : {"two-sided", "greater", "less"}
        "greater" tests whether the own class covers more.
    """

    measure: CoverMeasure = "entropy"
    scale: CoverScale = "map"
    threshold: float = 0.5
    empty: Empty = "zero"
    alternative: Alternative = "two-sided"

    def __post_init__(self) -> None:
        check_literals(
            (self.measure, CoverMeasure, "cover"),
            (self.scale, CoverScale, "scale"),
            (self.empty, Empty, "empty"),
            (self.alternative, Alternative, "alternative"),
        )


def attention_cover(
    cams: ClassActivationMaps,
    *,
    settings: CoverSettings | None = None,
    rng: np.random.Generator | None = None,
) -> AttentionCover:
    """Test whether attention to the spoken class covers more of the input than attention to other classes.

    For every sound, the cover of its own class and the mean cover of all others are computed and averaged over the
    sounds of a word. Their difference is tested over words by sign flips (words are independent, maps of one sound are
    not). The smallest possible p is 2 / 2^n_words, two-sided.

    Parameters
    ----------
    cams : ClassActivationMaps
        Signed maps of all classes, (n_items, n_classes, t) or (n_items, n_classes, h, w).
    settings : CoverSettings, optional
    rng : numpy.random.Generator, optional
        Random numbers; needed with more than 20 words, where 99,999 sign flips are drawn.

    Returns
    -------
    AttentionCover

    Raises
    ------
    InputError
        A condition is not a class; there are fewer than two words or classes; there are more than 20 words without
        `rng`.

    Warns
    -----
    BrainmapWarning
        A class has no sound or no remaining map; it is named and does not count as a word.

    References
    ----------
    Nichols TE, Holmes AP (2002), on sign flips: doi:10.1002/hbm.1058.
    """
    chosen = settings or CoverSettings()
    own = find_own_class(cams.conditions, cams.class_names)
    flat = cams.maps.reshape(*cams.maps.shape[:2], -1)
    top = np.broadcast_to(flat.max(axis=(1, 2))[:, None], flat.shape[:2]) if chosen.scale == "sound" else None
    covers = compute_cover(flat, measure=chosen.measure, threshold=chosen.threshold, reference=top)
    empty = flat.max(axis=2) <= 0
    if chosen.empty == "leave-out":
        covers = np.where(empty, np.nan, covers)
    table = _tabulate_words(covers, empty, own, cams.class_names)
    tested = table.dropna(subset=["difference"])
    difference = tested["difference"].to_numpy()
    if len(tested) < 2:
        n = len(cams.class_names)
        raise InputError(
            "cover: expected maps of the own and of other classes for two words or more, got them for "
            f"{len(tested)} of {n} words; give sounds of more words and maps of all classes"
        )
    absent = np.isin(cams.class_names, tested["word"], invert=True)
    _warn_of_absent(cams.class_names, ~absent, "it takes no part as a word")
    spread = float(difference.std(ddof=1))
    return AttentionCover(
        table=table,
        covers=covers,
        matrix=average_by_word(covers, own),
        class_names=tuple(cams.class_names),
        own=float(tested["own"].mean()),
        others=float(tested["others"].mean()),
        difference=float(difference.mean()),
        effect=float(difference.mean()) / spread if spread else float("nan"),
        p=_flip_signs(difference, chosen.alternative, rng),
        n_words=len(tested),
        alternative=chosen.alternative,
        measure=chosen.measure,
        scale=chosen.scale,
        method=cams.method,
        layer=cams.layer,
    )


def _tabulate_words(
    covers: NDArray[np.float64], empty: NDArray[np.bool_], own: NDArray[np.intp], class_names: Sequence[str]
) -> pd.DataFrame:
    is_own = own[:, None] == np.arange(covers.shape[1])
    sides = {"own": np.where(is_own, covers, np.nan), "others": np.where(is_own, np.nan, covers)}
    known = {side: np.isfinite(values) for side, values in sides.items()}
    table = pd.DataFrame({"word": np.asarray(class_names)[own], "sounds": 1})
    for side, values in sides.items():
        count = known[side].sum(axis=1)
        table[side] = np.where(count > 0, np.nansum(values, axis=1) / np.maximum(count, 1), np.nan)
    table["own_empty"] = empty[is_own]
    table["others_empty"] = (empty & ~is_own).sum(axis=1) / max(covers.shape[1] - 1, 1)
    heard = dict.fromkeys(name for name in class_names if name in set(table["word"]))
    means = table.groupby("word").agg({"sounds": "sum"} | dict.fromkeys(table.columns[2:], "mean")).loc[list(heard)]
    means.insert(3, "difference", means["own"] - means["others"])
    return means.reset_index()


def _flip_signs(difference: NDArray[np.float64], alternative: str, rng: np.random.Generator | None) -> float:
    from scipy.stats import permutation_test

    n = len(difference)
    if n > _EXACT_WORDS and rng is None:
        raise InputError(f"cover: {n} words are too many to enumerate their sign flips; give rng")
    found = permutation_test(
        (difference,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        alternative=alternative,
        batch=2**14,
        n_resamples=99_999 if n > _EXACT_WORDS else np.inf,
        rng=rng,
    )
    return float(found.pvalue)


def _warn_of_absent(class_names: Sequence[str], heard: NDArray[Any], so: str) -> None:
    absent = [name for name, here in zip(class_names, heard, strict=True) if not here]
    if absent:
        warnings.warn(f"attention: no exemplar of class {list_some(absent)}; {so}", BrainmapWarning, stacklevel=3)
