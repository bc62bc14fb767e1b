"""Test whether a map depends on learned weights, by randomizing the layers from the top to the bottom.

A map that does not change reflects the sound or the architecture, but not the network's weights (Adebayo 2018).
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import nn

from brainmap.checks import refuse_some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.features.evaluation.explain import explain
from brainmap.features.layers.ear import WEIGHTED
from brainmap.features.layers.running import evaluating, forward, get_device, watch_modules
from brainmap.features.networks.controls import list_norms, recalibrate, redraw
from brainmap.features.sounds.batches import Sounds, get_labels, iterate_tensors
from brainmap.progress import progress

COLUMNS = {
    "layer": "drawn anew, together with all above it",
    "correlation": "rank correlation of maps with those of the trained network, mean over sounds",
    "low": "5th percentile over sounds",
    "high": "95th percentile over sounds",
    "n": "sounds whose map was not constant",
}

Explain = Callable[[nn.Module], NDArray[np.floating[Any]]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Randomization:
    """Hold the similarity of maps while layers are randomized.

    Attributes
    ----------
    layers : tuple of str
        Layers from the top to the bottom; each is randomized together with all layers before it in this list.
    correlations : ndarray (n_layers, n_items)
        Spearman correlation of each map with that of the trained network; NaN where a map is constant.
    method : str
    items : tuple of str
    """

    layers: tuple[str, ...]
    correlations: NDArray[np.float64] = field(repr=False)
    method: str
    items: tuple[str, ...] = field(repr=False)

    @property
    def table(self) -> pd.DataFrame:
        """Build a table with one row per layer, and the columns `COLUMNS`."""
        there = np.isfinite(self.correlations)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a layer whose maps are all constant
            middle = np.nanmean(self.correlations, axis=1)
            low, high = np.nanpercentile(self.correlations, [5, 95], axis=1)
        return pd.DataFrame(
            {"layer": self.layers, "correlation": middle, "low": low, "high": high, "n": there.sum(axis=1)}
        )


def cascading_randomization(
    model: nn.Module,
    sounds: Sounds,
    *,
    method: str | Explain,
    targets: NDArray[np.integer[Any]] | None = None,
    absolute: bool = False,
    rng: np.random.Generator,
    batch_size: int = 8,
    device: str = "cpu",
    **settings: Any,
) -> Randomization:
    """Compare maps with those of networks whose layers are randomized, from the top to the bottom.

    Layers are convolutions and linear layers, each with the modules after it that have parameters (a normalization,
    say). The model itself is not changed. The statistics of batch normalization are measured again on the sounds at
    each step, because maps of a network with inactive units would not be informative.

    Parameters
    ----------
    model : torch.nn.Module
    sounds : Sounds, array or Tensor (n_items, c, t) or (n_items, c, h, w)
    method : str or callable
        A method of `class_activation_maps` or of `attribute`, or a function from a network to maps (n_items, ...).
    targets : ndarray of int (n_items,), optional
        Class of each map, the same for all networks; it is needed with a method's name.
    absolute : bool
        Correlate absolute values of the maps.
    rng : numpy.random.Generator
    batch_size : int
    device : str
    **settings
        Settings of the method.

    Returns
    -------
    Randomization

    Raises
    ------
    InputError
        No targets; a network without layers; a layer that cannot draw its own weights; input that the method refuses.

    Warns
    -----
    BrainmapWarning
        Maps are constant and have no ranks.

    References
    ----------
    Adebayo J et al. (2018), Sanity checks for saliency maps. NeurIPS. doi:10.48550/arXiv.1810.03292

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv1d(1, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    >>> x = np.random.default_rng(0).standard_normal((2, 1, 40), np.float32)
    >>> edges = cascading_randomization(net, x, method=lambda _: np.diff(x[:, 0]), rng=np.random.default_rng(0))
    >>> edges.layers, edges.correlations.mean(axis=1).round(6).tolist()
    (('3', '0'), [1.0, 1.0])
    """
    items, _ = get_labels(sounds)
    if callable(method):
        run, name = method, getattr(method, "__name__", "given")
    elif targets is None:
        raise InputError("randomization: a method needs targets (n_items,), so that all networks explain one class")
    else:
        name = method

        def run(network: nn.Module) -> NDArray[np.floating[Any]]:
            return explain(
                network, sounds, method=name, targets=targets, batch_size=batch_size, device=device, **settings
            )

    changed = copy.deepcopy(model)
    with evaluating(model, None):
        stages = _list_stages(changed, sounds)
    original = _rank_maps(run(changed), len(items), absolute)
    found = []
    with progress("randomization", len(stages)) as step:
        for _, modules in stages:
            for module in modules:
                redraw(module, rng)
            if list_norms(changed):
                recalibrate(changed, sounds, batch_size=max(batch_size, 32))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", BrainmapWarning)  # zero maps are counted below
                maps = _rank_maps(run(changed), len(items), absolute)
            found.append(_correlate_ranks(original, maps))
            step.advance()
    correlations = np.stack(found)
    if not np.isfinite(correlations).all():
        warnings.warn(
            f"randomization: {int((~np.isfinite(correlations)).sum())} of {correlations.size} maps are "
            "constant and left out",
            BrainmapWarning,
            stacklevel=2,
        )
    return Randomization(layers=tuple(name for name, _ in stages), correlations=correlations, method=name, items=items)


def _list_stages(model: nn.Module, sounds: Sounds) -> list[tuple[str, list[nn.Module]]]:
    """List weighted modules from the last called to the first, each with following modules that have parameters."""
    called: list[tuple[str, nn.Module]] = []
    weighted = {
        n: module for n, module in model.named_modules() if next(module.parameters(recurse=False), None) is not None
    }
    listening = watch_modules(weighted, after=lambda name, module, *_: called.append((name, module)))
    with evaluating(model), torch.no_grad(), listening:
        forward(model, next(iterate_tensors(sounds, 1, device=get_device(model))))
    stages: list[tuple[str, list[nn.Module]]] = []
    for name, module in dict(called).items():
        if isinstance(module, WEIGHTED) or not stages:
            stages.append((name or "network", [module]))
        else:
            stages[-1][1].append(module)
    if not stages:
        raise InputError("randomization: no layer with weights took part; there is nothing to draw anew")
    stuck = [name for name, modules in stages for m in modules if not callable(getattr(m, "reset_parameters", None))]
    refuse_some(stuck, "randomization: layers ", " cannot draw new weights (no reset_parameters)")
    return stages[::-1]


def _rank_maps(maps: NDArray[np.floating[Any]], n_items: int, absolute: bool) -> NDArray[np.float64]:
    """Compute centered ranks of every map, of unit length, `(n_items, n_values)`; NaN for a constant map."""
    values = np.asarray(maps, dtype=np.float64)
    if len(values) != n_items or values.ndim < 2:
        raise InputError(
            f"randomization: expected a map for each of {n_items} sounds, got maps of shape {values.shape}"
        )
    flat = np.abs(values.reshape(n_items, -1)) if absolute else values.reshape(n_items, -1)
    ranks = rankdata(flat, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    size = np.linalg.norm(ranks, axis=1, keepdims=True)
    return np.asarray(np.divide(ranks, size, out=np.full_like(ranks, np.nan), where=size > 0))


def _correlate_ranks(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    if one.shape != other.shape:
        raise InputError(f"randomization: maps of {other.shape[1]} values, of the trained network {one.shape[1]}")
    return np.asarray(np.clip((one * other).sum(axis=1), -1, 1))


def stack_results(results: Sequence[Randomization]) -> pd.DataFrame:
    """Stack the tables of several methods, with a column `method`."""
    return pd.concat([one.table.assign(method=one.method) for one in results], ignore_index=True)
