"""The command for acoustic baselines: features acoustics."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer

from brainmap import features, types, viz
from brainmap.cli.features.options import Figure, SoundsAt, Store, commands, store_free
from brainmap.cli.options import (
    FORMATS,
    Json,
    Overwrite,
    check_names,
    print_files,
    refuse_existing,
    save_figure,
    split_names,
)
from brainmap.progress import log


@commands.command()
def acoustics(
    sounds: SoundsAt,
    out: Store,
    models: Annotated[
        str,
        typer.Option(
            parser=check_names(Literal["all", types.AcousticModel], "--models"),
            metavar="MODEL,...",
            help="all, or models parted by commas: waveform-envelope, mel-spectrogram, mfcc, cochleagram, modulation.",
        ),
    ] = "all",
    pooling: Annotated[
        types.AcousticPooling,
        typer.Option(
            help="flatten gives one vector for each sound, mean averages over time, none keeps bands and time."
        ),
    ] = "flatten",
    rate: Annotated[int, typer.Option(min=1000, help="Rate to which sounds are resampled, in Hz.")] = 16_000,
    seconds: Annotated[float, typer.Option(help="Length to which sounds are padded or trimmed, in seconds.")] = 1.0,
    level: Annotated[
        types.Loudness, typer.Option(help="Level to which sounds are scaled: equal rms, equal peak, or none.")
    ] = "rms",
    figure: Figure = None,
    item: Annotated[
        str | None, typer.Option(help="stimulus_id of the sound in the figure; default: the first.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Compute acoustic models of sounds, as baselines for a network, and keep them as .zarr."""
    from brainmap.checks import check_choice
    from brainmap.features.activations.acoustics import NAME

    store_free(out, "activations", None, overwrite)
    refuse_existing(figure, overwrite, option="--figure", kinds=FORMATS)
    heard = features.load_sounds(sounds, rate=rate, seconds=seconds, level=level)
    shown = heard.items[0] if item is None else check_choice(item, heard.items, "--item")
    chosen = "all" if models == "all" else split_names(models)
    for line in heard.report.lines():
        log.warning("note: %s", line)
    found = features.acoustic_features(heard, models=chosen, pooling=pooling, store=out)
    if figure is not None:
        wave = heard.take([heard.items.index(shown)]).waveforms
        save_figure(viz.plot_acoustics(wave, rate=rate, title=shown), figure)
    shapes = {model: list(found[model].shape) for model in found.layers}
    if as_json:
        about = {"store": str(out), "network": NAME, "items": len(found.items), "layers": shapes}
        typer.echo(json.dumps(about, indent=2))
        return
    for model, shape in shapes.items():
        typer.echo(f"{model:<20} {' x '.join(map(str, shape))}")
    typer.echo(f"{out}: {len(shapes)} acoustic models of {len(found.items)} sounds")
    print_files(figure)
