"""Write the demo: a simulated study with a known answer, in a user's form, with half of the participants from AFNI."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap import data
from brainmap.errors import InputError
from brainmap.features.activations.extract import extract_activations
from brainmap.features.networks.checkpoints import load_network
from brainmap.features.networks.description import load_checkpoint
from brainmap.features.sounds.files import load_sounds
from brainmap.progress import progress
from brainmap.record import atomic, command_line, versions, write_json, write_table
from brainmap.rsa.images.files import save_image
from brainmap.rsa.regions.labels import sphere_rois
from brainmap.rsa.regions.rois import AUDITORY_CENTERS
from brainmap.rsa.simulation.bold import fill_volumes, simulate_bold
from brainmap.rsa.simulation.participants import SimulatedParticipant, simulate_participant
from brainmap.shipped import MNI152, find_in_nilearn

NETWORK = "ch32"
VOICES = ("v01", "v02", "v03")
PLANTED = {"heschl": "conv2", "pstg": "conv4", "astg": "conv7"}
CONTROL: dict[str, tuple[float, float, float]] = {  # MNI, LPI [mm]
    "left-calcarine": (-8.0, -84.0, 4.0),
    "right-calcarine": (8.0, -84.0, 4.0),
}
RADIUS = 12.0  # mm
GRID = 4.0  # mm
STUDY = "words"
SPACE = "MNI152NLin2009aSym"  # the template that nilearn includes


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """Hold the size of the demo."""

    participants: int = 8
    seed: int = 0
    runs: int = 4
    steps: int = 150
    classes: int | str = "all"
    channels: int = 8
    best_layers: int = 2
    bold: bool = True
    ceilings: bool = True

    @classmethod
    def quick(cls, seed: int = 0) -> DemoSettings:
        """Return settings of a demo that takes at most a minute: 6 participants, 4 classes x 50 steps."""
        return cls(
            participants=6, seed=seed, steps=50, classes=4, channels=2, best_layers=1, bold=False, ceilings=False
        )


def write_demo(out: str | Path, settings: DemoSettings) -> Path:
    """Write the demo's study: sounds, checkpoint, brain images of simulated participants, truth, and `study.toml`.

    Where an interrupted demo has written the same study already, nothing is written.

    Parameters
    ----------
    out : path
        An empty or new folder, or the folder of a demo with the same settings.
    settings : DemoSettings

    Returns
    -------
    Path
        The study file.

    Raises
    ------
    InputError
        The folder holds something else.
    """
    out = Path(out)
    # The study is written beside and moved when complete, so that an interrupted demo leaves no partial study.
    place = out.resolve()
    beside = place.with_name(f".{place.name}.part")
    labels, n_afni = _label_participants(settings)
    text = study_text(settings, labels[:n_afni], labels[n_afni:])
    if _has_text(out / "study.toml", text):
        return out / "study.toml"
    if not _has_text(beside / "study.toml", text):  # the demo was interrupted while it moved the complete study
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(
                f"demo: expected an empty or new folder, got {out}, which is not empty; name another, or run the study "
                f"in it: brainmap run {out}/study.toml"
            )
        shutil.rmtree(beside, ignore_errors=True)
        _write_into(beside, settings)
    out.mkdir(parents=True, exist_ok=True)
    for part in sorted(beside.iterdir(), key=lambda path: path.name == "study.toml"):
        part.rename(out / part.name)
    beside.rmdir()
    return out / "study.toml"


def _has_text(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()


def _label_participants(settings: DemoSettings) -> tuple[list[str], int]:
    """Return labels of the participants, and how many of them have AFNI files."""
    return [f"{k:02d}" for k in range(1, settings.participants + 1)], (settings.participants + 1) // 2


def _write_into(out: Path, settings: DemoSettings) -> None:
    out.mkdir(parents=True)
    checkpoint = data.folder() / "networks" / f"{NETWORK}.safetensors"
    shutil.copyfile(checkpoint, out / checkpoint.name)
    _write_sounds(out)
    mask = load_demo_mask()
    regions = build_demo_regions(mask)
    planted = {name: PLANTED.get(name.split("-", 1)[1]) for name in regions}
    _write_regions(out, mask, regions, planted)
    layers = _compute_layer_features(out)
    labels, n_afni = _label_participants(settings)
    with progress("simulating participants", len(labels)) as step:

        def one(k: int) -> None:
            rng = np.random.default_rng(np.random.SeedSequence([settings.seed, k]))
            person = simulate_participant(
                {r: None if layer is None else layers[layer] for r, layer in planted.items()},
                regions,
                mask=mask,
                rng=rng,
                n_runs=settings.runs,
            )
            _write_betas(out, labels[k], person, mask, afni=k < n_afni)
            if settings.bold and k == len(labels) - 1:
                _write_bold(out, labels[k], person, mask, rng)
            step.advance(note=f"sub-{labels[k]}")

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(one, reversed(range(len(labels)))))  # the last one, which has BOLD too, takes longest
    _write_about(out, settings)
    with atomic(out / "study.toml") as beside:
        beside.write_text(study_text(settings, labels[:n_afni], labels[n_afni:]), encoding="utf-8")


def load_demo_mask() -> nib.Nifti1Image:
    """Load the MNI152 mask of nilearn at 4 mm, float32.

    It is where the template, brought to 4 mm by cubic splines, is above a fifth of its highest value, voxel by voxel as
    `nilearn.datasets.load_mni152_brain_mask` gives it, whose import takes seconds.
    """
    path = find_in_nilearn(MNI152)
    if path is None:  # a version of nilearn that keeps the file elsewhere
        from nilearn.datasets import load_mni152_brain_mask

        mask = load_mni152_brain_mask(resolution=GRID)
        return nib.Nifti1Image(np.asarray(mask.dataobj, dtype=np.float32), mask.affine)
    from scipy.ndimage import affine_transform

    template = nib.nifti1.load(path)
    values = np.asarray(template.dataobj).astype(np.float32)
    values /= values.max()
    corners = template.affine[:3, 3] + np.array([np.zeros(3), template.affine[:3, :3] @ (np.array(values.shape) - 1)])
    low, high = corners.min(axis=0) / GRID, corners.max(axis=0) / GRID
    affine = np.diag([GRID, GRID, GRID, 1.0])
    affine[:3, 3] = low * GRID
    place = np.linalg.inv(template.affine) @ affine
    shape = tuple(int(n) for n in np.ceil(high - low) + 1)
    coarse = affine_transform(values, place[:3, :3], offset=place[:3, 3], output_shape=shape, order=3)
    return nib.Nifti1Image((coarse > 0.2).astype(np.float32), affine)


def build_demo_regions(mask: nib.Nifti1Image) -> dict[str, NDArray[np.bool_]]:
    """Build spheres at the auditory centers and the calcarine control per side; voxels belong to the nearest one."""
    found = sphere_rois(
        {**AUDITORY_CENTERS, **CONTROL},
        radius_mm=RADIUS,
        reference=mask,
        space="MNI",
        mask=mask,
        reference_space="MNI",
        overlap="nearest",
    )
    return {name: found[name] for name in found.names}


def _write_sounds(out: Path) -> None:
    words = data.folder() / "words"
    table = pd.read_csv(words / "stimuli.tsv", sep="\t", dtype=str)
    table = table[table["voice"].isin(VOICES)].reset_index(drop=True)
    (out / "sounds").mkdir()
    for name in table["path"]:
        shutil.copyfile(words / name, out / "sounds" / name)
    table["path"] = "sounds/" + table["path"]
    columns = {
        "stimulus_id": "sound",
        "condition": "word",
        "path": "file, relative to this table",
        "voice": "speaker",
        "accent": "espeak-ng accent",
        "timbre": "espeak-ng variant",
        "pitch": "espeak-ng pitch, 0 to 99",
        "words_per_minute": "speed",
    }
    write_table(table, out / "stimuli.tsv", columns=columns)


def _write_regions(
    out: Path, mask: nib.Nifti1Image, regions: dict[str, NDArray[np.bool_]], planted: dict[str, str | None]
) -> None:
    labels = np.zeros(mask.shape, dtype=np.int16)
    for k, volume in enumerate(regions.values(), start=1):
        labels[volume] = k
    save_image(nib.Nifti1Image(labels, mask.affine), out / "rois.nii.gz", labels=["regions"], space="MNI")
    table = pd.DataFrame({"index": range(1, len(regions) + 1), "name": list(regions)})
    write_table(table, out / "rois.tsv", columns={"index": "value in rois.nii.gz", "name": "region"})
    truth = pd.DataFrame({"region": list(planted), "layer": [layer or "" for layer in planted.values()]})
    columns = {"region": "region", "layer": "layer planted there; empty for a control"}
    write_table(truth, out / "truth.tsv", columns=columns, about={"Simulated": True})


def _compute_layer_features(out: Path) -> dict[str, NDArray[np.floating]]:
    """Compute time-mean activations of the planted layers over the demo's sounds, `(n_items, n_units)` each."""
    path = out / f"{NETWORK}.safetensors"
    stored = load_checkpoint(path)
    sounds = load_sounds(
        out / "stimuli.tsv",
        rate=stored.rate,
        seconds=stored.n_samples / stored.rate,
        level=stored.level,
        align=stored.align,
    )
    found = extract_activations(load_network(path), sounds, layers=sorted(set(PLANTED.values())))
    return {layer: np.asarray(found[layer][:]) for layer in found.layers}


