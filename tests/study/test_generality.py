"""`brainmap check` says beforehand which test scores and differences of regions will get."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from brainmap.study.run import Context, check_study
from brainmap.study.settings.study import load_study
from brainmap.study.stages.categories import note_categories as describe
from brainmap.study.stages.generality import announce_tests as announce

LAYERS = {"net": ("conv1", "conv2")}


def stimuli(n_conditions: int, n_tokens: int) -> dict[str, str]:
    return {f"w{k}_{token}": f"w{k}" for k in range(n_conditions) for token in range(n_tokens)}


def said(study: Any, inference: str, sounds: dict[str, str], *changes: tuple[str, str]) -> str:
    study.edit(("inference = { splits = 4 }", f"inference = {{ {inference} }}"), *changes)
    settings = load_study(study.file).settings
    return announce(settings, sounds, {network.name: LAYERS["net"] for network in settings.network})


def test_check_says_the_tests_that_the_run_gives(tiny_results: Any, tiny_study: Any) -> None:
    notes = [n for n in check_study(Context(load_study(tiny_study.file))).notes if n.startswith("tests of regions")]
    line, reach = notes
    assert reach.startswith("tests of regions: differences over 3 participants, ")
    assert line == (
        "tests of regions: scores against 0: sounds relabeled (4 whole conditions exchanged, their 2 tokens alike in "
        "all); differences: test over participants, these sounds only (4 conditions of several sounds are fewer than "
        "the 16 that a bootstrap wants)"
    )
    for name, first in (("statistics", "sounds relabeled"), ("differences", "these sounds only")):
        table = (tiny_results.out / "group" / f"{name}.tsv").read_text().splitlines()
        column = table[0].split("\t").index("test")
        assert {row.split("\t")[column] for row in table[1:]} == {first}


def test_check_and_page_say_that_conditions_look_like_categories(tiny_study: Any) -> None:
    table = pd.read_csv(tiny_study.folder / "stimuli.tsv", sep="\t")

    def note() -> list[str]:
        table.to_csv(tiny_study.folder / "stimuli.tsv", sep="\t", index=False)
        context = Context(load_study(tiny_study.file))
        told = [n for n in check_study(context).notes if "look like categories" in n]
        assert list(describe(context)) == told, "the page says the same"
        return told

    assert note() == [], "cat_anna and dog_anna correspond"
    table["condition"] = ["a", "b", "a", "b", "a", "b", "a", "b"]  # cat_anna, dog_anna, ... in a; nothing repeats
    assert len(note()) == 1
    assert note()[0].startswith("The 2 conditions look like categories, ")
    assert "give each sound a condition of its own" in note()[0]
    table["voice"] = ["x", "x", "y", "y", "z", "z", "u", "u"]
    assert note() == []


@pytest.mark.parametrize(
    ("inference", "sounds", "wanted"),
    [
        (
            "splits = 4",
            stimuli(16, 1),
            "sounds relabeled (16 stimuli exchanged); differences: bootstrap over participants and sounds",
        ),
        ("splits = 4", stimuli(3, 1), "test over participants, these sounds only (3 stimuli exchanged: 6 relabelings"),
        ('differences = "bootstrap"', stimuli(8, 1), "differences: bootstrap"),
        (
            'zero = "bootstrap"',
            stimuli(8, 1),
            "scores against 0: bootstrap over participants and sounds; differences: bootstrap over",
        ),
        ("bootstrap = 0", stimuli(16, 1), "differences: test over participants, these sounds only"),
        ('zero = "participants"', stimuli(16, 1), "scores against 0: test over participants, these sounds only;"),
    ],
)
def test_what_the_study_file_asks_for_is_said(
    tiny_study: Any, inference: str, sounds: dict[str, str], wanted: str
) -> None:
    assert wanted in said(tiny_study, inference, sounds)


def test_a_measure_that_relabelings_replace_is_named(tiny_study: Any) -> None:
    line = said(tiny_study, "splits = 4", stimuli(8, 1), ('measure = "rho-a"', 'measure = "tau-a"'))
    assert "sounds relabeled (8 stimuli exchanged; relabelings are compared by rho-a in place of tau-a" in line


def test_one_participant_has_no_test_over_participants(tiny_study: Any) -> None:
    one = ('participants = ["01", "02"', 'participants = ["01"')
    text = tiny_study.file.read_text()
    head, _, rest = text.partition("[[brain]]")
    first, _, after = rest.partition("[rsa]")
    alone = first.partition("[[brain]]")[0].replace(*one)
    tiny_study.file.write_text(f"{head}[[brain]]{alone}\n[rsa]{after}")
    assert len([p for b in load_study(tiny_study.file).settings.brain for p in b.participants]) == 1
    line = said(tiny_study, 'zero = "participants"', stimuli(16, 1))
    assert line == "tests of regions: scores of one participant are not tested"
