"""Each preset of `brainmap init` runs on simulated data of the shape that it names, and finds what was planted."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any, get_args

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from brainmap.errors import BrainmapWarning
from brainmap.study.settings.presets import PRESETS
from brainmap.types import StudyPreset

SHAPE = (8, 6, 5)
PLANTED: dict[str, str | None] = {"primary": "conv2", "belt": "conv7", "control": None}


def test_every_preset_is_a_study_file_with_its_own_words(tmp_path: Path, brainmap_command: Any) -> None:
    from brainmap.study.settings.study import load_study

    assert set(PRESETS) == set(get_args(StudyPreset))
    for name, text in PRESETS.items():
        path = tmp_path / f"{name}.toml"
        answer = brainmap_command("init", path, "--preset", name)
        assert answer.code == 0, answer.err
        assert path.read_text() == text
        load_study(path)
        assert sum("#" in line for line in text.splitlines()) > 10
    answer = brainmap_command("init", tmp_path / "x.toml", "--preset", "storys")
    assert answer.code == 2
    assert "stories" in answer.err


def write_words(folder: Path) -> tuple[list[str], dict[str, NDArray[Any]]]:
    """Write three voices of each of the 16 words, and return the ids and the planted layers' activations."""
    from brainmap import data

    (folder / "sounds").mkdir(parents=True)
    files = sorted(
        path for voice in ("v01", "v02", "v03") for path in (data.folder() / "words").glob(f"*_{voice}.flac")
    )
    for file in files:
        shutil.copyfile(file, folder / "sounds" / file.name)
    shutil.copyfile(data.folder() / "networks" / "ch32.safetensors", folder / "ch32.safetensors")
    rows = [(file.stem, file.stem.split("_")[0], f"sounds/{file.name}") for file in files]
    pd.DataFrame(rows, columns=["stimulus_id", "condition", "path"]).to_csv(
        folder / "stimuli.tsv", sep="\t", index=False
    )
    return [row[0] for row in rows], hear(folder / "ch32.safetensors", folder / "stimuli.tsv")


def write_sixty_noises(folder: Path) -> tuple[list[str], dict[str, NDArray[Any]]]:
    """Write 60 noises and an untrained network that is called first."""
    from tests.study.encoding_inputs import write_networks, write_noises

    names = write_noises(folder, 60, 8_000)
    write_networks(folder, 8_000)
    return names, hear(folder / "first.safetensors", folder / "stimuli.tsv")


def hear(checkpoint: Path, stimuli: Path) -> dict[str, NDArray[Any]]:
    from brainmap.features.activations.extract import extract_activations
    from brainmap.features.networks.checkpoints import load_network
    from brainmap.features.networks.description import load_checkpoint

    sounds = load_checkpoint(checkpoint).load_sounds(str(stimuli))
    layers = [layer for layer in PLANTED.values() if layer]
    found = extract_activations(load_network(str(checkpoint)), sounds, layers=layers)
    return {layer: np.asarray(found[layer][:], np.float64) for layer in layers}


def write_betas(
    folder: Path, names: list[str], acts: dict[str, NDArray[Any]], *, people: int, runs: int, space: str
) -> None:
    """Write betas whose regions have the geometry of their layer; the last region has noise."""
    from brainmap.rsa.images.files import save_image

    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    labels = np.zeros(SHAPE, np.int16)
    for k, rows in enumerate((slice(0, 3), slice(3, 6), slice(6, 8)), start=1):
        labels[rows] = k
    pd.DataFrame({"index": [1, 2, 3], "name": list(PLANTED)}).to_csv(folder / "rois.tsv", sep="\t", index=False)
    for who in range(1, people + 1):
        rng, own = np.random.default_rng([9, who]), folder / f"sub-{who:02d}"
        own.mkdir()
        signal = np.zeros((*SHAPE, len(names)))
        for k, layer in enumerate(PLANTED.values(), start=1):
            if layer is not None:  # distances of 2 (1 - r), as the network's RDM has them
                x = acts[layer][:, acts[layer].std(axis=0) > 0]
                z = (x - x.mean(axis=0)) / x.std(axis=0)
                z -= z.mean(axis=1, keepdims=True)
                z /= np.linalg.norm(z, axis=1, keepdims=True)
                y = z @ rng.normal(size=(z.shape[1], int((labels == k).sum())))
                signal[labels == k] = (y / y.std()).T
        for run in range(1, runs + 1):
            order = rng.permutation(len(names))
            noisy = (signal + 1.5 * rng.normal(size=signal.shape))[..., order].astype(np.float32)
            called = [names[k] for k in order]
            save_image(nib.Nifti1Image(noisy, affine), own / f"betas_run-{run}.nii.gz", labels=called, space=space)
        for name, values in (("mask", np.ones(SHAPE, np.uint8)), ("rois", labels)):
            save_image(nib.Nifti1Image(values, affine), own / f"{name}.nii.gz", space=space)


