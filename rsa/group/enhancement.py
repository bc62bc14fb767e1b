"""Enhance maps by their spatial neighborhood: threshold-free cluster enhancement (TFCE) and cluster mass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from brainmap.checks import check_ranges
from brainmap.errors import InputError
from brainmap.rsa.group.adjacency import Neighbors
from brainmap.types import ClusterEnhancement, Floats

EXTENT, HEIGHT = 0.5, 2.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Enhancement:
    """Define the enhanced statistic whose maximum is taken under each sign flip.

    Attributes
    ----------
    kind : {"tfce", "cluster-mass"}
    neighbors : Neighbors
        The graph of the places of one map.
    cluster_p : float
        The cluster-forming threshold, as an uncorrected p of t (cluster mass only).
    powers : (float, float)
        The powers of extent and height (TFCE only).
    """

    kind: ClusterEnhancement
    neighbors: Neighbors
    cluster_p: float = 0.001
    powers: tuple[float, float] = (EXTENT, HEIGHT)

    def kernel(self, n_participants: int, two_sided: bool) -> Callable[[Floats, Floats], Floats]:
        """Return a function of t maps `(n_maps, n_places)` and a buffer for one map that computes each map's maximum.

        Raises
        ------
        InputError
            `cluster_p` is not a valid p.
        """
        from brainmap.rsa.group.cluster_kernels import enhance_rows, sum_mass_rows

        graph = self.neighbors.graph
        if self.kind == "tfce":
            powers = (float(self.powers[0]), float(self.powers[1]))
            return lambda maps, out: enhance_rows(maps, graph, powers, two_sided, out)
        height = compute_cluster_threshold(self.cluster_p, n_participants, two_sided=two_sided)
        return lambda maps, out: sum_mass_rows(maps, graph, height, two_sided, out)


def compute_cluster_threshold(cluster_p: float, n_participants: int, *, two_sided: bool) -> float:
    """Compute the t over participants whose uncorrected p is `cluster_p`.

    Examples
    --------
    >>> round(compute_cluster_threshold(0.001, 12, two_sided=False), 3)
    4.025
    """
    from scipy.stats import t

    check_ranges("group_test", ("cluster_p between 0 and .5", cluster_p, 0 < cluster_p < 0.5))
    return float(t.isf(cluster_p / 2 if two_sided else cluster_p, n_participants - 1))


def tfce(values: ArrayLike, neighbors: Neighbors, *, extent: float = EXTENT, height: float = HEIGHT) -> Floats:
    """Compute threshold-free cluster enhancement (TFCE), the integral of extent(h)^E h^H dh from 0 to each value.

    extent(h) is the extent of the cluster that contains the place when the map is thresholded at h. The integral is
    exact, since extents are constant between two values of the map, and needs no step size. (Tools that sum 100 steps
    of the largest value depend on the step, and those that omit the factor dh give larger numbers by the factor 1/dh.)

    Parameters
    ----------
    values : array_like (n_places,)
        Values below 0 are enhanced separately, with results below 0; NaN is missing and stays NaN.
    neighbors : Neighbors
        The graph of these places.
    extent, height : float
        The powers E and H; .5 and 2 are usual for volumes.

    Returns
    -------
    ndarray (n_places,)
        NaN where values are missing.

    Raises
    ------
    InputError
        The number of places differs, values are infinite, or powers are below 0.

    References
    ----------
    Smith and Nichols 2009, doi:10.1016/j.neuroimage.2008.03.061

    Examples
    --------
    A cluster of two places with height 3 has the TFCE 3^3 / 3 times the square root of its extent.

    >>> from brainmap.rsa.group.adjacency import edge_neighbors
    >>> tfce([3.0, 3.0, 0.0], edge_neighbors([[0, 1], [1, 2]], 3)).round(3).tolist()
    [12.728, 12.728, 0.0]
    """
    check_ranges(
        "tfce", ("an extent of 0 or more", extent, extent >= 0), ("a height of 0 or more", height, height >= 0)
    )
    kind = Enhancement(kind="tfce", neighbors=neighbors, powers=(extent, height))
    return _enhance_map(values, neighbors, kind.kernel(2, True), "tfce")


def cluster_mass(values: ArrayLike, neighbors: Neighbors, *, threshold: float) -> Floats:
    """Compute the mass of the cluster of each place: the sum over the cluster of (value - threshold) * size.

    Parameters
    ----------
    values : array_like (n_places,)
        Values below -threshold form clusters whose mass is below 0; NaN is missing and stays NaN.
    neighbors : Neighbors
    threshold : float
        The cluster-forming threshold, 0 or more, which values must exceed.

    Returns
    -------
    ndarray (n_places,)
        0 outside clusters, NaN where values are missing.

    Raises
    ------
    InputError
        The number of places differs, values are infinite, or the threshold is below 0.

    References
    ----------
    Bullmore et al. 1999, doi:10.1109/42.750253

    Examples
    --------
    >>> from brainmap.rsa.group.adjacency import edge_neighbors
    >>> cluster_mass([3.0, 4.0, 1.0, -5.0], edge_neighbors([[0, 1], [1, 2], [2, 3]], 4), threshold=2.5).tolist()
    [2.0, 2.0, 0.0, -2.5]
    """
    from brainmap.rsa.group.cluster_kernels import sum_mass_rows

    check_ranges("cluster_mass", ("a threshold of at least 0", threshold, threshold >= 0))
    height = float(threshold)
    return _enhance_map(
        values, neighbors, lambda maps, out: sum_mass_rows(maps, neighbors.graph, height, True, out), "cluster_mass"
    )


def _enhance_map(values: ArrayLike, neighbors: Neighbors, kernel: Callable[[Floats, Floats], Any], what: str) -> Floats:
    given = np.asarray(values, np.float64)
    if given.shape != (len(neighbors),):
        raise InputError(f"{what}: expected shape ({len(neighbors)},), one value per place, got {given.shape}")
    if np.isinf(given).any():
        raise InputError(
            f"{what}: expected finite values or NaN, got {np.count_nonzero(np.isinf(given))} infinite ones"
        )
    out = np.empty_like(given)
    kernel(np.nan_to_num(given)[None], out)
    out[np.isnan(given)] = np.nan
    return out
