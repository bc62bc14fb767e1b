"""Take several seeds of a network as one network, whose scores are the means of theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple, TypeAlias

import numpy as np

from brainmap.checks import list_some
from brainmap.errors import InputError
from brainmap.rsa.rdm.alignment import list_rdm_names
from brainmap.types import Floats, RDMs

Seeds: TypeAlias = Mapping[str, Sequence[str]]
"""The names of further networks, each with the names of the networks (seeds) over which its scores are averaged."""


class ScoredRows(NamedTuple):
    """Hold the rows of a table of scores: the models as they are, then the layers of networks of several seeds.

    Attributes
    ----------
    names : list of str (n_rows,)
        As `list_rdm_names` gives them; "<network> <layer>" of a network of several seeds.
    owners : list of str (n_rows,)
        The network of each row; empty where models belong to none.
    places : list of lists of int (n_rows,)
        The models over which the scores of a row are averaged.
    """

    names: list[str]
    owners: list[str]
    places: list[list[int]]

    def list_network_pairs(self) -> list[tuple[int, int]]:
        """List all pairs of networks that share no model, by their places in the order of their first rows.

        A network of several seeds is not compared with one of them.
        """
        sets = [set[int]() for _ in dict.fromkeys(self.owners)]
        for owner, own in zip(self._number_owners(), self.places, strict=True):
            sets[owner].update(own)
        pairs = combinations(range(len(sets)), 2)
        return [(one, other) for one, other in pairs if sets[one].isdisjoint(sets[other])]

    def list_pairs(self) -> list[tuple[int, int]]:
        """List all pairs of rows of one network, and of networks that share no model."""
        owner = self._number_owners()
        apart = {pair for one, other in self.list_network_pairs() for pair in ((one, other), (other, one))}
        pairs = combinations(range(len(owner)), 2)
        return [(a, b) for a, b in pairs if owner[a] == owner[b] or (owner[a], owner[b]) in apart]

    def _number_owners(self) -> list[int]:
        number = {name: k for k, name in enumerate(dict.fromkeys(self.owners))}
        return [number[name] for name in self.owners]


def list_means(rows: Sequence[tuple[str, str]], seeds: Seeds) -> list[tuple[tuple[str, str], list[int]]]:
    """List layers with their places, followed by those of further networks, each with the places of its seeds.

    Raises
    ------
    InputError
        A seed is unknown, or has other layers than the first.

    Examples
    --------
    >>> list_means([("a1", "conv1"), ("a2", "conv1")], {"a": ["a1", "a2"]})[-1]
    (('a', 'conv1'), [0, 1])
    """
    layers = {network: [layer for name, layer in rows if name == network] for network, _ in rows}
    found = [(row, [k]) for k, row in enumerate(rows)]
    for name, members in seeds.items():
        unknown = [member for member in members if member not in layers]
        if unknown or not members or name in layers:
            raise InputError(
                f"seeds: expected names of networks ({list_some(layers)}) as the seeds of a further one, got "
                f"{name!r}: {list_some(members) or 'none'}; name networks that are there, and another name for the "
                "whole"
            )
        for member in members:
            if layers[member] != layers[members[0]]:
                raise InputError(
                    f"seeds: expected the layers of {members[0]} in {member}, a seed of the same network ({name}), "
                    f"got {list_some(layers[member])}; name the same layers for both"
                )
        found += [((name, layer), [rows.index((one, layer)) for one in members]) for layer in layers[members[0]]]
    return found


def average_rows(values: Floats, places: Sequence[Sequence[int]], axis: int = 0) -> Floats:
    """Average values over the models of each row; the axis of the models becomes that of the rows.

    Examples
    --------
    >>> average_rows(np.array([1.0, 3.0]), [[0], [1], [0, 1]]).tolist()
    [1.0, 3.0, 2.0]
    """
    return np.stack([values.take(list(own), axis=axis).mean(axis=axis) for own in places], axis=axis)


SEED_COLUMNS = {
    "seeds": "seeds of the network that are averaged",
    "seeds_deviation": "standard deviation of the mean over these seeds; n/a for one",
}


def measure_spread(means: Floats, places: Sequence[Sequence[int]]) -> dict[str, Floats]:
    """Count the seeds of each row, and measure how far their means `(n_models, n_regions)` lie apart.

    Returns
    -------
    dict of str to ndarray (n_rows * n_regions,)
        The columns of `SEED_COLUMNS`; the deviation is NaN for one seed.

    Examples
    --------
    >>> measure_spread(np.array([[1.0], [3.0]]), [[0], [0, 1]])["seeds_deviation"].round(3).tolist()
    [nan, 1.414]
    """
    none = np.full(means.shape[1], np.nan)
    apart = [means[list(own)].std(axis=0, ddof=1) if len(own) > 1 else none for own in places]
    return {
        "seeds": np.repeat([len(own) for own in places], means.shape[1]),
        "seeds_deviation": np.concatenate(apart),
    }


def list_rows(models: RDMs, seeds: Seeds | None = None) -> ScoredRows:
    """List the rows of a table of scores of model RDMs, with those of networks of several seeds.

    Raises
    ------
    InputError
        As in `list_means`, or seeds are named of RDMs without networks and layers, or over time.
    """
    names, described = list(list_rdm_names(models)), models.rdm_descriptors
    owners = [str(name) for name in described.get("network", [""] * len(names))]
    if not seeds:
        return ScoredRows(names, owners, [[k] for k in range(len(names))])
    if "time" in described or not {"network", "layer"} <= set(described):
        raise InputError(
            "seeds: expected RDMs with the descriptors network and layer, and none of time, got "
            f"{list_some(described)}; compute RDMs of whole sounds, with the network as a descriptor"
        )
    listed = list_means([(one, str(layer)) for one, layer in zip(owners, described["layer"], strict=True)], seeds)
    more = [row for row, _ in listed[len(names) :]]
    return ScoredRows(
        [*names, *(" ".join(row) for row in more)], [*owners, *(name for name, _ in more)], [own for _, own in listed]
    )
