"""Test layers in regions: every layer, differences between layers, the bootstrap, and the reliability of RDMs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from brainmap.checks import list_some
from brainmap.errors import InputError
from brainmap.progress import log
from brainmap.rsa.comparison.measures import arrange_scores
from brainmap.rsa.comparison.reliability import RELIABILITY_COLUMNS, rdm_reliability
from brainmap.rsa.inference.best_layers import BEST, BEST_NOTE, best_layer_differences, group_layers, join_best_layers
from brainmap.rsa.inference.bootstrap import describe_absent
from brainmap.rsa.inference.differences import DIFFERENCE_COLUMNS, score_differences
from brainmap.rsa.inference.exchange import Exchange, find_fixed
from brainmap.rsa.inference.relabeling import relabeling_test, substitute_words
from brainmap.rsa.inference.roi_bootstrap import BOOTSTRAP_COLUMNS, RoiBootstrap, bootstrap_rois
from brainmap.rsa.inference.scores import STATISTICS_COLUMNS, describe_fdr_reach, score_statistics
from brainmap.rsa.inference.seeds import SEED_COLUMNS, ScoredRows, average_rows, list_rows, measure_spread
from brainmap.rsa.inference.shared_structure import RESIDUAL_COLUMNS, residual_structure
from brainmap.rsa.rdm.alignment import align_vectors
from brainmap.study.results.context import Context, make_rng
from brainmap.study.settings.hypotheses import HYPOTHESES
from brainmap.study.stages.comparisons import (
    TEST_COLUMNS,
    describe_family,
    keep_comparisons,
    list_comparisons,
    list_seeds,
)
from brainmap.study.stages.generality import (
    SINGLE,
    THESE_SOUNDS,
    WORDS,
    Choice,
    add_participant_test,
    choose_differences,
    choose_zero,
    describe_participant_test,
)
from brainmap.study.stages.networks import list_layer_names
from brainmap.types import Correction, RDMs

_PAIR = {
    "network": "network, or a control of it",
    "layer": f"layer, or {BEST!r} of the network, as the test says below",
    "other_network": "network that it is compared with",
    "other_layer": "layer that it is compared with",
    "p_corrected": "corrected over all rows of its kind: pairs of layers x regions, or pairs of best layers x regions",
}
_ONE = {"mean": "score", "standard_error": "n/a: one participant"}
_RELABELED = {
    "chance": "mean score over the relabelings of the sounds, by the measure that relabelings are compared by (Test)"
}


class Inferred(NamedTuple):
    """Hold a table of the group, the descriptions of its columns, and the test in its sidecar."""

    name: str
    table: pd.DataFrame
    columns: dict[str, str]
    about: dict[str, Any]


def yield_inference_tables(context: Context, models: RDMs, brains: RDMs, scores: Any) -> Iterator[Inferred]:
    """Yield the tables that `[rsa] inference` asks for, from scores `(n_models, n_brains)` and their RDMs.

    Networks of several seeds are further rows, whose scores are the means over their seeds.
    """
    settings = context.study.settings.rsa
    rows = list_rows(models, list_seeds(context.study.settings))
    scores = average_rows(scores, rows.places)
    several = len(set(map(str, brains.rdm_descriptors["participant"]))) > 1
    zero, between = choose_zero(settings, brains), choose_differences(settings, brains)
    wanted = (
        settings.inference.asks_for_bootstrap
        or zero.kind == "bootstrap"
        or (several and len(scores) > 1 and between.kind == "bootstrap")
    )
    found = _bootstrap_regions(context, models, brains) if wanted else None
    if found is None and wanted:
        zero, between = (
            Choice("participants", "the bootstrap was not made") if one.kind == "bootstrap" else one
            for one in (zero, between)
        )
    if several:
        yield from _test_participants(context, models, brains, scores, (zero, between), found)
        if not settings.control_for:
            yield _test_unexplained(context, models, brains)
        yield _measure_reliability(context, brains)
    elif zero.kind == "participants":
        why = zero.why or "[rsa] inference asks for a test over participants"
        log.warning("group: one participant's scores are not tested: %s", why)
    elif zero.kind == "relabeling":
        yield _test_relabeled(context, models, brains, scores)
    if found is not None:
        names, left_out = _read_names(models, rows), _note_left_out(found)
        yield Inferred(
            "bootstrap",
            _name_models(found.models, names),
            BOOTSTRAP_COLUMNS,
            {"Test": _describe_resampling(context), **left_out},
        )
        if not several and len(found.pairs):
            yield Inferred(
                "differences",
                _name_models(join_best_layers(found.pairs, found.best_layers), names),
                DIFFERENCE_COLUMNS | _PAIR,
                {
                    "Test": f"{_describe_resampling(context)} (two-sided)",
                    **_note_best_layers(found.best_layers),
                    **left_out,
                },
            )


def list_shared_regions(each: Iterable[Iterable[object]], what: str, of: str = "") -> list[str]:
    """List the regions that all participants have, and report those that are left out: `of`, as in "RDMs of ".

    Raises
    ------
    InputError
        No region is common to all.
    """
    names = [list(dict.fromkeys(map(str, own))) for own in each]
    shared = [roi for roi in names[0] if all(roi in own for own in names)]
    lost = sorted({roi for own in names for roi in own} - set(shared))
    if not shared:
        raise InputError(f"{what}: no region is common to all participants (there are {list_some(lost)})")
    if lost:
        log.warning("group: %s%s are left out, which some participants lack", of, list_some(lost))
    return shared


def _test_participants(
    context: Context,
    models: RDMs,
    brains: RDMs,
    scores: Any,
    choices: tuple[Choice, Choice],
    found: RoiBootstrap | None,
) -> Iterator[Inferred]:
    """Test every layer in every region, and every pair; controls are tested like the networks."""
    settings = context.study.settings.rsa.inference
    zero, between = choices
    rows = list_rows(models, list_seeds(context.study.settings))
    cube, rois = arrange_scores(scores, brains)
    labels = {"model": rows.names, "roi": rois}
    given: dict[str, Any] = {
        "test": settings.test,
        "correction": settings.correction,
        "labels": labels,
        "measure": context.study.settings.rsa.measure,
    }
    names = _read_names(models, rows)
    selected = context.study.settings.stimuli.selected
    table = score_statistics(cube, **given, rng=make_rng(context, "flips"))
    note, first, relabeled, left_out = table.attrs["note"], table, table, {}
    if zero.kind == "relabeling":
        relabeled = first = _relabel_models(context, models, brains)
        note = first.attrs["note"]
        first = pd.concat(
            [
                table[["model", "roi", "mean", "standard_error"]],
                first[["chance", "statistic", "p", "p_corrected", "n", "smallest_p"]],
            ],
            axis=1,
        )
    elif zero.kind == "bootstrap":
        assert found is not None
        ours = found.models.set_index(["model", "roi"]).loc[list(zip(table["model"], table["roi"], strict=True))]
        first = table[["model", "roi", "mean"]].assign(
            standard_error=ours["standard_error"].to_numpy(),
            statistic=ours["t"].to_numpy(),
            p=ours["p"].to_numpy(),
            p_corrected=ours["p_corrected"].to_numpy(),
            n=table["n"],
            smallest_p=0.0,
        )
        note = f"{_describe_resampling(context)} (one-sided)"
        left_out = _note_left_out(found)
    _say_reach("scores", table, settings.correction)
    about = describe_participant_test(table.attrs["note"], zero, of="scores", selected=selected)
    if zero.kind == "relabeling":
        about |= _describe_exchange(context, brains, relabeled)
    columns, about = STATISTICS_COLUMNS | _RELABELED | SEED_COLUMNS | TEST_COLUMNS, {**about, **left_out}
    tested = add_participant_test(first, table, zero.kind)
    yield Inferred(
        "statistics",
        _name_models(_say_test_of_each(_add_spread(tested, table["mean"], rows), relabeled), names),
        columns,
        {"Test": note, **about},
    )
    if len(scores) > 1:
        yield _test_differences(context, models, cube, between, found, given)


def _test_differences(
    context: Context,
    models: RDMs,
    cube: Any,
    between: Choice,
    found: RoiBootstrap | None,
    given: dict[str, Any],
) -> Inferred:
    """Test every pair of layers, and the best layers of every pair of networks, in every region."""
    rows = list_rows(models, list_seeds(context.study.settings))
    table = score_differences(cube, **given, pairs=rows.list_pairs(), rng=make_rng(context, "differences"))
    note, networks = table.attrs["note"], group_layers(rows.owners)
    pairs = list_comparisons(context.study.settings, networks)
    rng = make_rng(context, "networks")
    best = best_layer_differences(cube, networks, pairs=pairs, **given, rng=rng) if pairs else table[:0]
    table = join_best_layers(table, best)
    selected = context.study.settings.stimuli.selected
    about = describe_participant_test(note, between, of="differences", selected=selected) | _note_best_layers(best)
    first = table
    if between.kind == "bootstrap":
        assert found is not None
        first, note = join_best_layers(found.pairs, found.best_layers), f"{_describe_resampling(context)} (two-sided)"
        about |= _note_left_out(found)
        where = table.set_index(["model", "other", "roi"])
        table = where.loc[list(zip(first["model"], first["other"], first["roi"], strict=True))].reset_index()
    elif between.why:
        log.info("group: differences: %s, so that they are tested over participants: %s", between.why, THESE_SOUNDS)
    columns = DIFFERENCE_COLUMNS | _PAIR | TEST_COLUMNS
    shown = _name_models(add_participant_test(first, table, between.kind), _read_names(models, rows))
    return Inferred("differences", shown, columns, {"Test": note, **about})


def _read_names(models: RDMs, rows: ScoredRows) -> dict[str, tuple[str, str]]:
    """Return the network and layer of each name in the tables, those of best layers included."""
    layers = [layer for _, layer in list_layer_names(models)]
    own = zip(rows.owners, (layers[places[0]] for places in rows.places), strict=True)
    names = dict(zip(rows.names, own, strict=True))
    return names | {f"{network} {BEST}": (network, BEST) for network in group_layers(rows.owners)}


def _add_spread(table: pd.DataFrame, means: pd.Series[float], rows: ScoredRows) -> pd.DataFrame:
    """Add how many seeds each row has and how far they lie apart, where a network has several."""
    if len(rows.places[-1]) == 1:
        return table
    n_models = sum(len(own) == 1 for own in rows.places)
    own = np.asarray(means, dtype=np.float64).reshape(len(rows.places), -1)[:n_models]
    return table.assign(**measure_spread(own, rows.places))


def _note_best_layers(best: pd.DataFrame) -> dict[str, str]:
    return {"BestLayers": f"{BEST_NOTE}; {describe_family(best)}"} if len(best) else {}


def _note_left_out(found: RoiBootstrap) -> dict[str, str]:
    return {"LeftOut": describe_absent(found.left_out)} if found.left_out else {}


def _relabel_models(context: Context, models: RDMs, brains: RDMs) -> pd.DataFrame:
    """Relabel the sounds of all models, as `relabeling_test`; `attrs["single"]` are rows whose single sounds are.

    Hypotheses that no exchange of whole conditions changes are tested apart, by the exchange of single sounds, and
    corrected among themselves, so that the numbers of other models are those of a study without them.
    """
    settings = context.study.settings
    how: dict[str, Any] = {
        "measure": settings.rsa.measure,
        "permutations": settings.rsa.inference.permutations,
    }
    fixed = find_fixed_hypotheses(models, brains)
    rest = [k for k in range(models.n_rdm) if k not in fixed]
    table = pd.DataFrame()
    if rest:
        seeds = list_seeds(settings)
        kept = models[rest] if fixed else models
        table = relabeling_test(kept, brains, **how, rng=make_rng(context, "permutation"), seeds=seeds)
    if not fixed:
        return table
    alone = relabeling_test(models[fixed], brains, **how, by="stimulus", rng=make_rng(context, "single sounds"))
    names = list_rows(models, list_seeds(settings)).names
    joined = pd.concat([table, alone], ignore_index=True) if rest else alone
    joined = joined.sort_values("model", key=lambda column: column.map(names.index), kind="stable", ignore_index=True)
    words = list_some([names[k].removeprefix(f"{HYPOTHESES} ") for k in fixed])
    note = (
        f"{words}, which no exchange of whole conditions changes: {alone.attrs['note']} and corrected apart from other "
        "models; does a region tell these sounds apart at all, more than with its sounds assigned at random?"
    )
    first = table if rest else alone
    joined.attrs |= {**first.attrs, "note": "; ".join([table.attrs["note"], note] if rest else [note])}
    joined.attrs["single"] = [names[k] for k in fixed]
    return joined


def find_fixed_hypotheses(models: RDMs, brains: RDMs) -> list[int]:
    """Find the hypotheses that no exchange of the items of the brain's RDMs changes, by their places."""
    exchange = Exchange.of(brains)
    if not exchange.tokens:
        return []
    own = [k for k, (network, _) in enumerate(list_layer_names(models)) if network == HYPOTHESES]
    if not own:
        return []
    vectors = align_vectors(models[own], brains, names=("models", "data"))
    return [k for k, same in zip(own, find_fixed(vectors, exchange), strict=True) if same]


