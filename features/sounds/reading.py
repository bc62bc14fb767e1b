"""Decode audio files: whatever libsndfile reads, recognized by its content, whole or block by block.

Recognize audio files by their first bytes, and find files that claim more samples than they hold. libsndfile shortens
the number of frames silently when the file of most formats ends early, so the sizes that headers declare are compared
with the size of the file here. AVR, HTK, IRCAM, MAT5, MPC2K, PAF, PVF, SDS and XI files are not compared, since few
people have them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from brainmap.checks import check_file
from brainmap.errors import InputError

READ = (
    ".wav", ".wave", ".wavex", ".rf64", ".w64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2",
    ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".sph", ".nist", ".voc",
)  # fmt: skip
"""Endings that sounds usually have; a file with another ending is recognized by its content."""
NOT_READ = (".m4a", ".aac", ".wma", ".mp4", ".m4b", ".webm", ".mka", ".amr", ".ape", ".wv", ".raw", ".pcm", ".vox")
"""Endings of audio that libsndfile does not read or that has no header."""
UNKNOWN_SIZE = 0x7FFF0000  # bytes; programs that write WAV into a pipe declare this size or more
_WIDE = (b"RF64", b"riff", b"caff")  # containers that declare sizes in 8 bytes
_NEGATIVE = 1 << 63  # CAF declares -1 where the size is not known
_LARGEST_OGG_PAGE = 65_536  # bytes; a page has at most 65,307

_MPEG_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}  # Hz, by version
_KBITS = {  # of layer III, by whether it is MPEG 1
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}

_SOUND = re.compile(
    rb"(RIFF|RIFX|RF64)....WAVE|fLaC|OggS|FORM....(AIFF|AIFC|8SVX|16SV)|\.snd|dns\.|caff|riff\x2e\x91\xcf\x11|ID3"
    rb"|NIST_1A|Creative Voice",
    re.DOTALL,
)
_FOREIGN = (
    (re.compile(rb"....ftyp", re.DOTALL), "MPEG-4 audio (M4A, MP4)"),
    (re.compile(rb"\x1a\x45\xdf\xa3"), "WebM or Matroska"),
    (re.compile(rb"\x30\x26\xb2\x75"), "Windows Media"),
    (re.compile(rb"\xff[\xf0\xf1\xf8\xf9]"), "AAC"),
    (re.compile(rb"#!AMR"), "AMR"),
    (re.compile(rb"version https://git-lfs"), "a pointer of Git LFS; fetch the file itself"),
)


def is_sound(path: Path) -> bool:
    """Tell whether the first bytes of a file are those of audio that libsndfile reads."""
    return _SOUND.match(_read_head(path)) is not None


def name_content(path: Path) -> str:
    """Name the content of a file that libsndfile does not read; the text is empty where it is not recognized."""
    head = _read_head(path)
    if not head:
        return "nothing"
    for pattern, name in _FOREIGN:
        if pattern.match(head):
            return name
    return "text" if re.fullmatch(rb"[\t\n\r\x20-\x7e]+", head) else ""


def _read_head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


def find_missing_bytes(path: Path) -> tuple[str, object] | None:
    """Compare what the header of a file declares with what the file holds.

    Returns
    -------
    tuple of (str, object), or None
        What the header declares and what was found, where that is less.
    """
    with path.open("rb") as file:
        head = file.read(64)
        file.seek(0)
        if head[:4] == b"OggS":
            return _find_last_page(file, path.stat().st_size)
        declared = _find_declared_size(file, head)
        if declared is None:
            return None
        size, start = declared
        left = path.stat().st_size - start
        unknown = size >= UNKNOWN_SIZE and head[:4] not in _WIDE
        return (f"{size} bytes of samples", left) if left < size and not unknown else None


def _find_declared_size(file: BinaryIO, head: bytes) -> tuple[int, int] | None:
    """Return the size of the samples that a header declares and the position at which they begin, in bytes."""
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE":
        return _read_wave_size(file, head)
    if head[:4] == b"riff":  # Sony Wave64: sizes of 8 bytes after names of 16, which they include
        chunks = _iterate_chunks(file, start=40, name=16, width=8, order="little", inclusive=True, align=8)
        return next(((size, at) for called, size, at in chunks if called[:4] == b"data"), None)
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC", b"8SVX", b"16SV"):
        chunks = _iterate_chunks(file, start=12, name=4, width=4, order="big")
        return next(((size, at) for called, size, at in chunks if called in (b"SSND", b"BODY")), None)
    if head[:4] == b"caff":
        chunks = _iterate_chunks(file, start=8, name=4, width=8, order="big", align=1)
        return next(((size, at) for called, size, at in chunks if called == b"data" and size < _NEGATIVE), None)
    if head[:4] in (b".snd", b"dns."):
        order: Literal["little", "big"] = "big" if head[:4] == b".snd" else "little"
        return int.from_bytes(head[8:12], order), int.from_bytes(head[4:8], order)
    if head[:7] == b"NIST_1A":
        return _read_nist_size(file.read(4096))
    return None


def _iterate_chunks(
    file: BinaryIO,
    *,
    start: int,
    name: int,
    width: int,
    order: Literal["little", "big"],
    inclusive: bool = False,
    align: int = 2,
) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name, size and position [bytes] of each chunk of a file."""
    at = start
    while True:
        file.seek(at)
        header = file.read(name + width)
        if len(header) < name + width:
            return
        size = int.from_bytes(header[name:], order) - (name + width if inclusive else 0)
        at += name + width
        yield header[:name], size, at
        if not 0 <= size < _NEGATIVE:
            return
        at += -(-size // align) * align


def _read_wave_size(file: BinaryIO, head: bytes) -> tuple[int, int] | None:
    long = None  # the size of the samples that RF64 keeps in a chunk of its own
    order: Literal["little", "big"] = "big" if head[:4] == b"RIFX" else "little"
    for name, size, at in _iterate_chunks(file, start=12, name=4, width=4, order=order):
        if name == b"ds64" and head[:4] == b"RF64":
            file.seek(at + 8)
            long = int.from_bytes(file.read(8), order)
        if name == b"data":
            return size if long is None else long, at
    return None


def _read_nist_size(head: bytes) -> tuple[int, int] | None:
    """Read the size of the samples out of the text at the beginning of a NIST (SPHERE) file."""
    found = dict(re.findall(rb"^(\w+) -i (\d+)\s*$", head, re.MULTILINE))
    count = [found.get(key) for key in (b"sample_count", b"sample_n_bytes", b"channel_count")]
    size = re.match(rb"NIST_1A\s+(\d+)", head)
    if None in count or size is None or b"shorten" in head:
        return None
    frames, width, channels = (int(value) for value in count if value is not None)
    return frames * width * channels, int(size[1])


def _find_last_page(file: BinaryIO, size: int) -> tuple[str, object] | None:
    file.seek(max(0, size - _LARGEST_OGG_PAGE))
    end = file.read()
    page = end[end.rfind(b"OggS") :]
    pieces = page[26] if len(page) > 26 else 256
    whole = len(page) >= 27 + pieces + sum(page[27 : 27 + pieces]) and page[5] & 4
    return None if whole else ("a whole last page", "none")


def count_mpeg_samples(path: Path) -> int | None:
    """Count the samples of an MP3 that does not declare its length; None for other files.

    The first frame of most MP3 files declares how many follow ("Xing", "Info" or "VBRI"). Without it libsndfile
    estimates the length by the bit rate of that frame.
    """
    content = path.read_bytes()
    at = 0
    if content[:3] == b"ID3" and len(content) > 10:
        at = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(content[6:10], (21, 14, 7, 0), strict=True))
    count, first = 0, at
    while (frame := _read_mpeg_frame(content[at : at + 4])) is not None:
        size, samples = frame
        if at == first and re.search(rb"Xing|Info|VBRI", content[at : at + 64]):
            return None
        at += size
        count += samples
    return count or None


