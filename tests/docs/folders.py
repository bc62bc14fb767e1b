"""The folders in which the documents are typed: what a reader of each page has before the first line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import scipy.io
import soundfile

from brainmap import data, features, rsa
from tests.docs.blocks import ROOT, list_blocks

WORDS = data.folder() / "words"
NETWORKS = data.folder() / "networks"
SHAPE = (8, 6, 5)
PEOPLE = ("01", "02", "03")
RUNS = (1, 2, 3, 4)
REGIONS = {1: "left-A1", 2: "belt"}
T_R = 2.0  # [s]


def affine() -> np.ndarray:
    """Voxels of 4 mm around the left auditory cortex of MNI space."""
    matrix = np.diag([4.0, 4.0, 4.0, 1.0])
    matrix[:3, 3] = -72, -40, -8
    return matrix


def save(values: Any, path: Path, labels: list[str] | None = None) -> None:
    """Write an image of MNI space."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rsa.save_image(nib.Nifti1Image(np.asarray(values), affine()), path, labels=labels, space="MNI")


def label_regions() -> np.ndarray:
    """Two regions side by side, as a label image."""
    labels = np.zeros(SHAPE, np.int16)
    labels[:3, 1:5, 1:4], labels[4:7, 1:5, 1:4] = 1, 2
    return labels


def choose_words(voices: int) -> pd.DataFrame:
    """The words of the first voices, with the paths of their files."""
    table = pd.read_csv(WORDS / "stimuli.tsv", sep="\t")
    table = table[table["voice"].isin([f"v{k:02d}" for k in range(1, voices + 1)])].reset_index(drop=True)
    return table.assign(path=[str(WORDS / name) for name in table["path"]])


