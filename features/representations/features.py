"""Turn activation-maximization patterns, class activation maps and attributions into features, from which RDMs follow.

Each becomes a `brainmap.types.FeatureSet`, as `brainmap.rsa.compute_rdms` takes it:

* patterns: one item per unit or class. Spectra from two starts of different noise agree (their RDMs correlate .92 on
  ch32); waveforms hardly do (.13), because phase is free.
* maps: one item per sound, with the points in time as units: *where* a network attends. Sounds begin at different
  times, so the time courses are aligned to the onset.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from brainmap.checks import check_choice, check_enough, check_one_each, refuse_some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.features.attribution.results import find_own_class, select_maps
from brainmap.types import Floats, PatternAlign, PatternLevel, PatternSpace

if TYPE_CHECKING:
    from brainmap.features.attribution.results import Attributions, ClassActivationMaps
    from brainmap.features.maximization.maximize import Maximization
    from brainmap.features.representations.files import StoredPatterns

# On class patterns of ch32 from two seeds, RDMs correlate .92 at this width, .74 unsmoothed, and .72-.77 in dB or
# octaves, which give weight to bands that contain only noise.
_SMOOTHING_HZ = 100.0


@dataclass(frozen=True, kw_only=True)
class Representation:
    """Hold features in memory; this is a `brainmap.types.FeatureSet`.

    Attributes
    ----------
    items, conditions : tuple of str
    layers : tuple of str
        Names of the arrays.
    arrays : mapping of str to ndarray (n_items, n_units)
    level : {"stimulus", "class", "unit"}
        Kind of the items. RDMs of classes or units are compared with RDMs of stimuli or conditions only if they are
        computed with `items="condition"`, which declares that a class stands for the condition of its name.
    axis : ndarray (n_units,)
        Frequency [Hz] or time [s] of each unit.
    notes : tuple of str
    """

    items: tuple[str, ...] = field(repr=False)
    conditions: tuple[str, ...] = field(repr=False)
    layers: tuple[str, ...]
    arrays: Mapping[str, NDArray[np.floating]] = field(repr=False)
    level: PatternLevel = "stimulus"
    axis: Floats = field(default_factory=lambda: np.empty(0), repr=False)
    notes: tuple[str, ...] = ()

    def __getitem__(self, layer: str) -> NDArray[np.floating]:
        return self.arrays[check_choice(layer, self.layers, "layer")]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)


def pattern_features(am: Maximization | StoredPatterns, *, space: PatternSpace = "spectrum") -> Representation:
    """Turn activation-maximization patterns into features for unit x unit or class x class RDMs.

    Parameters
    ----------
    am : Maximization or StoredPatterns
        Patterns `(n_units, c, t)` or `(n_units, c, h, w)` of one layer.
    space : {"spectrum", "waveform"}
        "spectrum" is the amplitude every 50 Hz, smoothed by a Gaussian with a standard deviation of 100 Hz, relative to
        the largest of each pattern (2-D patterns: the amplitude of their 2-D Fourier transform). "waveform" takes the
        samples themselves, with a warning, because two starts of the same unit give dissimilar waveforms.

    Returns
    -------
    Representation
        One item per pattern, named by its class, or layer and unit; `level` is "class" for the output, else "unit".

    Raises
    ------
    InputError
        Fewer than three patterns, or a silent one.
    """
    check_choice(space, get_args(PatternSpace), "space")
    check_enough(len(am.labels), 3, "patterns", "patterns for an RDM", f" of {am.layer}; maximize more units")
    values, axis = _transform_patterns(np.asarray(am.patterns, dtype=np.float64), am.rate, space)
    silent = [label for label, row in zip(am.labels, am.patterns, strict=True) if not np.any(row)]
    refuse_some(silent, "patterns: ", " are silent; maximize them again from another seed")
    if space == "waveform":
        warnings.warn(
            "patterns: waveforms of the same unit from two seeds are hardly alike, and so are their RDMs; take "
            "space='spectrum', or report pattern_reliability",
            BrainmapWarning,
            stacklevel=2,
        )
    return Representation(
        items=tuple(am.labels),
        conditions=tuple(am.labels),
        layers=(am.layer,),
        arrays={am.layer: values},
        level="class" if am.layer == "output" else "unit",
        axis=axis,
    )


def pattern_reliability(by_seed: NDArray[np.floating], rate: int, *, space: PatternSpace = "spectrum") -> float:
    """Measure how well RDMs of patterns that started from different noise agree.

    Parameters
    ----------
    by_seed : ndarray (n_seeds, n_units, c, t)
        `Maximization.by_seed`.
    rate : int [Hz]
    space : {"spectrum", "waveform"}

    Returns
    -------
    float
        Mean Pearson correlation between the correlation RDMs of pairs of seeds; NaN with one seed or fewer than three
        units.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(1, 5, 1, 400))
    >>> pattern_reliability(np.concatenate([x, x]), 16_000)
    1.0
    """
    if len(by_seed) < 2 or by_seed.shape[1] < 3:
        return float("nan")
    rdms = [pdist(_transform_patterns(np.asarray(one, np.float64), rate, space)[0], "correlation") for one in by_seed]
    between = np.corrcoef(rdms)[np.triu_indices(len(rdms), 1)]
    return round(float(between.mean()), 12)


def map_features(
    cams: ClassActivationMaps | Attributions,
    *,
    rate: int,
    classes: str = "true",
    align: PatternAlign = "onset",
    sounds: NDArray[np.floating] | None = None,
    step_ms: float = 10.0,
    onset_db: float = -30.0,
) -> Representation:
    """Turn class activation maps or attributions into features for stimulus x stimulus RDMs of time courses.

    Parameters
    ----------
    cams : ClassActivationMaps or Attributions
        Maps `(n_items, n_classes, t)` over the samples of the sounds; channels are summed, and maps over `(h, w)` keep
        both axes without alignment.
    rate : int [Hz]
    classes : str
        "true": the map of the class named by the item's condition; "predicted": that of the class with the largest
        logit; "all": every class, one after another; otherwise the name of one class.
    align : {"onset", "none"}
        Shift each course so that its sound begins at 0, and keep the time that all sounds share.
    sounds : array (n_items, c, t)
        Waveforms, from which the onsets are found.
    step_ms : float [ms]
        Samples are averaged in steps of this length.
    onset_db : float [dB]
        The onset of a sound is where the power of a step first exceeds this level relative to its loudest step.

    Returns
    -------
    Representation
        `axis` is the time of each step [s], from the onset.

    Raises
    ------
    InputError
        A condition that is not a class, a class without maps, alignment without sounds, or an overlap of fewer than
        three steps.
    """
    check_choice(align, get_args(PatternAlign), "align")
    maps = np.asarray(cams.maps, dtype=np.float64)
    chosen = _select_classes(maps, cams, classes)
    # attributions, which have targets, are named by their method; maps are named by their layer
    name = cams.method if hasattr(cams, "targets") or not cams.layer else cams.layer
    if maps.ndim == 4 and align == "none" and sounds is None and maps.shape[2] > 4:  # no time course
        flat = chosen.reshape(len(chosen), -1)
        return Representation(items=cams.items, conditions=cams.conditions, layers=(name,), arrays={name: flat})
    if maps.ndim == 4:
        chosen = chosen.sum(axis=-2)
    step = max(1, round(step_ms / 1000 * rate))
    courses = _average_steps(chosen, step)
    notes: tuple[str, ...] = ()
    if align == "onset":
        if sounds is None:
            raise InputError("map_features: alignment to the onset needs the sounds; give sounds=, or align='none'")
        courses, notes = _align_onsets(courses, np.asarray(sounds, dtype=np.float64), step, onset_db, cams.items)
    return Representation(
        items=tuple(cams.items),
        conditions=tuple(cams.conditions),
        layers=(name,),
        arrays={name: courses.reshape(len(courses), -1)},
        axis=np.tile((np.arange(courses.shape[-1]) + 0.5) * step / rate, courses.shape[1]),
        notes=notes,
    )


def _transform_patterns(patterns: Floats, rate: int, space: PatternSpace) -> tuple[Floats, Floats]:
    n = len(patterns)
    if space == "waveform":
        copies = int(np.prod(patterns.shape[1:-1]))
        return patterns.reshape(n, -1), np.tile(np.arange(patterns.shape[-1]) / rate, copies)
    if patterns.ndim == 4:
        amplitude = np.abs(np.fft.rfft2(patterns))
        return amplitude.reshape(n, -1), np.empty(0)
    amplitude = np.sqrt((np.abs(np.fft.rfft(patterns, axis=-1)) ** 2).sum(axis=1))
    hertz = np.fft.rfftfreq(patterns.shape[-1], 1 / rate)
    centers = np.arange(0, rate / 2 + 1, _SMOOTHING_HZ / 2)
    weights = np.exp(-0.5 * ((hertz[:, None] - centers) / _SMOOTHING_HZ) ** 2)
    spectra = amplitude @ (weights / weights.sum(axis=0).max())  # bands at the ends are partial
    return spectra / np.maximum(spectra.max(axis=-1, keepdims=True), 1e-300), centers


def _select_classes(maps: Floats, cams: ClassActivationMaps | Attributions, classes: str) -> Floats:
    """Select the maps `(n_items, n_chosen, ...)` of the classes asked for."""
    if classes == "all":
        return maps
    names = list(cams.class_names)
    if classes == "true":
        wanted = find_own_class(cams.conditions, names)
    elif classes == "predicted":
        wanted = np.asarray(cams.logits).argmax(axis=1)
    else:
        wanted = np.full(len(maps), names.index(check_choice(classes, [*names, "true", "predicted", "all"], "class")))
    return select_maps(cams, maps, wanted)[:, None]


def _average_steps(courses: Floats, step: int) -> Floats:
    whole = courses.shape[-1] // step
    if whole < 3:
        raise InputError(
            f"map_features: expected 3 steps of {step} samples or more, got {courses.shape[-1]} samples; take a "
            "smaller step_ms"
        )
    means: Floats = courses[..., : whole * step].reshape(*courses.shape[:-1], whole, step).mean(axis=-1)
    return means


def _align_onsets(
    courses: Floats, sounds: Floats, step: int, onset_db: float, items: Sequence[str]
) -> tuple[Floats, tuple[str, ...]]:
    """Cut courses from each sound's onset on, to the length of the shortest."""
    check_one_each(sounds, len(courses), "map_features: sounds", "maps")
    power = _average_steps((sounds**2).sum(axis=1)[:, None], step)[:, 0, : courses.shape[-1]]
    loudest = power.max(axis=1, keepdims=True)
    silent = [item for item, most in zip(items, loudest[:, 0], strict=True) if not most > 0]
    refuse_some(silent, "map_features: ", " are silent and have no onset; leave them out")
    onsets = (power > loudest * 10 ** (onset_db / 10)).argmax(axis=1)
    shared = courses.shape[-1] - int(onsets.max())
    if shared < 3:
        latest = items[int(onsets.argmax())]
        raise InputError(
            f"map_features: expected sounds that begin 3 steps or more before their end, got {latest!r}, which begins "
            f"{shared} before it; leave it out, or take align='none'"
        )
    rows = onsets[:, None] + np.arange(shared)
    aligned = np.take_along_axis(courses, np.broadcast_to(rows[:, None], (*courses.shape[:2], shared)), axis=-1)
    return aligned, (f"aligned to the onset; the {shared} steps that all sounds share",)
