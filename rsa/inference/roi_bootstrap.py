"""Bootstrap every ROI with the same draws, and correct the tests over all ROIs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from brainmap.checks import check_choice, refuse_some
from brainmap.rsa.comparison.measures import find_measure
from brainmap.rsa.inference.best_layers import compare_best_layers, group_layers, group_layers_by_name
from brainmap.rsa.inference.bootstrap import (
    Bootstrap,
    average_models,
    bootstrap,
    check_rdms,
    draw_resamples,
    leave_out_absent,
    warn_of_absent,
)
from brainmap.rsa.inference.crossvalidation import bootstrap_models
from brainmap.rsa.inference.exchange import find_units
from brainmap.rsa.inference.region_bootstrap import bootstrap_regions, can_share
from brainmap.rsa.inference.resampling import check_varied
from brainmap.rsa.inference.scores import OF_P, correct_p
from brainmap.rsa.inference.seeds import Seeds, list_rows
from brainmap.rsa.rdm.alignment import list_rdm_names
from brainmap.types import Correction, Measure, Over, RDMs

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
    "n": "participants with an RDM of the region; the others are left out",
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
    best_layers : DataFrame
        The same for pairs of networks (controls included), each with its best layer, which is chosen again in every
        resample; model and other are "<network> best layer". Its p are a family of their own in the correction. It is
        empty for families that are fit, and if the models are not layers of several networks.
    left_out : mapping roi -> participants without an RDM of it
        The participants who are left out. All tables count the others in the column n.
    """

    models: pd.DataFrame
    pairs: pd.DataFrame
    best_layers: pd.DataFrame = field(default_factory=pd.DataFrame)
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)


