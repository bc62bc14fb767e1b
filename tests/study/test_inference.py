"""`[rsa] inference`: the tests a study asks for, on disk and on its page."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from brainmap import rsa
from brainmap.errors import InputError
from brainmap.study.settings.study import Rsa, load_study
from brainmap.study.stages.generality import choose_differences, choose_zero
from brainmap.types import Over

QUICK = (
    ("[searchlight]\nradius_mm = 6.0\n", ""),
    ("[explain]\nmaximization = { steps = 2, classes = 2, channels = 1, best_layers = 1, judges = 'none' }\n", ""),
)

CONTROLLED = ("\n[rsa]\n", '\n[baselines]\nmodels = ["mfcc"]\n\n[rsa]\ncontrol_for = ["mfcc"]\n')


def with_inference(text: str) -> tuple[str, str]:
    return "inference = { splits = 4 }", f"inference = {{ splits = 4, {text} }}"


def alone(study: Any) -> None:
    """The study with participant 03 only."""
    head, _, rest = study.file.read_text().split("[[brain]]")
    study.file.write_text(f"{head}[[brain]]{rest}")


def table(study: Any, name: str) -> Any:
    return pd.read_csv(study.out / "group" / f"{name}.tsv", sep="\t", na_values="n/a", keep_default_na=False)


def sidecar(study: Any, name: str) -> Any:
    return json.loads((study.out / "group" / f"{name}.json").read_text())


def note(study: Any, name: str) -> str:
    return str(sidecar(study, name)["Test"])


def rdms_of(study: Any) -> tuple[Any, Any]:
    brains = [rsa.load_rdms(path) for path in sorted(study.out.glob("sub-*/**/*rdms.h5"))]
    return rsa.load_rdms(next(study.out.glob("rdms/*rdms.h5"))), rsa.stack_rdms(brains)


@pytest.mark.parametrize("over", ["both", "participants"])
@pytest.mark.slow
def test_a_bootstrap_is_that_of_the_library_for_every_region(tiny_study: Any, over: Over) -> None:
    pearson = ('measure = "rho-a"', 'measure = "pearson"')
    tiny_study.edit(with_inference(f'bootstrap = 100, over = "{over}"'), pearson, *QUICK)
    tiny_study.run(page=True)
    models, brains = rdms_of(tiny_study)
    seed = load_study(tiny_study.file).settings.study.seed
    rng = np.random.default_rng(np.random.SeedSequence([seed, *b"bootstrap"]))
    wanted = rsa.bootstrap_rois(models, brains, over=over, n=100, measure="pearson", rng=rng)
    found = table(tiny_study, "bootstrap")
    np.testing.assert_allclose(found["p_corrected"], wanted.models["p_corrected"])
    np.testing.assert_allclose(found["ci_high"], wanted.models["ci_high"])
    assert list(found)[:3] == ["network", "layer", "roi"]
    pairs = table(tiny_study, "differences")
    np.testing.assert_allclose(pairs["p_corrected"], wanted.pairs["p_corrected"])
    assert list(pairs)[:5] == ["network", "layer", "other_network", "other_layer", "roi"]
    assert "100 bootstrap resamples of " + over.replace("both", "participants and conditions") in note(
        tiny_study, "differences"
    )
    wanted_here = rsa.score_differences(rsa.compare_rdms(models, brains.subset("roi", "belt"), measure="pearson"))
    np.testing.assert_allclose(pairs.loc[pairs["roi"] == "belt", "p_these_sounds"], wanted_here["p"])
    assert (pairs["test"] == "bootstrap").all()
    page = (tiny_study.out / "report.html").read_text()
    assert "100 bootstrap resamples" in page
    assert "Wilcoxon signed-rank test over participants" in page
    assert "these sounds only" in page
    assert "below_ceiling" in page or "below ceiling" in page
    assert "What participants share that a layer lacks" in page
    assert "ceiling_p" not in found
    tiny_study.edit((f'bootstrap = 100, over = "{over}"', "bootstrap = 0"))
    assert "group_rois" in tiny_study.run()
    assert not (tiny_study.out / "group" / "bootstrap.tsv").exists(), "what lies on disk is what the study says"


@pytest.mark.slow
def test_networks_are_compared_by_their_best_layers(tiny_study: Any) -> None:
    """A network and its control have rows of their own in the table of differences, and a table on the page."""
    tiny_study.edit(
        ("[[network]]\n", '[[network]]\ncontrols = ["untrained"]\n'), with_inference("bootstrap = 100"), *QUICK
    )
    tiny_study.run(page=True)
    paths = sorted(tiny_study.out.glob("rdms/*rdms.h5"), key=lambda path: "untrained" in path.name)
    models, brains = rsa.stack_rdms([rsa.load_rdms(path) for path in paths]), rdms_of(tiny_study)[1]
    seed = load_study(tiny_study.file).settings.study.seed
    rng = np.random.default_rng(np.random.SeedSequence([seed, *b"bootstrap"]))
    wanted = rsa.bootstrap_rois(models, brains, n=100, rng=rng)
    found = table(tiny_study, "differences")
    best = found[found["layer"] == "best layer"]
    assert best["other_layer"].eq("best layer").all()
    np.testing.assert_allclose(best[["p", "p_corrected"]], wanted.best_layers[["p", "p_corrected"]])
    np.testing.assert_allclose(found.loc[found["layer"] != "best layer", "p_corrected"], wanted.pairs["p_corrected"])
    n = models.n_rdm // 2
    networks = {"one": list(range(n)), "control": list(range(n, 2 * n))}
    belt = rsa.compare_rdms(models, brains.subset("roi", "belt"))
    here = best[best["roi"] == "belt"]
    np.testing.assert_allclose(here["p_these_sounds"], rsa.best_layer_differences(belt, networks)["p"])
    assert (
        "chooses the best layer of each network again in every resample"
        in sidecar(tiny_study, "differences")["BestLayers"]
    )
    page = (tiny_study.out / "report.html").read_text()
    assert "Network against network, each by its best layer" in page
    assert (
        "Networks were compared by their best layers: the best layer of each was chosen again in every resample" in page
    )


def test_scores_are_tested_by_relabeling_the_sounds_of_whole_words(tiny_results: Any) -> None:
    models, brains = rdms_of(tiny_results)
    study = load_study(tiny_results.file).settings
    found = table(tiny_results, "statistics")
    wanted = rsa.relabeling_test(models, brains, measure=study.rsa.measure)
    assert wanted.attrs["relabelings"] == 48, "four words of two sounds: 4! x 2!"
    for column in ("p", "p_corrected", "chance", "statistic", "smallest_p"):
        np.testing.assert_allclose(found[column], wanted[column])
    np.testing.assert_allclose(found["mean"], wanted["mean"])
    scores = rsa.compare_rdms(models, brains.subset("roi", "belt"), measure=study.rsa.measure)
    here = found[found["roi"] == "belt"]
    np.testing.assert_allclose(here["p_these_sounds"], rsa.score_statistics(scores)["p"])
    assert (found["test"] == "sounds relabeled").all()
    assert "4 whole conditions exchanged, their 2 tokens alike in all" in note(tiny_results, "statistics")
    about = sidecar(tiny_results, "statistics")
    assert about["TheseSoundsOnly"] == (
        "Wilcoxon signed-rank test over participants (one-sided), which takes the sounds as fixed (these sounds only), "
        "false discovery rate (Benjamini-Hochberg) over 9 tests; the smallest p it can reach is 0.125; no p is under "
        "0.125, so that fdr can find nothing"
    )


@pytest.mark.slow
def test_a_selection_of_sounds_is_said_beside_the_test(tiny_study: Any) -> None:
    tiny_study.edit(('table = "stimuli.tsv"', 'table = "stimuli.tsv"\nselected = true'), *QUICK)
    tiny_study.run(page=True)
    assert "were chosen to differ and are no sample of sounds" in sidecar(tiny_study, "statistics")["Generalizes"]
    page = (tiny_study.out / "report.html").read_text()
    assert "The sounds were chosen to differ and are no sample of sounds" in page


def test_few_sounds_give_no_claim_about_networks(tiny_results: Any) -> None:
    """Eight sounds of four words are fewer than sixteen: differences are tested over participants alone."""
    found, about = table(tiny_results, "differences"), sidecar(tiny_results, "differences")
    np.testing.assert_array_equal(found["p"], found["p_these_sounds"])
    assert (found["test"] == "these sounds only").all()
    assert about["Generalizes"] == (
        "4 conditions of several sounds are fewer than the 16 that a bootstrap wants, so that the test over "
        "participants stands alone: these sounds only, with no claim about networks"
    )
    assert not (tiny_results.out / "group" / "bootstrap.tsv").exists()


def test_partial_scores_are_tested_over_participants_and_say_so(tiny_study: Any) -> None:
    tiny_study.edit(CONTROLLED, ('measure = "rho-a"', 'measure = "pearson"'), *QUICK)
    tiny_study.run()
    found, about = table(tiny_study, "statistics"), sidecar(tiny_study, "statistics")
    np.testing.assert_array_equal(found["p"], found["p_these_sounds"])
    assert about["Generalizes"].startswith("partial scores have no relabeling, so that the test over participants")


@pytest.mark.parametrize(
    ("text", "zero", "differences"),
    [
        ('zero = "participants"', "these sounds only", "these sounds only"),
        ('zero = "bootstrap", bootstrap = 100', "bootstrap", "bootstrap"),
        ('differences = "participants", bootstrap = 100', "sounds relabeled", "these sounds only"),
        ("permutations = 0", "these sounds only", "these sounds only"),
    ],
)
def test_every_test_can_be_chosen(tiny_study: Any, text: str, zero: str, differences: str) -> None:
    tiny_study.edit(with_inference(text), *QUICK)
    tiny_study.run()
    found, pairs = table(tiny_study, "statistics"), table(tiny_study, "differences")
    assert set(found["test"]) == {zero}
    assert set(pairs["test"]) == {differences}
    if zero == "bootstrap":
        boot = table(tiny_study, "bootstrap").set_index(["network", "layer", "roi"])
        keys = list(zip(found["network"], found["layer"], found["roi"], strict=True))
        np.testing.assert_allclose(found["p_corrected"], boot.loc[keys, "p_corrected"])
        assert not np.allclose(found["p"], found["p_these_sounds"])


def test_three_words_leave_no_p_and_the_test_over_participants_stands_alone() -> None:
    rng, settings = np.random.default_rng(0), Rsa()
    three = rsa.compute_rdms(rng.normal(size=(3, 5)), descriptors={"stimulus_id": list("abc")})
    assert choose_zero(settings, three) == ("participants", "3 stimuli exchanged: 6 relabelings leave no p under 0.05")
    four = rsa.compute_rdms(rng.normal(size=(4, 5)), descriptors={"stimulus_id": list("abcd")})
    assert choose_zero(settings, four).kind == "relabeling"


@pytest.mark.parametrize(
    ("n", "words", "measure", "kind"),
    [
        (16, 16, "rho-a", "bootstrap"),
        (15, 15, "rho-a", "participants"),
        (32, 16, "rho-a", "bootstrap"),
        (16, 8, "rho-a", "participants"),
        (16, 16, "tau-a", "participants"),
    ],
)
def test_differences_are_bootstrapped_from_sixteen_sounds_on(n: int, words: int, measure: Any, kind: str) -> None:
    items = {"stimulus_id": [f"s{k}" for k in range(n)], "condition": [f"w{k % words}" for k in range(n)]}
    rdm = rsa.compute_rdms(np.random.default_rng(0).normal(size=(n, 5)), descriptors=items)
    assert choose_differences(Rsa(measure=measure), rdm).kind == kind


def test_without_a_bootstrap_layers_are_compared_over_participants(tiny_results: Any) -> None:
    models, brains = rdms_of(tiny_results)
    measure = load_study(tiny_results.file).settings.rsa.measure
    scores = rsa.compare_rdms(models, brains.subset("roi", "left-a"), measure=measure)
    found = table(tiny_results, "differences")
    here = found[found["roi"] == "left-a"]
    np.testing.assert_allclose(here["p"], rsa.score_differences(scores)["p"])
    assert "two-sided" in note(tiny_results, "differences")
    lacking = table(tiny_results, "residual_structure")
    wanted = rsa.residual_structure(models, brains, measure=measure)
    np.testing.assert_allclose(lacking["shared"], wanted["shared"])
    assert lacking["p"].isna().all()
    assert "fewer than 6 participants are not tested" in note(tiny_results, "residual_structure")
    repeats = table(tiny_results, "reliability").set_index("roi")
    wanted = rsa.rdm_reliability(brains, measure=measure).set_index("roi")
    np.testing.assert_allclose(repeats["reliability"], wanted.loc[repeats.index, "reliability"])


def test_rdms_of_runs_repeat_in_a_table_of_each_participant_and_of_all(tiny_study: Any) -> None:
    tiny_study.edit(('dissimilarity = "crossnobis"', 'dissimilarity = "correlation"'), *QUICK)
    tiny_study.run()
    own = [
        pd.read_csv(path, sep="\t", dtype={"participant": str})
        for path in sorted(tiny_study.out.glob("sub-*/func/*_reliability.tsv"))
    ]
    assert [one["participant"].unique().tolist() for one in own] == [["01"], ["02"], ["03"]]
    assert (own[0]["n"] == 3).all()
    assert (own[0]["splits"] == 3).all()
    found = table(tiny_study, "reliability").set_index(["over", "roi"])
    mean = np.mean([one.set_index("roi").loc["belt", "reliability"] for one in own])
    assert found.loc[("runs", "belt"), "reliability"] == pytest.approx(mean)
    assert found.loc[("participants", "belt"), "n"] == 3


def test_one_participant_is_tested_by_relabeling_conditions(tiny_study: Any) -> None:
    """Relabelings take rho-a in place of tau-a, which the sidecar and the page say; scores stay tau-a."""
    alone(tiny_study)
    tiny_study.edit(('measure = "rho-a"', 'measure = "tau-a"'))
    tiny_study.edit(with_inference('permutations = 300, bootstrap = 100, over = "conditions"'), *QUICK)
    tiny_study.run(page=True)
    models, brains = rdms_of(tiny_study)
    found = table(tiny_study, "statistics")
    wanted = rsa.permutation_test(models, brains, permutations=300).set_index(["model", "roi"])
    keys = list(zip(found["layer"], found["roi"], strict=True))
    np.testing.assert_allclose(found["p"], wanted.loc[keys, "p"])
    tau = rsa.compare_rdms(models, brains, measure="tau-a")
    np.testing.assert_allclose(np.sort(found["mean"]), np.sort(tau.ravel()))
    instead = "relabelings are compared by rho-a in place of tau-a, which is slow"
    assert instead in note(tiny_study, "statistics")
    assert sidecar(tiny_study, "statistics")["Substitute"] == instead
    assert found["standard_error"].isna().all()
    assert found["n"].eq(1).all()
    assert "the smallest p it can reach is 0.0208" in note(tiny_study, "statistics")
    assert "48 relabelings enumerated" in note(tiny_study, "statistics")
    assert len(table(tiny_study, "bootstrap")) == len(found)
    page = (tiny_study.out / "report.html").read_text()
    assert "by relabeling the sounds of the layers (all 48 relabelings" in page
    assert page.count(instead) > 1, "in the note below the table and in the methods"
    assert "signed-rank test over participants" not in page


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([with_inference("bootstrap = 5")], "bootstrap: expected at least 100, or 0 for none, got 5"),
        ([with_inference('over = "subjects"')], "over: expected 'participants', 'conditions' or 'both'"),
        ([with_inference("bootstrap = 100"), CONTROLLED], "not by bootstrap"),
        ([with_inference('zero = "relabeling"'), CONTROLLED], "not by relabeling"),
        (
            [with_inference('zero = "bootstrap", bootstrap = 0')],
            "bootstrap: expected at least 100 resamples for a test by bootstrap, got 0",
        ),
        (
            [with_inference('zero = "relabeling", permutations = 0')],
            "permutations: expected at least 100 for zero = 'relabeling', got 0",
        ),
        ([('measure = "rho-a"', 'measure = "corr_cov"'), CONTROLLED], "got 'corr_cov', which has no partial form"),
    ],
)
def test_what_cannot_be_tested_is_said(tiny_study: Any, changes: Any, words: str) -> None:
    tiny_study.edit(*changes)
    with pytest.raises(InputError, match=words):
        load_study(tiny_study.file)


def test_one_participant_cannot_be_resampled(tiny_study: Any) -> None:
    alone(tiny_study)
    tiny_study.edit(with_inference("bootstrap = 100"))
    with pytest.raises(InputError, match="over both expects several participants, got one; set over = 'conditions'"):
        load_study(tiny_study.file)