def _read_items(out: Path) -> list[str]:
    return [str(s) for s in pd.read_csv(out / "stimuli.tsv", sep="\t", dtype=str)["stimulus_id"]]


def _write_betas(out: Path, label: str, person: SimulatedParticipant, mask: nib.Nifti1Image, *, afni: bool) -> None:
    """Write one image per run, with each volume labelled by its stimulus, in the order of presentation."""
    folder = out / f"sub-{label}"
    folder.mkdir()
    items, inside = _read_items(out), np.asarray(mask.dataobj) > 0
    note = f"{command_line()} (simulated data)"
    for run, (betas, order) in enumerate(zip(person.betas, person.orders, strict=True), start=1):
        image = nib.Nifti1Image(fill_volumes(betas[order], inside), mask.affine)
        nifti = f"sub-{label}_task-{STUDY}_run-{run}_desc-simulated_betas.nii.gz"
        name = f"betas_run-{run}+tlrc.BRIK.gz" if afni else nifti
        save_image(image, folder / name, labels=[items[k] for k in order], space="MNI", history=note)
    name = "mask+tlrc.BRIK.gz" if afni else f"sub-{label}_desc-brain_mask.nii.gz"
    brain = nib.Nifti1Image(inside.astype(np.uint8), mask.affine)
    save_image(brain, folder / name, labels=["mask"], space="MNI", history=note)


