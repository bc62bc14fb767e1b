"""Describe the contents of an image file, and read its sub-bricks one at a time into float32."""

from __future__ import annotations

import bz2
import gzip
import io
import math
import os
import re
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_choice
from brainmap.errors import BrainmapWarning, InputError
from brainmap.places import room_for
from brainmap.record import name_unfinished

# The common code of a distribution in AFNI and NIfTI gives its name in AFNI and its number of parameters.
_KINDS = (
    None,
    None,
    ("Correl", 3),
    ("Ttest", 1),
    ("Ftest", 2),
    ("Zscore", 0),
    ("Chisq", 1),
    ("Beta", 2),
    ("Binom", 2),
    ("Gamma", 2),
    ("Poisson", 1),
)
_CODE_OF = {kind[0]: code for code, kind in enumerate(_KINDS) if kind}


@dataclass(frozen=True)
class Stat:
    """Describe the null distribution of a statistical sub-brick, with AFNI's names.

    Attributes
    ----------
    kind : str
        Correl (samples, fit parameters, orts), Ttest (dof), Ftest (dof, dof), Zscore, Chisq (dof), Beta (a, b), Binom
        (trials, p), Gamma (shape, scale) or Poisson (mean).
    parameters : tuple of float
        What stands in parentheses behind the kind.

    Examples
    --------
    >>> str(Stat("Ftest", (3, 120)))
    'Ftest(3,120)'
    >>> Stat.parse("Ttest(24)")
    Stat(kind='Ttest', parameters=(24.0,))
    """

    kind: str
    parameters: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_choice(self.kind, list(_CODE_OF), "statistic of a sub-brick")
        wanted = _KINDS[self.code][1]  # type: ignore[index]  # check_choice has refused the codes without a kind
        if len(self.parameters) != wanted:
            raise InputError(f"statistic {self.kind}: expected {wanted} parameters, got {len(self.parameters)}")

    @property
    def code(self) -> int:
        """The number that AFNI and NIfTI give this distribution."""
        return _CODE_OF[self.kind]

    def __str__(self) -> str:
        return f"{self.kind}({','.join(f'{p:g}' for p in self.parameters)})"

    @classmethod
    def parse(cls, text: str) -> Stat:
        """Parse text such as `Ttest(24)`, as AFNI writes it.

        Raises
        ------
        InputError
            The text is no such statistic.
        """
        match = re.fullmatch(r"\s*(\w+)\s*\(([^()]*)\)\s*", text)
        try:
            if match:
                return cls(match[1], tuple(float(p) for p in match[2].split(",") if p.strip()))
        except ValueError:
            pass
        raise InputError(f"statistic of a sub-brick: expected a text like 'Ttest(24)', got {text!r}")

    @classmethod
    def from_code(cls, code: int, parameters: Sequence[float]) -> Stat | None:
        """Return the statistic of an AFNI or NIfTI code; None for an unknown code or too few parameters."""
        kind = _KINDS[code] if 0 <= code < len(_KINDS) else None
        if kind is None or len(parameters) < kind[1] or not all(map(math.isfinite, parameters)):
            return None
        return cls(kind[0], tuple(float(p) for p in parameters[: kind[1]]))


@dataclass(frozen=True)
class ImageInfo:
    """Describe an image without its values.

    Attributes
    ----------
    path : Path or None
        The file; None for an image in memory.
    shape : tuple of int
        `(x, y, z)` for one sub-brick, else `(x, y, z, n_sub_bricks)`.
    affine : ndarray, (4, 4) [mm]
        Matrix from voxel indices to RAS+ coordinates (nibabel's convention, not AFNI's RAI).
    labels : tuple of str
        One label per sub-brick; `#0`, `#1`, ... if the file has no labels.
    stats : tuple of Stat or None
        One entry per sub-brick; None if it is not a statistic.
    label_table : mapping of int to str
        Names of the integer values of an atlas or ROI image.
    t_r : float or None [s]
        Repetition time; None if the file gives none.
    space : str
        `ORIG`, `MNI`, `TLRC`, `TT_N27`, ...
    view : str
        AFNI's `orig`, `acpc` or `tlrc`.
    history : str
        The commands that produced the file, one per line.
    start : float [s]
        Time of the first sub-brick, if there is a repetition time.
    description : str
        NIfTI's `descrip`, at most 80 characters; SPM writes there which regressor a beta is of.
    names_space : bool
        Whether the header names the space itself (AFNI's TEMPLATE_SPACE); otherwise `space` follows from the view or
        from NIfTI's form code.
    """

    path: Path | None
    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    labels: tuple[str, ...]
    stats: tuple[Stat | None, ...]
    label_table: Mapping[int, str]
    t_r: float | None
    space: str
    view: str
    history: str
    start: float = 0.0
    description: str = ""
    names_space: bool = False


