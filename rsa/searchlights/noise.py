"""Whiten the patterns of each neighborhood by its noise covariance, with the shrinkage estimators of rsatoolbox.

Neighborhoods overlap. Those whose centers lie in the same brick share one covariance over the union of their voxels and
the statistics for shrinkage; each neighborhood then uses its submatrix, a Cholesky root and one elimination.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_enough, list_some
from brainmap.errors import InputError
from brainmap.rsa.patterns.residuals import Residuals
from brainmap.rsa.rdm.run_noise import RunNoise, prepare_deviations
from brainmap.rsa.searchlights.noise_sets import arrange_sets, list_row_sets, yield_symmetric_sets
from brainmap.rsa.searchlights.preparation import NO_POWER, NO_WEIGHTS, Given, Prepared
from brainmap.types import Dataset, Floats, NoiseMethod, Shrinkage

NoiseSource = NDArray[np.floating] | Sequence[NDArray[np.floating]] | Residuals | RunNoise | Literal["runs"]

_OF_METHOD: dict[NoiseMethod, Shrinkage] = {"shrinkage": "diag", "shrinkage-eye": "eye", "full": "none"}
# Largest number of voxels in the union of neighborhoods that are scored together: a covariance of 34 MB.
_MOST_VOXELS = 2048
# Number of values of whitened patterns computed at a time: 32 MB.
_MOST_NUMBERS = 4_000_000


@dataclass(frozen=True, eq=False)
class Deviations:
    """Compute the deviations of patterns from their items' means over runs, for some voxels on demand.

    Attributes
    ----------
    measurements : ndarray (n_rows, n_columns)
    rows : ndarray (n_patterns,)
        The rows of the patterns that are used.
    centering : ndarray (n_patterns, n_patterns)
        The matrix that subtracts the mean of each pattern's item.
    """

    measurements: NDArray[np.floating]
    rows: NDArray[np.intp]
    centering: Floats

    @property
    def shape(self) -> tuple[int, int]:
        """Return the numbers of patterns and columns."""
        return len(self.rows), self.measurements.shape[1]

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, columns: NDArray[np.intp]) -> Floats:
        """Return the deviations of these columns."""
        x = np.take(self.measurements, columns, axis=1)[self.rows]
        return np.asarray(self.centering @ x.astype(np.float64, copy=False))


Part = NDArray[np.floating] | Deviations


@dataclass(frozen=True, eq=False)
class SphereNoise:
    """Estimate a separate noise covariance for every neighborhood.

    Attributes
    ----------
    parts : tuple of ndarray (n_volumes, n_columns), or of Deviations
        Residuals of each run or source; or deviations of the patterns, each without one run.
    columns : ndarray (n_usable_voxels,)
        The column of each usable voxel.
    sources : tuple of tuple of int
        The parts that enter each covariance: one covariance of all parts, or one per run in the order of the patterns'
        runs.
    left_out : bool
        Whether the covariance of a run is estimated from all other runs and weights its products with them. Otherwise,
        with one covariance per run, each is that run's own, and a pair of runs uses the mean of its two.
    dof : tuple of float
        Degrees of freedom of each covariance.
    sd : ndarray (n_usable_voxels,)
        Noise standard deviation of each voxel over all parts, which is the unit of patterns and covariances.
    shrinkage : {"diag", "eye", "none"}
    """

    parts: tuple[Part, ...]
    columns: NDArray[np.intp]
    sources: tuple[tuple[int, ...], ...]
    dof: tuple[float, ...]
    sd: Floats
    shrinkage: Shrinkage
    left_out: bool = False

    def check_size(self, n_most: int) -> None:
        """Refuse neighborhoods whose covariance cannot be invertible.

        Raises
        ------
        InputError
            There are more voxels than degrees of freedom, without shrinkage.
        """
        fewest = min(self.dof) if self.left_out else sum(sorted(self.dof)[:2])  # of one, or of the mean of two
        if self.shrinkage == "none" and fewest < n_most:
            raise InputError(
                f"searchlight: the noise covariance of {n_most} voxels cannot be inverted from {fewest:g} degrees of "
                "freedom; choose shrinkage='diag' or 'eye', or take smaller spheres"
            )

    def whiten_patches(
        self, prepared: Prepared, patches: NDArray[np.int32], *, minimum: int, centered: bool, symmetric: bool
    ) -> Iterator[tuple[Given, NDArray[np.int32], int]]:
        """Yield whitened patterns of the neighborhoods, some neighborhoods at a time.

        Parameters
        ----------
        prepared : Prepared
        patches : ndarray of int32 (n_patches, n_most)
            Usable voxels of neighborhoods that lie close together, padded with -1.
        minimum : int
            Smallest number of voxels of a neighborhood.
        centered : bool
            Whether each run's mean over items is subtracted first, which does not change Euclidean distances.
        symmetric : bool
            Whether the symmetric root of the precision is used, which keeps whitened voxels as close as possible to the
            original ones. Dissimilarities that are not invariant to rotations of the voxels need it, such as
            correlation, which subtracts the mean over voxels.

        Yields
        ------
        given : Given
            Patterns `(n_rows, n_runs, n_items)` and the other inputs of the kernels.
        table : ndarray of int32 (n_some_patches, n_some)
            The rows of each neighborhood; all -1 if it has too few voxels or a singular covariance.
        n_singular : int
        """
        from brainmap.rsa.searchlights.noise_kernels import whiten_patches  # numba is slow to import

        held = patches >= 0
        voxels, place = np.unique(patches[held].astype(np.intp), return_inverse=True)
        local = np.full(patches.shape, -1, dtype=np.int32)
        local[held] = place
        members = np.zeros((len(patches), len(voxels)))
        members[np.nonzero(held)[0], place] = 1.0
        estimates = [self._estimate(k, voxels, members) for k in range(len(self.sources))]
        covariance, kept, ridge = (np.stack([one[k] for one in estimates]) for k in range(3))
        x = prepared.select_patterns(voxels, centered=centered) / self.sd[voxels, None, None]
        if symmetric:
            noise = (covariance, kept, ridge)
            yield from yield_symmetric_sets(
                x, local, noise, sd=self.sd[voxels], minimum=minimum, shared=prepared.shared
            )
            return
        sets = arrange_sets(x, prepared, n_covariances=len(self.sources), left_out=self.left_out, euclidean=centered)
        n_sets, n_columns = len(sets.pairs), sets.patterns.shape[2]
        step = max(1, _MOST_NUMBERS // (n_sets * patches.shape[1] * n_columns))
        for start in range(0, len(patches), step):
            some_of = slice(start, start + step)
            n = len(local[some_of])
            white = np.empty((n * n_sets * patches.shape[1], n_columns))
            table = np.empty((n, n_sets * patches.shape[1]), dtype=np.int32)
            n_singular = whiten_patches(
                sets.patterns,
                local[some_of],
                covariance,
                kept[:, some_of],
                ridge[:, some_of],
                sets.pairs,
                minimum,
                white,
                table,
            )
            weights = NO_WEIGHTS if sets.weights is None else sets.weights[list_row_sets(table, n_sets)]
            yield (white.reshape(-1, *sets.shape), weights, sets.shared, sets.parts, NO_POWER), table, n_singular

    def _estimate(self, which: int, voxels: NDArray[np.intp], members: Floats) -> tuple[Floats, Floats, Floats]:
        """Estimate the covariance `(n_voxels, n_voxels)`, and the factor and ridge of shrinkage in each neighborhood.

        All values are in units of `sd`; members are `(n_patches, n_voxels)`, 1 where a voxel belongs to a patch.
        """
        columns, sd = self.columns[voxels], self.sd[voxels]
        x = np.concatenate([_demean_part(self.parts[part], columns) for part in self.sources[which]]) / sd
        dof = self.dof[which]
        covariance = x.T @ x / dof
        if self.shrinkage == "none":
            return covariance, np.ones(len(members)), np.zeros(members.shape)
        shrink = _shrink_to_diagonal if self.shrinkage == "diag" else _shrink_to_identity
        kept, ridge = shrink(x, covariance, members, sd, dof)
        return covariance, kept, np.ascontiguousarray(ridge)


def prepare_noise(
    noise: NoiseSource,
    data: Dataset | NDArray[np.floating],
    prepared: Prepared,
    *,
    shrinkage: Shrinkage,
    pooled: bool,
) -> SphereNoise:
    """Check the source of the noise, and select the usable voxels.

    Parameters
    ----------
    noise : array (n_volumes, n_columns), a sequence of these (or one array), Residuals, RunNoise, or "runs"
        Columns are the data's channels, or all voxels of the mask. "runs": the patterns' deviations from each
        item's mean over runs, for each run from the other runs.
    data, prepared
        The data of the searchlight, as given and as prepared.
    shrinkage : {"diag", "eye", "none"}
    pooled : bool
        Whether one covariance is estimated from all runs, or one per run. Degrees of freedom that are known for all
        runs together are divided among the runs in proportion to their n_volumes - 1.

    Raises
    ------
    InputError
        Residuals have other voxels, NaN, no variance or another number of runs, or there are too few runs.
    """
    check_choice(shrinkage, get_args(Shrinkage), "searchlight shrinkage")
    if isinstance(noise, RunNoise):
        shrinkage, noise = _OF_METHOD[noise.method], "runs"
    if isinstance(noise, str):
        check_choice(noise, ("runs",), "searchlight noise")
        return _estimate_run_noise(data, prepared, shrinkage, pooled=pooled)
    parts, whole_mask, freedom = _list_parts(noise)
    n_channels, n_mask = prepared.measurements.shape[1], len(prepared.usable)
    widths = sorted({part.shape[1] for part in parts})
    if len(widths) > 1 or widths[0] not in ({n_mask} if whole_mask else {n_channels, n_mask}):
        raise InputError(
            f"searchlight: expected residuals of the {n_channels} voxels of the data or the {n_mask} of the mask, got "
            f"{list_some(widths)} voxels"
        )
    of_mask = whole_mask or widths[0] != n_channels
    columns = np.flatnonzero(prepared.usable) if of_mask else prepared.channels
    sources: tuple[tuple[int, ...], ...] = (tuple(range(len(parts))),)
    dof: tuple[float, ...] = (freedom or sum(len(part) - 1 for part in parts),)
    sd = _check_varying(_compute_deviations(parts, columns, dof[0]), prepared)
    if not pooled:
        sources = tuple((k,) for k in _order_runs(data, len(parts), len(prepared.rows)))
        share = dof[0] / sum(len(part) - 1 for part in parts)
        dof = tuple(share * (len(parts[k]) - 1) for (k,) in sources)
    return SphereNoise(tuple(parts), columns, sources, dof, sd, shrinkage)


def _estimate_run_noise(data: Any, prepared: Prepared, shrinkage: Shrinkage, *, pooled: bool) -> SphereNoise:
    """Estimate noise from the patterns; with between-run products, for each run from the other runs."""
    dataset, n_runs = _make_dataset(data), len(prepared.rows)
    if not pooled:
        raise InputError(
            "searchlight: expected residuals of each run (and two runs or more) for a noise precision per run, got "
            "the runs' own deviations; give residuals, or take pooled=True"
        )
    x, sources = np.asarray(dataset.measurements), [None] if n_runs < 2 else RunNoise(dataset, "diag").check_runs()
    made = [prepare_deviations(dataset, without=run) for run in sources]
    parts, dof = tuple(Deviations(x, rows, centering) for rows, centering, _ in made), [float(one[2]) for one in made]
    check_enough(min(dof), 1, "searchlight", "degree of freedom for the noise", " from the runs")
    # sd from all runs is only a unit here: dividing patterns by it is undone by the covariance in the same unit
    rows, centering, freedom = prepare_deviations(dataset)
    sd = _check_varying(_compute_deviations([Deviations(x, rows, centering)], prepared.channels, freedom), prepared)
    each = tuple((k,) for k in range(len(parts)))
    return SphereNoise(parts, prepared.channels, each, tuple(dof), sd, shrinkage, left_out=n_runs > 1)


def group_in_bricks(where: Floats, *, n_most: int, radius_mm: float) -> list[NDArray[np.intp]]:
    """Group centers into bricks of the volume.

    Larger bricks share more covariances but also compute more pairs of voxels that no neighborhood needs; a side of 1.4
    radii is best. For large neighborhoods, bricks are small enough for the covariance of all their voxels to fit into
    memory.

    Parameters
    ----------
    where : ndarray (n_centers, 3) [mm]
    n_most : int
        Number of voxels of a complete neighborhood.
    radius_mm : float [mm]

    Examples
    --------
    >>> centers = np.array([[0.0, 0, 0], [9, 0, 0], [1, 0, 0]])
    >>> [brick.tolist() for brick in group_in_bricks(centers, n_most=33, radius_mm=3.0)]
    [[0, 2], [1]]
    """
    room = max((_MOST_VOXELS / n_most) ** (1 / 3) - 1.0, 0.0)
    edge = radius_mm * min(1.4, 2.0 * room)
    if edge < radius_mm * 0.1:
        return list(np.arange(len(where))[:, None])
    cell = np.floor((where - where.min(axis=0)) / edge).astype(np.int64)
    _, which = np.unique(cell, axis=0, return_inverse=True)
    which = which.ravel()
    order = np.argsort(which, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(which[order])) + 1)


def _list_parts(
    noise: NDArray[np.floating] | Sequence[NDArray[np.floating]] | Residuals,
) -> tuple[list[NDArray[np.floating]], bool, float | None]:
    """Return the residuals of each run or source, whether their columns are all mask voxels, and degrees of freedom."""
    if isinstance(noise, Residuals):
        return list(noise.parts), True, noise.dof
    parts = [noise] if isinstance(noise, np.ndarray) and noise.ndim == 2 else [np.asarray(part) for part in noise]
    bad = [str(part.shape) for part in parts if part.ndim != 2 or len(part) < 2]
    if bad or not parts:
        raise InputError(
            "searchlight: expected residuals (n_volumes, n_voxels) of two volumes or more (one array, or one per "
            "run), or one standard deviation per channel (n_channels,), got noise of shape "
            f"{list_some(bad) if bad else '(0,)'}"
        )
    return parts, False, None


def _make_dataset(data: Any) -> Any:
    """Convert an array of patterns to a data set with named runs, as `compute_run_residuals` needs it."""
    if hasattr(data, "measurements"):
        return data
    from rsatoolbox.data.dataset import Dataset

    x = np.asarray(data, dtype=np.float64)
    n_runs, n_items = (1, len(x)) if x.ndim == 2 else x.shape[:2]
    described = {"condition": np.tile(np.arange(n_items), n_runs), "run": np.repeat(np.arange(n_runs), n_items)}
    return Dataset(x.reshape(n_runs * n_items, -1), obs_descriptors=described)


def _order_runs(data: Any, n_parts: int, n_runs: int) -> list[int]:
    """Return the part that belongs to each prepared run; parts are sorted as `compute_rdms` sorts runs."""
    if n_runs < 2 or n_parts != n_runs:
        raise InputError(
            "searchlight: expected residuals of each run (and two runs or more) for a noise precision per run, got "
            f"residuals of {n_parts} for {n_runs} runs; or take pooled=True"
        )
    described = getattr(data, "obs_descriptors", {}).get("run", np.arange(n_runs))
    names = [str(run) for run in np.unique(np.asarray(described))]
    return [names.index(name) for name in sorted(names)]


def _demean_part(part: Part, columns: NDArray[np.intp]) -> Floats:
    if isinstance(part, Deviations):
        return part.select(columns)
    x = np.take(part, columns, axis=1).astype(np.float64, copy=False)
    return np.asarray(x - x.mean(axis=0))


def _compute_deviations(parts: Sequence[Part], columns: NDArray[np.intp], dof: float) -> Floats:
    """Compute the noise standard deviation of each of these columns."""
    squares = np.zeros(len(columns))
    for start in range(0, len(columns), 4096):
        some_of = slice(start, start + 4096)
        squares[some_of] = sum((_demean_part(part, columns[some_of]) ** 2).sum(axis=0) for part in parts)
    return np.sqrt(squares / dof)


def _check_varying(sd: Floats, prepared: Prepared) -> Floats:
    largest = np.zeros(prepared.measurements.shape[1])
    for row in prepared.measurements:
        np.fmax(largest, np.abs(row), out=largest)
    if not np.isfinite(sd).all():
        raise InputError(
            f"searchlight: the residuals of {np.count_nonzero(~np.isfinite(sd))} usable voxels hold NaN or infinite "
            "values; leave those volumes out"
        )
    flat = np.count_nonzero(~(sd > 1e-12 * largest[prepared.channels]))
    if flat:
        raise InputError(
            f"searchlight: {flat} of {len(sd)} usable voxels do not vary in the residuals; were these masked "
            "differently? leave such voxels out of the mask"
        )
    return sd


def _shrink_to_diagonal(
    x: Floats, covariance: Floats, members: Floats, sd: Floats, dof: float
) -> tuple[Floats, Floats]:
    """Compute the shrinkage of each neighborhood's covariance to its diagonal (Schäfer and Strimmer 2005).

    Covariances are multiplied by 1 - share, and variances are kept. The sum over pairs of voxels of their squared
    products is computed as a sum over volumes of the squared power.
    """
    del sd
    n, variance = len(x), np.diagonal(covariance)
    squared = covariance**2 / np.outer(variance, variance)
    np.fill_diagonal(squared, 0.0)
    power = _sum_within(squared, members)
    z = x**2 / (variance * dof)
    fourth = ((z @ members.T) ** 2).sum(axis=0) - members @ (z**2).sum(axis=0)
    gain = n * (n - 1) / dof**2
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(power > 0, gain * (fourth - power / (n - 1)) / power, 1.0)
    share = np.clip(share, 0.0, 1.0)
    return 1.0 - share, share[:, None] * variance


def _shrink_to_identity(
    x: Floats, covariance: Floats, members: Floats, sd: Floats, dof: float
) -> tuple[Floats, Floats]:
    """Compute the shrinkage of each neighborhood's covariance to a multiple of the identity (Ledoit and Wolf 2004).

    All voxels have the same target variance in their original units.
    """
    n = len(x)
    own = covariance * np.outer(sd, sd) * (dof / n)
    power = _sum_within(own**2, members)
    trace = members @ np.diagonal(own)
    size = members.sum(axis=1)
    spread = (((x**2 * sd**2) @ members.T) ** 2).sum(axis=0)
    apart = power - trace**2 / size
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(apart > 0, np.minimum((spread / n - power) / n / apart, 1.0), 1.0)
    return 1.0 - share, np.outer(share * trace / size * (n / dof), sd**-2)


def _sum_within(values: Floats, members: Floats) -> Floats:
    """Sum `values` (n_voxels, n_voxels) over all pairs of each neighborhood's voxels."""
    return np.asarray(np.einsum("pv,pv->p", members @ values, members))
