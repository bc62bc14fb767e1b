"""Define the command that makes RDMs of hypotheses: rsa model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from brainmap import rsa
from brainmap.cli.options import Items, Overwrite, check_free
from brainmap.cli.rsa.options import commands, count_noun, write_rdms
from brainmap.errors import InputError
from brainmap.types import RDMs


@commands.command()
def model(
    out: Annotated[Path, typer.Option("--out", callback=check_free(".h5", ".hdf5"), help="RDMs as HDF5, .h5.")],
    stimuli: Annotated[
        Path | None, typer.Option(help="TSV with stimulus_id and condition, for --category and --phonetic.")
    ] = None,
    category: Annotated[
        list[str] | None, typer.Option(help="Column of --stimuli: 0 within a category, 1 between. Repeatable.")
    ] = None,
    phonetic: Annotated[
        bool, typer.Option("--phonetic", help="Use articulatory features of the words in condition.")
    ] = False,
    table: Annotated[
        list[Path] | None, typer.Option(help="TSV of features, or of dissimilarities (square or long). Repeatable.")
    ] = None,
    items: Items = "stimulus",
    overwrite: Overwrite = False,
) -> None:
    """Make RDMs of hypotheses: categories, the pronunciation of words, your own tables."""
    from brainmap.checks import check_each
    from brainmap.rsa.rdm.alignment import LABEL_OF, LEVELS
    from brainmap.tables import read_table

    label = LABEL_OF[items]
    if not (category or phonetic or table):
        raise InputError("rsa model: expected a hypothesis, got none; give --category, --phonetic or --table")
    found: list[RDMs] = []
    if category or phonetic:
        if stimuli is None:
            raise InputError(
                "rsa model: expected --stimuli beside --category and --phonetic, got none; give the table of sounds"
            )
        rows = read_table(stimuli, "stimuli")
        needed = (label, *(["condition"] if phonetic else []), *(category or []))
        check_each(needed, [str(name) for name in rows.columns], f"column of {stimuli}")
        for column in category or []:
            found.append(rsa.category_rdm(rows[label].tolist(), rows[column].tolist(), level=items, name=column))
        if phonetic:
            words = rows["condition"].tolist()
            found.append(rsa.phonetic_rdm(words, items=rows[label].tolist() if items == "stimulus" else None))
    found += [rsa.read_model_rdms(path) for path in table or []]
    for one in found:
        one.dissimilarity_measure = "of each model"
    rdms = rsa.stack_rdms(found)
    inputs = [*([stimuli] if stimuli else []), *(table or [])]
    named = [str(name) for name in rdms.rdm_descriptors["name"]]
    write_rdms(rdms, out, {"items": items, "models": named}, inputs)
    typer.echo(f"{out}: {count_noun(rdms.n_rdm, 'RDM')} ({', '.join(named)}) of {rdms.n_cond} {LEVELS[items]}")