def _say_test_of_each(table: pd.DataFrame, relabeled: pd.DataFrame) -> pd.DataFrame:
    """Say in the column `test` of which models single sounds were exchanged."""
    single = table["model"].isin(relabeled.attrs.get("single", ()))
    return table.assign(test=table["test"].where(~single, SINGLE)) if single.any() else table


def _describe_exchange(context: Context, brains: RDMs, tested: pd.DataFrame) -> dict[str, Any]:
    """Describe for the sidecar what a relabeling exchanges, how many there were, and the measure if it is another."""
    instead = substitute_words(context.study.settings.rsa.measure)
    if instead:
        log.info("group: %s; the scores are not affected", instead)
    n = tested.attrs["relabelings"]
    many = f"all {n:,} relabelings" if tested.attrs["enumerated"] else f"{n - 1:,} relabelings drawn at random"
    about: dict[str, Any] = {"Exchanged": Exchange.of(brains).words, "Relabelings": many}
    single = [name.removeprefix(f"{HYPOTHESES} ") for name in tested.attrs.get("single", ())]
    return about | ({"Substitute": instead} if instead else {}) | ({"SingleSounds": single} if single else {})


def _test_relabeled(context: Context, models: RDMs, brains: RDMs, scores: Any) -> Inferred:
    """Test every layer of one participant by relabeling sounds, in the form of the table of several participants."""
    found = _relabel_models(context, models, brains)
    rows = list_rows(models, list_seeds(context.study.settings))
    # by the measure of the study, where relabelings take a substitute
    mean = arrange_scores(scores, brains)[0][:, :, 0].ravel()
    table = found.assign(mean=mean, standard_error=np.nan, test=WORDS["relabeling"])
    return Inferred(
        "statistics",
        _name_models(_say_test_of_each(_add_spread(table, table["mean"], rows), found), _read_names(models, rows)),
        STATISTICS_COLUMNS | _RELABELED | SEED_COLUMNS | TEST_COLUMNS | _ONE,
        {"Test": found.attrs["note"], "FirstTest": "relabeling", **_describe_exchange(context, brains, found)},
    )


