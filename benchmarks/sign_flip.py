"""Sign-flip max-t over voxels against nilearn's permuted_ols, which its non_parametric_inference calls.

12 participants, 30,000 voxels, one thread, CPU time, median of `--repeats`. nilearn gets the array itself, so that
reading images is no part of the race; with 12 participants 4,096 sign patterns exist, so 4,000 are drawn by both.

    python benchmarks/sign_flip.py [--repeats 5] [--flips 4000]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before BLAS is loaded

import numpy as np  # noqa: E402
from nilearn.mass_univariate import permuted_ols  # noqa: E402

from brainmap.rsa.signflip import sign_flip_test  # noqa: E402


def median_cpu(work: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Median CPU seconds of a call, and its result."""
    result, times = work(), []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--flips", type=int, default=4000)
    given = parser.parse_args()
    x = np.random.default_rng(0).normal(size=(12, 30_000))
    x[:, :300] += 1.5

    def theirs() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return permuted_ols(
                np.ones((12, 1)), x, model_intercept=False, two_sided_test=False, n_perm=given.flips, random_state=0,
                n_jobs=1, output_type="dict", verbose=0,
            )  # fmt: skip

    ours_s, ours = median_cpu(
        lambda: sign_flip_test(x, permutations=given.flips, rng=np.random.default_rng(0)), given.repeats
    )
    theirs_s, found = median_cpu(theirs, given.repeats)
    off = float(np.abs(10 ** -found["logp_max_t"][0] - ours.p_corrected).max())
    error = 4 * np.sqrt(0.5 / given.flips)
    print(f"sign-flip max-t, 12 participants, 30,000 voxels, {given.flips} flips")
    print(f"  brainmap {ours_s:7.2f} s\n  nilearn  {theirs_s:7.2f} s: {theirs_s / ours_s:.1f} x")
    print(f"  largest difference of corrected p {off:.4f} (Monte Carlo error up to {error:.4f})")


if __name__ == "__main__":
    main()
