"""Bootstrap all regions at once: each resample ranks models and data once and computes one matrix product."""

from __future__ import annotations

import numpy as np

from brainmap.progress import progress
from brainmap.rsa.inference.bootstrap import Bootstrap, summarize_samples
from brainmap.rsa.inference.resampling import FEWEST, Draw, can_weigh, make_sampler
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
    n_regions, n_people, n_pairs = data.shape
    over: Over = (
        "both"
        if participants is not None and conditions is not None
        else ("participants" if conditions is None else "conditions")
    )
    drawn = participants if participants is not None else conditions
    assert drawn is not None
    take = make_sampler(models, data.reshape(-1, n_pairs), measure, units)
    whole = take(None).scores.reshape(len(models), n_regions, n_people)
    everyone = np.full(n_people, 1.0 / n_people)
    found = np.full((n_regions, 3 if over == "both" else 1, len(drawn), len(models) + 2), np.nan)
    n_flat = 0
    with progress("bootstrap", len(drawn)) as step:
        for b in range(len(drawn)):
            often = everyone if participants is None else np.bincount(participants[b], minlength=n_people) / n_people
            kinds: list[Floats] = []
            if conditions is None:
                kinds = [whole @ often]
            elif len(np.unique(conditions[b])) >= FEWEST:
                sample = take(conditions[b])
                n_flat += sample.n_flat > 0
                here = sample.scores.reshape(whole.shape)
                kinds = [here @ often]
                if participants is not None:
                    kinds += [whole @ often, here @ everyone]
            for kind, scores in enumerate(kinds):
                found[:, kind, b, :-2] = scores.T
            step.advance()
    ceilings = [_compute_ceiling(models, region, measure, units) for region in data]
    return [
        summarize_samples(
            samples,
            scores,
            ceiling,
            over=over,
            measure=measure,
            n_flat=n_flat if k == 0 else 0,
            sizes=(n_people, int(units.max()) + 1),
            names=names,
        )
        for k, (samples, scores, ceiling) in enumerate(zip(found, whole.mean(axis=2).T, ceilings, strict=True))
    ]


def _compute_ceiling(models: Floats, data: Floats, measure: Measure, units: Draw) -> tuple[float, float]:
    """Compute the lower and upper noise ceiling of the original data of a region."""
    if len(data) < 2:
        return float("nan"), float("nan")
    return make_sampler(models[:1], data, measure, units)(None).ceiling(np.ones(len(data), dtype=np.intp))
