"""Translate keys of the study file that have a new name, so that each word of the file has one meaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from brainmap.errors import InputError

RENAMED = {
    "brain": {"precision": "covariance"},
    "brain.glm": {"noise": "noise_model"},
    "rsa.inference": {"participants": "test"},
    "searchlight": {"precision": "noise_per"},
}
"""The new name of each old key, by section."""
REFUSED_FROM = "0.2"
"""The version of brainmap that takes the old keys no longer; this module is deleted then."""

Renaming = Mapping[str, Mapping[str, str]]


def replace_old_keys(content: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the content of a study file under the new keys, and a note about each old key that it has.

    Raises
    ------
    InputError
        A section has a key under its old and its new name.

    Examples
    --------
    >>> replace_old_keys({"searchlight": {"precision": "sphere"}})
    ({'searchlight': {'noise_per': 'sphere'}}, ['[searchlight] precision is now called noise_per; \
brainmap 0.2 will refuse the old key'])
    """
    notes: list[str] = []
    return _rename_keys(content, "", RENAMED, notes), list(dict.fromkeys(notes))


def restore_first_keys(settings: Mapping[str, Any], section: str = "") -> dict[str, Any]:
    """Return dumped settings under the names that their keys had first.

    Keys of the ledger are made from these, so that a new name of a setting makes no result out of date.

    Parameters
    ----------
    settings : mapping
    section : str
        Where the settings stand in the study file, as "brain.glm"; by default they are the whole file.

    Examples
    --------
    >>> restore_first_keys({"noise_per": "voxel"}, "searchlight")
    {'precision': 'voxel'}
    """
    backward = {place: {new: old for old, new in names.items()} for place, names in RENAMED.items()}
    first: dict[str, Any] = _rename_keys(settings, section, backward)
    return first


def _rename_keys(content: Any, section: str, names: Renaming, notes: list[str] | None = None) -> Any:
    """Rename the keys of a section and of the sections in it; add a note about each to `notes`."""
    if isinstance(content, list | tuple):
        return type(content)(_rename_keys(one, section, names, notes) for one in content)
    if not isinstance(content, Mapping):
        return content
    found, new = {}, names.get(section, {})
    for key, value in content.items():
        if key in new:
            if new[key] in content:
                raise InputError(
                    f"[{section}] expected one of {new[key]} and {key}, got both, which are the new and the old name "
                    f"of one key; delete {key}"
                )
            if notes is not None:
                notes.append(
                    f"[{section}] {key} is now called {new[key]}; brainmap {REFUSED_FROM} will refuse the old key"
                )
        found[new.get(key, key)] = _rename_keys(value, f"{section}.{key}".removeprefix("."), names, notes)
    return found
