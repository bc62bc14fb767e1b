"""Decode audio files: whatever libsndfile reads, recognized by its content, whole or block by block.

Recognize audio files by their first bytes, and find files that claim more samples than they hold. libsndfile shortens
the number of frames silently when the file of most formats ends early, so the sizes that headers declare are compared
with the size of the file here. AVR, HTK, IRCAM, MAT5, MPC2K, PAF, PVF, SDS and XI files are not compared, since few
people have them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from brainmap.checks import check_file
from brainmap.errors import InputError
from brainmap.features.sounds.containers import count_mpeg_samples, find_missing_bytes, name_content

"""Endings that sounds usually have; a file with another ending is recognized by its content."""
"""Endings of audio that libsndfile does not read or that has no header."""


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
            while found < wanted and len(
                block := file.read(min(most, wanted - found), dtype="float32", always_2d=True)
            ):
                found += len(block)
                yield block
    except _FAILURES as error:
        raise _explain_unreadable(path, error) from None
    # the length of an MP3 without a header is only estimated
    estimated = found < wanted and count_mpeg_samples(path) is not None and found >= _estimate_mpeg_length(path)
    if found < wanted and not estimated:
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