def _bootstrap_regions(context: Context, models: RDMs, brains: RDMs) -> RoiBootstrap | None:
    """Bootstrap every region; a bootstrap that the study file does not ask for is left out where it fails."""
    settings = context.study.settings.rsa
    try:
        found = bootstrap_rois(
            models,
            brains,
            over=settings.inference.over,
            n=settings.inference.bootstrap,
            measure=settings.measure,
            correction=_choose_correction(context),
            rng=make_rng(context, "bootstrap"),
            seeds=list_seeds(context.study.settings),
        )
        kept = keep_comparisons(found.best_layers, context.study.settings, _choose_correction(context))
        return replace(found, best_layers=kept)
    except InputError as error:
        if settings.inference.asks_for_bootstrap:
            raise
        log.warning("group: no bootstrap: %s", error)
        return None


def _choose_correction(context: Context) -> Correction:
    chosen = context.study.settings.rsa.inference.correction
    return "bonferroni" if chosen == "max-t" else chosen  # both control the family-wise error


def _describe_resampling(context: Context) -> str:
    settings = context.study.settings.rsa.inference
    what = {"both": "participants and conditions"}.get(settings.over, settings.over)
    return f"t tests on {settings.bootstrap} bootstrap resamples of {what}, corrected: {_choose_correction(context)}"