def run_preset(folder: Path, name: StudyPreset, changes: tuple[tuple[str, str], ...] = ()) -> Path:
    """Run a preset as it is, but for changes that only save time, and return the folder of its results."""
    from brainmap.study.run import Context, run_study
    from brainmap.study.settings.study import load_study

    text = PRESETS[name].replace("seed = 0", "seed = 0\nsimulated = true")
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    (folder / "study.toml").write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)
        page = run_study(Context(load_study(folder / "study.toml"), threads=2))
    assert page is not None
    assert page.stat().st_size > 100_000
    return folder / "derivatives" / "brainmap"


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", na_values="n/a", keep_default_na=False)


def check_regions(out: Path, network: str) -> None:
    """Check that planted layers, or their neighbors, are best in their regions, and that the last region has none."""
    table = read(out / "group" / "statistics.tsv")
    mine = table[table["network"] == network].set_index(["roi", "layer"])
    layers = list(mine.loc["primary"].index)
    for roi, planted in PLANTED.items():
        if planted is None:
            assert (mine.loc[roi, "p_corrected"] > 0.05).all()
        else:
            best = mine.loc[roi, "mean"].idxmax()
            assert abs(layers.index(best) - layers.index(planted)) <= 1, (roi, best)
            assert mine.loc[(roi, planted), "p_corrected"] <= 0.05


@pytest.mark.slow
def test_words_find_the_planted_layers_of_a_trained_network(tmp_path: Path) -> None:
    write_betas(tmp_path, *write_words(tmp_path), people=8, runs=6, space="orig")
    fast = (('steps = 150, classes = "all", channels = 8', "steps = 5, classes = 2, channels = 1"),)
    out = run_preset(tmp_path, "words", fast)
    check_regions(out, "ch32")
    assert list(out.glob("**/*.wav"))


@pytest.mark.slow
def test_roi_rsa_finds_the_planted_layers_of_sixty_sounds_in_twelve_participants(tmp_path: Path) -> None:
    write_betas(tmp_path, *write_sixty_noises(tmp_path), people=12, runs=4, space="orig")
    check_regions(run_preset(tmp_path, "roi-rsa", (("bootstrap = 1000", "bootstrap = 200"),)), "first")


@pytest.mark.slow
def test_searchlight_maps_peak_in_the_planted_regions(tmp_path: Path) -> None:
    write_betas(tmp_path, *write_sixty_noises(tmp_path), people=12, runs=4, space="MNI")
    shutil.copyfile(tmp_path / "sub-01" / "rois.nii.gz", tmp_path / "rois.nii.gz")
    out = run_preset(tmp_path, "searchlight")
    labels = np.asarray(nib.load(tmp_path / "sub-01" / "rois.nii.gz").dataobj)
    for k, layer in enumerate(PLANTED.values(), start=1):
        if layer is not None:
            (path,) = out.glob(f"group/*desc-firsttrained{layer}_stat-mean_statmap.nii.gz")
            values = np.asarray(nib.load(path).dataobj)
            assert labels[np.unravel_index(np.nanargmax(values), values.shape)] == k
    clusters = read(out / "group" / "clusters.tsv")
    assert (clusters["p_corrected"] <= 0.05).all()
    assert {"primary", "belt"} <= set(clusters["peak_roi"])