def _read_mpeg_frame(head: bytes) -> tuple[int, int] | None:
    """Return the size [bytes] and the number of samples of a frame of layer III; None where no frame begins."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    version, kbits, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or kbits in (0, 15) or rate == 3:
        return None
    samples = 1152 if version == 3 else 576
    bits = _KBITS[version == 3][kbits] * 1000
    return samples // 8 * bits // _MPEG_RATES[version][rate] + (head[2] >> 1 & 1), samples


LONGEST = 4 * 3600  # s; a file that claims to last longer is damaged or is no stimulus
_BLOCK = 1 << 18  # samples of all channels that are decoded at once
_NO_LENGTH = 1 << 60  # frames; libsndfile says more than this where a FLAC file does not declare its length
_MPEG_SLACK = 4 * 1152  # samples
_LARGEST = 1e15  # the square of larger samples would overflow
_FAILURES = (soundfile.SoundFileError, ValueError, TypeError, MemoryError, OSError)


def read_sound(path: Path, *, rate: int) -> NDArray[np.float32]:
    """Read one file as float32 `(n_samples,)`: average the channels and resample to `rate` (soxr, high quality).

    Raises
    ------
    InputError
        The file is missing, is no audio, is cut short, has no samples or holds NaN.
    """
    samples, found_rate = read_channels(path)
    mono: NDArray[np.float32] = samples.mean(axis=1)
    _check_finite(mono, path)
    if found_rate != rate:
        mono = soxr.resample(mono, found_rate, rate, quality="HQ").astype(np.float32)
    if not len(mono):
        raise InputError(f"sounds: {path} is shorter than one sample at {rate} Hz")
    return mono


def read_channels(path: Path) -> tuple[NDArray[np.float32], int]:
    """Read one file unchanged: float32 `(n_samples, n_channels)`, and its rate [Hz].

    Memory is allocated for what the file holds, whatever its header declares.

    Raises
    ------
    InputError
        The file is missing, is no audio or is cut short.
    """
    rate, _ = check_sound(path)
    return np.concatenate(list(read_blocks(path))), rate


def read_blocks(path: Path) -> Iterator[NDArray[np.float32]]:
    """Decode one file block by block, each float32 `(n_samples, n_channels)`.

    Raises
    ------
    InputError
        The file is no audio or is cut short.
    """
    found = 0
    try:
        with _open_descriptor(path) as file:
            wanted = file.frames
            most = max(1, _BLOCK // file.channels)
            # the number of samples must be given for a GSM file
            while found < wanted and len(block := _decode_frames(file, min(most, wanted - found))):
                found += len(block)
                yield block
    except _FAILURES as error:
        raise _explain_unreadable(path, error) from None
    if found < wanted and not _is_estimated(path, found):
        raise _cut_short(path, f"{wanted} samples", found)
    if not found:
        raise InputError(f"sounds: {path} holds no samples")


def read_mono(path: Path, *, rate: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Decode one file block by block: its channels, and their mean resampled to `rate` [Hz].

    The mean equals that of `read_sound`; its blocks lag behind those of the channels, and the last one may come with no
    channels. Memory does not grow with the length of the file.

    Raises
    ------
    InputError
        The file is missing, is no audio, is cut short or holds NaN.
    """
    found_rate, _ = check_sound(path)
    stream = None if found_rate == rate else soxr.ResampleStream(found_rate, rate, 1, dtype="float32", quality="HQ")
    n_channels = 1
    for channels in read_blocks(path):
        mono: NDArray[np.float32] = channels.mean(axis=1)
        _check_finite(mono, path)
        n_channels = channels.shape[1]
        yield channels, mono if stream is None else stream.resample_chunk(mono)
    if stream is not None:
        yield np.empty((0, n_channels), np.float32), stream.resample_chunk(np.empty(0, np.float32), last=True)


