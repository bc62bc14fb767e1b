"""Measure how well representational similarity and encoding models agree on the layers of a network."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.rsa.encoding.scores import correlate
from brainmap.types import Floats

LEAST_LAYERS = 4  # of fewer, few orders exist


def correlate_profiles(one: NDArray[np.floating], other: NDArray[np.floating]) -> Floats:
    """Compute the rank correlation of two layer profiles within each region, for each participant.

    A profile is the scores of a network's layers in one region of one participant, as RSA or encoding models give them.
    1 means that both order the layers alike, whatever their scales.

    Parameters
    ----------
    one, other : array (n_layers, n_regions, n_participants)
        The scores of the two analyses. Layers that lack either score are left out.

    Returns
    -------
    ndarray (n_regions, n_participants)
        Spearman correlations over layers; NaN where fewer than 4 layers have both scores, or all scores are equal.

    Raises
    ------
    InputError
        The shapes differ.

    Examples
    --------
    >>> one = np.array([0.1, 0.2, 0.4, 0.3])[:, None, None]
    >>> correlate_profiles(one, one**3).round(6).tolist()
    [[1.0]]
    """
    x, y = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if x.shape != y.shape or x.ndim != 3:
        raise InputError(
            "correlate_profiles: expected two arrays (n_layers, n_regions, n_participants) of one shape, got "
            f"{x.shape} and {y.shape}; give scores of the same layers, regions and participants"
        )
    found = np.full(x.shape[1:], np.nan)
    for place in np.ndindex(*found.shape):
        a, b = x[:, *place], y[:, *place]
        there = np.isfinite(a) & np.isfinite(b)
        if there.sum() >= LEAST_LAYERS:
            ranks = np.stack([pd.Series(values[there]).rank().to_numpy() for values in (a, b)])
            found[place] = correlate(ranks[0][:, None], ranks[1][:, None])[0]
    return found
