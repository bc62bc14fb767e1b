"""Read the design of SPM's first level from SPM.mat: the names of its regressors, its betas and its conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from brainmap.checks import check_file
from brainmap.errors import InputError


@dataclass(frozen=True, kw_only=True)
class SpmDesign:
    """Hold what SPM.mat says of the regressors.

    Attributes
    ----------
    names : tuple of str
        `SPM.xX.name`, such as `Sn(1) Tone*bf(1)`, in the order of the betas.
    files : tuple of str
        Names of the images of the betas, without folders; empty if the model was not estimated.
    conditions, modulators : tuple of frozenset of str
        Conditions of each session, and their parametric modulators (`SPM.Sess(k).U.name`).
    basis : str
        Name of the basis functions (`SPM.xBF.name`); empty if it is not known.
    """

    names: tuple[str, ...]
    files: tuple[str, ...] = ()
    conditions: tuple[frozenset[str], ...] = ()
    modulators: tuple[frozenset[str], ...] = ()
    basis: str = ""


def read_spm_design(path: str | Path) -> SpmDesign:
    """Read SPM.mat of MATLAB's versions 5 to 7 and 7.3.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    SpmDesign

    Raises
    ------
    InputError
        If the file is missing, damaged, or holds no design of SPM.
    """
    file = check_file(path, "SPM.mat")
    try:
        spm = _read_hdf5(file) if h5py.is_hdf5(file) else _read_mat(file)
    except InputError:
        raise
    except Exception as error:  # scipy and h5py raise many kinds for damaged files
        raise InputError(f"{file}: expected the design of an SPM model, got a damaged file ({error})") from error
    sessions = spm["sessions"]
    return SpmDesign(
        names=tuple(name.strip() for name in spm["names"]),
        files=tuple(Path(name.strip().replace("\\", "/")).name for name in spm["files"]),
        conditions=tuple(frozenset(names[0].strip() for names in one if names) for one in sessions),
        modulators=tuple(frozenset(name.strip() for names in one for name in names[1:]) for one in sessions),
        basis=spm["basis"].strip(),
    )


def _refuse(file: Path) -> InputError:
    return InputError(f"{file}: expected the design of an SPM model (SPM.xX.name), got something else; name SPM.mat")


def _read_mat(file: Path) -> dict[str, Any]:
    """Read a file of version 5 to 7, in which structs are dicts and arrays of structs are lists."""
    from scipy.io import loadmat

    spm = loadmat(file, variable_names=["SPM"], simplify_cells=True).get("SPM")
    design = spm.get("xX") if isinstance(spm, dict) else None
    if not isinstance(design, dict) or "name" not in design:
        raise _refuse(file)
    basis = spm.get("xBF")
    return {
        "names": _list_texts(design["name"]),
        "files": [str(one["fname"]) for one in _list_structs(spm.get("Vbeta"))],
        "sessions": [
            [_list_texts(trial["name"]) for trial in _list_structs(session.get("U"))]
            for session in _list_structs(spm.get("Sess"))
        ],
        "basis": str(basis.get("name", "")) if isinstance(basis, dict) else "",
    }


def _list_structs(found: Any) -> list[Mapping[str, Any]]:
    """List the structs of an array of them; one struct is no list in MATLAB, and none is an empty array."""
    if isinstance(found, Mapping):
        return [found]
    return [] if found is None else [one for one in found if isinstance(one, Mapping)]


def _list_texts(found: Any) -> list[str]:
    """List the texts of a cell; a cell with one text is read as this text."""
    return [found] if isinstance(found, str) else [str(one) for one in found]


def _read_hdf5(file: Path) -> dict[str, Any]:
    """Read a file of version 7.3, in which cells and arrays of structs hold references."""
    with h5py.File(file) as stored:
        spm = stored.get("SPM")
        if not isinstance(spm, h5py.Group) or "xX/name" not in spm:
            raise _refuse(file)

        def follow(group: Any, field: str) -> list[Any]:
            """List the values of a field, one a struct."""
            if not isinstance(group, h5py.Group) or field not in group:
                return []
            item = group[field]
            several = isinstance(item, h5py.Dataset) and item.dtype == h5py.ref_dtype
            if several and "MATLAB_class" not in item.attrs:  # a cell says its class, the field of an array does not
                return [stored[one] for one in item[()].ravel()]
            return [item]

        def read_texts(item: Any) -> list[str]:
            if not isinstance(item, h5py.Dataset) or "MATLAB_empty" in item.attrs:
                return []
            if item.dtype == h5py.ref_dtype:
                return [text for one in item[()].ravel() for text in read_texts(stored[one])]
            return ["".join(map(chr, item[()].ravel()))]

        return {
            "names": read_texts(spm["xX/name"]),
            "files": [text for one in follow(spm.get("Vbeta"), "fname") for text in read_texts(one)],
            "sessions": [
                [read_texts(one) for one in follow(trials, "name")] for trials in follow(spm.get("Sess"), "U")
            ],
            "basis": "".join(read_texts(spm["xBF/name"])) if "xBF/name" in spm else "",
        }
