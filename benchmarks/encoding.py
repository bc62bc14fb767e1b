"""Ridge regression with a penalty a voxel against himalaya called bare.

83 items, 2,048 units, 7,694 voxels, 12 alphas, 5 inner folds, one thread, CPU time, median of `--repeats`: kernel,
choice of alphas, dual weights. Both get the same arrays and folds, and must choose the same alphas and agree. Beside it
stands `rsa.encode` on the same data: 5 test folds, scores, reliability and counts.

    python benchmarks/encoding.py [--repeats 5]
"""

from __future__ import annotations

import argparse
import os
import statistics
import warnings

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before BLAS is loaded

import numpy as np  # noqa: E402
from clock import in_turn  # noqa: E402
from himalaya.kernel_ridge import solve_kernel_ridge_cv_eigenvalues  # noqa: E402
from rsatoolbox.data.dataset import Dataset  # noqa: E402

from brainmap.rsa.encoding.encode import encode  # noqa: E402
from brainmap.rsa.encoding.folds import yield_inner_splits  # noqa: E402
from brainmap.rsa.encoding.ridge import (  # noqa: E402
    Design,
    build_error_operator,
    choose_alphas,
    measure_losses,
    solve_dual,
)
from brainmap.types import Floats  # noqa: E402

ITEMS, UNITS, VOXELS, ALPHAS = 83, 2048, 7694, np.logspace(-1, 6, 12)
WANTED = 1.15  # times himalaya, at most
SECONDS = 0.5  # of the fit, at most


def main() -> None:
    """The fit of one training set, and the largest difference of predictions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ITEMS, UNITS))
    x -= x.mean(axis=0)
    y = x[:, :50] @ rng.normal(size=(50, VOXELS)) + 10 * rng.normal(size=(ITEMS, VOXELS))
    splits, every = yield_inner_splits(np.arange(ITEMS), 5), np.arange(ITEMS)

    def ours() -> tuple[Floats, Floats]:
        design = Design(x @ x.T, kernel=True)
        alphas = ALPHAS[choose_alphas(measure_losses(build_error_operator(design, every, splits, ALPHAS), y))]
        return alphas, solve_dual(design, every, y, alphas)

    def theirs() -> tuple[Floats, Floats]:
        centered = y - y.mean(axis=0)
        alphas, dual, *_ = solve_kernel_ridge_cv_eigenvalues(
            x @ x.T, centered, alphas=ALPHAS, cv=splits, fit_intercept=True
        )
        return alphas, dual

    names = [f"sound{k}" for k in range(ITEMS)]
    noisy = np.concatenate([y + 10 * rng.normal(size=y.shape) for _ in range(2)])
    data = Dataset(noisy, obs_descriptors={"stimulus_id": names * 2, "run": np.repeat(["1", "2"], ITEMS)})

    def whole() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # alphas at an end of their range
            encode({"layer": x}, data, alphas=ALPHAS, descriptors={"stimulus_id": names})

    (alphas, dual), (their_alphas, their_dual) = ours(), theirs()
    same = np.isclose(alphas, their_alphas)
    off = np.abs(x @ x.T @ (dual - their_dual)[:, same]).max()
    times = in_turn({"brainmap": ours, "himalaya": theirs, "encode": whole}, given.repeats)
    own, other, every_fold = (statistics.median(times[name]) for name in ("brainmap", "himalaya", "encode"))
    print(f"ridge: {ITEMS} items, {UNITS} units, {VOXELS} voxels, {len(ALPHAS)} alphas")
    print(f"  brainmap {own:.3f} s, himalaya {other:.3f} s: {own / other:.2f} times (wanted: at most {WANTED})")
    print(f"  wanted: at most {SECONDS:g} s; rsa.encode in 5 test folds {every_fold:.3f} s")
    print(f"  same alphas in {same.mean():.2%} of voxels; largest difference of predictions {off:.1e}")
    if own > SECONDS or own / other > WANTED or same.mean() < 0.999 or off > 1e-8:
        raise SystemExit("  behind")


if __name__ == "__main__":
    main()
