"""The command for nearest sounds: features neighbors."""

from __future__ import annotations

from typing import Annotated

import typer

from brainmap import features, types, viz
from brainmap.cli.features.options import Hear, Layers, add_listener_options, commands, extract_all
from brainmap.cli.options import Leave, add_output_options


@commands.command()
@add_listener_options
@add_output_options
def neighbors(
    hear: Hear,
    leave: Leave,
    layers: Layers = "all",
    k: Annotated[int, typer.Option("--k", min=1, help="Number of neighbors of each sound.")] = 5,
    metric: Annotated[types.SoundMetric, typer.Option(help="Distance between two sounds.")] = "correlation",
) -> None:
    """Find the nearest sounds of each sound in layers (averaged over time) and as waveforms, and count shared words."""
    from brainmap.features.units.nearest_sounds import NEIGHBOR_COLUMNS

    one = hear()
    found = features.nearest_neighbors(extract_all(one, layers), one.sounds, k=k, metric=metric)
    overall = found.precision[found.precision["condition"] == "all"].drop(columns="condition")
    leave(
        found.table,
        NEIGHBOR_COLUMNS,
        lambda: viz.plot_neighbors(found, one.sounds),
        inputs=one.inputs,
        parameters={"k": k, "metric": metric, "layers": layers},
        shown=overall,
        rows=found.precision,
    )
