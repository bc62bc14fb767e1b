"""Extraction of 1,000 clips, all layers of ch32: brainmap against a bare loop with forward hooks.

The peer is the least that one could write: batches of 32, and a hook on every nonlinearity and the output that keeps
the mean over time. brainmap chooses its batches. With time kept, a tenth of the clips are raced against plain arrays in
memory: the same loop with brainmap's batches, whose hooks copy what they are given.
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
from brainmap.features.layers.batching import choose_batch_size
from brainmap.types import Pooling

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
            yield self.some[np.arange(start, min(start + size, self.n)) % BATCH]


def bare_loop(net: nn.Module, sounds: Noises, *, batch: int = BATCH, whole: bool = False) -> dict[str, np.ndarray]:
    """Compute what follows every nonlinearity, and the output, by layer: the mean over time, or all of it."""
    kept: dict[str, list[np.ndarray]] = {}
    handles = []

    def keep(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(module: nn.Module, given: object, out: Tensor) -> None:
            kept.setdefault(name, []).append((out.mean(2) if out.ndim == 3 and not whole else out.clone()).numpy())

        return hook

    for name, module in net.named_children():
        if name.startswith("act") or name == "output":
            handles.append(module.register_forward_hook(keep(name)))
    with torch.no_grad():
        for sound in sounds.batches(batch):
            net(torch.from_numpy(sound))
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
        features.extract_activations(network(), Noises(n), store=Path(folder) / "a.zarr").close()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def race(net: nn.Module, sounds: Noises, *, pooling: Pooling, batch: int) -> None:
    """Times of a bare loop, of brainmap in memory and on disk, and the largest difference."""
    stores = count()  # a store of its own each round: one that is complete would be taken as it is
    whole = pooling == "none"
    with tempfile.TemporaryDirectory() as folder:
        contenders: dict[str, Callable[[], object]] = {
            "bare": lambda: bare_loop(net, sounds, batch=batch, whole=whole),
            "memory": lambda: extract(net, sounds, pooling),
            "disk": lambda: extract(net, sounds, pooling, Path(folder) / f"{next(stores)}.zarr"),
        }
        times = in_turn(contenders, ROUNDS)
    plain, ours = bare_loop(net, sounds, batch=batch, whole=whole), extract(net, sounds, pooling)
    seconds = {name: statistics.median(found) for name, found in times.items()}
    layers = dict(zip(plain, ours.layers, strict=True))
    apart = max(float(np.abs(plain[a] - np.asarray(ours[b])).max()) for a, b in layers.items())
    kept = "all of time" if whole else "mean over time"
    print(f"extraction, {len(sounds)} clips, {len(layers)} layers of ch32, {kept}, one thread, CPU s, {ROUNDS} rounds")
    print(f"  bare forward hooks, batches of {batch:<3} {seconds['bare']:7.2f}")
    wanted = "at most 1.3" if whole else "at most 0.5"
    for name, what in (("memory", "brainmap, kept in memory"), ("disk", "brainmap, hashed and to disk")):
        ratio = statistics.median(mine / bare for mine, bare in zip(times[name], times["bare"], strict=True))
        note = f" (must be {wanted})" if name == "memory" or not whole else ""
        print(f"  {what:<34} {seconds[name]:7.2f}  {ratio:.2f} x{note}")
    print(f"  largest difference                 {apart:.1e}")


def extract(net: nn.Module, sounds: Noises, pooling: Pooling, store: Path | None = None) -> features.Activations:
    """All layers, with the batches that brainmap chooses."""
    return features.extract_activations(net, sounds, pooling=pooling, store=store, threads=1)


def main() -> None:
    """Both races, and the peaks of two sizes."""
    if sys.argv[1:2] == ["--peak"]:
        extract_and_tell_peak(int(sys.argv[2]))
        return
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    net = network()
    race(net, Noises(n), pooling="mean", batch=BATCH)
    few = Noises(max(n // 10, 1))
    race(net, few, pooling="none", batch=choose_batch_size(net, features.list_layers(net, few), few))
    small, large = peak_megabytes(n), peak_megabytes(5 * n)
    print(
        f"  peak memory                  {small:.0f} MB for {n:,} clips, {large:.0f} MB for {5 * n:,}: "
        f"{large / small:.3f} x (must be below 1.1)"
    )


if __name__ == "__main__":
    main()
