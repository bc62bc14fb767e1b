"""Define the command that compares RDMs: rsa compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brainmap import rsa, types, viz
from brainmap.cli.options import (
    FORMATS,
    Correction,
    Json,
    Measure,
    Overwrite,
    Seed,
    Test,
    build_provenance,
    check_free,
    make_rng,
    print_files,
    print_table,
    save_figure,
    write_tables,
)
from brainmap.cli.rsa.options import commands
from brainmap.cli.runs import load_data_rdms
from brainmap.errors import InputError
from brainmap.types import RDMs

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@commands.command()
def compare(
    models: Annotated[Path, typer.Argument(help="RDMs of the models (.h5).")],
    data: Annotated[list[Path], typer.Argument(help="RDMs of the data (.h5), one file per participant.")],
    measure: Measure = "rho-a",
    control_for: Annotated[
        Path | None,
        typer.Option(help="RDMs (.h5) to regress out of both: by splines of ranks or, with pearson, linearly."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", callback=check_free(".tsv"), help="Scores, .tsv; by default they are printed."),
    ] = None,
    ceilings: Annotated[
        Path | None, typer.Option(callback=check_free(".tsv"), help="Noise ceilings over participants, .tsv.")
    ] = None,
    statistics: Annotated[
        Path | None, typer.Option(callback=check_free(".tsv"), help="Test over participants, .tsv.")
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(
            callback=check_free(*FORMATS),
            help="Picture of scores over time, for models of `rsa rdm --over time`: .png, .svg, .pdf.",
        ),
    ] = None,
    test: Test = "signed-rank",
    correction: Correction = "fdr",
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Compare RDMs of models with RDMs of data, aligned by item labels, and print or write a table of scores."""
    from brainmap.rsa.comparison.ceilings import CEILING_COLUMNS
    from brainmap.rsa.comparison.partial import align_controls, get_partial_measure
    from brainmap.rsa.comparison.splines import name_partial
    from brainmap.rsa.inference.scores import STATISTICS_COLUMNS
    from brainmap.rsa.rdm.files import load_plain_rdms

    one, other = load_plain_rdms(models), load_data_rdms(data, plain=True)
    inputs = [models, *data]
    if control_for is None:
        scores = rsa.compare_rdms(one, other, measure=measure)
        measured: str = measure
    else:
        controls = load_plain_rdms(control_for)
        scores = rsa.compare_rdms_partial(one, other, controls, measure=measure)
        measured = name_partial(get_partial_measure(measure), align_controls(controls, other).shape[-2])
        inputs.append(control_for)
    table = _build_table(one, other, scores)
    about = {"Measure": measured, **build_provenance({"measure": measured}, inputs, seed=seed)}
    bounds = tested = drawn = None
    if ceilings is not None or (figure is not None and len(data) > 1):
        bounds = (
            rsa.noise_ceilings(other, measure=measure)
            if control_for is None
            else rsa.partial_ceilings(other, controls, measure=measure)
        )
    if figure is not None:
        drawn = _draw_over_time(table, bounds if len(data) > 1 else None, measured)
    if statistics is not None:
        tested = _test_scores(table, measure=measure, test=test, correction=correction, seed=seed)
    write_tables(
        (ceilings, bounds, CEILING_COLUMNS, about),
        (
            statistics,
            tested,
            {**STATISTICS_COLUMNS, **_MODEL_COLUMNS},
            about | {"Test": test, "Correction": correction},
        ),
        (out, table, _describe_columns(table), about),
    )
    if drawn is not None and figure is not None:
        save_figure(drawn, figure)
    if out is None or as_json:
        print_table(table, as_json)
    print_files(*(() if as_json else (out, ceilings, statistics, figure)))


def _draw_over_time(table: pd.DataFrame, ceilings: pd.DataFrame | None, measure: str) -> Figure:
    """Draw scores over time, one line per network and layer."""

    if "time" not in table:
        raise InputError(
            "--figure: expected models over time, got none; make them with `brainmap rsa rdm --over time`, or draw "
            "layers with `brainmap viz profile`"
        )
    if "network" in table and table["network"].nunique() > 1:
        table = table.assign(layer=table["network"] + " " + table["layer"])
    return viz.plot_time_course(table, ceilings, measure=measure)


_MODEL_COLUMNS = {"model": "number of the model RDM, from 1"}


def _build_table(models: RDMs, data: RDMs, scores: Any) -> pd.DataFrame:
    """Build a table with one row per model and data RDM: their descriptors and their score."""
    import numpy as np
    import pandas as pd

    def describe_rdms(rdms: RDMs, keys: Sequence[str], instead: str) -> pd.DataFrame:
        known = [key for key in keys if key in rdms.rdm_descriptors]
        kinds = {key: float if key == "time" else str for key in known}
        found = {key: [kinds[key](value) for value in rdms.rdm_descriptors[key]] for key in known}
        return pd.DataFrame(found or {instead: [str(k) for k in range(1, rdms.n_rdm + 1)]})

    every = ("participant", "network", "layer", "time", "roi", "name")
    left, right = describe_rdms(models, every, "model"), describe_rdms(data, every, "data")
    same = set(left) & set(right)
    left = left.rename(columns={key: f"model_{key}" if key in same else key for key in left})
    right = right.rename(columns={key: f"data_{key}" if key in same else key for key in right})
    i, j = (index.ravel() for index in np.indices(scores.shape))
    parts = [left.iloc[i].reset_index(drop=True), right.iloc[j].reset_index(drop=True)]
    table: pd.DataFrame = pd.concat(parts, axis=1).assign(score=scores.ravel())
    return table


def _describe_columns(table: pd.DataFrame) -> dict[str, str]:
    from brainmap.rsa.comparison.measures import SCORE_COLUMNS

    known = {**SCORE_COLUMNS, **_MODEL_COLUMNS, "data": "number of the data RDM, from 1", "name": "name of the RDM"}
    for side in ("model", "data"):
        known |= {f"{side}_{key}": f"{words} ({side} side)" for key, words in known.items()}
    return known


def _test_scores(
    table: pd.DataFrame, *, measure: str, test: types.Test, correction: types.Correction, seed: int
) -> pd.DataFrame:
    """Test the scores over participants, with one row per model and region."""

    if "participant" not in table or table["participant"].nunique() < 2:
        raise InputError(
            "--statistics: expected RDMs of two or more named participants, got fewer; give one file per participant, "
            "made with `brainmap rsa rdm --participant`"
        )
    over = [key for key in ("model", "name", "network", "layer", "time", "roi") if key in table]
    wide = table.set_index([*over, "participant"])["score"].unstack(sort=False)
    found = rsa.score_statistics(
        wide.to_numpy(),
        test=test,
        correction=correction,
        measure=measure,
        rng=make_rng(seed),
    ).drop(columns="model")
    for at, key in enumerate(over):
        found.insert(at, key, wide.index.get_level_values(key))
    return found
