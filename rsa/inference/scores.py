"""Test scores over participants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from brainmap.checks import check_choice, check_literals, list_some
from brainmap.errors import InputError
from brainmap.rsa.comparison.measures import ALIASES
from brainmap.rsa.comparison.ranks import rank_rows
from brainmap.types import Alternative, Correction, Floats, Measure, Test, UpperAlternative

ALPHA = 0.05
_SAME = 1e-9


def describe_fdr_reach(p: ArrayLike, smallest_p: ArrayLike, *, alpha: float = ALPHA) -> str:
    """Explain in words why the false discovery rate finds nothing among these p; empty if there is no limit.

    Parameters
    ----------
    p : array_like
        Uncorrected p; NaN is ignored.
    smallest_p : float, or array_like of the shape of p
        The smallest p that each test can reach, which differs where tests differ in participants; 0 where there is
        none.
    alpha : float

    Examples
    --------
    >>> describe_fdr_reach([1 / 16] * 3, 1 / 16)
    'no p is under 0.0625, so that fdr can find nothing'
    >>> describe_fdr_reach([1 / 32, 0.5, 0.2, 0.8], 1 / 32)
    'no p is under 0.0312, so that fdr finds at least 3 of the 4 tests (75 %) together or none; here none'
    >>> describe_fdr_reach([0.5, 0.2], [1 / 256, 1 / 16])  # one test has participants enough
    ''
    """
    values = np.asarray(p, dtype=np.float64)
    tested = ~np.isnan(values)
    reach = np.sort(np.broadcast_to(np.asarray(smallest_p, dtype=np.float64), values.shape)[tested])
    n = len(reach)
    if not n or not reach[0] > 0:
        return ""
    level = alpha * np.arange(1, n + 1) / n * (1 + _SAME)
    possible = np.flatnonzero(reach <= level)  # k tests can be found together if k of them can reach the k-th level
    if not len(possible):
        return f"no p is under {reach[0]:.3g}, so that fdr can find nothing"
    needed = int(possible[0]) + 1
    if needed == 1 or (np.sort(values[tested]) <= level).any():
        return ""
    return (
        f"no p is under {reach[0]:.3g}, so that fdr finds at least {needed:,} of the {n:,} tests "
        f"({100 * needed / n:.0f} %) together or none; here none"
    )


STATISTICS_COLUMNS = {
    "network": "network, or a control of it",
    "layer": "layer",
    "time": "center of the window of the sound [s]",
    "roi": "region of interest",
    "mean": "mean score over participants",
    "standard_error": "of that mean",
    "statistic": "test statistic",
    "p": "one-sided, uncorrected",
    "p_corrected": "corrected over all rows of the table: networks and their controls x layers x regions",
    "n": "participants",
    "smallest_p": "smallest p that so many participants can reach",
}

TESTS: tuple[Test, ...] = get_args(Test)
CORRECTIONS: tuple[Correction, ...] = get_args(Correction)
OF_P: tuple[Correction, ...] = ("fdr", "bonferroni", "none")  # corrections that need only the p values


def score_statistics(
    scores: NDArray[np.floating],
    *,
    test: Test = "signed-rank",
    correction: Correction = "fdr",
    against: float | NDArray[np.floating] = 0.0,
    alternative: Alternative = "greater",
    labels: Mapping[str, Sequence[str]] | None = None,
    measure: Measure | str | None = None,
    permutations: int = 5000,
    rng: np.random.Generator | None = None,
) -> pd.DataFrame:
    """Test scores over participants, and correct p over all models and ROIs at once.

    Parameters
    ----------
    scores : array (n_models, n_participants) or (n_models, n_rois, n_participants)
        Raw scores, which must not be squared, as squares are above 0 by chance alone. NaN leaves a participant out of
        that test.
    test : {"signed-rank", "t", "sign-flip"}
        "signed-rank": Wilcoxon's signed-rank test (exact; its statistic is the sum of positive ranks). "t": one-sample
        t test (on Fisher z when `measure` is pearson or spearman). "sign-flip": sign-flip test, enumerated when
        2^n <= permutations.
    correction : {"none", "fdr", "bonferroni", "max-t"}
        "fdr" is Benjamini-Hochberg over all tests; "max-t" needs test="sign-flip".
    against : float, or array that broadcasts to scores
        The value under the null hypothesis: 0, or another model's scores. A noise ceiling is not a null hypothesis,
        since the true model may lie below it or above it (`brainmap.rsa.residual_structure` tests what a model lacks).
    alternative : {"greater", "less", "two-sided"}
        Use a one-sided test against 0 and "two-sided" for differences.
    labels : mapping
        Names along the first axes, as `{"layer": [...], "roi": [...]}`; by default "model" (and "roi") with numbers.
    measure : str, optional
        The measure of the scores, for Fisher z. bures is above 0 for any two RDMs and is not tested against a number.
    permutations, rng
        The number of sign flips if they are drawn, and their random generator.

    Returns
    -------
    DataFrame
        One row per test: the labels, mean, standard_error (both of the raw scores), statistic, p, p_corrected, n
        (participants), smallest_p (the smallest p that n can reach, 0 for t). `attrs["note"]` describes test and
        correction in words, and says where fdr can find nothing. The stimuli are treated as fixed: the result does not
        generalize to other stimuli, unlike those of `brainmap.rsa.relabeling_test` and `brainmap.rsa.bootstrap`.

    Raises
    ------
    InputError
        The test or correction is unknown, max-t is used without sign flips, labels do not fit, or there are fewer than
        two participants.

    Examples
    --------
    >>> scores = np.array([[0.1, 0.2, 0.15, 0.12, 0.3], [0.1, -0.2, 0.05, -0.12, 0.01]])
    >>> table = score_statistics(scores, labels={"layer": ["conv1", "conv2"]})
    >>> table[["layer", "p", "p_corrected", "smallest_p"]].values.tolist()
    [['conv1', 0.03125, 0.0625, 0.03125], ['conv2', 0.6875, 0.6875, 0.03125]]
    """
    check_literals(
        (test, Test, "test"), (correction, Correction, "correction"), (alternative, Alternative, "alternative")
    )
    if correction == "max-t" and test != "sign-flip":
        raise InputError(f"correction 'max-t': expected test='sign-flip', as it flips signs, got {test!r}")
    if measure == "bures" and np.ndim(against) == 0:
        raise InputError(
            "score_statistics: bures is above 0 for any two RDMs, so that no one value stands for chance; test "
            "against another model's scores, or relabel conditions (brainmap.rsa.permutation_test)"
        )
    x = np.asarray(scores, dtype=np.float64)
    if x.ndim not in (2, 3) or x.shape[-1] < 2:
        raise InputError(
            "score_statistics: expected scores of shape (n_models, n_participants) or (n_models, n_rois, "
            f"n_participants), of at least 2 participants, got {x.shape}"
        )
    table = _build_index(x.shape[:-1], labels)
    flat = x.reshape(-1, x.shape[-1])
    chance = np.broadcast_to(np.asarray(against, dtype=np.float64), x.shape)
    if test == "t" and measure is not None and ALIASES.get(measure, measure) in ("pearson", "spearman"):
        x, chance = _transform_fisher_z(x), _transform_fisher_z(chance)
    difference = (x - chance).reshape(flat.shape)
    n = np.isfinite(difference).sum(axis=1)
    table["mean"], table["standard_error"] = compute_mean_and_error(flat)
    if test == "sign-flip":
        tested = _test_sign_flips(difference, alternative, permutations, rng)
    else:
        tested = (_test_signed_rank if test == "signed-rank" else run_t_test)(difference, alternative)
    table["statistic"], table["p"] = tested["statistic"].to_numpy(), tested["p"].to_numpy()
    by_maximum = correction == "max-t"
    table["p_corrected"] = tested["p_max"].to_numpy() if by_maximum else correct_p(table["p"], correction)
    table["n"] = n
    table["smallest_p"] = tested["smallest_p"].to_numpy()
    n_tests = int(table["p"].notna().sum())
    table.attrs["note"] = _describe_test(
        test, correction, alternative, n_tests=n_tests, smallest=table["smallest_p"].to_numpy()
    )
    out_of_reach = describe_fdr_reach(table["p"], table["smallest_p"]) if correction == "fdr" else ""
    if out_of_reach:
        table.attrs["note"] += f"; {out_of_reach}"
    return table


def correct_p(p: NDArray[np.floating] | pd.Series[float], correction: Correction) -> Floats:
    """Correct p values ("fdr", "bonferroni" or "none"); NaN stays NaN and does not count as a test.

    Raises
    ------
    InputError
        The correction is another one; max-t cannot be computed from p values.

    Examples
    --------
    >>> correct_p(np.array([0.01, 0.04, np.nan, 0.03]), "fdr").round(3)
    array([0.03, 0.04,  nan, 0.04])
    """
    check_choice(correction, OF_P, "correction")
    result = np.array(p, dtype=np.float64)
    tested = ~np.isnan(result)
    if correction == "fdr" and tested.any():
        result[tested] = _control_discoveries(result[tested])
    elif correction == "bonferroni":
        result[tested] = np.minimum(1.0, result[tested] * tested.sum())
    return result


def _control_discoveries(p: Floats) -> Floats:
    """Correct p values `(n,)` for the false discovery rate (Benjamini and Hochberg 1995), without scipy's import."""
    order = np.argsort(p)
    raised = p[order] * (len(p) / np.arange(1, len(p) + 1))
    found = np.empty(len(p))
    found[order] = np.minimum(1.0, np.minimum.accumulate(raised[::-1])[::-1])
    return found


