"""The command that trains a generative prior: features train-decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from brainmap import features
from brainmap.cli.features.options import commands
from brainmap.cli.options import Overwrite, Seed, check_free


@commands.command("train-decoder")
def train_decoder(
    data: Annotated[
        Path, typer.Argument(help="Sounds: a folder with one folder for each class or word, or a stimuli.tsv.")
    ],
    out: Annotated[
        Path, typer.Option("--out", callback=check_free(".safetensors"), help="Decoder to write (.safetensors).")
    ],
    rate: Annotated[int, typer.Option(help="Rate of the sounds, in Hz: that of the network.")] = 16_000,
    seconds: Annotated[float, typer.Option(help="Length of the sounds, in s: that of the network.")] = 1.0,
    steps: Annotated[int, typer.Option(min=1, help="Steps of training.")] = 3000,
    batch_size: Annotated[int, typer.Option(min=2, help="Sounds in each step.")] = 16,
    note: Annotated[
        str, typer.Option(help="Words about the sounds that stand in the file: their origin and licence.")
    ] = "",
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Train a decoder of sounds, the prior of maximizing patterns. The same command continues a stopped training."""
    from brainmap.features.maximization.decoder_training import split_sounds

    settings = features.DecoderTraining(steps=steps, batch_size=batch_size, seed=seed)
    training, held_out = split_sounds(data, rate=rate, seconds=seconds, seed=seed)
    decoder = features.train_decoder(training, held_out, out, settings=settings, note=note, overwrite=overwrite)
    about = decoder.about.training or {}
    typer.echo(f"{out}: trained on {about['n_training']} sounds; on {about['n_held_out']} others: {about['held_out']}")
