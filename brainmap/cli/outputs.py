"""What commands share that leave a table and a figure: the options that name both, and how they are written."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brainmap.cli.options import (
    FORMATS,
    Json,
    Overwrite,
    Several,
    build_provenance,
    join_options,
    print_table,
    refuse_existing,
    save_figure,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Table = Annotated[Path | None, typer.Option("--out", help="Table to write: .tsv, with a .json beside it.")]
Picture = Annotated[Path | None, typer.Option("--figure", help="Figure to write: .png, .svg or .pdf.")]


@dataclass(frozen=True)
class Leave:
    """Write the result of a command to a table, a figure or the terminal."""

    out: Path | None
    figure: Path | None
    as_json: bool

    def __call__(
        self,
        table: pd.DataFrame,
        columns: Mapping[str, str],
        draw: Callable[[], Figure],
        *,
        inputs: Iterable[str | Path | Several],
        parameters: Mapping[str, Any],
        seed: int = 0,
        about: Mapping[str, Any] | None = None,
        shown: pd.DataFrame | None = None,
        rows: pd.DataFrame | None = None,
        read: Mapping[str, Any] | None = None,
        words: str = "",
    ) -> None:
        """Draw the figure, write the table with its sidecar and the figure, and show the outcome.

        Parameters
        ----------
        table, columns : DataFrame, mapping of str to str
            What `--out` gets, and what its columns are.
        draw : callable
            The figure; called where `--figure` asks for one, before anything is written: a mistake leaves nothing.
        inputs, parameters, seed, about
            What the sidecar says; `about` beside the provenance.
        shown, rows : DataFrame, optional
            What people see (the table), and what `--json` prints (what people see).
        read : mapping, optional
            What `--json` says beside these rows; they are then its `table`.
        words : str
            A line under the table, for people.
        """
        from brainmap.record import write_table

        drawn = draw() if self.figure is not None else None
        if self.out is not None:
            said = build_provenance(parameters, inputs, seed=seed) | dict(about or {})
            write_table(table, self.out, columns=columns, about=said)
        if self.figure is not None and drawn is not None:
            save_figure(drawn, self.figure)
        shown = table if shown is None else shown
        if self.as_json:
            rows = shown if rows is None else rows
            if read:
                typer.echo(json.dumps({**read, "table": convert_records(rows)}, indent=2))
            else:
                print_table(rows, True)
            return
        print_table(shown, False)
        for line in filter(None, [words, *(f"Wrote {path}" for path in (self.out, self.figure) if path is not None)]):
            typer.echo(line)


def convert_records(table: pd.DataFrame) -> Any:
    """Convert rows for JSON, with NaN as null."""
    return json.loads(table.to_json(orient="records"))


def _declare_outputs(
    out: Table = None, figure: Picture = None, overwrite: Overwrite = False, as_json: Json = False
) -> None:
    """Define the wording and defaults of the shared options in one place."""


def add_output_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command with a parameter `leave` the options `--out`, `--figure`, `--overwrite` and `--json`.

    Outputs that could not be left are refused before the command runs; a command that has more of them takes
    `overwrite` too.
    """
    common = inspect.signature(_declare_outputs, eval_str=True).parameters
    more = "overwrite" in inspect.signature(command).parameters

    @functools.wraps(command)
    def wrapper(*args: Any, **given: Any) -> None:
        out, figure, overwrite, as_json = (given.pop(name) for name in common)
        refuse_existing(out, overwrite, kinds=(".tsv",))
        refuse_existing(figure, overwrite, option="--figure", kinds=FORMATS)
        command(*args, leave=Leave(out, figure, as_json), **({"overwrite": overwrite} if more else {}), **given)

    return join_options(wrapper, command, common, leaves_out="leave")
