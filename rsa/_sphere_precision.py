"""Noise between the voxels of each neighborhood: covariances shrunk as rsatoolbox does, and patterns whitened by them.

Neighborhoods overlap. Those whose centers lie in one brick share a covariance over the voxels that any of them
holds, and what shrinkage must know of it; each then needs only its own part, a root, and one elimination.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import one_of, some
from brainmap.errors import InputError
from brainmap.rsa._sphere_kernels import whiten_patches
from brainmap.rsa.residuals import Residuals

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset

    from brainmap.rsa.searchlight_input import Prepared

Floats = NDArray[np.float64]
Shrinkage = Literal["diag", "eye", "none"]
NoiseSource = NDArray[np.floating] | Sequence[NDArray[np.floating]] | Residuals | Literal["runs"]

# Voxels that neighborhoods scored together may hold among them: their covariance is then 34 MB.
_MOST_VOXELS = 2048
# Numbers of whitened patterns made at a time: 32 MB.
_MOST_NUMBERS = 4_000_000


@dataclass(frozen=True, eq=False)
class SphereNoise:
    """Noise of which every neighborhood gets a covariance of its own.

    Attributes
    ----------
    parts : tuple of ndarray (n_volumes, n_columns)
        Residuals, a run or a source each.
    columns : ndarray (n_usable_voxels,)
        The column of each usable voxel.
    sources : tuple of tuple of int
        The parts of each covariance: one with all of them, or one a run, in the order of the patterns' runs.
    dof : tuple of float
        Degrees of freedom of each covariance.
    sd : ndarray (n_usable_voxels,)
        Noise standard deviation of each voxel, over all parts: the unit patterns and covariances are brought to.
    shrinkage : {"diag", "eye", "none"}
    """

    parts: tuple[NDArray[np.floating], ...]
    columns: NDArray[np.intp]
    sources: tuple[tuple[int, ...], ...]
    dof: tuple[float, ...]
    sd: Floats
    shrinkage: Shrinkage

    def check_size(self, n_most: int) -> None:
        """Refuse neighborhoods whose covariance is sure to have no inverse.

        Raises
        ------
        InputError
            More voxels than degrees of freedom, without shrinkage.
        """
        fewest = sum(sorted(self.dof)[:2])  # of one covariance, or of the mean of two
        if self.shrinkage == "none" and fewest < n_most:
            raise InputError(
                f"searchlight: the noise covariance of {n_most} voxels cannot be inverted from {fewest:g} degrees of "
                "freedom; choose shrinkage='diag' or 'eye', or take smaller spheres"
            )

    def whitened(
        self, prepared: Prepared, patches: NDArray[np.int32], *, minimum: int, centered: bool, symmetric: bool
    ) -> Iterator[tuple[Floats, NDArray[np.int32], int]]:
        """Patterns of each neighborhood in units of its noise, some neighborhoods at a time.

        Parameters
        ----------
        prepared : Prepared
        patches : ndarray of int32 (n_patches, n_most)
            Usable voxels of neighborhoods that lie close by; -1 is none.
        minimum : int
            Voxels a neighborhood must have.
        centered : bool
            Whether each run's mean over items is taken away first.
        symmetric : bool
            Whether the root of the precision is symmetric, so that voxels stay what they are: for measures that
            look at each voxel, as correlation does when it takes the mean over voxels away.

        Yields
        ------
        patterns : ndarray (n_rows, n_runs, n_items)
        table : ndarray of int32 (n_some_patches, n_some)
            The rows that take the place of each neighborhood's voxels; -1 throughout where there are too few, or
            their covariance is singular.
        n_singular : int
        """
        held = patches >= 0
        voxels, place = np.unique(patches[held].astype(np.intp), return_inverse=True)
        local = np.full(patches.shape, -1, dtype=np.int32)
        local[held] = place
        members = np.zeros((len(patches), len(voxels)))
        members[np.nonzero(held)[0], place] = 1.0
        estimates = [self._estimate(k, voxels, members) for k in range(len(self.sources))]
        covariance, kept, ridge = (np.stack([one[k] for one in estimates]) for k in range(3))
        x = prepared.at(voxels, centered=centered) / self.sd[voxels, None, None]
        if symmetric:
            yield from _symmetric(x, local, (covariance[0], kept[0], ridge[0]), self.sd[voxels], minimum)
            return
        sets, pairs, shape = _sets(x, len(self.sources))
        step = max(1, _MOST_NUMBERS // (len(sets) * patches.shape[1] * sets.shape[2]))
        for start in range(0, len(patches), step):
            some_of = slice(start, start + step)
            n = len(local[some_of])
            white = np.empty((n * len(sets) * patches.shape[1], sets.shape[2]))
            table = np.empty((n, len(sets) * patches.shape[1]), dtype=np.int32)
            n_singular = whiten_patches(
                sets, local[some_of], covariance, kept[:, some_of], ridge[:, some_of], pairs, minimum, white, table
            )
            yield white.reshape(-1, *shape), table, n_singular

    def _estimate(self, which: int, voxels: NDArray[np.intp], members: Floats) -> tuple[Floats, Floats, Floats]:
        """Covariance `(n_voxels, n_voxels)`, and what shrinkage keeps and adds in each neighborhood.

        Everything is in units of `sd`; members are `(n_patches, n_voxels)`, 1 where a voxel belongs.
        """
        columns, sd = self.columns[voxels], self.sd[voxels]
        x = np.concatenate([_demeaned(self.parts[part], columns) for part in self.sources[which]]) / sd
        dof = self.dof[which]
        covariance = x.T @ x / dof
        if self.shrinkage == "none":
            return covariance, np.ones(len(members)), np.zeros(members.shape)
        shrink = _to_diagonal if self.shrinkage == "diag" else _to_identity
        kept, ridge = shrink(x, covariance, members, sd, dof)
        return covariance, kept, np.ascontiguousarray(ridge)


def sphere_noise(
    noise: NoiseSource,
    data: Dataset | NDArray[np.floating],
    prepared: Prepared,
    *,
    shrinkage: Shrinkage,
    pooled: bool,
) -> SphereNoise:
    """Check where the noise comes from, and bring it to the usable voxels.

    Parameters
    ----------
    noise : array (n_volumes, n_columns), a sequence of these (or one array), Residuals, or "runs"
        Columns are the data's channels, or all voxels of the mask. "runs": the patterns' deviations from each
        item's mean over runs.
    data, prepared
        What is searched, as given and as prepared.
    shrinkage : {"diag", "eye", "none"}
    pooled : bool
        One covariance from all runs, or one each; degrees of freedom that are known of all runs together are then
        shared out by the runs' volumes less one.

    Raises
    ------
    InputError
        Residuals of other voxels, with NaN, without variance, or of another number of runs.
    """
    one_of(shrinkage, get_args(Shrinkage), "searchlight shrinkage")
    parts, whole_mask, freedom = _parts(noise, data)
    n_channels, n_mask = prepared.measurements.shape[1], len(prepared.usable)
    widths = sorted({part.shape[1] for part in parts})
    if len(widths) > 1 or widths[0] not in ({n_mask} if whole_mask else {n_channels, n_mask}):
        raise InputError(
            f"searchlight: residuals of {some(widths)} voxels, wanted those of the data ({n_channels}) or of the "
            f"mask ({n_mask})"
        )
    of_mask = whole_mask or widths[0] != n_channels
    columns = np.flatnonzero(prepared.usable) if of_mask else prepared.channels
    sources: tuple[tuple[int, ...], ...] = (tuple(range(len(parts))),)
    dof: tuple[float, ...] = (freedom or sum(len(part) - 1 for part in parts),)
    sd = _deviations(parts, columns, dof[0])
    largest = np.zeros(n_channels)
    for row in prepared.measurements:
        np.fmax(largest, np.abs(row), out=largest)
    if not pooled:
        sources = tuple((k,) for k in _run_order(noise, data, len(parts), len(prepared.rows)))
        share = dof[0] / sum(len(part) - 1 for part in parts)
        dof = tuple(share * (len(parts[k]) - 1) for (k,) in sources)
    return SphereNoise(tuple(parts), columns, sources, dof, _varying(sd, 1e-12 * largest[prepared.channels]), shrinkage)


def bricks(where: Floats, *, n_most: int, radius_mm: float) -> list[NDArray[np.intp]]:
    """Centers that lie in one brick, brick by brick.

    The larger a brick, the more covariances are shared, and the more pairs of voxels are shared by nobody: 1.4
    radii are best. Where neighborhoods are large, bricks are small enough for the voxels of all in memory.

    Parameters
    ----------
    where : ndarray (n_centers, 3) [mm]
    n_most : int
        Voxels of a whole neighborhood.
    radius_mm : float [mm]

    Examples
    --------
    >>> [brick.tolist() for brick in bricks(np.array([[0.0, 0, 0], [9, 0, 0], [1, 0, 0]]), n_most=33, radius_mm=3.0)]
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


