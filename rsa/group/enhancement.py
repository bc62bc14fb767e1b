"""What a map's values say together with their neighbors': threshold-free cluster enhancement, cluster mass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainmap.errors import InputError
from brainmap.rsa.group.adjacency import Neighbors

Floats = NDArray[np.float64]
EXTENT, HEIGHT = 0.5, 2.0
"""The powers of Smith and Nichols 2009, for volumes."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Enhancement:
    """What the largest of which is taken under each flip.

    Attributes
    ----------
    kind : {"tfce", "cluster-mass"}
    neighbors : Neighbors
        Of the places of one map.
    cluster_p : float
        Clusters are made of places whose t alone has a smaller p than this (cluster mass only).
    powers : (float, float)
        Of extent and height (TFCE only).
    """

    kind: Literal["tfce", "cluster-mass"]
    neighbors: Neighbors
    cluster_p: float = 0.001
    powers: tuple[float, float] = (EXTENT, HEIGHT)

    def kernel(self, n_participants: int, two_sided: bool) -> Callable[[Floats, Floats], Floats]:
        """A function of t maps `(n_maps, n_places)` and of room for one map that gives the largest of each.

        Raises
        ------
        InputError
            A `cluster_p` that is no p.
        """
        from brainmap.rsa.group.cluster_kernels import mass_rows, tfce_rows

        graph = self.neighbors.graph
        if self.kind == "tfce":
            powers = (float(self.powers[0]), float(self.powers[1]))
            return lambda maps, out: tfce_rows(maps, graph, powers, two_sided, out)
        height = cluster_threshold(self.cluster_p, n_participants, two_sided=two_sided)
        return lambda maps, out: mass_rows(maps, graph, height, two_sided, out)


def cluster_threshold(cluster_p: float, n_participants: int, *, two_sided: bool) -> float:
    """The t over participants whose p alone is `cluster_p`.

    Examples
    --------
    >>> round(cluster_threshold(0.001, 12, two_sided=False), 3)
    4.025
    """
    from scipy.stats import t

    if not 0 < cluster_p < 0.5:
        raise InputError(f"group_test: found cluster_p={cluster_p}, wanted a p between 0 and .5")
    return float(t.isf(cluster_p / 2 if two_sided else cluster_p, n_participants - 1))


def tfce(values: ArrayLike, neighbors: Neighbors, *, extent: float = EXTENT, height: float = HEIGHT) -> Floats:
    """Threshold-free cluster enhancement: at each place the integral of extent(h)^E h^H dh up to its value.

    extent(h) is that of the cluster a place is in when the map is cut at h. The integral is exact: between two values
    of the map extents are constant, so that there is no step to choose (tools that sum 100 steps of the largest value
    depend on it, and those that leave out the factor dh give numbers that many times larger).

    Parameters
    ----------
    values : array_like (n_places,)
        Values below 0 are enhanced by themselves and come back below 0; NaN is no value, and comes back.
    neighbors : Neighbors
        Of those places.
    extent, height : float
        E and H: .5 and 2 for volumes.

    Raises
    ------
    InputError
        Another number of places, infinite values, powers below 0.

    References
    ----------
    Smith and Nichols 2009, doi:10.1016/j.neuroimage.2008.03.061

    Examples
    --------
    A cluster of two, of height 3: one third of 3 cubed, times the root of its extent.

    >>> from brainmap.rsa.group.adjacency import edge_neighbors
    >>> tfce([3.0, 3.0, 0.0], edge_neighbors([[0, 1], [1, 2]], 3)).round(3).tolist()
    [12.728, 12.728, 0.0]
    """
    if not (extent >= 0 and height >= 0):
        raise InputError(f"tfce: found extent={extent}, height={height}, wanted powers from 0")
    kind = Enhancement(kind="tfce", neighbors=neighbors, powers=(extent, height))
    return _enhanced(values, neighbors, kind.kernel(2, True), "tfce")


def cluster_mass(values: ArrayLike, neighbors: Neighbors, *, threshold: float) -> Floats:
    """The mass of the cluster each place is in: the sum of what its values exceed the threshold by.

    Parameters
    ----------
    values : array_like (n_places,)
        Values under minus the threshold make clusters whose mass is below 0; NaN is no value, and comes back.
    neighbors : Neighbors
    threshold : float
        From 0; a value has to exceed it.

    Raises
    ------
    InputError
        Another number of places, infinite values, a threshold below 0.

    References
    ----------
    Bullmore et al. 1999, doi:10.1109/42.750253

    Examples
    --------
    >>> from brainmap.rsa.group.adjacency import edge_neighbors
    >>> cluster_mass([3.0, 4.0, 1.0, -5.0], edge_neighbors([[0, 1], [1, 2], [2, 3]], 4), threshold=2.5).tolist()
    [2.0, 2.0, 0.0, -2.5]
    """
    from brainmap.rsa.group.cluster_kernels import mass_rows

    if not threshold >= 0:
        raise InputError(f"cluster_mass: found threshold={threshold}, wanted one from 0")
    height = float(threshold)
    return _enhanced(
        values, neighbors, lambda maps, out: mass_rows(maps, neighbors.graph, height, True, out), "cluster_mass"
    )


def _enhanced(values: ArrayLike, neighbors: Neighbors, kernel: Callable[[Floats, Floats], Any], what: str) -> Floats:
    given = np.asarray(values, np.float64)
    if given.shape != (len(neighbors),):
        raise InputError(f"{what}: values of shape {given.shape}, wanted ({len(neighbors)},), one a place")
    if np.isinf(given).any():
        raise InputError(f"{what}: {np.count_nonzero(np.isinf(given))} values are infinite; wanted finite ones or NaN")
    out = np.empty_like(given)
    kernel(np.nan_to_num(given)[None], out)
    out[np.isnan(given)] = np.nan
    return out
