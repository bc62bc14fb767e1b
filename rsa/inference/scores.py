"""Test scores over participants, and find the best layer of each region."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice, list_some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.comparison.measures import ALIASES, compare_vectors
from brainmap.rsa.comparison.partial import align_controls, compare_vectors_partial
from brainmap.rsa.comparison.ranks import rank_rows
from brainmap.rsa.inference.reach import describe_fdr_reach
from brainmap.rsa.inference.seeds import Seeds, average_rows, list_rows
from brainmap.rsa.rdm.alignment import align_vectors, find_pair_positions, list_groups
from brainmap.types import Alternative, Correction, Floats, Level, Measure, Test, UpperAlternative

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs

BEST_COLUMNS = {
    "network": "network",
    "roi": "region of interest",
    "layer": "layer chosen most often on one half of the stimuli",
    "chosen_share": "share of the splits in which it was chosen",
    "score": "score of the chosen layers on the other half, median over splits, mean over participants",
    "standard_error": "of that mean",
    "p": "of the score above 0, one-sided t test over participants (these sounds only), uncorrected",
    "position": "mean relative depth of the layers chosen over splits, 0 first to 1 last; n/a where p is above .05",
    "position_sd": "standard deviation of that depth over splits",
    "position_low": "least depth of a layer that was chosen in a split",
    "position_high": "greatest depth of a layer that was chosen in a split",
    "n": "participants",
}

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
POSITION_P = 0.05
"""If p of the best layer's score is above this value, its position is NaN."""
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
    check_choice(test, TESTS, "test")
    check_choice(correction, CORRECTIONS, "correction")
    check_choice(alternative, get_args(Alternative), "alternative")
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
    table["mean"], table["standard_error"] = _compute_mean_and_error(flat)
    if test == "sign-flip":
        tested = _test_sign_flips(difference, alternative, permutations, rng)
    else:
        tested = (_test_signed_rank if test == "signed-rank" else _test_t)(difference, alternative)
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


def split_half_best_layer(
    model_rdms: RDMs,
    data_rdms: RDMs,
    *,
    measure: Measure | str = "rho-a",
    splits: int = 20,
    rng: np.random.Generator,
    by: Level = "condition",
    control_rdms: RDMs | None = None,
    seeds: Seeds | None = None,
) -> pd.DataFrame:
    """Find the best layer of each ROI on one half of the items, and score it on the other half.

    The score of the best layer is biased upwards on the data on which the layer was selected. Here the layer with the
    highest mean score over participants on a random half of the items is scored on the other half; the score is the
    median over splits for each participant, averaged over participants.

    Parameters
    ----------
    model_rdms : rsatoolbox RDMs
        One RDM per layer in order of depth (RDM descriptor `layer`).
    data_rdms : rsatoolbox RDMs
        One RDM per participant and ROI (RDM descriptors `participant` and `roi`).
    measure : str
        As in `brainmap.rsa.compare_rdms`.
    splits : int
        Number of random splits, which are the same for all ROIs and participants.
    rng : numpy Generator
    by : {"condition", "stimulus"}
        The units that are split. With "condition" all tokens of a word are in the same half.
    control_rdms : rsatoolbox RDMs, optional
        RDMs that are removed from layers and data, within each half (`brainmap.rsa.compare_rdms_partial`).
    seeds : mapping of str to sequence of str, optional
        One network that was trained several times, with the names (RDM descriptor `network`) of its trainings. Layers
        are then chosen and scored by the means over the seeds.

    Returns
    -------
    DataFrame
        One row per ROI: roi, layer (chosen most often), chosen_share (share of splits), score and standard_error
        over participants on the half not used to choose, p (one-sided t test over participants of score above 0),
        position (from 0 for the first to 1 for the last layer, mean over splits) with its spread over splits
        (position_sd, position_low and position_high, the lowest and the highest layer chosen), n (participants).
        Positions are NaN where the score is not above 0 (p above .05, or with one participant a score of 0 or less),
        since the best of several unrelated layers has no meaning. If two distant layers are equally good, the mean
        position lies between them, and the spread is large. An ROI without any score is left out with a
        `BrainmapWarning`; splits without a score (because of missing pairs) do not count.

    Raises
    ------
    InputError
        There are fewer than two layers or fewer than six items to split, the RDMs differ in level or items, or seeds of
        a network are unknown or differ in their layers.

    References
    ----------
    Tuckute et al. 2023, doi:10.1371/journal.pbio.3002366

    Examples
    --------
    >>> from brainmap.rsa import compute_rdms, stack_rdms
    >>> rng = np.random.default_rng(0)
    >>> items = {"stimulus_id": list("abcdefgh")}
    >>> layers = {name: rng.normal(size=(8, 20)) for name in ("conv1", "conv2")}
    >>> models = stack_rdms([
    ...     compute_rdms(x, descriptors={**items, "layer": name}) for name, x in layers.items()])
    >>> brains = stack_rdms([
    ...     compute_rdms(layers["conv2"] + 0.5 * rng.normal(size=(8, 20)),
    ...                  descriptors={**items, "participant": p, "roi": "HG"}) for p in ("01", "02", "03")])
    >>> split_half_best_layer(models, brains, by="stimulus", rng=rng)["layer"].tolist()
    ['conv2']
    """
    if splits < 1:
        raise InputError(f"split_half_best_layer: expected splits of at least 1, got {splits}")
    models = align_vectors(model_rdms, data_rdms, names=("models", "data"))
    layers = [str(name) for name in model_rdms.rdm_descriptors.get("layer", range(len(models)))]
    places = [[k] for k in range(len(models))]
    if seeds:
        places = list_rows(model_rdms, seeds).places[len(models) :]
        layers = [layers[own[0]] for own in places]
    if len(layers) < 2:
        raise InputError(f"split_half_best_layer: expected at least 2 layers, got {len(layers)}")
    data = np.asarray(data_rdms.dissimilarities, dtype=np.float64)
    rois = [str(roi) for roi in data_rdms.rdm_descriptors.get("roi", ["all voxels"] * len(data))]
    controls = None if control_rdms is None else align_controls(control_rdms, data_rdms)
    halves = _draw_halves(data_rdms, splits=splits, by=by, rng=rng)
    chosen = {roi: np.empty(splits, dtype=np.intp) for roi in dict.fromkeys(rois)}
    tested = {roi: np.empty((splits, rois.count(roi))) for roi in chosen}
    for k, (train, test) in enumerate(halves):
        on_train, on_test = (
            average_rows(
                compare_vectors(models[:, half], data[:, half], measure=measure)
                if controls is None
                else compare_vectors_partial(models[:, half], data[:, half], controls[..., half], measure=measure),
                places,
            )
            for half in (train, test)
        )
        for roi in chosen:
            mine = [name == roi for name in rois]
            chosen[roi][k] = _find_best(on_train[:, mine])
            tested[roi][k] = on_test[chosen[roi][k], mine]
    rows = []
    for roi, every in chosen.items():
        there = every >= 0
        if not there.any():
            warnings.warn(
                f"split_half_best_layer: {roi!r} is left out, because no layer has a score in any half (pairs are "
                "missing)",
                BrainmapWarning,
                stacklevel=2,
            )
            continue
        picks = every[there]
        counts = np.bincount(picks, minlength=len(layers))
        scores = _compute_median(tested[roi][there])
        mean, error = _compute_mean_and_error(scores[None])
        p = float(_test_t(scores[None], "greater")["p"][0])
        depth = picks / (len(layers) - 1) if mean[0] > 0 and not p > POSITION_P else np.full(len(picks), np.nan)
        rows.append(
            {
                "roi": roi,
                "layer": layers[counts.argmax()],
                "chosen_share": counts.max() / len(picks),
                "score": mean[0],
                "standard_error": error[0],
                "p": p,
                "position": depth.mean(),
                "position_sd": depth.std(ddof=1) if len(depth) > 1 else np.nan,
                "position_low": depth.min(),
                "position_high": depth.max(),
                "n": int(np.isfinite(scores).sum()),
            }
        )
    return pd.DataFrame(rows)


