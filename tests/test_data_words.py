"""The shipped words and networks: what they should be, their checksums, and how the words are planned and made."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from brainmap import data
from brainmap.data import make_words
from brainmap.data.make_words import ACCENTS, DEMO_TIMBRES, NATURAL, TIMBRES, WORDS, Take, corpus_takes, demo_takes

WORDS_FOLDER = data.folder() / "words"


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.read_csv(WORDS_FOLDER / "stimuli.tsv", sep="\t")


def test_every_word_is_spoken_by_every_voice_and_has_its_row(table: pd.DataFrame) -> None:
    assert len(table) == 192
    assert table["stimulus_id"].is_unique
    assert sorted(table["condition"].unique()) == sorted(WORDS)
    assert table["voice"].nunique() >= 12
    assert table.groupby(["condition", "voice"]).size().eq(1).all()
    assert sorted(table["path"]) == sorted(p.name for p in WORDS_FOLDER.glob("*.flac"))
    assert (table["stimulus_id"] + ".flac" == table["path"]).all()


def test_clips_are_short_16_khz_mono_flac_with_one_word_in_it(table: pd.DataFrame) -> None:
    assert sum(p.stat().st_size for p in WORDS_FOLDER.iterdir()) <= 4_000_000
    for name in table["path"]:
        sound, rate = soundfile.read(WORDS_FOLDER / name)
        assert (rate, sound.ndim, soundfile.info(WORDS_FOLDER / name).format) == (16_000, 1, "FLAC")
        assert np.abs(sound).max() == pytest.approx(0.5, abs=1e-3), name
        assert not sound[:800].any(), name
        assert np.sqrt(np.mean(sound[800:1_600] ** 2)) > 1e-4, f"{name} begins late"
        assert 0.15 < len(sound) / rate < 1.0, name


def test_voices_differ(table: pd.DataFrame) -> None:
    """No two clips of a word are the same sound, so that twelve voices are twelve."""
    found = data.checksums()
    assert len({found[f"words/{name}"] for name in table["path"]}) == 192


def test_shipped_files_are_those_of_the_checksums() -> None:
    assert data.checksums() == data.recorded_checksums(), "made again? then: python -m brainmap.data"


def test_the_readme_names_every_shipped_network() -> None:
    text = (data.folder() / "README.md").read_text(encoding="utf-8")
    for network in (data.folder() / "networks").glob("*.safetensors"):
        assert network.name in text


def test_the_plan_depends_on_the_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (corpus_takes(Path("c"), np.random.default_rng(0)) for _ in range(2))
    assert one == two
    assert one != corpus_takes(Path("c"), np.random.default_rng(1))
    monkeypatch.setattr(make_words.shutil, "which", lambda program: None if program == "flite" else program)
    left = make_words.installed(corpus_takes(Path("c"), np.random.default_rng(0)))
    assert left == [t for t in one if t.program != "flite"]


def test_no_timbre_is_in_two_parts_and_every_part_has_every_word() -> None:
    takes = corpus_takes(Path("c"), np.random.default_rng(0)) + demo_takes(Path("d"))
    parts = {
        part: {t.timbre for t in takes if t.part == part} for part in ("training", "validation", "testing", "demo")
    }
    assert sum(len(p) for p in parts.values()) == len(set.union(*parts.values()))
    assert len(parts["demo"]) == 12
    assert set.union(*parts.values()) == {*TIMBRES, *(d[1] for d in DEMO_TIMBRES), *(n[1] for n in NATURAL)}
    for part in parts:
        assert {t.word for t in takes if t.part == part} == set(WORDS)
    assert len({t.path for t in takes}) == len(takes)
    assert {t.accent for t in takes if t.program == "espeak-ng"} <= set(ACCENTS)
    share = len(parts["training"]) / (len(TIMBRES) + len(NATURAL))
    assert 0.75 < share < 0.9


@pytest.mark.slow
def test_foreign_accents_say_every_word_with_phonemes_that_are_spoken(tmp_path: Path) -> None:
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    assert not make_words.has_phonemes("de", "w'Vn")  # German has no such vowel: only the w would be heard
    assert make_words.has_phonemes("de", "w'an")
    assert make_words.has_phonemes("de", "b'Ed")  # it ends as "bet", as Germans say it
    part_of = {"f1": "training", "m1": "testing"}
    takes = make_words.foreign_takes(tmp_path, part_of, np.random.default_rng(0), len(make_words.LANGUAGES))
    assert takes == make_words.foreign_takes(tmp_path, part_of, np.random.default_rng(0), len(make_words.LANGUAGES))
    assert len({t.path for t in takes}) == len(takes) == 2 * 10 * 16
    assert all(part_of[t.timbre] == t.part and t.said in make_words.SPELLINGS[t.word] for t in takes)
    french = next(t for t in takes if t.accent == "fr" and t.word == "three")
    make_words.speak([french])
    sound, _ = soundfile.read(french.path)
    assert len(sound) > 800 + 2_000


def test_lists_and_table_hold_what_was_made(tmp_path: Path) -> None:
    takes = corpus_takes(tmp_path, np.random.default_rng(0))
    make_words.write_tables(takes, tmp_path, "corpus")
    listed = [set((tmp_path / f"{part}_list.txt").read_text().split()) for part in ("validation", "testing")]
    assert not listed[0] & listed[1]
    assert {t.path.relative_to(tmp_path).as_posix() for t in takes if t.part != "training"} == listed[0] | listed[1]
    make_words.write_tables(demo_takes(tmp_path), tmp_path, "words")
    assert (tmp_path / "stimuli.tsv").read_text() == (WORDS_FOLDER / "stimuli.tsv").read_text()


def test_finishing_trims_silence_and_sets_rate_lead_and_peak(tmp_path: Path) -> None:
    rate = 22_050
    tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(rate // 2) / rate)
    quiet = np.zeros(rate // 4)
    soundfile.write(tmp_path / "in.wav", np.stack([np.concatenate([quiet, tone, quiet])] * 2, axis=1), rate)
    make_words.finish(tmp_path / "in.wav", tmp_path / "deep" / "out.flac")
    sound, found_rate = soundfile.read(tmp_path / "deep" / "out.flac")
    assert found_rate == 16_000
    assert sound.ndim == 1
    assert not sound[:800].any()
    assert len(sound) == pytest.approx(800 + 8_000, abs=400)
    assert np.abs(sound).max() == pytest.approx(0.5, abs=1e-3)
    soundfile.write(tmp_path / "silent.wav", quiet, rate)
    with pytest.raises(RuntimeError, match="no sound"):
        make_words.finish(tmp_path / "silent.wav", tmp_path / "none.flac")


def test_the_synthesizer_speaks_the_shipped_words_again(tmp_path: Path) -> None:
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    takes: list[Take] = [t for t in demo_takes(tmp_path) if t.voice == "v01"][:3]
    make_words.speak(takes)
    for take in takes:
        made, shipped = (soundfile.read(folder / take.path.name)[0] for folder in (tmp_path, WORDS_FOLDER))
        assert len(made) == pytest.approx(len(shipped), rel=0.1)  # versions of the synthesizer differ a little
        assert np.abs(made).max() == pytest.approx(0.5, abs=1e-3)
