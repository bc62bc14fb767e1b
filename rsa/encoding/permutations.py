"""Test encoding models by permuting the sounds: within one participant, and jointly for all participants."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pandas as pd

from brainmap.checks import check_choice, list_some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.progress import progress
from brainmap.rsa.encoding.block_orders import draw_block_orders
from brainmap.rsa.encoding.encode import Encoding
from brainmap.rsa.encoding.fits import EncodingSettings, build_designs
from brainmap.rsa.encoding.folds import Folds, Places, yield_inner_splits
from brainmap.rsa.encoding.responses import SURFACE_COLUMNS, TARGET_COLUMNS, FeatureSpace
from brainmap.rsa.encoding.ridge import (
    Design,
    build_error_operator,
    choose_alphas,
    measure_losses,
    move_like,
    move_to_device,
    move_to_numpy,
    predict,
)
from brainmap.rsa.encoding.scores import score_fold
from brainmap.rsa.inference.exchange import Exchange
from brainmap.rsa.inference.reach import describe_fdr_reach
from brainmap.rsa.inference.scores import correct_p
from brainmap.types import Floats, PermutationCorrection

ENCODING_TEST_COLUMNS = {
    "network": "network",
    "layer": "layer",
    **TARGET_COLUMNS,
    **SURFACE_COLUMNS,
    "r": "score with the true order of the sounds; over participants: mean of their mean over voxels",
    "p": "(k + 1) / (N + 1), where k of N permutations of sounds have a score as high",
    "p_corrected": "corrected over all rows of the table",
    "n": "participants",
    "permutations": "permutations of sounds, beside the true order",
    "smallest_p": "smallest p that these permutations can reach",
}
_TIE = 1e-10  # scores of two permutations that differ only by rounding are equal
_FEW = 20  # relabelings, below which no p can be .05
_TARGETS = 4096  # permuted targets that are fitted at once


@dataclass(frozen=True, eq=False)
class Refit:
    """Hold what does not depend on the responses, so that each permutation of them is fitted by products alone.

    Alphas are chosen again for each permutation.
    """

    folds: Folds
    alphas: Floats
    parts: list[tuple[list[Any], tuple[Any, Any, Any]]]
    device: str | None

    @classmethod
    def of(cls, space: FeatureSpace, folds: Folds, settings: EncodingSettings) -> Refit:
        """Factor the features of a layer in each fold."""
        splits = [folds.split(k) for k in range(folds.n_folds)]
        designs, _ = build_designs(space, [train for train, _ in splits], settings)
        return cls.from_designs(designs, folds, settings)

    @classmethod
    def from_designs(cls, designs: Sequence[Design], folds: Folds, settings: EncodingSettings) -> Refit:
        """Factor the design of each fold."""
        splits = [folds.split(k) for k in range(folds.n_folds)]
        parts = []
        for (train, test), design in zip(splits, designs, strict=True):
            inner = yield_inner_splits(folds.group[train], settings.inner_folds)
            operators = list(build_error_operator(design, train, inner, settings.alphas))
            parts.append((operators, design.factor(train, test)))
        return cls(folds, settings.alphas, parts, settings.device)

    def score(self, y: Floats) -> Floats:
        """Fit and score responses `(n_items, n_targets)`: r within folds, mean over folds; NaN where it has none."""
        there = move_to_device(y, self.device)
        alphas, total = move_like(self.alphas, there), np.zeros(y.shape[1])
        for k, (operators, factors) in enumerate(self.parts):
            train, test = self.folds.split(k)
            chosen = alphas[choose_alphas(measure_losses(operators, there[train]))]
            total += score_fold(move_to_numpy(predict(factors, there[train], chosen)), y[test])[0]
        return total / len(self.parts)

    def yield_scores(self, y: Floats, orders: Places) -> Iterator[Floats]:
        """Yield the scores of responses in some of the orders of the items `(n, n_targets)`; the first is the true one.

        Targets without a score in the true order have none; one that lacks a score in another order only counts as 0.
        """
        at_once, lacking = max(1, _TARGETS // y.shape[1]), None
        for start in range(0, len(orders), at_once):
            block = y[orders[start : start + at_once]].transpose(1, 0, 2)  # items, orders, targets
            found = self.score(block.reshape(len(y), -1)).reshape(-1, y.shape[1])
            lacking = np.isnan(found[0]) if lacking is None else lacking
            yield np.where(np.isnan(found) & ~lacking, 0.0, found)

    def compare_orders(self, y: Floats, orders: Places) -> Null:
        """Compare the scores of responses in the true order, the first, with those in all orders."""
        return Null.of(self.yield_scores(y, orders))


@dataclass(frozen=True, eq=False)
class Null:
    """Hold what is left of the scores of all orders, the true one included.

    Attributes
    ----------
    observed : ndarray (n_targets,)
        Scores in the true order; NaN where there is none.
    hits : int array (n_targets,)
        The number of orders with a score as high, of which the true order is one.
    highest : ndarray (n_orders,)
        The highest score of each order over all targets.
    """

    observed: Floats
    hits: Places
    highest: Floats

    @classmethod
    def of(cls, blocks: Iterable[Floats]) -> Null:
        """Summarize scores that come in blocks of orders `(n, n_targets)`, of which the first is the true order."""
        observed, hits = np.empty(0), np.empty(0, np.intp)
        highest: list[Floats] = []
        for block in blocks:
            if not highest:
                observed, hits = block[0], np.zeros(block.shape[1], np.intp)
            hits += (block >= observed - _TIE).sum(axis=0)
            highest.append(np.where(np.isnan(block), -np.inf, block).max(axis=1))
        return cls(observed, hits, np.concatenate(highest))

    @classmethod
    def join(cls, nulls: Sequence[Null]) -> Null:
        """Join the targets of several layers, which were scored in the same orders."""
        return cls(
            np.concatenate([one.observed for one in nulls]),
            np.concatenate([one.hits for one in nulls]),
            np.max([one.highest for one in nulls], axis=0),
        )


def encoding_test(
    fit: Encoding,
    *,
    permutations: int = 1000,
    correction: PermutationCorrection = "fdr",
    rng: np.random.Generator | None = None,
) -> pd.DataFrame:
    """Test each layer and voxel of one participant by permuting the sounds.

    Responses are exchanged among sounds, everything is fitted again (alphas too), and the uncorrected r is compared.
    Where sounds are tokens of conditions, whole conditions are exchanged with others of as many tokens; so are groups
    of the user. Where folds are runs and no sound is a token, sounds are exchanged within runs.

    Parameters
    ----------
    fit : Encoding
    permutations : int
        All are used if there are at most this many; else this many are drawn.
    correction : {"fdr", "max", "none"}
        Over all rows: the false discovery rate, or family-wise by the highest r of each permutation.
    rng : numpy Generator, optional

    Returns
    -------
    DataFrame
        A row for each layer and target: `network`, `layer`, `roi`, `voxel`, `r`, `p`, `p_corrected`, `permutations`,
        `smallest_p`; p is NaN where there is no r. `attrs["note"]` describes the test in words.

    Raises
    ------
    InputError
        `permutations` is below 1, or the correction is unknown.

    References
    ----------
    Phipson and Smyth 2010, doi:10.2202/1544-6115.1585; Nichols and Holmes 2002, doi:10.1002/hbm.1058

    Examples
    --------
    >>> from rsatoolbox.data.dataset import Dataset
    >>> from brainmap.rsa import encode
    >>> rng = np.random.default_rng(0)
    >>> x, names = rng.normal(size=(60, 5)), [f"sound{k}" for k in range(60)]
    >>> voxels = np.tile(x @ rng.normal(size=(5, 3)), (2, 1)) + 2 * rng.normal(size=(120, 3))
    >>> data = Dataset(voxels, obs_descriptors={"stimulus_id": names * 2, "run": ["1"] * 60 + ["2"] * 60})
    >>> fit = encode({"conv1": x}, data, descriptors={"stimulus_id": names})
    >>> encoding_test(fit, permutations=99, rng=rng)["p"].tolist()
    [0.01, 0.01, 0.01]
    """
    check_choice(correction, get_args(PermutationCorrection), "correction")
    orders, words = draw_orders(
        fit.items, fit.responses.conditions, fit.folds, permutations=permutations, rng=rng or np.random.default_rng()
    )
    y = fit.responses.mean
    nulls = []
    with progress("permuting sounds", len(fit.spaces)) as step:
        for space in fit.spaces:
            nulls.append(Refit.of(space, fit.folds, fit.settings).compare_orders(y, orders))
            step.advance(note=space.name)
    table = fit.scores[["network", "layer", *fit.responses.targets]].copy()
    return tabulate_p(table, Null.join(nulls), correction, words)


def encoding_group_test(
    fits: Sequence[Encoding],
    *,
    permutations: int = 1000,
    correction: PermutationCorrection = "max",
    rng: np.random.Generator | None = None,
) -> pd.DataFrame:
    """Test each layer and region over participants by one permutation of sounds that all of them share.

    The statistic is the mean over participants of each one's mean r over the voxels of a region. Since the same sounds
    are exchanged in all participants, what they have in common stays in the null distribution: the test is about these
    participants and sounds like these. (Sign flips over participants are about these sounds only, and call unrelated
    features related to responses that participants share; `encoding_statistics` has them under that name.)

    Means of regions (`encode(..., targets="roi")`) take a second where voxels take minutes.

    Parameters
    ----------
    fits : sequence of Encoding
        One for each participant, with the same sounds, folds, and layers.
    permutations, correction, rng
        As in `encoding_test`.

    Returns
    -------
    DataFrame
        A row for each layer and region: `network`, `layer`, `roi`, `r`, `p`, `p_corrected`, `n`, `permutations`,
        `smallest_p`.

    Raises
    ------
    InputError
        Participants differ in sounds, folds or layers, or lack a region.

    References
    ----------
    Phipson and Smyth 2010, doi:10.2202/1544-6115.1585 (p of permutations); Westfall and Young 1993, Resampling-based
    multiple testing (family-wise by the largest statistic).
    """
    check_choice(correction, get_args(PermutationCorrection), "correction")
    first = fits[0] if fits else None
    if first is None:
        raise InputError("encoding_group_test: expected a model of each participant, got none")
    regions = check_same_models(fits)
    orders, words = draw_orders(
        first.items,
        first.responses.conditions,
        first.folds,
        permutations=permutations,
        rng=rng or np.random.default_rng(),
    )
    total = np.zeros((len(orders), len(first.spaces) * len(regions)))
    with progress("permuting sounds", len(fits) * len(first.spaces)) as step:
        for fit in fits:
            own = _translate_orders(orders, first.items, fit.items)
            y, roi = fit.responses.mean, fit.responses.targets["roi"].to_numpy()
            for k, space in enumerate(fit.spaces):
                start = 0
                for block in Refit.of(space, fit.folds, fit.settings).yield_scores(y, own):
                    rows = slice(start, start + len(block))
                    for m, region in enumerate(regions):
                        total[rows, k * len(regions) + m] += average_present(block[:, roi == region]) / len(fits)
                    start = rows.stop
                step.advance(note=space.name)
    table = pd.DataFrame(
        [(space.network, space.layer, region) for space in first.spaces for region in regions],
        columns=["network", "layer", "roi"],
    )
    return tabulate_p(table, Null.of([total]), correction, words, n=len(fits))


def draw_orders(
    items: Sequence[str],
    conditions: Sequence[str],
    folds: Folds,
    *,
    permutations: int,
    rng: np.random.Generator,
) -> tuple[Places, str]:
    """Return permutations of the items `(n, n_items)` with the true order first, and what is exchanged in words.

    Scans of stories are exchanged in blocks. Whole conditions are exchanged, or whole groups of the user where no
    condition is divided by them; sounds that are no tokens are exchanged within runs where folds are runs.

    Raises
    ------
    InputError
        `permutations` is below 1.
    """
    if permutations < 1:
        raise InputError(f"encoding test: expected 1 permutation or more, got permutations={permutations}")
    if folds.block:
        return draw_block_orders(folds, permutations=permutations, rng=rng)
    n = len(items)
    tokens = len(set(conditions)) < n
    if folds.by == "run" and not tokens:
        orders = np.tile(np.arange(n), (permutations + 1, 1))
        for run in range(int(folds.group.max()) + 1):
            inside = np.flatnonzero(folds.group == run)
            orders[1:, inside] = rng.permuted(np.tile(inside, (permutations, 1)), axis=1)
        return orders, "stimuli exchanged within runs"
    of_condition: dict[str, set[int]] = {}
    for condition, group in zip(conditions, folds.group.tolist(), strict=True):
        of_condition.setdefault(condition, set()).add(group)
    coarser = folds.by == "groups of the user" and all(len(groups) == 1 for groups in of_condition.values())
    units: Sequence[Any] = folds.group.tolist() if coarser else conditions
    members: dict[Any, list[int]] = {}
    for place in np.argsort(items).tolist():
        members.setdefault(units[place], []).append(place)
    exchange = Exchange.among(list(members.values()))
    orders, _ = exchange.orders(permutations, rng)
    if exchange.count < _FEW:
        warnings.warn(
            f"encoding test: there are only {exchange.count} relabelings ({exchange.words}), so that no p is under "
            f"{1 / exchange.count:.2g}; groups of equal size have more",
            BrainmapWarning,
            stacklevel=4,
        )
    return orders, exchange.words


def check_same_models(fits: Sequence[Encoding]) -> list[str]:
    """Return the regions of encoding models that are compared over participants.

    Raises
    ------
    InputError
        Participants differ in sounds, folds, layers or regions, or occur twice.
    """
    first = fits[0]
    fold = dict(zip(first.items, first.folds.fold.tolist(), strict=True))
    layers = [(space.network, space.layer) for space in first.spaces]
    regions = list(dict.fromkeys(first.responses.targets["roi"]))
    names = [fit.participant or str(k + 1) for k, fit in enumerate(fits)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"encoding: expected each participant once, got {list_some(twice)} more than once; leave one out"
        )
    for name, fit in zip(names[1:], fits[1:], strict=True):
        if set(fit.items) != set(fold):
            differ = sorted(set(fit.items) ^ set(fold))
            raise InputError(
                f"encoding: expected the sounds of {names[0]} in {name}, which differ in {list_some(differ)}"
            )
        if dict(zip(fit.items, fit.folds.fold.tolist(), strict=True)) != fold:
            raise InputError(
                f"encoding: expected equal folds, got others in {name} than in {names[0]}; scores are compared only "
                "where folds are equal: fit all with the same folds, groups and rng"
            )
        if [(space.network, space.layer) for space in fit.spaces] != layers:
            raise InputError(f"encoding: expected the layers of {names[0]} in {name}, got others; fit the same ones")
        lacking = [roi for roi in regions if roi not in set(fit.responses.targets["roi"])]
        if lacking or len(set(fit.responses.targets["roi"])) != len(regions):
            raise InputError(
                f"encoding: expected the regions {list_some(regions)} in {name}, got others; fit the same ones"
            )
    return regions


def average_present(values: Floats) -> Floats:
    """Return the mean over the last axis of what is not NaN; NaN where nothing is.

    Examples
    --------
    >>> average_present(np.array([[1.0, 3.0, np.nan], [np.nan] * 3])).tolist()
    [2.0, nan]
    """
    there = np.isfinite(values)
    n = there.sum(axis=-1)
    return np.asarray(np.where(there, values, 0.0).sum(axis=-1) / np.where(n > 0, n, np.nan))


def _translate_orders(orders: Places, items: Sequence[str], own: Sequence[str]) -> Places:
    """Return permutations of items for a participant whose items come in another order."""
    place = {name: k for k, name in enumerate(own)}
    there = np.array([place[name] for name in items])  # place of each item of the first participant
    found = np.empty_like(orders)
    found[:, there] = there[orders]
    return found


def tabulate_p(
    table: pd.DataFrame, null: Null, correction: PermutationCorrection, words: str, *, n: int | None = None
) -> pd.DataFrame:
    """Add r and p to a table of tests, and describe the test in words."""
    n_orders, scored = len(null.highest), ~np.isnan(null.observed)
    p = np.where(scored, null.hits / n_orders, np.nan)
    if correction == "max":
        above = n_orders - np.searchsorted(np.sort(null.highest), null.observed - _TIE, side="left")
        corrected = np.where(scored, above / n_orders, np.nan)
    else:
        corrected = correct_p(p, correction)
    found = table.assign(r=null.observed, p=p, p_corrected=corrected)
    if n is not None:
        found["n"] = n
    found["permutations"] = n_orders - 1
    found["smallest_p"] = 1 / n_orders
    over = {"fdr": "false discovery rate", "max": "family-wise by the highest r", "none": "not corrected"}[correction]
    reach = describe_fdr_reach(p, 1 / n_orders) if correction == "fdr" else ""
    what = "scans" if words.startswith("blocks") else "sounds"
    found.attrs["note"] = f"permutation of {what} ({words}), refitted each time; {over} over {scored.sum()} tests"
    if reach:
        found.attrs["note"] += f"; {reach}"
        warnings.warn(f"encoding test: {reach}; take more permutations", BrainmapWarning, stacklevel=3)
    return found
