"""Write and read RDMs as HDF5 in the layout of rsatoolbox, with Unicode labels, atomic writes and a digest."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

import h5py
import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_file, list_some
from brainmap.errors import InputError
from brainmap.record import atomic
from brainmap.rsa.rdm.hdf5 import ABSENT, Refused, check_heaps, read_group
from brainmap.types import RDMs


class PlainRdms:
    """Hold what comparisons and figures read of an rsatoolbox `RDMs`, under the same names, with two of its methods.

    Parameters
    ----------
    dissimilarities : ndarray (n_rdms, n_pairs)
    dissimilarity_measure : str, optional
    descriptors : mapping
    rdm_descriptors, pattern_descriptors : mapping of str to sequence
        `index` counts from 0 where it is not given, as in rsatoolbox.

    Examples
    --------
    >>> rdms = PlainRdms(np.ones((2, 3)), pattern_descriptors={"condition": ["a", "b", "c"]})
    >>> rdms.n_rdm, rdms.n_cond, rdms.rdm_descriptors["index"]
    (2, 3, [0, 1])
    """

    def __init__(
        self,
        dissimilarities: NDArray[Any],
        *,
        dissimilarity_measure: str | None = None,
        descriptors: Mapping[str, Any] | None = None,
        rdm_descriptors: Mapping[str, Sequence[Any]] | None = None,
        pattern_descriptors: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        self.dissimilarities, self.dissimilarity_measure = dissimilarities, dissimilarity_measure
        self.n_rdm = len(dissimilarities)
        self.n_cond = (1 + round((1 + 8 * dissimilarities.shape[1]) ** 0.5)) // 2
        self.descriptors = dict(descriptors or {})
        self.rdm_descriptors = {"index": list(range(self.n_rdm)), **(rdm_descriptors or {})}
        self.pattern_descriptors = {"index": list(range(self.n_cond)), **(pattern_descriptors or {})}

    def subset(self, by: str, value: Any) -> PlainRdms:
        """Select the RDMs whose descriptor `by` is a value, or one of several."""
        wanted = list(value) if isinstance(value, list | tuple | np.ndarray) else [value]
        rows = [k for k, one in enumerate(self.rdm_descriptors[by]) if one in wanted]
        return PlainRdms(
            self.dissimilarities[rows],
            dissimilarity_measure=self.dissimilarity_measure,
            descriptors=self.descriptors,
            rdm_descriptors={key: [values[k] for k in rows] for key, values in self.rdm_descriptors.items()},
            pattern_descriptors=self.pattern_descriptors,
        )

    def get_matrices(self) -> NDArray[Any]:
        """Return the RDMs as square matrices (n_rdms, n, n) with zeros on the diagonal."""
        squares = np.zeros((self.n_rdm, self.n_cond, self.n_cond))
        i, j = np.triu_indices(self.n_cond, 1)
        squares[:, i, j] = squares[:, j, i] = self.dissimilarities
        return squares


def make_plain_rdms(content: Mapping[str, Any]) -> PlainRdms | None:
    """Make RDMs of the content of a file; None for content that only rsatoolbox knows how to arrange.

    Such are square matrices, a single vector, and descriptors that are no lists.
    """
    vectors, described = content["dissimilarities"], (content["rdm_descriptors"], content["pattern_descriptors"])
    values = [one for group in described for one in group.values()]
    if vectors.ndim != 2 or any(isinstance(one, str | Mapping) or np.ndim(one) != 1 for one in values):
        return None
    rdm_descriptors, pattern_descriptors = ({key: list(values) for key, values in one.items()} for one in described)
    return PlainRdms(
        vectors,
        dissimilarity_measure=content["dissimilarity_measure"],
        descriptors=content["descriptors"],
        rdm_descriptors=rdm_descriptors,
        pattern_descriptors=pattern_descriptors,
    )


"""Attribute of a descriptor: the positions where it is None, as rsatoolbox leaves it when it concatenates RDMs."""

FAILURES = (KeyError, ValueError, TypeError, RuntimeError, AttributeError, IndexError, OverflowError, MemoryError)
"""Exceptions that h5py raises on a damaged file, besides `OSError`."""


_BLOCK = 512
"""Number of bytes before the HDF5 part (the user block), which every reader of HDF5 skips."""
_MARK = b"brainmap sha256 "
_MOST_IN_ATTRIBUTE = 4000
_LISTS = ("descriptors", "rdm_descriptors", "pattern_descriptors")


def save_rdms(rdms: RDMs, path: str | Path) -> Path:
    """Write RDMs as HDF5 in the layout of rsatoolbox, whose `load_rdm` reads the file.

    The file is written completely or not at all. Labels are stored as UTF-8, and those with letters beyond ASCII where
    rsatoolbox, too, reads them as such (up to 4,000 items). The file begins with a digest of all bytes
    that follow, by which `load_rdms` detects any change.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        RDMs with any descriptors.
    path : path
        The file; one that is there is replaced.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    InputError
        The folder does not exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f"save_rdms: the folder {path.parent} does not exist; make it first")
    with atomic(path) as beside:
        with h5py.File(beside, "w", userblock_size=_BLOCK) as file:
            file.attrs["rsatoolbox_version"] = importlib.metadata.version("rsatoolbox")
            _write_group(file, rdms.to_dict())
        with beside.open("r+b") as raw:
            raw.seek(_BLOCK)
            digest = hashlib.file_digest(raw, "sha256").hexdigest()
            raw.seek(0)
            raw.write(_MARK + digest.encode() + b"\n")
    return path


