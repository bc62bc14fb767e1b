"""How costs grow: exponents over voxels, conditions, runs, models, clips and length, beside those of the estimate.

Each piece of work runs at a few sizes along one axis, the others at their base. The exponent is the slope of the
logarithm of CPU time over that of the size; beside it stands that of `brainmap check`'s estimate, and the ratio of the
two times at the largest size, which tells whether the estimate's coefficients hold on this machine. `--table` prints
the table of docs/performance.md in place of measuring; `--figure` draws what was measured.

    python benchmarks/growth.py [--rounds 3] [--only searchlight] [--figure growth.png] [--table]

CPU time of this process, one thread, best of the rounds.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before BLAS is loaded

import numpy as np  # noqa: E402
from clock import cpu_seconds  # noqa: E402

from brainmap.study.stages import costs  # noqa: E402
from brainmap.study.stages.example_costs import tabulate_examples  # noqa: E402

Sizes = dict[str, int]
Run = Callable[[], object]
SPHERE = 33  # voxels within two voxels of a center


@dataclass(frozen=True)
class Work:
    """A piece of work: how it is prepared at a size, what the estimate counts, and along which axes it grows."""

    prepare: Callable[[Sizes], Run]
    count: Callable[[Sizes], costs.Counts]
    base: Sizes
    axes: dict[str, tuple[int, ...]]


def prepare_searchlight(sizes: Sizes, dissimilarity: Any, measure: Any) -> Run:
    """A searchlight over a box of voxels, with everything a call does but the checks."""
    import nibabel as nib
    import rsatoolbox

    from brainmap.rsa.searchlights.settings import SearchlightSettings
    from brainmap.rsa.searchlights.volume import plan_searchlight

    rng, n = np.random.default_rng(0), sizes["conditions"]
    shape = (sizes["voxels"] // 256, 16, 16)
    data = rng.normal(size=(sizes["runs"], n, int(np.prod(shape))))
    labels = [f"s{k}" for k in range(n)]
    models = rsatoolbox.rdm.RDMs(
        rng.random((sizes["models"], n * (n - 1) // 2)),
        rdm_descriptors={"name": [f"m{k}" for k in range(sizes["models"])]},
        pattern_descriptors={"stimulus_id": labels},
    )
    mask = nib.Nifti1Image(np.ones(shape, np.float32), np.eye(4))
    settings = SearchlightSettings(labels=labels, dissimilarity=dissimilarity, measure=measure)

    def run() -> object:
        return plan_searchlight(data, models, settings, mask=mask, radius_mm=2.0).compute(threads=1)

    return run


def count_searchlight(sizes: Sizes, *, slides: bool) -> costs.Counts:
    """Count what the estimate counts, for a box, in which spheres at the faces are smaller."""
    light = costs.Light(voxels=sizes["voxels"], sphere=SPHERE - 5, slides=slides)
    return costs.count_spheres(light, sizes["conditions"], sizes["runs"], sizes["models"])


def prepare_extraction(sizes: Sizes) -> Run:
    """All layers of a convolutional network, means over time."""
    import torch

    from brainmap import features

    torch.set_num_threads(1)
    torch.manual_seed(0)
    n_samples = sizes["milliseconds"] * 16
    net = features.build_network("ch32", variant="bn", head="gap", n_samples=n_samples).eval()
    sounds = np.random.default_rng(0).standard_normal((sizes["clips"], 1, n_samples), np.float32)
    return lambda: features.extract_activations(net, sounds, threads=1)


def count_extraction(sizes: Sizes) -> costs.Counts:
    """Passes through the network alone."""
    return {"network product": sizes["clips"] * _count_products(sizes["milliseconds"] * 16)}


def _count_products(n_samples: int) -> float:
    """Multiplications of ch32 for a clip, layer by layer."""
    channels, total, length = (1, 32, 32, 32, 32, 64, 64, 64, 64), 0.0, n_samples
    for taken, given in pairwise(channels):
        total += length * 5 * taken * given
        length //= 3
    return total


def prepare_ascent(sizes: Sizes) -> Run:
    """Patterns of classes that are maximized."""
    import torch

    from brainmap import features

    torch.set_num_threads(1)
    torch.manual_seed(0)
    n_samples = sizes["milliseconds"] * 16
    net = features.build_network("ch32", variant="bn", head="gap", n_samples=n_samples).eval()
    settings = features.MaximizationSettings(steps=sizes["steps"])
    return lambda: features.maximize_activation(
        net, units=range(sizes["patterns"]), length=n_samples, settings=settings, threads=1
    )


def count_ascent(sizes: Sizes) -> costs.Counts:
    """Steps, each of which takes about as long as a pass."""
    return {"network product": sizes["steps"] * sizes["patterns"] * _count_products(sizes["milliseconds"] * 16)}


def prepare_group(sizes: Sizes) -> Run:
    """Sign flips of participants' maps, corrected by the largest t."""
    from brainmap.rsa.inference.sign_flips import sign_flip_test

    scores = np.random.default_rng(0).normal(size=(sizes["participants"], sizes["voxels"] * sizes["models"]))
    return lambda: sign_flip_test(scores, permutations=1000, rng=np.random.default_rng(0))


