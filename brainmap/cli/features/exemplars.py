"""The command for the sounds that drive units most: features exemplars."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from brainmap import features, viz
from brainmap.cli.features.options import Hear, Stage, add_listener_options, commands
from brainmap.cli.options import Leave, Overwrite, add_output_options
from brainmap.errors import InputError


@commands.command()
@add_listener_options
@add_output_options
def exemplars(
    hear: Hear,
    leave: Leave,
    layer: Annotated[
        str, typer.Option(help="Layer of the units: a name, last-conv, or output for the classes.")
    ] = "last-conv",
    units: Annotated[str, typer.Option(help="Units: all, numbers from 0, or class names, parted by commas.")] = "all",
    k: Annotated[int, typer.Option("--k", min=1, help="Number of crops for each unit.")] = 9,
    per_sound: Annotated[int, typer.Option(min=1, help="Largest number of crops from one sound.")] = 1,
    inside: Annotated[
        bool, typer.Option("--inside", help="Take only crops whose receptive field lies within the sound.")
    ] = False,
    own_class: Annotated[
        bool, typer.Option("--own-class", help="For layer output: take only sounds of the class of the unit.")
    ] = False,
    stage: Stage = "after",
    wav: Annotated[Path | None, typer.Option(help="Folder in which crops are saved as WAV.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Find the stretches of sounds that drive units most, with their times, as a table and WAV."""
    from brainmap.features.units.exemplars import EXEMPLAR_COLUMNS

    if wav is not None and wav.exists() and any(wav.iterdir() if wav.is_dir() else [wav]) and not overwrite:
        raise InputError(f"--wav: {wav} exists; say --overwrite or name another folder")
    one = hear()
    found = features.find_exemplars(
        one.model,
        one.sounds,
        layer=layer,
        units=one.units(layer, units),
        k=k,
        per_sound=per_sound,
        inside=inside,
        own_class=own_class,
        class_names=one.classes,
        stage=stage,
        device=one.device,
    )
    parameters = {
        "layer": found.layer,
        "k": k,
        "per_sound": per_sound,
        "inside": inside,
        "own_class": own_class,
        "stage": stage,
        "dead": list(found.dead),
    }
    if wav is not None:
        found.save_wav(wav, seconds=0.5)
    best = found.table[found.table["rank"] == 1].drop(columns=["layer", "rank", "frame"])
    heard = "" if wav is None else f"{wav}: {len(found.crops)} sounds, each repeated to half a second"
    leave(
        found.table,
        EXEMPLAR_COLUMNS,
        lambda: viz.plot_exemplars(found),
        inputs=one.inputs,
        parameters=parameters,
        shown=best,
        rows=found.table,
        words=heard,
    )
