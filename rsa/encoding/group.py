"""Test encoding models over participants, by permutations of the sounds that all of them share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pandas as pd

from brainmap.checks import check_choice, list_some
from brainmap.errors import InputError
from brainmap.progress import progress
from brainmap.rsa.encoding.encode import Encoding
from brainmap.rsa.encoding.folds import Places
from brainmap.rsa.encoding.permutations import Null, Refit, average_present, draw_orders, tabulate_p
from brainmap.types import Floats, PermutationCorrection

NETWORK_TEST_COLUMNS = {
    "network": "network",
    "other_network": "network that it is compared with",
    "roi": "region of interest",
    "r": "r of the network's best layer, which is chosen in each fold on training sounds alone; mean over folds, the "
    "voxels of the region, and participants",
    "other_r": "the same of the other network",
    "difference": "r less that of the other",
    "p": "two-sided: (k + 1) / (N + 1), where k of N permutations of sounds have a difference as large",
    "p_corrected": "corrected over all rows of the table",
    "n": "participants",
    "permutations": "permutations of sounds, beside the true order",
    "smallest_p": "smallest p that these permutations can reach",
}


@dataclass(frozen=True, eq=False)
class Permuted:
    """Hold scores of the layers of one network in one participant, with the sounds in several orders.

    Attributes
    ----------
    layers : ndarray (n_orders, n_layers, n_regions)
        Mean r over the voxels of a region.
    best : ndarray (n_orders, n_regions)
        r of the best layer, which is chosen in each fold by its error among training sounds.
    """

    layers: Floats
    best: Floats

    @classmethod
    def join(cls, parts: Sequence[Permuted]) -> Permuted:
        """Join the orders of several parts."""
        return cls(np.concatenate([one.layers for one in parts]), np.concatenate([one.best for one in parts]))


def permute_network(fit: Encoding, network: str, orders: Places, regions: Sequence[str]) -> Permuted:
    """Score a network in one participant with the sounds in some orders `(n_orders, n_items)`, the first the true one.

    In each fold, the best layer of a region has the largest mean over voxels of the share of variance that it predicts
    in the cross-validation among training sounds that chooses alpha; its r is that of the test sounds.
    """
    spaces = [space for space in fit.spaces if space.network == network]
    roi, shape = fit.responses.targets["roi"].to_numpy(), (len(orders), fit.folds.n_folds, len(regions))
    r, share = (np.full((len(spaces), *shape), np.nan) for _ in range(2))
    for k, space in enumerate(spaces):
        start = 0
        for scores, predicted in Refit.of(space, fit.folds, fit.settings).yield_orders(fit.responses.mean, orders):
            rows = slice(start, start + len(scores))
            for m, region in enumerate(regions):
                r[k, rows, :, m] = average_present(scores[..., roi == region])
                share[k, rows, :, m] = average_present(predicted[..., roi == region])
            start = rows.stop
    chosen = np.where(np.isfinite(share), share, -np.inf).argmax(axis=0)
    best = np.take_along_axis(r, chosen[None], axis=0)[0]
    return Permuted(r.mean(axis=2).transpose(1, 0, 2), best.mean(axis=1))


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
    """

    rows: list[tuple[str, str]]
    networks: list[str]
    regions: list[str]
    layers: Floats
    best: Floats
    own: Floats
    words: str

    @classmethod
    def join(
        cls, fits: Sequence[Encoding], regions: list[str], permuted: Sequence[Sequence[Permuted]], words: str
    ) -> GroupNull:
        """Average over participants, of whom each has the scores of all networks, in the order of their layers."""
        layers = np.mean([np.concatenate([one.layers for one in each], axis=1) for each in permuted], axis=0)
        best = np.stack([np.stack([one.best for one in each], axis=1) for each in permuted], axis=-1)
        rows = [(space.network, space.layer) for space in fits[0].spaces]
        return cls(rows, list_networks(fits[0]), regions, layers, best.mean(axis=-1), best[0], words)

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
        return self._test_pairs(self.layers, pairs, pd.DataFrame(names, columns=columns), correction)

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
        return self._test_pairs(self.best, [(one, other) for one, other in places], names, correction)

    def _test_pairs(
        self, scores: Floats, pairs: Sequence[tuple[int, int]], names: pd.DataFrame, correction: PermutationCorrection
    ) -> pd.DataFrame:
        """Test the differences of pairs of scores `(n_orders, n_models, n_regions)`, two-sided."""
        one, other = (scores[:, [pair[side] for pair in pairs]].reshape(len(scores), -1) for side in (0, 1))
        difference = one - other
        found = tabulate_p(
            names, Null.of([np.abs(difference)]), correction, self.words, n=self.own.shape[-1], score="difference"
        )
        note = found.attrs["note"]
        columns = [*names.columns, "r", "other_r", "difference"]
        found = found.assign(r=one[0], other_r=other[0], difference=difference[0])
        found = found[[*columns, *(name for name in found if name not in columns)]]
        found.attrs["note"] = note
        return found


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
    orders, words = draw_orders(
        first.items,
        first.responses.conditions,
        first.folds,
        permutations=permutations,
        rng=rng or np.random.default_rng(),
    )
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
        `p`, `p_corrected`, `n`, `permutations`, `smallest_p`. Scores are uncorrected r.

    Raises
    ------
    InputError
        There is no such network, or participants differ in sounds, folds or layers, or lack a region.

    References
    ----------
    Phipson and Smyth 2010, doi:10.2202/1544-6115.1585 (p of permutations); Westfall and Young 1993, Resampling-based
    multiple testing (family-wise by the largest statistic).
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
