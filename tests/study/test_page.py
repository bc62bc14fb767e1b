"""The page answers for every network of the study, and shows what controls and acoustic models reach."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from brainmap.rsa.inference.best_layers import BEST
from brainmap.study.stages.content.answers import list_rivals, tabulate_answers
from brainmap.study.stages.content.cautions import describe_reach, describe_uncertain, describe_unreliable
from brainmap.study.stages.content.key_results import collect_key_results
from brainmap.study.stages.content.people import compute_agreement, find_outliers, keep_agreed_regions
from brainmap.viz.page.answers import show_answers
from brainmap.viz.page.content import NetworkMaps, ReportContent
from brainmap.viz.page.write import write_report
from tests.conftest import TinyStudy

TWO = """
[[network]]
name = "other"
checkpoint = "net.safetensors"
layers = ["conv2", "conv4"]
controls = ["untrained"]

[baselines]
models = ["mfcc", "waveform-envelope"]

[[brain]]
participants = ["01", "02"]"""


@pytest.mark.slow
def test_the_page_answers_for_all_networks_and_shows_controls(tiny_study: TinyStudy) -> None:
    tiny_study.edit(('\n[[brain]]\nparticipants = ["01", "02"]', TWO))
    text = tiny_study.file.read_text()
    tiny_study.file.write_text(text[: text.index("[explain]")])
    tiny_study.run(page=True)
    page = (tiny_study.out / "report.html").read_text(encoding="utf-8")
    found = pd.read_csv(tiny_study.out / "group" / "differences.tsv", sep="\t")
    best = found[found["layer"] == BEST]
    compared = {("net", "other"), ("other", "other-untrained"), ("net", "acoustics"), ("other", "acoustics")}
    assert set(zip(best["network"], best["other_network"], strict=True)) == compared
    assert len(best) == 4 * 3
    assert "each network was compared with each of its controls, with the acoustic models" in page
    facts = re.search(r'<dl class="facts">.*?</dl>', page, re.S)
    assert facts is not None
    for network in ("net", "other"):
        assert f"regions where some layer of {network} is significant" in facts[0]
        assert f"voxels where some layer of {network} is significant" in facts[0]
    labels = re.findall(r'<label for="(?:network|brain)-\d">(\w+)</label>', page)
    assert labels == ["net", "other", "net", "other"]
    assert all((tiny_study.out / "figures" / f"layer-profile{end}.svg").exists() for end in ("", "-other"))
    assert "Gray dashed lines are controls, the same network without what it learned (other-untrained)" in page
    assert "of 2 layers, the maps of" not in page.lower(), "both layers, where no region needs more, or a note"
    cells = set(re.findall(r"<td>([\w-]+)</td>", page))
    assert {"net", "other", "other-untrained", "acoustics"} <= cells
    assert "<dt>Participants</dt><dd>3: 01, 02 and 03</dd>" in page
    assert "<dt>Sounds</dt><dd>8 of 4 conditions; compared as single sounds</dd>" in page
    assert page.count('<details class="table person">') == 3
    said = re.findall(r'person"><summary>\d+.*?mean agreement (.?\.\d+)', page.replace("−", "-"))
    agreement = [float(one) for one in said]
    assert agreement == sorted(agreement)
    assert len(re.findall(r'alt="RDM of (?:left-a|right-a|belt) of participant 0\d, agreement', page)) == 9
    assert len(re.findall(r'alt="Glass brain of participant 0\d, conv\d of ', page)) == 3
    menu = re.search(r"<select.*?</select>", page, re.S)
    assert menu is not None
    assert re.findall(r'<optgroup label="(\w+)">', menu[0]) == ["net", "other"]
    cautions = re.search(r'<aside class="cautions".*?</aside>', page, re.S)
    assert cautions is not None
    for said in (
        "few participants (3): a test over participants cannot reach a p under 0.125",
        "Differences: no p is under",
        "Searchlight maps: with 3 participants no p can be under 0.125",
        "that is near chance",
        "net has no control network",
    ):
        assert said in cautions[0], cautions[0]


ROWS = [
    ("a", "x", "R", 0.30, 0.001),
    ("a", "y", "R", 0.28, 0.001),
    ("a", "x", "S", 0.02, 0.600),
    ("a-untrained", "x", "R", 0.40, 0.001),
    ("b", "z", "R", 0.35, 0.010),
    ("b", "z", "S", 0.01, 0.700),
]
STATISTICS = pd.DataFrame(ROWS, columns=["network", "layer", "roi", "mean", "p_corrected"])
PAIRS = pd.DataFrame(
    [
        ("a", BEST, "a-untrained", BEST, "R", -0.1, 0.02),
        ("a", BEST, "b", BEST, "R", -0.04, 0.30),
        ("a", "x", "a", "y", "R", 0.02, 0.40),
        ("a", "x", "a", "y", "S", 0.02, 0.01),
    ],
    columns=["network", "layer", "other_network", "other_layer", "roi", "difference", "p_corrected"],
)
PAIRS["p"] = PAIRS["p_corrected"]
HALVES = pd.DataFrame({"network": ["a"], "roi": ["R"], "layer": ["y"], "score": [0.25], "chosen_share": [0.4]})
CEILINGS = pd.DataFrame({"roi": ["R", "S"], "lower": [0.5, -0.1], "upper": [0.6, 0.2]})
TABLES = {"statistics": STATISTICS, "differences": PAIRS, "best_layers": HALVES, "ceilings": CEILINGS}
FAMILIES = {"a": ["a-untrained"], "b": []}


def test_the_answer_of_a_region_is_its_best_layer_with_the_score_of_sounds_that_did_not_choose_it() -> None:
    table = tabulate_answers({**TABLES, "recovery": None}, FAMILIES)
    assert table is not None
    rows = table.set_index(["roi", "network"])
    assert rows.loc[("R", "a"), ["layer", "layer_score", "score", "held_out"]].tolist() == ["x", 0.30, 0.25, True]
    assert rows.loc[("R", "a"), ["chosen", "chosen_share"]].tolist() == ["y", 0.4], "halves need not agree with all"
    assert rows.loc[("R", "b"), ["layer", "layer_score", "score", "held_out"]].tolist() == ["z", 0.35, 0.35, False]
    assert rows["best"].tolist() == [False, True, False, False], "nothing explains S"
    assert rows.loc[("R", "a"), "of_ceiling"] == 0.5
    assert np.isnan(rows.loc[("S", "a"), "of_ceiling"])
    assert rows.loc[("R", "a"), ["over_untrained", "p_untrained", "over_best"]].tolist() == [-0.1, 0.02, -0.04]
    assert np.isnan(rows.loc[("R", "b"), "over_untrained"]), "b has no control"


def test_a_network_that_its_control_beats_is_never_shown_as_ahead() -> None:
    content = ReportContent(title="t", answers=tabulate_answers(TABLES, FAMILIES), statistics=STATISTICS)
    view = show_answers(content)
    assert view is not None
    best, silent = view.rows
    assert (best.network, best.layer, best.against[0].kind) == ("b", "z", "untested")
    assert (best.certainty, best.rivals) == ("", ""), "b was not halved, and has one layer"
    assert best.others == "not told apart: x of a (.25)"
    assert (silent.roi, silent.network) == ("S", "")
    alone = tabulate_answers(TABLES, {"a": ["a-untrained"]})
    view = show_answers(ReportContent(title="t", answers=alone, statistics=STATISTICS))
    assert view is not None
    assert (view.rows[0].against[0].text, view.rows[0].against[0].kind) == ("−.10", "behind")


def test_a_region_that_a_hypothesis_matches_far_better_names_it_and_does_not_read_as_the_layers(tmp_path: Path) -> None:
    supposed = [("kind", "R", 0.1, 0.3), ("rated", "R", 0.95, 0.01), ("kind", "S", 0.4, 0.01), ("rated", "S", 0.2, 0.1)]
    rows = [("hypotheses", *row) for row in supposed]
    pair = {"network": "a", "layer": BEST, "other_network": "hypotheses", "other_layer": BEST, "roi": "R"}
    tables = {
        "statistics": pd.concat([STATISTICS, pd.DataFrame(rows, columns=STATISTICS.columns)]),
        "differences": pd.concat(
            [PAIRS, pd.DataFrame([{**pair, "difference": -0.65, "p_corrected": 0.02, "p": 0.02}])]
        ),
        "recovery": None,
    }
    answers = tabulate_answers(tables, {"a": ["a-untrained"]}, {"hypotheses": "hypotheses"})
    assert answers is not None
    content = ReportContent(title="t", answers=answers, statistics=tables["statistics"], hypotheses="hypotheses")
    view = show_answers(content)
    assert view is not None
    beaten, silent = view.rows
    over = beaten.against[1]
    assert beaten.beaten == "its untrained control, the hypothesis rated (.95)"
    assert (over.text, over.model, over.kind) == ("−.65", "rated (.95)", "behind")
    assert (silent.network, silent.against[1].model, silent.beaten) == ("", "kind (.40)", "")
    page = write_report(content, tmp_path / "r.html").read_text(encoding="utf-8")
    assert '<small class="behind">ahead here: its untrained control, the hypothesis rated (.95)</small>' in page
    said = [text for _, text in collect_key_results(tables, answers, ["a"], {}, measure="rho-a", planted_from="a")]
    assert "regions where some hypothesis is significant, corrected: rated in R, kind in S" in said
    assert any(text.endswith("ahead of the best hypothesis; behind it in 1: rated in R") for text in said)
    assert not any("explain" in text for text in said)


def test_a_region_without_a_significant_layer_does_not_deny_hypotheses(tmp_path: Path) -> None:
    told = "hypotheses that are no networks, such as categories of sounds, were not compared"
    answers = tabulate_answers(TABLES, FAMILIES)
    assert answers is not None
    for rows, wanted in ((answers, True), (answers[answers["roi"] == "R"], False)):
        page = write_report(ReportContent(title="t", answers=rows, statistics=STATISTICS), tmp_path / "r.html")
        text = page.read_text(encoding="utf-8")
        assert "Differences are those of best layers" in text
        assert (told in text) is wanted
        assert not wanted or "[[hypothesis]] in the study file" in text
    content = ReportContent(title="t", answers=answers, statistics=STATISTICS, hypotheses="hypotheses")
    text = write_report(content, tmp_path / "r.html").read_text(encoding="utf-8")
    assert told not in text
    assert "hypotheses have a section of their own" in text


def test_the_best_layer_is_that_of_every_figure_and_says_how_sure_it_is() -> None:
    alone = tabulate_answers(TABLES, {"a": ["a-untrained"]})
    rivals = {"a": list_rivals(PAIRS, STATISTICS, "a")}
    view = show_answers(ReportContent(title="t", answers=alone, statistics=STATISTICS, rivals=rivals))
    assert view is not None
    row = view.rows[0]
    assert row.layer == rivals["a"]["R"][0] == "x"
    assert row.certainty == "halves choose y most often, in 40 %"
    assert row.rivals == "not told apart from y"
    assert list(describe_uncertain(alone)) == [
        "Which layer is best is uncertain in R: no layer is the best in half of the halves of the sounds."
    ]
    sure = tabulate_answers({**TABLES, "best_layers": HALVES.assign(layer="x", chosen_share=0.9)}, {"a": []})
    assert list(describe_uncertain(sure)) == []


def test_a_participant_is_no_outlier_because_of_a_region_of_noise() -> None:
    rng = np.random.default_rng(0)
    agreement = pd.DataFrame({"R": rng.normal(0.7, 0.03, 6), "noise": [0.4, 0.35, 0.3, 0.38, 0.36, -1.8]})
    assert list(keep_agreed_regions(agreement)) == ["R"]
    assert not any(find_outliers(keep_agreed_regions(agreement).mean(axis=1).to_numpy()))
    assert find_outliers(agreement.mean(axis=1).to_numpy())[5], "the mean over all regions calls it one"
    agreement.loc[2, "R"] = 0.1
    assert find_outliers(keep_agreed_regions(agreement).mean(axis=1).to_numpy())[2]


def test_layers_are_rivals_of_the_best_unless_another_layer_is_ahead_and_only_where_some_is_significant() -> None:
    assert list_rivals(PAIRS, STATISTICS, "a") == {"R": ["x", "y"]}
    assert list_rivals(None, STATISTICS, "a") == {"R": ["x"]}, "not tested is not called a rival"
    told = PAIRS.assign(p=[0.9, 0.9, 0.03, 0.9])  # other pairs are no part of the family: two pairs of layers are
    assert list_rivals(told, STATISTICS, "a", "none") == {"R": ["x"]}
    assert list_rivals(told, STATISTICS, "a", "bonferroni") == {"R": ["x", "y"]}
    assert list_rivals(told.assign(p=[0.9, 0.9, 0.02, 0.9]), STATISTICS, "a", "max-t") == {"R": ["x"]}


def test_the_key_results_count_regions_and_voxels_of_each_network() -> None:
    from nibabel import Nifti1Image

    best = Nifti1Image(np.array([1, 2, 2, 2, np.nan, 0], np.float32).reshape(6, 1, 1), np.eye(4))
    maps = {"a": NetworkMaps(best_layer=best, layers=["x", "y"])}
    tables = {**TABLES, "recovery": None}
    found = collect_key_results(
        tables, tabulate_answers(TABLES, FAMILIES), list(FAMILIES), maps, measure="rho-a", planted_from="a"
    )
    assert [figure for figure, _ in found] == ["1 of 2", "1 of 2", "1 of 1", ".35", "4"]
    assert found[0][1].startswith("regions where some layer of a is significant")
    assert found[3][1] == "highest rho-a: z of b in R (noise ceiling .50 to .60)"
    assert found[4][1].endswith("by their best layer: y (3), x (1)")


def test_nothing_is_recovered_where_nothing_is_significant() -> None:
    recovery = pd.DataFrame(
        {
            "region": ["R", "S", "T"],
            "planted": ["x", "x", None],
            "recovered": ["y", None, None],
            "distance": pd.array([1, 0, None], dtype="Int64"),
        }
    )
    tables = {"statistics": None, "recovery": recovery}
    found = collect_key_results(tables, None, list(FAMILIES), {}, measure="rho-a", planted_from="a")
    assert [figure for figure, _ in found] == ["1 of 2", "0 of 2"]


@pytest.mark.parametrize(
    ("correction", "test", "smallest", "said"),
    [
        ("fdr", "these sounds only", 0.125, "no p is under 0.125, so that fdr can find nothing"),
        ("fdr", "these sounds only", 0.001, ""),
        ("bonferroni", "these sounds only", 0.02, "Bonferroni over 3 tests lets no p be under 0.06"),
        ("max-t", "these sounds only", 0.06, "no p can be under 0.06, so that nothing can be significant"),
        ("bonferroni", "sounds relabeled", 0.02, ""),
        ("fdr", "bootstrap", 0.0, ""),
    ],
)
def test_a_correction_out_of_reach_is_said(correction: Any, test: str, smallest: float, said: str) -> None:
    table = pd.DataFrame({"p": [smallest, 0.3, 0.9], "smallest_p": smallest, "test": test})
    found = describe_reach(table, correction)
    assert found.startswith(said)
    assert bool(found) == bool(said)


def test_conditions_that_are_no_classes_are_left_out_of_the_maps_and_said(tiny_study: TinyStudy) -> None:
    from brainmap.features.networks.checkpoints import load_network, save_checkpoint
    from brainmap.features.networks.description import load_checkpoint

    path = tiny_study.folder / "net.safetensors"
    about = replace(load_checkpoint(path), classes=("cat", "dog", "tree", "owl"))  # no "yes"
    save_checkpoint(load_network(path), path, about)
    tiny_study.edit(("[searchlight]\nradius_mm = 6.0\n", ""))
    tiny_study.run(page=True)
    page = (tiny_study.out / "report.html").read_text(encoding="utf-8")
    assert "sounds of 1 conditions have no map of their own class and are left out of the maps" in page
    assert (tiny_study.out / "figures" / "target-attention.png").exists()


def test_warnings_of_a_run_are_on_its_page_whenever_they_were_given(finished: TinyStudy) -> None:
    from brainmap.study.run import Context
    from brainmap.study.settings.study import load_study
    from brainmap.study.stages.page import read_page_content

    found = dict(read_page_content(Context(load_study(finished.file)), explained=False).notices)
    assert any("that is near chance" in line for line in found["check"]), found
    (reach,) = [line for line in found["group: rois"] if "over participants" in line and "scores" in line]
    assert reach.endswith("no p is under 0.125, so that fdr can find nothing")
    (line,) = found["group: maps"]
    assert line == "group maps: with 3 participants no p is under 0.125, and nothing can be significant"
    finished.edit(("[searchlight]\nradius_mm = 6.0\n", ""))
    found = dict(read_page_content(Context(load_study(finished.file)), explained=False).notices)
    assert "group: maps" not in found, "the study no longer asks for it"


def test_agreement_is_that_of_each_participant_with_the_mean_ranks_of_the_others() -> None:
    from scipy.stats import rankdata, spearmanr

    rng = np.random.default_rng(0)
    shared = rng.random(45)
    vectors = shared + 0.3 * rng.random((6, 45))
    vectors[4] = rng.permutation(vectors[4])
    vectors[2, 7] = np.nan
    whole = np.delete(vectors, 7, axis=1)
    ranks = rankdata(whole, axis=1)
    wanted = [np.corrcoef(ranks[k], np.delete(ranks, k, axis=0).mean(axis=0))[0, 1] for k in range(6)]
    found = compute_agreement(vectors)
    np.testing.assert_allclose(found, wanted)
    assert find_outliers(found) == [k == 4 for k in range(6)]
    two = compute_agreement(whole[:2])
    np.testing.assert_allclose(two, [spearmanr(*whole[:2]).statistic] * 2)


def test_participants_and_masks_are_described_on_the_page(finished: TinyStudy) -> None:
    from brainmap.study.run import Context
    from brainmap.study.settings.study import load_study
    from brainmap.study.stages.page import read_page_content

    content = read_page_content(Context(load_study(finished.file)), explained=False)
    people = content.people
    assert people is not None
    assert sorted(people["participant"]) == ["01", "02", "03"]
    assert people["agreement"].is_monotonic_increasing
    assert people["voxels"].eq(168).all()
    assert people["left_out"].eq(0).all()
    assert content.regions.names == ("left-a", "right-a", "belt")
    assert content.regions_note.startswith("All participants have these regions. The line is the edge of what 3 masks")
    assert "168 voxels; 0 more are in some of them" in content.regions_note


def test_padding_is_a_caution_from_a_tenth_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from brainmap.study.settings.study import Network
    from brainmap.study.stages.content import cautions

    shares = {"silent": 0.41, "full": 0.09, "old": None}
    networks = [Network(name=name, checkpoint="net.safetensors") for name in shares]
    context: Any = SimpleNamespace(study=SimpleNamespace(settings=SimpleNamespace(network=networks)))
    fed = {"padded": 24, "sounds": 24, "seconds": 2.0}
    monkeypatch.setattr(
        cautions,
        "read_fed",
        lambda _, version: {} if shares[version.name] is None else {**fed, "padding": shares[version.name]},
    )
    said = list(cautions._describe_padding(context))
    assert len(said) == 1
    assert said[0].startswith("Network silent heard 24 of 24 sounds padded with zeros to 2 s: 41% of all that it heard")


def test_the_page_says_who_has_fewer_runs_and_whose_noise_is_treated_otherwise(tiny_study: TinyStudy) -> None:
    (tiny_study.folder / "sub-03" / "betas_run-3.nii.gz").unlink()
    text = tiny_study.file.read_text()
    text = text.replace(
        'mask = "sub-{participant}/mask.nii.gz"\n', 'mask = "sub-{participant}/mask.nii.gz"\nnoise = "none"\n'
    )
    tiny_study.file.write_text(text[: text.index("[searchlight]")])
    tiny_study.run(page=True)
    page = re.sub(r"<[^>]+>", "", (tiny_study.out / "report.html").read_text(encoding="utf-8"))
    assert "Participant 03 has 2 runs where others have 3, so that its RDMs are noisier." in page
    assert (
        "The noise of patterns is not treated alike: those of 01 and 02 are weighted by the noise of the other runs, "
        "those of 03 are not weighted by noise (03: fewer than 3 runs are too few for noise = &#39;runs&#39;). Their"
    ) in page
    assert "3 each, but 2 of 03" in page
    assert "3 participants were analyzed (runs: 3 each, but 2 of 03)." in page
    assert "in 01, 02 it came from the deviations of patterns" in page
    assert "in 03 patterns were not weighted by it." in page


def test_a_ceiling_of_what_is_left_says_what_was_removed() -> None:
    said = next(describe_unreliable(CEILINGS, removed=("category",)))
    assert said.startswith("Participants share no geometry beyond category, which was removed, in S (lower noise")
    assert next(describe_unreliable(CEILINGS)).startswith("Participants share no geometry in S (lower noise")
