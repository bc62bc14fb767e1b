"""Reduce wide layers by sparse random projection, or by principal components that are fitted batch by batch.

Representational geometry consists of the distances between items. A random projection keeps all of them within a few
percent, whatever the data (Johnson-Lindenstrauss); principal components keep the largest part of the variance. Neither
method holds a layer of all items in memory, nor a dense projection matrix of units x dimensions.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Protocol, get_args

import numpy as np
import scipy
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_ranges
from brainmap.errors import InputError, RunError
from brainmap.types import ReductionKind

Rows = NDArray[np.floating[Any]]

_OVERSAMPLE = 2  # directions kept while fitting, for each one asked for: a late direction may turn out to matter


@dataclass(frozen=True, kw_only=True)
class Reduction:
    """Describe how the units of a layer are reduced to fewer dimensions.

    Attributes
    ----------
    kind : {"sparse-projection", "pca"}
        Very sparse random projection (Li 2006; Achlioptas 2003 with `density` 1/3), or incremental PCA.
    dimensions : int, optional
        By default, a projection has as many as the lemma of Johnson and Lindenstrauss requires for `tolerance` and the
        number of items, and PCA has 50. A layer with no more units than that is kept as it is.
    tolerance : float
        Largest relative error of squared distances, 0 to 1, for a projection without `dimensions`.
    density : float, optional
        Share of entries of a projection that are not zero; by default 1 / sqrt(n_units).
    seed : int
        Seed of the projection. Each layer has its own random stream, so that batches and the order of layers do not
        matter and the same layer is projected alike for another set of sounds.

    References
    ----------
    Li P, Hastie TJ, Church KW (2006), very sparse random projections: doi:10.1145/1150402.1150436.
    Achlioptas D (2003): doi:10.1016/S0022-0000(03)00025-4.
    Ross DA et al. (2008), incremental PCA: doi:10.1007/s11263-007-0075-7.
    """

    kind: ReductionKind = "sparse-projection"
    dimensions: int | None = None
    tolerance: float = 0.1
    density: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice(self.kind, get_args(ReductionKind), "reduction")
        check_ranges(
            "reduction",
            ("dimensions of at least 1", self.dimensions, self.dimensions is None or self.dimensions >= 1),
            ("a tolerance above 0 and below 1", self.tolerance, 0 < self.tolerance < 1),
            ("a density above 0 and at most 1", self.density, self.density is None or 0 < self.density <= 1),
            ("a seed of 0 or more", self.seed, self.seed >= 0),
        )

    def wanted(self, n_items: int) -> int:
        """Return the number of dimensions asked for, given the number of items."""
        if self.dimensions is not None:
            return self.dimensions
        return 50 if self.kind == "pca" else compute_projection_dimensions(n_items, tolerance=self.tolerance)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, for attributes and keys."""
        return asdict(self)


def compute_projection_dimensions(n_items: int, *, tolerance: float = 0.1) -> int:
    """Compute the dimensions that keep all squared distances within `tolerance`: k = 4 ln n / (t^2 / 2 - t^3 / 3).

    References
    ----------
    Dasgupta S, Gupta A (2003): doi:10.1002/rsa.10073.

    Examples
    --------
    >>> compute_projection_dimensions(1000, tolerance=0.1)
    5920
    """
    return max(1, math.floor(4 * math.log(max(n_items, 2)) / (tolerance**2 / 2 - tolerance**3 / 3)))


class Reducer(Protocol):
    """Reduce rows `(n, n_units)` to `(n, n_dimensions)` after fitting."""

    passes: int  # passes over the sounds before rows can be reduced

    def fit(self, rows: Rows) -> None: ...

    def finish(self) -> None: ...

    def transform(self, rows: Rows) -> Rows: ...

    def about(self) -> dict[str, Any]: ...


def make_reducer(reduction: Reduction, layer: str, *, n_items: int, n_units: int) -> Reducer | None:
    """Build the reducer of one layer; return None where the layer has no more units than the dimensions asked for.

    Raises
    ------
    InputError
        More principal components than items.
    """
    dimensions = reduction.wanted(n_items)
    if dimensions >= n_units:
        return None
    if reduction.kind == "pca":
        if dimensions > n_items:
            raise InputError(
                f"reduction: {dimensions} principal components of {n_items} sounds; ask for at most {n_items}, or "
                "take sparse-projection"
            )
        return IncrementalPCA(dimensions)
    rng = np.random.default_rng([reduction.seed, *layer.encode()])
    return SparseProjection(n_units, dimensions, density=reduction.density, rng=rng)


