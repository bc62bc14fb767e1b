"""Test differences of scores: of two models or layers, and of two networks by their best layers.

The best of a network's layers is the best on the data at hand, partly by chance. A test that first chooses the two best
layers and then compares them on the same data treats that chance as evidence. Here a bootstrap chooses the best layer
of each network again in every resample, and a test over participants compares every layer of one network with every
layer of the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.rsa.inference.scores import compute_mean_and_error, score_statistics
from brainmap.types import Correction, Measure, Test

DIFFERENCE_COLUMNS = {
    "model": "model",
    "other": "model that it is compared with",
    "roi": "region of interest",
    "difference": "mean score of the model less that of the other",
    "standard_error": "of that difference",
    "t": "test statistic",
    "statistic": "test statistic",
    "p": "two-sided, uncorrected",
    "p_corrected": "corrected over all rows of the table: pairs of models x regions",
    "n": "participants",
    "smallest_p": "smallest p that so many participants can reach",
}


def score_differences(
    scores: NDArray[np.floating],
    *,
    test: Test = "signed-rank",
    correction: Correction = "fdr",
    labels: Mapping[str, Sequence[str]] | None = None,
    measure: Measure | str | None = None,
    permutations: int = 5000,
    rng: np.random.Generator | None = None,
    pairs: Sequence[tuple[int, int]] | None = None,
) -> pd.DataFrame:
    """Test the score difference of every pair of models over participants, corrected over all pairs and ROIs.

    The tests are two-sided.

    Parameters
    ----------
    scores : array (n_models, n_participants) or (n_models, n_rois, n_participants)
        As in `brainmap.rsa.score_statistics`.
    test, correction
        As in `brainmap.rsa.score_statistics`; t uses differences of Fisher z where `measure` is pearson or spearman.
    labels : mapping
        Names along the first axes: those of the models, then those of the ROIs.
    measure, permutations, rng
        As in `brainmap.rsa.score_statistics`; t uses differences of Fisher z where `measure` is pearson or spearman.
    pairs : sequence of (int, int), optional
        Places of the models to compare; by default every pair. The correction is over these pairs only.

    Returns
    -------
    DataFrame
        One row per pair (and ROI): model, other, roi (for scores with ROIs), difference (of the raw scores),
        standard_error, statistic, p, p_corrected, n, smallest_p.

    Raises
    ------
    InputError
        There are fewer than two models, or `score_statistics` refuses the scores.

    Examples
    --------
    >>> scores = np.array([[0.3, 0.2, 0.25, 0.32, 0.3, 0.27], [0.1, 0.1, 0.05, 0.12, 0.01, 0.0]])
    >>> table = score_differences(scores, labels={"layer": ["conv1", "conv2"]})
    >>> table[["model", "other", "p"]].values.tolist()
    [['conv1', 'conv2', 0.03125]]
    """
    x = np.asarray(scores, dtype=np.float64)
    if x.ndim not in (2, 3) or len(x) < 2:
        raise InputError(
            "score_differences: expected scores of shape (n_models, n_participants) or (n_models, n_rois, "
            f"n_participants), of at least 2 models, got {x.shape}"
        )
    first, second = np.triu_indices(len(x), 1) if pairs is None else np.array(pairs, np.intp).reshape(-1, 2).T
    names = [[str(k) for k in range(size)] for size in x.shape[:-1]] if labels is None else list(labels.values())
    axes = {"pair": [str(k) for k in range(len(first))], **({"roi": names[1]} if x.ndim == 3 else {})}
    table = score_statistics(
        x[first],
        against=x[second],
        alternative="two-sided",
        labels=axes,
        test=test,
        correction=correction,
        measure=measure,
        permutations=permutations,
        rng=rng,
    )
    pair = table.pop("pair").astype(int).to_numpy()
    for at, (key, side) in enumerate((("model", first), ("other", second))):
        table.insert(at, key, [names[0][k] for k in side[pair]])
    difference = (x[first] - x[second]).reshape(len(table), -1)
    table["mean"], table["standard_error"] = compute_mean_and_error(difference)
    return table.rename(columns={"mean": "difference"})
