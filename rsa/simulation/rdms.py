"""Simulate RDMs of participants who share a model's geometry, with a chosen noise ceiling.

A model is given as an RDM. Patterns whose squared distances are proportional to it are Gaussian over voxels, and so is
the noise. Hence the products of patterns between runs, of which a crossnobis RDM consists, are drawn from their exact
distribution, a difference of two Wishart matrices, without simulating patterns. For correlation RDMs there is no such
shortcut, and patterns are drawn.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainmap.checks import check_choice, check_enough, check_ranges
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.comparison.ceilings import compute_vector_ceiling, pool_others
from brainmap.rsa.comparison.measures import RANKED, compare_vectors, find_measure, scale_vectors
from brainmap.rsa.comparison.ranks import rank_rows
from brainmap.rsa.rdm.dissimilarity import compute_dissimilarities
from brainmap.types import Floats, Measure, RDMs, SearchlightDissimilarity

ANGULAR = ("correlation", "cosine")
_LOST = 0.01  # share of a model's geometry that may be lost in the embedding without a warning
_BLOCK = 64  # number of participants drawn at once


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Define how a simulated region is measured.

    Attributes
    ----------
    n_runs : int
        Repetitions of every item, each with independent noise.
    n_voxels : int
    dissimilarity : {"crossnobis", "euclidean", "correlation", "cosine"}
        The dissimilarity of the brain RDMs, between runs if there are two or more, as in `brainmap.rsa.compute_rdms`.
    specific : float in [0, 1)
        Share of the geometry that is specific to each participant, as in `brainmap.rsa.plant_patterns`.
    explained : float in [0, 1]
        Share of the common geometry that is the planted model's. The rest is a geometry that no model has (the planted
        one with its items relabeled, with one relabeling per group).
    variation : float
        Standard deviation over participants of the logarithm of the signal: at .5 two thirds of the participants are
        within a factor of 1.65 of the median.
    """

    n_runs: int = 4
    n_voxels: int = 100
    dissimilarity: SearchlightDissimilarity = "crossnobis"
    specific: float = 0.3
    explained: float = 1.0
    variation: float = 0.5

    def __post_init__(self) -> None:
        check_choice(self.dissimilarity, get_args(SearchlightDissimilarity), "dissimilarity")
        check_ranges(
            "simulated RDMs",
            ("1 run or more", self.n_runs, self.n_runs >= 1),
            ("2 voxels or more", self.n_voxels, self.n_voxels >= 2),
            ("specific, a share, from 0 to below 1", self.specific, 0 <= self.specific < 1),
            ("explained, a share, from 0 to 1", self.explained, 0 <= self.explained <= 1),
            ("a variation of 0 or more", self.variation, self.variation >= 0),
            (
                "2 runs or more for crossnobis, or 'euclidean'",
                self.n_runs,
                self.dissimilarity != "crossnobis" or self.n_runs >= 2,
            ),
        )


@dataclass(frozen=True, eq=False)
class Geometry:
    """Hold points whose squared distances are proportional to a model's dissimilarities.

    Attributes
    ----------
    gram : array (n_items, n_items)
        Inner products of the points, scaled so that squared distances have a standard deviation of 1 over pairs.
    lost : float
        Share of the eigenvalues (in absolute value) that are negative and left out. It is 0 for Euclidean RDMs, such as
        squared Euclidean and correlation distances.
    """

    gram: Floats
    lost: float


def embed_rdm(dissimilarities: ArrayLike, *, angular: bool = False, unit_sphere: bool = True) -> Geometry:
    """Compute points whose squared distances are proportional to a model's dissimilarities, by classical scaling.

    Parameters
    ----------
    dissimilarities : array_like (n_pairs,)
        Condensed squared distances, such as euclidean, crossnobis and correlation distances (2 - 2r is the squared
        distance of unit vectors).
    angular : bool
        Whether the points will be compared by their angles (correlation, cosine). Then they have a common distance from
        the origin and are not centered.
    unit_sphere : bool
        Whether the dissimilarities are 1 - r, which determines that distance.

    Raises
    ------
    InputError
        There are fewer than 3 items, pairs are missing, or all dissimilarities are equal.

    References
    ----------
    Torgerson 1952, doi:10.1007/BF02288916

    Examples
    --------
    >>> points = np.random.default_rng(0).normal(size=(5, 3))
    >>> squared = ((points[:, None] - points) ** 2).sum(-1)[np.triu_indices(5, 1)]
    >>> found = embed_rdm(squared)
    >>> own = np.diag(found.gram)
    >>> again = (own[:, None] + own - 2 * found.gram)[np.triu_indices(5, 1)]
    >>> bool(np.allclose(again, squared / squared.std())), round(found.lost, 9)
    (True, 0.0)
    """
    vector = np.asarray(dissimilarities, dtype=np.float64).ravel()
    n = round((1 + np.sqrt(1 + 8 * vector.size)) / 2)
    if n < 3 or n * (n - 1) // 2 != vector.size:
        raise InputError(f"RDM to plant: expected the pairs of 3 items or more, got {vector.size} pairs")
    if not np.isfinite(vector).all():
        raise InputError(
            f"RDM to plant: expected every pair, got {np.count_nonzero(~np.isfinite(vector))} of {vector.size} missing"
        )
    if vector.std() <= 1e-9 * np.abs(vector).max():
        raise InputError("RDM to plant: all items are equally far apart, so that no geometry can be recovered")
    halves = np.zeros((n, n))
    halves[np.triu_indices(n, 1)] = vector / 2
    halves += halves.T
    if angular:
        gram = (0.5 if unit_sphere else vector.mean() / 2) - halves
    else:
        gram = -halves + halves.mean(axis=0) + halves.mean(axis=1)[:, None] - halves.mean()
    values, vectors = np.linalg.eigh(gram)
    kept = np.maximum(values, 0.0)
    gram = (vectors * kept) @ vectors.T
    own = np.diag(gram)
    spread = (own[:, None] + own - 2 * gram)[np.triu_indices(n, 1)].std()
    return Geometry(gram=gram / spread, lost=float(1 - kept.sum() / np.abs(values).sum()))


