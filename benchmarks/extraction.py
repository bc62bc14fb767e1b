"""Extraction of 1,000 clips, all layers of ch32, mean over time: brainmap against a bare loop with forward hooks.

The peer is the least that one could write: a hook on every nonlinearity and the output that keeps the mean over time.
Memory: the peak of a process that extracts 1,000 clips, and of one that extracts 5,000, sounds made as they are read.

Run: python benchmarks/extraction.py [n_clips]. CPU time of this process, one thread, rounds in which every contender
runs once, median of 5.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
import torch
from clock import in_turn
from torch import Tensor, nn

from brainmap import features

BATCH, ROUNDS = 32, 5


class Noises:
    """Sounds that exist a batch at a time; the same few, so that making them costs nothing."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.some = np.random.default_rng(0).standard_normal((BATCH, 1, 16_000), np.float32) * np.float32(0.1)

    @property
    def items(self) -> list[str]:
        return [f"noise{i}" for i in range(self.n)]

    @property
    def conditions(self) -> list[str]:
        return ["noise"] * self.n

    def __len__(self) -> int:
        return self.n

    def batches(self, size: int) -> Iterator[np.ndarray]:
        for start in range(0, self.n, size):
            yield self.some[: min(size, self.n - start)]


def bare_loop(net: nn.Module, sounds: Noises) -> dict[str, np.ndarray]:
    """The mean over time after every nonlinearity, and the output, by layer."""
    kept: dict[str, list[np.ndarray]] = {}
    handles = []

    def keep(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(module: nn.Module, given: object, out: Tensor) -> None:
            kept.setdefault(name, []).append((out.mean(2) if out.ndim == 3 else out).numpy())

        return hook

    for name, module in net.named_children():
        if name.startswith("act") or name == "output":
            handles.append(module.register_forward_hook(keep(name)))
    with torch.no_grad():
        for batch in sounds.batches(BATCH):
            net(torch.from_numpy(batch))
    for handle in handles:
        handle.remove()
    return {name: np.concatenate(found) for name, found in kept.items()}


def network() -> nn.Module:
    """ch32 with random weights, one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return features.build_network("ch32", variant="bn").eval()


def peak_megabytes(n: int) -> float:
    """Peak resident memory of a process that extracts `n` clips to disk."""
    done = subprocess.run([sys.executable, __file__, "--peak", str(n)], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def extract_and_tell_peak(n: int) -> None:
    """Print this process's peak memory [MB] after an extraction."""
    with tempfile.TemporaryDirectory() as folder:
        features.extract_activations(network(), Noises(n), store=Path(folder) / "a.zarr", batch_size=BATCH).close()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    """Times of both sides, the largest difference, and the peaks of two sizes."""
    if sys.argv[1:2] == ["--peak"]:
        extract_and_tell_peak(int(sys.argv[2]))
        return
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    net, sounds = network(), Noises(n)
    stores = count()  # a store of its own each round: one that is complete would be taken as it is
    with tempfile.TemporaryDirectory() as folder:
        contenders: dict[str, Callable[[], object]] = {
            "bare": lambda: bare_loop(net, sounds),
            "memory": lambda: features.extract_activations(net, sounds, batch_size=BATCH),
            "disk": lambda: features.extract_activations(
                net, sounds, batch_size=BATCH, store=Path(folder) / f"{next(stores)}.zarr"
            ),
        }
        times = in_turn(contenders, ROUNDS)
        plain, ours = bare_loop(net, sounds), features.extract_activations(net, sounds, batch_size=BATCH)
    seconds = {name: statistics.median(found) for name, found in times.items()}
    layers = dict(zip(plain, ours.layers, strict=True))
    apart = max(float(np.abs(plain[a] - np.asarray(ours[b])).max()) for a, b in layers.items())
    print(f"extraction, {n} clips, {len(layers)} layers of ch32, mean over time, one thread, CPU s, median of {ROUNDS}")
    print(f"  bare forward hooks           {seconds['bare']:7.2f}")
    for name, what in (("memory", "brainmap, kept in memory"), ("disk", "brainmap, hashed and to disk")):
        print(f"  {what:<28} {seconds[name]:7.2f}  {seconds[name] / seconds['bare']:.2f} x (must be below 1.2)")
    print(f"  largest difference           {apart:.1e}")
    small, large = peak_megabytes(n), peak_megabytes(5 * n)
    print(
        f"  peak memory                  {small:.0f} MB for {n:,} clips, {large:.0f} MB for {5 * n:,}: "
        f"{large / small:.3f} x (must be below 1.1)"
    )


if __name__ == "__main__":
    main()