def _find_best(scores: Floats) -> int:
    """Return the layer with the highest mean of `(n_layers, n_participants)` over participants; -1 without scores."""
    mean, _ = _compute_mean_and_error(scores)
    return -1 if np.isnan(mean).all() else int(np.nanargmax(mean))


def _compute_median(scores: Floats) -> Floats:
    """Compute the median over splits of `(n_splits, n_participants)`, ignoring NaN; NaN where there is no score."""
    there = np.isfinite(scores).any(axis=0)
    median = np.full(scores.shape[1], np.nan)
    median[there] = np.nanmedian(scores[:, there], axis=0)
    return median


def _draw_halves(
    rdms: RDMs, *, splits: int, by: str, rng: np.random.Generator
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return the positions of the pairs within each random half of the items (train and test)."""
    check_choice(by, ("condition", "stimulus"), "by")
    labels = list_groups(rdms, by)  # type: ignore[arg-type]
    names, member = np.unique(labels, return_inverse=True)
    if len(names) < 6:
        way_out = "; choose by='stimulus'" if by == "condition" and rdms.n_cond >= 6 else ""
        raise InputError(
            f"split_half_best_layer: expected at least 6 groups by {by}, three in each half, got {len(names)}{way_out}"
        )
    halves = []
    for _ in range(splits):
        first = rng.permutation(len(names))[: (len(names) + 1) // 2]
        inside = np.isin(member.reshape(-1), first)
        halves.append(
            (
                find_pair_positions(np.flatnonzero(inside), rdms.n_cond),
                find_pair_positions(np.flatnonzero(~inside), rdms.n_cond),
            )
        )
    return halves


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


def _compute_mean_and_error(x: Floats) -> tuple[Floats, Floats]:
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


def _test_t(difference: Floats, alternative: Alternative) -> pd.DataFrame:
    from scipy.stats import t

    mean, error = _compute_mean_and_error(difference)
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
    statistic = np.where(whole, sign * found.statistic, _test_t(difference, alternative)["statistic"])
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
