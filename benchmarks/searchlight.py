"""Whole-brain searchlight against rsatoolbox and mne-rsa: same spheres, same numbers, one thread, CPU time.

The peers run on a subset of the spheres (spread over the brain) because a whole brain takes them minutes;
brainmap runs on all of them, with everything a call does. Times are CPU time per sphere, median of `--repeats`.

    python benchmarks/searchlight.py [--repeats 5] [--subset 300] [--radius 11.4]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

from brainmap.types import Floats

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before BLAS is loaded

import numpy as np  # noqa: E402
import rsatoolbox  # noqa: E402
from clock import in_turn  # noqa: E402
from nilearn.datasets import load_mni152_brain_mask  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from brainmap.rsa import searchlight  # noqa: E402
from brainmap.rsa.searchlights.spheres import build_spheres  # noqa: E402

ITEMS = 64


def quietly(work: Callable[[], Any]) -> Any:
    """Peers draw progress bars, print and warn; none is part of the race."""
    void = io.StringIO()
    with contextlib.redirect_stdout(void), contextlib.redirect_stderr(void), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return work()


def make(n_models: int, n_items: int = ITEMS) -> tuple[Any, Floats, Any, list[str]]:
    """The mask at 4 mm, patterns of noise, model RDMs, labels."""
    rng = np.random.default_rng(0)
    mask = load_mni152_brain_mask(resolution=4)
    data = rng.normal(size=(n_items, int(np.asarray(mask.dataobj).astype(bool).sum())))
    labels = [f"s{k:03d}" for k in range(n_items)]
    models = rsatoolbox.rdm.RDMs(
        rng.random((n_models, n_items * (n_items - 1) // 2)),
        rdm_descriptors={"name": [f"model{k}" for k in range(n_models)]},
        pattern_descriptors={"stimulus_id": labels},
    )
    return mask, data, models, labels


def by_rsatoolbox(data: Floats, neighbors: list[NDArray[Any]], models: Any, labels: list[str]) -> Floats:
    """Its documented route: an RDM a sphere, then every model on every RDM."""
    from rsatoolbox.inference import eval_fixed
    from rsatoolbox.model import ModelFixed
    from rsatoolbox.util.searchlight import evaluate_models_searchlight, get_searchlight_RDMs

    fixed = [ModelFixed(f"m{k}", models.subset("name", f"model{k}")) for k in range(models.n_rdm)]
    rdms = get_searchlight_RDMs(data, np.arange(len(neighbors)), neighbors, np.array(labels), method="correlation")
    found = evaluate_models_searchlight(rdms, fixed, eval_fixed, method="spearman", n_jobs=1)
    return np.array([np.ravel(one.evaluations) for one in found])


def by_mne_rsa(data: Floats, neighbors: list[NDArray[Any]], models: Any) -> Floats:
    """Its array route with the same spheres as patches."""
    import mne_rsa

    values = mne_rsa.rsa_array(
        data,
        list(models.dissimilarities),
        _Patches(neighbors),
        data_rdm_metric="correlation",
        rsa_metric="spearman",
        n_jobs=1,
        verbose=False,
    )
    return np.asarray(values).reshape(models.n_rdm, len(neighbors)).T


class _Patches:
    """Spheres as mne-rsa wants them: an iterable of index tuples that knows its length and shape."""

    def __init__(self, neighbors: list[NDArray[Any]]) -> None:
        self.neighbors, self.shape = neighbors, (len(neighbors),)

    def __iter__(self) -> Any:
        return iter([(slice(None), voxels) for voxels in self.neighbors])

    def __len__(self) -> int:
        return len(self.neighbors)


def race(n_models: int, radius: float, repeats: int, subset: int) -> None:
    """One line a peer: microseconds a sphere, ratio, largest difference."""
    mask, data, models, labels = make(n_models)
    spheres = build_spheres(np.asarray(mask.dataobj).astype(bool), mask.affine, radius)
    chosen = np.linspace(0, spheres.n_voxels - 1, subset).astype(int)
    neighbors = [row[row >= 0] for row in (spheres.patches(c, c + 1)[0] for c in chosen)]

    def ours() -> Any:
        return searchlight(data, models, mask=mask, labels=labels, radius_mm=radius, minimum_voxels=2, threads=1)

    scores = ours().array[:, chosen].T
    contenders: dict[str, Callable[[], Any]] = {"brainmap": ours}
    off: dict[str, float] = {}
    for name, work in (
        ("rsatoolbox", lambda: quietly(lambda: by_rsatoolbox(data, neighbors, models, labels))),
        ("mne-rsa", lambda: quietly(lambda: by_mne_rsa(data, neighbors, models))),
    ):
        try:
            off[name] = float(np.abs(work() - scores).max())
            contenders[name] = work
        except ImportError as error:
            print(f"  {name:<11} skipped: {error} (pip install mne-rsa to race it)")
    each = {name: subset if name in off else spheres.n_voxels for name in contenders}
    times = in_turn(contenders, repeats)
    took = {name: statistics.median(runs) / each[name] * 1e6 for name, runs in times.items()}
    print(f"{n_models} models, {spheres.n_voxels} spheres of {spheres.n_most} voxels, {ITEMS} conditions")
    print(f"  brainmap    {took['brainmap']:8.1f} us a sphere (all spheres)")
    for name in off:
        print(
            f"  {name:<11} {took[name]:8.1f} us a sphere ({subset} of them): "
            f"{took[name] / took['brainmap']:.1f} x, differs by {off[name]:.1e}"
        )


def threads(radius: float, repeats: int) -> None:
    """Wall time with one and two threads; it says something on idle cores only."""
    mask, data, models, labels = make(12)
    walls = {}
    for n in (1, 2):
        took = []
        for _ in range(repeats):
            start = time.perf_counter()
            searchlight(data, models, mask=mask, labels=labels, radius_mm=radius, threads=n)
            took.append(time.perf_counter() - start)
        walls[n] = min(took)
    print(f"2 threads, 1: {walls[1]:.2f} s / {walls[2]:.2f} s = {walls[1] / walls[2]:.2f} x (wall, best of {repeats})")


def memory(n_items: int, radius: float) -> None:
    """Peak memory above what the imports take, as multiples of the pattern array."""
    mask, data, models, labels = make(2, n_items)
    inside = np.asarray(mask.dataobj).astype(bool)
    small = build_spheres(inside, mask.affine, radius)  # the first call compiles; that is not the searchlight's memory
    assert small.n_voxels == data.shape[1]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    searchlight(data, models, mask=mask, labels=labels, radius_mm=radius, threads=2)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    used, limit = peak - before + data.nbytes, 1.5 * data.nbytes + 200e6
    print(
        f"memory, {n_items} conditions: {used / 1e6:.0f} MB with the patterns' {data.nbytes / 1e6:.0f} MB "
        f"(limit 1.5 x + 200 MB = {limit / 1e6:.0f} MB)"
    )


def main() -> None:
    """12 models and 1, threads, memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--subset", type=int, default=300, help="spheres the peers run on")
    parser.add_argument("--radius", type=float, default=11.4, help="mm; 11.4 holds 93 voxels of 4 mm")
    parser.add_argument("--memory", type=int, default=0, help="only the memory of this many conditions")
    given = parser.parse_args()
    if given.memory:
        memory(given.memory, given.radius)
        return
    for n_models in (12, 1):
        race(n_models, given.radius, given.repeats, given.subset)
    threads(given.radius, given.repeats)
    for n_items in (ITEMS, 500):  # in processes of their own: a peak cannot be taken back
        subprocess.run([sys.executable, __file__, "--memory", str(n_items)], check=True)


if __name__ == "__main__":
    main()