def compute_geometry(models: RDMs, which: int, *, dissimilarity: str) -> Geometry:
    """Compute the geometry of one model RDM for brain RDMs of a dissimilarity; warn if the embedding is inexact."""
    angular = dissimilarity in ANGULAR
    found = embed_rdm(
        models.dissimilarities[which], angular=angular, unit_sphere=models.dissimilarity_measure in ANGULAR
    )
    if found.lost > _LOST:
        warnings.warn(
            f"RDM to plant: no points have these dissimilarities as squared distances, so that {found.lost:.0%} of "
            "the geometry is left out (negative eigenvalues)",
            BrainmapWarning,
            stacklevel=3,
        )
    return found


def simulate_rdms(
    model: RDMs,
    *,
    ceiling: float,
    n_participants: int = 12,
    measure: Measure | str = "rho-a",
    n_runs: int = 4,
    n_voxels: int = 100,
    dissimilarity: SearchlightDissimilarity = "crossnobis",
    specific: float = 0.3,
    explained: float = 1.0,
    variation: float = 0.5,
    rng: np.random.Generator,
) -> RDMs:
    """Simulate RDMs of participants who share a model's geometry, with a chosen expected lower noise ceiling.

    Parameters
    ----------
    model : rsatoolbox RDMs
        The single RDM whose geometry is planted.
    ceiling : float
        Expected lower noise ceiling of the group in `measure`; 0 means no signal. The signal that gives this ceiling is
        found by simulation and stored in `descriptors["signal"]` [noise variances, as in `simulate_participant`].
    n_participants : int
    measure : str
        As in `brainmap.rsa.compare_rdms`.
    n_runs, n_voxels, dissimilarity, specific, explained, variation
        As in `brainmap.rsa.simulation.rdms.Measurement`; noise is white and independent between runs.
    rng : numpy Generator

    Returns
    -------
    rsatoolbox RDMs
        One RDM per participant over the items of the model, with the RDM descriptor `participant`.

    Raises
    ------
    InputError
        There are several model RDMs, pairs are missing, the ceiling cannot be reached, or settings are out of range.

    Examples
    --------
    >>> from brainmap.rsa import compute_rdms, noise_ceiling
    >>> rng = np.random.default_rng(0)
    >>> layer = compute_rdms(rng.normal(size=(16, 40)), descriptors={"stimulus_id": list("abcdefghijklmnop")})
    >>> brains = simulate_rdms(layer, ceiling=0.3, n_participants=8, rng=rng)
    >>> brains.n_rdm, bool(0.1 < noise_ceiling(brains).lower < 0.5)
    (8, True)
    """
    from rsatoolbox.rdm.rdms import RDMs

    if model.n_rdm != 1:
        raise InputError(
            f"simulate_rdms: expected the one model RDM to plant, got {model.n_rdm}; take one with .subset('layer', "
            "name)"
        )
    how = Measurement(
        n_runs=n_runs,
        n_voxels=n_voxels,
        dissimilarity=dissimilarity,
        specific=specific,
        explained=explained,
        variation=variation,
    )
    geometry = compute_geometry(model, 0, dissimilarity=dissimilarity)
    signal = find_signal_of_ceiling(
        geometry, ceiling, measure=measure, n_participants=n_participants, measurement=how, rng=rng
    )
    _, drawn = draw_group(geometry.gram, signal=signal, measurement=how, n_participants=n_participants, rng=rng)
    return RDMs(
        drawn,
        dissimilarity_measure=dissimilarity,
        descriptors={**model.descriptors, "signal": signal},
        rdm_descriptors={"participant": [f"{k:02d}" for k in range(1, n_participants + 1)]},
        pattern_descriptors={key: value for key, value in model.pattern_descriptors.items() if key != "index"},
    )


