"""The bootstrap of every ROI, with the same draws in each, as tables corrected over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from brainmap.checks import one_of
from brainmap.rsa._bootstrap import Over, bootstrap
from brainmap.rsa.compare import Measure
from brainmap.rsa.crossvalidated import bootstrap_models
from brainmap.rsa.inference import OF_P, Correction, corrected

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs


@dataclass(frozen=True, eq=False, kw_only=True)
class RoiBootstrap:
    """What `brainmap.rsa.bootstrap` says of each ROI.

    Attributes
    ----------
    models : DataFrame
        A row a model and ROI: model, roi, then as `brainmap.rsa.Bootstrap.table`.
    pairs : DataFrame
        A row a pair of models and ROI: model, other, roi, then as `brainmap.rsa.Bootstrap.pairs`.
    """

    models: pd.DataFrame
    pairs: pd.DataFrame


def bootstrap_rois(
    models: RDMs | Mapping[str, RDMs], data_rdms: RDMs, *, over: Over = "both", n: int = 1000,
    measure: Measure | str = "rho-a", correction: Correction = "fdr", rng: np.random.Generator, **fitted: Any,
) -> RoiBootstrap:
    """Bootstrap each ROI of the data; p values are corrected over models (pairs of models) and ROIs together.

    Parameters
    ----------
    models : rsatoolbox RDMs, or mapping name -> RDMs
        One RDM a model, as in `brainmap.rsa.bootstrap`; or families of RDMs that are fit in every resample, as in
        `brainmap.rsa.bootstrap_models`.
    over, n, measure, rng
        As there.
    data_rdms : rsatoolbox RDMs
        One RDM a participant and ROI (RDM descriptor `roi`; without it all are of one).
    correction : {"fdr", "bonferroni", "none"}
    **fitted
        Of families: kind, condition_folds, participant_folds and repeats.

    Returns
    -------
    RoiBootstrap

    Raises
    ------
    InputError
        Another correction; what `brainmap.rsa.bootstrap`, or of families `brainmap.rsa.bootstrap_models`, refuses.

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
    one_of(correction, OF_P, "correction")  # a mistake is said before the work
    data: Any = data_rdms
    known = "roi" in data.rdm_descriptors
    seed = int(rng.integers(2**63))
    tables: list[pd.DataFrame] = []
    pairs: list[pd.DataFrame] = []
    for roi in dict.fromkeys(data.rdm_descriptors["roi"] if known else ["all voxels"]):
        mine = data.subset("roi", roi) if known else data
        given: Any = {"over": over, "n": n, "measure": measure, "rng": np.random.default_rng(seed)}
        if isinstance(models, Mapping):
            found = bootstrap_models(models, mine, **given, **fitted)
        else:
            found = bootstrap(models, mine, **given)
        for kept, table in ((tables, found.table("none")), (pairs, found.pairs("none"))):
            table.insert(1 + ("other" in table), "roi", str(roi))
            kept.append(table)
    every, differences = pd.concat(tables, ignore_index=True), pd.concat(pairs, ignore_index=True)
    for table in (every, differences):
        table["p_corrected"] = corrected(table["p"], correction)
    return RoiBootstrap(models=every, pairs=differences)