def load_rdms(path: str | Path) -> RDMs:
    """Read RDMs that `save_rdms` or rsatoolbox wrote.

    Links to other files are not followed, and no more memory is used than the size of the file allows for.

    Parameters
    ----------
    path : path
        An HDF5 file.

    Returns
    -------
    rsatoolbox.rdm.RDMs

    Raises
    ------
    InputError
        The file does not exist or does not hold RDMs, a file that brainmap wrote has changed, or the file has links to
        data outside of it.
    """
    path = check_file(path, "RDMs")
    return _make_rdms(path, _read_content(path))


def load_plain_rdms(path: str | Path) -> RDMs:
    """Read RDMs as `load_rdms` does, for functions that compare or draw them, without the import of rsatoolbox.

    The result has the attributes of `RDMs`, and of its methods `subset` and `get_matrices` only, except where the file
    holds square matrices or descriptors that only rsatoolbox arranges.

    Raises
    ------
    InputError
        As in `load_rdms`.
    """
    path = check_file(path, "RDMs")
    content = _read_content(path)
    plain = make_plain_rdms(content)
    return _make_rdms(path, content) if plain is None else cast("RDMs", plain)


def _make_rdms(path: Path, content: dict[str, Any]) -> RDMs:
    from rsatoolbox.rdm.rdms import rdms_from_dict  # slow to import

    try:
        rdms: RDMs = rdms_from_dict(content)
    except (AttributeError, ValueError, TypeError, AssertionError, IndexError) as error:
        _refuse_rdms(path, str(error))
    return rdms


def read_rdm_descriptors(path: str | Path) -> dict[str, Any]:
    """Read what `load_rdms` would return as `rdm_descriptors`, without the import of rsatoolbox.

    Raises
    ------
    InputError
        As in `load_rdms`.
    """
    found: dict[str, Any] = _read_content(check_file(path, "RDMs"))["rdm_descriptors"]
    return found


def _read_content(path: Path) -> dict[str, Any]:
    """Read and check the content of a file of RDMs."""
    _check_bytes(path)
    try:
        check_heaps(path)
        with h5py.File(path, "r") as file:
            found = read_group(file, path.stat().st_size)
    except Refused as error:
        _refuse_rdms(path, str(error))
    except OSError as error:
        raise InputError(f"RDMs: {path} is no HDF5 file, or it is cut short; make it again") from error
    except FAILURES as error:
        _refuse_rdms(path, f"{type(error).__name__}: {error}")
    if "dissimilarities" not in found:
        raise InputError(f"RDMs: expected 'dissimilarities' in {path}, got {list_some(sorted(found))}")
    vectors = np.asarray(found["dissimilarities"])
    descriptors = {key: found.get(key, {}) for key in _LISTS}
    _check_shape(path, vectors, descriptors)
    measure = found.get("dissimilarity_measure")
    return {"dissimilarities": vectors, "dissimilarity_measure": measure, **descriptors}