def draw_group(
    gram: Floats,
    *,
    signal: float,
    measurement: Measurement,
    n_participants: int,
    rng: np.random.Generator,
    n_conditions: int | NDArray[np.intp] | None = None,
) -> tuple[NDArray[np.intp], Floats]:
    """Draw one study, and return its items (a sorted random subset, if not all) and RDMs `(n_participants, n_pairs)`.

    `n_conditions` is the size of that subset, or the positions of chosen items. The own geometries of participants are
    relabelings of the study's items, but of all items where some were chosen, because they are unrelated to the choice.
    `gram` and `signal` are as in `Geometry.gram` and `brainmap.rsa.simulate_participant`: planted squared distances per
    voxel have a standard deviation of `signal` noise variances (of one trial) over the pairs of all items.
    """
    n_items, shared = len(gram), gram
    if measurement.explained < 1:
        shared = measurement.explained * gram + (1 - measurement.explained) * _relabel_products(gram, 1, rng)[0]
    items = np.arange(n_items)
    relabeled = None
    if isinstance(n_conditions, np.ndarray):
        items, relabeled = n_conditions, gram
    elif n_conditions is not None and n_conditions < n_items:
        items = np.sort(rng.choice(items, n_conditions, replace=False))
    within = np.ix_(items, items)
    parts = []
    for start in range(0, n_participants, _BLOCK):
        size = min(_BLOCK, n_participants - start)
        strength = signal * np.exp(measurement.variation * rng.standard_normal((size, 1, 1)))
        own = _relabel_products(gram[within] if relabeled is None else relabeled, size, rng, n=len(items))
        planted = strength * ((1 - measurement.specific) * shared[within] + measurement.specific * own)
        draw = _draw_from_patterns if measurement.dissimilarity in ANGULAR else _draw_from_products
        parts.append(draw(planted, measurement, rng))
    return items, np.concatenate(parts)


def _relabel_products(gram: Floats, size: int, rng: np.random.Generator, *, n: int | None = None) -> Floats:
    """Return the inner products of the first `n` items (all by default) of random orders, `(size, n, n)`."""
    order = np.argsort(rng.random((size, len(gram))), axis=1)[:, :n]
    return np.asarray(gram[order[:, :, None], order[:, None, :]])


def _draw_from_products(planted: Floats, measurement: Measurement, rng: np.random.Generator) -> Floats:
    """Draw squared distances per voxel from the products of patterns, which are Wishart matrices.

    With y the mean over runs and e the runs about it, sum over m != l of x_m x_l' is R (R - 1) y y' - sum e e':
    y y' and sum e e' are independent, with V and (R - 1) V degrees of freedom.
    """
    size, n, _ = planted.shape
    runs, voxels = measurement.n_runs, measurement.n_voxels
    root = np.linalg.cholesky(planted + np.eye(n) / runs) @ _draw_wishart_root(size, n, voxels, rng)
    products = root @ root.transpose(0, 2, 1)
    if runs > 1:
        noise = _draw_wishart_root(size, n, (runs - 1) * voxels, rng)
        products -= noise @ noise.transpose(0, 2, 1) / (runs * (runs - 1))
    i, j = np.triu_indices(n, 1)
    own = np.diagonal(products, axis1=1, axis2=2)
    return np.asarray((own[:, i] + own[:, j] - 2 * products[:, i, j]) / voxels)


def _draw_wishart_root(size: int, n: int, freedom: int, rng: np.random.Generator) -> Floats:
    """Draw matrices A such that A A' is Wishart (identity, `freedom`), by Bartlett's decomposition if it is smaller."""
    if freedom < n:
        return rng.standard_normal((size, n, freedom))
    root = np.zeros((size, n, n))
    below = np.tril_indices(n, -1)
    root[:, below[0], below[1]] = rng.standard_normal((size, len(below[0])))
    root[:, np.arange(n), np.arange(n)] = np.sqrt(rng.chisquare(freedom - np.arange(n), (size, n)))
    return root


