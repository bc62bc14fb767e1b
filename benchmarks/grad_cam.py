"""Grad-CAM of 256 clips x 16 classes at the last convolution of ch32: brainmap against captum in a loop.

Run: python benchmarks/grad_cam.py [n_clips]. CPU time of this process, one thread, median of 5 (captum: one run).
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from brainmap import features


def cpu_seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Median CPU time of `work`, after one run that warms up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


def plain_forward(net: nn.Module, sounds: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([net(torch.from_numpy(sounds[i : i + 32])) for i in range(0, len(sounds), 32)])


def captum_loop(net: nn.Sequential, sounds: np.ndarray) -> np.ndarray:
    from captum.attr import LayerGradCam

    oracle = LayerGradCam(net, net.get_submodule("act8"))
    maps = np.empty((len(sounds), 16, 7), np.float32)
    for i in range(0, len(sounds), 32):
        batch = torch.from_numpy(sounds[i : i + 32])
        for column in range(16):
            found = oracle.attribute(batch, target=column, relu_attributions=False)
            maps[i : i + 32, column] = found[:, 0].detach().numpy()
    return maps


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    net = features.build_network("ch32", variant="bn").eval()
    sounds = np.random.default_rng(0).standard_normal((n, 1, 16_000), np.float32) * np.float32(0.1)
    forward = cpu_seconds(lambda: plain_forward(net, sounds))
    frames = cpu_seconds(lambda: features.class_activation_maps(net, sounds, upsample=False))
    samples = cpu_seconds(lambda: features.class_activation_maps(net, sounds))
    print(f"grad-cam, {n} clips x 16 classes, ch32, conv8, one thread, CPU s, median of 5")
    print(f"  plain forward                {forward:7.2f}")
    print(f"  brainmap, over frames        {frames:7.2f}  {frames / forward:.2f} x forward")
    print(f"  brainmap, over samples       {samples:7.2f}  {samples / forward:.2f} x forward")
    try:
        import captum
    except ImportError:
        print("  captum is not installed: its race is skipped (pip install brainmap[attribution])")
        return
    start = time.process_time()
    theirs = captum_loop(net, sounds)  # once: it takes minutes
    looped = time.process_time() - start
    ours = features.class_activation_maps(net, sounds, upsample=False).maps
    print(f"  captum {captum.__version__} in a loop        {looped:7.2f}  brainmap is {looped / frames:.1f} x faster")
    print(f"  largest difference           {np.abs(theirs - ours).max():.1e}")


if __name__ == "__main__":
    main()