def _build_index(shape: tuple[int, ...], labels: Mapping[str, Sequence[str]] | None) -> pd.DataFrame:
    """Return the index columns of the table: every combination of the labels, with the last axis varying fastest."""
    if labels is None:
        names = ("model", "roi")[: len(shape)]
        labels = {name: [str(k) for k in range(size)] for name, size in zip(names, shape, strict=True)}
    sizes = tuple(len(names) for names in labels.values())
    if sizes != shape:
        raise InputError(
            f"score_statistics: expected one name per model (and ROI), in order of the axes {shape} of the scores, "
            f"got {sizes} names in the labels {list_some(labels)}"
        )
    grid = np.indices(shape).reshape(len(shape), -1)
    return pd.DataFrame(
        {key: [str(names[k]) for k in along] for (key, names), along in zip(labels.items(), grid, strict=True)}
    )


def _transform_fisher_z(x: Floats) -> Floats:
    if (np.abs(x) >= 1).any():
        raise InputError(
            "score_statistics: a correlation of 1 has no Fisher z; leave measure out, or choose test='signed-rank'"
        )
    return np.asarray(np.arctanh(x))


def compute_mean_and_error(x: Floats) -> tuple[Floats, Floats]:
    """Compute mean and standard error over the last axis, ignoring NaN; NaN with fewer than 1 or 2 values."""
    n = np.isfinite(x).sum(axis=1)
    mean = np.nansum(x, axis=1) / np.where(n > 0, n, np.nan)
    squares = np.nansum((x - mean[:, None]) ** 2, axis=1)
    return mean, np.sqrt(squares / np.where(n > 1, n - 1, np.nan) / np.where(n > 0, n, np.nan))


