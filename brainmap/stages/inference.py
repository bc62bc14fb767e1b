"""Inference in regions: the test of every layer, the bootstrap, layer against layer, and how well RDMs repeat."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from brainmap.rsa.alignment import rdm_names
from brainmap.rsa.columns import BOOTSTRAP_COLUMNS, DIFFERENCE_COLUMNS, STATISTICS_COLUMNS
from brainmap.rsa.differences import score_differences
from brainmap.rsa.inference import Correction, corrected, score_statistics
from brainmap.rsa.permutation import permutation_test
from brainmap.rsa.roi_bootstrap import bootstrap_rois
from brainmap.rsa.shared_structure import RESIDUAL_COLUMNS, residual_structure
from brainmap.rsa.split_half import RELIABILITY_COLUMNS, rdm_reliability
from brainmap.stages.context import Context
from brainmap.stages.networks import layer_names

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

log = logging.getLogger("brainmap")
_PAIR = {
    "network": "network, or a control of it",
    "layer": "layer",
    "other_network": "network that it is compared with",
    "other_layer": "layer that it is compared with",
}
_ONE = {
    "mean": "score",
    "standard_error": "n/a: one participant",
    "statistic": "score with the true labels",
    "p": "share of relabelings of the conditions with a score as high, uncorrected",
}


class Inferred(NamedTuple):
    """A table of the group, what its columns are, and what its sidecar says of the test."""

    name: str
    table: pd.DataFrame
    columns: dict[str, str]
    about: dict[str, str]


def inference_tables(context: Context, models: RDMs, brains: RDMs, scores: Any) -> Iterator[Inferred]:
    """What `[rsa] inference` asks for, from the scores `(n_models, n_brains)` and the RDMs they are of."""
    settings = context.study.settings.rsa
    if len(set(map(str, brains.rdm_descriptors["participant"]))) > 1:
        yield from _over_participants(context, models, brains, scores)
        if not settings.control_for:
            yield _lacking(context, models, brains)
        yield _repeated(context, brains)
    elif settings.control_for:
        log.warning("group: one participant is tested by relabeling conditions, which has no partial form: scores are "
                    "not tested; leave out [rsa] control_for")  # fmt: skip
    elif settings.inference.permutations:
        yield _relabeled(context, models, brains)
    if settings.inference.bootstrap:
        yield from _bootstrapped(context, models, brains)


def rng_of(context: Context, purpose: str) -> np.random.Generator:
    """The random numbers of one purpose, which no other one changes."""
    return np.random.default_rng(np.random.SeedSequence([context.study.settings.study.seed, *purpose.encode()]))


def _over_participants(context: Context, models: RDMs, brains: RDMs, scores: Any) -> Iterator[Inferred]:
    """The test of every layer in every region; controls are tested and corrected like the networks."""
    settings = context.study.settings.rsa.inference
    people, regions = ([str(v) for v in brains.rdm_descriptors[key]] for key in ("participant", "roi"))
    rois, columns = list(dict.fromkeys(regions)), list(dict.fromkeys(people))
    cube = np.full((len(scores), len(rois), len(columns)), np.nan)
    for k, (who, roi) in enumerate(zip(people, regions, strict=True)):
        cube[:, rois.index(roi), columns.index(who)] = scores[:, k]
    labels = {"model": [str(k) for k in range(len(scores))], "roi": rois}
    given: dict[str, Any] = {"test": settings.participants, "correction": settings.correction, "labels": labels,
                             "measure": context.study.settings.rsa.measure}  # fmt: skip
    names = dict(zip(labels["model"], layer_names(models), strict=True))
    table = score_statistics(cube, **given, rng=rng_of(context, "flips"))
    yield Inferred("statistics", _named(table, names), STATISTICS_COLUMNS, {"Test": table.attrs["note"]})
    if not settings.bootstrap and len(scores) > 1:
        table = score_differences(cube, **given, rng=rng_of(context, "differences"))
        yield Inferred("differences", _named(table, names), DIFFERENCE_COLUMNS | _PAIR, {"Test": table.attrs["note"]})


def _relabeled(context: Context, models: RDMs, brains: RDMs) -> Inferred:
    """One participant: every layer against relabeled conditions, as the table of a test over participants would be."""
    settings = context.study.settings.rsa
    found = permutation_test(models, brains, measure=settings.measure, permutations=settings.inference.permutations,
                             rng=rng_of(context, "permutation"))  # fmt: skip
    rois = found["roi"].nunique()
    if settings.inference.correction == "max-t":  # over the layers by the largest score, over regions by Bonferroni
        p_corrected, how = np.minimum(1.0, found["p_corrected"] * rois), "family-wise over layers and regions"
    else:
        p_corrected = corrected(found["p"], settings.inference.correction)
        how = f"corrected over all rows: {settings.inference.correction}"
    table = pd.DataFrame({
        "model": found["model"], "roi": found["roi"], "mean": found["score"], "standard_error": np.nan,
        "statistic": found["score"], "p": found["p"], "p_corrected": p_corrected, "n": 1,
        "smallest_p": found["smallest_p"],
    })
    note = found.attrs["note"].replace(", p_corrected family-wise over models", f", {how}")
    names = dict(zip(rdm_names(models), layer_names(models), strict=True))
    return Inferred("statistics", _named(table, names), STATISTICS_COLUMNS | _ONE, {"Test": note})


def _bootstrapped(context: Context, models: RDMs, brains: RDMs) -> Iterator[Inferred]:
    settings = context.study.settings.rsa
    chosen = settings.inference.correction
    correction: Correction = "bonferroni" if chosen == "max-t" else chosen  # both keep the family-wise error
    found = bootstrap_rois(
        models, brains, over=settings.inference.over, n=settings.inference.bootstrap, measure=settings.measure,
        correction=correction, rng=rng_of(context, "bootstrap"),
    )  # fmt: skip
    names = dict(zip(rdm_names(models), layer_names(models), strict=True))
    what = {"both": "participants and conditions"}.get(settings.inference.over, settings.inference.over)
    note = f"t tests on {settings.inference.bootstrap} bootstrap resamples of {what}, corrected: {correction}"
    yield Inferred("bootstrap", _named(found.models, names), BOOTSTRAP_COLUMNS, {"Test": note})
    if len(found.pairs):
        pairs = _named(found.pairs, names)
        yield Inferred("differences", pairs, DIFFERENCE_COLUMNS | _PAIR, {"Test": f"{note} (two-sided)"})


def _lacking(context: Context, models: RDMs, brains: RDMs) -> Inferred:
    """What participants share that a layer lacks, which the noise ceiling does not tell."""
    settings = context.study.settings.rsa
    chosen = settings.inference.correction
    correction: Correction = "bonferroni" if chosen == "max-t" else chosen
    table = residual_structure(models, brains, measure=settings.measure, correction=correction,
                               rng=rng_of(context, "residuals"))  # fmt: skip
    names = dict(zip(rdm_names(models), layer_names(models), strict=True))
    return Inferred("residual_structure", _named(table, names), RESIDUAL_COLUMNS, {"Test": table.attrs["note"]})


def _repeated(context: Context, brains: RDMs) -> Inferred:
    """How well RDMs repeat: between participants, and, of those with runs enough, between runs, as means over them."""
    measure = context.study.settings.rsa.measure
    table = rdm_reliability(brains, measure=measure, rng=rng_of(context, "reliability"))
    paths = [context.subject_file(p, "reliability.tsv", desc="rois") for p in context.study.participants()]
    alone = [pd.read_csv(path, sep="\t", na_values="n/a", keep_default_na=False) for path in paths if path.exists()]
    if alone:
        every = pd.concat(alone, ignore_index=True)
        mean = every.groupby(["roi", "over", "n"], sort=False, as_index=False).agg(
            {"splits": "first", "enumerated": "all", "halves": "mean", "reliability": "mean"})  # fmt: skip
        table = pd.concat([table, mean[mean["roi"].isin(table["roi"])]], ignore_index=True)
    said = "of runs the mean over the participants with so many; each participant's own lies with its results"
    return Inferred("reliability", table, RELIABILITY_COLUMNS, {"Measure": measure, "Rows": said})


def _named(table: pd.DataFrame, names: dict[str, tuple[str, str]]) -> pd.DataFrame:
    """Network and layer in the place of a model's name, and of the other one's."""
    found: dict[str, list[str]] = {}
    for key, columns in (("model", ("network", "layer")), ("other", ("other_network", "other_layer"))):
        if key in table:
            parts = [names[name] for name in table[key]]
            found |= {column: [part[k] for part in parts] for k, column in enumerate(columns)}
    rest = table.drop(columns=["model", "other"], errors="ignore")
    return pd.DataFrame({**found, **{str(column): rest[column] for column in rest}})
