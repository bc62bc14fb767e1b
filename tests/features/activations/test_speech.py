"""Features of continuous speech: energy, word rate and onsets, and the files that say when words are spoken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from brainmap import features
from brainmap.errors import InputError

RATE = 8_000
LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 4
tiers? <exists>
size = 3
item []:
    item [1]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 4
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 4
            text = "AH0"
    item [2]:
        class = "TextTier"
        name = "clicks"
        xmin = 0
        xmax = 4
        points: size = 2
        points [1]:
            number = 1.5
            mark = "click 2"
        points [2]:
            number = 2.5
            mark = ""
    item [3]:
        class = "IntervalTier"
        name = "Words"
        xmin = 0
        xmax = 4
        intervals: size = 5
        intervals [1]:
            xmin = 0
            xmax = 0.25
            text = "sp"
        intervals [2]:
            xmin = 0.25
            xmax = 0.5
            text = "once"
        intervals [3]:
            xmin = 0.5
            xmax = 0.9
            text = "say ""2"" [1]"
        intervals [4]:
            xmin = 0.9
            xmax = 3.1
            text = "{SL}"
        intervals [5]:
            xmin = 3.1
            xmax = 4
            text = "upon"
"""


def shorten(text: str) -> str:
    """Write the short form of a TextGrid: values alone."""
    kept = [line.split("=", 1)[1].strip() for line in text.splitlines() if "=" in line]
    return "\n".join([LONG.splitlines()[0], LONG.splitlines()[1], "", *kept[2:4], "<exists>", *kept[4:]])


@pytest.mark.parametrize(
    ("text", "coding"), [(LONG, "utf-8"), (shorten(LONG), "utf-8"), (LONG, "utf-16")], ids=["long", "short", "utf-16"]
)
def test_a_text_grid_gives_its_words_in_both_forms(tmp_path: Path, text: str, coding: str) -> None:
    (tmp_path / "a.TextGrid").write_text(text, encoding=coding)
    found = features.read_word_times(tmp_path / "a.TextGrid")
    assert found["word"].tolist() == ["once", 'say "2" [1]', "upon"]
    assert found["start_s"].tolist() == [0.25, 0.5, 3.1]
    assert found["end_s"].tolist() == [0.5, 0.9, 4.0]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "a.TextGrid",
            LONG.replace("Words", "parts"),
            "expected an interval tier called 'words', got 'phones', 'parts'",
        ),
        (
            "a.TextGrid",
            LONG[: LONG.index("upon")],
            "expected a TextGrid of Praat, got something else, or its end is lost",
        ),
        ("a.TextGrid", "once upon a time", "expected a TextGrid of Praat"),
        (
            "a.tsv",
            "start\tend\n0\t1\n",
            "expected the columns start_s and end_s, or onset and duration, got 'start', 'end'",
        ),
        ("a.tsv", "onset\tduration\n0\t1\nx\t1\n", "expected numbers of seconds in row 2, got 'x' and '1'"),
        ("a.tsv", "start_s\tend_s\n2\t1\n", "each start before its end, got 2 to 1 s for 'word'"),
        ("a.tsv", "start_s\tend_s\tword\n1\t2\tsp\n", "expected words with their times, got none"),
    ],
)
def test_files_without_words_are_refused_with_what_they_have(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as caught:
        features.read_word_times(tmp_path / name)
    assert message in str(caught.value)


@pytest.fixture
def stories(tmp_path: Path) -> Any:
    """Two sounds of 4 s: one of steps of level, one of noise; both with the words of the TextGrid."""
    rng = np.random.default_rng(0)
    loud = np.repeat([1.0, 0.1, 0.0, 0.5], RATE)
    soundfile.write(tmp_path / "steps.wav", 0.2 * loud * np.sin(np.arange(4 * RATE)), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "noise.wav", 0.1 * rng.normal(size=4 * RATE), RATE, subtype="FLOAT")
    table = pd.DataFrame(
        {"stimulus_id": ["steps", "noise"], "condition": ["a", "b"], "path": ["steps.wav", "noise.wav"]}
    )
    table.to_csv(tmp_path / "stories.tsv", sep="\t", index=False)
    (tmp_path / "steps.TextGrid").write_text(LONG)
    (tmp_path / "noise.TextGrid").write_text(LONG)
    return tmp_path


def test_energy_rate_and_onsets_are_those_of_the_steps(stories: Path) -> None:
    sounds = features.load_sounds(stories / "stories.tsv", rate=RATE, level="none")
    times = {name: stories / f"{name}.TextGrid" for name in ("steps", "noise")}
    found = features.speech_features(sounds, words=times, step=0.5)
    assert found.layers == ("sound-energy", "word-rate", "speech-onset")
    rows = (found.table["sound"] == "steps").to_numpy()
    energy = found["sound-energy"][:][rows, 0]
    np.testing.assert_allclose(energy - energy.max(), [0, 0, -20, -20, -60, -60, -6.02, -6.02], atol=0.1)
    # "once" begins in the first step, the second word in the next, "upon" at 3.1 s after a pause of 2.2 s
    np.testing.assert_array_equal(found["word-rate"][:][rows, 0], [2, 2, 0, 0, 0, 0, 2, 0])
    np.testing.assert_array_equal(found["speech-onset"][:][rows, 0], [1, 0, 0, 0, 0, 0, 1, 0])
    assert features.speech_features(sounds, step=0.5).layers == ("sound-energy",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"words": None, "features": ["word-rate"]}, "expected word times for 'word-rate', got none"),
        ({"features": ["words"]}, "speech feature: expected one of"),
        ({"words": {"steps": pd.DataFrame({"word": ["a"], "start_s": [1.0], "end_s": [2.0]})}}, "got none of 'noise'"),
        (
            {
                "words": dict.fromkeys(
                    ["steps", "noise"], pd.DataFrame({"word": ["a"], "start_s": [9.0], "end_s": [9.5]})
                )
            },
            "word times: expected words within the 4.5 s of the sound, got 'a' at 9 s",
        ),
    ],
)
def test_words_that_do_not_fit_the_sounds_are_refused(stories: Path, change: dict[str, Any], message: str) -> None:
    sounds = features.load_sounds(stories / "stories.tsv", rate=RATE, level="none")
    given = {"words": {name: stories / f"{name}.TextGrid" for name in ("steps", "noise")}, "step": 0.5} | change
    with pytest.raises(InputError) as caught:
        features.speech_features(sounds, **given)
    assert message in str(caught.value)


def test_the_command_leaves_a_store_of_windows(stories: Path, brainmap_command: Any) -> None:
    given = (
        "features",
        "speech",
        "--sounds",
        stories / "stories.tsv",
        "--out",
        stories / "speech.zarr",
        "--step",
        "0.5",
    )
    answer = brainmap_command(*given, "--words", f"{stories}/{{sound}}.TextGrid")
    assert answer.code == 0, answer.err
    assert "sound-energy, word-rate, speech-onset of 16 steps of 0.5 s in 2 sounds" in answer.out
    answer = brainmap_command(*given, "--overwrite")  # without words the features of words are gone
    assert answer.code == 0, answer.err
    with features.open_activations(stories / "speech.zarr") as found:
        assert found.layers == ("sound-energy",)
        assert found.network == "speech"
        assert found.table["onset"].tolist()[:3] == [0.0, 0.5, 1.0]
    answer = brainmap_command(*given, "--overwrite", "--words", "x.TextGrid")
    assert answer.code == 2
    assert "expected a name with {sound}" in answer.err
