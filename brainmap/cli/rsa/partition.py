"""Define the command that partitions variance: rsa partition."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from brainmap import rsa, types, viz
from brainmap.cli.options import (
    FORMATS,
    Correction,
    Json,
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
from brainmap.cli.rsa.options import Data, commands, load_named_rdms
from brainmap.cli.runs import load_data_rdms

SHARE_COLUMNS = {
    "roi": "region of interest",
    "participant": "label of the participant",
    "sets": "the sets of models to which the share belongs: one only, or in common",
    "share": "share of explained variance; a common one below 0 says that sets suppress each other",
    "r2": "explained variance of the union of these sets",
    "suppressed_by": "of what one set explains alone: negative common shares of it, beside which it proves nothing",
}


@commands.command()
def partition(
    data: Data,
    sets: Annotated[
        list[str],
        typer.Option("--set", help="name=FILE.h5, or name=FILE.h5:conv1,conv4 for some of its RDMs; up to four sets."),
    ],
    weights: Annotated[
        types.Fit, typer.Option(help="Least squares (ols), or non-negative least squares (nnls).")
    ] = "ols",
    ranks: Annotated[bool, typer.Option("--ranks", help="Use ranks of dissimilarities, as Spearman does.")] = False,
    validation: Annotated[
        types.Validation,
        typer.Option(
            help="Whether weights are fit to the other participants, or to the same ones (none; no test then)."
        ),
    ] = "participants",
    out: Annotated[
        Path | None, typer.Option("--out", callback=check_free(".tsv"), help="Shares of each participant, .tsv.")
    ] = None,
    statistics: Annotated[
        Path | None, typer.Option(callback=check_free(".tsv"), help="Test over participants, .tsv.")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(callback=check_free(*FORMATS), help="Picture of the shares: .png, .svg or .pdf.")
    ] = None,
    shares: Annotated[
        types.Tested,
        typer.Option(
            help="Which shares are tested: those of one set only, or all; common shares reflect similar models."
        ),
    ] = "only",
    test: Test = "signed-rank",
    correction: Correction = "fdr",
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Partition the variance of the data RDMs: what each set of models explains alone, and what sets share."""

    from brainmap.rsa.inference.scores import STATISTICS_COLUMNS

    chosen, files = load_named_rdms(sets, "--set")
    found = rsa.partition_variance(
        chosen,
        load_data_rdms(data),
        fit=weights,
        ranks=ranks,
        validation=validation,
    )
    settings = {"sets": list(sets), "weights": weights, "ranks": ranks, "validation": validation}
    about = build_provenance(settings, [*files, *data], seed=seed)
    tested = None
    if validation == "participants" or statistics is not None:
        tested = rsa.partition_statistics(
            found,
            shares=shares,
            test=test,
            correction=correction,
            rng=make_rng(seed),
        )
    table = found.table()
    columns = {
        **STATISTICS_COLUMNS,
        **{name: SHARE_COLUMNS[name] for name in ("sets", "suppressed_by")},
        "mean": "mean share over participants",
        "p_corrected": "corrected over all rows of the table",
    }
    noted = about if tested is None else {**about, "Test": tested.attrs["note"]}
    write_tables((statistics, tested, columns, noted), (out, table, SHARE_COLUMNS, about))
    if figure is not None:
        save_figure(viz.plot_partition(found, tested), figure)
    if as_json or (out is None and statistics is None and figure is None):
        print_table(table if tested is None else tested, as_json)
    if not as_json:
        for (roi, name), by in found.suppression().items():
            typer.echo(
                f"note: {roi}: {name!r} stands beside a negative common share ({by}: suppression); the set may "
                "have nothing to do with the data"
            )
    print_files(*(() if as_json else (out, statistics, figure)))
