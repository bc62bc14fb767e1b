"""Names become files: one file a name, never a path, and the name comes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings, strategies as st

from brainmap.names import file_name, names_in, slug

HOSTILE = ["yes/no", "../..", "/etc/passwd", "..", ".", "", "CON", "nul.txt", "a\nb", "a\0b", "C:\\x", "-rf", "%2F",
           "a_b", "zarr.json", "__x", " a ", "été", "日本", "\u0301", "\ud800", "x" * 400, "日" * 300]  # fmt: skip
CHARACTERS = st.text(st.sampled_from("ab_./\\% \n\0é日-\u1100\ud800"), max_size=4) | st.text(max_size=8)


@settings(max_examples=150, deadline=None)
@given(st.lists(CHARACTERS, min_size=1, max_size=3))
def test_a_name_is_one_plain_file_and_comes_back(parts: list[str]) -> None:
    name = file_name(*parts)
    too_long = "%%" in name  # a hash stands for the rest
    assert names_in(name, len(parts)) == (None if too_long else tuple(parts))
    assert not too_long or sum(map(len, parts)) > 15
    assert "/" not in name
    assert "\\" not in name
    assert "\0" not in name
    assert name not in ("", ".", "..")
    assert Path(name).name == name


def test_no_two_names_share_a_file_and_all_can_be_written(tmp_path: Path) -> None:
    pairs = [(a, b) for a in HOSTILE for b in HOSTILE]
    names = {file_name(*pair) for pair in pairs}
    assert len(names) == len(pairs)
    for hostile in HOSTILE:
        (tmp_path / f"{file_name(hostile)}.wav").write_text("")
    assert len(list(tmp_path.iterdir())) == len(HOSTILE)


def test_of_a_long_name_a_hash_stands_for_the_rest() -> None:
    assert names_in(file_name("x" * 400)) is None
    assert file_name("x" * 400) != file_name("x" * 401)
    assert max(len(file_name(*["日\n" * 300] * 3).encode()) for _ in range(2)) < 200


@pytest.mark.parametrize("text", HOSTILE[:-2])
def test_slugs_hold_letters_and_digits_only_and_are_not_empty(text: str) -> None:
    assert slug(text).isascii()
    assert text == "" or slug(text).isalnum()
    assert len(slug("é" * 500)) < 130
    assert slug("日本") != slug("日木")


def test_class_names_do_not_choose_where_sounds_are_written(tmp_path: Path) -> None:
    from brainmap.features.maximization.quality import save_waveforms

    folder = tmp_path / "deep" / "deeper" / "wavs"
    sounds = np.zeros((len(HOSTILE), 1, 64), np.float32)
    sounds[:, 0, 0] = np.linspace(0.1, 0.9, len(HOSTILE))
    written = save_waveforms(sounds, folder, [("output", name) for name in HOSTILE], rate=8000)
    assert {p for p in tmp_path.rglob("*") if p.is_file()} == set(written)
    assert {p.parent for p in written} == {folder}
    for path, sound in zip(written, sounds, strict=True):
        np.testing.assert_allclose(soundfile.read(path)[0], sound[0], atol=1e-4)
