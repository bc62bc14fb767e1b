"""Crossnobis searchlight with a noise precision a sphere against rsatoolbox: same spheres, same numbers, CPU time.

A brain of 4 mm voxels, 64 conditions in 8 runs, residuals of 8 x 100 volumes that neighboring voxels share. The peer
takes some of the spheres, spread over the brain, one by one: `prec_from_residuals(method="shrinkage_diag")` of the
sphere's residuals, then `calc_rdm(method="crossnobis")` with it; RDMs are compared with the model by `compare`. With
`--per-run` each run has a precision of its own. brainmap scores every sphere of a part of the brain, with everything a
call does. One thread each; contenders run in turn; medians of CPU time a sphere.

    python benchmarks/crossnobis_searchlight.py [--rounds 5] [--spheres 12] [--per-run] [--slices 10]
"""

from __future__ import annotations

import argparse
import os
import statistics
import warnings
from typing import Any

from brainmap.types import Floats

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before BLAS is loaded

import nibabel as nib  # noqa: E402
import numpy as np  # noqa: E402
import rsatoolbox  # noqa: E402
from clock import in_turn  # noqa: E402
from nilearn.datasets import load_mni152_brain_mask  # noqa: E402
from rsatoolbox.data.noise import prec_from_residuals  # noqa: E402

from brainmap.rsa import searchlight  # noqa: E402
from brainmap.rsa.searchlights.spheres import build_spheres  # noqa: E402

ITEMS, RUNS, VOLUMES, RADIUS = 64, 8, 100, 11.4
LABELS = [f"s{k:02d}" for k in range(ITEMS)]


def brain(slices: int) -> nib.Nifti1Image:
    """Sagittal slices of the MNI mask at 4 mm, from the middle on."""
    mask = load_mni152_brain_mask(resolution=4)
    inside = np.asarray(mask.dataobj).astype(np.float32)
    first = max(len(inside) // 2 - slices // 2, 0)
    inside[:first] = inside[first + slices :] = 0
    return nib.Nifti1Image(inside, mask.affine)


def make(n_voxels: int) -> tuple[Floats, list[Floats], Any]:
    """Patterns (n_runs, n_items, n_voxels), residuals of each run, one model."""
    rng = np.random.default_rng(0)
    patterns = rng.normal(size=(RUNS, ITEMS, n_voxels))
    shared = [rng.normal(size=(VOLUMES, n_voxels + 4)) for _ in range(RUNS)]
    residuals = [sum(one[:, k : k + n_voxels] for k in range(5)) * rng.uniform(0.5, 2, n_voxels) for one in shared]
    model = rsatoolbox.rdm.RDMs(
        rng.random((1, ITEMS * (ITEMS - 1) // 2)),
        rdm_descriptors={"name": ["model"]},
        pattern_descriptors={"stimulus_id": LABELS},
    )
    return patterns, residuals, model


def by_rsatoolbox(patterns: Floats, parts: list[Floats], model: Any, near: list[Any], per_run: bool) -> Floats:
    """Its two calls for each sphere, then the comparison."""
    described = {"stimulus_id": LABELS * RUNS, "run": np.repeat(np.arange(RUNS), ITEMS)}
    pooled = np.concatenate([part - part.mean(axis=0) for part in parts])
    scores = []
    for voxels in near:
        data = rsatoolbox.data.Dataset(patterns[..., voxels].reshape(-1, len(voxels)), obs_descriptors=described)
        noise = (
            prec_from_residuals([part[:, voxels] for part in parts], method="shrinkage_diag")
            if per_run
            else prec_from_residuals(pooled[:, voxels], dof=RUNS * (VOLUMES - 1), method="shrinkage_diag")
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rdm = rsatoolbox.rdm.calc_rdm(
                data, method="crossnobis", descriptor="stimulus_id", cv_descriptor="run", noise=noise
            )
        scores.append(rsatoolbox.rdm.compare(model, rdm, method="corr")[0, 0])
    return np.array(scores)


def main() -> None:
    """Both sides in turn, their ratio, and the largest difference of scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--spheres", type=int, default=12, help="spheres the peer runs on")
    parser.add_argument("--per-run", action="store_true", help="a noise precision a run, not one of all")
    parser.add_argument("--slices", type=int, default=10, help="of the brain; 50 are all")
    given = parser.parse_args()
    mask = brain(given.slices)
    inside = np.asarray(mask.dataobj) != 0
    spheres = build_spheres(inside, mask.affine, RADIUS)
    patterns, residuals, model = make(spheres.n_voxels)
    chosen = np.linspace(0, spheres.n_voxels - 1, given.spheres).astype(int)
    near = [row[row >= 0] for row in (spheres.patches(c, c + 1)[0] for c in chosen)]

    def ours() -> Floats:
        maps = searchlight(
            patterns,
            model,
            mask=mask,
            labels=LABELS,
            radius_mm=RADIUS,
            dissimilarity="crossnobis",
            noise=residuals,
            pooled=not given.per_run,
            minimum_voxels=2,
            threads=1,
            measure="pearson",
        )
        return maps.array[0, chosen]

    def theirs() -> Floats:
        return by_rsatoolbox(patterns, residuals, model, near, given.per_run)

    off = float(np.abs(ours() - theirs()).max())
    times = in_turn({"brainmap": ours, "rsatoolbox": theirs}, given.rounds)
    mine = statistics.median(times["brainmap"]) / spheres.n_voxels
    peer = statistics.median(times["rsatoolbox"]) / given.spheres
    of = "one a run" if given.per_run else "one of all runs"
    print(
        f"crossnobis, {spheres.n_voxels} spheres of {spheres.n_most} voxels, {ITEMS} conditions, {RUNS} runs, "
        f"residuals of {RUNS} x {VOLUMES} volumes, a noise precision a sphere ({of})"
    )
    print(f"  brainmap   {mine * 1e3:8.3f} ms a sphere")
    print(
        f"  rsatoolbox {peer * 1e3:8.3f} ms a sphere ({given.spheres} of them): {peer / mine:.1f} x, "
        f"scores differ by {off:.1e}"
    )


if __name__ == "__main__":
    main()
