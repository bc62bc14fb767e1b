"""Place the sounds of a layer: in a plane, and by their nearest neighbors.

Embed the items of a layer in a plane, by principal components or t-SNE. Principal axes have units and a share of
variance. The axes and large distances of t-SNE have no meaning; the reliability of its small distances is measured by
trustworthiness.

Find the nearest neighbors of sounds in the space of a layer, in comparison with those of the waveforms. Waveforms of
two recordings of one word are no more similar than those of two words; in a late layer they are neighbors.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_literals, check_one_each, check_ranges, refuse_some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.types import EmbeddingMethod, EmbeddingUnits, FeatureSet

_PCA_FIRST = 50  # largest number of dimensions given to t-SNE
_EXACT = 1000  # items; with fewer the approximate gradient is slower (seven times with 192)


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """Hold items as points.

    Attributes
    ----------
    points : ndarray float64 (n_items, n_components)
    items, conditions : tuple of str
    layer, method, units : str
    explained : tuple of float or None
        Share of the variance along each principal axis; None for t-SNE.
    trustworthiness : float
        1 where all `n_neighbors` neighbors on the plane are neighbors in the layer (Venna & Kaski 2001).
    n_neighbors : int
    constant : int
        Number of units with the same value for all items, which are left out.
    perplexity : float or None
    """

    points: NDArray[np.float64] = field(repr=False)
    items: tuple[str, ...] = field(repr=False)
    conditions: tuple[str, ...] = field(repr=False)
    layer: str
    method: EmbeddingMethod
    units: EmbeddingUnits
    explained: tuple[float, ...] | None
    trustworthiness: float
    n_neighbors: int
    constant: int
    perplexity: float | None

    @property
    def axes(self) -> tuple[str, ...]:
        """Label each axis."""
        n = range(self.points.shape[1])
        if self.explained is None:
            return tuple(f"t-SNE {i + 1} (no units)" for i in n)
        return tuple(f"component {i + 1} ({self.explained[i]:.0%} of variance)" for i in n)

    @property
    def table(self) -> pd.DataFrame:
        """Build a table with one row per item: `layer`, `item`, `condition`, then `x1`, `x2`, ..."""
        named = {f"x{i + 1}": self.points[:, i] for i in range(self.points.shape[1])}
        return pd.DataFrame({"layer": self.layer, "item": self.items, "condition": self.conditions, **named})


def embed(
    features: FeatureSet | NDArray[np.floating[Any]],
    *,
    layer: str = "features",
    method: EmbeddingMethod = "pca",
    n_components: int = 2,
    units: EmbeddingUnits = "zscore",
    perplexity: float = 30.0,
    n_neighbors: int | None = None,
    conditions: Sequence[str] | None = None,
    rng: np.random.Generator | None = None,
) -> Embedding:
    """Embed the items of a layer in a plane.

    Parameters
    ----------
    features : FeatureSet or ndarray (n_items, n_units)
        Features, for example from `extract_activations`; further axes are flattened.
    layer : str
        A layer of the features; for an array, its name.
    method : {"pca", "tsne"}
    n_components : int
    units : {"zscore", "raw"}
        "zscore" z-scores each unit over items, as for RDMs of networks; "raw" keeps it (PCA subtracts its mean).
    perplexity : float
        For t-SNE: the approximate number of neighbors of an item, below the number of items.
    n_neighbors : int, optional
        Neighbors for trustworthiness, below half the number of items; by default 5, or as many as possible.
    conditions : sequence of str, optional
        Conditions of the items of an array.
    rng : numpy.random.Generator, optional
        Random numbers of t-SNE; by default a generator with seed 0.

    Returns
    -------
    Embedding

    Raises
    ------
    InputError
        An unknown layer or method; fewer items or units than components; a perplexity of the number of items or more;
        NaN; features that are the same for all items.

    Warns
    -----
    BrainmapWarning
        Units that are the same for all items are left out.

    References
    ----------
    van der Maaten & Hinton 2008, JMLR 9:2579-2605; Venna & Kaski 2001: doi:10.1007/3-540-44668-0_68

    Examples
    --------
    >>> line = np.outer(np.arange(8.0), [3.0, 4.0])
    >>> found = embed(line, layer="line", units="raw", n_components=1, n_neighbors=2)
    >>> found.axes, found.trustworthiness
    (('component 1 (100% of variance)',), 1.0)
    """
    check_literals((method, EmbeddingMethod, "method"), (units, EmbeddingUnits, "units"))
    values, items, words = _read_values(features, layer, conditions)
    n = len(items)
    n_neighbors = max(1, min(5, (n - 1) // 2)) if n_neighbors is None else n_neighbors
    most = min(n - 1, values.shape[1])
    check_ranges(
        "embed",
        (
            f"1 to {most} components of {n} items x {values.shape[1]} units of {layer!r}",
            n_components,
            1 <= n_components <= most,
        ),
        (f"n_neighbors of at least 1 and below {n / 2:g} for {n} items", n_neighbors, 1 <= n_neighbors < n / 2),
        (
            f"a perplexity of at least 1 and below {n} for {n} items",
            perplexity,
            method != "tsne" or 1 <= perplexity < n,
        ),
    )
    spread = values.std(axis=0)
    moving = spread > 1e-7 * np.abs(values).max(initial=1e-30)
    if not moving.any():
        raise InputError(f"embed: {layer!r} is the same for all items; there is nothing to show")
    if not moving.all():
        message = f"embed: {(~moving).sum()} of {len(moving)} units of {layer!r} never change and are left out"
        warnings.warn(message, BrainmapWarning, stacklevel=2)
    values = values[:, moving] - values[:, moving].mean(axis=0)
    if units == "zscore":
        values = values / spread[moving]
    points, explained = _embed_points(values, method, n_components, perplexity, rng or np.random.default_rng(0))
    from sklearn.manifold import trustworthiness

    return Embedding(
        points=points,
        items=items,
        conditions=words,
        layer=layer,
        method=method,
        units=units,
        explained=explained,
        trustworthiness=float(trustworthiness(values, points, n_neighbors=n_neighbors)),
        n_neighbors=n_neighbors,
        constant=int((~moving).sum()),
        perplexity=perplexity if method == "tsne" else None,
    )


def _embed_points(
    values: NDArray[np.float64], method: EmbeddingMethod, n_components: int, perplexity: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], tuple[float, ...] | None]:
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if method == "pca":
        axes = PCA(min(n_components, *values.shape), svd_solver="full")
        points = np.asarray(axes.fit_transform(values), dtype=np.float64)
        shares = tuple(map(float, axes.explained_variance_ratio_))
        missing = n_components - points.shape[1]  # constant units were left out
        return np.pad(points, ((0, 0), (0, missing))), shares + (0.0,) * missing
    few = PCA(min(_PCA_FIRST, *values.shape), svd_solver="full").fit_transform(values)
    seed = int(rng.integers(2**31))
    start = "pca" if few.shape[1] >= n_components else "random"
    exact = "exact" if len(few) < _EXACT or n_components > 3 else "barnes_hut"
    tsne = TSNE(n_components, perplexity=perplexity, init=start, random_state=seed, method=exact)
    return np.asarray(tsne.fit_transform(few), dtype=np.float64), None


def _get_labels(features: Any, conditions: Sequence[str] | None, what: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the items of features and their conditions; those of an array are numbered."""
    if isinstance(features, FeatureSet):
        return tuple(features.items), tuple(features.conditions)
    items = tuple(str(i) for i in range(len(features)))
    words = items if conditions is None else tuple(map(str, conditions))
    check_one_each(words, len(items), f"{what}: conditions", "items")
    return items, words


def _read_values(
    features: Any, layer: str, conditions: Sequence[str] | None
) -> tuple[NDArray[np.float64], tuple[str, ...], tuple[str, ...]]:
    """Return activations `(n_items, n_units)`, ids and conditions."""
    items, words = _get_labels(features, conditions, "embed")
    if isinstance(features, FeatureSet):
        features = features[check_choice(layer, list(features.layers), "embed: layer")][:]
    values = np.asarray(features, dtype=np.float64)
    values = values.reshape(len(items), -1)
    bad = [items[i] for i in np.flatnonzero(~np.isfinite(values).all(axis=1))]
    refuse_some(bad, "embed: items ", f" of {layer!r} hold NaN or infinite values; leave them out")
    return values, items, words
