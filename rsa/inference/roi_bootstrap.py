"""Bootstrap every ROI with the same draws, and correct the tests over all ROIs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from brainmap.checks import one_of
from brainmap.rsa.comparison.measures import measure_named
from brainmap.rsa.inference.bootstrap import Bootstrap, bootstrap, checked, draws_of
from brainmap.rsa.inference.crossvalidation import bootstrap_models
from brainmap.rsa.inference.exchange import units_of
from brainmap.rsa.inference.region_bootstrap import bootstrap_regions, can_share
from brainmap.rsa.inference.resampling import check_varied
from brainmap.rsa.inference.scores import OF_P, corrected
from brainmap.rsa.rdm.alignment import rdm_names
from brainmap.types import Correction, Measure, Over

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs

BOOTSTRAP_COLUMNS = {
    "model": "model",
    "network": "network, or a control of it",
    "layer": "layer",
    "roi": "region of interest",
    "score": "mean score over participants on the data as they are",
    "mean": "mean score over the resamples, which the tests are about",
    "standard_error": "of that mean, over participants, conditions or both, as said below",
    "ci_low": "lower end of its 95 % confidence interval",
    "ci_high": "upper end",
    "t": "of the mean against 0",
    "p": "one-sided, uncorrected",
    "p_corrected": "corrected over all rows of the table: models x regions",
    "below_ceiling": "how far the score lies below the lower noise ceiling, a band to look at: not tested",
}


@dataclass(frozen=True, eq=False, kw_only=True)
class RoiBootstrap:
    """Hold the results of `brainmap.rsa.bootstrap` for all ROIs.

    Attributes
    ----------
    models : DataFrame
        One row per model and ROI: model, roi, then the columns of `brainmap.rsa.Bootstrap.table`.
    pairs : DataFrame
        One row per pair of models and ROI: model, other, roi, then the columns of `brainmap.rsa.Bootstrap.pairs`.
    """

    models: pd.DataFrame
    pairs: pd.DataFrame


def bootstrap_rois(
    models: RDMs | Mapping[str, RDMs],
    data_rdms: RDMs,
    *,
    over: Over = "both",
    n: int = 1000,
    measure: Measure | str = "rho-a",
    correction: Correction = "fdr",
    rng: np.random.Generator,
    **fitted: Any,
) -> RoiBootstrap:
    """Bootstrap each ROI of the data, and correct p over models (or pairs of models) and ROIs together.

    Parameters
    ----------
    models : rsatoolbox RDMs, or mapping name -> RDMs
        One RDM per model, as in `brainmap.rsa.bootstrap`; or families of RDMs that are fit in every resample, as in
        `brainmap.rsa.bootstrap_models`.
    over, n, measure, rng
        As in `brainmap.rsa.bootstrap`.
    data_rdms : rsatoolbox RDMs
        One RDM per participant and ROI (RDM descriptor `roi`; without it all belong to one ROI).
    correction : {"fdr", "bonferroni", "none"}
    **fitted
        Settings for families: kind, condition_folds, participant_folds and repeats.

    Returns
    -------
    RoiBootstrap

    Raises
    ------
    InputError
        The correction is unknown, or `brainmap.rsa.bootstrap` (for families `brainmap.rsa.bootstrap_models`) refuses
        the data.

    Examples
    --------
    >>> from brainmap.rsa import compute_rdms, stack_rdms
    >>> rng, items = np.random.default_rng(0), {"stimulus_id": list("abcdefgh")}
    >>> truth = rng.normal(size=(8, 20))
    >>> model = compute_rdms(truth, descriptors={**items, "layer": "conv1"})
    >>> data = stack_rdms([
    ...     compute_rdms(own * truth + rng.normal(size=(8, 20)), descriptors={**items, "participant": p, "roi": roi})
    ...     for roi, own in (("HG", 2.0), ("V1", 0.0)) for p in "1234"])
    >>> bootstrap_rois(model, data, n=100, rng=rng).models[["model", "roi"]].values.tolist()
    [['conv1', 'HG'], ['conv1', 'V1']]
    """
    one_of(correction, OF_P, "correction")  # report a mistake before the long computation
    data: Any = data_rdms
    known = "roi" in data.rdm_descriptors
    seed = int(rng.integers(2**63))
    rois = list(dict.fromkeys(data.rdm_descriptors["roi"] if known else ["all voxels"]))
    parts = [data.subset("roi", roi) if known else data for roi in rois]
    given: Any = {"over": over, "n": n, "measure": measure}
    shared = None if isinstance(models, Mapping) else _shared(models, parts, seed=seed, **given)
    tables: list[pd.DataFrame] = []
    pairs: list[pd.DataFrame] = []
    for k, (roi, mine) in enumerate(zip(rois, parts, strict=True)):
        if shared is not None:
            found = shared[k]
        elif isinstance(models, Mapping):
            found = bootstrap_models(models, mine, **given, rng=np.random.default_rng(seed), **fitted)
        else:
            found = bootstrap(models, mine, **given, rng=np.random.default_rng(seed))
        for kept, one in ((tables, found.table("none")), (pairs, found.pairs("none"))):
            one.insert(1 + ("other" in one), "roi", str(roi))
            kept.append(one)
    every, differences = pd.concat(tables, ignore_index=True), pd.concat(pairs, ignore_index=True)
    for table in (every, differences):
        table["p_corrected"] = corrected(table["p"], correction)
    return RoiBootstrap(models=every, pairs=differences)


def _shared(
    models: RDMs, parts: list[RDMs], *, over: Over, n: int, measure: Measure | str, seed: int
) -> list[Bootstrap] | None:
    """Bootstrap all regions with shared resamples; return None if they cannot share them."""
    named = measure_named(measure)
    people = [[str(p) for p in part.rdm_descriptors.get("participant", range(part.n_rdm))] for part in parts]
    if n < 2 or named == "bures" or any(one != people[0] for one in people):
        return None
    both = [checked(models, part, over) for part in parts]
    vectors, data = both[0][0], np.stack([one for _, one in both])
    if not can_share(vectors, data.reshape(-1, data.shape[-1]), named):
        return None
    names, equal = rdm_names(models), named == "cosine"
    check_varied(vectors, names, "bootstrap: models", allow_equal=equal)
    for one in data:
        check_varied(one, range(1, len(one) + 1), "bootstrap: data RDMs", allow_equal=equal)
    units = units_of(parts[0])
    drawn = draws_of(data.shape[1], units, over=over, n=n, rng=np.random.default_rng(seed))
    return bootstrap_regions(vectors, data, measure=named, names=names, units=units, **drawn)
