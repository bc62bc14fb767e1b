"""Write the inputs of a study of stories: noises, a network, and BOLD in which layers and delays are planted."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

RATE, N_SAMPLES, T_R = 4_000, 2_400, 2.0
SHAPE = (8, 4, 3)
SPEECH = ["sound-energy", "word-rate", "speech-onset"]
PLANTED: dict[str, tuple[str, float] | None] = {
    "early": ("conv2", 4.0),
    "late": ("conv6", 6.0),
    "lexical": ("word-rate", 4.0),
    "deaf": None,
}


def write_stories(folder: Path, n: int, seconds: float) -> list[str]:
    """Write noises whose bands have envelopes of their own."""
    import soundfile
    from scipy.signal import butter, sosfilt

    (folder / "sounds").mkdir(parents=True)
    (folder / "words").mkdir()
    rng, names = np.random.default_rng(3), [f"story_{k}" for k in range(n)]
    edges = np.geomspace(100, 1_900, 9)
    for name in names:
        size = round(seconds * RATE)
        wave, times = np.zeros(size), np.arange(size) / RATE
        for low, high in pairwise(edges.tolist()):
            band = sosfilt(butter(2, (low, high), "bandpass", fs=RATE, output="sos"), rng.normal(size=size))
            knots = np.arange(0, seconds + 2, 1.5)
            wave += band / band.std() * np.interp(times, knots, rng.uniform(size=len(knots)) ** 2)
        soundfile.write(folder / "sounds" / f"{name}.wav", 0.1 * wave / np.abs(wave).max(), RATE)
        gaps = rng.gamma(1.0, 0.3, size=size) * np.interp(
            np.arange(size), np.arange(0, size, 20), rng.choice([1, 4], -(-size // 20))
        )
        onset = gaps.cumsum()[gaps.cumsum() < seconds - 1]
        words = pd.DataFrame({"onset": onset, "duration": 0.1, "word": "x"})
        words.to_csv(folder / "words" / f"{name}.tsv", sep="\t", index=False)
    table = pd.DataFrame({"stimulus_id": names, "condition": names, "path": [f"sounds/{k}.wav" for k in names]})
    table.to_csv(folder / "stories.tsv", sep="\t", index=False)
    return names


def write_network(folder: Path) -> dict[str, Any]:
    """Write an untrained network, and return the planted layers' activations of windows."""
    import torch

    from brainmap.features.activations.extract import extract_activations
    from brainmap.features.networks.checkpoints import load_network, save_checkpoint
    from brainmap.features.networks.description import Checkpoint, load_checkpoint
    from brainmap.features.networks.zoo import build_network

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_network("ch32", n_classes=16, n_samples=N_SAMPLES)
    about = Checkpoint(architecture="ch32", classes=tuple("abcdefghijklmnop"), rate=RATE, n_samples=N_SAMPLES)
    save_checkpoint(model, folder / "first.safetensors", about)
    sounds = load_checkpoint(folder / "first.safetensors").load_sounds(str(folder / "stories.tsv"))
    layers = [one[0] for one in PLANTED.values() if one and one[0].startswith("conv")]
    found = extract_activations(
        load_network(str(folder / "first.safetensors")), sounds, layers=layers, window=N_SAMPLES / RATE, hop=0.5
    )
    table, count = found.table, np.zeros((len(found.items), 1))
    for name in dict.fromkeys(table["sound"]):
        rows = np.flatnonzero(table["sound"] == name)
        onset = pd.read_csv(folder / "words" / f"{name}.tsv", sep="\t")["onset"].to_numpy()
        ends = (table["onset"] + table["duration"]).to_numpy()[rows]
        count[rows, 0] = [((onset > end - 0.5) & (onset <= end)).sum() for end in ends]
    return {"table": table, "word-rate": count, **{x: np.asarray(found[x][:], np.float64) for x in layers}}


