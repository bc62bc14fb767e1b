"""The space that a study names, against what headers of images say; what is drawn on the template, and what is not."""

from __future__ import annotations

from typing import Any

import pytest

from brainmap import rsa
from brainmap.study.run import Context, check_study
from brainmap.study.settings.study import load_study
from brainmap.study.stages.content.cautions import _describe_spaces
from brainmap.study.stages.content.maps import read_regions

SPACE = 'space = "MNI152Lin"'


def rename(study: Any, space: str) -> None:
    """Name another space for all participants."""
    text = study.file.read_text()
    assert text.count(SPACE) == 2
    study.file.write_text(text.replace(SPACE, f'space = "{space}"'))


def say(study: Any, space: str, who: tuple[str, ...] = ("01", "02")) -> None:
    """Have the headers of images of participants in AFNI's format name a space."""
    for head in (path for label in who for path in (study.folder / f"sub-{label}").glob("*.HEAD")):
        rsa.save_image(rsa.load_image(head), head, space=space, overwrite=True)


def find(study: Any) -> Any:
    return check_study(Context(load_study(study.file)))


def test_a_space_that_headers_contradict_is_a_finding_that_names_both(tiny_study: Any) -> None:
    say(tiny_study, "TLRC", ("02",))
    (line,) = find(tiny_study).problems
    assert "space = 'MNI152Lin', but images of participant '02' say 'TLRC' (TEMPLATE_SPACE of betas_run-" in line
    assert line.endswith("write space = 'TLRC', or mend the headers where they are wrong (3drefit -space MNI)")


def test_the_spaces_of_one_family_agree(tiny_study: Any) -> None:
    say(tiny_study, "MNI")
    found = find(tiny_study)
    assert found.problems == ()
    assert not [note for note in found.notes if "space" in note]


def test_a_native_space_of_images_on_a_template_is_noted(tiny_study: Any) -> None:
    say(tiny_study, "MNI")
    rename(tiny_study, "native")
    found = find(tiny_study)
    assert found.problems == ()
    (note,) = [note for note in found.notes if "space = 'native'" in note]
    assert "say 'MNI'" in note
    assert "group maps and a picture of regions need a common space" in note
    assert note.endswith("write space = 'MNI'")


@pytest.mark.parametrize(
    ("space", "near"),
    [("MNI152Nlin2009cASym", "MNI152NLin2009cAsym"), ("tlrc", "TLRC"), ("Native", "native"), ("TTN27", "TT_N27")],
)
def test_misspelt_names_get_the_nearest_one(tiny_study: Any, space: str, near: str) -> None:
    rename(tiny_study, space)
    assert [note for note in find(tiny_study).notes if f"did you mean '{near}'?" in note]


def test_a_name_of_its_own_is_taken_and_what_is_not_drawn_is_said(tiny_study: Any) -> None:
    rename(tiny_study, "ours")
    found = find(tiny_study)
    assert found.problems == ()
    assert [note for note in found.notes if "neither regions nor maps are drawn on the template" in note]
    context = Context(load_study(tiny_study.file))
    assert read_regions(context) == {}
    assert [line for line in _describe_spaces(context) if "'ours'" in line]


def test_talairach_regions_are_drawn_on_the_other_template_with_a_word(tiny_study: Any) -> None:
    rename(tiny_study, "TLRC")
    context = Context(load_study(tiny_study.file))
    note = read_regions(context)["regions_note"]
    (caution,) = _describe_spaces(context)
    for text in (note, caution):
        assert "in the space 'TLRC' (Talairach), and are drawn on the MNI152 template" in text


def test_regions_in_mni_space_are_drawn_without_a_word(tiny_study: Any) -> None:
    context = Context(load_study(tiny_study.file))
    assert "Talairach" not in read_regions(context)["regions_note"]
    assert list(_describe_spaces(context)) == []