def _parts(
    noise: NoiseSource, data: Dataset | NDArray[np.floating]
) -> tuple[list[NDArray[np.floating]], bool, float | None]:
    """Residuals of each run or source, whether their columns are all voxels of the mask, and degrees of freedom."""
    if isinstance(noise, Residuals):
        return list(noise.parts), True, noise.dof
    if isinstance(noise, str):
        from brainmap.rsa.normalize import run_residuals

        one_of(noise, ("runs",), "searchlight noise")
        residuals, freedom = run_residuals(_as_dataset(data))
        if freedom < 1:
            raise InputError(f"searchlight: the runs leave {freedom} degrees of freedom for noise, wanted 1 or more")
        return [residuals], False, freedom
    parts = [noise] if isinstance(noise, np.ndarray) and noise.ndim == 2 else [np.asarray(part) for part in noise]
    bad = [str(part.shape) for part in parts if part.ndim != 2 or len(part) < 2]
    if bad or not parts:
        raise InputError(
            f"searchlight: noise of shape {some(bad) if bad else '(0,)'}, wanted residuals (n_volumes, n_voxels) of "
            "two volumes or more (one array, or one a run), or one standard deviation a channel (n_channels,)"
        )
    return parts, False, None


def _as_dataset(data: Any) -> Any:
    """An array of patterns with its runs named, as `run_residuals` reads them."""
    if hasattr(data, "measurements"):
        return data
    from rsatoolbox.data.dataset import Dataset

    x = np.asarray(data, dtype=np.float64)
    n_runs, n_items = (1, len(x)) if x.ndim == 2 else x.shape[:2]
    described = {"condition": np.tile(np.arange(n_items), n_runs), "run": np.repeat(np.arange(n_runs), n_items)}
    return Dataset(x.reshape(n_runs * n_items, -1), obs_descriptors=described)


