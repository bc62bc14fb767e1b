"""Grad-CAM of 256 clips x 16 classes at the last convolution of ch32: brainmap against captum in a loop.

The peer is what one would write with captum: `LayerGradCam.attribute` for every class over the same batches of the same
clips, signed. Each batch size is raced by itself, and the best of each side against the best of the other. The C
library keeps the memory that either side frees, as it does in every command of brainmap.

Run: python benchmarks/grad_cam.py [n_clips] [threads]. Both sides have as many threads, two by default. Rounds in which
every contender runs once, median of 5 rounds (captum: of 3, it takes minutes): CPU time of this process with one
thread, and time of an idle machine with several, some of which spin while they wait.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from clock import in_turn
from torch import nn

from brainmap import features
from brainmap.resources import keep_freed_memory

SIZES = (8, 32, 256)
ROUNDS, PEER_ROUNDS = 5, 3


def plain_forward(net: nn.Module, sounds: np.ndarray, size: int) -> None:
    """One forward of every clip, in batches."""
    with torch.no_grad():
        for i in range(0, len(sounds), size):
            net(torch.from_numpy(sounds[i : i + size]))


def captum_loop(net: nn.Sequential, sounds: np.ndarray, size: int) -> np.ndarray:
    """Maps (n, 16, 7), a class at a time."""
    from captum.attr import LayerGradCam

    oracle = LayerGradCam(net, net.get_submodule("act8"))
    maps = np.empty((len(sounds), 16, 7), np.float32)
    for i in range(0, len(sounds), size):
        batch = torch.from_numpy(sounds[i : i + size])
        for column in range(16):
            found = oracle.attribute(batch, target=column, relu_attributions=False)
            maps[i : i + size, column] = found[:, 0].detach().numpy()
    return maps


def main() -> None:
    """Every batch size of every contender, and whether both sides agree."""
    n, threads = (int(given) for given in (*sys.argv[1:3], *("256", "2")[len(sys.argv) - 1 :]))
    keep_freed_memory()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    net = features.build_network("ch32", variant="bn").eval()
    sounds = np.random.default_rng(0).standard_normal((n, 1, 16_000), np.float32) * np.float32(0.1)
    contenders: dict[str, Callable[[int], object]] = {
        "forward": lambda size: plain_forward(net, sounds, size),
        "frames": lambda size: features.class_activation_maps(
            net, sounds, upsample=False, batch_size=size, threads=threads
        ),
        "samples": lambda size: features.class_activation_maps(net, sounds, batch_size=size, threads=threads),
    }
    try:
        import captum

        contenders["captum"] = lambda size: captum_loop(net, sounds, size)
    except ImportError:
        captum = None
    plain_forward(net, sounds[:32], 8)  # warms up
    races = {(name, size): partial(work, size) for name, work in contenders.items() for size in SIZES}
    fewer = {key: PEER_ROUNDS for key in races if key[0] == "captum"}
    times = in_turn(races, ROUNDS, fewer=fewer, clock=time.process_time if threads == 1 else time.perf_counter)
    report(n, threads, {key: statistics.median(found) for key, found in times.items()})
    if captum is None:
        print("  captum is not installed: its race is skipped (pip install brainmap[attribution])")
        return
    ours = features.class_activation_maps(net, sounds, upsample=False).maps
    theirs = captum_loop(net, sounds, 8)
    print(
        f"  captum {captum.__version__}; largest difference {np.abs(theirs - ours).max():.1e} "
        f"of maps up to {np.abs(theirs).max():.1e}"
    )


def report(n: int, threads: int, seconds: dict[tuple[str, int], float]) -> None:
    """A line a batch size, and the best of each side against the best of the other."""
    told = "one thread, CPU s" if threads == 1 else f"{threads} threads, s"
    print(f"grad-cam, {n} clips x 16 classes, ch32, conv8, {told}")
    print(f"  {'batch':>5} {'forward':>8} {'over frames':>12} {'over samples':>13} {'captum loop':>12}")
    best: dict[str, float] = {}
    for size in SIZES:
        row = {name: seconds[name, size] for name, at in seconds if at == size}
        for name, found in row.items():
            best[name] = min(found, best.get(name, found))
        line = f"  {size:>5} {row['forward']:>8.2f} {row['frames']:>12.2f} {row['samples']:>13.2f}"
        if "captum" in row:
            line += f" {row['captum']:>12.2f}  {row['captum'] / row['frames']:.1f} x faster"
        print(f"{line}  ({row['frames'] / row['forward']:.2f} x its forward)")
    print(
        f"  best of each: {best['frames'] / best['forward']:.2f} x one plain forward over frames, "
        f"{best['samples'] / best['forward']:.2f} x over samples (must be below 1.5)"
    )
    if "captum" in best:
        print(
            f"  best of each: {best['captum'] / best['frames']:.1f} x faster than captum in a loop, "
            f"{best['captum'] / best['samples']:.1f} x over samples (both must be 25)"
        )


if __name__ == "__main__":
    main()
