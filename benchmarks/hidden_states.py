"""Extraction of all hidden states of a tiny wav2vec 2.0: brainmap against the plain forward pass plus copying.

The peer asks transformers for `output_hidden_states` and copies what is kept: the mean over time, or everything. Both
get the same normalized batches of one second, and their numbers must agree. Before the first batch brainmap lists the
layers and makes the arrays; the race is long enough that this weighs as little as in a study.

Run: python benchmarks/hidden_states.py [n_clips]. CPU time of this process, one thread, rounds in which both run once,
median of the rounds. The file is not called transformers.py, because Python would then import it as that library.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before BLAS is loaded

import numpy as np  # noqa: E402
import torch  # noqa: E402
from clock import in_turn  # noqa: E402

from brainmap import features  # noqa: E402
from brainmap.features.networks.checkpoints import load_network  # noqa: E402

BATCH, ROUNDS = 32, 9
SIZES: dict[str, Any] = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "conv_dim": (8, 8, 8), "conv_stride": (5, 4, 4), "conv_kernel": (10, 4, 4), "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip


def make_network(folder: Path) -> Any:
    """Write a tiny wav2vec 2.0 as a Hugging Face folder, and load it."""
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    torch.manual_seed(0)
    Wav2Vec2Model(Wav2Vec2Config(**SIZES)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return load_network(folder)


def main() -> None:
    """Both poolings: medians, their ratio, and the largest difference."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
    torch.set_num_threads(1)
    sounds = (0.05 * np.random.default_rng(0).standard_normal((n, 1, 16_000))).astype(np.float32)
    names = [f"hidden.{k}" for k in range(3)]
    with tempfile.TemporaryDirectory() as folder:
        network = make_network(Path(folder))
    whole = network._whole[0]

    def ours(pooling: Any) -> list[np.ndarray]:
        found = features.extract_activations(
            network, sounds, layers=names, pooling=pooling, threads=1, batch_size=BATCH, key="race"
        )
        return [found[name] for name in names]

    def theirs(pooling: str) -> list[np.ndarray]:
        kept: list[list[np.ndarray]] = [[] for _ in names]
        with torch.no_grad():
            for start in range(0, n, BATCH):
                batch = torch.as_tensor(sounds[start : start + BATCH]).clone()
                states = whole(**network.feeding.arguments(batch), output_hidden_states=True).hidden_states
                for rows, state in zip(kept, states, strict=True):
                    rows.append((state.mean(1) if pooling == "mean" else state.transpose(1, 2)).numpy().copy())
        return [np.concatenate(rows) for rows in kept]

    print(f"all hidden states of a tiny wav2vec 2.0, {n} clips of 1 s, batches of {BATCH}")
    for pooling in ("mean", "none"):
        apart = max(float(np.abs(a - b).max()) for a, b in zip(ours(pooling), theirs(pooling), strict=True))
        assert apart < 1e-5, apart
        times = in_turn({"brainmap": lambda p=pooling: ours(p), "plain": lambda p=pooling: theirs(p)}, ROUNDS)
        ratios = [a / b for a, b in zip(times["brainmap"], times["plain"], strict=True)]
        medians = {name: statistics.median(one) for name, one in times.items()}
        print(
            f"pooling {pooling}: brainmap {medians['brainmap']:.2f} s, plain {medians['plain']:.2f} s, ratio "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); largest difference {apart:.1g}"
        )


if __name__ == "__main__":
    main()
