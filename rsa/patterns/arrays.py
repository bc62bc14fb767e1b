"""Find arrays in .npy, .npz, .mat, HDF5 and NetCDF-4 files from their headers, and read one of them."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_file, list_some
from brainmap.errors import InputError
from brainmap.rsa.images.names import ARRAY_ENDINGS
from brainmap.types import Floats

_MATLAB_NUMBERS = ("double", "single", *(f"{sign}int{n}" for sign in ("", "u") for n in (8, 16, 32, 64)))
_BROKEN = (ValueError, TypeError, IndexError, KeyError, OSError, EOFError, zlib.error, zipfile.BadZipFile)


@dataclass(frozen=True)
class StoredArray:
    """Describe one array of a file before its values are read.

    Attributes
    ----------
    name : str
        Name in the file; empty in a .npy file.
    shape : tuple of int
    obstacle : str
        The reason why this array cannot be responses; empty if it can be.
    read : callable
        Reads the values.
    """

    name: str
    shape: tuple[int, ...]
    obstacle: str
    read: Callable[[], NDArray[Any]]

    @property
    def is_table(self) -> bool:
        """Tell whether the array has numbers on two or three axes."""
        return not self.obstacle and len(self.shape) in (2, 3) and sum(n > 1 for n in self.shape) > 1

    def describe(self) -> str:
        """Describe the array by name and shape."""
        return f"{self.name or 'array'} ({format_shape(self.shape)}{', ' * bool(self.obstacle)}{self.obstacle})"

    def read_values(self, what: str) -> Floats:
        """Read the values in double precision.

        Raises
        ------
        InputError
            If the file breaks off, or the values are complex.
        """
        with _explain_damage(what):
            values = self.read()
        if values.dtype.kind not in "iuf" or values.shape != self.shape:
            raise InputError(
                f"{what}: expected real numbers of shape {format_shape(self.shape)}, got {values.dtype} of shape "
                f"{format_shape(values.shape)}; save real numbers"
            )
        return np.asarray(values, np.float64)


def is_response_table(name: object) -> bool:
    """Tell whether a name is that of a file of arrays.

    Examples
    --------
    >>> is_response_table("sub-01.mat"), is_response_table("sub-01.nii.gz")
    (True, False)
    """
    return isinstance(name, str | Path) and Path(name).suffix.lower() in ARRAY_ENDINGS


def find_array(file: str | Path, key: str | None = None) -> StoredArray:
    """Find the array of responses in a file from its header alone.

    Raises
    ------
    InputError
        If the file holds no array of numbers on two or three axes, or several and no `key` chooses one; if the chosen
        one holds objects, cells or text; or if the file is damaged or shorter than its header says.
    """
    path = check_file(file, "response table")
    with _explain_damage(str(path)):
        arrays = {array.name: array for array in _list_arrays(path)}
    if key is not None:
        if "" in arrays:
            raise InputError(f"{path}: expected no key, since a .npy file holds one array, got {key!r}; leave it out")
        chosen = arrays[check_choice(key.strip("/"), list(arrays), f"{path}: key")]
        if chosen.obstacle or not chosen.is_table:
            raise InputError(
                f"{path}: expected numbers on two or three axes (items, voxels, repetitions), got {chosen.describe()}; "
                "save the responses as one array of numbers"
            )
        return chosen
    fitting = [array for array in arrays.values() if array.is_table]
    if len(fitting) == 1:
        return fitting[0]
    listed = list_some([array.describe() for array in fitting or arrays.values()], 8).replace("'", "")
    if fitting:
        raise InputError(f"{path}: expected one array of responses, got {len(fitting)}: {listed}; name one as key")
    raise InputError(
        f"{path}: expected an array of numbers on two or three axes (items, voxels, repetitions), got "
        f"{listed or 'no array'}; save the responses as one array of numbers"
    )


def format_shape(shape: tuple[int, ...]) -> str:
    """Write a shape.

    Examples
    --------
    >>> format_shape((165, 7694, 3))
    '165 x 7694 x 3'
    """
    return " x ".join(map(str, shape)) or "scalar"


@contextmanager
def _explain_damage(what: str) -> Iterator[None]:
    """Turn what libraries raise for a damaged file into an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except _BROKEN as error:
        raise InputError(f"{what}: expected a whole file, got a damaged one ({error}); write it again") from error


def _list_arrays(path: Path) -> list[StoredArray]:
    import h5py

    ending = path.suffix.lower()
    if ending == ".npy":
        return [_describe_npy(path)]
    if ending == ".npz":
        return _list_npz(path)
    if h5py.is_hdf5(path):
        return _list_hdf5(path)
    if ending == ".mat":
        return _list_matlab(path)
    with path.open("rb") as file:
        if file.read(3) == b"CDF":
            raise InputError(f"{path}: expected NetCDF-4, got a classic NetCDF file; convert it with `nccopy -k nc4`")
    raise InputError(f"{path}: expected an HDF5 file, as its ending says, got something else; check the file")