def bootstrap_rois(
    models: RDMs | Mapping[str, RDMs],
    data_rdms: RDMs,
    *,
    over: Over = "both",
    n: int = 1000,
    measure: Measure | str = "rho-a",
    correction: Correction = "fdr",
    rng: np.random.Generator,
    seeds: Seeds | None = None,
    **fitted: Any,
) -> RoiBootstrap:
    """Bootstrap each ROI of the data, and correct p over models (or pairs of models) and ROIs together.

    Parameters
    ----------
    models : rsatoolbox RDMs, or mapping name -> RDMs
        One RDM per model, as in `brainmap.rsa.bootstrap`, with an RDM descriptor `network` where the best layers of
        networks are to be compared; or families of RDMs that are fit in every resample, as in
        `brainmap.rsa.bootstrap_models`.
    data_rdms : rsatoolbox RDMs
        One RDM per participant and ROI (RDM descriptor `roi`; without it all belong to one ROI). A participant without
        an RDM of an ROI (all pairs are missing) is left out of it, and a `BrainmapWarning` names who is.
    over, n, measure
        As in `brainmap.rsa.bootstrap`.
    correction : {"fdr", "bonferroni", "none"}
    rng
        As in `brainmap.rsa.bootstrap`.
    seeds : mapping of str to sequence of str, optional
        Networks that were trained several times, each with the names (RDM descriptor `network`) of its trainings. Each
        of their layers is one more model, whose score is the mean over the seeds in every resample; it is not compared
        with the layers of its seeds.
    **fitted
        Settings for families: kind, condition_folds, participant_folds and repeats.

    Returns
    -------
    RoiBootstrap

    Raises
    ------
    InputError
        The correction is unknown, seeds of a network are unknown or differ in their layers, or
        `brainmap.rsa.bootstrap` (for families `brainmap.rsa.bootstrap_models`) refuses the data.

    References
    ----------
    Schütt et al. 2023, doi:10.7554/eLife.82566

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
    check_choice(correction, OF_P, "correction")  # report a mistake before the long computation
    data: Any
    data, absent = leave_out_absent(data_rdms)
    warn_of_absent(absent)
    seed = int(rng.integers(2**63))
    rois = list(dict.fromkeys(data_rdms.rdm_descriptors["roi"])) if "roi" in data_rdms.rdm_descriptors else []
    known = {str(roi) for roi in data.rdm_descriptors.get("roi", ())}
    absent_everywhere = [str(roi) for roi in rois if str(roi) not in known]
    refuse_some(absent_everywhere, "bootstrap: no participant has an RDM of ", "; leave it out")
    parts = {str(roi): data.subset("roi", roi) for roi in rois} or {"all voxels": data}
    given: Any = {"over": over, "n": n, "measure": measure}
    if isinstance(models, Mapping):
        found = {
            roi: bootstrap_models(models, part, **given, rng=np.random.default_rng(seed), **fitted)
            for roi, part in parts.items()
        }
    else:
        found = _bootstrap_each(models, parts, seed=seed, **given)
    networks = {} if isinstance(models, Mapping) else group_layers_by_name(models)
    of_layers: list[tuple[int, int]] | None = None
    of_networks: list[tuple[int, int]] | None = None
    if seeds and not isinstance(models, Mapping):
        rows = list_rows(models, seeds)
        found = {roi: average_models(one, rows.places, rows.names) for roi, one in found.items()}
        networks, of_layers, of_networks = group_layers(rows.owners), rows.list_pairs(), rows.list_network_pairs()
    every = _join_tables({roi: one.table("none") for roi, one in found.items()}, found, correction)
    pairs = _join_tables({roi: one.pairs("none", among=of_layers) for roi, one in found.items()}, found, correction)
    best = {roi: compare_best_layers(one, networks, among=of_networks) for roi, one in found.items() if networks}
    return RoiBootstrap(
        models=every,
        pairs=pairs,
        best_layers=_join_tables(best, found, correction) if best else pairs.iloc[:0].copy(),
        left_out=absent,
    )


def _join_tables(
    tables: Mapping[str, pd.DataFrame], found: Mapping[str, Bootstrap], correction: Correction
) -> pd.DataFrame:
    """Join the tables of all ROIs, count their participants, and correct p over all rows."""
    for roi, one in tables.items():
        one.insert(1 + ("other" in one), "roi", roi)
        one["n"] = found[roi].n_participants
    table = pd.concat(list(tables.values()), ignore_index=True)
    table["p_corrected"] = correct_p(table["p"], correction)
    return table


def _bootstrap_each(
    models: RDMs, parts: Mapping[str, RDMs], *, over: Over, n: int, measure: Measure | str, seed: int
) -> dict[str, Bootstrap]:
    """Bootstrap every ROI; those with the same participants share their resamples where they can."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for roi, part in parts.items():
        people = part.rdm_descriptors.get("participant", range(part.n_rdm))
        groups.setdefault(tuple(str(p) for p in people), []).append(roi)
    found: dict[str, Bootstrap] = {}
    given: Any = {"over": over, "n": n, "measure": measure}
    for rois in groups.values():
        mine = [parts[roi] for roi in rois]
        shared = _bootstrap_together(models, mine, seed=seed, **given)
        if shared is None:
            shared = [bootstrap(models, part, **given, rng=np.random.default_rng(seed)) for part in mine]
        found |= dict(zip(rois, shared, strict=True))
    return {roi: found[roi] for roi in parts}


def _bootstrap_together(
    models: RDMs, parts: list[RDMs], *, over: Over, n: int, measure: Measure | str, seed: int
) -> list[Bootstrap] | None:
    """Bootstrap ROIs of the same participants with shared resamples; return None if they cannot share them."""
    named = find_measure(measure)
    if n < 2 or named == "bures":
        return None
    both = [check_rdms(models, part, over) for part in parts]
    vectors, data = both[0][0], np.stack([one for _, one in both])
    if not can_share(vectors, data.reshape(-1, data.shape[-1]), named):
        return None
    names, equal = list_rdm_names(models), named == "cosine"
    check_varied(vectors, names, "bootstrap: models", allow_equal=equal)
    for one in data:
        check_varied(one, range(1, len(one) + 1), "bootstrap: data RDMs", allow_equal=equal)
    units = find_units(parts[0])
    drawn = draw_resamples(data.shape[1], units, over=over, n=n, rng=np.random.default_rng(seed))
    return bootstrap_regions(vectors, data, measure=named, names=names, units=units, **drawn)
