"""Commands for models: rsa model, fit, partition."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from brainmap import types
from brainmap.cli.options import (
    Correction,
    Items,
    Json,
    Measure,
    Overwrite,
    Seed,
    Test,
    free,
    names,
    provenance,
    said,
    save_figure,
    show,
)
from brainmap.cli.rsa.rdm import commands, counted
from brainmap.cli.runs import load_data_rdms
from brainmap.errors import InputError

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

Data = Annotated[list[Path], typer.Argument(help="RDMs of the data (.h5), a file a participant.")]

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
SHARE_COLUMNS = {
    "roi": "region of interest",
    "participant": "label of the participant",
    "sets": "the sets of models to which the share belongs: one only, or in common",
    "share": "share of explained variance; a common one below 0 says that sets suppress each other",
    "r2": "explained variance of the union of these sets",
    "suppressed_by": "of what one set explains alone: negative common shares of it, beside which it proves nothing",
}


@commands.command()
def model(
    out: Annotated[Path, typer.Option("--out", help="RDMs as HDF5, .h5.")],
    stimuli: Annotated[
        Path | None, typer.Option(help="TSV with stimulus_id and condition, for --category and --phonetic.")
    ] = None,
    category: Annotated[
        list[str] | None, typer.Option(help="Column of --stimuli: 0 within a category, 1 between. May repeat.")
    ] = None,
    phonetic: Annotated[bool, typer.Option("--phonetic", help="Articulatory features of words (condition).")] = False,
    table: Annotated[
        list[Path] | None, typer.Option(help="TSV of features, a square or long table of dissimilarities. May repeat.")
    ] = None,
    items: Items = "stimulus",
    overwrite: Overwrite = False,
) -> None:
    """RDMs of hypotheses: categories, the sounds of words, tables of your own."""
    from brainmap.checks import one_of
    from brainmap.record import write_json
    from brainmap.rsa.rdm.alignment import LABEL_OF, LEVELS, stack_rdms
    from brainmap.rsa.rdm.files import save_rdms
    from brainmap.rsa.rdm.hypotheses import category_rdm, phonetic_rdm, read_model_rdms
    from brainmap.tables import read_table

    free(out, overwrite, kinds=(".h5", ".hdf5"))
    label = LABEL_OF[items]
    if not (category or phonetic or table):
        raise InputError("rsa model: give --category, --phonetic or --table")
    found: list[RDMs] = []
    if category or phonetic:
        if stimuli is None:
            raise InputError("rsa model: --category and --phonetic need --stimuli, the table of sounds")
        rows = read_table(stimuli, "stimuli")
        for column in (label, *(["condition"] if phonetic else []), *(category or [])):
            one_of(column, [str(name) for name in rows.columns], f"column of {stimuli}")
        for column in category or []:
            found.append(category_rdm(rows[label].tolist(), rows[column].tolist(), level=items, name=column))
        if phonetic:
            words = rows["condition"].tolist()
            found.append(phonetic_rdm(words, items=rows[label].tolist() if items == "stimulus" else None))
    found += [read_model_rdms(path) for path in table or []]
    for one in found:
        one.dissimilarity_measure = "of each model"
    rdms = stack_rdms(found)
    save_rdms(rdms, out)
    inputs = [*([stimuli] if stimuli else []), *(table or [])]
    named = [str(name) for name in rdms.rdm_descriptors["name"]]
    write_json(out.with_suffix(".json"), provenance({"items": items, "models": named}, inputs))
    typer.echo(f"{out}: {counted(rdms.n_rdm, 'RDM')} ({', '.join(named)}) of {rdms.n_cond} {LEVELS[items]}")


@commands.command()
def fit(
    data: Data,
    family: Annotated[
        list[str], typer.Option(help="name=FILE.h5, or name=FILE.h5:conv1,conv4 for some RDMs. May repeat.")
    ],
    kind: Annotated[types.ModelFit, typer.Option(help="How RDMs of a family become one prediction.")] = "weighted",
    measure: Measure = "rho-a",
    item_folds: Annotated[int, typer.Option(min=1, help="Parts of the conditions; 1: all at once.")] = 2,
    participant_folds: Annotated[
        int | None, typer.Option(min=1, help="Parts of the participants; default: each alone.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Scores, .tsv; default: printed.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Also the weights, .tsv.")] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Fit models with parameters to some participants and conditions, score them on others."""
    import numpy as np

    from brainmap.record import write_table
    from brainmap.rsa.comparison.fits import score_models

    for option, path in (("--out", out), ("--weights", weights)):
        free(path, overwrite, option=option, kinds=(".tsv",))
    families, files = _named(family, "--family")
    found = score_models(
        families,
        load_data_rdms(data),
        kind=kind,
        measure=measure,
        item_folds=item_folds,
        participant_folds=participant_folds,
        rng=np.random.default_rng(seed),
    )
    settings = {"kind": kind, "measure": measure, "item_folds": item_folds, "participant_folds": participant_folds}
    about = {"Measure": measure, **provenance(settings, [*files, *data], seed=seed)}
    if weights is not None:
        write_table(found.weights, weights, columns=WEIGHT_COLUMNS, about=about)
    if out is not None:
        write_table(found.scores, out, columns=FIT_COLUMNS, about=about)
    if out is None or as_json:
        show(found.scores, as_json)
    said(*(() if as_json else (out, weights)))


