"""The bootstrap over participants and conditions against rsatoolbox's eval_dual_bootstrap.

1000 resamples, 10 models, 12 participants, 64 conditions, one thread, CPU time, median of `--repeats`. A resample
costs rsatoolbox the same each time, so it runs `--theirs` of the resamples and its time is scaled to 1000; those
resamples are given to both, and their numbers must agree.

    python benchmarks/bootstrap.py [--repeats 5] [--theirs 20]
"""

from __future__ import annotations

import argparse
import os
import statistics
from typing import Any
from unittest.mock import patch

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before BLAS is loaded

import numpy as np  # noqa: E402
from clock import in_turn  # noqa: E402
from rsatoolbox.inference import eval_dual_bootstrap, evaluate  # noqa: E402
from rsatoolbox.model import ModelFixed  # noqa: E402
from rsatoolbox.rdm.rdms import RDMs  # noqa: E402

from brainmap.rsa.comparison.measures import find_measure  # noqa: E402
from brainmap.rsa.inference.bootstrap import bootstrap_vectors  # noqa: E402

N, MODELS, PARTICIPANTS, CONDITIONS = 1000, 10, 12, 64
WANTED = {"corr": 30, "spearman": 50}


def main() -> None:
    """Both measures, times scaled to all resamples, and the largest difference for the same draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--theirs", type=int, default=20)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    n_pairs = CONDITIONS * (CONDITIONS - 1) // 2
    truth = rng.random(n_pairs)
    models, data = truth + rng.random((MODELS, n_pairs)), truth + rng.random((PARTICIPANTS, n_pairs))
    people, items = rng.integers(0, PARTICIPANTS, (N, PARTICIPANTS)), rng.integers(0, CONDITIONS, (N, CONDITIONS))
    fixed, rdms = [ModelFixed(str(k), RDMs(row[None])) for k, row in enumerate(models)], RDMs(data)
    print(f"bootstrap over both: {N} resamples, {MODELS} models, {PARTICIPANTS} participants, {CONDITIONS} conditions")
    for method, wanted in WANTED.items():

        def ours(method: str = method, n: int = N) -> Any:
            return bootstrap_vectors(
                models, data, measure=find_measure(method), participants=people[:n], conditions=items[:n]
            )

        def theirs(method: str = method) -> Any:
            turn = iter(range(given.theirs))

            def sample(rdms: RDMs, **_: Any) -> Any:
                k = next(turn)
                return rdms.subsample("index", people[k]).subsample_pattern("index", items[k]), people[k], items[k]

            with patch.object(evaluate, "bootstrap_sample", sample), patch.object(evaluate.tqdm, "trange", range):
                return eval_dual_bootstrap(fixed, rdms, method=method, N=given.theirs)

        ours(n=2)  # the kernel is compiled, or read from its cache
        times = in_turn({"brainmap": ours, "rsatoolbox": theirs}, given.repeats)
        ours_s = statistics.median(times["brainmap"])
        theirs_s = statistics.median(times["rsatoolbox"]) * N / given.theirs
        found, expected = ours(), theirs()
        off = np.abs(found.samples[:, : given.theirs, :-2] - expected.evaluations[:, :, 0, 0].transpose(2, 0, 1)).max()
        off = max(
            off,
            np.abs(found.samples[:, : given.theirs, -2:] - expected.noise_ceiling[:, :, 0].transpose(2, 1, 0)).max(),
        )
        print(
            f"  {method:9s} brainmap {ours_s:6.2f} s, rsatoolbox {theirs_s:7.1f} s: {theirs_s / ours_s:.0f} x "
            f"(wanted {wanted} x), largest difference {off:.0e}"
        )


if __name__ == "__main__":
    main()
