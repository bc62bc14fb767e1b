"""Hundreds of damages of every format: one line or the right numbers; no traceback, no hang."""

from __future__ import annotations

import shutil
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from brainmap import features, rsa
from brainmap.errors import BrainmapError
from brainmap.features.networks.checkpoints import load_network
from brainmap.features.sounds.files import load_sounds
from brainmap.rsa.glm.events import read_events
from brainmap.rsa.surface.data import SurfaceData, save_surface
from brainmap.study.run import Context, check_study
from brainmap.study.settings.study import load_study
from tests.campaign import MUTATIONS, record, within
from tests.mutations import mutate, mutate_folder

pytestmark = [pytest.mark.slow, pytest.mark.campaign]
WORDS = ("cat", "dog", "tree", "yes", "no", "on")


@dataclass(frozen=True)
class Format:
    """A format: how a file of it is written into a folder, and read.

    `sealed`: brainmap wrote it with digests, so that what is read at all is right. `names`: which of the written files
    are damaged; by default the one that is read.
    """

    write: Callable[[Path], Path]
    read: Callable[[Path], Any]
    sealed: bool = False
    names: tuple[str, ...] = ()


def volume() -> nib.Nifti1Image:
    values = np.random.default_rng(0).normal(size=(4, 5, 3, 6)).astype("f4")
    return nib.Nifti1Image(values, np.diag([3.0, 3.0, 3.0, 1.0]))


def write_rdms(folder: Path) -> Path:
    x = np.random.default_rng(0).normal(size=(6, 20))
    rdms = rsa.compute_rdms(x, dissimilarity="correlation", descriptors={"stimulus_id": list(WORDS), "layer": "conv1"})
    return rsa.save_rdms(rdms, folder / "a_rdms.h5")


def read_rdms(path: Path) -> Any:
    found = rsa.load_rdms(path)
    labels = [list(map(str, values)) for values in found.pattern_descriptors.values()]
    return found.dissimilarities.tobytes(), labels, found.dissimilarity_measure


def write_store(folder: Path) -> Path:
    sounds = np.random.default_rng(1).standard_normal((6, 1, 400)).astype("f4")
    net = features.build_network("ch32", n_classes=3, n_samples=2_400)
    sounds = np.pad(sounds, ((0, 0), (0, 0), (0, 2_000)))
    features.extract_activations(net, sounds, layers=["conv1", "output"], store=folder / "a.zarr", threads=1).close()
    return folder / "a.zarr"


def read_store(path: Path) -> Any:
    found = features.open_activations(path)
    try:
        return found.items, found.layers, found.pooling, [np.asarray(found[layer]).tobytes() for layer in found.layers]
    finally:
        found.close()