@commands.command()
def partition(
    data: Data,
    sets: Annotated[
        list[str], typer.Option("--set", help="name=FILE.h5, or name=FILE.h5:conv1,conv4 for some RDMs; up to four.")
    ],
    weights: Annotated[types.Fit, typer.Option(help="Least squares, or weights that are not negative (nnls).")] = "ols",
    ranks: Annotated[bool, typer.Option("--ranks", help="Ranks of dissimilarities, as Spearman.")] = False,
    validation: Annotated[
        types.Validation,
        typer.Option(help="Weights come from the other participants, or from the same (none: then nothing is tested)."),
    ] = "participants",
    out: Annotated[Path | None, typer.Option("--out", help="Shares of each participant, .tsv.")] = None,
    statistics: Annotated[Path | None, typer.Option(help="The test over participants, .tsv.")] = None,
    figure: Annotated[Path | None, typer.Option(help="A picture of the shares: .png, .svg or .pdf.")] = None,
    shares: Annotated[
        types.Tested,
        typer.Option(help="Tested is what a set explains alone, or every share; common ones show models' likeness."),
    ] = "only",
    test: Test = "signed-rank",
    correction: Correction = "fdr",
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Part the variance of the data's RDMs: what sets of models explain alone, and what they share."""
    import numpy as np

    from brainmap.cli.options import FORMATS
    from brainmap.record import write_table
    from brainmap.rsa.comparison.partition import partition_variance
    from brainmap.rsa.inference.partition import partition_statistics
    from brainmap.rsa.inference.scores import STATISTICS_COLUMNS

    for option, path in (("--out", out), ("--statistics", statistics)):
        free(path, overwrite, option=option, kinds=(".tsv",))
    free(figure, overwrite, option="--figure", kinds=FORMATS)
    chosen, files = _named(sets, "--set")
    found = partition_variance(
        chosen,
        load_data_rdms(data),
        fit=weights,
        ranks=ranks,
        validation=validation,
    )
    settings = {"sets": list(sets), "weights": weights, "ranks": ranks, "validation": validation}
    about = provenance(settings, [*files, *data], seed=seed)
    tested = None
    if validation == "participants" or statistics is not None:
        rng = np.random.default_rng(seed)
        tested = partition_statistics(
            found,
            shares=shares,
            test=test,
            correction=correction,
            rng=rng,
        )
    if statistics is not None and tested is not None:
        columns = {**STATISTICS_COLUMNS, "sets": SHARE_COLUMNS["sets"], "mean": "mean share over participants"}
        columns["p_corrected"] = "corrected over all rows of the table"
        columns["suppressed_by"] = SHARE_COLUMNS["suppressed_by"]
        write_table(tested, statistics, columns=columns, about={**about, "Test": tested.attrs["note"]})
    table = found.table()
    if out is not None:
        write_table(table, out, columns=SHARE_COLUMNS, about=about)
    if figure is not None:
        from brainmap.viz.rsa.partition import plot_partition

        save_figure(plot_partition(found, tested), figure)
    if as_json or (out is None and statistics is None and figure is None):
        show(table if tested is None else tested, as_json)
    if not as_json:
        for (roi, name), by in found.suppression().items():
            typer.echo(
                f"note: {roi}: {name!r} stands beside a negative common share ({by}: suppression); the set may "
                "have nothing to do with the data"
            )
    said(*(() if as_json else (out, statistics, figure)))


def _named(given: list[str], option: str) -> tuple[dict[str, RDMs], list[Path]]:
    """RDMs by the names they were given, and their files."""
    from brainmap.checks import one_of
    from brainmap.rsa.rdm.files import load_rdms

    found: dict[str, RDMs] = {}
    files = []
    for one in given:
        name, sign, rest = one.partition("=")
        if not (name and sign and rest):
            raise InputError(f"{option}: found {one!r}, wanted name=FILE.h5")
        if name in found:
            raise InputError(f"{option}: {name!r} is named more than once")
        path, colon, some_of = (rest, "", "") if Path(rest).exists() else rest.rpartition(":")
        file = Path(path if colon or not some_of else rest)
        rdms = load_rdms(file)
        if colon:
            key = next((k for k in ("layer", "name") if k in rdms.rdm_descriptors), None)
            if key is None:
                raise InputError(f"{option}: the RDMs of {file} have no names; take the whole file")
            known = [str(value) for value in rdms.rdm_descriptors[key]]
            wanted = [one_of(value, known, f"{option}: RDM of {file}") for value in names(some_of)]
            rdms = rdms.subset(key, wanted)
        found[name] = rdms
        files.append(file)
    return found, files
