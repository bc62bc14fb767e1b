"""Write the inputs of a study of natural sounds: noises, two networks, and betas in which layers are planted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

RATE = 16_000
SHAPE = (6, 6, 4)
PLANTED = {"primary": ("first", "conv2"), "anterior": ("first", "conv6"), "lateral": None}


def write_noises(folder: Path, n: int, n_samples: int) -> list[str]:
    """Write noises of different spectra and envelopes, each of its own condition."""
    import soundfile

    (folder / "sounds").mkdir(parents=True)
    rng, names = np.random.default_rng(11), [f"sound{k:03d}" for k in range(n)]
    for name in names:
        spectrum = np.fft.rfft(rng.normal(size=n_samples)) * np.arange(1, n_samples // 2 + 2) ** rng.uniform(-1, 0.5)
        spectrum *= 1 + 4 * np.interp(np.arange(len(spectrum)), np.linspace(0, len(spectrum), 9), rng.uniform(size=9))
        spectrum[0] = 0
        wave = np.fft.irfft(spectrum, n_samples)
        wave *= np.interp(np.arange(n_samples), np.linspace(0, n_samples, 6), rng.uniform(size=6))
        soundfile.write(folder / "sounds" / f"{name}.wav", 0.3 * (wave - wave.mean()) / np.abs(wave).max(), RATE)
    table = pd.DataFrame({"stimulus_id": names, "condition": names, "path": [f"sounds/{k}.wav" for k in names]})
    table.to_csv(folder / "stimuli.tsv", sep="\t", index=False)
    return names


def write_networks(folder: Path, n_samples: int) -> dict[str, Any]:
    """Write two untrained networks, and return the planted layers' features of the sounds."""
    import torch

    from brainmap.features.activations.extract import extract_activations
    from brainmap.features.networks.checkpoints import load_network, save_checkpoint
    from brainmap.features.networks.description import Checkpoint, load_checkpoint
    from brainmap.features.networks.zoo import build_network

    for seed, name in enumerate(("first", "second")):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = build_network("ch32", n_classes=16, n_samples=n_samples)
        classes = tuple(f"class{k}" for k in range(16))
        about = Checkpoint(architecture="ch32", classes=classes, rate=RATE, n_samples=n_samples)
        save_checkpoint(model, folder / f"{name}.safetensors", about)
    sounds = load_checkpoint(folder / "first.safetensors").load_sounds(str(folder / "stimuli.tsv"))
    wanted = [one[1] for one in PLANTED.values() if one]
    found = extract_activations(load_network(str(folder / "first.safetensors")), sounds, layers=wanted)
    return {layer: np.asarray(found[layer][:]) for layer in wanted}


def write_brains(
    folder: Path,
    names: list[str],
    features: dict[str, Any],
    people: list[str],
    shape: tuple[int, int, int] = SHAPE,
) -> None:
    """Write three repetitions for each participant: thirds of the voxels follow their planted layer, or nothing."""
    from brainmap.rsa.images.files import save_image

    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    labels = np.zeros(shape, np.int16)
    third = shape[0] // 3
    for k in range(3):
        labels[third * k : third * (k + 1)] = k + 1
    size = int((labels == 1).sum())
    pd.DataFrame({"index": [1, 2, 3], "name": list(PLANTED)}).to_csv(folder / "rois.tsv", sep="\t", index=False)
    for who in people:
        rng, own = np.random.default_rng([5, int(who)]), folder / f"sub-{who}"
        own.mkdir()
        signal = np.zeros((*shape, len(names)))
        for k, planted in enumerate(PLANTED.values()):
            if planted is not None:
                x = features[planted[1]]
                z = (x - x.mean(axis=0)) / np.where(x.std(axis=0) > 0, x.std(axis=0), 1.0)
                weights = np.random.default_rng(k).normal(size=(z.shape[1], 1)) + 0.5 * rng.normal(
                    size=(z.shape[1], size)
                )
                y = z @ weights
                signal[labels == k + 1] = (y / y.std(axis=0)).T
        for run in (1, 2, 3):
            order = rng.permutation(len(names))
            noisy = (signal + 2.0 * rng.normal(size=signal.shape))[..., order].astype(np.float32)
            called = [names[k] for k in order]
            save_image(nib.Nifti1Image(noisy, affine), own / f"betas_run-{run}.nii.gz", labels=called, space="orig")
        for name, values in (("mask", np.ones(shape, np.uint8)), ("rois", labels)):
            save_image(nib.Nifti1Image(values, affine), own / f"{name}.nii.gz", space="orig")


def write_study(
    folder: Path,
    *,
    sounds: int,
    people: int,
    n_samples: int = 2_400,
    shape: tuple[int, int, int] = SHAPE,
    changes: tuple[tuple[str, str], ...] = (),
) -> Path:
    """Write the inputs that the preset names, and the preset with fewer participants."""
    from brainmap.study.settings.presets import PRESETS

    labels = [f"{k + 1:02d}" for k in range(people)]
    names = write_noises(folder, sounds, n_samples)
    write_brains(folder, names, write_networks(folder, n_samples), labels, shape)
    text = PRESETS["tuckute2023"].replace("seed = 0", "seed = 0\nsimulated = true")
    listed = ", ".join(f'"{label}"' for label in labels)
    text = text.replace('["01", "02", "03", "04", "05", "06", "07", "08"]', f"[{listed}]")
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    (folder / "study.toml").write_text(text)
    return folder / "study.toml"


SMALL = (
    ('controls = ["permuted"]', "controls = []"),
    ('models = ["cochleagram", "modulation"]', 'models = ["waveform-envelope"]'),
    ("splits = 10 }", "splits = 2, bootstrap = 0, permutations = 100 }"),
    ("permutations = 1000 ", "permutations = 39 "),
    ("folds = 5 ", "folds = 4 "),
)
