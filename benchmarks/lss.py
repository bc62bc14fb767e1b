"""Least squares, separate: all trials at once against a refit of nilearn's model for each trial.

Usage: python benchmarks/lss.py [--trials 64] [--voxels 60000] [--volumes 300] [--refits 64] [--repeats 3]

Both sides get the time series in memory and give the betas of every trial in double or single precision; both make
their own design matrices. With fewer `--refits` than trials the time of all refits is extrapolated, which is said.
Processor time, medians of interleaved repeats.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Callable
from typing import Literal

import nibabel as nib
import numpy as np
import pandas as pd
from clock import in_turn
from nilearn.glm.first_level import make_first_level_design_matrix, run_glm
from numpy.typing import NDArray

from brainmap import rsa

T_R, HIGH_PASS = 1.5, 128.0


def make_run(trials: int, voxels: int, volumes: int) -> tuple[nib.Nifti1Image, pd.DataFrame]:
    """Noise on a baseline, and trials of four conditions a few seconds apart."""
    rng = np.random.default_rng(0)
    bold = rng.normal(1000, 10, (voxels, 1, 1, volumes)).astype(np.float32)
    onsets = np.linspace(6, volumes * T_R - 16, trials) + rng.uniform(-1, 1, trials)
    names = rng.permutation(np.resize(["one", "two", "bird", "tree"], trials))
    events = pd.DataFrame({"onset": onsets, "duration": 1.0, "trial_type": names})
    return nib.Nifti1Image(bold, np.eye(4)), events


def refits(data: NDArray[np.float64], events: pd.DataFrame, which: NDArray[np.intp]) -> NDArray[np.float64]:
    """The beta of each of some trials from a model of its own, `(n_trials, n_voxels)`."""
    times = T_R * np.arange(len(data))
    betas = np.empty((len(which), data.shape[1]))
    for row, trial in enumerate(which):
        own = events.assign(trial_type=np.where(np.arange(len(events)) == trial, "this", "others"))
        design = make_first_level_design_matrix(times, own, high_pass=1 / HIGH_PASS)
        labels, results = run_glm(data, design.to_numpy(), "ols")
        betas[row] = results[labels[0]].theta[design.columns.get_loc("this")]
    return betas


def main() -> None:
    """Ours with all noise models against refits, and the largest difference of the betas."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("trials", 64), ("voxels", 60_000), ("volumes", 300), ("refits", 64), ("repeats", 3)):
        arguments.add_argument(f"--{name}", type=int, default=value)
    options = arguments.parse_args()
    warnings.simplefilter("ignore")
    bold, events = make_run(options.trials, options.voxels, options.volumes)
    mask = nib.Nifti1Image(np.ones(bold.shape[:3], np.float32), np.eye(4))
    data = np.asarray(bold.dataobj, np.float64).reshape(-1, options.volumes).T
    which = np.linspace(0, options.trials - 1, min(options.refits, options.trials)).astype(np.intp)

    def ours(noise: Literal["ols", "ar1", "arma11"]) -> rsa.Betas:
        return rsa.fit_betas(bold, events, mask=mask, t_r=T_R, model="lss", noise=noise, high_pass=HIGH_PASS)

    contenders: dict[str, Callable[[], object]] = {
        "brainmap": lambda: ours("ols"),
        "brainmap AR(1)": lambda: ours("ar1"),
        "brainmap ARMA(1,1)": lambda: ours("arma11"),
        "refits": lambda: refits(data, events, which),
    }
    times = {name: statistics.median(runs) for name, runs in in_turn(contenders, options.repeats).items()}
    found, expected = ours("ols"), refits(data, events, which)
    betas = np.asarray(found.image.dataobj).reshape(-1, options.trials).T[which]
    apart = np.abs(betas - expected).max() / np.abs(expected).max()
    one, other = times["brainmap"], times["refits"] * options.trials / len(which)
    said = "" if len(which) == options.trials else f" (extrapolated from {len(which)} trials)"
    print(
        f"{options.trials} trials x {options.voxels:,} voxels x {options.volumes} volumes: brainmap {one:.2f} s "
        f"(with residuals and variances; AR(1) {times['brainmap AR(1)']:.2f} s, ARMA(1,1) "
        f"{times['brainmap ARMA(1,1)']:.2f} s), refits {other:.1f} s{said}, "
        f"{other / one:.1f} x (aim 10); largest difference {apart:.1e} of the largest beta (aim 1e-6)"
    )


if __name__ == "__main__":
    main()