def _run_order(noise: Any, data: Any, n_parts: int, n_runs: int) -> list[int]:
    """The part that belongs to each prepared run: parts are sorted as `compute_rdms` sorts runs."""
    if isinstance(noise, str) or n_runs < 2 or n_parts != n_runs:
        found = "the runs' own deviations" if isinstance(noise, str) else f"residuals of {n_parts}"
        raise InputError(
            f"searchlight: found {found} for {n_runs} runs, wanted residuals of each run (and two runs or more) for "
            "a noise precision a run; or take pooled=True"
        )
    described = getattr(data, "obs_descriptors", {}).get("run", np.arange(n_runs))
    names = [str(run) for run in np.unique(np.asarray(described))]
    return [names.index(name) for name in sorted(names)]


def _demeaned(part: NDArray[np.floating], columns: NDArray[np.intp]) -> Floats:
    x = np.take(part, columns, axis=1).astype(np.float64, copy=False)
    return np.asarray(x - x.mean(axis=0))


def _deviations(parts: Sequence[NDArray[np.floating]], columns: NDArray[np.intp], dof: float) -> Floats:
    """Noise standard deviation of each of these columns."""
    squares = np.zeros(len(columns))
    for start in range(0, len(columns), 4096):
        some_of = slice(start, start + 4096)
        squares[some_of] = sum((_demeaned(part, columns[some_of]) ** 2).sum(axis=0) for part in parts)
    return np.sqrt(squares / dof)


def _varying(sd: Floats, floor: Floats) -> Floats:
    if not np.isfinite(sd).all():
        raise InputError(
            f"searchlight: the residuals of {np.count_nonzero(~np.isfinite(sd))} usable voxels hold NaN or infinite "
            "values; leave those volumes out"
        )
    flat = np.count_nonzero(~(sd > floor))
    if flat:
        raise InputError(
            f"searchlight: {flat} of {len(sd)} usable voxels do not vary in the residuals; were they masked otherwise? "
            "Leave these voxels out of the mask"
        )
    return sd