def write_sound(name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        import soundfile

        wave = 0.3 * np.sin(np.arange(1_600) / 5)
        soundfile.write(folder / name, wave, 16_000)
        soundfile.write(folder / "whole.wav", wave[::-1], 16_000)
        table = pd.DataFrame({"stimulus_id": ["a", "b"], "condition": ["a", "b"], "path": [name, "whole.wav"]})
        table.to_csv(folder / "stimuli.tsv", sep="\t", index=False)
        return folder / "stimuli.tsv"

    return write


def read_sounds(path: Path) -> Any:
    return load_sounds(path, rate=16_000, seconds=0.1).waveforms


def write_network(folder: Path) -> Path:
    from brainmap.features.networks.checkpoints import save_checkpoint
    from brainmap.features.networks.description import Checkpoint

    model = features.build_network("ch32", n_classes=4, n_samples=2_187)
    about = Checkpoint(architecture="ch32", classes=WORDS[:4], rate=16_000, n_samples=2_187)
    return save_checkpoint(model, folder / "a.safetensors", about)


def write_image(name: str) -> Callable[[Path], Path]:
    return lambda folder: Path(rsa.save_image(volume(), folder / name, labels=list(WORDS), space="MNI"))


def read_image(path: Path) -> Any:
    image = rsa.load_image(path)
    return np.asarray(image.dataobj), image.affine


def write_gifti(folder: Path) -> Path:
    values = np.random.default_rng(2).normal(size=(40, 2)).astype("f4")
    save_surface(SurfaceData(values, values[:30], ("a", "b")), folder / "x_hemi-{hemi}.func.gii")
    return folder / "x_hemi-L.func.gii"


def write_events(folder: Path) -> Path:
    table = pd.DataFrame({"onset": np.arange(12) * 4.0, "duration": 0.5, "trial_type": list(WORDS) * 2})
    table.to_csv(folder / "events.tsv", sep="\t", index=False)
    return folder / "events.tsv"


FORMATS = {
    "events TSV": Format(write_events, lambda path: read_events([path], run_seconds=[60.0])),
    "stimuli TSV": Format(write_sound("a.wav"), read_sounds),
    "WAV": Format(write_sound("a.wav"), read_sounds, names=("a.wav",)),
    "FLAC": Format(write_sound("a.flac"), read_sounds, names=("a.flac",)),
    "safetensors": Format(write_network, load_network),
    "HDF5 RDM": Format(write_rdms, read_rdms, sealed=True),
    "zarr store": Format(write_store, read_store, sealed=True),
    "NIfTI": Format(write_image("x.nii"), read_image),
    "NIfTI, gzip": Format(write_image("x.nii.gz"), read_image),
    "AFNI HEAD": Format(write_image("x+tlrc.HEAD"), read_image),
    "AFNI BRIK": Format(write_image("x+tlrc.HEAD"), read_image, names=("x+tlrc.BRIK",)),
    "GIFTI": Format(write_gifti, lambda path: rsa.load_surface({"left": path})),
}


def attempt(read: Callable[[], Any], what: str) -> tuple[str, Any]:
    """What a reader does with damage: "refused" in one line, or "read", and what it read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with within(30):
                return "read", read()
        except BrainmapError as error:
            line = str(error)
        except Exception as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    assert line.strip(), what
    assert len(line) < 2_000, what
    return "refused", None


@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_file_is_one_line_or_right(name: str, tmp_path: Path) -> None:
    kind = FORMATS[name]
    (tmp_path / "whole").mkdir()
    whole = kind.write(tmp_path / "whole")
    right = kind.read(whole)
    place, counts = tmp_path / "damaged", Counter[str]()
    for seed in range(MUTATIONS):
        rng = Random(zlib.crc32(f"{name} {seed}".encode()))
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(tmp_path / "whole", place)
        path = place / whole.name
        if path.is_dir():
            what = f"{name} {seed}: {mutate_folder(path, rng)}"
        else:
            victim = place / rng.choice(kind.names) if kind.names else path
            victim.write_bytes(mutate(victim.read_bytes(), rng))
            what = f"{name} {seed}: {victim.name}"
        said, found = attempt(lambda path=path: kind.read(path), what)  # type: ignore[misc]
        counts[said] += 1
        if said == "read" and kind.sealed:
            assert found == right, what
    record(f"damaged {name}", **counts)
    assert counts["refused"] > MUTATIONS // 20


def test_a_damaged_study_file_is_one_line_or_read(finished: Any) -> None:
    whole, counts = finished.file.read_bytes(), Counter[str]()
    for seed in range(MUTATIONS):
        finished.file.write_bytes(mutate(whole, Random(seed)))
        said, _ = attempt(lambda: load_study(finished.file).participants(), f"study TOML {seed}")
        counts[said] += 1
    record("damaged study TOML", **counts)
    assert counts["refused"] > MUTATIONS // 10


def test_a_damaged_ledger_or_sidecar_touches_nothing_outside_and_is_one_line_or_done_again(
    finished: Any, tmp_path: Path
) -> None:
    """All that a run asks its ledger: what a stage wrote, and what of it is damaged; and the study's check."""
    other = tmp_path / "other.txt"
    other.write_text("not of the study")
    entries = sorted([*(finished.out / ".brainmap").glob("*.json"), *finished.out.rglob("*_scores.json")])
    counts = Counter[str]()
    for seed in range(MUTATIONS):
        rng = Random(seed)
        entry = rng.choice(entries)
        whole = entry.read_bytes()
        entry.write_bytes(mutate(whole, rng, ("json", "json", "flip", "truncate")))
        context = Context(load_study(finished.file))

        def ask(context: Context = context) -> list[Path]:
            ledger = context.ledger
            return [p for stage in ledger.stages() for p in (*ledger.files(stage), *ledger.damaged(stage))]

        said, named = attempt(ask, f"{entry.name} {seed}")
        if said == "read":
            outside = [p for p in named if not p.resolve().is_relative_to(finished.out.resolve())]
            assert outside == [], f"{entry.name} {seed}"
        if seed % 25 == 0:
            attempt(lambda context=context: check_study(context), f"check after {entry.name} {seed}")  # type: ignore[misc]
        counts[said] += 1
        entry.write_bytes(whole)
    assert other.read_text() == "not of the study"
    record("damaged ledger or sidecar", **counts)


def test_a_run_mends_a_damaged_ledger(finished: Any) -> None:
    before = finished.files()
    for seed in range(max(4, MUTATIONS // 100)):
        rng = Random(1_000 + seed)
        entry = rng.choice(sorted((finished.out / ".brainmap").glob("*.json")))
        entry.write_bytes(mutate(entry.read_bytes(), rng, ("json", "flip", "truncate")))
        said, _ = attempt(finished.run, f"run after {entry.name} {seed}")
        if said == "refused":  # the line says what to remove
            entry.unlink()
            finished.run()
        assert finished.files() == before, f"{entry.name} {seed}"
