"""Compare layers with regions by linear CKA, debiased."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_enough
from brainmap.rsa.encoding.responses import Features, align_items
from brainmap.types import Dataset, Level, Scaling

CKA_COLUMNS = {
    "network": "network",
    "layer": "layer",
    "roi": "region of interest; empty: all voxels",
    "voxels": "voxels of the region",
    "cka": "linear CKA, debiased: 0 on average for unrelated features, at most 1",
}


def linear_cka(
    acts: Features,
    data: Dataset,
    *,
    items: Level = "stimulus",
    layers: Sequence[str] | str = "all",
    units: Scaling = "none",
    descriptors: Mapping[str, Sequence[str]] | None = None,
) -> pd.DataFrame:
    """Compare each layer with each region of a participant by debiased linear CKA over the same items.

    CKA is the normalized HSIC of the Gram matrices of features and responses (averaged over runs). The usual estimate
    is far above 0 for unrelated data with more units or voxels than items; this one uses the unbiased estimate of HSIC
    by Song et al. 2012, so that unrelated data have 0 on average, and values below 0 occur. Noise of the responses
    lowers it, as it lowers every score without a noise correction.

    Parameters
    ----------
    acts, data, items, layers
        As in `brainmap.rsa.encode`.
    units : {"none", "zscore"}
        Whether units of the layers are z-scored over items first; CKA gives units of large variance large weight.
    descriptors
        As in `brainmap.rsa.encode`.

    Returns
    -------
    DataFrame
        A row for each layer and region (or one for all voxels, with an empty `roi`): `network`, `layer`, `roi`,
        `voxels`, `cka`.

    Raises
    ------
    InputError
        As `brainmap.rsa.encode`, or there are fewer than 4 items.

    References
    ----------
    Kornblith et al. 2019, arXiv:1905.00414; Song et al. 2012, Journal of Machine Learning Research 13, 1393-1434

    Examples
    --------
    >>> from rsatoolbox.data.dataset import Dataset
    >>> x, names = np.random.default_rng(0).normal(size=(20, 5)), [f"sound{k}" for k in range(20)]
    >>> data = Dataset(3 * x[:, [2, 1, 0, 4, 3]], obs_descriptors={"stimulus_id": names})
    >>> linear_cka({"conv1": x}, data, descriptors={"stimulus_id": names})["cka"].round(6).tolist()
    [1.0]
    """
    check_choice(units, ("none", "zscore"), "units")
    spaces, responses = align_items(acts, data, items=items, layers=layers, descriptors=descriptors)
    y, roi = responses.mean, responses.targets["roi"].to_numpy()
    regions = [name for name in dict.fromkeys(roi) if name] or [""]
    chosen = {name: (roi == name) if name else np.ones(len(roi), bool) for name in regions}
    brains = {name: y[:, voxels] @ y[:, voxels].T for name, voxels in chosen.items()}
    rows = []
    for space in spaces:
        gram = space.gram(units)
        for name, brain in brains.items():
            cka = compute_cka(gram, brain)
            rows.append((space.network, space.layer, name, int(chosen[name].sum()), cka))
    return pd.DataFrame(rows, columns=list(CKA_COLUMNS))


def compute_cka(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Compute debiased CKA of two Gram matrices `(n_items, n_items)`.

    CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)); NaN if one of the last two is not above 0.

    Raises
    ------
    InputError
        There are fewer than 4 items.
    """
    cross, first, second = estimate_hsic(one, other), estimate_hsic(one, one), estimate_hsic(other, other)
    return cross / np.sqrt(first * second) if min(first, second) > 0 else np.nan


def estimate_hsic(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Estimate the HSIC of two Gram matrices `(n_items, n_items)` without bias.

    With K and L without their diagonals: [tr(K L) + 1'K1 1'L1 / ((n - 1)(n - 2)) - 2 1'K L1 / (n - 2)] / (n (n - 3)).
    """
    n = len(one)
    check_enough(n, 4, "CKA", "items")
    k, m = (np.where(np.eye(n, dtype=bool), 0.0, np.asarray(gram, np.float64)) for gram in (one, other))
    rows, columns = k.sum(axis=0), m.sum(axis=0)
    within = rows.sum() * columns.sum() / ((n - 1) * (n - 2))
    return float(((k * m).sum() + within - 2 * rows @ columns / (n - 2)) / (n * (n - 3)))
