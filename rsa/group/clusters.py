"""Find clusters of maps: enhance each place by those around it, and describe the clusters that are significant."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from brainmap.errors import InputError
from brainmap.rsa.group.places import Neighbors, Places
from brainmap.rsa.regions.rois import Rois
from brainmap.types import ClusterEnhancement, Floats

EXTENT, HEIGHT = 0.5, 2.0
"""The powers of extent and height that Smith and Nichols (2009) recommend for volumes."""


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

    if not 0 < cluster_p < 0.5:
        raise InputError(f"group_test: expected cluster_p between 0 and .5, got {cluster_p}")
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

    >>> from brainmap.rsa.group.places import edge_neighbors
    >>> tfce([3.0, 3.0, 0.0], edge_neighbors([[0, 1], [1, 2]], 3)).round(3).tolist()
    [12.728, 12.728, 0.0]
    """
    if not (extent >= 0 and height >= 0):
        raise InputError(f"tfce: expected powers of at least 0, got extent={extent}, height={height}")
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
    >>> from brainmap.rsa.group.places import edge_neighbors
    >>> cluster_mass([3.0, 4.0, 1.0, -5.0], edge_neighbors([[0, 1], [1, 2], [2, 3]], 4), threshold=2.5).tolist()
    [2.0, 2.0, 0.0, -2.5]
    """
    from brainmap.rsa.group.cluster_kernels import sum_mass_rows

    if not threshold >= 0:
        raise InputError(f"cluster_mass: expected a threshold of at least 0, got {threshold}")
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


CLUSTER_COLUMNS = {
    "model": "name of the map",
    "cluster": "number within the map, the largest first",
    "peak": "number within the cluster: 1 is its peak, others are further maxima",
    "hemisphere": "side of the brain",
    "vertex": "peak, counted from 0 in its hemisphere",
    "place": "peak, counted from 0",
    "x": "peak, right is positive (RAS) [mm]",
    "y": "peak, anterior is positive (RAS) [mm]",
    "z": "peak, superior is positive (RAS) [mm]",
    "x_rai": "peak in AFNI's default order, left is positive (RAI) [mm]",
    "y_rai": "peak in AFNI's default order, posterior is positive (RAI) [mm]",
    "z_rai": "peak in AFNI's default order, superior is positive (RAI) [mm]",
    "voxels": "size, significant voxels of one sign that touch",
    "vertices": "size, significant vertices of one sign that share edges",
    "places": "size, significant places of one sign that touch",
    "volume": "size [mm3]",
    "area": "size, a third of the area of the triangles at each vertex [mm2]",
    "mean": "mean over participants at the peak",
    "statistic": "t over participants at the peak",
    "tfce": "threshold-free cluster enhancement of t at the peak",
    "mass": "sum over the cluster (formed by the t of one place) of what t exceeds that threshold by",
    "p_corrected": "corrected p at the peak",
    "peak_roi": "region at the peak",
    "rois": "regions that the cluster lies in, each with its share of the cluster",
}
"""Descriptions of the columns; a table has those that apply to its maps."""


def build_cluster_table(
    results: Mapping[str, Floats],
    significant: NDArray[np.bool_],
    *,
    names: tuple[str, ...],
    tested: NDArray[np.intp],
    places: Places,
    neighbors: Neighbors,
    rois: Rois | None = None,
    peak_distance: float | None = None,
) -> pd.DataFrame:
    """Build a table with one row per cluster, the largest first, each followed by its further local maxima.

    A cluster is a connected set of significant places with the same sign.

    Parameters
    ----------
    results : mapping of column to ndarray (n_maps, n_tested)
        `statistic`, and the other maps whose values at the peak are listed.
    significant : ndarray of bool (n_maps, n_tested)
    names : tuple of str
        The names of the maps.
    tested : ndarray of int (n_tested,)
        The indices of the tested places in the whole map.
    places : Places
        The space of the whole map.
    neighbors : Neighbors
        The graph of the tested places.
    rois : Rois, optional
        Labels of the whole map's places.
    peak_distance : float, optional [mm]
        Also list a cluster's further local maxima that are at least this far from its higher ones.
    """
    labels = None if rois is None else rois.labels.ravel()[tested]
    rows: list[dict[str, Any]] = []
    for m, name in enumerate(names):
        height = np.abs(results["statistic"][m])
        for number, members in enumerate(_find_clusters(significant[m], results["statistic"][m], neighbors), 1):
            size = {places.whole: members.size, **places.extent(float(neighbors.sizes[members].sum()))}
            for k, peak in enumerate(_find_peaks(members, height, neighbors, places, tested, peak_distance), 1):
                rows.append(
                    {"model": name, "cluster": number, "peak": k}
                    | places.peak(int(tested[peak]))
                    | size
                    | {key: float(rows_of[m, peak]) for key, rows_of in results.items()}
                    | ({} if rois is None or labels is None else _label_peak(rois.names, labels, members, peak))
                )
    table = pd.DataFrame(rows)
    known = places.peak(int(tested[0])) | {places.whole: 0} | places.extent(1.0) | dict.fromkeys(results)
    known |= {"model": "", "cluster": 0, "peak": 0} | ({} if rois is None else {"peak_roi": "", "rois": ""})
    return table.reindex(columns=[column for column in CLUSTER_COLUMNS if column in known])


def _find_clusters(significant: NDArray[np.bool_], statistic: Floats, neighbors: Neighbors) -> list[NDArray[np.intp]]:
    """Return the places of each cluster, with the largest cluster first."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    sets: list[NDArray[np.intp]] = []
    for sign in (1, -1):
        chosen = significant & (sign * statistic > 0)
        inside = neighbors.within(chosen)
        links = (np.ones(len(inside.others), np.int8), inside.others, inside.starts)
        n, number = connected_components(csr_array(links, shape=(len(inside), len(inside))), directed=False)
        order = np.argsort(number, kind="stable")
        places = np.flatnonzero(chosen)[order]
        sets += np.split(places, np.searchsorted(number[order], np.arange(1, n)))[:n]
    return sorted(sets, key=len, reverse=True)


def _find_peaks(
    members: NDArray[np.intp],
    height: Floats,
    neighbors: Neighbors,
    places: Places,
    tested: NDArray[np.intp],
    apart: float | None,
) -> Iterator[int]:
    """Yield the highest place, and if a distance is given the other local maxima in descending order."""
    order = members[np.argsort(-height[members], kind="stable")]
    yield int(order[0])
    points = [places.point(int(tested[order[0]]))]
    if apart is None or points[0] is None:
        return
    inside = set(members.tolist())
    for place in order[1:]:
        around = [int(other) for other in neighbors.of(int(place)) if int(other) in inside]
        if any(height[other] > height[place] for other in around):
            continue
        point = places.point(int(tested[place]))
        if all(np.linalg.norm(point - known) >= apart for known in points):  # type: ignore[operator]
            points.append(point)
            yield int(place)


def _label_peak(
    names: tuple[str, ...], labels: NDArray[Any], members: NDArray[np.intp], peak: int
) -> dict[str, str | None]:
    """Return the region at the peak, and the share of the cluster in each region."""
    counts = np.bincount(labels[members], minlength=len(names) + 1)
    order = [k for k in np.argsort(-counts, kind="stable") if k and counts[k]]
    shares = ", ".join(f"{names[k - 1]} {100 * counts[k] / members.size:.0f} %" for k in order)
    return {"peak_roi": names[labels[peak] - 1] if labels[peak] else None, "rois": shares or None}
