"""Define the command that chooses sounds for the next experiment: rsa choose."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from brainmap import rsa, types
from brainmap.checks import check_choice, refuse_some
from brainmap.cli.options import (
    Json,
    Overwrite,
    Seed,
    Table,
    build_provenance,
    convert_records,
    make_rng,
    print_files,
    print_table,
    write_tables,
)
from brainmap.cli.rsa.options import Layers, commands, load_stacked_rdms
from brainmap.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


@commands.command()
def choose(
    models: Layers,
    a: Annotated[str, typer.Option("--a", help="Layer to tell from --b.")],
    b: Annotated[str, typer.Option("--b", help="Layer to tell from --a.")],
    n: Annotated[int, typer.Option("--n", help="Number of sounds to choose.")] = 32,
    balance: Annotated[
        types.Balance, typer.Option(help="Whether every condition has the same number of chosen sounds.")
    ] = "condition",
    stimuli: Annotated[
        Path | None, typer.Option(help="stimuli.tsv of the candidates, whose columns the table of --out keeps.")
    ] = None,
    starts: Annotated[int, typer.Option(min=1, help="Searches from different random sounds; the best is kept.")] = 10,
    seed: Seed = 0,
    out: Table = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Choose the sounds that tell two layers apart with the fewest participants, for `rsa power --items`."""

    if out is not None and stimuli is not None and out.resolve() == stimuli.resolve():
        raise InputError(f"--out: expected another file than --stimuli, got {out} for both; name another file")
    found = rsa.choose_items(
        load_stacked_rdms(models), a=a, b=b, n=n, balance=balance, n_starts=starts, rng=make_rng(seed)
    )
    table = _list_stimuli(found, stimuli, Path() if out is None else out.parent)
    settings = {"a": a, "b": b, "n": n, "balance": balance, "starts": starts, "candidates": found.n_candidates}
    if out is not None:
        about = build_provenance(settings, [*models, *([stimuli] if stimuli else [])], seed=seed)
        more = {"Choices": convert_records(found.table), "Starts": found.starts.tolist(), "Use": found.describe()}
        write_tables((out, table, _describe_columns(table, stimuli), about | more))
    if as_json:
        said = {**settings, "items": list(found.items), "starts_d": found.starts.tolist()}
        typer.echo(json.dumps({**said, "choices": convert_records(found.table)}, indent=2))
        return
    if out is None:
        print_table(table, False)
    print_table(found.table, False)
    typer.echo(found.describe())
    print_files(out)


def _list_stimuli(found: rsa.ChosenItems, stimuli: Path | None, folder: Path) -> pd.DataFrame:
    """List the chosen stimuli, with the columns of the table of candidates and paths that hold from a folder."""
    import pandas as pd

    from brainmap.tables import read_table

    label = "condition" if found.items == found.conditions else "stimulus_id"
    if stimuli is None:
        columns = {label: found.items} | ({"condition": found.conditions} if found.conditions else {})
        return pd.DataFrame({name: list(values) for name, values in columns.items()})
    rows = read_table(stimuli, "stimuli")
    check_choice(label, [str(name) for name in rows.columns], f"column of {stimuli}")
    refuse_some(
        sorted(set(found.items) - set(rows[label])),
        f"{stimuli}: expected a row for each chosen item, got none for ",
        "; give the table from which the RDMs were made",
    )
    rows = rows[rows[label].isin(found.items)].reset_index(drop=True)
    if "path" in rows.columns:
        rows["path"] = [_move_path(path, stimuli.parent, folder) for path in rows["path"]]
    return rows


def _move_path(path: str, old: Path, new: Path) -> str:
    """Write a path that is relative to one folder as relative to another one.

    Examples
    --------
    >>> _move_path("a.wav", Path("words"), Path("words/chosen")), _move_path("/b.wav", Path("x"), Path("y"))
    ('../a.wav', '/b.wav')
    """
    return path if not path or Path(path).is_absolute() else Path(os.path.relpath(old / path, new)).as_posix()


def _describe_columns(table: pd.DataFrame, stimuli: Path | None) -> dict[str, str]:
    known = {
        "stimulus_id": "label of the chosen sound",
        "condition": "condition of the sound",
        "path": "path of the sound, relative to the folder of this table",
    }
    return {str(name): known.get(str(name), f"as in {stimuli}") for name in table.columns}
