"""The command for the randomization test of maps: features randomization."""

from __future__ import annotations

from typing import Annotated

import typer

from brainmap import features, viz
from brainmap.cli.features.faithfulness import Classes, MapLayer, Methods, find_targets
from brainmap.cli.features.options import Hear, add_listener_options, commands
from brainmap.cli.options import Leave, Seed, add_output_options, make_rng, split_names


@commands.command()
@add_listener_options
@add_output_options
def randomization(
    hear: Hear,
    leave: Leave,
    method: Methods = "layer-cam,saliency",
    classes: Classes = "predicted",
    layer: MapLayer = None,
    absolute: Annotated[bool, typer.Option("--absolute", help="Compare absolute values of maps.")] = False,
    seed: Seed = 0,
) -> None:
    """Compare maps with those of networks whose layers, from the top down, are drawn anew (a sanity check)."""
    from brainmap.features.evaluation.randomization import COLUMNS, stack_results

    methods = split_names(method)
    one = hear()
    targets = find_targets(one, classes)
    found = [
        features.cascading_randomization(
            one.model,
            one.sounds,
            method=name,
            targets=targets,
            absolute=absolute,
            layer=layer,
            rng=make_rng(seed),
            device=one.device,
        )
        for name in methods
    ]
    columns = {"method": "method of the map"} | COLUMNS
    table = stack_results(found)[list(columns)]
    one.say_understanding()
    leave(
        table,
        columns,
        lambda: viz.plot_randomization(found),
        inputs=one.inputs,
        parameters={"classes": classes, "absolute": absolute},
        seed=seed,
    )