def write_bold(
    folder: Path, names: list[str], acts: dict[str, Any], people: list[str], *, scans: int, runs: int
) -> None:
    """Write BOLD whose regions follow their layer after their delay, with slow noise; the last region hears nothing."""
    from scipy.ndimage import gaussian_filter1d

    labels = np.zeros(SHAPE, np.int16)
    for k in range(4):
        labels[2 * k : 2 * k + 2] = k + 1
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    pd.DataFrame({"index": [1, 2, 3, 4], "name": list(PLANTED)}).to_csv(folder / "rois.tsv", sep="\t", index=False)
    table, times = acts["table"], np.arange(scans) * T_R
    for who in people:
        rng, own = np.random.default_rng([7, int(who)]), folder / f"sub-{who}"
        own.mkdir()
        for name in names:
            signal = np.zeros((*SHAPE, scans))
            for k, planted in enumerate(PLANTED.values()):
                if planted is None:
                    continue
                layer, delay = planted
                rows = (table["sound"] == name).to_numpy()
                ends = (table["onset"] + table["duration"]).to_numpy()[rows]
                x = (acts[layer] - acts[layer].mean(axis=0)) / np.maximum(acts[layer].std(axis=0), 1e-9)
                weights = np.random.default_rng(k).normal(size=(x.shape[1], 1)) + 0.4 * np.random.default_rng(
                    [k, int(who)]
                ).normal(size=(x.shape[1], 24))
                smooth = gaussian_filter1d(x[rows] @ weights, 2, axis=0)  # what the scans can resolve
                late = np.stack([np.interp(times - delay, ends, one, left=0) for one in smooth.T], axis=1)
                signal[labels == k + 1] = (late / late.std(axis=0)).T
            for run in range(runs):
                noise = rng.normal(size=signal.shape)
                noise[..., 1:] += 0.4 * noise[..., :-1]
                drift = 2 * np.cos(np.pi * (np.arange(scans) + 0.5) / scans) * rng.normal(size=(*SHAPE, 1))
                image = nib.Nifti1Image((500 + 5 * (signal + 2 * noise + drift)).astype("f4"), affine)
                image.header.set_zooms((3, 3, 3, T_R))
                image.header.set_xyzt_units("mm", "sec")
                nib.save(image, own / f"{name}_run-{run + 1}_bold.nii.gz")
        for called, values in (("mask", np.ones(SHAPE, np.uint8)), ("rois", labels)):
            nib.save(nib.Nifti1Image(values, affine), own / f"{called}.nii.gz")


def write_study(
    folder: Path, *, stories: int, scans: int, people: int, runs: int = 1, changes: tuple[tuple[str, str], ...] = ()
) -> Path:
    """Write the inputs that the preset names, and the preset."""
    from brainmap.study.settings.presets import PRESETS

    listed = [f"{k + 1:02d}" for k in range(people)]
    names = write_stories(folder, stories, scans * T_R)
    write_bold(folder, names, write_network(folder), listed, scans=scans, runs=runs)
    text = PRESETS["stories"].replace("seed = 0", "seed = 0\nsimulated = true")
    text = text.replace('["01", "02", "03"]', str(listed).replace("'", '"'))
    text = text.replace('layers = "all"', 'layers = ["conv2", "conv6"]')
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    (folder / "study.toml").write_text(text)
    return folder / "study.toml"


def write_other_kind(folder: Path, kind: str) -> tuple[str, str]:
    """Write the BOLD of a study again in another kind of file; return the keys of [[brain]] and their replacement."""
    from brainmap.rsa.surface.data import SurfaceData, save_surface

    for file in folder.glob("sub-*/*_bold.nii.gz"):
        base, labels = str(file).removesuffix(".nii.gz"), np.asarray(nib.load(file.parent / "rois.nii.gz").dataobj)
        x = np.asarray(nib.load(file).dataobj).reshape(labels.size, -1)
        if kind == "array":
            np.save(f"{base}.npy", x.T)
            table = pd.DataFrame({"roi": np.array(["", *PLANTED])[labels.ravel()]})
            table.to_csv(folder / "voxels.tsv", sep="\t", index=False)
        elif kind == "table":
            means = {name: x[labels.ravel() == k + 1].mean(axis=0, dtype=float) for k, name in enumerate(PLANTED)}
            pd.DataFrame(means).to_csv(f"{base}.tsv", sep="\t", index=False)
        else:
            half, flat = len(x) // 2, labels.reshape(-1, 1).astype("f4")
            save_surface(SurfaceData(x[:half], x[half:]), f"{base}_{{hemi}}.func.gii")
            names = {side: dict(enumerate(("???", *PLANTED))) for side in ("left", "right")}
            data = SurfaceData(flat[:half], flat[half:], ("regions",), names)
            save_surface(data, file.parent / "rois_{hemi}.label.gii", overwrite=True)
    old = text = (folder / "study.toml").read_text()
    old = text[text.index('files = "sub-') : text.index('space = "native"')]
    rois = {
        "array": 'rois = { table = "voxels.tsv" }',
        "table": f"rois = {{ names = {list(PLANTED)} }}",
        "surface": 'rois = { image = "sub-{participant}/rois_{hemi}.label.gii" }',
    }[kind]
    ending = {"array": ".npy", "table": ".tsv", "surface": "_{hemi}.func.gii"}[kind]
    return old, f'files = "sub-{{participant}}/{{sound}}_run-{{run}}_bold{ending}"\n{rois}\n'
