"""Test encoding models over participants, by permutations of the sounds that all of them share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice, list_some, refuse_some
from brainmap.errors import InputError
from brainmap.progress import progress
from brainmap.rsa.encoding.encode import Encoding
from brainmap.rsa.encoding.folds import Places
from brainmap.rsa.encoding.permutations import Null, draw_orders, find_units, tabulate_p
from brainmap.rsa.encoding.permuted import Permuted, permute_network
from brainmap.rsa.inference.scores import correct_p
from brainmap.rsa.inference.seeds import Seeds, average_rows, list_means
from brainmap.types import Floats, PermutationCorrection

NETWORK_TEST_COLUMNS = {
    "network": "network",
    "other_network": "network that it is compared with",
    "roi": "region of interest",
    "r": "r of the network's best layer, which is chosen in each fold on training sounds alone; mean over folds, the "
    "voxels of the region, and participants",
    "other_r": "the same of the other network",
    "difference": "r less that of the other",
    "p": "two-sided: the larger of the two that follow; take it as of these sounds only",
    "p_corrected": "corrected over all rows of the table: the larger of both, each corrected; of these sounds only",
    "p_unrelated": "if neither is related to the responses: (k + 1) / (N + 1), where k of N permutations of sounds "
    "have a difference as large",
    "p_equal": "if both predict equally well: t test over sounds, for models whose training sounds overlap",
    "n": "participants",
    "permutations": "permutations of sounds, beside the true order",
    "smallest_p": "smallest p that these permutations can reach",
}

GENERALIZES = (
    "these sounds only, since networks that predict equally well, and share much that does not predict, differed in "
    ".085 of simulated studies of 48 sounds at .05"
)


@dataclass(frozen=True, eq=False)
class GroupNull:
    """Hold scores over participants, with the sounds in the true order, the first, and in others that all share.

    Attributes
    ----------
    rows : list of (network, layer)
    networks, regions : list of str
    layers : ndarray (n_orders, n_layers, n_regions)
        Mean r over participants.
    best : ndarray (n_orders, n_networks, n_regions)
        r of the best layer of each network, which is chosen on training sounds; mean over participants.
    own : ndarray (n_networks, n_regions, n_participants)
        The same in the true order, of each participant.
    words : str
        What is exchanged.
    influence, best_influence : ndarray (n_layers or n_networks, n_units, n_regions)
        How much each unit that is exchanged moves the mean scores in the true order.
    """

    rows: list[tuple[str, str]]
    networks: list[str]
    regions: list[str]
    layers: Floats
    best: Floats
    own: Floats
    words: str
    n_folds: int
    influence: Floats
    best_influence: Floats

    @classmethod
    def join(
        cls, fits: Sequence[Encoding], regions: list[str], permuted: Sequence[Sequence[Permuted]], words: str
    ) -> GroupNull:
        """Average over participants, of whom each has the scores of all networks, in the order of their layers."""
        first = fits[0]
        units = pd.factorize(pd.Series(find_units(first.responses.conditions, first.folds), dtype=object))[0]
        parts: list[dict[str, Floats]] = []
        for fit, each in zip(fits, permuted, strict=True):
            place = [fit.items.index(name) for name in first.items]
            layers = np.concatenate([one.influence for one in each])[:, place]
            parts.append(
                {
                    "layers": np.concatenate([one.layers for one in each], axis=1),
                    "best": np.stack([one.best for one in each], axis=1),
                    "influence": _sum_units(layers, units),
                    "best_influence": _sum_units(np.stack([one.best_influence for one in each])[:, place], units),
                }
            )
        return cls(
            rows=[(space.network, space.layer) for space in first.spaces],
            networks=list_networks(first),
            regions=regions,
            own=np.stack([one["best"][0] for one in parts], axis=-1),
            words=words,
            n_folds=first.folds.n_folds,
            **{name: np.mean([one[name] for one in parts], axis=0) for name in parts[0]},
        )

    def with_means(self, seeds: Seeds) -> GroupNull:
        """Return the scores with those of further networks, each the mean over several (seeds of one network)."""
        if not seeds:
            return self
        listed = list_means(self.rows, seeds)
        rows, places = [row for row, _ in listed], [own for _, own in listed]
        groups = [[k] for k in range(len(self.networks))]
        groups += [[self.networks.index(name) for name in members] for members in seeds.values()]
        return replace(
            self,
            rows=rows,
            networks=[*self.networks, *seeds],
            layers=average_rows(self.layers, places, axis=1),
            best=average_rows(self.best, groups, axis=1),
            own=average_rows(self.own, groups),
            influence=average_rows(self.influence, places),
            best_influence=average_rows(self.best_influence, groups),
        )

    def test_layers(self, correction: PermutationCorrection = "max") -> pd.DataFrame:
        """Test each layer and region; see `encoding_group_test`."""
        table = pd.DataFrame(
            [(*row, region) for row in self.rows for region in self.regions], columns=["network", "layer", "roi"]
        )
        null = Null.of([self.layers.reshape(len(self.layers), -1)])
        return tabulate_p(table, null, correction, self.words, n=self.own.shape[-1])

    def test_layer_pairs(
        self, pairs: Sequence[tuple[int, int]], correction: PermutationCorrection = "max"
    ) -> pd.DataFrame:
        """Test differences between layers, by their places in `rows`, two-sided."""
        names = [(*self.rows[one], *self.rows[other], roi) for one, other in pairs for roi in self.regions]
        columns = ["network", "layer", "other_network", "other_layer", "roi"]
        return self._test_pairs(self.layers, self.influence, pairs, pd.DataFrame(names, columns=columns), correction)

    def test_networks(
        self, pairs: Sequence[tuple[str, str]] | None = None, correction: PermutationCorrection = "max"
    ) -> pd.DataFrame:
        """Test differences between networks, two-sided; see `encoding_network_test`."""
        named = [(a, b) for k, a in enumerate(self.networks) for b in self.networks[k + 1 :]]
        wanted = named if pairs is None else list(pairs)
        places = [tuple(self.networks.index(check_choice(x, self.networks, "network")) for x in one) for one in wanted]
        names = pd.DataFrame(
            [(a, b, roi) for a, b in wanted for roi in self.regions], columns=["network", "other_network", "roi"]
        )
        return self._test_pairs(
            self.best, self.best_influence, [(one, other) for one, other in places], names, correction
        )

    def _test_pairs(
        self,
        scores: Floats,
        influence: Floats,
        pairs: Sequence[tuple[int, int]],
        names: pd.DataFrame,
        correction: PermutationCorrection,
    ) -> pd.DataFrame:
        """Test the differences of pairs of scores `(n_orders, n_models, n_regions)`, two-sided."""
        sides = [[pair[side] for pair in pairs] for side in (0, 1)]
        one, other = (scores[:, side].reshape(len(scores), -1) for side in sides)
        difference = one - other
        found = tabulate_p(
            names, Null.of([np.abs(difference)]), correction, self.words, n=self.own.shape[-1], score="difference"
        )
        moved = influence[sides[0]] - influence[sides[1]]
        equal = compare_with_zero(difference[0], moved, n_folds=self.n_folds)
        note = (
            f"the larger p of two: {found.attrs['note']}; and a t test over {moved.shape[1]} units that are exchanged, "
            "for models whose training sounds overlap"
            + (", corrected by Bonferroni" if correction == "max" else "")
            + f"; {GENERALIZES}"
        )
        corrected = correct_p(equal, "bonferroni" if correction == "max" else correction)
        found = names.assign(
            r=one[0],
            other_r=other[0],
            difference=difference[0],
            p=np.maximum(found["p"], equal),
            p_corrected=np.maximum(found["p_corrected"], corrected),
            p_unrelated=found["p"],
            p_equal=equal,
            **{name: found[name] for name in ("n", "permutations", "smallest_p")},
        )
        found.attrs["note"] = note
        return found


def compare_with_zero(difference: Floats, moved: Floats, *, n_folds: int) -> Floats:
    """Test whether differences of cross-validated scores are 0, by a t test over the units of the test folds.

    How much each unit moves a difference gives the variance of that of given models; with k folds, whose training
    sounds overlap, it is 1 + k / (k - 1) times larger (Nadeau and Bengio 2003).

    Parameters
    ----------
    difference : ndarray (n_tests,)
    moved : ndarray (n_pairs, n_units, n_regions)
        How much each unit moves the difference; the sum is 0.
    n_folds : int

    Returns
    -------
    ndarray (n_tests,)
        Two-sided p, with one degree of freedom less than units; 1 where the difference is exactly 0.

    References
    ----------
    Nadeau and Bengio 2003, doi:10.1023/A:1024068626366
    """
    n = moved.shape[1]
    variance = (1 + n_folds / (n_folds - 1)) * np.square(moved).sum(axis=1).ravel() * n / (n - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        t = np.abs(difference) / np.sqrt(variance)
    from scipy.special import stdtr  # slow to import

    return np.asarray(np.where(difference == 0, 1.0, 2 * stdtr(n - 1, -t)))


def _sum_units(influence: Floats, units: NDArray[np.intp]) -> Floats:
    """Sum how much items `(n_models, n_items, n_regions)` move scores over the items of each unit."""
    return np.stack([influence[:, units == k].sum(axis=1) for k in range(int(units.max()) + 1)], axis=1)


def permute_group(
    fits: Sequence[Encoding], *, permutations: int = 1000, rng: np.random.Generator | None = None
) -> GroupNull:
    """Score all layers and networks over participants in permuted orders of the sounds that all participants share.

    `test_layers` and `test_networks` of the result are the tests of `encoding_group_test` and `encoding_network_test`,
    for one computation.

    Raises
    ------
    InputError
        Participants differ in sounds, folds or layers, or lack a region.
    """
    if not fits:
        raise InputError("encoding: expected a model of each participant, got none")
    regions = check_same_models(fits)
    first, networks = fits[0], list_networks(fits[0])
    orders, words = draw_shared_orders(first, permutations=permutations, rng=rng or np.random.default_rng())
    permuted: list[list[Permuted]] = []
    with progress("permuting sounds", len(fits) * len(networks)) as step:
        for fit, own in zip(fits, translate_orders(orders, fits), strict=True):
            permuted.append([])
            for network in networks:
                permuted[-1].append(permute_network(fit, network, own, regions))
                step.advance(note=network)
    return GroupNull.join(fits, regions, permuted, words)


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
    return permute_group(fits, permutations=permutations, rng=rng).test_layers(correction)


def encoding_network_test(
    fits: Sequence[Encoding],
    *,
    pairs: Sequence[tuple[str, str]] | None = None,
    permutations: int = 1000,
    correction: PermutationCorrection = "max",
    rng: np.random.Generator | None = None,
) -> pd.DataFrame:
    """Test whether one network predicts a region better than another, over participants and sounds like these.

    A network is represented by its best layer. It is chosen in each fold by the cross-validation among training sounds
    that chooses alpha, so that test sounds have no part in the choice and networks of many layers have no advantage.

    p is the larger of two, since networks may be alike in two ways. `p_unrelated`: neither is related to the
    responses, which permutations of sounds that all participants share test exactly. `p_equal`: both predict equally
    well, for which permutations are too narrow where the networks have much in common that does not predict; a t test
    over sounds (over conditions, where sounds are their tokens) takes how much each sound moves the difference, with
    the variance of models whose training sounds overlap.

    Report differences as about these sounds only. Unrelated networks differ in at most .06 of tests at .05, but those
    that predict equally well, and share much that does not predict, in .085 of simulated studies of 48 sounds.

    Parameters
    ----------
    fits : sequence of Encoding
        One for each participant, with the same sounds, folds, and layers of all networks (controls and baselines are
        networks, too).
    pairs : sequence of (str, str), optional
        The networks to compare; by default each pair.
    permutations, correction, rng
        As in `encoding_test`.

    Returns
    -------
    DataFrame
        A row for each pair and region (see `NETWORK_TEST_COLUMNS`): `r` and `other_r` of the best layers, `difference`,
        `p`, `p_corrected`, `p_unrelated`, `p_equal`, `n`, `permutations`, `smallest_p`. Scores are uncorrected r.

    Raises
    ------
    InputError
        There is no such network, or participants differ in sounds, folds or layers, or lack a region.

    References
    ----------
    Phipson and Smyth 2010, doi:10.2202/1544-6115.1585 (p of permutations); Nadeau and Bengio 2003,
    doi:10.1023/A:1024068626366 (variance of cross-validated scores).
    """
    check_choice(correction, get_args(PermutationCorrection), "correction")
    return permute_group(fits, permutations=permutations, rng=rng).test_networks(pairs, correction)


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
    refuse_some(
        sorted({name for name in names if names.count(name) > 1}),
        "encoding: expected each participant once, got ",
        " more than once; leave one out",
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


def draw_shared_orders(fit: Encoding, *, permutations: int, rng: np.random.Generator) -> tuple[Places, str]:
    """Draw orders of the items of a participant, and what is exchanged in words.

    They depend on the names of the items and not on their order, so that a generator of one seed gives the same orders
    in all participants. (Scans of stories have an order, which is the same in all.)
    """
    items, conditions, folds = fit.items, fit.responses.conditions, fit.folds
    by_name = np.arange(len(items)) if folds.block else np.argsort(items)
    sorted_folds = replace(folds, fold=folds.fold[by_name], group=folds.group[by_name])
    names, own = [items[k] for k in by_name], [conditions[k] for k in by_name]
    drawn, words = draw_orders(names, own, sorted_folds, permutations=permutations, rng=rng)
    orders = np.empty_like(drawn)
    orders[:, by_name] = by_name[drawn]
    return orders, words


def translate_orders(orders: Places, fits: Sequence[Encoding]) -> Iterator[Places]:
    """Yield permutations of the items of the first participant for each one, whose items come in another order."""
    for fit in fits:
        place = {name: k for k, name in enumerate(fit.items)}
        there = np.array([place[name] for name in fits[0].items])  # place of each item of the first participant
        found = np.empty_like(orders)
        found[:, there] = there[orders]
        yield found


def list_networks(fit: Encoding) -> list[str]:
    """List the networks of encoding models in the order of their layers."""
    return list(dict.fromkeys(space.network for space in fit.spaces))
