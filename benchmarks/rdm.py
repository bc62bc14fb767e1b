"""Correlation RDM of 500 conditions x 100,000 units in float64, against rsatoolbox and against the products alone.

CPU time of one thread, medians of interleaved rounds. The bound is one bare product of the patterns with themselves
(`x @ x.T`, for which numpy computes one triangle only) and one pass over the data (`x.sum()`), measured in the same
rounds. Also: patterns on a large offset, where products alone lose their digits, float32, and the numbers themselves
against the plain formula.

    python benchmarks/rdm.py [--repeats 5] [--conditions 500] [--units 100000]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys

from brainmap.types import Floats

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before BLAS is loaded

import numpy as np  # noqa: E402
from clock import in_turn  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from rsatoolbox.data import Dataset  # noqa: E402
from rsatoolbox.rdm import calc_rdm  # noqa: E402

from brainmap.rsa import compute_rdms  # noqa: E402


def plain(x: Floats) -> Floats:
    """1 - r by its formula, centered first."""
    centered = x - x.mean(axis=1, keepdims=True)
    centered /= np.linalg.norm(centered, axis=1, keepdims=True)
    return np.asarray(1.0 - (centered @ centered.T)[np.triu_indices(len(x), 1)])


def main() -> None:
    """Race, and print the two ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--conditions", type=int, default=500)
    parser.add_argument("--units", type=int, default=100_000)
    chosen = parser.parse_args()
    x = np.random.default_rng(0).normal(size=(chosen.conditions, chosen.units))
    on_offset, single = x + 1e6, x.astype(np.float32)
    labels = {"stimulus_id": [f"s{k:04d}" for k in range(chosen.conditions)]}
    data = Dataset(x, obs_descriptors=labels)

    def ours(array: NDArray[np.floating]) -> Floats:
        return np.asarray(compute_rdms(array, descriptors=labels).dissimilarities[0])

    times = in_turn(
        {
            "brainmap": lambda: ours(x),
            "bare product": lambda: x @ x.T,
            "one pass": lambda: x.sum(),
            "brainmap, patterns + 1e6": lambda: ours(on_offset),
            "brainmap, float32": lambda: ours(single),
            "rsatoolbox": lambda: calc_rdm(data, method="correlation", descriptor="stimulus_id"),
        },
        chosen.repeats,
    )
    taken = {name: statistics.median(seconds) for name, seconds in times.items()}
    for name, seconds in taken.items():
        sys.stdout.write(f"{name:26s} {seconds:8.3f} s\n")
    bound = taken["bare product"] + taken["one pass"]
    theirs = calc_rdm(data, method="correlation", descriptor="stimulus_id").dissimilarities[0]
    sys.stdout.write(
        f"rsatoolbox / brainmap      {taken['rsatoolbox'] / taken['brainmap']:8.1f} x   (wanted: 6)\n"
        f"brainmap / (product + pass){taken['brainmap'] / bound:8.2f} x   (wanted: at most 1.3)\n"
        f"largest difference from rsatoolbox       {np.abs(ours(x) - theirs).max():.1e}\n"
        f"from the plain formula, patterns + 1e6   {np.abs(ours(on_offset) - plain(on_offset)).max():.1e}\n"
        f"from the plain formula, float32 patterns {np.abs(ours(single) - plain(single.astype(float))).max():.1e}\n"
    )


if __name__ == "__main__":
    main()
