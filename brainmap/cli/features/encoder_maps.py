"""The command that maps where in sounds an encoding model reads: features encoder-maps."""

from __future__ import annotations

from typing import Annotated

import typer

from brainmap import features, viz
from brainmap.cli.features.options import Hear, ItemsOption, add_listener_options, choose_items, commands
from brainmap.cli.options import Leave, add_output_options, split_names
from brainmap.errors import InputError


@commands.command(name="encoder-maps")
@add_listener_options
@add_output_options
def encoder_maps(
    hear: Hear,
    leave: Leave,
    regions: Annotated[
        str | None, typer.Option(help="Regions of the encoding model parted by commas; default: all.")
    ] = None,
    items: ItemsOption = None,
) -> None:
    """Map where in each sound an encoding model reads (rsa encode --encoder), beside the course of its energy."""
    from brainmap.features.attention.encoders import COLUMNS, tabulate_maps

    one = hear()
    if one.checkpoint.readout is None:
        raise InputError(
            f"--checkpoint: {one.path} holds no encoding model; write one with brainmap rsa encode --encoder"
        )
    asked = split_names(regions) if regions is not None else None
    shown = choose_items(one.sounds, items, 4)
    found = features.map_encoder(one.model, one.sounds, regions=asked, device=one.device)
    leave(
        tabulate_maps(found),
        COLUMNS,
        lambda: viz.plot_encoder_maps(one.sounds, found, items=shown, title=f"{one.name}: where {found.layer} is read"),
        inputs=one.inputs,
        parameters={"layer": found.layer, "regions": list(found.regions)},
        shown=found.follow_energy(),
        words=f"{len(found.items)} sounds x {len(found.regions)} regions, {len(found.seconds)} frames of {found.layer}",
    )