class SparseProjection:
    """Project rows with a sparse random matrix: a share of entries is +v or -v, v = 1 / sqrt(share * k), others are 0.

    Parameters
    ----------
    n_units, n_dimensions : int
    density : float, optional
        Share of entries that are not zero; 1 / sqrt(n_units) by default.
    rng : numpy.random.Generator

    Attributes
    ----------
    matrix : scipy.sparse.csr_array float32 (n_dimensions, n_units)

    Examples
    --------
    >>> rows = np.random.default_rng(0).standard_normal((2, 4000), np.float32)
    >>> found = SparseProjection(4000, 500, rng=np.random.default_rng(1)).transform(rows)
    >>> found.shape, bool(abs(((found[0] - found[1]) ** 2).sum() / ((rows[0] - rows[1]) ** 2).sum() - 1) < 0.2)
    ((2, 500), True)
    """

    passes = 0

    def __init__(
        self, n_units: int, n_dimensions: int, *, density: float | None = None, rng: np.random.Generator
    ) -> None:
        self.density = n_units**-0.5 if density is None else density
        places = _draw_places(n_units * n_dimensions, self.density, rng)
        value = np.float32(1 / math.sqrt(self.density * n_dimensions))
        values = np.where(rng.random(len(places)) < 0.5, value, -value)
        starts = np.searchsorted(places, np.arange(n_dimensions + 1) * n_units)
        self.matrix = scipy.sparse.csr_array((values, places % n_units, starts), shape=(n_dimensions, n_units))

    def fit(self, rows: Rows) -> None:
        """Do nothing, since a projection is not fitted."""

    def finish(self) -> None:
        """Do nothing, since a projection is not fitted."""

    def transform(self, rows: Rows) -> Rows:
        """Project rows `(n, n_units)` to `(n, n_dimensions)`."""
        return np.ascontiguousarray((self.matrix @ np.ascontiguousarray(rows.T)).T)

    def about(self) -> dict[str, Any]:
        """Describe the reduction for whoever reads the numbers."""
        return {"density": self.density}


def _draw_places(n: int, share: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw the places of the successes in `n` Bernoulli trials, from the geometric gaps between them."""
    places = [np.full(1, -1, np.int64)]
    while places[-1][-1] < n:
        left = n - int(places[-1][-1])
        gaps = rng.geometric(share, size=int(left * share + 4 * math.sqrt(left * share) + 16))
        places.append(places[-1][-1] + np.cumsum(gaps))
    found = np.concatenate(places[1:]) if len(places) > 1 else places[0]
    return found[found < n]


class IncrementalPCA:
    """Fit principal components to rows that come in batches; memory grows with units x components, not with rows.

    Twice the components asked for are kept while fitting, so that a direction that grows late is not lost. Where the
    rows have no more dimensions than that, the result equals the full PCA but for rounding; otherwise it is close to it
    where the variance decays. Each component is signed so that its largest entry is positive.


    Parameters
    ----------
    n_components : int
    """

    passes = 1

    def __init__(self, n_components: int) -> None:
        self.n_components = n_components
        self.n_seen = 0
        self.mean: NDArray[np.float64] = np.empty(0)
        self.scatter = 0.0  # total sum of squares around the mean
        self.strengths: NDArray[np.float64] = np.empty(0)  # singular values
        self.components: NDArray[np.float64] = np.empty((0, 0))

    def fit(self, rows: Rows) -> None:
        """Update the fit with the next rows `(n, n_units)`."""
        new = np.asarray(rows, dtype=float)
        n, center = len(new), new.mean(axis=0)
        new = new - center
        self.scatter += float(np.square(new).sum())
        stack = [new]
        if self.n_seen:
            shift = math.sqrt(self.n_seen * n / (self.n_seen + n)) * (center - self.mean)
            self.scatter += float(shift @ shift)
            stack = [self.strengths[:, None] * self.components, new, shift[None]]
            self.mean += (center - self.mean) * (n / (self.n_seen + n))
        else:
            self.mean = center
        self.n_seen += n
        _, strengths, components = np.linalg.svd(np.concatenate(stack), full_matrices=False)
        kept = _OVERSAMPLE * self.n_components
        self.strengths, self.components = strengths[:kept], components[:kept].copy()

    def finish(self) -> None:
        """Keep only the components asked for.

        Raises
        ------
        RunError
            Fewer rows came than there are components.
        """
        found = self.components[: self.n_components]
        if len(found) < self.n_components:
            raise RunError(f"reduction: {self.n_seen} rows came for {self.n_components} principal components")
        largest = np.take_along_axis(found, np.abs(found).argmax(axis=1)[:, None], axis=1)
        self.components = found * np.where(largest < 0, -1.0, 1.0)
        self.strengths = self.strengths[: self.n_components]

    def transform(self, rows: Rows) -> Rows:
        """Compute the scores of rows `(n, n_units)`: `(n, n_components)`."""
        return np.asarray((np.asarray(rows, dtype=float) - self.mean) @ self.components.T)

    @property
    def explained_variance_ratio(self) -> NDArray[np.float64]:
        """Return the share of the variance along each component."""
        return np.square(self.strengths) / (self.scatter or 1.0)

    def about(self) -> dict[str, Any]:
        """Describe the reduction for whoever reads the numbers."""
        return {"explained_variance_ratio": self.explained_variance_ratio.tolist()}