def _draw_from_patterns(planted: Floats, measurement: Measurement, rng: np.random.Generator) -> Floats:
    size, n, _ = planted.shape
    shape = (measurement.n_runs, n, measurement.n_voxels)
    # a singular matrix of inner products has no Cholesky root, so a small ridge is added
    tiny = 1e-9 * np.trace(planted, axis1=1, axis2=2).max() / n + 1e-12
    roots = np.linalg.cholesky(planted + tiny * np.eye(n))
    drawn = np.empty((size, n * (n - 1) // 2))
    for k, root in enumerate(roots):
        x = rng.standard_normal(shape) + root @ rng.standard_normal(shape[1:])
        drawn[k] = compute_dissimilarities(x if len(x) > 1 else x[0], dissimilarity=measurement.dissimilarity)
    return drawn


def compute_lower_ceiling(vectors: Floats, measure: Measure) -> float:
    """Compute the lower noise ceiling of RDMs without missing pairs, `(n_participants, n_pairs)`, in one call.

    The result equals that of `brainmap.rsa.noise_ceiling`. Comparing every pool with every participant is faster than
    one call for each, except for measures that are not matrix products.
    """
    if measure in ("tau-a", "tau-b", "bures"):
        return compute_vector_ceiling(vectors, measure=measure).lower
    _, others = pool_others(vectors, measure)
    return float(np.diagonal(compare_vectors(others, vectors, measure=measure)).mean())


def compute_lower_ceilings(vectors: Floats, participants: Sequence[int], measure: Measure) -> list[float]:
    """Compute the lower ceiling of the first n RDMs for each n in `participants`; RDMs are ranked only once."""
    if measure not in ("rho-a", "spearman", "pearson", "cosine"):
        return [compute_lower_ceiling(vectors[:n], measure) for n in participants]
    own = scale_vectors(vectors, measure, use=np.ones(vectors.shape[1], dtype=bool))
    pools = [(own[:n].sum(axis=0) - own[:n]) / (n - 1) for n in participants]
    if measure in RANKED:
        ranks = rank_rows(np.concatenate(pools).round(9)) - (vectors.shape[1] + 1) / 2.0
        pools = np.split(ranks, np.cumsum(participants)[:-1])
    scores = []
    for n, pool in zip(participants, pools, strict=True):
        length = np.linalg.norm(pool, axis=1) * np.linalg.norm(own[:n], axis=1)
        if measure == "rho-a":
            length[:] = (vectors.shape[1] ** 3 - vectors.shape[1]) / 12.0
        scores.append(float((np.einsum("ij,ij->i", pool, own[:n]) / length).mean()))
    return scores


def find_signal_of_ceiling(
    geometry: Geometry,
    ceiling: float,
    *,
    measure: Measure | str,
    n_participants: int,
    measurement: Measurement,
    n_conditions: int | None = None,
    rng: np.random.Generator,
) -> float:
    """Find the signal at which a group's expected lower noise ceiling is `ceiling`.

    Raises
    ------
    InputError
        No signal reaches the ceiling, since each participant also has a geometry of their own.

    Notes
    -----
    The equation for the logarithm of the signal uses the mean lower ceiling of 120 simulated groups (more with few
    conditions, where ceilings vary more). It is solved by Brent's method on a part of the groups, followed by linear
    interpolation on all of them. All steps use the same random numbers, so that the ceiling is a smooth function of the
    signal. The Monte Carlo error of the ceiling is about .005.
    """
    from scipy.optimize import brentq

    named = find_measure(measure)
    check_ranges("ceiling", ("a lower noise ceiling from 0 to below 1", ceiling, 0 <= ceiling < 1))
    check_enough(n_participants, 2, "ceiling", "participants", "; a ceiling says how well participants agree")
    if ceiling == 0:
        return 0.0
    seed, groups = int(rng.integers(2**63)), max(120, 2000 // (n_conditions or len(geometry.gram)))

    def above(log_signal: float, groups: int) -> float:
        same = np.random.default_rng(seed)
        lower = []
        for _ in range(groups):
            _, vectors = draw_group(
                geometry.gram,
                signal=float(np.exp(log_signal)),
                measurement=measurement,
                n_participants=n_participants,
                n_conditions=n_conditions,
                rng=same,
            )
            lower.append(compute_lower_ceiling(vectors, named))
        return float(np.mean(lower)) - ceiling

    def bracket(around: float, step: float, groups: int) -> tuple[float, float, float, float]:
        low, high = around - step, around + step
        while (under := above(low, groups)) > 0 and low > -16:
            low, high = low - 2 * step, low
        while (over := above(high, groups)) < 0 and high < 9:
            low, under, high = high, over, high + 2 * step
        if under > 0 or over < 0:
            raise InputError(
                f"ceiling: expected {'at most' if over < 0 else 'at least'} "
                f"{ceiling + (over if over < 0 else under):.3f}, which {n_participants} participants with "
                f"specific={measurement.specific:g} of the geometry for each alone have at any signal, got {ceiling:g}"
            )
        return low, high, under, over

    few = groups // 8  # locate the solution roughly; close to it the ceiling is nearly linear
    low, high, *_ = bracket(-np.log(measurement.n_runs) - 1.5, 1.0, few)
    low, high, under, over = bracket(brentq(above, low, high, args=(few,), xtol=0.03), 0.15, groups)
    return float(np.exp(low + (high - low) * under / (under - over)))
