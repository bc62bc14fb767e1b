"""Leave out pairs of items from RDMs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from brainmap.errors import InputError

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs


def leave_out_pairs_within(rdms: RDMs, by: str = "condition") -> RDMs:
    """Return RDMs in which pairs of items of one condition are missing (NaN), as windows of one story.

    Comparisons leave out such pairs. Windows of one story that are near in time resemble each other in a brain and in a
    network; pairs of windows of different stories do not do so for that reason.

    Parameters
    ----------
    rdms : RDMs
    by : str
        Pattern descriptor that tells what items belong together.

    Returns
    -------
    RDMs

    Raises
    ------
    InputError
        Items have no such descriptor, or all belong together.

    Examples
    --------
    >>> from brainmap.rsa import compute_rdms
    >>> names = {"stimulus_id": ["a1", "a2", "b1"], "condition": ["a", "a", "b"]}
    >>> rdms = compute_rdms(np.random.default_rng(0).normal(size=(3, 9)), descriptors=names)
    >>> np.isnan(leave_out_pairs_within(rdms).dissimilarities[0]).tolist()
    [True, False, False]
    """
    if by not in rdms.pattern_descriptors:
        raise InputError(f"RDMs: expected items with {by!r}, got {sorted(rdms.pattern_descriptors)}; name one of these")
    own = np.asarray([str(name) for name in rdms.pattern_descriptors[by]])
    first, second = np.triu_indices(len(own), 1)
    within = own[first] == own[second]
    if within.all():
        raise InputError(f"RDMs: expected items of several groups by {by!r}, got one; no pair would be left")
    found = rdms.copy()
    found.dissimilarities = np.where(within, np.nan, found.dissimilarities)
    return found
