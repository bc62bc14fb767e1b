"""The command that compares maximizing patterns of networks: features compare-patterns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from brainmap import features, viz
from brainmap.cli.features.options import commands
from brainmap.cli.options import (
    Json,
    Overwrite,
    Picture,
    build_provenance,
    check_free,
    draw_figure,
    print_table,
    split_names,
    write_tables,
)
from brainmap.errors import InputError


@commands.command("compare-patterns")
def compare(
    stores: Annotated[list[Path], typer.Argument(help="Two or more stores that `brainmap features maximize` writes.")],
    layer: Annotated[str, typer.Option(help="Layer whose units are the same in all networks.")] = "output",
    called: Annotated[
        str | None,
        typer.Option("--names", help="Names of the networks, one for each store; default: those in the stores."),
    ] = None,
    table: Annotated[
        Path | None, typer.Option(callback=check_free(".tsv"), help="Table of the noise of every pattern: .tsv.")
    ] = None,
    figure: Picture = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Compare patterns of the same classes in several networks: similarity of spectra, and noise of each."""
    from brainmap.checks import check_choice
    from brainmap.features.representations.files import open_maximizations

    networks = split_names(called) if called else _name_networks(stores)
    if len(networks) != len(stores) or len(set(networks)) != len(networks):
        raise InputError(f"--names: {', '.join(networks)} for {len(stores)} stores; give each a name of its own")
    held = {name: open_maximizations(path) for name, path in zip(networks, stores, strict=True)}
    found = features.compare_patterns(
        {name: one[check_choice(layer, list(one), "--layer")] for name, one in held.items()}
    )
    if table is not None:
        columns = {str(c): str(c).replace("_", " ") for c in found.table.columns}
        write_tables((table, found.table, columns, build_provenance({"layer": layer}, stores)))
    draw_figure(lambda: viz.plot_pattern_comparison(found), figure)
    if as_json:
        parts = {"pairs": found.pairs, "patterns": found.table}
        typer.echo(json.dumps({k: json.loads(v.to_json(orient="records")) for k, v in parts.items()}, indent=2))
        return
    print_table(found.table.groupby("network", sort=False).mean(numeric_only=True).reset_index(), False)
    typer.echo()
    print_table(found.pairs, False)


def _name_networks(stores: list[Path]) -> list[str]:
    """Name the networks whose patterns stores hold; stores of the same network get their own names."""
    from brainmap.features.representations.files import get_stored_network

    known = [get_stored_network(path, "am") or path.stem for path in stores]
    return known if len(set(known)) == len(known) else [path.stem for path in stores]
