"""filters, tuning, spectra, exemplars, neighbors, embed: the library's numbers, a figure, mistakes in a line."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from brainmap import features
from brainmap.features.units.tuning import TuningSettings


@pytest.fixture
def given(tiny_inputs):
    return ("--checkpoint", tiny_inputs.folder / "net.safetensors", "--sounds", tiny_inputs.folder / "stimuli.tsv")


@pytest.fixture
def heard(tiny_inputs):
    """The network, and the sounds as its checkpoint says."""
    model = features.load_network(tiny_inputs.folder / "net.safetensors")
    return model, features.load_sounds(tiny_inputs.folder / "stimuli.tsv", rate=16_000, seconds=0.15, level="rms")


def read(path) -> pd.DataFrame:
    """A table whose columns are all described beside it."""
    table = pd.read_csv(path, sep="\t", na_values="n/a", keep_default_na=False)
    about = json.loads(path.with_suffix(".json").read_text())
    assert set(table.columns) < set(about)
    assert about["GeneratedBy"]["Name"] == "brainmap"
    return table


def outputs(folder, name):
    return folder / f"{name}.tsv", folder / f"{name}.png"


def test_filters_are_sorted_by_best_frequency(given, heard, tmp_path, brainmap_command):
    out, figure = outputs(tmp_path, "filters")
    answer = brainmap_command("features", "filters", *given, "--out", out, "--figure", figure)
    assert answer.code == 0, answer.err
    table = read(out)
    wanted = features.layer_filters(*heard)
    assert table["unit"].tolist() == wanted.order.tolist()
    assert table["best_hz"].is_monotonic_increasing
    assert figure.stat().st_size > 10_000
    again = brainmap_command("features", "filters", *given, "--out", out)
    assert again.code == 2
    assert "--overwrite" in again.err


def test_tuning_is_the_librarys(given, heard, tmp_path, brainmap_command):
    out, figure = outputs(tmp_path, "tuning")
    words = ("--layers", "conv1,conv3", "--levels", "-10,0", "--lowest", 200, "--per-step", 2, "--repeats", 1)
    answer = brainmap_command("features", "tuning", *given, *words, "--out", out, "--figure", figure)
    assert answer.code == 0, answer.err
    settings = TuningSettings(lowest_hz=200, per_step=2, levels_db=(-10.0, 0.0), repeats=1, height=0.7071)
    wanted = features.measure_tuning(*heard, layers=["conv1", "conv3"], settings=settings)
    pd.testing.assert_series_equal(read(out)["best_hz"], wanted.table["best_hz"])
    assert figure.stat().st_size > 10_000
    assert "conv3" in answer.out
    words = (*words, "--figure", figure, "--overwrite")
    curves = brainmap_command("features", "tuning", *given, *words, "--curves", "conv9")
    assert curves.code == 2
    assert "'conv1'" in curves.err


def test_exemplars_are_the_librarys_with_wav(given, heard, tmp_path, brainmap_command):
    out, figure = outputs(tmp_path, "exemplars")
    words = ("--layer", "conv2", "--units", "0,3", "--k", 2, "--wav", tmp_path / "wav")
    answer = brainmap_command("features", "exemplars", *given, *words, "--out", out, "--figure", figure)
    assert answer.code == 0, answer.err
    wanted = features.find_exemplars(*heard, layer="conv2", units=[0, 3], k=2)
    table = read(out)
    assert table["item"].tolist() == wanted.table["item"].tolist()
    assert len(list((tmp_path / "wav").glob("*.wav"))) == len(table)
    assert figure.exists()
    assert brainmap_command("features", "exemplars", *given, *words).code == 2


def test_neighbors_count_words(given, tmp_path, brainmap_command):
    out, figure = outputs(tmp_path, "near")
    words = ("--layers", "conv1,output", "--k", 1, "--out", out, "--figure", figure, "--json")
    answer = brainmap_command("features", "neighbors", *given, *words)
    assert answer.code == 0, answer.err
    table = read(out)
    assert set(table["space"]) == {"waveform", "conv1", "output"}
    overall = {row["space"]: row["precision"] for row in json.loads(answer.out) if row["condition"] == "all"}
    assert overall == pytest.approx(table.groupby("space")["same"].mean().to_dict())
    assert figure.exists()


def test_embeddings_are_laid_out_by_layer(given, tmp_path, brainmap_command):
    out, figure = outputs(tmp_path, "embed")
    words = ("--layers", "conv1,conv3", "--out", out, "--figure", figure)
    answer = brainmap_command("features", "embed", *given, *words, "--method", "tsne", "--perplexity", 3)
    assert answer.code == 0, answer.err
    table = read(out)
    assert table["layer"].tolist() == ["conv1"] * 8 + ["conv3"] * 8
    assert figure.stat().st_size > 10_000
    again = brainmap_command("features", "embed", *given, "--layers", "conv1", "--method", "tsne", "--perplexity", 8)
    assert "perplexity of at least 1 and below 8 for 8 items" in again.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("filters", "--layer", "cnv1"), "did you mean 'conv1'"),
        (("tuning", "--levels", "loud"), "got 'loud'"),
        (("tuning", "--stimulus", "tones"), "did you mean 'tone'"),
        (("exemplars", "--units", "99"), "expected units from 0 to 63"),
        (("exemplars", "--layer", "output", "--units", "dgo"), "did you mean 'dog'"),
        (("neighbors", "--metric", "cosine"), "'correlation'"),
        (("embed", "--method", "umap"), "'tsne'"),
        (("embed", "--components", "9"), "expected 1 to 7"),
    ],
)
def test_a_mistake_is_one_line_with_exit_code_2(words, said, given, tmp_path, brainmap_command):
    command, *options = words
    answer = brainmap_command("features", command, *given, "--out", tmp_path / "a.tsv", *options)
    assert answer.code == 2
    assert answer.err.splitlines()[-1].startswith("brainmap: ")
    assert said in answer.err
    assert not (tmp_path / "a.tsv").exists()


def test_spectra_of_a_store_are_sorted(given, tmp_path, brainmap_command):
    store = tmp_path / "am.zarr"
    words = ("--layer", "conv3", "--units", "0,1,2", "--steps", 2, "--out", store)
    assert brainmap_command("features", "maximize", *given, *words).code == 0
    out, figure = outputs(tmp_path, "spectra")
    answer = brainmap_command("features", "spectra", store, "--layer", "conv3", "--out", out, "--figure", figure)
    assert answer.code == 0, answer.err
    assert read(out)["best_hz"].is_monotonic_increasing
    assert "did you mean" in brainmap_command("features", "spectra", store, "--layer", "conv33").err
