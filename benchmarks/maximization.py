"""Activation maximization of all 64 channels of a layer of ch32: brainmap against one unit at a time at full length.

Run: python benchmarks/maximization.py [--steps 40] [--repeats 3]. CPU time of this process, one thread, both sides in
turn, median of the ratios. A step costs the same wherever it stands, so that 40 steps give nearly the ratio of 200,
in minutes and not in hours; what brainmap does before and after the steps weighs five times as much.

The last convolution must be 2 times faster, conv2 to conv5 with inputs of their receptive field 4 times.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial

import numpy as np
import torch
from clock import in_turn
from torch import nn

from brainmap import features

RACES = (("conv8", 64, 2.0), ("conv2", 32, 4.0), ("conv3", 32, 4.0), ("conv4", 32, 4.0), ("conv5", 64, 4.0))
JITTER = 400  # samples; 25 ms


def one_at_a_time(net: nn.Sequential, layer: str, units: int, steps: int) -> list[np.ndarray]:
    """The usual way: a hook, a whole input, jitter, a gradient step; the next unit."""
    rng, found, heard = np.random.default_rng(0), [], {}
    handle = net.get_submodule(layer.replace("conv", "act")).register_forward_hook(
        lambda _, __, out: heard.update(map=out)
    )
    try:
        for unit in range(units):
            x = torch.tensor(rng.standard_normal((1, 1, 16_000), dtype=np.float32), requires_grad=True)
            for step in range(steps):
                net(x.roll(int(rng.integers(-JITTER, JITTER + 1)), -1))
                (gradient,) = torch.autograd.grad(heard["map"][0, unit].mean(), x)
                with torch.no_grad():
                    x += 2 * (1 - step / steps) * gradient / gradient.square().mean().sqrt().clamp_min(1e-30)
            found.append(x.detach().numpy()[0])
    finally:
        handle.remove()
    return found


def ours(net: nn.Sequential, layer: str, units: int, steps: int) -> object:
    """The defaults, all units in one call."""
    settings = features.MaximizationSettings(steps=steps)
    return features.maximize_activation(net, layer=layer, units=range(units), settings=settings)


def main() -> None:
    """A line a layer: both times, the ratio, and whether it is what was wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--units", type=int, help="fewer units of each layer; the ratio of a unit's cost stays")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = features.build_network("ch32", variant="bn").eval()
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    print(f"maximization, ch32, {given.steps} steps, one thread, CPU s, median of {given.repeats} runs in turn")
    print("(brainmap's time includes its checks, the search for dead units and the quality table)")
    for layer, channels, wanted in RACES:
        units = min(given.units or channels, channels)
        ours(net, layer, min(units, 2), 1)  # warms up
        race = (net, layer, units, given.steps)
        times = in_turn({"alone": partial(one_at_a_time, *race), "brainmap": partial(ours, *race)}, given.repeats)
        theirs, mine = (statistics.median(side) for side in times.values())
        ratio = statistics.median(a / b for a, b in zip(*times.values(), strict=True))
        verdict = "reached" if ratio >= wanted else "FALLS SHORT"
        print(
            f"  {layer} {units:3d} units: one at a time {theirs:8.2f}, brainmap {mine:8.2f}; {ratio:5.1f} x, "
            f"wanted {wanted:g} x: {verdict}"
        )


if __name__ == "__main__":
    main()
