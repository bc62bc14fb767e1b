"""The command for filters of the first layer: features filters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from brainmap import features, viz
from brainmap.cli.features.options import Hear, add_listener_options, commands
from brainmap.cli.options import Leave, add_output_options


@commands.command()
@add_listener_options
@add_output_options
def filters(
    hear: Hear,
    leave: Leave,
    layer: Annotated[str, typer.Option(help="first, or a layer before which nothing is nonlinear.")] = "first",
) -> None:
    """Compute the frequency response, best frequency and bandwidth of each filter of the first layer."""
    from brainmap.features.units.filters import FILTER_COLUMNS
    from brainmap.features.units.picture_filters import PICTURE_FILTER_COLUMNS

    one = hear()
    on_waveforms = len(one.checkpoint.input_shape()) == 2
    columns = FILTER_COLUMNS if on_waveforms else PICTURE_FILTER_COLUMNS
    find: Callable[..., Any] = features.layer_filters if on_waveforms else features.picture_filters
    found = find(one.model, one.sounds, layer=layer, device=one.device)
    table = found.table.iloc[found.order][list(columns)]
    about = {"rate": found.rate, "stride": found.stride} if on_waveforms else {"frame_rate": found.frame_rate}
    leave(
        table,
        columns,
        lambda: viz.plot_filters(found),
        inputs=one.inputs,
        parameters={"layer": found.layer, **about},
        shown=table.drop(columns=["layer", "offset"]),
        rows=table,
    )
