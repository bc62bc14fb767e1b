"""Convert names of classes, layers, units and people to names of files, and back; different names never collide.

Names of files are made by `file_name`. Parts of BIDS names, which hold only letters and digits, are made by `slug`.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.#+=, ")
_TAKEN = re.compile(r"[. ]|__|-|zarr\.json$|(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_LONGEST = 150  # [bytes]; file systems allow 255, and endings and the temporary name take some of them
_KEPT = 100


def file_name(*parts: str) -> str:
    """Join names by `_` to the name of one file without its ending; `names_in` splits it again.

    Letters of any alphabet, digits and `-_.#+=, ` are kept; each byte (UTF-8) of other characters becomes `%` and two
    hexadecimal digits, and so does the first character of names that an operating system or zarr reserves (`CON`,
    `..`, `zarr.json`). Different names give different files; the end of a name that is too long is replaced by a hash.

    Parameters
    ----------
    parts : str
        Any text, empty or with line breaks.

    Examples
    --------
    >>> file_name("conv1", "yes/no"), file_name("..", "../.."), file_name("CON"), file_name("")
    ('conv1_yes%2Fno', '%2E._..%2F.%2E', '%43ON', '%')
    """
    *others, last = (_escape(part) or "%" for part in parts)
    written = "_".join([*(part.replace("_", "%5F") for part in others), last])
    if _TAKEN.match(written):
        written = f"%{ord(written[0]):02X}{written[1:]}"
    if written[-1:] in (".", " "):
        written = f"{written[:-1]}%{ord(written[-1]):02X}"
    if len(written.encode()) <= _LONGEST:
        return written
    kept = written.encode()[:_KEPT].decode(errors="ignore")
    digest = hashlib.sha256("\0".join(map(repr, parts)).encode("utf-8", "surrogatepass")).hexdigest()
    return f"{kept}%%{digest[:32]}"


def names_in(name: str, n_parts: int = 1) -> tuple[str, ...] | None:
    """Return the names that `file_name` joined; None if they were too long to be kept whole.

    Examples
    --------
    >>> names_in(file_name("layer_1", "a_b/c"), 2)
    ('layer_1', 'a_b/c')
    """
    if "%%" in name:
        return None
    parts = name.split("_", n_parts - 1)
    return tuple("" if p == "%" else unquote_to_bytes(p).decode("utf-8", "surrogatepass") for p in parts)


def slug(text: str) -> str:
    """Reduce a name to letters and digits, as BIDS entities require; numbers separated by a sign stay separate.

    Letters that are not ASCII become `u` and their code point, so no name is empty; a long name ends in a hash.
    Different names may have the same slug; a study refuses such names.

    Examples
    --------
    >>> slug("rho-a"), slug("layer1.10"), slug("layer11.0"), slug("é"), slug("..")
    ('rhoa', 'layer1x10', 'layer11x0', 'u00e9', 'u002eu002e')
    """
    apart = re.sub(r"(?<=[0-9])[^A-Za-z0-9]+(?=[0-9])", "x", text)
    found = re.sub(r"[^A-Za-z0-9]", lambda match: f"u{ord(match[0]):04x}" if match[0].isalnum() else "", apart)
    found = found or "".join(f"u{ord(c):04x}" for c in text)
    if len(found) > _KEPT:
        found = found[:_KEPT] + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return found


def _escape(text: str) -> str:
    return "".join(c if _is_kept(c) else _encode_percent(c) for c in text)


def _is_kept(character: str) -> bool:
    """Tell whether a character is kept: it is plain, or a letter in the form that all file systems preserve (NFC)."""
    foreign = character > "\x7f" and character.isalnum() and not "\u1100" <= character <= "\u11ff"  # parts of Hangul
    return character in _PLAIN or (foreign and unicodedata.normalize("NFC", character) == character)


def _encode_percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))


def sound_names(paths: Iterable[str]) -> dict[str, str]:
    """Return the id of each sound file: its path without ending, and without the folders that all of them share.

    Files with the same name in different folders keep different ids, which are those of a folder of class folders.

    Examples
    --------
    >>> sound_names(["words/cat/0a.wav", "words/dog/0a.wav"])
    {'words/cat/0a.wav': 'cat/0a', 'words/dog/0a.wav': 'dog/0a'}
    >>> sound_names(["words/cat_anna.wav", "words/dog_ben.wav"])["words/dog_ben.wav"]
    'dog_ben'
    """
    parts = {path: re.split(r"[/\\]+", re.sub(r"(?<=[^/\\])\.\w+$", "", path)) for path in paths}
    shared = 0
    while parts and all(len(p) > shared + 1 for p in parts.values()) and len({p[shared] for p in parts.values()}) == 1:
        shared += 1
    return {path: "/".join(p[shared:]) for path, p in parts.items()}