def _test_signed_rank(difference: Floats, alternative: Alternative) -> pd.DataFrame:
    """Compute the exact Wilcoxon signed-rank test for any number of participants, with ties; drop differences of 0."""
    n_tests = len(difference)
    statistic, p, smallest = np.full(n_tests, np.nan), np.full(n_tests, np.nan), np.full(n_tests, np.nan)
    null: dict[tuple[int, ...], Floats] = {}
    plain = np.flatnonzero(np.isfinite(difference).all(axis=1) & (difference != 0).all(axis=1))
    ranked = dict(
        zip(plain.tolist(), _compute_doubled_ranks(difference[plain]), strict=True)
    )  # all at once, which is faster
    for k, row in enumerate(difference):
        row = row[np.isfinite(row)]
        if len(row) < 2:
            continue
        smallest[k] = 2.0 ** -len(row) * (2 if alternative == "two-sided" else 1)
        row = row[row != 0]
        doubled = ranked[k] if k in ranked else _compute_doubled_ranks(row[None])[0]
        key = tuple(sorted(doubled))
        if key not in null:
            null[key] = _distribute_rank_sums(key)
        seen = int(doubled[row > 0].sum())
        upper, lower = null[key][seen:].sum(), null[key][: seen + 1].sum()
        sides = {"greater": upper, "less": lower, "two-sided": 2 * min(upper, lower)}
        statistic[k], p[k] = seen / 2, min(1.0, sides[alternative])
    return pd.DataFrame({"statistic": statistic, "p": p, "smallest_p": smallest})


