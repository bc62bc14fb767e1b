"""The command that makes one self-describing file of a network: features convert."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from brainmap import features, types
from brainmap.cli.features.options import Describe, add_network_options, commands, format_feeding
from brainmap.cli.options import Overwrite, check_free
from brainmap.errors import InputError


@commands.command()
@add_network_options
def convert(
    describe: Describe,
    out: Annotated[
        Path, typer.Option("--out", callback=check_free(".safetensors"), help="File to write (.safetensors).")
    ],
    align: Annotated[types.Align | None, typer.Option(help="Place of sounds that are shorter than the input.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write weights and all that later commands need to know of a network into one file.

    The file names the network's builder (of the zoo, or module:function), its input, rate, seconds, level and class
    names, so that no later command repeats these options.
    """
    from brainmap.features.networks.feeding import count_outputs

    one = describe(report=True)
    model, checkpoint = one.model, one.checkpoint
    if not checkpoint.architecture:
        raise InputError(
            "--checkpoint: expected weights, got a program (.pt2, .keras or .h5), which is used as it is; give its "
            "rate and class names with each command, or once in a study file"
        )
    outputs = count_outputs(model, checkpoint)
    if checkpoint.classes and outputs != len(checkpoint.classes):
        raise InputError(f"--class-names: expected {outputs} names, one an output, got {len(checkpoint.classes)}")
    features.save_checkpoint(model, out, checkpoint if align is None else replace(checkpoint, align=align))
    typer.echo(format_feeding(checkpoint))
    typer.echo(f"Wrote {out}")
