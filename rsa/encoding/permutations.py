"""Test encoding models of one participant by permuting the sounds."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_enough, refuse_some
from brainmap.errors import BrainmapWarning
from brainmap.groups import group_pairs
from brainmap.progress import progress
from brainmap.rsa.encoding.encode import Encoding
from brainmap.rsa.encoding.fits import EncodingSettings, build_designs
from brainmap.rsa.encoding.folds import Folds, Places, find_divided, yield_inner_splits
from brainmap.rsa.encoding.responses import SURFACE_COLUMNS, TARGET_COLUMNS, FeatureSpace
from brainmap.rsa.encoding.ridge import (
    Design,
    build_error_operator,
    choose_and_predict,
    explain_training,
    move_to_device,
)
from brainmap.rsa.encoding.scores import measure_influence, score_fold
from brainmap.rsa.encoding.story_refits import StoryRefit
from brainmap.rsa.inference.exchange import Exchange
from brainmap.rsa.inference.scores import correct_p, describe_fdr_reach
from brainmap.types import Floats, PermutationCorrection


def draw_block_orders(folds: Folds, *, permutations: int, rng: np.random.Generator) -> tuple[Places, str]:
    """Return permutations of items `(n, n_items)` with the true order first, and what is exchanged in words.

    Each group (story) is rotated by a random number of items, cut into as many blocks of at least `folds.block` items
    as it holds, and the blocks are exchanged. Blocks never leave their group. The rotation moves the cuts, so that no
    two neighbors stay together in all permutations.

    Raises
    ------
    InputError
        `permutations` is below 1, or a group holds fewer than two blocks.

    Examples
    --------
    >>> folds = Folds(np.repeat([0, 1], 6), np.repeat([0, 1], 6), "story", block=3)
    >>> orders, words = draw_block_orders(folds, permutations=2, rng=np.random.default_rng(0))
    >>> orders[0].tolist() == list(range(12)), sorted(orders[1, :6].tolist()), words
    (True, [0, 1, 2, 3, 4, 5], 'blocks of 3 scans or more exchanged within each story')
    """
    check_enough(permutations, 1, "encoding test", "permutation")
    refuse_some(
        [f"{folds.by} {k + 1} ({len(one)} scans)" for k, one in enumerate(folds.members) if len(one) < 2 * folds.block],
        f"encoding test: expected two blocks of {folds.block} scans or more in each {folds.by}, got fewer in ",
        "; leave them out, or do not test",
        most=3,
    )
    orders = np.tile(np.arange(len(folds.group)), (permutations + 1, 1))
    for own in folds.members:
        n_blocks = len(own) // folds.block
        for row in orders[1:]:
            pieces = np.array_split(np.roll(own, int(rng.integers(len(own)))), n_blocks)
            row[own] = np.concatenate([pieces[k] for k in rng.permutation(n_blocks)])
    return orders, f"blocks of {folds.block} scans or more exchanged within each {folds.by}"


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

    Alphas are chosen again for each permutation. Of stories with fewer units than scans, products within stories are
    held (`stories`) in place of factors of each fold (`parts`).
    """

    folds: Folds
    alphas: Floats
    parts: list[tuple[list[Any], tuple[Any, Any, Any]]]
    device: str | None
    stories: StoryRefit | None = None

    @classmethod
    def of(cls, space: FeatureSpace, folds: Folds, settings: EncodingSettings) -> Refit:
        """Factor the features of a layer in each fold."""
        splits = [folds.split(k) for k in range(folds.n_folds)]
        least = min(len(train) for train, _ in splits) * (1 - 1 / settings.inner_folds)
        if folds.block and settings.device is None and space.shape[1] < least:
            return cls(folds, settings.alphas, [], None, StoryRefit.of(space.whole(), folds, settings))
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

    def score_folds(self, y: Floats) -> tuple[Floats, Floats]:
        """Fit and score responses `(n_items, n_targets)` in each fold; NaN where there is no score.

        Returns
        -------
        r : ndarray (n_folds, n_targets)
            Of the test items.
        share : ndarray (n_folds, n_targets)
            Share of the variance of training items that is predicted in the cross-validation that chooses alpha.
        """
        if self.stories is not None:
            return self.stories.score_folds(y)
        there = move_to_device(y, self.device)
        r, share = (np.empty((len(self.parts), y.shape[1])) for _ in range(2))
        for k, (operators, factors) in enumerate(self.parts):
            train, test = self.folds.split(k)
            losses, _, predicted = choose_and_predict(operators, factors, there[train], self.alphas)
            r[k] = score_fold(predicted, y[test])[0]
            share[k] = explain_training(losses, y[train])
        return r, share

    def measure_influence(self, y: Floats) -> Floats:
        """Return how much each item moves the mean r over folds `(n_items, n_targets)`; see `scores`."""
        if self.stories is not None:
            return self.stories.measure_influence(y)
        there = move_to_device(y, self.device)
        found = np.empty(y.shape)
        for k, (operators, factors) in enumerate(self.parts):
            train, test = self.folds.split(k)
            _, _, predicted = choose_and_predict(operators, factors, there[train], self.alphas)
            found[test] = measure_influence(predicted, y[test]) / len(self.parts)
        return found

    def yield_orders(self, y: Floats, orders: Places) -> Iterator[tuple[Floats, Floats]]:
        """Yield scores in the folds, with responses in some of the orders of the items; the first is the true one.

        Both are `(n, n_folds, n_targets)`, as `score_folds` gives them. Targets without a score in the true order have
        none; one that lacks a score in another order only counts as 0.
        """
        at_once, lacking = max(1, _TARGETS // y.shape[1]), None
        for start in range(0, len(orders), at_once):
            block = y[orders[start : start + at_once]].transpose(1, 0, 2)  # items, orders, targets
            r, share = (
                one.reshape(self.folds.n_folds, -1, y.shape[1]).transpose(1, 0, 2)
                for one in self.score_folds(block.reshape(len(y), -1))
            )
            without = np.asarray(np.isnan(r).any(axis=1))
            lacking = without[0] if lacking is None else lacking
            yield np.where(lacking, np.nan, np.where(without[:, None], 0.0, r)), share

    def yield_scores(self, y: Floats, orders: Places) -> Iterator[Floats]:
        """Yield the means over folds `(n, n_targets)` of what `yield_orders` yields."""
        for r, _ in self.yield_orders(y, orders):
            yield r.mean(axis=1)


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
            nulls.append(Null.of(Refit.of(space, fit.folds, fit.settings).yield_scores(y, orders)))
            step.advance(note=space.name)
    table = fit.scores[["network", "layer", *fit.responses.targets]].copy()
    return tabulate_p(table, Null.join(nulls), correction, words)


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
    check_enough(permutations, 1, "encoding test", "permutation")
    if folds.block:
        return draw_block_orders(folds, permutations=permutations, rng=rng)
    n = len(items)
    if folds.by == "run" and len(set(conditions)) == n:
        orders = np.tile(np.arange(n), (permutations + 1, 1))
        for run in range(int(folds.group.max()) + 1):
            inside = np.flatnonzero(folds.group == run)
            orders[1:, inside] = rng.permuted(np.tile(inside, (permutations, 1)), axis=1)
        return orders, "stimuli exchanged within runs"
    units = find_units(conditions, folds)
    members = group_pairs((units[place], place) for place in np.argsort(items).tolist())
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


def find_units(conditions: Sequence[str], folds: Folds) -> list[Any]:
    """Return what each item is exchanged with: its condition, group of the user, or block of scans of a story.

    Groups of the user are taken where no condition is divided by them.
    """
    if folds.block:
        ranks = [int((folds.group[:k] == one).sum()) // folds.block for k, one in enumerate(folds.group)]
        return list(zip(folds.group.tolist(), ranks, strict=True))
    coarser = folds.by == "groups of the user" and not find_divided(folds.group.tolist(), conditions)
    return list(folds.group.tolist() if coarser else conditions)


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


def tabulate_p(
    table: pd.DataFrame,
    null: Null,
    correction: PermutationCorrection,
    words: str,
    *,
    n: int | None = None,
    score: str = "r",
) -> pd.DataFrame:
    """Add the score and p to a table of tests, and describe the test in words."""
    n_orders, scored = len(null.highest), ~np.isnan(null.observed)
    p = np.where(scored, null.hits / n_orders, np.nan)
    if correction == "max":
        above = n_orders - np.searchsorted(np.sort(null.highest), null.observed - _TIE, side="left")
        corrected = np.where(scored, above / n_orders, np.nan)
    else:
        corrected = correct_p(p, correction)
    found = table.assign(**{score: null.observed}, p=p, p_corrected=corrected)
    if n is not None:
        found["n"] = n
    found["permutations"] = n_orders - 1
    found["smallest_p"] = 1 / n_orders
    family = f"family-wise by the {'highest r' if score == 'r' else f'largest {score}'}"
    over = {"fdr": "false discovery rate", "max": family, "none": "not corrected"}[correction]
    reach = describe_fdr_reach(p, 1 / n_orders) if correction == "fdr" else ""
    what = "scans" if words.startswith("blocks") else "sounds"
    found.attrs["note"] = f"permutation of {what} ({words}), refitted each time; {over} over {scored.sum()} tests"
    if reach:
        found.attrs["note"] += f"; {reach}"
        warnings.warn(f"encoding test: {reach}; take more permutations", BrainmapWarning, stacklevel=3)
    return found


def average_regions(values: Floats, roi: NDArray[Any], regions: Sequence[str]) -> Floats:
    """Average values `(..., n_targets)` over the targets of each region that have one; `roi` names that of a target."""
    return np.stack([average_present(values[..., roi == name]) for name in regions], axis=-1)
