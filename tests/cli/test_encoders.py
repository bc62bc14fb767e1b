"""brainmap rsa encode --encoder: a file that every command of features takes, with regions as its classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from brainmap import features


@pytest.fixture
def study(tmp_path: Path, brainmap_command: Callable[..., Any]) -> Path:
    """48 sounds, a network and its activations, and a table of two regions in which conv2 is planted."""
    rng = np.random.default_rng(0)
    (tmp_path / "sounds").mkdir()
    for k in range(48):
        sound = np.convolve(rng.normal(size=2400), rng.normal(size=1 + k % 7), "same")
        soundfile.write(tmp_path / "sounds" / f"s{k:02d}.wav", 0.1 * sound / np.abs(sound).max(), 16_000)
    rows = {"stimulus_id": [f"s{k:02d}" for k in range(48)], "path": [f"sounds/s{k:02d}.wav" for k in range(48)]}
    pd.DataFrame(rows).assign(condition=rows["stimulus_id"]).to_csv(tmp_path / "stimuli.tsv", sep="\t", index=False)
    net = features.Checkpoint(architecture="ch32", classes=("a", "b"), n_samples=2400)
    features.save_checkpoint(net.build(), tmp_path / "net.safetensors", net)
    answer = brainmap_command(
        *("features", "activations", "--checkpoint", tmp_path / "net.safetensors"),
        *("--sounds", tmp_path / "stimuli.tsv", "--out", tmp_path / "net.zarr"),
    )
    assert answer.code == 0, answer.err
    acts = features.open_activations(tmp_path / "net.zarr")
    x = np.asarray(acts["conv2"], np.float64)
    z = (x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1)
    signal = z @ rng.normal(size=(x.shape[1], 2)) @ np.kron(np.eye(2), np.ones((1, 3)))
    np.save(tmp_path / "betas.npy", np.stack([signal + rng.normal(size=signal.shape) for _ in range(2)], axis=2))
    pd.DataFrame({"stimulus_id": acts.items}).to_csv(tmp_path / "items.tsv", sep="\t", index=False)
    regions = pd.DataFrame({"voxel": range(6), "region": ["A"] * 3 + ["B"] * 3})
    regions.to_csv(tmp_path / "voxels.tsv", sep="\t", index=False)
    return tmp_path


def words_of(study: Path, **more: object) -> list[object]:
    words: list[object] = ["rsa", "encode", "--activations", study / "net.zarr", "--betas", study / "betas.npy"]
    words += ["--labels", study / "items.tsv", "--rois", study / "voxels.tsv", "--targets", "roi"]
    given = {"layers": "conv2", "encoder": study / "e.safetensors", "checkpoint": study / "net.safetensors"}
    for name, value in {**given, "sounds": study / "stimuli.tsv", **more}.items():
        words += [] if value is None else [f"--{name}", value]
    return words


@pytest.mark.slow
def test_commands_of_features_take_the_encoder(study: Path, brainmap_command: Callable[..., Any]) -> None:
    answer = brainmap_command(*words_of(study))
    assert answer.code == 0, answer.err
    said = features.load_checkpoint(study / "e.safetensors")
    assert said.classes == ("A", "B")
    assert said.training is not None
    assert min(said.training["encoding"]["r"].values()) > 0.5
    given = ("--checkpoint", study / "e.safetensors", "--sounds", study / "stimuli.tsv")
    answer = brainmap_command("features", "activations", *given, "--layers", "output", "--out", study / "p.zarr")
    assert answer.code == 0, answer.err
    predicted = np.asarray(features.open_activations(study / "p.zarr")["output"])
    measured = np.load(study / "betas.npy").mean(axis=2).reshape(48, 2, 3).mean(axis=2)
    assert all(np.corrcoef(predicted[:, k], measured[:, k])[0, 1] > 0.9 for k in range(2))
    answer = brainmap_command(
        *("features", "maximize", *given, "--layer", "output", "--units", "B", "--steps", 3),
        *("--out", study / "m.zarr"),
    )
    assert answer.code == 0, answer.err
    answer = brainmap_command("features", "layers", "--checkpoint", study / "e.safetensors", "--json")
    assert [one["name"] for one in json.loads(answer.out)["layers"]] == ["network.conv1", "network.conv2", "output"]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"sounds": None}, "--encoder, --checkpoint and --sounds go together"),
        ({"layers": "all"}, "expected one network and one layer"),
        ({"encoder": "e.pt"}, "expected a name that ends in .safetensors"),
    ],
)
def test_what_cannot_be_an_encoder_is_refused(
    study: Path, more: dict[str, object], told: str, brainmap_command: Callable[..., Any]
) -> None:
    answer = brainmap_command(*words_of(study, **more))
    assert answer.code == 2
    assert told in answer.err


def test_another_network_than_that_of_the_activations_is_refused(
    study: Path, brainmap_command: Callable[..., Any]
) -> None:
    net = features.Checkpoint(architecture="ch32", classes=("a", "b"), n_samples=2400)
    features.save_checkpoint(net.build(), study / "other.safetensors", net)
    answer = brainmap_command(*words_of(study, checkpoint=study / "other.safetensors"))
    assert answer.code == 2
    assert "expected the network of --activations, got one with other activations of 'conv2'" in answer.err
    assert not (study / "e.safetensors").exists()


@pytest.mark.slow
def test_sounds_that_regions_are_predicted_to_want(study: Path, brainmap_command: Callable[..., Any]) -> None:
    betas = np.load(study / "betas.npy")
    for run, (name, layer) in enumerate((("e", "conv2"), ("judge", "conv3"))):
        np.save(study / f"run{run}.npy", betas[..., run : run + 1])
        answer = brainmap_command(
            *("rsa", "encode", "--activations", study / "net.zarr", "--betas", study / f"run{run}.npy"),
            *("--labels", study / "items.tsv", "--rois", study / "voxels.tsv", "--targets", "roi", "--layers", layer),
            *("--encoder", study / f"{name}.safetensors", "--checkpoint", study / "net.safetensors"),
            *("--sounds", study / "stimuli.tsv", "--permutations", 99),
        )
        assert answer.code == 0, answer.err
    said = features.load_checkpoint(study / "e.safetensors").training
    assert said is not None
    assert said["encoding"]["p"] == {"A": 0.01, "B": 0.01}
    words = ("features", "maximize", "--checkpoint", study / "e.safetensors", "--sounds", study / "stimuli.tsv")
    words = (*words, "--target", "roi:B,roi:A", "--steps", 3, "--out", study / "m.zarr")
    answer = brainmap_command(
        *words, "--judges", study / "judge.safetensors", "--wav", study / "wav", "--figure", study / "m.png"
    )
    assert answer.code == 0, answer.err
    table = pd.read_csv(study / "wav" / "output_quality.tsv", sep="\t")
    assert list(table["region"]) == ["B", "A"]
    assert set(table["judged_on"]) == {"other data"}
    assert (study / "wav" / "predicted_B.wav").is_file()
    assert (study / "m.png").stat().st_size > 10_000
    for more, told in (
        (("--judges", study / "net.safetensors"), "holds no encoding model"),
        ((), "--judges: expected encoding models of other networks"),
        (("--judges", study / "judge.safetensors", "--decoder", "words"), "give a decoder of that rate and length"),
        (("--judges", study / "judge.safetensors", "--units", "1"), "in place of --layer and --units"),
    ):
        wrong = brainmap_command(*words, *more, "--overwrite")
        assert wrong.code == 2
        assert told in wrong.err