def _refuse_rdms(path: Path, why: str) -> NoReturn:
    raise InputError(f"RDMs: the RDMs in {path} cannot be trusted: {' '.join(why.split())}; make the file again")


def _check_bytes(path: Path) -> None:
    """Refuse a file that brainmap wrote and that has changed since; other files begin with HDF5's signature."""
    with path.open("rb") as raw:
        block = raw.read(_BLOCK)
        if block.startswith(b"\x89HDF\r\n\x1a\n"):
            return
        raw.seek(_BLOCK)
        ours = raw.read(8) == b"\x89HDF\r\n\x1a\n" or block.startswith(_MARK)
        if not ours:
            raise InputError(f"RDMs: {path} is no HDF5 file, or it is cut short; make it again")
        raw.seek(_BLOCK)
        said = _MARK + hashlib.file_digest(raw, "sha256").hexdigest().encode() + b"\n"
    if block != said.ljust(_BLOCK, b"\0"):
        _refuse_rdms(path, "its bytes changed since it was written")


def _check_shape(path: Path, vectors: Any, descriptors: Mapping[str, Any]) -> None:
    """Refuse data that cannot be RDMs: a wrong type, an impossible number of pairs, or descriptors of wrong length."""
    if vectors.dtype.kind not in "fiu" or vectors.ndim not in (1, 2, 3) or not vectors.size:
        _refuse_rdms(
            path, f"dissimilarities are {vectors.dtype} of shape {vectors.shape}, expected numbers (n_rdms, n_pairs)"
        )
    if vectors.ndim == 3:
        n_rdms, n_items = vectors.shape[:2]
        square = vectors.shape[2] == n_items
    else:
        n_rdms, n_pairs = (1, *vectors.shape)[-2:]
        n_items = (1 + round((1 + 8 * n_pairs) ** 0.5)) // 2
        square = n_items * (n_items - 1) // 2 == n_pairs
    if not square:
        _refuse_rdms(path, f"dissimilarities of shape {vectors.shape} are not those of all pairs of some items")
    if np.isinf(vectors).any():
        _refuse_rdms(path, "dissimilarities are infinite")
    for kind, count in zip(_LISTS, (None, n_rdms, n_items), strict=True):
        if not isinstance(descriptors[kind], Mapping):
            _refuse_rdms(path, f"{kind} is no group")
        for name, values in descriptors[kind].items():
            length = len(values) if isinstance(values, np.ndarray) and values.ndim else 1
            if count is not None and length != count:
                _refuse_rdms(path, f"{kind} {name!r} has {length} values, expected {count}")


def _write_group(group: Any, entries: Mapping[str, Any]) -> None:
    for key, value in entries.items():
        if isinstance(value, Mapping):
            _write_group(group.create_group(key), value)
        elif isinstance(value, str):
            group.attrs[key] = str(value)
        elif value is None:
            group[key] = h5py.Empty("f")  # as rsatoolbox does
        else:
            absent = [k for k, one in enumerate(value) if one is None] if isinstance(value, list | tuple) else []
            array = np.asarray(["" if one is None else str(one) for one in value] if absent else value)
            if _needs_attribute(array) and not absent:
                group.attrs.create(key, array.astype(object), dtype=h5py.string_dtype("utf-8"))
                continue
            group[key] = np.char.encode(array, "utf-8") if array.dtype.kind == "U" else array
            if absent:
                group[key].attrs[ABSENT] = absent


def _needs_attribute(array: NDArray[Any]) -> bool:
    """Tell whether texts are stored as an attribute of their group, and not as data.

    rsatoolbox decodes data as ASCII and attributes as UTF-8. An attribute holds 64 KiB at most, which are 16 bytes a
    text; longer lists with other letters stay data, which `load_rdms` reads and `rsatoolbox.rdm.load_rdm` refuses.
    """
    return array.dtype.kind == "U" and array.size <= _MOST_IN_ATTRIBUTE and not all(map(str.isascii, array.flat))