def _read_header(file: IO[bytes], size: int, what: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read the header of an array in numpy's format, and compare the size that it promises with that of the file."""
    major, _ = npy.read_magic(file)
    if major not in (1, 2):
        raise InputError(f"{what}: expected an array of numbers, got version {major} of the format; save it again")
    shape, _, dtype = (npy.read_array_header_1_0 if major == 1 else npy.read_array_header_2_0)(file)
    wanted = file.tell() + math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and size < wanted:
        raise InputError(f"{what}: expected {wanted} bytes, as its header says, got {size}; copy the file again")
    return shape, dtype


def _explain_dtype(dtype: np.dtype[Any]) -> str:
    """Return why values of this type cannot be responses; empty if they can be."""
    if dtype.hasobject:
        return "Python objects, which are never loaded"
    return "" if dtype.kind in "iuf" else f"{dtype}, no real numbers"


def _describe_npy(path: Path) -> StoredArray:
    with path.open("rb") as file:
        shape, dtype = _read_header(file, path.stat().st_size, str(path))
    return StoredArray("", shape, _explain_dtype(dtype), lambda: np.load(path, mmap_mode="r", allow_pickle=False))


def _list_npz(path: Path) -> list[StoredArray]:
    def read(name: str) -> NDArray[Any]:
        with np.load(path, allow_pickle=False) as stored:
            return np.asarray(stored[name])

    found = []
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.endswith(".npy"):
                name = member.filename.removesuffix(".npy")
                with archive.open(member) as file:
                    shape, dtype = _read_header(file, member.file_size, f"{path} {name}")
                found.append(StoredArray(name, shape, _explain_dtype(dtype), _bind(read, name)))
    return found


def _list_matlab(path: Path) -> list[StoredArray]:
    """List the variables of a .mat file of version 4 or 5."""
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError

    def read(name: str) -> NDArray[Any]:
        try:
            return np.asarray(loadmat(path, variable_names=[name])[name])
        except MatReadError as error:
            raise ValueError(str(error)) from error

    try:
        listed = whosmat(path)
    except MatReadError as error:
        raise ValueError(str(error)) from error
    return [
        StoredArray(name, tuple(shape), "" if kind in _MATLAB_NUMBERS else f"a {kind} array", _bind(read, name))
        for name, shape, kind in listed
    ]


def _list_hdf5(path: Path) -> list[StoredArray]:
    """List the arrays of an HDF5 file, a NetCDF-4 file, or a .mat file of version 7.3, whose axes are reversed."""
    import h5py

    found: list[StoredArray] = []

    def read(name: str) -> NDArray[Any]:
        with h5py.File(path) as file:
            values = np.asarray(file[name])
            missing = _list_missing_values(file[name].attrs)
            if missing and values.dtype.kind in "iuf":
                values = np.where(np.isin(values, missing), np.nan, values)
            return values.T if "MATLAB_class" in file[name].attrs else values

    def visit(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset) or name.startswith("#"):
            return
        shape = tuple(item.shape or ())
        reversed_axes = "MATLAB_class" in item.attrs
        found.append(StoredArray(name, shape[::-1] if reversed_axes else shape, _explain_hdf5(item), _bind(read, name)))

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def _bind(read: Callable[[str], NDArray[Any]], name: str) -> Callable[[], NDArray[Any]]:
    return lambda: read(name)


def _list_missing_values(attributes: Mapping[str, Any]) -> list[float]:
    """List the values that stand for missing ones in NetCDF."""
    named = (attributes.get(key) for key in ("_FillValue", "missing_value"))
    return [float(one) for value in named if value is not None for one in np.ravel(value)]


def _explain_hdf5(item: Any) -> str:
    """Return why an HDF5 data set cannot be responses; empty if it can be."""
    kind = item.attrs.get("MATLAB_class", b"")
    kind = kind.decode() if isinstance(kind, bytes) else str(kind)
    if kind and kind not in _MATLAB_NUMBERS:
        return f"a {kind} array"
    if item.dtype.kind not in "iuf":
        return "references to objects" if item.dtype.hasobject else f"{item.dtype}, no real numbers"
    if "MATLAB_empty" in item.attrs or not item.size:
        return "empty"
    if {"scale_factor", "add_offset"} & set(item.attrs):
        return "packed with scale_factor or add_offset"
    if not item.id.get_storage_size() and not item.external and not item.is_virtual:
        return "its values were never written"
    return ""