@dataclass(frozen=True)
class Stored:
    """Hold where the sub-bricks lie in a file, and how to convert their bytes to values.

    `scales` holds (slope, intercept) of each sub-brick; `ranges` holds the (minimum, maximum) from the header.
    """

    info: ImageInfo
    file: Path
    offset: int
    dtypes: tuple[np.dtype[np.generic], ...]
    scales: tuple[tuple[float, float], ...]
    ranges: tuple[tuple[float, float], ...] | None = None


_AS_GZIP = zlib.MAX_WBITS | 16  # of zlib: with the header and the checksum of gzip
_DEFLATE_LIMIT = 1032  # deflate never compresses further, so a larger expected size means a damaged header
_CHUNK = 1 << 18  # voxels per conversion: they fit in the cache, and no memory beyond the result is needed
_DAMAGE = (OSError, EOFError, zlib.error)


def make_header_error(what: str, why: str) -> InputError:
    """Make the error of a header that contradicts itself or its file."""
    return InputError(f"{what}: {why}; the header is damaged, copy or write the file again")


def warn_of_header(text: str) -> None:
    """Warn of a header that can be read in spite of what is wrong with it."""
    warnings.warn(text, BrainmapWarning, stacklevel=2)


def is_compressed(file: Path) -> bool:
    """Return whether the file name indicates gzip or bzip2."""
    return file.suffix.lower() in (".gz", ".bz2")


@contextmanager
def open_compressed(file: Path) -> Iterator[IO[bytes]]:
    """Open a file and decompress it according to its suffix; a damaged or unreadable file raises `InputError`."""
    openers: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open}
    opener = openers.get(file.suffix.lower(), open)
    try:
        with cast(IO[bytes], opener(file, "rb")) as stream:
            yield stream
    except _DAMAGE as error:
        kind = "damaged compressed data" if is_compressed(file) else "cannot be read"
        raise InputError(f"{file}: {kind} ({error}); fetch or write the file again") from error


class _Compressing(io.RawIOBase):
    """Compress what is written as gzip; no time and no name are stored, so that the same image gives the same bytes.

    The digits of a map repeat nothing, and zeros repeat themselves: runs of one byte and Huffman's code take half of
    the time of a search for matches, and leave smaller files.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._written = file, 0
        self._packer = zlib.compressobj(1, zlib.DEFLATED, _AS_GZIP, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)

    def write(self, content: Any) -> int:
        """Compress some bytes, and return their number."""
        size = memoryview(content).nbytes
        self._file.write(self._packer.compress(content))
        self._written += size
        return size

    def tell(self) -> int:
        """Return the number of bytes written so far."""
        return self._written

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Write zeros up to a place that lies ahead; nothing can be written before."""
        if whence != os.SEEK_SET or offset < self._written:
            raise io.UnsupportedOperation("what is compressed is written in its order")
        self.write(bytes(offset - self._written))
        return self._written

    def close(self) -> None:
        """Write what is left; the file stays open."""
        if not self.closed:
            self._file.write(self._packer.flush())
        super().close()


@contextmanager
def write_in_place(target: Path) -> Iterator[IO[bytes]]:
    """Write a temporary file beside `target`, gzipped if the name says so, and move it into place on success."""
    part = name_unfinished(target)
    try:
        with room_for(target.name, target.parent), part.open("wb") as file:
            if target.suffix == ".gz":
                with _Compressing(file) as stream:
                    yield cast(IO[bytes], stream)
            else:
                yield file
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def check_size(file: Path, expected: int) -> None:
    """Refuse a file that cannot hold `expected` bytes before any memory is allocated for them."""
    found = file.stat().st_size
    if not is_compressed(file):
        _compare_sizes(file, expected, found)
    elif file.suffix.lower() == ".gz":
        if expected > found * _DEFLATE_LIMIT:
            raise InputError(f"{file} is truncated: expected {expected} bytes, got only {found} compressed bytes")
        with file.open("rb") as stream:
            stream.seek(-min(found, 4), os.SEEK_END)
            said = int.from_bytes(stream.read(4), "little")
        if said != expected % 2**32:  # truncated, longer, or made of several parts: only reading the file can tell
            _read_through(file, expected)


def _read_through(file: Path, expected: int) -> None:
    """Refuse a gzip file that does not hold `expected` bytes; all bytes are read."""
    held = 0
    with open_compressed(file) as stream:
        while block := stream.read(1 << 22):
            held += len(block)
    _compare_sizes(file, expected, held)


def _compare_sizes(file: Path, expected: int, found: int) -> None:
    if found != expected:
        state = "is truncated" if found < expected else "is longer than its header says"
        raise InputError(f"{file} {state}: expected {expected} bytes, got {found}")


