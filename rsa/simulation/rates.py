"""Count how often simulated studies detect a layer, with the interval of these rates."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from brainmap.rsa.inference.scores import score_statistics
from brainmap.types import Floats, Test


def tabulate_rates(
    scores: Floats,
    *,
    names: tuple[str, str | None],
    participants: Sequence[int],
    test: Test,
    alpha: float,
    measure: str,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Compute a table of detection rates with one row per comparison and number of participants."""
    a, b = names
    compared = {f"{a} > 0": scores[0]}
    if b is not None:
        compared[f"{a} > {b}"] = scores[0] - scores[1]
    rows = []
    for (name, values), n in product(compared.items(), participants):
        two_sided = name != f"{a} > 0"
        of_n = values[:, :n]
        power, wrong, smallest = count_detections(
            of_n, test=test, alpha=alpha, two_sided=two_sided, measure=None if two_sided else measure, rng=rng
        )
        low, high = compute_wilson(power * len(of_n), len(of_n))
        mean, spread = of_n.mean(), np.sqrt(of_n.var(axis=1, ddof=1).mean())
        rows.append(
            {
                "comparison": name,
                "participants": n,
                "power": power,
                "low": float(low),
                "high": float(high),
                "wrong": wrong,
                "effect": mean,
                "d": mean / spread if spread > 0 else np.nan,
                "smallest_p": smallest,
            }
        )
    return pd.DataFrame(rows)


def count_detections(
    scores: NDArray[np.floating],
    *,
    test: Test,
    alpha: float,
    two_sided: bool,
    measure: str | None = None,
    rng: np.random.Generator | None = None,
) -> tuple[float, float, float]:
    """Compute the shares of studies `(n_studies, n_participants)` that are significantly above and below 0.

    The third value is the smallest p that the test can reach.

    Examples
    --------
    >>> scores = np.array([[0.1, 0.2, 0.3, 0.2, 0.1], [0.1, -0.2, 0.3, -0.2, 0.1]])
    >>> count_detections(scores, test="signed-rank", alpha=0.05, two_sided=False)
    (0.5, 0.0, 0.03125)
    """
    table = score_statistics(
        scores,
        test=test,
        correction="none",
        measure=measure,
        rng=rng,
        alternative="two-sided" if two_sided else "greater",
    )
    found = (table["p"] <= alpha).to_numpy()
    ahead = scores.mean(axis=1) > 0 if test != "signed-rank" else _has_positive_ranks(table)
    return float((found & ahead).mean()), float((found & ~ahead).mean()), float(table["smallest_p"].iloc[0])


def compute_wilson(count: ArrayLike, n: int) -> tuple[Floats, Floats]:
    """Compute the 95 % Wilson interval of the share `count / n`.

    With z = 1.96 and p = count / n it is (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n).

    Examples
    --------
    >>> low, high = compute_wilson(8, 10)
    >>> round(float(low), 3), round(float(high), 3)
    (0.49, 0.943)
    """
    z = 1.959963984540054
    share = np.asarray(count, dtype=np.float64) / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)


def _has_positive_ranks(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell whether the sum of positive ranks exceeds that of negative ranks."""
    n = table["n"].to_numpy(dtype=float)
    return np.asarray(table["statistic"].to_numpy() > n * (n + 1) / 4)
