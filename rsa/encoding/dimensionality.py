"""Measure the effective dimensionality of layers, which is related to how well they predict responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np
import pandas as pd

from brainmap.checks import check_choice, list_some
from brainmap.errors import InputError
from brainmap.rsa.encoding.responses import Features, FeatureSpace, name_networks
from brainmap.rsa.rdm.sources import choose_layers
from brainmap.types import Scaling

DIMENSIONALITY_COLUMNS = {
    "network": "network",
    "layer": "layer",
    "units": "number of units",
    "dimensionality": "effective dimensionality of the z-scored units over the sounds (participation ratio)",
}


def effective_dimensionality(
    acts: Features,
    *,
    layers: Sequence[str] | str = "all",
    units: Scaling = "zscore",
    descriptors: Mapping[str, Sequence[str]] | None = None,
) -> pd.DataFrame:
    """Measure the effective dimensionality of each layer over the items: the participation ratio of its variances.

    With the eigenvalues l of the covariance of units, it is (sum l)^2 / sum l^2: 1 where all units vary together, and
    the number of units where they vary alike and independently. It is at most n_items - 1, and smaller for few items
    than for many, so compare layers over the same items. Layers of high dimensionality tend to predict responses better
    whatever else they compute (Elmoznino and Bonner 2024), which is why it stands beside encoding scores.

    Parameters
    ----------
    acts : feature set, mapping of network to feature set, or mapping of layer to array
        As for `brainmap.rsa.encode`.
    layers : names or "all"
    units : {"zscore", "none"}
        Whether units are z-scored over items first, as encoding models do.
    descriptors : mapping, optional
        Labels of the rows of arrays.

    Returns
    -------
    DataFrame
        A row for each layer: `network`, `layer`, `units`, `dimensionality` (NaN where no unit varies).

    Raises
    ------
    InputError
        There is no such layer, fewer than 2 items, or a value is NaN or infinite.

    References
    ----------
    Elmoznino and Bonner 2024, doi:10.1371/journal.pcbi.1011792; Gao et al. 2017, doi:10.1101/214262

    Examples
    --------
    >>> x = np.kron(np.eye(4), np.ones((50, 1))) * np.random.default_rng(0).choice([-1.0, 1.0], size=(200, 1))
    >>> names = [str(k) for k in range(200)]
    >>> table = effective_dimensionality({"a": x, "b": x[:, [0, 0, 0]]}, descriptors={"stimulus_id": names})
    >>> table["dimensionality"].round(1).tolist()
    [4.0, 1.0]
    """
    check_choice(units, get_args(Scaling), "units")
    spaces = [
        FeatureSpace(network, layer, own[layer], tuple(np.arange(len(own.items))[:, None]))
        for network, own in name_networks(acts, descriptors).items()
        for layer in choose_layers(own, layers, network, who="effective_dimensionality")
    ]
    if spaces[0].shape[0] < 2:
        raise InputError(
            f"effective_dimensionality: expected layers of 2 items or more, got {list_some([s.name for s in spaces])}"
        )
    return tabulate_dimensionality(spaces, units=units)


def tabulate_dimensionality(spaces: Sequence[FeatureSpace], *, units: Scaling = "zscore") -> pd.DataFrame:
    """Measure the effective dimensionality of feature spaces."""
    rows = [(space.network, space.layer, space.shape[1], _measure_participation(space, units)) for space in spaces]
    return pd.DataFrame(rows, columns=list(DIMENSIONALITY_COLUMNS))


def _measure_participation(space: FeatureSpace, units: Scaling) -> float:
    """Compute the participation ratio from the products of items, whose eigenvalues are those of the covariance."""
    kernel = space.gram(units)
    squares = float(np.square(kernel).sum())
    return float(np.trace(kernel) ** 2 / squares) if squares > 0 else np.nan