def _to_diagonal(x: Floats, covariance: Floats, members: Floats, sd: Floats, dof: float) -> tuple[Floats, Floats]:
    """Schäfer and Strimmer's shrinkage of each neighborhood: covariances are kept by a share, variances whole.

    The sum over pairs of voxels of the mean square of their product is a sum over volumes of squared powers.
    """
    del sd
    n, variance = len(x), np.diagonal(covariance)
    squared = covariance**2 / np.outer(variance, variance)
    np.fill_diagonal(squared, 0.0)
    power = _within(squared, members)
    z = x**2 / (variance * dof)
    fourth = ((z @ members.T) ** 2).sum(axis=0) - members @ (z**2).sum(axis=0)
    gain = n * (n - 1) / dof**2
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(power > 0, gain * (fourth - power / (n - 1)) / power, 1.0)
    share = np.clip(share, 0.0, 1.0)
    return 1.0 - share, share[:, None] * variance


def _to_identity(x: Floats, covariance: Floats, members: Floats, sd: Floats, dof: float) -> tuple[Floats, Floats]:
    """Ledoit and Wolf's shrinkage of each neighborhood to one variance for all, in the voxels' own units."""
    n = len(x)
    own = covariance * np.outer(sd, sd) * (dof / n)
    power = _within(own**2, members)
    trace = members @ np.diagonal(own)
    size = members.sum(axis=1)
    spread = (((x**2 * sd**2) @ members.T) ** 2).sum(axis=0)
    apart = power - trace**2 / size
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(apart > 0, np.minimum((spread / n - power) / n / apart, 1.0), 1.0)
    return 1.0 - share, np.outer(share * trace / size * (n / dof), sd**-2)


def _within(values: Floats, members: Floats) -> Floats:
    """The sum of `values` (n_voxels, n_voxels) over all pairs of each neighborhood's voxels."""
    return np.asarray(np.einsum("pv,pv->p", members @ values, members))


def _sets(x: Floats, n_covariances: int) -> tuple[Floats, NDArray[np.int64], tuple[int, int]]:
    """Patterns as sets that one covariance whitens, its two sources, and the shape (n_runs, n_items) of the rows.

    With a covariance a run each pair of runs is a set: as if the pairs' voxels were all different voxels of two
    runs, scaled so that the mean over pairs is the mean over voxels.
    """
    n_voxels, n_runs, n_items = x.shape
    if n_covariances == 1:
        return x.reshape(1, n_voxels, -1), np.zeros((1, 2), dtype=np.int64), (n_runs, n_items)
    pairs = np.array(list(combinations(range(n_runs), 2)))
    sets = x[:, pairs].transpose(1, 0, 2, 3).reshape(len(pairs), n_voxels, 2 * n_items)
    return np.ascontiguousarray(sets) * np.sqrt(len(pairs)), pairs, (2, n_items)


def _symmetric(
    x: Floats, patches: NDArray[np.int32], noise: tuple[Floats, Floats, Floats], sd: Floats, minimum: int
) -> Iterator[tuple[Floats, NDArray[np.int32], int]]:
    """Neighborhoods one by one, whitened by the symmetric root of the precision (Walther et al. 2016)."""
    covariance, kept, ridge = noise
    for row, patch in enumerate(patches):
        near = patch[patch >= 0]
        table = np.full((1, patches.shape[1]), -1, dtype=np.int32)
        if len(near) < minimum:
            yield x[:0], table, 0
            continue
        own = kept[row] * covariance[np.ix_(near, near)] + np.diag(ridge[row, near])
        values, vectors = np.linalg.eigh(own * np.outer(sd[near], sd[near]))
        if not values[0] > 1e-12 * values[-1]:
            yield x[:0], table, 1
            continue
        root = (vectors / np.sqrt(values)) @ vectors.T
        table[0, : len(near)] = np.arange(len(near))
        white = np.tensordot(root, x[near] * sd[near, None, None], axes=1)
        yield np.ascontiguousarray(white), table, 0
