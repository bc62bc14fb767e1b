"""Draw permutations of blocks of scans within stories, since neighboring scans resemble each other."""

from __future__ import annotations

import numpy as np

from brainmap.checks import list_some
from brainmap.errors import InputError
from brainmap.rsa.encoding.folds import Folds, Places


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
    if permutations < 1:
        raise InputError(f"encoding test: expected 1 permutation or more, got permutations={permutations}")
    places = [np.flatnonzero(folds.group == k) for k in range(int(folds.group.max()) + 1)]
    short = [f"{folds.by} {k + 1} ({len(one)} scans)" for k, one in enumerate(places) if len(one) < 2 * folds.block]
    if short:
        raise InputError(
            f"encoding test: expected two blocks of {folds.block} scans or more in each {folds.by}, got fewer in "
            f"{list_some(short, 3)}; leave them out, or do not test"
        )
    orders = np.tile(np.arange(len(folds.group)), (permutations + 1, 1))
    for own in places:
        n_blocks = len(own) // folds.block
        for row in orders[1:]:
            pieces = np.array_split(np.roll(own, int(rng.integers(len(own)))), n_blocks)
            row[own] = np.concatenate([pieces[k] for k in rng.permutation(n_blocks)])
    return orders, f"blocks of {folds.block} scans or more exchanged within each {folds.by}"
