"""brainmap rsa test and rsa reliability: the library's tests from the shell, RDM files or a table of scores in."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from brainmap import rsa

WORDS = [f"w{k}" for k in range(1, 11)]


@pytest.fixture
def files(tmp_path):
    """Two layers, and two ROIs of six participants that follow the second; the files, models first."""
    rng = np.random.default_rng(0)
    layers = {name: rng.normal(size=(10, 4)) for name in ("conv1", "conv2")}
    models = [
        rsa.compute_rdms(x, descriptors={"condition": WORDS, "layer": name}, items="condition")
        for name, x in layers.items()
    ]
    paths = [rsa.save_rdms(rsa.stack_rdms(models), tmp_path / "models.h5")]
    for person in "123456":
        mine = [
            rsa.compute_rdms(
                np.c_[layers["conv2"], noise * rng.normal(size=(10, 12))],
                items="condition",
                descriptors={"condition": WORDS, "participant": person, "roi": roi},
            )
            for roi, noise in (("HG", 0.5), ("V1", 5.0))
        ]
        paths.append(rsa.save_rdms(rsa.stack_rdms(mine), tmp_path / f"sub-{person}.h5"))
    return paths


@pytest.fixture
def rdms(files):
    return rsa.load_rdms(files[0]), rsa.stack_rdms([rsa.load_rdms(path) for path in files[1:]])


def table(answer: Any) -> pd.DataFrame:
    assert answer.code == 0, answer.err
    return pd.DataFrame(json.loads(answer.out))


def test_a_test_over_participants_is_that_of_the_library_from_rdms_and_from_a_table(
    files, rdms, tmp_path, brainmap_command
):
    scores = rsa.compare_rdms(*rdms, measure="spearman")
    cube = np.stack([scores[:, [r == roi for r in rdms[1].rdm_descriptors["roi"]]] for roi in ("HG", "V1")], axis=1)
    labels = {"model": ["conv1", "conv2"], "roi": ["HG", "V1"]}
    wanted = rsa.score_statistics(cube, labels=labels)
    far = tmp_path / "pairs.tsv"
    answer = brainmap_command("rsa", "test", *files, "--measure", "spearman", "--differences", far, "--json")
    found = table(answer)
    np.testing.assert_allclose(found["p_corrected"], wanted["p_corrected"])
    assert found["model"].tolist() == ["conv1", "conv1", "conv2", "conv2"]
    pairs = pd.read_csv(far, sep="\t")
    expected = rsa.score_differences(cube, labels=labels)
    np.testing.assert_allclose(pairs["p"], expected["p"])
    assert "two-sided" in json.loads(far.with_suffix(".json").read_text())["Test"]

    assert brainmap_command("rsa", "compare", *files, "--measure", "spearman", "--out", tmp_path / "s.tsv").code == 0
    again = table(brainmap_command("rsa", "test", tmp_path / "s.tsv", "--json"))
    np.testing.assert_allclose(again["p_corrected"], wanted["p_corrected"])


def test_against_the_ceiling_is_what_participants_share_beyond_a_model(files, rdms, tmp_path, brainmap_command):
    out = tmp_path / "lacking.tsv"
    assert brainmap_command("rsa", "test", *files, "--against", "ceiling", "--out", out).code == 0
    found, wanted = pd.read_csv(out, sep="\t", na_values="n/a"), rsa.residual_structure(*rdms, permutations=1000)
    np.testing.assert_allclose(found["shared"], wanted["shared"])
    np.testing.assert_allclose(found["p"], wanted["p"])
    about = json.loads(out.with_suffix(".json").read_text())
    assert "participants share structure that this model lacks" in about["Test"]
    assert "one-sided" in about["p"]["Description"]
    refused = brainmap_command("rsa", "test", *files, "--against", "ceiling", "--test", "t")
    assert refused.code == 2
    assert "--against ceiling, which flips signs of whole RDMs" in refused.err


def test_the_bootstrap_tells_models_and_pairs_of_every_region(files, rdms, tmp_path, brainmap_command):
    out, far = tmp_path / "b.tsv", tmp_path / "pairs.tsv"
    given = ("--kind", "bootstrap", "--n", 60, "--measure", "pearson", "--seed", 3, "--out", out, "--differences", far)
    answer = brainmap_command("rsa", "test", *files, *given)
    assert answer.code == 0, answer.err
    assert answer.out.split() == ["Wrote", str(out), "Wrote", str(far)]
    wanted = rsa.bootstrap_rois(*rdms, n=60, measure="pearson", rng=np.random.default_rng(3))
    for path, expected in ((out, wanted.models), (far, wanted.pairs)):
        found = pd.read_csv(path, sep="\t")
        assert list(found) == list(expected)
        np.testing.assert_allclose(found["p_corrected"], expected["p_corrected"])
    best = wanted.models.set_index(["model", "roi"])
    assert best.loc[("conv2", "HG"), "p_corrected"] < 0.01 < best.loc[("conv1", "HG"), "p_corrected"]
    assert (best["ci_low"] < best["mean"]).all()
    assert brainmap_command("rsa", "test", *files, *given).code == 2, "nothing is replaced silently"


def test_layers_of_a_network_are_one_model_that_is_fit_in_every_resample(files, rdms, brainmap_command):
    given = ("--kind", "bootstrap", "--fit", "selected", "--over", "participants", "--n", 6, "--measure", "pearson")
    found = table(brainmap_command("rsa", "test", *files, *given, "--json"))
    wanted = rsa.bootstrap_rois(
        {"models": rdms[0]},
        rdms[1],
        kind="selected",
        over="participants",
        n=6,
        measure="pearson",
        rng=np.random.default_rng(0),
    ).models
    np.testing.assert_allclose(found["score"], wanted["score"])
    assert found[["model", "roi"]].values.tolist() == [["models", "HG"], ["models", "V1"]]
    refused = brainmap_command("rsa", "test", *files, "--fit", "selected").err
    assert "--fit: expected --kind bootstrap, got --kind participants" in refused


def test_sounds_are_relabeled_jointly_for_all_participants(files, rdms, tmp_path, brainmap_command):
    answer = brainmap_command(
        "rsa",
        "test",
        *files,
        "--kind",
        "relabeling",
        "--n",
        300,
        "--measure",
        "corr",
        "--seed",
        4,
        "--out",
        tmp_path / "found.tsv",
    )
    assert answer.code == 0, answer.err
    wanted = rsa.relabeling_test(*rdms, permutations=300, measure="corr", rng=np.random.default_rng(4))
    found = pd.read_csv(tmp_path / "found.tsv", sep="\t")
    pd.testing.assert_frame_equal(found, wanted, check_dtype=False)
    assert "jointly for all participants" in json.loads((tmp_path / "found.json").read_text())["Test"]


def test_single_sounds_of_conditions_are_relabeled_where_this_is_asked_for(files, rdms, brainmap_command):
    for kind, test in (("relabeling", rsa.relabeling_test), ("permutation", rsa.permutation_test)):
        words = ("--kind", kind, "--n", 300, "--by", "stimulus", "--json")
        found = table(brainmap_command("rsa", "test", *files[:2], *words))
        wanted = test(rdms[0], rsa.load_rdms(files[1]), permutations=300, by="stimulus", rng=np.random.default_rng(0))
        np.testing.assert_allclose(found["p"], wanted["p"])
    assert "--by" in brainmap_command("rsa", "test", *files, "--by", "stimulus").err


def test_one_participant_is_tested_by_relabeling_and_layers_by_halves(files, rdms, brainmap_command):
    one = table(brainmap_command("rsa", "test", *files[:2], "--kind", "permutation", "--n", 200, "--json"))
    wanted = rsa.permutation_test(rdms[0], rsa.load_rdms(files[1]), permutations=200, rng=np.random.default_rng(0))
    np.testing.assert_allclose(one["p"], wanted["p"])
    said = brainmap_command("rsa", "test", *files[:2], "--kind", "permutation", "--n", 200)
    assert "the smallest p it can reach is" in said.out
    best = table(brainmap_command("rsa", "test", *files, "--kind", "best-layer", "--splits", 5, "--json"))
    assert best.set_index("roi").loc["HG", "layer"] == "conv2"


def test_reliability_over_participants_and_over_runs(files, rdms, tmp_path, tiny_inputs, brainmap_command):
    found = table(brainmap_command("rsa", "reliability", *files[1:], "--measure", "spearman", "--json"))
    np.testing.assert_allclose(found["halves"], rsa.rdm_reliability(rdms[1], measure="spearman")["halves"])
    own = tiny_inputs.folder / "sub-01"
    betas = sorted(own.glob("betas_run-*.HEAD")) or sorted(own.glob("betas_run-*.nii.gz"))
    mask = next(iter([*own.glob("mask*.HEAD"), *own.glob("mask.nii.gz")]))
    out = tmp_path / "r.tsv"
    answer = brainmap_command(
        "rsa",
        "reliability",
        "--betas",
        *betas,
        "--mask",
        mask,
        "--stimuli",
        tiny_inputs.folder / "stimuli.tsv",
        "--rois",
        tiny_inputs.folder / "rois.nii.gz",
        "--roi-table",
        tiny_inputs.folder / "rois.tsv",
        "--out",
        out,
    )
    assert answer.code == 0, answer.err
    over_runs = pd.read_csv(out, sep="\t")
    assert set(over_runs["over"]) == {"runs"}
    assert over_runs["n"].eq(len(betas)).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("--kind", "bootstraps"), "did you mean 'bootstrap'"),
        (
            ("--kind", "permutation", "--differences", "d.tsv"),
            "--differences: expected --kind participants or bootstrap",
        ),
        (("--kind", "bootstrap", "--correction", "max-t"), "correction: expected one of 'fdr'"),
        (("--kind", "bootstrap", "--against", "ceiling"), "--against: expected --kind participants, got"),
        (("--kind", "permutation", "--correction", "bonferroni"), "--correction: expected --kind participants"),
        (("--kind", "best-layer", "--n", "50"), "--n: expected --kind participants or bootstrap or relabeling"),
        (("--test", "signed"), "--test"),
        (("--correction", "max-t"), "expected test='sign-flip'"),
    ],
)
def test_mistakes_are_one_line(files, tmp_path, monkeypatch, brainmap_command, change, words):
    monkeypatch.chdir(tmp_path)
    answer = brainmap_command("rsa", "test", *files, *change)
    assert answer.code == 2
    assert words.replace("--test", "signed") in answer.err
    assert "Traceback" not in answer.err


def test_a_table_that_holds_no_scores_is_said(tmp_path, files, brainmap_command):
    path = tmp_path / "t.tsv"
    path.write_text("layer\tvalue\nconv1\t0.1\n")
    assert "expected columns 'participant', 'score' too" in brainmap_command("rsa", "test", path).err
    path.write_text("layer\tparticipant\tscore\nconv1\t1\t0.1\nconv1\t1\t0.2\n")
    assert "expected one score per participant" in brainmap_command("rsa", "test", path).err
    assert "expected a table of scores by itself" in brainmap_command("rsa", "test", path, files[1]).err
    assert "choose --kind permutation" in brainmap_command("rsa", "test", *files[:2]).err
    assert "give RDMs of several participants, or --betas" in brainmap_command("rsa", "reliability").err


@pytest.mark.parametrize("command", [["rsa", "compare"], ["rsa", "test"]])
def test_a_participant_who_comes_twice_is_refused(files, brainmap_command, command):
    again = files[1].with_name("copy.h5")
    again.write_bytes(files[1].read_bytes())
    for extra, said in ((files[1], "twice, whose participant would count"), (again, "got two of")):
        answer = brainmap_command(*command, *files, extra)
        assert answer.code == 2
        assert said in answer.err
