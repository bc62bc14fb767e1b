import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from brainmap.features.networks.checkpoints import save_checkpoint
from brainmap.features.networks.description import Checkpoint, load_checkpoint
from brainmap.features.networks.zoo import build_network

Run = Callable[..., Any]
WORDS = ("low", "high")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four tones in silence, and two untrained networks that pool over time."""
    where = tmp_path_factory.mktemp("faith")
    time = np.arange(2400) / 16_000
    rows = []
    for k in range(4):
        wave = np.sin(2 * np.pi * (200, 900)[k % 2] * time) * 0.3 * ((time > 0.03) & (time < 0.1))
        soundfile.write(where / f"s{k}.wav", wave, 16_000)
        rows.append((f"s{k}", WORDS[k % 2], f"s{k}.wav", 0.03, 0.1))
    table = pd.DataFrame(rows, columns=["stimulus_id", "condition", "path", "start_s", "end_s"])
    table.to_csv(where / "stimuli.tsv", sep="\t", index=False)
    for seed, head in enumerate(("gap", "gmp")):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            net = build_network("ch32", n_classes=2, n_samples=2400, head=head)  # type: ignore[arg-type]
        about = Checkpoint(architecture="ch32", head=head, classes=WORDS, rate=16_000, n_samples=2400)
        save_checkpoint(net, where / f"{head}.safetensors", about)
    return where


def given(folder: Path, *words: object) -> list[object]:
    return ["--checkpoint", folder / "gap.safetensors", "--sounds", folder / "stimuli.tsv", *words]


@pytest.mark.slow
def test_faithfulness_leaves_a_table_and_a_figure(folder: Path, tmp_path: Path, brainmap_command: Run) -> None:
    words = given(
        folder,
        "--method",
        "grad-cam,saliency",
        "--windows",
        4,
        "--random-orders",
        1,
        "--json",
        "--out",
        tmp_path / "curves.tsv",
        "--figure",
        tmp_path / "curves.png",
    )
    answer = brainmap_command("features", "faithfulness", *words)
    assert answer.code == 0, answer.err
    rows = json.loads(answer.out)
    assert [row["method"] for row in rows] == ["grad-cam", "saliency"]
    assert {"deletion", "insertion_random", "pointing", "iou", "voiced"} <= set(rows[0])
    table = pd.read_csv(tmp_path / "curves.tsv", sep="\t")
    assert len(table) == 2 * 2 * 4
    of = table[(table["method"] == "saliency") & (table["order"] == "deletion")]
    assert of["auc"].mean() == pytest.approx(rows[1]["deletion"], rel=1e-4)
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    again = brainmap_command("features", "faithfulness", *words)
    assert again.code == 2
    assert "exists; say --overwrite" in again.err


def test_randomization_goes_from_the_top_to_the_bottom(folder: Path, tmp_path: Path, brainmap_command: Run) -> None:
    words = given(folder, "--method", "saliency", "--json", "--figure", tmp_path / "sane.png")
    answer = brainmap_command("features", "randomization", *words)
    assert answer.code == 0, answer.err
    assert [row["layer"] for row in json.loads(answer.out)] == ["output", *(f"conv{k}" for k in range(8, 0, -1))]
    assert (tmp_path / "sane.png").exists()


@pytest.mark.slow
def test_localize_compares_networks(folder: Path, tmp_path: Path, brainmap_command: Run) -> None:
    words = given(folder, "--also", folder / "gmp.safetensors", "--method", "cam,saliency", "--json")
    at = ["--boundaries", folder / "stimuli.tsv", "--out", tmp_path / "l.tsv", "--figure", tmp_path / "l.png"]
    answer = brainmap_command("features", "localize", *words, *at)
    assert answer.code == 0, answer.err
    rows = {(row["network"], row["method"]): row for row in json.loads(answer.out)}
    assert list(rows)[:4] == [("gap", "cam"), ("gap", "saliency"), ("gmp", "cam"), ("gmp", "saliency")]
    assert rows["none", "whole"]["iou"] == pytest.approx(0.07 / 0.15)
    assert len(pd.read_csv(tmp_path / "l.tsv", sep="\t")) == 4 * 6
    planted = brainmap_command("features", "localize", *words, "--plant", 0.3)
    assert planted.code == 0, planted.err
    assert {row["n"] for row in json.loads(planted.out)} == {4}


def test_localize_leaves_cam_out_where_the_head_is_not_pooled(folder: Path, brainmap_command: Run) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build_network("ch32", n_classes=2, n_samples=6600)  # three frames: not the same as one that is pooled
    about = load_checkpoint(folder / "gap.safetensors")
    save_checkpoint(net, folder / "flat.safetensors", replace(about, head="flatten", n_samples=6600))
    given = ["--checkpoint", folder / "flat.safetensors", "--sounds", folder / "stimuli.tsv", "--json"]
    answer = brainmap_command("features", "localize", *given, "--boundaries", folder / "stimuli.tsv")
    assert answer.code == 0, answer.err
    assert "without cam" in answer.err
    assert {row["method"] for row in json.loads(answer.out)} >= {"grad-cam", "saliency"}
    assert "cam" not in {row["method"] for row in json.loads(answer.out)}


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        ("faithfulness", ("--method", "grad-cm"), "did you mean 'grad-cam'"),
        ("faithfulness", ("--method", "saliency", "--fill", "zero"), "did you mean 'zeros'"),
        ("randomization", ("--classes", "all"), "classes: expected one of"),
        ("localize", (), "give --boundaries FILE, or --plant SECONDS"),
        ("localize", ("--boundaries", "no.tsv"), "no file no.tsv"),
        ("localize", ("--plant", 0.01), "plant it in a longer background"),
    ],
)
def test_mistakes_are_one_line(
    command: str, words: tuple[Any, ...], said: str, folder: Path, brainmap_command: Run
) -> None:
    answer = brainmap_command("features", command, *given(folder, *words))
    assert answer.code == 2
    assert said in answer.err
    assert "Traceback" not in answer.err
