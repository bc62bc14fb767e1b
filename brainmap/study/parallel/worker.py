"""Define the tasks of Dask workers. The scheduler reads this module too, so heavy imports wait until a task begins."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

from brainmap.errors import BrainmapWarning, InputError
from brainmap.record import versions

if TYPE_CHECKING:
    from brainmap.study.results.pieces import Ready, Scored

ALIKE = ("brainmap", "numpy", "scipy", "numba")  # packages whose versions affect the last bits of results


def prepare_piece_data(work: bytes, wanted: Mapping[str, str], tolerance: float | None) -> Ready:
    """Read a participant's data and prepare the searchlight, or encoding models.

    Parameters
    ----------
    work : bytes
        The pickled work on a participant.
    wanted : mapping
        Versions of the packages that the process which asks for this has.
    tolerance : float or None [voxels]
        How far grids may lie apart there; None for the default.
    """
    from brainmap.rsa.images.files import grid_tolerance
    from brainmap.threads import limit_blas

    check_versions(wanted)
    with limit_blas(), grid_tolerance(tolerance):
        ready: Ready = pickle.loads(work).prepare()
    return ready


def score_piece(ready: Ready, start: int, stop: int, wanted: Mapping[str, str]) -> tuple[Scored, list[str]]:
    """Compute the arrays of a piece, and return them with the warnings."""
    from brainmap.study.results.pieces import Scored
    from brainmap.threads import limit_blas

    check_versions(wanted)
    with warnings.catch_warnings(record=True) as caught, limit_blas():
        warnings.simplefilter("always", BrainmapWarning)
        scored = Scored(ready.compute_arrays(start, stop))
    return scored, [str(note.message) for note in caught if issubclass(note.category, BrainmapWarning)]


def check_versions(wanted: Mapping[str, str]) -> None:
    """Refuse to compute with other versions of packages that affect the numbers.

    Raises
    ------
    InputError
    """
    here = versions()
    other = [f"{name} {here.get(name)} (expected {wanted[name]})" for name in ALIKE if here.get(name) != wanted[name]]
    if other:
        raise InputError(
            f"--backend dask: a worker has {', '.join(other)}; install the same versions everywhere, so that numbers "
            "do not depend on where they are computed"
        )
