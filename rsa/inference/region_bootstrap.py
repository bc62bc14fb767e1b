"""Bootstrap all regions at once: each resample ranks models and data once and computes one matrix product."""

from __future__ import annotations

import numpy as np

from brainmap.rsa.inference.bootstrap import (
    Bootstrap,
    summarize_samples,
)
from brainmap.rsa.inference.resampling import Draw, can_weigh, make_sampler, resample
from brainmap.types import Floats, Measure, Over


def can_share(models: Floats, data: Floats, measure: Measure) -> bool:
    """Tell whether all regions can share a resample.

    Weights on pairs must be able to express the measure, and all RDMs must lack the same pairs.
    """
    missing = np.isnan(np.vstack([models, data]))
    return can_weigh(measure) and bool((missing == missing[0]).all())


def bootstrap_regions(
    models: Floats,
    data: Floats,
    *,
    measure: Measure,
    names: tuple[str, ...],
    units: Draw,
    participants: Draw | None,
    conditions: Draw | None,
) -> list[Bootstrap]:
    """Compute `bootstrap_vectors` for each region, with NaN in place of the ceilings of the resamples.

    Parameters
    ----------
    models : array (n_models, n_pairs)
    data : array (n_regions, n_participants, n_pairs)
        The same participants in each region.
    measure, names, units, participants, conditions
        As in `bootstrap_vectors`.
    """
    samples, n_flat = resample(
        models, data, measure=measure, participants=participants, conditions=conditions, units=units
    )
    over: Over = "both" if samples.shape[1] == 3 else "participants" if conditions is None else "conditions"
    n_regions, n_people, n_pairs = data.shape
    scores = make_sampler(models, data.reshape(-1, n_pairs), measure, units)(None).scores
    means = scores.reshape(-1, n_regions, n_people).mean(axis=2).T
    ceilings = [_compute_ceiling(models, region, measure, units) for region in data]
    return [
        summarize_samples(
            own,
            mean,
            ceiling,
            over=over,
            measure=measure,
            n_flat=n_flat if k == 0 else 0,
            sizes=(n_people, int(units.max()) + 1),
            names=names,
        )
        for k, (own, mean, ceiling) in enumerate(zip(samples, means, ceilings, strict=True))
    ]


def _compute_ceiling(models: Floats, data: Floats, measure: Measure, units: Draw) -> tuple[float, float]:
    """Compute the lower and upper noise ceiling of the original data of a region."""
    if len(data) < 2:
        return float("nan"), float("nan")
    return make_sampler(models[:1], data, measure, units)(None).ceiling(np.ones(len(data), dtype=np.intp))
