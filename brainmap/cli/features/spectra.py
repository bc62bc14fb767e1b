"""The command for spectra of what units prefer: features spectra."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from brainmap import features, viz
from brainmap.cli.features.options import commands
from brainmap.cli.options import Leave, add_output_options


@commands.command()
@add_output_options
def spectra(
    store: Annotated[
        Path, typer.Argument(metavar="STORE.zarr", help="Store that `brainmap features maximize` writes.")
    ],
    leave: Leave,
    layer: Annotated[str, typer.Option(help="Layer whose maximizing patterns are read.")] = "output",
) -> None:
    """Compute spectra of maximizing patterns, sorted by their peak frequency."""
    from brainmap.checks import check_choice
    from brainmap.features.representations.files import open_maximizations
    from brainmap.features.units.filters import FILTER_COLUMNS

    kept = open_maximizations(store)
    found = features.pattern_spectra(kept[check_choice(layer, list(kept), "--layer")])
    table = found.table.iloc[found.order]
    columns = {
        **FILTER_COLUMNS,
        "label": "class, or layer and unit",
        "best_hz": "frequency of the largest power [Hz]",
        "peak": "that power, smoothed over a sixth of an octave",
        "low_hz": "lower edge of the band, where the power is half [Hz]",
        "bands": "how many separate bands reach half of the largest power",
    }
    title = f"Spectra of what maximizes {layer}, by their peaks (dots)"
    leave(
        table,
        columns,
        lambda: viz.plot_spectra(found, title=title),
        inputs=[store],
        parameters={"store": str(store), "layer": layer},
    )