def read_sub_bricks(stored: Stored, indices: Sequence[int]) -> NDArray[np.float32]:
    """Read the sub-bricks named by `indices`, in that order.

    Returns
    -------
    ndarray of float32, (x, y, z, len(indices))
        The array is in Fortran order; reading uses hardly more memory than the array itself.

    Raises
    ------
    InputError
        If bytes are missing, left over or damaged, or if integers or doubles do not fit into float32.
    """
    grid = stored.info.shape[:3]
    n_voxels = math.prod(grid)
    sizes = [n_voxels * dtype.itemsize for dtype in stored.dtypes]
    expected = stored.offset + sum(sizes)
    check_size(stored.file, expected)
    try:
        values = np.empty((len(indices), n_voxels), np.float32)
    except (MemoryError, ValueError) as error:
        raise InputError(
            f"{stored.file}: {len(indices)} sub-bricks of {n_voxels} voxels do not fit in memory"
        ) from error
    first = {brick: position for position, brick in reversed(list(enumerate(indices)))}
    with open_compressed(stored.file) as stream:
        done = _skip_bytes(stream, stored.offset)
        for brick, size in enumerate(sizes):
            if brick in first:
                done += _read_one(stream, stored, brick, values[first[brick]])
            elif is_compressed(stored.file):
                done += _skip_bytes(stream, size)
            else:
                done = stream.seek(size, 1)
            if done < stored.offset + sum(sizes[: brick + 1]):
                raise InputError(f"{stored.file} is truncated: expected {expected} bytes, got {done}")
        # Reading past the end makes gzip verify its checksum.
        if is_compressed(stored.file) and (left := _skip_bytes(stream, 1 << 62)):
            raise InputError(
                f"{stored.file} is longer than its header says: expected {expected} bytes, got {expected + left}"
            )
    for position, brick in enumerate(indices):
        if first[brick] != position:
            values[position] = values[first[brick]]
    return values.reshape(len(indices), *grid[::-1]).T


def _skip_bytes(stream: IO[bytes], size: int) -> int:
    done = 0
    while done < size and (got := len(stream.read(min(size - done, 1 << 20)))):
        done += got
    return done


def _fill_array(stream: IO[bytes], raw: NDArray[np.generic]) -> int:
    view = memoryview(cast(Any, raw.view(np.uint8)))
    done = 0
    while done < len(view) and (got := cast(Any, stream).readinto(view[done:])):
        done += got
    return done


def _read_one(stream: IO[bytes], stored: Stored, brick: int, out: NDArray[np.float32]) -> int:
    """Read one sub-brick into `out`; return the number of bytes read, which is smaller if the file ends early."""
    dtype, (slope, intercept) = stored.dtypes[brick], stored.scales[brick]
    plain = slope == 1 and intercept == 0
    if plain and dtype == np.float32 and dtype.isnative:
        return _fill_array(stream, out)
    done = 0
    for start in range(0, out.size, _CHUNK):
        part = out[start : start + _CHUNK]
        raw = np.empty(part.size, dtype)
        got = _fill_array(stream, raw)
        done += got
        if got < raw.nbytes:
            return done
        with np.errstate(over="ignore", invalid="ignore"):
            # Scaling in double precision gives the float32 nearest to the stored value.
            part[:] = raw if plain else raw * np.float64(slope) + intercept
        check_float32(raw, part, plain, f"{stored.file}, sub-brick {brick}")
    return done


def check_float32(raw: NDArray[np.generic], out: NDArray[np.float32], plain: bool, what: str) -> None:
    """Refuse integers that float32 would round and numbers that it would turn into infinity."""
    if plain and raw.dtype.kind in "iu" and raw.dtype.itemsize >= 4:
        # Above 2**24, neighboring integers share a float32, so ROI labels would merge.
        lost = (out.astype(np.float64) != raw) | (np.abs(out) > 2.0**53)
        if lost.any():
            raise InputError(
                f"{what}: the integer {raw[lost][0]} has no exact float32; renumber the labels below 16777216"
            )
    elif not np.isfinite(out).all() and np.isfinite(raw).sum() != np.isfinite(out).sum():
        raise InputError(f"{what}: values beyond 3.4e38 do not fit float32; rescale the image")


def check_free(files: Sequence[Path], overwrite: bool, what: str = "save_image") -> None:
    """Refuse files in a folder that does not exist, and files that exist unless they may be overwritten."""
    folder = files[0].parent
    if not folder.is_dir():
        raise InputError(f"{what}: expected a folder that exists, got {folder}; make it first")
    taken = [file for file in files if file.exists()]
    if taken and not overwrite:
        raise InputError(
            f"{what}: {taken[0]} exists; overwrite it (overwrite=True, --overwrite) or choose another name"
        )
