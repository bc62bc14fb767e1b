"""Find images with equal data among many, reading no more of each than tells it from the others."""

from __future__ import annotations

import contextlib
import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from brainmap.errors import InputError
from brainmap.rsa.images import afni, nifti
from brainmap.rsa.images.names import find_afni_base, find_pair, split_name
from brainmap.rsa.images.volumes import is_compressed, open_compressed

_MIDDLE, _BLOCK = 1 << 17, 1 << 20  # bytes that are read at a time
_BEGINNINGS = (1 << 20, 1 << 23)  # bytes, uncompressed, after which unlike images are told apart


@dataclass(frozen=True)
class _Data:
    """Hold where the values of an image lie, and what must be equal before its bytes are worth reading."""

    file: Path
    offset: int
    alike: Hashable


def find_copies(images: Sequence[str | Path]) -> list[list[int]]:
    """Find the images whose values are equal, whatever their names and headers say.

    Images of one shape and type are compared by more and more of their bytes: unlike images cost about a block each,
    and only copies are read to their end. Labels and scale factors do not count.

    Parameters
    ----------
    images : sequence of path
        NIfTI or AFNI names that `load_image` accepts, or other files (GIFTI), which are compared byte by byte. Images
        that cannot be read are no copies.

    Returns
    -------
    list of list of int
        The positions of images that are equal, two or more in each list, in their order.

    Examples
    --------
    >>> find_copies(["nothing.nii", "nothing.nii.gz"])
    []
    """
    groups: dict[Hashable, list[int]] = defaultdict(list)
    where: dict[int, _Data] = {}
    for k, image in enumerate(images):
        with contextlib.suppress(InputError, OSError):
            where[k] = _find_data(image)
            groups[where[k].alike].append(k)
    return sorted(group for alike in groups.values() for group in _split_group(alike, where))


def _find_data(image: str | Path) -> _Data:
    """Find the values of an image; the size of a compressed file is no part of what must be equal."""
    parts = split_name(image)
    selected = (parts.bricks, parts.values)
    base = find_afni_base(parts.name)
    file = Path(parts.name)
    if base is None and not file.name.lower().endswith((".nii", ".nii.gz", ".nii.bz2")):
        return _Data(file, 0, (file.suffix, file.stat().st_size, selected))
    stored = nifti.open_nifti(file) if base is None else afni.open_afni(*find_pair(base))
    types = tuple(dtype.str for dtype in stored.dtypes)
    return _Data(stored.file, stored.offset, (stored.info.shape, types, selected))


def _split_group(alike: list[int], where: dict[int, _Data]) -> Iterator[list[int]]:
    """Split images of one form into those of equal bytes; the same file under several names is read once."""
    if len(alike) < 2:
        return
    same: dict[Hashable, list[int]] = defaultdict(list)
    for k in alike:
        there = where[k].file.stat()
        same[there.st_dev, there.st_ino].append(k)
    firsts = {names[0]: names for names in same.values()}
    alone = set(firsts)
    for equal in _compare_data(list(firsts), where):
        alone -= set(equal)
        yield sorted(k for first in equal for k in firsts[first])
    yield from (firsts[k] for k in alone if len(firsts[k]) > 1)


def _compare_data(ones: list[int], where: dict[int, _Data]) -> list[list[int]]:
    """Return the groups of images whose bytes are equal, by more and more of them.

    Uncompressed files are compared in their middle first, since volumes begin with many zeros.
    """
    groups = [ones]
    if not any(is_compressed(where[k].file) for k in ones):
        groups = _divide(groups, lambda k: _hash_middle(where[k]))
    for most in (*_BEGINNINGS, None):
        groups = _divide(groups, partial(_hash_beginning, where, most=most))
    return groups


def _divide(groups: list[list[int]], read: Callable[[int], Hashable]) -> list[list[int]]:
    """Divide groups by what is read of their members, and drop members that are alone or cannot be read."""
    found = []
    for group in groups:
        parts: dict[Hashable, list[int]] = defaultdict(list)
        for k in group:
            with contextlib.suppress(InputError, OSError):
                parts[read(k)].append(k)
        found += [part for part in parts.values() if len(part) > 1]
    return found


def _hash_middle(data: _Data) -> bytes:
    with data.file.open("rb") as stream:
        stream.seek(data.offset + max(0, data.file.stat().st_size - data.offset - _MIDDLE) // 2)
        return hashlib.sha256(stream.read(_MIDDLE)).digest()


def _hash_beginning(where: dict[int, _Data], k: int, *, most: int | None) -> bytes:
    """Hash the first bytes of the values of an image, or all of them."""
    digest, left = hashlib.sha256(), most
    with open_compressed(where[k].file) as stream:
        stream.seek(where[k].offset)
        while left != 0 and (block := stream.read(_BLOCK if left is None else min(left, _BLOCK))):
            digest.update(block)
            left = None if left is None else left - len(block)
    return digest.digest()
