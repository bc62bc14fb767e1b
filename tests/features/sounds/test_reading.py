"""Audio of every kind is read by its content, whatever its ending; a file that ends early or is no sound is refused."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.features.sounds import containers
from brainmap.features.sounds.files import load_sounds
from brainmap.features.sounds.reading import check_sound, read_blocks, read_mono, read_sound

RATE = 16_000
TONE = 0.4 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)
NOISE = 0.1 * np.random.default_rng(0).standard_normal(40_000)
KINDS = [  # format, subtype, tolerance of the waveform
    ("AIFF", "PCM_16", 1e-3),
    ("AIFF", "FLOAT", 1e-6),
    ("AIFF", "ULAW", 2e-2),
    ("AU", "PCM_24", 1e-3),
    ("AU", "ALAW", 2e-2),
    ("CAF", "ALAC_16", 1e-3),
    ("CAF", "PCM_S8", 2e-2),
    ("FLAC", "PCM_24", 1e-3),
    ("MP3", "MPEG_LAYER_III", 5e-2),
    ("NIST", "PCM_16", 1e-3),
    ("OGG", "OPUS", 5e-2),
    ("OGG", "VORBIS", 5e-2),
    ("RF64", "PCM_16", 1e-3),
    ("VOC", "PCM_16", 1e-3),
    ("W64", "PCM_24", 1e-3),
    ("WAV", "ALAW", 2e-2),
    ("WAV", "DOUBLE", 1e-6),
    ("WAV", "GSM610", 2e-1),
    ("WAV", "IMA_ADPCM", 2e-2),
    ("WAV", "MS_ADPCM", 2e-2),
    ("WAV", "PCM_24", 1e-3),
    ("WAV", "ULAW", 2e-2),
    ("WAVEX", "PCM_32", 1e-6),
]


def write(path: Path, sound: NDArray[np.floating], kind: str, subtype: str | None = None, rate: int = RATE) -> Path:
    soundfile.write(path, sound, rate, format=kind, subtype=subtype)
    return path


@pytest.mark.parametrize(("kind", "subtype", "tolerance"), KINDS)
@pytest.mark.parametrize("ending", [".wav", ".gsm", ""])
def test_every_kind_is_read_under_any_name(
    tmp_path: Path, kind: str, subtype: str, tolerance: float, ending: str
) -> None:
    path = write(tmp_path / f"sound{ending}", TONE, kind, subtype)
    found = read_sound(path, rate=RATE)
    assert 2 * RATE <= len(found) < 2 * RATE + 1024  # codecs of blocks fill the last one
    inside = slice(2_000, -2_000)  # lossy codecs ring at the ends
    np.testing.assert_allclose(found[: 2 * RATE][inside], TONE[inside], atol=tolerance)
    assert load_sounds(path, seconds=2.0).items == ["sound"]


@pytest.mark.parametrize("ending", [".gsm", ".vox", ".raw", ".mp3", ".wav", ".au", ""])
def test_text_is_no_sound_whatever_its_ending(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"speech{ending}"
    path.write_text("these are words about a sound, and no sound " * 40)
    with pytest.raises(InputError, match=r"cannot be read as a sound .*it holds text") as found:
        load_sounds([path])
    assert "\n" not in str(found.value)
    assert path.name in str(found.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x00\x00\x00\x20ftypM4A \x00", "MPEG-4 audio"),
        (b"\x1a\x45\xdf\xa3\x01\x00", "WebM or Matroska"),
        (b"\x30\x26\xb2\x75\x8e\x66", "Windows Media"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a pointer of Git LFS; fetch the file itself"),
    ],
)
def test_the_content_of_another_kind_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.wav").write_bytes(content + bytes(200))
    with pytest.raises(InputError, match=f"it holds {said}"):
        load_sounds([tmp_path / "a.wav"])


@pytest.mark.parametrize(
    "kind", ["AIFF", "AU", "CAF", "MP3", "NIST", "OGG", "RF64", "SVX", "VOC", "W64", "WAV", "MAT4"]
)
@pytest.mark.parametrize("keep", [0.999, 0.5])
def test_a_file_that_claims_more_than_it_holds_is_refused(tmp_path: Path, kind: str, keep: float) -> None:
    path = write(tmp_path / "t.wav", NOISE, kind)
    assert len(read_sound(path, rate=RATE)) == len(NOISE)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(InputError, match=r"cut short: expected .* copy it again|file is malformed") as found:
        load_sounds([path]).waveforms  # noqa: B018
    assert "\n" not in str(found.value)


def test_flac_that_does_not_declare_its_length_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t.flac", NOISE, "FLAC", "PCM_24")
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the number of samples: 36 bits of the block of settings; 0 where a pipe was written
    content[22:26] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(InputError, match="does not declare its length, as FLAC that was written into a pipe"):
        load_sounds([path])


def without_its_header(path: Path, *, mode: str, **how: float) -> Path:
    """Write an MP3 whose first frame, which declares how many follow, is removed; a tag follows the last one."""
    with soundfile.SoundFile(path, "w", RATE, 1, format="MP3", bitrate_mode=mode, **how) as file:
        file.write(np.tile(NOISE, 4) * np.repeat(np.linspace(0.01, 1, 16), 10_000))
    content = path.read_bytes()
    assert b"Xing" in content[:64] or b"Info" in content[:64]
    frame = containers._read_mpeg_frame(content[:4])
    assert frame is not None
    path.write_bytes(content[frame[0] :] + b"TAG" + bytes(125))
    return path


def test_mp3_of_one_bit_rate_is_read_to_its_end_without_a_declared_length(tmp_path: Path) -> None:
    path = without_its_header(tmp_path / "t.mp3", mode="CONSTANT", compression_level=0.5)
    assert abs(len(read_sound(path, rate=RATE)) - 4 * len(NOISE)) < 4 * 1152


def test_mp3_that_would_be_cut_silently_is_refused(tmp_path: Path) -> None:
    """libsndfile takes the bit rate of the first frame for that of all."""
    path = without_its_header(tmp_path / "t.mp3", mode="VARIABLE", compression_level=0.3)
    with pytest.raises(InputError, match=r"does not declare its length, .*only \d+ of 16\d{4} samples would be read"):
        load_sounds([path])


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100])
@pytest.mark.parametrize("channels", [1, 2])
def test_blocks_make_up_the_whole_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: int, channels: int
) -> None:
    monkeypatch.setattr("brainmap.features.sounds.reading._BLOCK", 5_001)
    sound = np.stack([np.tile(NOISE, 3), np.roll(np.tile(NOISE, 3), 7)], axis=1)[:, :channels]
    path = write(tmp_path / "t.wav", sound, "WAV", "FLOAT", rate)
    whole = read_sound(path, rate=RATE)
    blocks = list(read_mono(path, rate=RATE))
    assert len(blocks) > 10
    np.testing.assert_array_equal(np.concatenate([one for one, _ in blocks]), np.concatenate(list(read_blocks(path))))
    found = np.concatenate([mono for _, mono in blocks])
    assert len(found) == len(whole)
    np.testing.assert_allclose(found, whole, atol=1e-6)


def test_the_header_tells_rate_and_frames(tmp_path: Path) -> None:
    assert check_sound(write(tmp_path / "t.ogg", NOISE, "OGG", "OPUS", 48_000)) == (48_000, len(NOISE))


def test_files_of_another_encoder_agree_with_it(tmp_path: Path) -> None:
    """SoX is another implementation of these formats, where it is installed."""
    sox = shutil.which("sox")
    if sox is None:
        pytest.skip("sox is not installed")
    source = write(tmp_path / "s.wav", TONE, "WAV", "FLOAT")
    for ending in ("aiff", "au", "flac", "ogg", "w64", "caf"):
        path = tmp_path / f"t.{ending}"
        subprocess.run([sox, source, path], check=True, capture_output=True)
        np.testing.assert_allclose(read_sound(path, rate=RATE)[2_000:-2_000], TONE[2_000:-2_000], atol=5e-2)


def test_a_chunk_of_unknown_size_is_the_last_one(tmp_path: Path) -> None:
    """CAF that was written into a pipe declares a size of -1, after which no chunk can be looked for."""
    path = write(tmp_path / "t.caf", TONE, "CAF", "PCM_16")
    content = bytearray(path.read_bytes())
    at = content.index(b"data")
    content[at + 4 : at + 12] = b"\xff" * 8
    path.write_bytes(content)
    assert containers.find_missing_bytes(path) is None