def count_group(sizes: Sizes) -> costs.Counts:
    """Flips of all scores."""
    flips = min(2 ** sizes["participants"], 1000)
    places = flips * sizes["voxels"] * sizes["models"]
    return {"flipped place": places, "flipped score": places * sizes["participants"]}


def prepare_encoding(sizes: Sizes) -> Run:
    """Ridge regression from one layer, with cross-validated penalties."""
    from rsatoolbox.data.dataset import Dataset

    from brainmap.rsa import encode

    rng, n = np.random.default_rng(0), sizes["conditions"]
    names = [f"s{k}" for k in range(n)]
    data = Dataset(rng.normal(size=(n, sizes["voxels"])), obs_descriptors={"stimulus_id": names})
    x = rng.normal(size=(n, 2000))
    return lambda: encode({"conv1": x}, data, descriptors={"stimulus_id": names}, device="cpu")


def count_encoding(sizes: Sizes) -> costs.Counts:
    """One layer of one participant, without permutations."""
    size = costs.Size(
        sounds=0,
        items=sizes["conditions"],
        participants=1,
        runs=1,
        patterns=0,
        grid=0,
        regions=(),
        networks=(costs.Network(products=0, layers=1, units=2000),),
        encoded=sizes["voxels"],
        encoding_permutations=0,
    )
    return costs.count_encoding(size)


LIGHT: Sizes = {"voxels": 2048, "conditions": 48, "runs": 4, "models": 8}
ALONG = {"voxels": (1024, 2048, 4096), "conditions": (24, 48, 96), "runs": (2, 4, 8), "models": (2, 8, 32)}
WORKS = {
    "searchlight, crossnobis, rho-a": Work(
        lambda sizes: prepare_searchlight(sizes, "crossnobis", "rho-a"),
        lambda sizes: count_searchlight(sizes, slides=True),
        LIGHT,
        ALONG,
    ),
    "searchlight, correlation, Spearman": Work(
        lambda sizes: prepare_searchlight(sizes, "correlation", "spearman"),
        lambda sizes: count_searchlight(sizes, slides=False),
        LIGHT,
        ALONG,
    ),
    "activations of all layers": Work(
        prepare_extraction,
        count_extraction,
        {"clips": 64, "milliseconds": 500},
        {"clips": (32, 64, 128), "milliseconds": (250, 500, 1000)},
    ),
    "maximizing patterns": Work(
        prepare_ascent,
        count_ascent,
        {"patterns": 8, "steps": 20, "milliseconds": 500},
        {"patterns": (4, 8, 16), "steps": (10, 20, 40), "milliseconds": (250, 500, 1000)},
    ),
    "group maps, max-t": Work(
        prepare_group,
        count_group,
        {"participants": 12, "voxels": 4096, "models": 4},
        {"participants": (12, 24, 48), "voxels": (2048, 4096, 8192), "models": (2, 4, 8)},
    ),
    "encoding models": Work(
        prepare_encoding,
        count_encoding,
        {"conditions": 200, "voxels": 500},
        {"conditions": (100, 200, 400), "voxels": (250, 500, 1000, 4000)},
    ),
}