def _say_reach(what: str, table: pd.DataFrame, correction: str) -> None:
    """Warn where the correction over participants can find nothing."""
    reach = describe_fdr_reach(table["p"], table["smallest_p"]) if correction == "fdr" else ""
    if reach:
        log.warning("group: %s over participants (%s): %s", what, THESE_SOUNDS, reach)


def _test_unexplained(context: Context, models: RDMs, brains: RDMs) -> Inferred:
    """Compute what participants share and a layer does not explain, which the noise ceiling does not show."""
    settings = context.study.settings.rsa
    table = residual_structure(
        models,
        brains,
        measure=settings.measure,
        correction=_choose_correction(context),
        rng=make_rng(context, "residuals"),
    )
    names = _read_names(models, list_rows(models))
    return Inferred("residual_structure", _name_models(table, names), RESIDUAL_COLUMNS, {"Test": table.attrs["note"]})


def _measure_reliability(context: Context, brains: RDMs) -> Inferred:
    """Compute the reliability of RDMs between participants, and between runs where there are enough, as means."""
    measure = context.study.settings.rsa.measure
    table = rdm_reliability(brains, measure=measure, rng=make_rng(context, "reliability"))
    alone = context.read_person_tables("reliability.tsv", desc="rois")
    if alone:
        every = pd.concat(alone, ignore_index=True)
        mean = every.groupby(["roi", "over", "n"], sort=False, as_index=False).agg(
            {"splits": "first", "enumerated": "all", "halves": "mean", "reliability": "mean"}
        )
        table = pd.concat([table, mean[mean["roi"].isin(table["roi"])]], ignore_index=True)
    said = "of runs the mean over the participants with so many; each participant's own lies with its results"
    return Inferred("reliability", table, RELIABILITY_COLUMNS, {"Measure": measure, "Rows": said})


def _name_models(table: pd.DataFrame, names: dict[str, tuple[str, str]]) -> pd.DataFrame:
    """Replace the name of each model by its network and layer."""
    found: dict[str, list[str]] = {}
    for key, columns in (("model", ("network", "layer")), ("other", ("other_network", "other_layer"))):
        if key in table:
            parts = [names[name] for name in table[key]]
            found |= {column: [part[k] for part in parts] for k, column in enumerate(columns)}
    rest = table.drop(columns=["model", "other"], errors="ignore")
    return pd.DataFrame({**found, **{str(column): rest[column] for column in rest}})
