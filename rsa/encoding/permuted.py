"""Score the layers of a network, and the best of them, with the sounds in permuted orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from brainmap.rsa.encoding.encode import Encoding
from brainmap.rsa.encoding.folds import Places
from brainmap.rsa.encoding.permutations import Refit, average_regions
from brainmap.types import Floats


@dataclass(frozen=True, eq=False)
class Permuted:
    """Hold scores of the layers of one network in one participant, with the sounds in several orders.

    Attributes
    ----------
    layers : ndarray (n_orders, n_layers, n_regions)
        Mean r over the voxels of a region.
    best : ndarray (n_orders, n_regions)
        r of the best layer, which is chosen in each fold by its error among training sounds.
    influence, best_influence : ndarray (n_layers, n_items, n_regions) and (n_items, n_regions)
        How much each item moves both in the true order.
    """

    layers: Floats
    best: Floats
    influence: Floats
    best_influence: Floats


def permute_network(fit: Encoding, network: str, orders: Places, regions: Sequence[str]) -> Permuted:
    """Score a network in one participant with the sounds in some orders `(n_orders, n_items)`, the first the true one.

    In each fold, the best layer of a region has the largest mean over voxels of the share of variance that it predicts
    in the cross-validation among training sounds that chooses alpha; its r is that of the test sounds.
    """
    spaces = [space for space in fit.spaces if space.network == network]
    y, folds, roi = fit.responses.mean, fit.folds, fit.responses.targets["roi"].to_numpy()
    shape = (len(spaces), len(orders), folds.n_folds, len(regions))
    r, share = np.empty(shape), np.empty(shape)
    influence = np.empty((len(spaces), len(y), len(regions)))
    for k, space in enumerate(spaces):
        refit, start = Refit.of(space, folds, fit.settings), 0
        influence[k] = average_regions(refit.measure_influence(y), roi, regions)
        for scores, predicted in refit.yield_orders(y, orders):
            rows = slice(start, start + len(scores))
            r[k, rows], share[k, rows] = (average_regions(one, roi, regions) for one in (scores, predicted))
            start = rows.stop
    chosen = np.where(np.isfinite(share), share, -np.inf).argmax(axis=0)
    best = np.take_along_axis(r, chosen[None], axis=0)[0].mean(axis=1)
    return Permuted(
        layers=r.mean(axis=2).transpose(1, 0, 2),
        best=best,
        influence=influence,
        best_influence=np.take_along_axis(influence, chosen[0][folds.fold][None], axis=0)[0],
    )
