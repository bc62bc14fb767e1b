"""Define the command that fits models with parameters: rsa fit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from brainmap import rsa, types
from brainmap.cli.options import Json, Measure, Overwrite, Seed, check_free, make_rng
from brainmap.cli.rsa.options import Data, commands, leave_tables, load_named_rdms
from brainmap.cli.runs import load_data_rdms

WEIGHT_COLUMNS = {
    "model": "name of the family of RDMs",
    "kind": "fixed, selected, weighted or interpolated",
    "roi": "region of interest",
    "rdm": "RDM of the family",
    "weight": "mean over folds; they sum to 1, for RDMs scaled to one root mean square",
    "chosen": "share of folds in which the weight is not 0",
}


FIT_COLUMNS = {
    **{key: WEIGHT_COLUMNS[key] for key in ("model", "kind", "roi")},
    "participant": "label of the participant",
    "score": "cross-validated similarity of the model's prediction and the region's RDM",
}


@commands.command()
def fit(
    data: Data,
    family: Annotated[
        list[str], typer.Option(help="name=FILE.h5, or name=FILE.h5:conv1,conv4 for some of its RDMs. Repeatable.")
    ],
    kind: Annotated[
        types.ModelFit, typer.Option(help="How the RDMs of a family are combined to one prediction.")
    ] = "weighted",
    measure: Measure = "rho-a",
    item_folds: Annotated[int, typer.Option(min=1, help="Folds of the conditions; 1: no split.")] = 2,
    participant_folds: Annotated[
        int | None, typer.Option(min=1, help="Folds of the participants; default: leave one out.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", callback=check_free(".tsv"), help="Scores, .tsv; by default they are printed."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(callback=check_free(".tsv"), help="Also write the weights, .tsv.")
    ] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Fit models with parameters to some participants and conditions, and score them on others."""

    families, files = load_named_rdms(family, "--family")
    found = rsa.score_models(
        families,
        load_data_rdms(data),
        kind=kind,
        measure=measure,
        item_folds=item_folds,
        participant_folds=participant_folds,
        rng=make_rng(seed),
    )
    settings = {"kind": kind, "measure": measure, "item_folds": item_folds, "participant_folds": participant_folds}
    tables = [(out, found.scores, FIT_COLUMNS), (weights, found.weights, WEIGHT_COLUMNS)]
    said = {"Measure": measure}
    leave_tables(found.scores, tables, as_json, parameters=settings, inputs=[*files, *data], seed=seed, about=said)
