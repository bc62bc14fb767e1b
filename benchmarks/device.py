"""A GPU against the CPU: activations, maximizing patterns, ridge regression, searchlights; time, ratio, difference.

Activations are float32 and must agree within 1e-4 of the largest of their layer. Ascents magnify the rounding at each
step: patterns are compared after one and timed over 100. Encoding models and searchlights on a GPU are in float64 and
must agree within 1e-10. Without a GPU the script says so in a line. It takes a few minutes at most. With `--device cpu`
what runs on a GPU runs on the CPU through torch, which shows that it agrees, and no speed.

    python benchmarks/device.py [--device cuda] [--clips 512] [--slices 50] [--only searchlight]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import nibabel as nib
import numpy as np
import torch
from nilearn.datasets import load_mni152_brain_mask
from rsatoolbox.rdm import RDMs

from brainmap import features
from brainmap.rsa.encoding.fits import EncodingSettings, fit_folds
from brainmap.rsa.encoding.folds import Folds
from brainmap.rsa.encoding.responses import FeatureSpace
from brainmap.rsa.encoding.ridge import check_alphas
from brainmap.rsa.searchlights.settings import SearchlightSettings
from brainmap.rsa.searchlights.volume import plan_searchlight

SINGLE, DOUBLE = 1e-4, 1e-10


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Wall time of the second of two runs, and what it gave; the first one starts the device."""
    work()
    start = time.monotonic()
    found = work()
    return time.monotonic() - start, found


def compare(
    name: str,
    work: Callable[[str], Any],
    device: str,
    apart: Callable[[Any, Any], float],
    most: float,
    cpu: str = "cpu",
) -> None:
    """Run on both, and print a line; `cpu` is what the work calls the CPU without torch."""
    (here, one), (there, other) = timed(lambda: work(cpu)), timed(lambda: work(device))
    off = apart(one, other)
    print(
        f"  {name:<44} CPU {here:8.2f} s  {device} {there:8.3f} s  {here / there:7.1f} x  "
        f"differ by {off:.1e} (at most {most:g}): {'agree' if off <= most else 'DIFFER'}",
        flush=True,
    )


def search(device: str, slices: int) -> None:
    """A line for searchlights of two dissimilarities: 12 models, 64 conditions, spheres of 93 voxels of 4 mm."""
    whole = load_mni152_brain_mask(resolution=4)
    inside = np.asarray(whole.dataobj).astype(np.float32)
    inside[: len(inside) // 2 - slices // 2] = inside[len(inside) // 2 - slices // 2 + slices :] = 0
    mask, rng = nib.Nifti1Image(inside, whole.affine), np.random.default_rng(0)
    labels = [f"s{k:02d}" for k in range(64)]
    models = RDMs(rng.random((12, 2016)), pattern_descriptors={"stimulus_id": labels})
    models.rdm_descriptors["name"] = [f"model{k}" for k in range(12)]
    x = rng.normal(size=(8, 64, int(inside.sum())))
    for dissimilarity, data in (("correlation", x[0]), ("crossnobis", x)):
        settings = SearchlightSettings(labels=labels, dissimilarity=dissimilarity)
        plan = plan_searchlight(data, models, settings, mask=mask, radius_mm=11.4)

        def run(name: str, plan: Any = plan) -> Any:
            scoring = replace(plan.scoring, device=None if name == "kernels" else name)
            return replace(plan, scoring=scoring).compute(threads=None).array

        compare(
            f"searchlight of {len(plan.sizes):,} spheres, {dissimilarity}",
            run,
            device,
            lambda a, b: float(np.abs(a - b).max()),
            DOUBLE,
            "kernels",
        )


def main() -> None:
    """A line for each piece of work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--clips", type=int, default=512)
    parser.add_argument("--slices", type=int, default=50, help="of the brain; 50 are all")
    parser.add_argument("--only", choices=["searchlight"], help="leave out the rest")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        print("device: torch finds no GPU here, and nothing is compared")
        return
    search(given.device, given.slices)
    if given.only:
        return
    torch.manual_seed(0)
    net = features.build_network("ch64", variant="bn").eval()
    sounds = np.random.default_rng(0).standard_normal((given.clips, 1, 16_000), np.float32) * np.float32(0.1)
    compare(
        f"activations of {given.clips} clips, 9 layers of ch64",
        lambda device: features.extract_activations(net, sounds, device=device),
        given.device,
        lambda a, b: max(float(np.abs(a[k][:] - b[k][:]).max() / np.abs(a[k][:]).max()) for k in a.layers),
        SINGLE,
    )

    def climb(device: str, steps: int) -> Any:
        settings = features.MaximizationSettings(steps=steps, micro_batch=8 if device == "cpu" else 64)
        return features.maximize_activation(net, settings=settings, sounds=sounds[:16], device=device)

    compare(
        "one step of the ascent, 16 classes of ch64",
        lambda device: climb(device, 1),
        given.device,
        lambda a, b: float(np.abs(a.patterns - b.patterns).max()),
        SINGLE,
    )
    (here, _), (there, _) = timed(lambda: climb("cpu", 100)), timed(lambda: climb(given.device, 100))
    print(f"  {'100 steps of the ascent':<44} CPU {here:8.2f} s  {given.device} {there:8.3f} s  {here / there:7.1f} x")
    rng, n = np.random.default_rng(0), 400
    space = FeatureSpace("", "conv", rng.normal(size=(n, 2000)), tuple(np.array([k]) for k in range(n)))
    responses, fold = rng.normal(size=(n, 20_000)), np.arange(n) % 5
    compare(
        "ridge regression, 400 sounds, 20,000 voxels",
        lambda device: (
            fit_folds(
                space,
                responses,
                Folds(fold, np.arange(n), "stimulus"),
                EncodingSettings(alphas=check_alphas(None), device=None if device == "cpu" else device),
            ).predicted
        ),
        given.device,
        lambda a, b: float(np.abs(a - b).max()),
        DOUBLE,
    )


if __name__ == "__main__":
    main()
