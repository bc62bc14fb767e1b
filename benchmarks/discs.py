"""Discs on fsaverage5 against scipy's Dijkstra and an exact geodesic peer: equal distances, one thread, CPU time.

Discs of 10 mm around the vertices of the left hemisphere. scipy's `dijkstra(limit=)` gives a dense row a vertex, so it
runs on every eighth. The peer for geodesics, pygeodesic (`pip install pygeodesic`), knows no limit and runs on a few.

    python benchmarks/discs.py [--rounds 5] [--radius 10]
"""

from __future__ import annotations

import argparse
import os
import statistics
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before BLAS is loaded

import numpy as np  # noqa: E402
from clock import cpu_seconds, in_turn  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from scipy.sparse import coo_matrix  # noqa: E402
from scipy.sparse.csgraph import dijkstra  # noqa: E402

from brainmap.rsa.surface.discs import Discs, discs_on  # noqa: E402
from brainmap.rsa.surface.meshes import load_mesh, measure_edges, mesh_edges  # noqa: E402


def largest_difference(discs: Discs, rows: NDArray[np.float64], centers: NDArray[np.intp], radius: float) -> float:
    """Between the members' distances and a peer's rows of distances to all vertices; infinite where members differ."""
    worst = 0.0
    for row, center in zip(rows, centers, strict=True):
        own = slice(discs.starts[center], discs.starts[center + 1])
        if own.stop - own.start < np.count_nonzero(row <= radius - 1e-9):
            return float("inf")
        worst = max(worst, float(np.abs(row[discs.members[own]] - discs.distances[own]).max()))
    return worst


def line(name: str, theirs: float, mine: float) -> str:
    """A peer's seconds a disc, and how many times ours they are."""
    return f"  {name:<11} {theirs * 1e6:8.1f} us a disc: {theirs / mine:.1f} x"


def main() -> None:
    """Both metrics against their peers, and the largest difference of distances."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--radius", type=float, default=10.0, help="mm")
    given = parser.parse_args()
    mesh, radius = load_mesh("fsaverage5").side("left"), given.radius
    n = len(mesh.points)
    edges = mesh_edges(mesh)
    graph = coo_matrix((measure_edges(mesh), edges.T), shape=(n, n)).tocsr()
    some = np.arange(0, n, 8)

    def along() -> Discs:
        return discs_on(mesh, radius_mm=radius)

    def across() -> Discs:
        return discs_on(mesh, radius_mm=radius, metric="geodesic")

    def scipys() -> Any:
        return dijkstra(graph, directed=False, indices=some, limit=radius)

    discs, exact, rows = along(), across(), scipys()  # kernels are compiled, or read from their cache
    times = in_turn({"along": along, "across": across, "scipy": scipys}, given.rounds)
    mine, straight, theirs = (statistics.median(times[name]) for name in ("along", "across", "scipy"))
    print(f"discs of {radius:g} mm on fsaverage5, {n} vertices, {discs.sizes().mean():.0f} members on average")
    print(f"  along edges {mine / n * 1e6:8.1f} us a disc ({mine:.2f} s in all)")
    print(line("scipy", theirs / len(some), mine / n), end=", ")
    print(f"differs by {largest_difference(discs, rows, some, radius):.1e}")
    print(f"  geodesic    {straight / n * 1e6:8.1f} us a disc ({straight:.2f} s in all)")
    try:
        from pygeodesic.geodesic import PyGeodesicAlgorithmExact
    except ImportError as error:
        print(f"  pygeodesic  skipped: {error} (pip install pygeodesic to race it)")
        return
    few = np.arange(0, n, n // 12)
    peer = PyGeodesicAlgorithmExact(mesh.points, mesh.triangles.astype(np.int32))
    took, far = cpu_seconds(lambda: np.array([peer.geodesicDistances([c], None)[0] for c in few]))
    print(line("pygeodesic", took / len(few), straight / n), end=" (to all vertices), ")
    print(f"differs by {largest_difference(exact, far, few, radius):.1e}")


if __name__ == "__main__":
    main()
