"""Long recordings become windows with onsets: the samples are those of slices of the whole recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.features.sounds import reading
from brainmap.features.sounds.files import load_sounds, sounds_from_array
from brainmap.features.sounds.windows import cut_windows

RATE = 16_000


def noise(seconds: float, rate: int = RATE, seed: int = 0) -> NDArray[np.float64]:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))


def write(path: Path, sound: NDArray[np.floating], rate: int = RATE) -> Path:
    soundfile.write(path, sound, rate, subtype="PCM_24")
    return path


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_BLOCK", 5_000)


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize(("window", "hop"), [(1.0, 0.5), (1.0, None), (0.25, 0.1), (0.5, 1.3), (0.3, 1 / 3)])
def test_windows_are_slices_of_the_whole_recording(tmp_path: Path, rate: int, window: float, hop: float | None) -> None:
    path = write(tmp_path / "story.flac", np.stack([noise(7.3, rate), noise(7.3, rate, 1)], axis=1), rate)
    found = cut_windows(load_sounds(path), window=window, hop=hop)
    whole = reading.read_sound(path, rate=RATE)
    whole *= 0.05 / np.sqrt(np.mean(np.square(whole)))
    n = round(window * RATE)
    starts = [round(k * (hop or window) * RATE) for k in range(200)]
    starts = [start for start in starts if start + n <= len(whole)]
    np.testing.assert_allclose(found.table["onset"], np.array(starts) / RATE, atol=1e-12)
    np.testing.assert_allclose(
        np.concatenate(list(found.batches(3)))[:, 0], [whole[s : s + n] for s in starts], atol=1e-6
    )
    assert len(set(found.items)) == len(starts) == len(found)
    assert set(found.table["sound"]) == {"story"}
    np.testing.assert_allclose(found.table["duration"], window)


def test_the_last_window_is_dropped_or_padded_and_named(tmp_path: Path) -> None:
    sounds = load_sounds(write(tmp_path / "story.wav", noise(2.8)))
    dropped = cut_windows(sounds, window=1.0, hop=0.5)
    assert dropped.items == ["story@0", "story@0.5", "story@1", "story@1.5"]
    assert (
        "the end of 1 of 1 recording lies in no whole window and is left out: 'story (0.3 s)'"
        in dropped.report.lines()[1]
    )
    padded = cut_windows(sounds, window=1.0, hop=0.5, last="pad")
    assert padded.items[4:] == ["story@2", "story@2.5"]
    np.testing.assert_allclose(padded.table["duration"][4:], [0.8, 0.3])
    assert not padded.waveforms[5, 0, round(0.3 * RATE) :].any()
    assert padded.waveforms[5, 0, : round(0.3 * RATE)].all()
    assert "the end of 1 of 1 recording is padded: 'story (0.7 s)' with zeros" in padded.report.lines()[1]
    whole = cut_windows(load_sounds(write(tmp_path / "even.wav", noise(3.0))), window=1.0, hop=0.5)
    assert whole.report.lines() == (
        "sounds: 1 recording of 3 s gives 5 windows of 1 s, one every 0.5 s; the level is set once for each recording",
    )


def test_gaps_between_windows_are_said(tmp_path: Path) -> None:
    found = cut_windows(load_sounds(write(tmp_path / "story.wav", noise(3.0))), window=0.5, hop=1.25)
    assert found.items == ["story@0", "story@1.25", "story@2.5"]
    assert "windows of 0.5 s every 1.25 s leave out the 0.75 s between them" in found.report.lines()[1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"window": 5.0}, r"window: expected at most the length of every sound, got 5 s for 'a \(2 s\)'"),
        ({"window": 1.0, "hop": 0.0}, "hop: expected 1 sample to 600 s, got 0.0"),
        ({"window": 1.0, "hop": -1.0}, "hop: expected"),
        ({"window": 1.0, "hop": float("nan")}, "hop: expected"),
        ({"window": 0.0}, "window: expected"),
        ({"window": float("inf")}, "window: expected"),
        ({"window": 1.0, "last": "keep"}, "last"),
    ],
)
def test_windows_that_make_no_sense_are_refused(tmp_path: Path, given: dict[str, float], said: str) -> None:
    sounds = load_sounds([write(tmp_path / "a.wav", noise(2.0)), write(tmp_path / "b.wav", noise(6.0))])
    with pytest.raises(InputError, match=said) as found:
        cut_windows(sounds, **given)  # type: ignore[arg-type]
    assert "\n" not in str(found.value)


def test_a_short_sound_may_be_padded_to_a_window(tmp_path: Path) -> None:
    sounds = load_sounds([write(tmp_path / "a.wav", noise(0.4)), write(tmp_path / "b.wav", noise(2.0))])
    found = cut_windows(sounds, window=1.0, last="pad")
    assert found.items == ["a@0", "b@0", "b@1"]
    assert found.table["duration"].tolist() == [0.4, 1.0, 1.0]


def test_a_pause_stays_quiet_and_a_silent_window_is_counted(tmp_path: Path) -> None:
    parts = [noise(1.0), 0.01 * noise(1.0, seed=1), np.zeros(RATE), noise(1.0, seed=2)]
    found = cut_windows(load_sounds(write(tmp_path / "story.wav", np.concatenate(parts))), window=1.0)
    level = np.sqrt(np.mean(np.square(found.waveforms[:, 0]), axis=1))
    assert level[1] == pytest.approx(0.01 * level[0], rel=0.05)
    assert np.sqrt(np.mean(np.square(level))) == pytest.approx(0.05, rel=1e-3)  # that of the whole recording
    assert found.report.silent == ("story@2",)
    assert "1 of 4 windows are silent: 'story@2'" in "\n".join(found.report.lines())


def test_faults_of_recordings_are_those_of_whole_sounds(tmp_path: Path) -> None:
    sound = noise(4.0)
    made = {
        "fine": sound,
        "antiphase": np.stack([sound, -sound], 1),
        "offset": sound + 0.3,
        "clipped": np.clip(20 * sound, -1, 1),
    }
    sounds = load_sounds([write(tmp_path / f"{name}.wav", one) for name, one in made.items()], seconds=4.0)
    of_windows, of_sounds = cut_windows(sounds, window=1.0).report.recordings, sounds.report
    assert (of_windows.antiphase, of_windows.offset, of_windows.clipped) == (("antiphase",), ("offset",), ("clipped",))
    assert of_windows.lines() == of_sounds.lines()


def test_selected_windows_come_in_the_order_asked_for(tmp_path: Path) -> None:
    sounds = load_sounds([write(tmp_path / f"{name}.wav", noise(5.0, seed=k)) for k, name in enumerate("ab")])
    found = cut_windows(sounds, window=1.0)
    rows = [7, 3, 0, 4, 5, 5]
    np.testing.assert_array_equal(found.take(rows).waveforms, found.waveforms[rows])
    assert found.take(np.arange(10) % 2 == 1).items == found.items[1::2]


def test_arrays_have_windows_too() -> None:
    waves = np.random.default_rng(0).standard_normal((2, 1, 100))
    found = cut_windows(sounds_from_array(waves, rate=10, items=["a", "b"]), window=3.0, hop=1.5)
    np.testing.assert_allclose(found.waveforms[5], waves[1, :, :30], atol=1e-7)
    assert found.items[5] == "b@0"


def test_the_digest_follows_samples_and_cuts(tmp_path: Path) -> None:
    path, same = write(tmp_path / "a.wav", noise(3.0)), tmp_path / "b"
    same.mkdir()
    write(same / "a.wav", noise(3.0))
    other = noise(3.0)
    other[-1] += 0.01  # behind the last window
    digests = [
        cut_windows(load_sounds(path), window=1.0).digest,
        cut_windows(load_sounds(same / "a.wav"), window=1.0).digest,
        cut_windows(load_sounds(path), window=1.0, hop=0.5).digest,
        cut_windows(load_sounds(path, level="peak"), window=1.0).digest,
        cut_windows(load_sounds(write(tmp_path / "a.wav", other)), window=1.0).digest,
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4


def test_a_recording_that_ends_early_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "story.flac"
    write(path, noise(30.0))
    path.write_bytes(path.read_bytes()[:-50_000])
    with pytest.raises(InputError, match=r"story\.flac"):
        cut_windows(load_sounds(path), window=1.0)
