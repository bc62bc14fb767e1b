"""Find clusters of maps: enhance each place by those around it, and describe the clusters that are significant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.rsa.group.adjacency import Neighbors
from brainmap.rsa.group.places import Places
from brainmap.rsa.regions.rois import Rois
from brainmap.types import Floats

"""The powers of extent and height that Smith and Nichols (2009) recommend for volumes."""


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
