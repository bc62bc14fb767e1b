"""Find data files in the wheels of other packages without importing these, which can take seconds and 100 MB."""

from __future__ import annotations

import importlib.util
from pathlib import Path

MNI152 = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
"""The template MNI152 at 1 mm, in nilearn's wheel."""


def find_in_nilearn(name: str) -> Path | None:
    """Find a file that nilearn's wheel ships; None where nilearn or the file is not there.

    Parameters
    ----------
    name : str
        Relative to the folder of the package, with `/`.

    Examples
    --------
    >>> find_in_nilearn("datasets/data/fsaverage5/pial_left.gii.gz").name
    'pial_left.gii.gz'
    >>> find_in_nilearn("datasets/data/no-such-file") is None
    True
    """
    found = importlib.util.find_spec("nilearn")
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        path = Path(folder, name)
        if path.is_file():
            return path
    return None
