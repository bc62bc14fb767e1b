"""Leave participants without an RDM out of a bootstrap, and name them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from brainmap.checks import list_some
from brainmap.errors import BrainmapWarning, InputError

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs


def leave_out_absent(data_rdms: RDMs) -> tuple[RDMs, dict[str, list[str]]]:
    """Leave out data RDMs whose pairs are all missing, and return the participants without an RDM of each ROI.

    Raises
    ------
    InputError
        No participant has an RDM.
    """
    absent = np.asarray(np.isnan(np.asarray(data_rdms.dissimilarities, dtype=np.float64)).all(axis=1))
    size = data_rdms.n_rdm
    if not absent.any():
        return data_rdms, {}
    described = data_rdms.rdm_descriptors
    people = [str(p) for p in described.get("participant", range(1, size + 1))]
    rois = [str(roi) for roi in described.get("roi", ["all voxels"] * size)]
    if absent.all():
        raise InputError(f"bootstrap: no participant has an RDM of {list_some(dict.fromkeys(rois), 3)}; leave it out")
    left_out: dict[str, list[str]] = {}
    for k in np.flatnonzero(absent):
        left_out.setdefault(rois[k], []).append(people[k])
    return data_rdms[np.flatnonzero(~absent)], left_out


def describe_absent(absent: Mapping[str, Sequence[str]]) -> str:
    """Describe in words which participants are left out of which ROIs.

    Examples
    --------
    >>> describe_absent({"HG": ["03"], "belt": ["03", "07"]})
    "participants without an RDM are left out: '03' of 'HG'; '03', '07' of 'belt'"
    """
    return "participants without an RDM are left out: " + "; ".join(
        f"{list_some(people)} of {roi!r}" for roi, people in absent.items()
    )


def warn_of_absent(absent: Mapping[str, Sequence[str]]) -> None:
    """Warn about participants without an RDM, if there are any."""
    if absent:
        warnings.warn(f"bootstrap: {describe_absent(absent)}", BrainmapWarning, stacklevel=3)