def _write_bold(
    out: Path, label: str, person: SimulatedParticipant, mask: nib.Nifti1Image, rng: np.random.Generator
) -> None:
    """Write the last participant also as BOLD time series with events, for a GLM by the user."""
    bold = simulate_bold(person, _read_items(out), mask=mask, rng=rng)
    folder = out / f"sub-{label}" / "func"
    folder.mkdir()
    columns = {"onset": "s from the first volume", "duration": "s", "trial_type": "stimulus_id"}
    for run, (image, events) in enumerate(zip(bold.images, bold.events, strict=True), start=1):
        stem = f"sub-{label}_task-{STUDY}_run-{run}"
        save_image(image, folder / f"{stem}_bold.nii.gz", space="MNI", history=f"{command_line()} (simulated data)")
        write_json(folder / f"{stem}_bold.json", {"RepetitionTime": bold.t_r, "TaskName": STUDY, "Simulated": True})
        write_table(events, folder / f"{stem}_events.tsv", columns=columns, about={"Simulated": True})


def _write_about(out: Path, settings: DemoSettings) -> None:
    write_json(
        out / "simulation.json",
        {
            "Simulated": True,
            "Planted": PLANTED,
            "Control": "calcarine",
            "RadiusMillimeters": RADIUS,
            "Participants": settings.participants,
            "Runs": settings.runs,
            "Seed": settings.seed,
            "Versions": versions(),
        },
    )
    (out / "README.txt").write_text(
        "SIMULATED DATA. The sounds and the network are real; the brain images are not.\n"
        f"brainmap planted the geometry of {', '.join(f'{layer} in {region}' for region, layer in PLANTED.items())}\n"
        "(left and right) and nothing in calcarine; truth.tsv says where, and the study must find it again.\n"
        "Run it again: brainmap run study.toml\n"
    )


