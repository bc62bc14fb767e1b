"""The command for filters of the first layer: features filters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from brainmap.cli.features.options import Hear, commands, listening
from brainmap.cli.outputs import Leave, leaving

if TYPE_CHECKING:
    pass


@commands.command()
@listening
@leaving
def filters(
    hear: Hear,
    leave: Leave,
    layer: Annotated[str, typer.Option(help="first, or a layer before which nothing is nonlinear.")] = "first",
) -> None:
    """Compute the frequency response, best frequency and bandwidth of each filter of the first layer."""
    from brainmap.features.units.filters import FILTER_COLUMNS, layer_filters
    from brainmap.viz.features.units import plot_filters

    one = hear()
    found = layer_filters(one.model, one.sounds, layer=layer, device=one.device)
    table = found.table.iloc[found.order][list(FILTER_COLUMNS)]
    leave(
        table,
        FILTER_COLUMNS,
        lambda: plot_filters(found),
        inputs=[one.path],
        parameters={"layer": found.layer, "rate": found.rate, "stride": found.stride},
        shown=table.drop(columns=["layer", "offset"]),
        rows=table,
    )
