"""Sounds: any file in, the network's rate, length and level out; each bad input one line."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.features.sounds.files import (
    Sounds,
    fit_length,
    load_sounds,
    read_lists,
    set_level,
    sounds_from_array,
)
from brainmap.features.sounds.reading import read_sound

DATA = Path(os.environ.get("BRAINMAP_TEST_DATA", Path(__file__).resolve().parents[3] / "../shared/data"))
FORMATS = [
    ("wav", "PCM_U8", 2e-2),
    ("wav", "PCM_16", 1e-3),
    ("wav", "PCM_24", 1e-3),
    ("wav", "PCM_32", 1e-3),
    ("wav", "FLOAT", 1e-3),
    ("wav", "DOUBLE", 1e-3),
    ("flac", "PCM_16", 1e-3),
    ("flac", "PCM_24", 1e-3),
    ("ogg", "VORBIS", 5e-2),
]


def tone(rate: int, seconds: float = 0.5, hertz: float = 440.0, level: float = 0.4) -> NDArray[np.float64]:
    return level * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def write(path: Path, sound: NDArray[np.floating], rate: int = 16_000, subtype: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, rate, subtype=subtype)
    return path


def table(folder: Path, **columns: list[str]) -> Path:
    path = folder / "stimuli.tsv"
    pd.DataFrame(columns).to_csv(path, sep="\t", index=False)
    return path


def one_line(found: pytest.ExceptionInfo[InputError]) -> str:
    message = str(found.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_tone_of_any_rate_keeps_length_frequency_and_level(tmp_path: Path, rate: int, channels: int) -> None:
    sound = np.repeat(tone(rate)[:, None], channels, axis=1)
    found = read_sound(write(tmp_path / "t.wav", sound, rate, "PCM_24"), rate=16_000)
    assert found.dtype == np.float32
    assert abs(len(found) - 8_000) <= 1
    inside = found[2_000:6_000]  # away from the ends, where the filter of the resampler rings
    spectrum = np.abs(np.fft.rfft(inside * np.hanning(4_000)))
    assert spectrum.argmax() * 16_000 / 4_000 == 440
    assert np.sqrt(np.mean(inside**2)) * np.sqrt(2) == pytest.approx(0.4, rel=2e-3)


@pytest.mark.parametrize(("suffix", "subtype", "tolerance"), FORMATS)
def test_every_format_and_depth_gives_the_same_sound(
    tmp_path: Path, suffix: str, subtype: str, tolerance: float
) -> None:
    sound = tone(16_000)
    found = read_sound(write(tmp_path / f"t.{suffix}", sound, subtype=subtype), rate=16_000)
    assert len(found) == len(sound)
    np.testing.assert_allclose(found, sound, atol=tolerance)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = tone(16_000), tone(16_000, hertz=1_000)
    found = read_sound(write(tmp_path / "t.wav", np.stack([left, right], axis=1), subtype="FLOAT"), rate=16_000)
    np.testing.assert_allclose(found, (left + right) / 2, atol=1e-6)


def test_resampling_removes_what_the_new_rate_cannot_hold(tmp_path: Path) -> None:
    found = read_sound(write(tmp_path / "t.wav", tone(48_000, hertz=12_000), 48_000), rate=16_000)
    assert np.abs(found[1_000:-1_000]).max() < 1e-3


@pytest.mark.parametrize(("align", "wanted"), [("start", [1, 2, 3, 0, 0, 0, 0]), ("center", [0, 0, 1, 2, 3, 0, 0])])
def test_short_sounds_are_padded(align: str, wanted: list[int]) -> None:
    np.testing.assert_array_equal(fit_length(np.array([1, 2, 3], np.float32), 7, align=align), wanted)  # type: ignore[arg-type]


@pytest.mark.parametrize(("align", "wanted"), [("start", [0, 1, 2, 3]), ("center", [2, 3, 4, 5])])
def test_long_sounds_are_trimmed(align: str, wanted: list[int]) -> None:
    np.testing.assert_array_equal(fit_length(np.arange(7, dtype=np.float32), 4, align=align), wanted)  # type: ignore[arg-type]


def test_levels_are_what_they_say_and_silence_stays_silence() -> None:
    rng = np.random.default_rng(0)
    sound = rng.standard_normal(1_000).astype(np.float32)
    assert np.sqrt(np.mean(set_level(sound, "rms") ** 2)) == pytest.approx(0.05, rel=1e-5)
    assert np.abs(set_level(sound, "peak")).max() == pytest.approx(0.5, rel=1e-6)
    assert set_level(sound, "none") is sound
    for level in ("rms", "peak"):
        assert not set_level(np.zeros(10, np.float32), level).any()  # type: ignore[arg-type]


def test_level_is_that_of_the_sound_not_of_the_padding(tmp_path: Path) -> None:
    path = write(tmp_path / "t.wav", tone(16_000, seconds=0.25))
    found = load_sounds([path], seconds=1.0).waveforms[0, 0]
    assert np.sqrt(np.mean(found[:4_000] ** 2)) == pytest.approx(0.05, rel=1e-3)
    assert not found[4_000:].any()


def test_a_table_gives_ids_conditions_further_columns_and_paths_beside_it(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write(tmp_path / "wav" / f"{name}.wav", tone(16_000))
    path = table(
        tmp_path, stimulus_id=["2", "1"], condition=["no", "yes"], path=["wav/b.wav", "wav/a.wav"], voice=["x", "y"]
    )
    sounds = load_sounds(path, seconds=0.5)
    assert (sounds.items, sounds.conditions, sounds.class_names) == (["2", "1"], ["no", "yes"], ["no", "yes"])
    assert list(sounds.table["voice"]) == ["x", "y"]
    assert sounds.waveforms.shape == (2, 1, 8_000)


def test_streamed_batches_equal_the_waveforms_and_keep_the_order_of_take(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.wav", tone(16_000, hertz=200.0 + 50 * i)) for i in range(7)]
    streamed = load_sounds(paths, seconds=0.5)
    whole = np.concatenate(list(streamed.batches(3)))
    kept = load_sounds(paths, seconds=0.5)
    np.testing.assert_array_equal(whole, kept.waveforms)
    for sounds in (streamed, kept):
        picked = sounds.take([5, 0])
        assert picked.items == ["5", "0"]
        np.testing.assert_array_equal(picked.waveforms, whole[[5, 0]])
        masked = sounds.take(np.arange(7) % 2 == 1)
        assert masked.items == ["1", "3", "5"]
        np.testing.assert_array_equal(masked.waveforms, whole[1::2])


def test_the_digest_follows_samples_and_ids_not_file_names(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", tone(16_000))
    write(tmp_path / "b.wav", tone(16_000))
    write(tmp_path / "c.wav", tone(16_000, hertz=441))
    digests = [
        load_sounds(pd.DataFrame({"stimulus_id": [i], "condition": ["w"], "path": [str(tmp_path / f"{n}.wav")]})).digest
        for i, n in [("x", "a"), ("x", "b"), ("x", "c"), ("y", "a")]
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_class_folders_follow_the_lists_and_leave_out_noise_and_hidden_files(tmp_path: Path) -> None:
    for word in ("cat", "dog"):
        for speaker in ("s1", "s2", "s3"):
            write(tmp_path / word / f"{speaker}_nohash_0.wav", tone(16_000, 0.1))
    write(tmp_path / "_background_noise_" / "hum.wav", tone(16_000))
    (tmp_path / "cat" / "._s1_nohash_0.wav").write_bytes(b"what macOS leaves behind")
    (tmp_path / "validation_list.txt").write_text("cat/s2_nohash_0.wav\r\ndog/s2_nohash_0.wav\r\n")
    (tmp_path / "testing_list.txt").write_text("cat/s3_nohash_0.wav\n")
    assert load_sounds(tmp_path).conditions == ["cat"] * 3 + ["dog"] * 3
    assert load_sounds(tmp_path, part="training").items == ["cat/s1_nohash_0", "dog/s1_nohash_0", "dog/s3_nohash_0"]
    assert load_sounds(tmp_path, part="validation").items == ["cat/s2_nohash_0", "dog/s2_nohash_0"]
    assert load_sounds(tmp_path, part="testing").items == ["cat/s3_nohash_0"]
    (tmp_path / "testing_list.txt").write_text("cat/s2_nohash_0.wav\n")
    with pytest.raises(InputError, match=r"cat/s2_nohash_0\.wav.*both"):
        read_lists(tmp_path)


def test_an_array_is_taken_as_it_is() -> None:
    waves = np.random.default_rng(0).standard_normal((3, 1, 50))
    sounds = sounds_from_array(waves, rate=16_000, items=["a", "b", "c"], conditions=["u", "u", "v"])
    np.testing.assert_array_equal(np.concatenate(list(sounds.batches(2))), waves.astype(np.float32))
    assert sounds.class_names == ["u", "v"]
    for bad, kwargs in [
        (np.zeros((3, 50)), {}),
        (np.zeros((0, 1, 5)), {}),
        (np.full((1, 1, 5), np.nan), {}),
        (waves, {"items": ["a"]}),
        (waves, {"items": ["a", "a", "b"]}),
    ]:
        with pytest.raises(InputError, match="sounds:"):
            sounds_from_array(bad, rate=16_000, **kwargs)  # type: ignore[arg-type]


def test_human_digits_load_from_files_at_the_networks_rate() -> None:
    folder = DATA / "fsdd"
    if not folder.is_dir():
        pytest.skip(f"no recordings in {folder}")
    files = sorted(folder.glob("*_0.wav"))
    sounds = load_sounds(files, rate=16_000, seconds=1.0)
    assert len(sounds) == 60
    for path, batch in zip(files, sounds.batches(1), strict=True):
        seconds = soundfile.info(path).frames / 8_000
        spectrum = np.abs(np.fft.rfft(batch[0, 0])) ** 2
        assert np.flatnonzero(batch[0, 0]).max() < 16_000 * seconds + 1
        assert spectrum[4_200:].sum() < 0.01 * spectrum.sum()  # 8 kHz recordings hold nothing above 4 kHz


def _cut(path: Path, keep: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    return path


@pytest.mark.parametrize(
    ("suffix", "subtype"), [("wav", "PCM_16"), ("wav", "FLOAT"), ("flac", "PCM_16"), ("ogg", "VORBIS")]
)
@pytest.mark.parametrize("keep", [0.999, 0.5])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, suffix: str, subtype: str, keep: float) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(60_000)
    path = _cut(write(tmp_path / f"t.{suffix}", noise, subtype=subtype), keep)
    with pytest.raises(InputError) as found:
        load_sounds([path]).waveforms  # noqa: B018
    assert "t." in one_line(found)
    assert "copy it again" in str(found.value) or "no samples" in str(found.value)


def test_a_wav_that_was_written_into_a_pipe_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "t.wav", tone(16_000), subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"  # the size nobody knew yet
    path.write_bytes(content)
    assert len(read_sound(path, rate=16_000)) == 8_000


@pytest.mark.parametrize(
    ("name", "content"),
    [("empty.wav", b""), ("text.wav", b"not a sound"), ("noise.flac", bytes(range(256))), ("x.raw", b"12")],
)
def test_a_file_that_is_no_sound_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as found:
        load_sounds([tmp_path / name])
    assert f"{len(content)} bytes" in one_line(found)


def test_sounds_without_samples_or_with_nan_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no samples"):
        load_sounds([write(tmp_path / "none.wav", np.zeros(0))])
    broken = tone(16_000)
    broken[10] = np.nan
    with pytest.raises(InputError, match="NaN"):
        load_sounds([write(tmp_path / "nan.wav", broken, subtype="FLOAT")]).waveforms  # noqa: B018
    with pytest.raises(InputError, match="shorter than one sample"):
        read_sound(write(tmp_path / "tiny.wav", np.ones(2), 192_000), rate=1_000)


def test_a_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    write(tmp_path / "Word.wav", tone(16_000))
    with pytest.raises(InputError) as found:
        load_sounds([tmp_path / "word.wav"])
    assert "did you mean 'Word.wav'" in one_line(found)
    with pytest.raises(InputError, match="does not exist"):
        load_sounds(tmp_path / "nowhere" / "stimuli.tsv")


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"stimulus_id": ["a"], "conditoin": ["w"], "path": ["a.wav"]}, "'condition'.*did you mean 'conditoin'"),
        ({"stimulus_id": ["a"], "Condition": ["w"], "path": ["a.wav"]}, "'condition'.*did you mean 'Condition'"),
        ({"stimulus_id": ["a", "a"], "condition": ["w", "w"], "path": ["a.wav", "a.wav"]}, "'a' more than once"),
        ({"stimulus_id": ["a", "b"], "condition": ["w", ""], "path": ["a.wav", "a.wav"]}, "empty condition in row 2"),
        (
            {"stimulus_id": ["a", "b"], "condition": ["w", "n/a"], "path": ["a.wav", "a.wav"]},
            "empty condition in row 2",
        ),
        ({"stimulus_id": [""], "condition": ["w"], "path": ["a.wav"]}, "empty stimulus_id"),
        ({"stimulus_id": ["a"], "condition": ["w"], "path": [" "]}, "empty path"),
        ({"stimulus_id": [], "condition": [], "path": []}, "no rows"),
    ],
)
def test_a_table_with_a_fault_is_refused(tmp_path: Path, columns: dict[str, list[str]], said: str) -> None:
    write(tmp_path / "a.wav", tone(16_000))
    with pytest.raises(InputError, match=said) as found:
        load_sounds(table(tmp_path, **columns))
    one_line(found)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "stimulus_id\tcondition\tpath\na\tw\ta.wav\textra\n",
        "stimulus_id\tcondition\tpath\na\tw\ta.wav\nb\tw\ta.wav\t1\n",
    ],
)
def test_a_table_that_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    write(tmp_path / "a.wav", tone(16_000))
    (tmp_path / "stimuli.tsv").write_text(text)
    with pytest.raises(InputError, match="cannot be read as a table") as found:
        load_sounds(tmp_path / "stimuli.tsv")
    one_line(found)


def test_missing_values_of_a_dataframe_are_empty_too(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(16_000))
    frame = pd.DataFrame({"stimulus_id": [1], "condition": [None], "path": [path]})
    with pytest.raises(InputError, match="empty condition"):
        load_sounds(frame)
    assert load_sounds(frame.assign(condition="w")).items == ["1"]


@pytest.mark.parametrize(
    "kwargs",
    [
        {"rate": 0},
        {"rate": 500},
        {"rate": 10**6},
        {"seconds": 0},
        {"seconds": -1},
        {"seconds": float("nan")},
        {"seconds": 1e-6},
        {"seconds": 1e4},
        {"level": "rsm"},
        {"align": "middle"},
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, kwargs: dict[str, object]) -> None:
    write(tmp_path / "a.wav", tone(16_000))
    with pytest.raises(InputError) as found:
        load_sounds([tmp_path / "a.wav"], **kwargs)  # type: ignore[arg-type]
    assert re.search("wanted|expected", one_line(found))


def test_folders_and_lists_without_sounds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="class folders"):
        load_sounds(tmp_path)
    with pytest.raises(InputError, match="empty"):
        load_sounds([])
    with pytest.raises(InputError, match="got the folder"):
        load_sounds([tmp_path])
    (tmp_path / "a.doc").write_text("")
    with pytest.raises(InputError, match=r"a table of sounds ends in \.tsv"):
        load_sounds(tmp_path / "a.doc")
    write(tmp_path / "cat" / "a.wav", tone(16_000))
    with pytest.raises(InputError, match="part='all'"):
        load_sounds(tmp_path, part="testing")


def test_sounds_compare_by_identity() -> None:
    waves = np.zeros((1, 1, 4), np.float32)
    one: Sounds = sounds_from_array(waves, rate=16_000)
    assert one in [one]
    assert one != sounds_from_array(waves, rate=16_000)


def test_ids_of_one_file_name_in_two_folders_are_those_that_events_give(tmp_path: Path) -> None:
    from brainmap.rsa import read_events

    files = [write(tmp_path / word / "0a7c_nohash_0.wav", tone(16_000)) for word in ("cat", "dog")]
    wanted = ["cat/0a7c_nohash_0", "dog/0a7c_nohash_0"]
    assert load_sounds(tmp_path).items == wanted
    assert load_sounds(files).items == wanted
    events = pd.DataFrame(
        {
            "onset": [1.0, 5.0],
            "duration": 1.0,
            "trial_type": ["cat", "dog"],
            "stim_file": [f"{word}/0a7c_nohash_0.wav" for word in ("cat", "dog")],
        }
    )
    assert read_events(events, run_seconds=[20.0], column="stim_file")[0]["name"].tolist() == wanted


@pytest.mark.parametrize("missing", ["n/a", "NaN", "NA", "", None, np.nan, pd.NA])
def test_an_empty_cell_is_refused_however_it_is_written(tmp_path: Path, missing: object) -> None:
    path = str(write(tmp_path / "a.wav", tone(16_000)))
    condition = pd.Series(["x", missing], dtype="object")
    table = pd.DataFrame({"stimulus_id": ["a", "b"], "condition": condition, "path": path})
    with pytest.raises(InputError, match="empty condition in row 2"):
        load_sounds(table)


def test_an_rf64_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, tone(16_000), 16_000, format="RF64")
    whole = read_sound(path, rate=16_000)
    assert len(whole) == 8_000
    path.write_bytes(path.read_bytes()[:-2_000])
    with pytest.raises(InputError, match="cut short: expected 16000 bytes of samples"):
        read_sound(path, rate=16_000)


def test_a_table_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", tone(16_000))
    (tmp_path / "s.tsv").write_text("stimulus_id\tcondition\tpath\tcondition\nx\tcat\ta.wav\tdog\n")
    with pytest.raises(InputError, match="each column once, got 'condition' more than once"):
        load_sounds(tmp_path / "s.tsv")