def _compute_doubled_ranks(differences: Floats) -> NDArray[np.intp]:
    """Compute twice the ranks of the sizes of `(n_tests, n)` differences, which are integers (midranks are halves)."""
    if not differences.size:
        return np.empty(differences.shape, dtype=np.intp)
    return np.rint(2 * rank_rows(np.abs(differences))).astype(np.intp)


def _distribute_rank_sums(ranks: tuple[int, ...]) -> Floats:
    """Compute the probability of each sum of positive ranks when all signs are equally likely."""
    chance = np.zeros(sum(ranks) + 1)
    chance[0] = 1.0
    for rank in ranks:
        chance[rank:] = chance[rank:] + chance[: len(chance) - rank]
        chance /= 2.0
    return chance


def run_t_test(difference: Floats, alternative: Alternative) -> pd.DataFrame:
    """Test the mean of each row `(n_rows, n_participants)` against 0 by Student's t; return statistic and p."""
    from scipy.stats import t

    mean, error = compute_mean_and_error(difference)
    df = np.isfinite(difference).sum(axis=1) - 1
    value = mean / np.where(error > 0, error, np.nan)
    p = {"greater": t.sf(value, df), "less": t.cdf(value, df), "two-sided": 2 * t.sf(np.abs(value), df)}
    return pd.DataFrame({"statistic": value, "p": p[alternative], "smallest_p": 0.0})


def _test_sign_flips(
    difference: Floats, alternative: Alternative, permutations: int, rng: np.random.Generator | None
) -> pd.DataFrame:
    from brainmap.rsa.inference.sign_flips import sign_flip_test

    sign = -1.0 if alternative == "less" else 1.0
    side: UpperAlternative = "two-sided" if alternative == "two-sided" else "greater"
    there = np.isfinite(difference)
    n, sides = there.sum(axis=1), 2 if alternative == "two-sided" else 1
    # a participant who lacks a score adds nothing to its test under any flip
    filled = np.where(there, difference, 0.0)
    found = sign_flip_test((sign * filled).T, alternative=side, permutations=permutations, rng=rng)
    whole, enough = n == difference.shape[1], n > 1
    statistic = np.where(whole, sign * found.statistic, run_t_test(difference, alternative)["statistic"])
    smallest = np.maximum(found.smallest_p * (sides if found.enumerated else 1), sides * 2.0**-n)
    columns = {"statistic": statistic, "p": found.p, "p_max": found.p_corrected, "smallest_p": smallest}
    return pd.DataFrame({key: np.where(enough, values, np.nan) for key, values in columns.items()})


def _describe_test(test: Test, correction: Correction, alternative: str, *, n_tests: int, smallest: Floats) -> str:
    name = {"signed-rank": "Wilcoxon signed-rank test", "t": "t test", "sign-flip": "sign-flip test"}[test]
    over = {
        "none": "not corrected",
        "fdr": "false discovery rate (Benjamini-Hochberg)",
        "bonferroni": "Bonferroni",
        "max-t": "family-wise by the largest statistic",
    }[correction]
    low, high = (f"{one:.3g}" for one in (np.nanmin(smallest), np.nanmax(smallest))) if n_tests else ("0", "0")
    span = low if low == high else f"{low} to {high}, by the number of participants"
    reach = "" if high == "0" else f"; the smallest p it can reach is {span}"
    side = {"greater": "one-sided", "less": "one-sided, below", "two-sided": "two-sided"}[alternative]
    return (
        f"{name} over participants ({side}), which takes the sounds as fixed (these sounds only), {over} over "
        f"{n_tests} tests{reach}"
    )
