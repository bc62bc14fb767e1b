"""Compute RDMs and scores of many neighborhoods with torch, on a graphics card.

A graphics card multiplies faster than it waits, so that nothing is updated from neighborhood to neighborhood: the
patterns of some hundred neighborhoods are gathered, and each is one product of matrices in float64. Results equal those
of `brainmap.rsa.searchlights.kernels` but for rounding.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.resources import find_float64_device
from brainmap.rsa.comparison.measures import RANKED
from brainmap.rsa.searchlights.preparation import SQUARED, WHITENED, Given, Models, Prepared
from brainmap.types import Device, Floats, Measure

log = logging.getLogger("brainmap")
_MOST_BYTES = 1 << 28  # of the patterns that are gathered at a time
_COPIES = 6  # of an RDM while its ranks are found
_CONSTANT = 1e-26  # as in `kernels`: below this share of the mean square, a variance is rounding
_EQUAL = 1e-13


def choose_searchlight_device(device: Device, prepared: Prepared, *, own_noise: bool) -> str | None:
    """Return the torch device that computes a searchlight, or None for the kernels of the CPU.

    Raises
    ------
    InputError
        cuda is asked for and there is none, or it does not compute this.
    """
    found = find_float64_device(device, "searchlight")
    if found is None:
        return None
    if own_noise:
        why = "a noise covariance of each neighborhood"
    elif not prepared.shares_all_runs:
        why = "patterns that are missing in some runs"
    else:
        return found
    if device != "auto":
        raise InputError(f"searchlight: {device} does not compute with {why}; take device='cpu'")
    log.info("searchlight: %s: computed on the CPU", why)
    return None


@dataclass(frozen=True, eq=False)
class DeviceProducts:
    """Compute RDMs and scores of neighborhoods whose items share all runs.

    Attributes
    ----------
    device : str
        Of torch.
    prepared : Prepared
    dissimilarity : str
    minimum : int
        Smallest number of voxels of a neighborhood.
    """

    device: str
    prepared: Prepared
    dissimilarity: str
    minimum: int

    def compute_rdms(self, given: Given, table: NDArray[np.int32]) -> Floats:
        """Compute the RDMs `(n_patches, n_pairs)` of neighborhoods, NaN where there is none."""
        rdms = np.full((len(table), len(self.prepared.pairs)), np.nan)
        for rows, values in self._iterate_rdms(given, table):
            rdms[rows] = values.cpu().numpy()
        return rdms

    def score(self, given: Given, table: NDArray[np.int32], models: Models, measure: Measure) -> Floats:
        """Score neighborhoods against every model, `(n_patches, n_models)`; NaN where there is no score."""
        scores = np.full((len(table), len(models.vectors)), np.nan)
        vectors, items = self._move(models.vectors), self._move(models.items.astype(np.int64))
        for rows, values in self._iterate_rdms(given, table):
            ready = rank_values(values) if measure in RANKED else values
            ready, lengths = scale_values(ready, measure, items)
            products = ready @ vectors.T * models.factor / lengths[:, None]
            products[~(lengths > 0)] = np.nan
            scores[rows] = products.cpu().numpy()
        return scores

    def _move(self, array: NDArray[Any]) -> Any:
        import torch

        return torch.as_tensor(np.ascontiguousarray(array), device=self.device)

    def _iterate_rdms(self, given: Given, table: NDArray[np.int32]) -> Iterator[tuple[NDArray[np.intp], Any]]:
        """Yield the neighborhoods that have an RDM, some at a time, and their RDMs `(n, n_pairs)`."""
        import torch

        patterns = self._move(given[0])
        kept, n_items = self.prepared.pairs, patterns.shape[2]
        i, j = (self._move(one[kept]) for one in np.triu_indices(n_items, 1))
        each = 8 * max(table.shape[1] * patterns.shape[1] * n_items + n_items**2, _COPIES * len(kept))
        step = max(1, _MOST_BYTES // each)
        runs = len(self.prepared.rows)
        for start in range(0, len(table), step):
            patches = self._move(table[start : start + step].astype(np.int64))
            sizes = (patches >= 0).sum(dim=1).to(patterns.dtype)
            gram, sound = self._multiply(patterns, patches, sizes)
            own = gram.diagonal(dim1=1, dim2=2)
            rdms = own[:, i] + own[:, j] - 2.0 * gram.flatten(1)[:, i * n_items + j]
            factor = 1.0 / sizes if self.dissimilarity in SQUARED else 0.5 * torch.ones_like(sizes)
            rdms *= factor[:, None] / max(runs * (runs - 1), 1)
            sound &= (sizes >= self.minimum) & rdms.abs().sum(dim=1).isfinite()
            yield start + np.flatnonzero(sound.cpu().numpy()), rdms[sound]

    def _multiply(self, patterns: Any, patches: Any, sizes: Any) -> tuple[Any, Any]:
        """Return the products `(n_patches, n_items, n_items)` of different runs, and which have no constant pattern."""
        import torch

        held, index = (patches >= 0)[:, :, None], patches.clamp(min=0)
        sound = torch.ones(len(patches), dtype=torch.bool, device=self.device)
        if self.dissimilarity in SQUARED:  # rows: the products of the first are positive, all others negative
            x = patterns[:, 0][index] * held
            gram = x.mT @ x
            if patterns.shape[1] > 1:
                x = (patterns[:, 1:][index] * held[..., None]).flatten(1, 2)
                gram -= x.mT @ x
            return gram, sound
        there, parts = self._move(self.prepared.present), []
        for run in range(patterns.shape[1]):
            x, ok = self._standardize(patterns[:, run][index] * held, held, sizes)
            sound &= (ok | ~there[run]).all(dim=1)
            parts.append(x)
        if len(parts) == 1:
            return parts[0].mT @ parts[0], sound
        total = sum(parts[1:], parts[0])
        return total.mT @ total - sum(x.mT @ x for x in parts), sound

    def _standardize(self, x: Any, held: Any, sizes: Any) -> tuple[Any, Any]:
        """Scale the patterns `(n_patches, n_most, n_items)` to length 1, and tell which are not constant."""
        floor = 0.0
        if self.dissimilarity == "correlation":
            floor = _CONSTANT * x.square().sum(dim=1)
            x = (x - x.sum(dim=1, keepdim=True) / sizes.clamp(min=1)[:, None, None]) * held
        power = x.square().sum(dim=1)
        ok = power > floor
        return x * (ok / power.where(ok, power.new_ones(())).sqrt())[:, None], ok


def rank_values(values: Any) -> Any:
    """Return tie-averaged ranks from 1 of each row of a tensor."""
    import torch

    ordered = values.sort(dim=1).values
    twice = torch.searchsorted(ordered, values, right=False) + torch.searchsorted(ordered, values, right=True) + 1
    return twice.to(values.dtype) / 2.0  # integers are float32 in torch where they are not told to be float64


def scale_values(values: Any, measure: Measure, items: Any) -> tuple[Any, Any]:
    """Return rows and the lengths by which their products with models are divided, 0 for constant rows.

    The arithmetic is that of `_scale_values` in `brainmap.rsa.searchlights.kernels`.
    """
    if measure == "rho-a":
        return values, values.new_ones(len(values))
    centered = values - values.mean(dim=1, keepdim=True)
    if measure not in WHITENED:
        apart = values if measure == "cosine" else centered
        squared = apart.square().sum(dim=1)
        return values, squared.sqrt() * (squared > _CONSTANT * values.square().sum(dim=1))
    varies = values.new_ones(len(values), dtype=bool)
    if measure == "corr_cov":
        varies = centered.abs().amax(dim=1) > _EQUAL * values.abs().amax(dim=1)
        values = centered
    n_items = int(items.max()) + 1
    sums = values.new_zeros(len(values), n_items)
    for column in items.T:
        sums.index_add_(1, column, values)
    power = values.square().sum(dim=1)
    squared = 2.0 * power - 2.0 * sums.square().sum(dim=1) / n_items + (sums.sum(dim=1) / n_items) ** 2
    return values, 0.5 * squared.clamp(min=0).sqrt() * (varies & (squared > _CONSTANT * power))
