"""brainmap rsa model, fit, partition and compare --control-for: files in, files out, mistakes said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from brainmap import rsa

WORDS = ["zero", "one", "two", "three", "four", "five", "bed", "cat", "dog", "house"]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Two networks' layers and three participants' RDMs over ten words, of which acoustics explain a part."""
    rng = np.random.default_rng(0)
    acoustics, network, own = rng.normal(size=(3, 10, 40))

    def saved(x: Any, file: str, **described: str) -> None:
        one = [
            rsa.compute_rdms(v, items="condition", descriptors={"condition": WORDS, **described, "layer": layer})
            for layer, v in x.items()
        ]
        rsa.save_rdms(rsa.stack_rdms(one), tmp_path / file)

    saved({"mel": acoustics, "mfcc": acoustics + own}, "acoustics.h5")
    saved({"conv1": network, "conv2": network + acoustics}, "net.h5", network="net")
    for who in "123":
        x = network + 0.7 * acoustics + 0.8 * rng.normal(size=(10, 40))
        rdm = rsa.compute_rdms(x, items="condition", descriptors={"condition": WORDS, "roi": "A1", "participant": who})
        rsa.save_rdms(rdm, tmp_path / f"sub-{who}.h5")
    return tmp_path


def data(files: Path) -> list[Path]:
    return [files / f"sub-{who}.h5" for who in "123"]


def test_shares_are_those_of_the_library_with_test_and_figure(files: Path, brainmap_command: Any) -> None:
    out, test, figure = files / "shares.tsv", files / "test.tsv", files / "shares.png"
    brainmap_command(
        "rsa",
        "partition",
        *data(files),
        "--set",
        f"acoustics={files / 'acoustics.h5'}:mel",
        "--set",
        f"network={files / 'net.h5'}",
        "--out",
        out,
        "--statistics",
        test,
        "--figure",
        figure,
    )
    load = rsa.load_rdms
    sets = {"acoustics": load(files / "acoustics.h5").subset("layer", ["mel"]), "network": load(files / "net.h5")}
    found = rsa.partition_variance(sets, rsa.stack_rdms([load(path) for path in data(files)]))
    pd.testing.assert_frame_equal(pd.read_csv(out, sep="\t", dtype={"participant": str}), found.table())
    assert pd.read_csv(test, sep="\t")["sets"].tolist() == ["acoustics only", "network only"]
    assert "Wilcoxon" in json.loads(test.with_suffix(".json").read_text())["Test"]
    assert figure.read_bytes().startswith(b"\x89PNG")
    every = brainmap_command(
        "rsa",
        "partition",
        *data(files),
        "--set",
        f"acoustics={files / 'acoustics.h5'}:mel",
        "--set",
        f"network={files / 'net.h5'}",
        "--shares",
        "all",
        "--json",
    )
    assert [row["sets"] for row in json.loads(every.out)][-1] == "acoustics + network"


def test_fitted_models_are_scored_and_their_weights_written(files: Path, brainmap_command: Any) -> None:
    weights = files / "weights.tsv"
    shown = brainmap_command(
        "rsa",
        "fit",
        *data(files),
        "--family",
        f"net={files / 'net.h5'}",
        "--kind",
        "weighted",
        "--measure",
        "pearson",
        "--weights",
        weights,
        "--json",
    )
    rows = json.loads(shown.out)
    assert [row["participant"] for row in rows] == ["1", "2", "3"]
    assert all(row["score"] > 0.2 for row in rows)
    table = pd.read_csv(weights, sep="\t")
    assert table["rdm"].tolist() == ["conv1", "conv2"]
    assert table["weight"].sum() == pytest.approx(1.0)


def test_models_of_categories_words_and_tables_are_one_file_that_compare_takes(
    files: Path, brainmap_command: Any
) -> None:
    kinds = ["number"] * 6 + ["thing", "animal", "animal", "thing"]
    pd.DataFrame({"stimulus_id": [f"{word}_1" for word in WORDS], "condition": WORDS, "kind": kinds}).to_csv(
        files / "stimuli.tsv", sep="\t", index=False
    )
    pd.DataFrame({"condition": WORDS, "length": [len(word) for word in WORDS]}).to_csv(
        files / "length.tsv", sep="\t", index=False
    )
    shown = brainmap_command(
        "rsa",
        "model",
        "--stimuli",
        files / "stimuli.tsv",
        "--category",
        "kind",
        "--phonetic",
        "--table",
        files / "length.tsv",
        "--items",
        "condition",
        "--out",
        files / "models.h5",
    )
    assert "3 RDMs (kind, phonetic features, length) of 10 conditions" in shown.out
    rows = json.loads(brainmap_command("rsa", "compare", files / "models.h5", files / "sub-1.h5", "--json").out)
    assert [row["name"] for row in rows] == ["kind", "phonetic features", "length"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("partition", "sub-1.h5", "--set", "net.h5"), "expected name=FILE.h5"),
        (("partition", "sub-1.h5", "sub-2.h5", "--set", "net=net.h5:conv9"), "got 'conv9'"),
        (("partition", "sub-1.h5", "--set", "net=net.h5"), "validation='none'"),
        (("partition", "sub-1.h5", "--set", "net=nets.h5"), "did you mean 'net.h5'"),
        (("partition", "sub-1.h5", "--set", "a=net.h5", "--set", "a=net.h5"), "expected each name once"),
        (("fit", "sub-1.h5", "--family", "net=net.h5", "--kind", "best"), "expected one of 'fixed'"),
        (("compare", "net.h5", "sub-1.h5", "--control-for", "acoustics.h5"), "expected at least 20 items, got"),
        (("compare", "net.h5", "sub-1.h5", "--control-for", "acoustics.h5", "--measure", "tau-a"), "no partial form"),
        (("model", "--out", "m.h5"), "give --category, --phonetic or --table"),
        (("model", "--out", "m.h5", "--phonetic"), "expected --stimuli"),
    ],
)
def test_mistakes_are_one_line(
    files: Path, brainmap_command: Any, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(files)
    said = brainmap_command("rsa", *arguments)
    assert said.code == 2
    assert words in said.err
    assert len(said.err.strip().splitlines()) == 1


def test_compare_removes_controls_from_scores_and_ceilings(files: Path, brainmap_command: Any) -> None:
    control = files / "acoustics.h5"
    ceilings = files / "ceilings.tsv"
    brainmap_command(
        "rsa",
        "compare",
        files / "net.h5",
        *data(files),
        "--measure",
        "pearson",
        "--control-for",
        control,
        "--out",
        files / "scores.tsv",
        "--ceilings",
        ceilings,
    )
    brains = rsa.stack_rdms([rsa.load_rdms(path) for path in data(files)])
    sides = (rsa.load_rdms(files / "net.h5"), brains, rsa.load_rdms(control))
    expected = rsa.compare_rdms_partial(*sides, measure="pearson")
    np.testing.assert_allclose(pd.read_csv(files / "scores.tsv", sep="\t")["score"], expected.ravel())
    assert json.loads((files / "scores.json").read_text())["Measure"] == "linear partial correlation (Pearson)"
    bounds = rsa.partial_ceilings(brains, sides[2], measure="pearson")
    assert pd.read_csv(ceilings, sep="\t")["lower"].item() == pytest.approx(bounds["lower"].item())
