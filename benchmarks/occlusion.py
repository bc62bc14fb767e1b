"""Occlusion of 64 clips in 39 windows of 50 ms, all 16 classes of ch32: brainmap against captum, a class at a time.

Run: python benchmarks/occlusion.py [n_clips] [repeats]. CPU time of this process, one thread, the same batch; the two
run in turn, medians of 5 pairs.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable

import numpy as np
import torch
from clock import in_turn
from torch import nn

from brainmap import features

BATCH, WINDOW, STEP = 64, 800, 400  # clips, samples, samples


def captum_loop(net: nn.Module, sounds: np.ndarray) -> np.ndarray:
    """Maps (n, 16, t), a class at a time."""
    from captum.attr import Occlusion

    oracle, batch, maps = Occlusion(net), torch.from_numpy(sounds), np.empty((len(sounds), 16, 16_000), np.float32)
    with torch.no_grad():
        for column in range(16):
            for i in range(0, len(sounds), BATCH):
                found = oracle.attribute(batch[i : i + BATCH], (1, WINDOW), strides=(1, STEP), target=column)
                maps[i : i + BATCH, column] = found[:, 0]
    return maps


def main() -> None:
    """Both sides in turn, and the largest difference of their maps."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    repeats = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    net = features.build_network("ch32", variant="bn").eval()
    sounds = np.random.default_rng(0).standard_normal((n, 1, 16_000), np.float32) * np.float32(0.1)

    def ours() -> features.Attributions:
        """Every class of every clip."""
        return features.attribute(
            net, sounds, method="occlusion", classes="all", window=WINDOW, step=STEP, batch_size=min(BATCH, n)
        )

    print(f"occlusion, {n} clips x 39 windows x 16 classes, ch32, one thread, CPU s, median of {repeats}")
    found = ours()
    contenders: dict[str, Callable[[], object]] = {"brainmap": ours}
    try:
        import captum

        contenders["captum"] = lambda: captum_loop(net, sounds)
    except ImportError:
        captum = None
    times = in_turn(contenders, repeats)
    print(f"  brainmap                     {statistics.median(times['brainmap']):7.2f}")
    if captum is None:
        print("  captum is not installed: its race is skipped (pip install brainmap[attribution])")
        return
    ratio = statistics.median(b / a for a, b in zip(times["brainmap"], times["captum"], strict=True))
    print(
        f"  captum {captum.__version__}, a class at a time {statistics.median(times['captum']):7.2f}  brainmap is "
        f"{ratio:.1f} x faster"
    )
    largest = float(np.abs(found.maps[:, :, 0] - captum_loop(net, sounds)).max())
    print(f"  largest difference           {largest:.1e}")


if __name__ == "__main__":
    main()
