"""Sounds that are cut, padded, skipped, silent or otherwise hardly sounds are counted and named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.features.sounds.files import load_sounds, sounds_from_array
from brainmap.features.sounds.reading import read_sound

RATE = 16_000
NOISE = np.random.default_rng(0).standard_normal(RATE) * 0.1


def write(folder: Path, name: str, sound: NDArray[np.floating], rate: int = RATE, **how: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, rate, **how)
    return path


def test_each_kind_of_fault_is_counted_under_its_name_and_no_other(tmp_path: Path) -> None:
    made = {
        "fine": NOISE,
        "stereo": np.stack([NOISE, 0.8 * NOISE], 1),
        "antiphase": np.stack([NOISE, -NOISE], 1),
        "offset": NOISE + 0.3,
        "silent": np.zeros(RATE),
        "clipped": np.clip(NOISE * 20, -1, 1),
        "peak": NOISE / np.abs(NOISE).max(),  # one sample at full scale is no clipping
        "late": np.concatenate([np.zeros(RATE), NOISE]),  # its first second is silent
        "long": np.tile(NOISE, 600),
        "slightly": np.tile(NOISE, 2)[: round(1.06 * RATE)],
        "short": NOISE[:4_000],
    }
    found = load_sounds([write(tmp_path, f"{name}.wav", sound) for name, sound in made.items()]).report
    assert found.n == len(made)
    assert found.antiphase == ("antiphase",)
    assert found.offset == ("offset",)
    assert found.silent == ("silent", "late")
    assert found.clipped == ("clipped",)
    assert found.cut == (("late", 2.0), ("long", 600.0), ("slightly", 1.06))
    assert found.padded == (("short", 0.25),)
    lines = found.lines()
    assert lines[0] == (
        "sounds: 3 of 11 are longer than 1 s and cut to it (the longest lasts 600 s): 'late', 'long', 'slightly'"
    )
    assert found.padding == pytest.approx(0.75 / 11)
    assert lines[1].startswith(
        "sounds: 1 of 11 is shorter than 1 s and padded with zeros, 7% of all that is heard (the shortest lasts 0.25 s)"
    )
    assert len(lines) == 6
    assert all("\n" not in line for line in lines)


def test_sounds_without_fault_say_nothing_at_any_rate(tmp_path: Path) -> None:
    paths = [
        write(tmp_path, f"{rate}.wav", NOISE[:rate] if rate <= RATE else np.resize(NOISE, rate), rate)
        for rate in (8_000, 11_025, 16_000, 44_100)
    ]
    assert load_sounds(paths).report.lines() == ()
    assert sounds_from_array(NOISE[None, None], rate=RATE).report.lines() == ()


def test_the_level_is_that_of_what_is_heard(tmp_path: Path) -> None:
    loud_later = np.concatenate([0.01 * NOISE, NOISE])
    one = write(tmp_path, "a.wav", loud_later, subtype="FLOAT")
    for level, size in (("rms", lambda x: np.sqrt(np.mean(x**2))), ("peak", lambda x: np.abs(x).max())):
        heard = load_sounds([one], level=level).waveforms[0, 0]  # type: ignore[arg-type]
        assert size(heard) == pytest.approx({"rms": 0.05, "peak": 0.5}[level], rel=1e-5)
    middle = load_sounds([one], level="rms", align="center").waveforms[0, 0]
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.05, rel=1e-5)


def test_audio_that_is_not_read_and_other_files_are_named(tmp_path: Path) -> None:
    for name in ("yes/a.wav", "no/b.wav"):
        write(tmp_path, name, NOISE)
    write(tmp_path, "no/without_ending", NOISE, format="WAV")
    for name in ("yes/c.wma", "no/d.M4A", "no/notes.txt", "_background_noise_/e.mp3", "no/.hidden.mp3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = load_sounds(tmp_path)
    assert found.items == ["no/b", "no/without_ending", "yes/a"]
    assert (found.report.skipped, found.report.others) == (("no/d.M4A", "yes/c.wma"), ("no/notes.txt",))
    assert found.report.lines() == (
        "sounds: 2 audio files are skipped, because libsndfile does not read this kind; convert to WAV or FLAC: "
        "'no/d.M4A', 'yes/c.wma'",
        "sounds: 1 file is no audio and left out: 'no/notes.txt'",
    )
    (tmp_path / "yes" / "fake.mp3").write_text("not a sound")
    with pytest.raises(InputError, match=r"fake\.mp3 .*cannot be read as a sound .*it holds text"):
        load_sounds(tmp_path)


def test_gsm_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, "g.wav", NOISE[:8_000], 8_000, subtype="GSM610")
    heard = read_sound(path, rate=8_000)
    # GSM predicts from what came before: its waveform follows the sound, and no more
    assert np.corrcoef(heard[:8_000], NOISE[: len(heard)][:8_000])[0, 1] > 0.3
