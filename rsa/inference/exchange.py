"""Define which items a relabeling test may exchange: single items, or whole conditions with their tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_choice
from brainmap.errors import InputError
from brainmap.groups import group_pairs
from brainmap.rsa.rdm.alignment import LABEL_OF, LEVELS, find_level, list_labels
from brainmap.types import Floats, Level, RDMs

Places = NDArray[np.intp]
ALL = math.factorial(8)  # relabelings that are enumerated at once, in a second or two
MANY = 1000  # relabelings; whoever asks for fewer wants to be quick
ALPHA = 0.05  # p above which no result is significant
ONSET = "onset"
"""The pattern descriptor that tells when a window of a longer sound begins, in s."""


def find_units(rdms: RDMs) -> Places:
    """Return the exchangeable unit of each item `(n_items,)`: its condition where items share one, else itself.

    Whole units are drawn or exchanged, since the tokens of a condition resemble each other in any data.

    Examples
    --------
    >>> from rsatoolbox.rdm.rdms import RDMs
    >>> words = RDMs(np.ones((1, 6)), pattern_descriptors={
    ...     "stimulus_id": ["cat1", "cat2", "dog1", "dog2"], "condition": ["cat", "cat", "dog", "dog"]})
    >>> find_units(words).tolist()
    [0, 0, 1, 1]
    """
    if LABEL_OF["condition"] not in rdms.pattern_descriptors:
        return np.arange(rdms.n_cond)
    labels = [str(label) for label in rdms.pattern_descriptors[LABEL_OF["condition"]]]
    known = {label: k for k, label in enumerate(dict.fromkeys(labels))}
    return np.array([known[label] for label in labels], dtype=np.intp)


@dataclass(frozen=True, eq=False)
class Exchange:
    """Generate the relabelings of items that are valid under the null hypothesis of no relation to the data.

    Whole conditions are exchanged with others that have as many tokens, and the tokens of all conditions of one size
    are permuted in the same way. Hence tokens of a condition stay together, and so do tokens at the same position in
    several conditions, such as those of one speaker: similarity within conditions or speakers alone does not count as
    evidence. Items without tokens are conditions of one token.

    Windows of stories (items with a pattern descriptor `onset`) follow each other in time and resemble their neighbors
    in any data. They are rotated inside their stories, alike in all stories of one size, and keep their neighbors.

    Attributes
    ----------
    blocks : tuple of int arrays (n_conditions, n_tokens)
        The items of the conditions of each size; tokens are in the order of their labels, or in time.
    n_items : int
    kind : str
        The kind of the items in the plural: stimuli or conditions.
    in_time : bool
        Whether tokens follow each other in time, so that they are rotated.
    """

    blocks: tuple[Places, ...]
    n_items: int
    kind: str = "stimuli"
    in_time: bool = False

    @classmethod
    def of(cls, rdms: RDMs, items: Places | None = None, *, by: Level = "condition") -> Exchange:
        """Build the exchange of the items of RDMs, or of a subset of them, renumbered from 0.

        With `by="stimulus"` single items are exchanged, whatever condition they are of, which suits a hypothesis about
        the conditions themselves: it is the same after every exchange of whole conditions.

        Raises
        ------
        InputError
            Single windows of stories would be exchanged, or `by` is unknown.
        """
        check_choice(by, ("condition", "stimulus"), "by")
        if by == "stimulus" and ONSET in rdms.pattern_descriptors:
            raise InputError(
                "by='stimulus': expected sounds, got windows of stories, which resemble their neighbors in any data "
                "and are rotated; leave it out"
            )
        units = find_units(rdms) if by == "condition" else np.arange(rdms.n_cond)
        kept = np.arange(rdms.n_cond) if items is None else items
        members = group_pairs((int(units[item]), place) for place, item in enumerate(kept))
        in_time = ONSET in rdms.pattern_descriptors and len(members) < len(kept)
        if len(members) < len(kept):  # items without tokens need no labels
            place_of = [float(t) for t in rdms.pattern_descriptors[ONSET]] if in_time else list_labels(rdms)
            for tokens in members.values():
                tokens.sort(key=lambda place: place_of[kept[place]])
        try:
            kind = LEVELS[find_level(rdms)]
        except (InputError, KeyError):  # RDMs of other packages may name their items differently
            kind = "items"
        return cls.among(list(members.values()), kind=kind, in_time=in_time)

    @classmethod
    def among(cls, members: Sequence[Sequence[int]], *, kind: str = "stimuli", in_time: bool = False) -> Exchange:
        """Build the exchange of conditions with these items."""
        sizes = sorted({len(tokens) for tokens in members}, reverse=True)
        blocks = tuple(np.array([t for t in members if len(t) == size], dtype=np.intp) for size in sizes)
        return cls(blocks, sum(map(len, members)), kind, in_time)

    @property
    def tokens(self) -> bool:
        """Tell whether some condition has several items."""
        return any(block.shape[1] > 1 for block in self.blocks)

    @property
    def count(self) -> int:
        """Count the relabelings, including the true labels."""
        within = (lambda n: n) if self.in_time else math.factorial
        return math.prod(math.factorial(block.shape[0]) * within(block.shape[1]) for block in self.blocks)

    def orders(self, most: int, rng: np.random.Generator) -> tuple[Places, bool]:
        """Return relabelings `(n, n_items)` with the true labels first, and whether they are enumerated.

        All relabelings are enumerated if there are at most `most`; else `most` are drawn in addition to the true
        labels.
        """
        if self.count <= most:
            return self._enumerate_orders(), True
        found = np.tile(np.arange(self.n_items), (most + 1, 1))
        for block in self.blocks:
            rows, columns = (rng.permuted(np.tile(np.arange(side), (most, 1)), axis=1) for side in block.shape)
            if self.in_time:
                columns = (np.arange(block.shape[1]) + columns[:, :1]) % block.shape[1]
            found[1:, block] = block[rows[:, :, None], columns[:, None, :]]
        return found, False

    def generators(self) -> Places:
        """Return a few relabelings `(n, n_items)` of which all others are made, one after another.

        A model that none of them changes is the same under every relabeling.

        Examples
        --------
        >>> Exchange.among([[0, 1], [2, 3]]).generators().tolist()
        [[2, 3, 0, 1], [1, 0, 3, 2]]
        """
        found: list[Places] = []
        for block in self.blocks:
            moved = []
            for axis, n in enumerate(block.shape):
                if axis and self.in_time:
                    moved += [np.roll(block, -1, axis=1)] if n > 1 else []
                    continue
                for k in range(n - 1):
                    places = np.arange(n)
                    places[[k, k + 1]] = k + 1, k
                    moved.append(block.take(places, axis=axis))
            for one in moved:
                order = np.arange(self.n_items)
                order[block] = one
                found.append(order)
        return np.array(found, dtype=np.intp).reshape(-1, self.n_items)

    def _enumerate_orders(self) -> Places:
        sides: list[Places] = []
        for block in self.blocks:
            rotated = [np.roll(range(block.shape[1]), -k) for k in range(block.shape[1])]
            sides.append(np.array(list(permutations(range(block.shape[0])))))
            sides.append(np.array(rotated if self.in_time else list(permutations(range(block.shape[1])))))
        found = np.tile(np.arange(self.n_items), (self.count, 1))
        chosen = np.unravel_index(np.arange(self.count), [len(side) for side in sides])
        for k, block in enumerate(self.blocks):
            rows, columns = sides[2 * k][chosen[2 * k]], sides[2 * k + 1][chosen[2 * k + 1]]
            found[:, block] = block[rows[:, :, None], columns[:, None, :]]
        return found

    @property
    def words(self) -> str:
        """Describe in words what is exchanged.

        Examples
        --------
        >>> Exchange.among([[0], [1], [2]]).words
        '3 stimuli exchanged'
        >>> Exchange.among([[0, 1], [2, 3], [4, 5], [6]]).words
        'whole conditions exchanged with others of as many tokens (3 of 2 tokens, 1 of 1 token), tokens alike in all'
        >>> Exchange.among([[0, 1, 2], [3, 4, 5]], in_time=True).words
        '2 whole stories exchanged, their 3 windows rotated alike in all'
        """
        if not self.tokens:
            return f"{self.n_items} {self.kind} exchanged"
        sizes = [(len(block), block.shape[1]) for block in self.blocks]
        what, one, how = ("conditions", "token", "") if not self.in_time else ("stories", "window", "rotated ")
        if len(sizes) == 1:
            return f"{sizes[0][0]} whole {what} exchanged, their {sizes[0][1]} {one}s {how}alike in all"
        each = ", ".join(f"{n} of {size} {one}{'s' if size > 1 else ''}" for n, size in sizes)
        return f"whole {what} exchanged with others of as many {one}s ({each}), {one}s {how}alike in all"


def describe_unreachable(smallest: Floats) -> str:
    """Describe models that the exchange of whole conditions does not change, or too seldom; empty if there are none.

    `smallest` `(n_models,)` holds the smallest p that each model can reach.

    Examples
    --------
    >>> describe_unreachable(np.array([0.01, 0.02]))
    ''
    >>> describe_unreachable(np.array([1.0, 0.01, 0.01]))[:42]
    '; 1 of 3 models can reach no p under .05: '
    >>> describe_unreachable(np.array([0.5, 0.5, 0.01]))[:54]
    '; 2 of 3 models can reach no p under .05, as too few c'
    """
    fixed = int((smallest == 1).sum())
    few = int((smallest > ALPHA).sum()) - fixed
    told = (
        (
            fixed,
            ": exchanging whole conditions leaves a hypothesis about the conditions themselves as it is; by='stimulus' "
            "(--by stimulus) exchanges single stimuli, and asks whether regions tell the conditions apart",
        ),
        (
            few,
            ", as too few conditions can change places; single stimuli would take it for evidence that regions tell "
            "conditions apart",
        ),
    )
    who = f" of {len(smallest)} models" if len(smallest) > 1 else ""
    return "".join(f"; {f'{k}{who}' if who else 'the model'} can reach no p under .05{why}" for k, why in told if k)


def find_fixed(models: Floats, exchange: Exchange) -> NDArray[np.bool_]:
    """Find the models `(n_models, n_pairs)` that no relabeling changes, so that none can be significant `(n_models,)`.

    Such are hypotheses about the conditions themselves, or about tokens that all conditions have.

    Examples
    --------
    >>> words = Exchange.among([[0, 1], [2, 3]])
    >>> find_fixed(np.array([[0.0, 1, 1, 1, 1, 0], [0.0, 1, 1, 1, 1, 3]]), words).tolist()
    [True, False]
    """
    places = place_pairs(exchange.generators())
    return np.array([bool((model[places] == model).all()) for model in models], dtype=bool)


def limit_relabelings(count: int, permutations: int) -> int:
    """Return up to how many relabelings are enumerated, of `count` in all: of 8 items and fewer every one.

    Drawn ones would do with less precision, and p could not be below 1 / (permutations + 1).

    Examples
    --------
    >>> limit_relabelings(40_320, 2000), limit_relabelings(362_880, 2000), limit_relabelings(40_320, 199)
    (40320, 2000, 199)
    """
    return max(count, permutations) if count <= ALL and permutations >= MANY else permutations


def place_pairs(orders: Places, *, diagonal: bool = False) -> Places:
    """Return the positions `(n_orders, n_pairs)` of the pairs of relabeled items in a condensed vector.

    With `diagonal`, the vector also holds the diagonal of the matrix.

    Examples
    --------
    >>> place_pairs(np.array([[0, 1, 2], [2, 1, 0]])).tolist()
    [[0, 1, 2], [2, 1, 0]]
    """
    n = orders.shape[1]
    a, b = np.triu_indices(n, 0 if diagonal else 1)
    table = np.zeros((n, n), dtype=np.intp)
    table[a, b] = table[b, a] = np.arange(len(a))
    return np.asarray(table[orders[:, a], orders[:, b]])
