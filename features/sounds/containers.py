"""Recognize audio files by their first bytes, and find files that claim more samples than they hold.

libsndfile shortens the number of frames silently when the file of most formats ends early, so the sizes that headers
declare are compared with the size of the file here. AVR, HTK, IRCAM, MAT5, MPC2K, PAF, PVF, SDS and XI files are not
compared, since few people have them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

READ = (
    ".wav", ".wave", ".wavex", ".rf64", ".w64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2",
    ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".sph", ".nist", ".voc",
)  # fmt: skip

NOT_READ = (".m4a", ".aac", ".wma", ".mp4", ".m4b", ".webm", ".mka", ".amr", ".ape", ".wv", ".raw", ".pcm", ".vox")

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
