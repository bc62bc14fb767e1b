"""RDMs on disk: HDF5 in the layout of rsatoolbox, in any alphabet, whole or not at all."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainmap.checks import existing_file, some
from brainmap.errors import InputError
from brainmap.record import atomic

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs

ABSENT = "absent"
"""Attribute of a descriptor: the places where it is None, as rsatoolbox leaves it where RDMs are put together."""


def save_rdms(rdms: RDMs, path: str | Path) -> Path:
    """Write RDMs as HDF5 in the layout of rsatoolbox (its `load_rdm` reads it), whole or not at all.

    Labels are stored as UTF-8, so any alphabet survives `load_rdms`.

    Raises
    ------
    InputError
        The folder does not exist.
    """
    import h5py

    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f"save_rdms: the folder {path.parent} does not exist; make it first")
    with atomic(path) as beside, h5py.File(beside, "w") as file:
        file.attrs["rsatoolbox_version"] = importlib.metadata.version("rsatoolbox")
        _write(file, rdms.to_dict())
    return path


def load_rdms(path: str | Path) -> RDMs:
    """Read RDMs that `save_rdms` or rsatoolbox wrote.

    Raises
    ------
    InputError
        No such file, or not RDMs.
    """
    import h5py
    from rsatoolbox.rdm.rdms import rdms_from_dict

    path = existing_file(path, "RDMs")
    try:
        with h5py.File(path, "r") as file:
            found = _read(file)
    except OSError as error:
        raise InputError(f"RDMs: {path} is no HDF5 file, or is cut short; make it again") from error
    if "dissimilarities" not in found:
        raise InputError(f"RDMs: {path} holds {some(sorted(found))}, wanted 'dissimilarities'")
    wanted = {key: found.get(key, {}) for key in ("descriptors", "rdm_descriptors", "pattern_descriptors")}
    rdms: RDMs = rdms_from_dict(
        {
            "dissimilarities": found["dissimilarities"],
            "dissimilarity_measure": found.get("dissimilarity_measure"),
            **wanted,
        }
    )
    return rdms


def _write(group: Any, entries: Mapping[str, Any]) -> None:
    import h5py

    for key, value in entries.items():
        if isinstance(value, Mapping):
            _write(group.create_group(key), value)
        elif isinstance(value, str):
            group.attrs[key] = str(value)
        elif value is None:
            group[key] = h5py.Empty("f")  # as rsatoolbox does
        else:
            absent = [k for k, one in enumerate(value) if one is None] if isinstance(value, list | tuple) else []
            array = np.asarray(["" if one is None else str(one) for one in value] if absent else value)
            group[key] = np.char.encode(array, "utf-8") if array.dtype.kind == "U" else array
            if absent:
                group[key].attrs[ABSENT] = absent


def _read(group: Any) -> dict[str, Any]:
    import h5py

    found: dict[str, Any] = dict(group.attrs)
    for key, value in group.items():
        if isinstance(value, h5py.Group):
            found[key] = _read(value)
        elif value.shape is not None:
            array = value[()]
            found[key] = np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array
            if ABSENT in value.attrs:
                found[key] = found[key].astype(object)
                found[key][value.attrs[ABSENT]] = None
    return found
