"""A study file of the last version: its keys are taken with a note, to the same results."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from brainmap import __version__
from brainmap.errors import BrainmapWarning, InputError
from brainmap.study.settings.brain import Brain, Glm, Inference
from brainmap.study.settings.renamed import REFUSED_FROM, RENAMED, replace_old_keys, restore_first_keys
from brainmap.study.settings.study import Searchlight, load_study
from brainmap.viz import methods_paragraph

NEW = (
    ('space = "MNI152Lin"\n', 'space = "MNI152Lin"\ncovariance = "diag"\n'),
    ("splits = 4", 'splits = 4, test = "t"'),
    ("radius_mm = 6.0", 'radius_mm = 6.0\ndissimilarity = "crossnobis"\nnoise_per = "sphere"'),
    ("[explain]\nmaximization = { steps = 2, classes = 2, channels = 1, best_layers = 1, judges = 'none' }\n", ""),
)
OLD = (
    ('covariance = "diag"', 'precision = "diag"'),
    ('test = "t"', 'participants = "t"'),
    ('noise_per = "sphere"', 'precision = "sphere"'),
)
NOTES = [
    "[brain] precision is now called covariance; brainmap 0.2 will refuse the old key",
    "[rsa.inference] participants is now called test; brainmap 0.2 will refuse the old key",
    "[searchlight] precision is now called noise_per; brainmap 0.2 will refuse the old key",
]


def test_old_keys_are_taken_for_one_version_only() -> None:
    def numbers(version: str) -> tuple[int, ...]:
        return tuple(map(int, version.split(".")[:2]))

    assert numbers(__version__) < numbers(REFUSED_FROM), "delete brainmap/study/settings/renamed.py and its callers"


def test_every_new_key_is_a_setting_and_no_old_one_is() -> None:
    sections = {"brain": Brain, "brain.glm": Glm, "rsa.inference": Inference, "searchlight": Searchlight}
    assert sections.keys() == RENAMED.keys()
    for place, names in RENAMED.items():
        assert not names.keys() & sections[place].model_fields.keys()
        assert set(names.values()) <= sections[place].model_fields.keys()


@pytest.mark.slow
def test_a_file_of_the_last_version_runs_to_the_same_results(tiny_study: Any, tmp_path: Path) -> None:
    tiny_study.edit(*NEW)
    shutil.copytree(tiny_study.folder, tmp_path / "old" / "study")
    other = replace(tiny_study, folder=tmp_path / "old" / "study").edit(*OLD)
    with pytest.warns(BrainmapWarning, match="is now called"):
        load_study(other.file)
    assert other.run() == tiny_study.run()
    assert other.files() == tiny_study.files()
    other.file.write_text(tiny_study.file.read_text())
    assert other.run() == set()  # a new name makes no result out of date


def test_check_notes_each_old_key_once(
    tiny_study: Any, lines_of: Callable[..., tuple[int, list[str], list[str]]]
) -> None:
    tiny_study.edit(*NEW).edit(*OLD)
    code, out, said = lines_of("check", tiny_study.file)
    assert (code, out[-1].split(".")[0]) == (0, "Nothing is wrong")
    assert [line for line in said if "is now called" in line] == [f"note: {tiny_study.file}: {note}" for note in NOTES]


def test_a_file_with_new_keys_has_no_note(tiny_study: Any) -> None:
    tiny_study.edit(*NEW)
    with warnings.catch_warnings():
        warnings.simplefilter("error", BrainmapWarning)
        load_study(tiny_study.file)


def test_a_file_with_the_old_and_the_new_key_is_refused_in_one_line(
    tiny_study: Any, lines_of: Callable[..., tuple[int, list[str], list[str]]]
) -> None:
    tiny_study.edit(("radius_mm = 6.0", 'radius_mm = 6.0\nprecision = "voxel"\nnoise_per = "sphere"'))
    code, out, said = lines_of("check", tiny_study.file)
    assert (code, out) == (2, [])
    assert said == [
        f"brainmap: {tiny_study.file}: [searchlight] expected one of noise_per and precision, got both, which are the "
        "new and the old name of one key; delete precision"
    ]


def test_tables_in_any_place_are_renamed_and_names_of_users_are_not() -> None:
    events = {"noise": "noise.1D", "precision": "p.1D"}
    brains = [{"glm": {"noise": "ols"}, "events": events}, {"precision": "full"}]
    found, notes = replace_old_keys({"brain": brains, "rsa": {"inference": "wrong"}})
    assert found["brain"][0] == {"glm": {"noise_model": "ols"}, "events": events}
    assert found["brain"][1] == {"covariance": "full"}
    assert [note.split(" ")[1] for note in notes] == ["noise", "precision"]


def test_keys_of_the_ledger_are_made_from_the_names_of_the_last_version(tiny_study: Any) -> None:
    settings = load_study(tiny_study.file).settings
    said = restore_first_keys(settings.model_dump(by_alias=True))
    assert (said["brain"][0]["precision"], said["brain"][0]["glm"]["noise"]) == ("shrinkage", "auto")
    assert (said["searchlight"]["precision"], said["rsa"]["inference"]["participants"]) == ("voxel", "signed-rank")
    assert restore_first_keys(settings.rsa.model_dump(), "rsa") == said["rsa"]
    assert restore_first_keys(settings.brain[0].glm.model_dump(), "brain.glm") == said["brain"][0]["glm"]
    assert replace_old_keys(said)[0] == settings.model_dump(by_alias=True)


def test_methods_read_settings_under_their_old_keys() -> None:
    new: dict[str, Any] = {
        "brain": {"kind": "bold", "noise": "runs", "covariance": "diag", "glm": Glm(noise_model="ols").model_dump()},
        "rsa": {"dissimilarity": "crossnobis", "measure": "rho-a", "inference": {"test": "t"}},
        "searchlight": {"dissimilarity": "crossnobis", "noise_per": "sphere", "shrinkage": "eye"},
    }
    old = restore_first_keys(new)
    assert old != new
    assert methods_paragraph(old) == methods_paragraph(new)
    for words in ("only variances", "ordinary least squares", "the patterns of each sphere whitened"):
        assert words in methods_paragraph(new)


def test_a_key_that_is_wrong_is_named_as_it_stands_in_the_file(tiny_study: Any) -> None:
    tiny_study.edit(("radius_mm = 6.0", 'radius_mm = 6.0\nnoise_pre = "sphere"'))
    with pytest.raises(InputError, match="did you mean 'noise_per'"):
        load_study(tiny_study.file)