def hear(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """What two layers of ch32 make of the sounds, z-scored over them: `(n_items, n_units)` each."""
    checkpoint = features.load_checkpoint(NETWORKS / "ch32.safetensors")
    found = features.extract_activations(
        features.load_network(NETWORKS / "ch32.safetensors"), checkpoint.load_sounds(table), layers=["conv3", "conv7"]
    )
    x, y = (np.asarray(found[layer][:]) for layer in ("conv3", "conv7"))
    return tuple((one - one.mean(axis=0)) / np.maximum(one.std(axis=0), 1e-6) for one in (x, y))


def respond(heard: tuple[np.ndarray, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """True patterns of a participant, `(*SHAPE, n_items)`: a layer in each region, and nothing elsewhere."""
    truth = np.zeros((*SHAPE, len(heard[0])))
    for label, layer in zip(REGIONS, heard, strict=True):
        inside = label_regions() == label
        truth[inside] = (layer @ rng.normal(size=(layer.shape[1], inside.sum())) / layer.shape[1] ** 0.5).T
    return truth


def write_sounds(folder: Path, table: pd.DataFrame) -> None:
    """The table of sounds, and a network."""
    table[["stimulus_id", "condition", "path"]].to_csv(folder / "stimuli.tsv", sep="\t", index=False)
    shutil.copy(NETWORKS / "ch32.safetensors", folder)


def write_regions(folder: Path) -> None:
    """Two regions and their table, and a mask."""
    save(label_regions(), folder / "rois.nii.gz")
    pd.DataFrame({"index": REGIONS.keys(), "name": REGIONS.values()}).to_csv(folder / "rois.tsv", sep="\t", index=False)
    save(np.ones(SHAPE, np.uint8), folder / "mask.nii.gz")


def write_words(folder: Path) -> None:
    """48 words as patterns of three participants, four runs each, in the same order of volumes."""
    table = choose_words(3)
    write_sounds(folder, table)
    write_regions(folder)
    names, heard = list(table["stimulus_id"]), hear(table)
    pd.DataFrame({"volume": range(len(names)), "stimulus_id": names}).to_csv(
        folder / "labels.tsv", sep="\t", index=False
    )
    for person in PEOPLE:
        rng = np.random.default_rng(int(person))
        truth = respond(heard, rng)
        save(np.ones(SHAPE, np.uint8), folder / f"sub-{person}" / "mask.nii.gz")
        for run in RUNS:
            betas = (truth + rng.normal(size=truth.shape)).astype(np.float32)
            save(betas, folder / f"sub-{person}" / f"betas_run-{run}.nii.gz", labels=names)


RDMS = [
    "brainmap --quiet features activations --checkpoint ch32.safetensors --sounds stimuli.tsv --out pooled.zarr",
    "brainmap --quiet rsa rdm --activations pooled.zarr --out layers.h5",
    *(
        f"brainmap --quiet rsa rdm --betas sub-{p}/betas_run-*.nii.gz --mask sub-{p}/mask.nii.gz --rois rois.nii.gz "
        f"--roi-table rois.tsv --stimuli stimuli.tsv --participant {p} --out sub-{p}_rdms.h5"
        for p in PEOPLE
    ),
]
MAPS = [
    f"brainmap --quiet rsa searchlight --models layers.h5 --betas sub-{p}/betas_run-*.nii.gz "
    f"--mask sub-{p}/mask.nii.gz --radius 9 --measure rho-a --out sub-{p}_maps.nii.gz"
    for p in PEOPLE[1:]
]


def add_candidates(folder: Path) -> None:
    """docs/statistics.md: a table of sounds to choose from."""
    shutil.copy(folder / "stimuli.tsv", folder / "candidates.tsv")


def add_stories(folder: Path) -> None:
    """docs/encoding.md: runs of one participant, two networks of any length, and four stories heard twice."""
    for run in RUNS:
        shutil.copy(folder / "sub-01" / f"betas_run-{run}.nii.gz", folder / f"run-{run}.nii.gz")
    shutil.copy(NETWORKS / "ch32-gap.safetensors", folder / "net.safetensors")
    shutil.copy(NETWORKS / "ch32-gmp.safetensors", folder / "other.safetensors")
    words, rng, scans = choose_words(12), np.random.default_rng(0), 30
    names = [f"story{k}" for k in range(4)]
    for k, name in enumerate(names):
        chosen = words.sample(n=160, random_state=k)["path"]
        wave = np.concatenate([soundfile.read(path)[0] for path in chosen])[: int(scans * T_R * 16_000)]
        soundfile.write(folder / f"{name}.wav", wave, 16_000)
        shared = rng.normal(size=(*SHAPE, scans))
        for run in (1, 2):
            stem = folder / "sub-01" / f"{name}_run-{run}"
            bold = (1000 + 10 * (shared + rng.normal(size=shared.shape))).astype(np.float32)
            write_bold(bold, stem.with_name(f"{stem.name}_bold.nii.gz"))
            moved = pd.DataFrame(rng.normal(size=(scans, 6)), columns=list_motion())
            moved.to_csv(stem.with_name(f"{stem.name}_confounds.tsv"), sep="\t", index=False)
    stories = pd.DataFrame({"stimulus_id": names, "condition": names, "path": [f"{name}.wav" for name in names]})
    stories.to_csv(folder / "stories.tsv", sep="\t", index=False)


ENCODERS = [
    f"brainmap --quiet features activations --checkpoint {name}.safetensors --sounds stimuli.tsv --layers conv3 "
    f"--out {name}.zarr"
    for name in ("net", "other")
] + [
    "brainmap --quiet rsa encode --activations other.zarr --betas sub-02/betas_run-*.nii.gz --mask mask.nii.gz "
    "--labels labels.tsv --rois rois.nii.gz --roi-table rois.tsv --targets roi --layers conv3 "
    "--encoder judge.safetensors --checkpoint other.safetensors --sounds stimuli.tsv"
]


def list_motion() -> list[str]:
    """The names that fMRIPrep gives to six parameters of motion."""
    return [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]


def write_bold(values: np.ndarray, path: Path) -> None:
    """Write a time series of MNI space with its time between scans."""
    image = nib.Nifti1Image(values, affine())
    image.header.set_zooms((4, 4, 4, T_R))
    image.header.set_xyzt_units("mm", "sec")
    rsa.save_image(image, path, space="MNI")


def add_bold(folder: Path) -> None:
    """docs/brain.md: two runs of BOLD with events, an fMRIPrep folder, tables of responses, and data on a surface."""
    bids, space = folder / "bids", "MNI152NLin2009cAsym"
    (folder / "betas").mkdir()
    for run in (1, 2):
        rng = np.random.default_rng(run)
        conditions = rng.permutation(np.repeat(["cat", "dog", "tree"], 8))
        events = pd.DataFrame({"onset": 6.0 * np.arange(24) + 4, "duration": 1.0, "trial_type": conditions})
        shape = (*SHAPE, 80)
        bold = (1000 + 10 * rng.normal(size=shape)).astype(np.float32)
        write_bold(bold, folder / f"run-0{run}_bold.nii.gz")
        events.to_csv(folder / f"run-0{run}_events.tsv", sep="\t", index=False)
        stem, raw = f"sub-01_task-words_run-{run}", bids / "sub-01" / "func"
        own = bids / "derivatives" / "fmriprep" / "sub-01" / "func"
        raw.mkdir(parents=True, exist_ok=True)
        own.mkdir(parents=True, exist_ok=True)
        write_bold(bold, own / f"{stem}_space-{space}_desc-preproc_bold.nii.gz")
        save(np.ones(SHAPE, np.uint8), own / f"{stem}_space-{space}_desc-brain_mask.nii.gz")
        events.to_csv(raw / f"{stem}_events.tsv", sep="\t", index=False)
    shutil.copytree(folder / "pooled.zarr", folder / "net.zarr")
    save(np.random.default_rng(0).normal(size=SHAPE).astype(np.float32), folder / "map.nii.gz")
    add_tables(folder)
    add_surfaces(folder)
    add_spm(folder)


def add_tables(folder: Path) -> None:
    """Responses as a matrix of one participant, and of two in one file, with their lists."""
    import h5py

    table = pd.read_csv(folder / "stimuli.tsv", sep="\t")
    rng, x = np.random.default_rng(0), hear(choose_words(3))[0]
    truth = x @ rng.normal(size=(x.shape[1], 60)) / x.shape[1] ** 0.5
    runs = truth[..., None] + rng.normal(size=(*truth.shape, 4))
    scipy.io.savemat(folder / "sub-01.mat", {"betas": runs[:, :40]})
    with h5py.File(folder / "all.h5", "w") as file:
        file["betas"] = runs
    table[["stimulus_id", "condition"]].to_csv(folder / "items.tsv", sep="\t", index=False)
    voxels = pd.DataFrame({"roi": ["A1"] * 20 + ["belt"] * 20 + ["A1"] * 20, "participant": ["01"] * 40 + ["02"] * 20})
    voxels[["roi"]].head(40).to_csv(folder / "voxels.tsv", sep="\t", index=False)
    voxels.to_csv(folder / "all-voxels.tsv", sep="\t", index=False)


def add_spm(folder: Path) -> None:
    """The first level of two participants: three sounds in two sessions, motion, and constants, named in headers."""
    names = [f"Sn({k}) {name}" for k in (1, 2) for name in ("cat*bf(1)", "dog*bf(1)", "tree*bf(1)", "R1", "R2")]
    for person in PEOPLE[:2]:
        rng, own = np.random.default_rng(int(person)), folder / f"sub-{person}" / "first_level"
        save(np.ones(SHAPE, np.uint8), own / "mask.nii")
        for k, name in enumerate([*names, "Sn(1) constant", "Sn(2) constant"], start=1):
            image = nib.Nifti1Image(rng.normal(size=SHAPE).astype(np.float32), affine())
            image.header["descrip"] = f"spm_spm:beta ({k:04d}) - {name}".encode()
            nib.save(image, own / f"beta_{k:04d}.nii")


def add_surfaces(folder: Path) -> None:
    """Two runs of three participants on fsaverage5, whose data lie in a patch of each hemisphere."""
    names = list(pd.read_csv(folder / "stimuli.tsv", sep="\t")["stimulus_id"])
    from nilearn.datasets import load_fsaverage

    mesh = load_fsaverage("fsaverage5")["white_matter"]
    for person in PEOPLE:
        rng = np.random.default_rng([7, int(person)])
        truth = {side: rng.normal(size=(len(names), 10242)) for side in ("left", "right")}
        for run in (1, 2):
            sides = []
            for side in ("left", "right"):
                points = mesh.parts[side].coordinates
                near = np.linalg.norm(points - points[0], axis=1) < 12
                values = np.zeros((10242, len(names)), np.float32)
                values[near] = (truth[side] + rng.normal(size=truth[side].shape))[:, near].T
                sides.append(values)
            found = rsa.SurfaceData(sides[0], sides[1], tuple(names))
            rsa.save_surface(found, folder / f"sub-{person}" / f"run-{run}_hemi-{{hemi}}.func.gii")


def write_network(folder: Path) -> None:
    """docs/networks.md: the weights of the network whose code the page has, four words, and networks of others."""
    (code,) = [
        block for block in list_blocks(ROOT / "docs" / "networks.md", "python") if block.startswith("# mynets.py")
    ]
    (folder / "mynets.py").write_text(code)
    save_weights(code, folder / "mine.pt")


def save_weights(code: str, path: Path) -> None:
    """Save random weights of the network that code builds."""
    import torch

    names: dict[str, Any] = {}
    exec(code, names)
    torch.manual_seed(0)
    torch.save(names["build"]().state_dict(), path)


def write_others(folder: Path) -> None:
    """docs/networks.md: a wav2vec 2.0 of random weights, as `save_pretrained` writes it, and a Keras file."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    convolutions = {"conv_dim": (16, 16), "conv_kernel": (10, 8), "conv_stride": (8, 8)}
    network = Wav2Vec2Model(Wav2Vec2Config(**sizes, **convolutions, num_conv_pos_embedding_groups=4))
    network.save_pretrained(folder / "wav2vec2-base")
    Wav2Vec2FeatureExtractor(sampling_rate=16_000).save_pretrained(folder / "wav2vec2-base")
    env = {**os.environ, "KERAS_BACKEND": "torch"}
    subprocess.run([sys.executable, "-c", KERAS], cwd=folder, env=env, check=True, capture_output=True)


KERAS = """
import keras
layers = [keras.layers.Conv1D(4, 9, strides=4, activation="relu"), keras.layers.GlobalAveragePooling1D()]
keras.Sequential([keras.Input((16000, 1)), *layers, keras.layers.Dense(4)]).save("words.keras")
"""


def write_classes(folder: Path, words: tuple[str, ...] = ()) -> None:
    """A folder with a folder of recordings for each class, named as in Speech Commands; all words, or some."""
    table = choose_words(12)
    for row in table.itertuples():
        if not words or row.condition in words:
            home = folder / str(row.condition)
            home.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(row.path), home / f"{row.voice}_nohash_0.flac")


def write_study(folder: Path, *, afni: bool) -> None:
    """The files of the study file of README.md (AFNI), or of the first study (NIfTI): 8 participants, 16 words."""
    table = choose_words(1)
    write_sounds(folder, table)
    write_regions(folder)
    heard = hear(table)
    ending = "+tlrc.HEAD" if afni else ".nii.gz"
    for k in range(1, 9):
        rng = np.random.default_rng([1, k])
        truth, own = respond(heard, rng), folder / f"sub-{k:02d}"
        save(np.ones(SHAPE, np.uint8), own / f"mask{ending}")
        for run in RUNS:
            betas = (truth + rng.normal(size=truth.shape)).astype(np.float32)
            save(betas, own / f"betas_run-{run}{ending}", labels=list(table["stimulus_id"]))


def write_few_words(folder: Path) -> None:
    """docs/hearing.md: data/ with three voices, of which base hears words as others, a story, and a recording."""
    (folder / "data" / "words").mkdir(parents=True)
    (folder / "data" / "networks").symlink_to(NETWORKS)
    table = choose_words(12)
    table = table[table["voice"].isin(("v01", "v08", "v10"))]
    for path in table["path"]:
        (folder / "data" / "words" / Path(path).name).symlink_to(path)
    table.assign(path=[Path(path).name for path in table["path"]]).to_csv(
        folder / "data" / "words" / "stimuli.tsv", sep="\t", index=False
    )
    story = [soundfile.read(file)[0] for file in sorted(WORDS.glob("six_*.flac"))]
    soundfile.write(folder / "story.flac", np.concatenate(story), 16_000)
    soundfile.write(folder / "some.wav", story[0], 16_000)
