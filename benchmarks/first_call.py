"""What compiled kernels cost a call: the first time ever, and in every later process, where they are read from disk.

Each call runs in a fresh process with an empty cache, then in others with the cache that the first one left. Told are
the CPU seconds that the first call in a process takes more than a second call there: compiling, or loading. Packages
are imported before. Wanted: at most 15 s the first time ever, and 1 s after.

    python benchmarks/first_call.py [NAME ...] [--repeats 3]
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MOST_FIRST, MOST_LATER = 15.0, 1.0
LABELS = list("abcdefgh")


def searchlight(**how: Any) -> Callable[[], Any]:
    """A searchlight over a small box of voxels, in three runs."""
    import nibabel as nib
    import numpy as np

    from brainmap import rsa

    rng = np.random.default_rng(0)
    patterns = rng.normal(size=(3, 8, 125))
    model = rsa.compute_rdms(patterns[0], descriptors={"stimulus_id": LABELS, "layer": "conv1"})
    mask = nib.Nifti1Image(np.ones((5, 5, 5), dtype=np.float32), np.diag([3.0, 3, 3, 1]))
    if "noise" in how:
        how["noise"] = rng.normal(size=(60, 125))
    search = rsa.searchlight
    return lambda: search(patterns, model, mask=mask, labels=LABELS, radius_mm=6.0, threads=1, **how)


def comparison(measure: str) -> Callable[[], Any]:
    """Every RDM with every other."""
    from brainmap import rsa

    rdms, compare = some_rdms(), rsa.compare_rdms
    return lambda: compare(rdms, rdms, measure=measure)


def bootstrap(measure: str) -> Callable[[], Any]:
    """Over participants and conditions."""
    import numpy as np

    from brainmap import rsa

    rdms, resample = some_rdms(), rsa.bootstrap
    return lambda: resample(rdms, rdms, over="both", n=100, measure=measure, rng=np.random.default_rng(0))


def group(correction: str) -> Callable[[], Any]:
    """Maps of eight participants, flips enumerated."""
    import nibabel as nib
    import numpy as np

    from brainmap import rsa

    rng = np.random.default_rng(0)
    maps = [{"a": nib.Nifti1Image(rng.normal(size=(6, 6, 6)).astype(np.float32), np.eye(4))} for _ in range(8)]
    test = rsa.group_test
    return lambda: test(maps, correction=correction, permutations=100, rng=np.random.default_rng(0))


def discs(metric: str) -> Callable[[], Any]:
    """Discs on a closed mesh of some hundred vertices."""
    import numpy as np
    from scipy.spatial import ConvexHull

    from brainmap.rsa.surface.discs import discs_on
    from brainmap.rsa.surface.meshes import Mesh

    rng = np.random.default_rng(0)
    points = rng.normal(size=(300, 3))
    points *= 50.0 / np.linalg.norm(points, axis=1)[:, None]
    mesh = Mesh(points, ConvexHull(points).simplices, (300, 0), "ball")
    return lambda: discs_on(mesh, radius_mm=15.0, metric=metric)


def some_rdms() -> Any:
    """Six RDMs of noise."""
    import numpy as np
    from rsatoolbox.rdm import RDMs

    return RDMs(
        np.random.default_rng(0).random((6, 28)),
        descriptors={"level": "stimulus"},
        rdm_descriptors={"name": [f"m{k}" for k in range(6)]},
        pattern_descriptors={"stimulus_id": LABELS},
    )


CALLS: dict[str, tuple[Callable[..., Callable[[], Any]], dict[str, Any]]] = {
    "searchlight": (searchlight, {}),
    "searchlight tau-a": (searchlight, {"measure": "tau-a"}),
    "searchlight corr_cov": (searchlight, {"measure": "corr_cov"}),
    "searchlight crossnobis": (searchlight, {"dissimilarity": "crossnobis"}),
    "searchlight noise per sphere": (searchlight, {"dissimilarity": "crossnobis", "noise": True}),
    "compare spearman": (comparison, {"measure": "spearman"}),
    "compare tau-a": (comparison, {"measure": "tau-a"}),
    "bootstrap spearman": (bootstrap, {"measure": "spearman"}),
    "group max-t": (group, {"correction": "max-t"}),
    "group tfce": (group, {"correction": "tfce"}),
    "group cluster-mass": (group, {"correction": "cluster-mass"}),
    "discs along edges": (discs, {"metric": "dijkstra"}),
    "discs exact": (discs, {"metric": "geodesic"}),
}


def alone(name: str) -> float:
    """Seconds that the first call in this process takes more than the second."""
    make, how = CALLS[name]
    for module in ("numba", "pandas", "scipy.linalg", "scipy.ndimage", "scipy.stats"):
        importlib.import_module(module)
    work, times = make(**how), []
    for _ in range(2):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return times[0] - times[1]


def first_and_later(name: str, repeats: int) -> tuple[float, float]:
    """Seconds the first time ever, and in later processes (the median of `repeats`)."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        found = []
        for _ in range(1 + repeats):
            asked = [sys.executable, str(Path(__file__)), "--alone", name]
            said = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True).stdout
            found.append(float(said.split()[-1]))
    return found[0], statistics.median(found[1:])


def main() -> None:
    """A line a call: what compiling costs, and what loading it again costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(CALLS)}; default: all")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in CALLS]
    if unknown:
        parser.error(f"found {', '.join(unknown)}, wanted of {', '.join(CALLS)}")
    if given.alone:
        print(alone(given.alone))
        return
    print(f"{'':<30} first time  later (wanted: {MOST_FIRST:g} s, {MOST_LATER:g} s)")
    for name in given.names or CALLS:
        first, later = first_and_later(name, given.repeats)
        within = first <= MOST_FIRST and later <= MOST_LATER
        print(f"{name:<30} {first:8.2f} s {later:6.2f} s{'' if within else '   over'}", flush=True)


if __name__ == "__main__":
    main()
