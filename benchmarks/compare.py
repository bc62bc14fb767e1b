"""1 x 1000 comparisons of RDMs over 64 conditions against rsatoolbox's compare.

Spearman, tau-a, and whitened correlation with a full covariance of the patterns; one thread, CPU time, medians of
`--repeats` rounds in turn. rsatoolbox solves the whitened case by conjugate gradients that stop early, and takes half a
minute for it, so it is timed on `--whitened` of the data RDMs and scaled; for the difference its solver goes on to
1e-14. All numbers must agree to 1e-10.

    python benchmarks/compare.py [--repeats 5] [--whitened 20]
"""

from __future__ import annotations

import argparse
import os
import statistics
from functools import partial
from typing import Any
from unittest.mock import patch

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before BLAS is loaded

import numpy as np  # noqa: E402
import scipy.sparse.linalg  # noqa: E402
from clock import in_turn  # noqa: E402
from rsatoolbox.rdm.compare import compare as rsatoolbox_compare  # noqa: E402

from brainmap.rsa.comparison.measures import compare_vectors  # noqa: E402

DATA, CONDITIONS = 1000, 64
WANTED = {"spearman": 5.0, "tau-a": 1.8, "corr_cov": 100.0}


def main() -> None:
    """Every measure: both times, their ratio, and the largest difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--whitened", type=int, default=20)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    i, j = np.triu_indices(CONDITIONS, 1)
    patterns = rng.normal(size=(1 + DATA, CONDITIONS, 20))
    vectors = ((patterns[:, i] - patterns[:, j]) ** 2).sum(axis=2)
    model, data = vectors[:1], vectors[:1] + vectors[1:]
    sigma = np.cov(rng.normal(size=(CONDITIONS, 4 * CONDITIONS)))
    print(f"compare: 1 x {DATA} RDMs over {CONDITIONS} conditions")
    for measure, wanted in WANTED.items():
        whitened = measure == "corr_cov"
        some = data[: given.whitened] if whitened else data
        more: dict[str, Any] = {"sigma_k": sigma} if whitened else {}
        ours = partial(compare_vectors, model, data, measure=measure, **more)
        theirs = partial(rsatoolbox_compare, model, some, method=measure, **more)
        compare_vectors(model, data[:2], measure=measure, **more)  # kernels are compiled, or read from their cache
        times = in_turn({"brainmap": ours, "rsatoolbox": theirs}, given.repeats)
        ours_s = statistics.median(times["brainmap"])
        theirs_s = statistics.median(times["rsatoolbox"]) * len(data) / len(some)
        exact = partial(scipy.sparse.linalg.cg, rtol=1e-14)
        with patch.object(scipy.sparse.linalg, "cg", exact):
            off = np.abs(ours()[:, : len(some)] - theirs()).max()
        print(
            f"  {measure:9s} brainmap {ours_s:6.3f} s, rsatoolbox {theirs_s:7.2f} s: {theirs_s / ours_s:.1f} x "
            f"(wanted {wanted:g} x), largest difference {off:.0e}"
        )


if __name__ == "__main__":
    main()
