"""What stands under "Read with care" at the top of a study's page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from brainmap.study.run import Context
from brainmap.study.settings.study import StudySettings, load_study
from brainmap.study.stages.content import people as of_people
from brainmap.study.stages.content.answers import tabulate_answers
from brainmap.study.stages.content.cautions import describe_outliers, describe_removed, describe_unreliable
from brainmap.study.stages.content.key_results import collect_key_results
from brainmap.study.stages.page import read_page_content
from brainmap.study.stages.reach import announce_reach
from brainmap.viz.page.write import ReportContent, write_report
from tests.conftest import TinyStudy

PEOPLE = pd.DataFrame(
    {
        "participant": ["03", "01", "02", "04", "05"],
        "agreement": [0.15, 0.58, 0.61, 0.61, 0.65],
        "lowest_region": ["HG", "PT", "PT", "HG", "PT"],
        "outlier": [True, False, False, False, False],
        "reliability": [0.02, 0.48, 0.5, 0.5, 0.55],
    }
)


def test_a_participant_whose_data_look_wrong_is_named_with_its_numbers_and_what_to_look_at() -> None:
    (said,) = describe_outliers(PEOPLE)
    assert said == (
        "Participant 03 looks wrong: its RDMs agree with those of the others by .15, where others reach .61 (median), "
        "and least of all in HG; they repeat over its runs by .02, where those of others do by .50. Look at the order "
        "of its labels in each run, at the files of its runs, and at its mask and regions, before a mean over "
        "participants is believed."
    )
    (said,) = describe_outliers(PEOPLE.drop(columns="reliability"))
    assert "and least of all in HG. Look at the order of its labels" in said, "runs were not compared"
    assert not list(describe_outliers(PEOPLE.assign(outlier=False)))
    assert not list(describe_outliers(PEOPLE[["participant"]])), "one participant agrees with nobody"


def test_the_page_names_an_outlier_at_its_top(finished: TinyStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_people, "find_outliers", lambda values: [one == values.min() for one in values])
    content = read_page_content(Context(load_study(finished.file)), explained=False)
    assert content.people is not None
    who = content.people.loc[content.people["outlier"], "participant"].item()
    assert content.cautions[1].startswith(f"Participant {who} looks wrong: its RDMs agree with those of the others by")


def test_what_was_removed_is_said_and_a_region_is_not_called_without_geometry() -> None:
    ceilings = pd.DataFrame({"roi": ["HG", "PT"], "lower": [-0.06, 0.5]})
    (said,) = describe_unreliable(ceilings, removed=["category"])
    assert said.startswith("Participants share no geometry beyond category, which was removed, in HG (lower noise")
    (said,) = describe_removed(["mfcc", "category"], maps=True)
    assert said == (
        "Scores, noise ceilings and tests of regions are of what is left without mfcc and category ([rsa] "
        "control_for); maps of searchlights are of the whole geometry."
    )
    assert not list(describe_removed([], maps=True))


def test_the_first_lines_of_the_page_say_what_was_removed(tmp_path: Path) -> None:
    statistics = pd.DataFrame(
        {"network": ["a", "hypotheses"], "layer": ["x", "rated"], "roi": "R", "mean": 0.3, "p_corrected": [0.01, 0.2]}
    )
    ceilings = pd.DataFrame({"roi": ["R"], "lower": [0.5], "upper": [0.6]})
    tables = {"statistics": statistics, "ceilings": ceilings, "differences": None, "best_layers": None}
    answers = tabulate_answers(tables, {"a": ()}, {"hypotheses": "hypotheses"})
    how: dict[str, Any] = {"measure": "partial", "planted_from": "a"}
    tables["recovery"] = None
    said = [text for _, text in collect_key_results(tables, answers, ["a"], {}, **how, removed="mfcc")]
    assert said[0] == "regions where some layer of a is significant beyond mfcc, corrected over all layers and regions"
    assert said[1] == "regions where some hypothesis is significant beyond mfcc, corrected"
    assert said[-1].startswith("highest partial: x of a in R beyond mfcc (noise ceiling")
    plain = [text for _, text in collect_key_results(tables, answers, ["a"], {}, **how)]
    assert not any("beyond" in text for text in plain)
    content = ReportContent(title="t", answers=answers, statistics=statistics, removed="mfcc")
    page = write_report(content, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Scores, noise ceilings and differences are of what is left without mfcc.</p>" in page


STUDY: dict[str, Any] = {
    "schema": 1,
    "study": {"name": "s", "out": "o"},
    "stimuli": {"table": "stimuli.tsv"},
    "network": [{"name": "net", "checkpoint": "net.pt", "controls": ["untrained"]}],
    "baselines": {"models": ["mfcc", "cochleagram"]},
}
SOUNDS = {f"s{k}": f"c{k % 4}" for k in range(24)}


def announce(people: int, regions: int = 4, **rsa: Any) -> list[str]:
    brain = {
        "participants": [f"{k:02}" for k in range(people)],
        "files": "sub-{participant}.nii",
        "mask": "m.nii",
        "space": "native",
    }
    brain["rois"] = {"masks": {"HG": "hg.nii"}}
    settings = StudySettings.model_validate({**STUDY, "brain": [brain], "rsa": rsa})
    return list(announce_reach(settings, SOUNDS, {"net": ["x", "y", "z"]}, regions=regions))


def test_the_check_says_when_so_few_participants_and_so_many_tests_leave_fdr_nothing_to_find() -> None:
    scores, differences = announce(5, control_for=["mfcc"])
    assert scores == (  # 3 layers, 3 of the control, the cochleagram: mfcc is removed
        "tests of regions: scores against 0 over 5 participants, 28 tests together: no p is under 0.0312, so that fdr "
        "finds at least 18 of the 28 tests (64 %) together or none; more participants would change this"
    )
    assert differences.startswith(
        "tests of regions: differences over 5 participants, 84 tests together: no p is under "
    )
    assert "0.0625, so that fdr can find nothing; more participants" in differences
    assert announce(12, control_for=["mfcc"]) == [], "p is small enough"
    assert announce(5) == [differences.replace("84 tests", "112 tests")], "sounds are relabeled for scores"
    (scores, _) = announce(5, control_for=["mfcc"], inference={"correction": "bonferroni"})
    assert "Bonferroni over 28 tests lets no p be under 0.875, so that it can find nothing; fewer layers" in scores