def fit_exponent(sizes: tuple[int, ...], seconds: list[float]) -> float:
    """Slope of log time over log size."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def measure(work: Work, rounds: int) -> dict[str, tuple[list[float], list[float]]]:
    """CPU times along each axis, and what the estimate says on this machine."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    known: dict[tuple[tuple[str, int], ...], float] = {}
    work.prepare({**work.base, **{name: sizes[0] for name, sizes in work.axes.items()}})()  # compiles, warms up
    slower = costs.SPEED / costs.measure_speed()
    for axis, along in work.axes.items():
        seconds, said = [], []
        for one in along:
            sizes = {**work.base, axis: one}
            key = tuple(sorted(sizes.items()))
            if key not in known:
                run = work.prepare(sizes)
                known[key] = min(cpu_seconds(run)[0] for _ in range(rounds))
            seconds.append(known[key])
            said.append(costs.price(work.count(sizes)) * slower)
        found[axis] = seconds, said
    return found


def draw(found: dict[str, dict[str, tuple[list[float], list[float]]]], path: Path) -> None:
    """A panel a piece of work: times over sizes relative to the base, with the estimate dashed."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    figure = Figure(figsize=(12, 7), layout="constrained")
    for axes, (name, along) in zip(figure.subplots(2, 3).ravel(), found.items(), strict=False):
        for k, (axis, (seconds, said)) in enumerate(along.items()):
            sizes = WORKS[name].axes[axis]
            relative = np.array(sizes) / WORKS[name].base[axis]
            axes.loglog(relative, seconds, "o-", color=f"C{k}", label=f"{axis} ({fit_exponent(sizes, seconds):.2f})")
            axes.loglog(relative, said, "--", color=f"C{k}")
        axes.set(title=name, xlabel="size relative to the base", ylabel="CPU time [s]")
        axes.legend(title="exponent over", frameon=False)
        low, high = axes.get_ylim()
        steps = [digit * 10.0**k for k in range(-3, 2) for digit in (1, 2, 5)]
        for one, ticks in ((axes.xaxis, [0.25, 0.5, 1, 2, 4, 8]), (axes.yaxis, steps)):
            one.set_major_locator(FixedLocator(ticks))
            one.set_minor_locator(NullLocator())
            one.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_ylim(low, high)
    figure.suptitle("CPU time of one core; dashed: the estimate of brainmap check on this machine")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure and print, or print the table of the documents."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="works whose names hold this")
    parser.add_argument("--figure", type=Path, help="a picture (.png, .svg) of what was measured")
    parser.add_argument("--table", action="store_true", help="print the table of docs/performance.md")
    given = parser.parse_args()
    if given.table:
        sys.stdout.write(tabulate_examples())
        return
    warnings.simplefilter("ignore")
    print(
        f"{costs.measure_speed():.1f} multiplications per ns of a core, {costs.SPEED:.1f} where coefficients come from"
    )
    print(f"{'work':<36} {'over':<13} {'sizes':<17} {'CPU s':<24} exponent (estimated)  estimate / measured")
    every = {}
    for name, work in WORKS.items():
        if given.only not in name:
            continue
        every[name] = measure(work, given.rounds)
        for axis, (seconds, said) in every[name].items():
            sizes = work.axes[axis]
            print(
                f"{name:<36} {axis:<13} {', '.join(map(str, sizes)):<17} "
                f"{', '.join(f'{one:.3g}' for one in seconds):<24} {fit_exponent(sizes, seconds):6.2f}    "
                f"({fit_exponent(sizes, said):4.2f})     {said[-1] / seconds[-1]:16.2f}",
                flush=True,
            )
    if given.figure is not None:
        draw(every, given.figure)


if __name__ == "__main__":
    main()