def check_sound(path: Path) -> tuple[int, int]:
    """Inspect one file without decoding it, and return its rate [Hz] and its number of frames.

    Raises
    ------
    InputError
        It cannot be a whole sound.
    """
    check_file(path, "sounds")
    try:
        with _open_descriptor(path) as file:
            frames, rate = int(file.frames), int(file.samplerate)
            is_short = file.format in ("VOC", "MAT4") and "truncated" in file.extra_info
            is_mpeg = file.format == "MP3"
    except _FAILURES as error:
        raise _explain_unreadable(path, error) from None
    missing = find_missing_bytes(path)
    if missing is not None:
        raise _cut_short(path, *missing)
    if is_short:
        raise _cut_short(path, "more samples", frames)
    if is_mpeg and frames < _estimate_mpeg_length(path):
        raise InputError(
            f"sounds: {path} does not declare its length, as MP3 of a variable bit rate must, and only {frames} of "
            f"{count_mpeg_samples(path)} samples would be read; convert it to WAV or FLAC"
        )
    if frames > _NO_LENGTH:
        raise InputError(
            f"sounds: {path} does not declare its length, as FLAC that was written into a pipe; convert it to WAV"
        )
    if not frames:
        raise InputError(f"sounds: {path} holds no samples")
    if frames > LONGEST * rate:
        raise InputError(
            f"sounds: expected at most {LONGEST // 3600} h, got {frames / rate / 3600:.3g} h as the header of {path} "
            f"({path.stat().st_size} bytes) says; cut it"
        )
    return rate, frames


@contextmanager
def _open_descriptor(path: Path) -> Iterator[Any]:
    """Open a file by its descriptor, because libsndfile takes text for audio where it is given a name like `x.gsm`."""
    with path.open("rb") as raw, soundfile.SoundFile(raw.fileno(), closefd=False) as file:
        yield file


def _estimate_mpeg_length(path: Path) -> int:
    """Return the fewest samples to expect of an MP3 that does not declare its length; decoders omit some frames."""
    return max(0, (count_mpeg_samples(path) or 0) - _MPEG_SLACK)


def _is_estimated(path: Path, found: int) -> bool:
    """Tell whether the length of a file is only estimated, as of an MP3 without a header, and all of it was found."""
    return count_mpeg_samples(path) is not None and found >= _estimate_mpeg_length(path)


def _decode_frames(file: Any, frames: int) -> NDArray[np.float32]:
    block: NDArray[np.float32] = file.read(frames, dtype="float32", always_2d=True)
    return block


def _check_finite(mono: NDArray[np.float32], path: Path) -> None:
    if not (np.abs(mono) < _LARGEST).all():
        raise InputError(f"sounds: {path} holds NaN, infinite or senselessly large samples")


def _cut_short(path: Path, wanted: str, found: object) -> InputError:
    return InputError(f"sounds: {path} is cut short: expected {wanted} as its header says, got {found}; copy it again")


def _explain_unreadable(path: Path, error: Exception) -> InputError:
    reason = str(error).rsplit(":", 1)[-1].strip().rstrip(".")
    holds = name_content(path)
    return InputError(
        f"sounds: {path} ({path.stat().st_size} bytes) cannot be read as a sound ({reason}"
        f"{f'; it holds {holds}' if holds else ''}); convert it to WAV or FLAC, or copy it again"
    )