def study_text(settings: DemoSettings, afni: Sequence[str], nifti: Sequence[str]) -> str:
    """Write the text of the demo's study file, with comments for readers who will change it."""

    def listed(labels: Sequence[str]) -> str:
        return "[" + ", ".join(f'"{p}"' for p in labels) + "]"

    classes = f'"{settings.classes}"' if isinstance(settings.classes, str) else settings.classes
    maximization = (
        f"steps = {settings.steps}, classes = {classes}, channels = {settings.channels}, "
        f"best_layers = {settings.best_layers}"
    )
    task = f"sub-{{participant}}/sub-{{participant}}_task-{STUDY}"
    return f'''# A study with a known answer: the brain data are simulated.
schema = 1

[study]
name = "{STUDY}"
question = "Which layer of {NETWORK} orders 48 spoken words as each region of the auditory cortex does?"
out = "derivatives/brainmap"
seed = {settings.seed}
simulated = true               # said on every page and in every file

[stimuli]
table = "stimuli.tsv"          # stimulus_id, condition, path

[[network]]
name = "{NETWORK}"
checkpoint = "{NETWORK}.safetensors"
layers = "all"
pooling = "mean"               # over time
dissimilarity = "correlation"  # the network's own geometry
units = "zscore"               # over items

[[brain]]                      # written as AFNI writes: BRIK and HEAD, stimuli in the sub-brick labels
participants = {listed(afni)}
kind = "betas"
files = "sub-{{participant}}/betas_run-{{run}}+tlrc.HEAD"
labels = "sub-brick"
mask = "sub-{{participant}}/mask+tlrc.HEAD"
rois = {{ image = "rois.nii.gz", table = "rois.tsv" }}
space = "{SPACE}"
noise = "runs"                 # noise is estimated from the differences between runs

[[brain]]                      # the others as NIfTI
participants = {listed(nifti)}
kind = "betas"
files = "{task}_run-{{run}}_desc-simulated_betas.nii.gz"
labels = "sub-brick"
mask = "sub-{{participant}}/sub-{{participant}}_desc-brain_mask.nii.gz"
rois = {{ image = "rois.nii.gz", table = "rois.tsv" }}
space = "{SPACE}"
noise = "runs"

[rsa]
items = "stimulus"
dissimilarity = "crossnobis"   # the brain's geometry: products between runs only
measure = "rho-a"
inference = {{ test = "signed-rank", correction = "fdr", splits = 20 }}

[searchlight]
radius_mm = 9.0
dissimilarity = "correlation"
measure = "spearman"
{"ceilings = true" if settings.ceilings else "ceilings = false              "} # noise ceilings of every sphere
group = {{ test = "sign-flip", permutations = 5000, correction = "max-t" }}

[explain]
maximization = {{ {maximization} }}
cam = {{ method = "grad-cam", layer = "last-conv" }}

[truth]                        # only a simulation has one
table = "truth.tsv"
'''
