"""The command for the saturation of activation maximization: features saturation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from brainmap import features, types, viz
from brainmap.cli.features.maximize import Steps, make_settings
from brainmap.cli.features.options import Hear, add_listener_options, commands
from brainmap.cli.options import (
    FORMATS,
    Jobs,
    Json,
    Overwrite,
    Seed,
    check_free,
    make_rng,
    print_files,
    print_table,
    save_figure,
)


@commands.command()
@add_listener_options
def saturation(
    hear: Hear,
    figure: Annotated[
        Path, typer.Option("--figure", callback=check_free(*FORMATS), help="Figure to write: .png, .svg or .pdf.")
    ],
    units: Annotated[str, typer.Option(help="Classes: all, numbers from 0, or names, parted by commas.")] = "all",
    preset: Annotated[types.Preset, typer.Option(help="Set of defaults of the ascents.")] = "source",
    steps: Steps = None,
    seed: Seed = 0,
    jobs: Jobs = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Show why logits are maximized: follow the ascent of classes by softmax and by logit, as a figure."""
    settings = make_settings(preset, locals())
    one = hear()
    found = features.softmax_saturation(
        one.model,
        units=one.units("output", units),
        settings=settings,
        sounds=one.sounds,
        class_names=one.classes,
        rng=make_rng(seed),
        device=one.device,
        threads=jobs,
    )
    save_figure(viz.plot_softmax_saturation(found, title=one.name), figure)
    print_table(found.table, as_json)
    if not as_json:
        print_files(figure)
