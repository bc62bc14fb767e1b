"""The command for acoustic baselines: features acoustics."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from brainmap import features, types, viz
from brainmap.cli.features.options import SoundsAt, Store, commands, print_layers, store_free
from brainmap.cli.options import Json, Overwrite, Picture, check_names, draw_figure, split_names
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
    figure: Picture = None,
    item: Annotated[
        str | None, typer.Option(help="stimulus_id of the sound in the figure; default: the first.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Compute acoustic models of sounds, as baselines for a network, and keep them as .zarr."""
    from brainmap.checks import check_choice

    store_free(out, "activations", None, overwrite)
    heard = features.load_sounds(sounds, rate=rate, seconds=seconds, level=level)
    shown = heard.items[0] if item is None else check_choice(item, heard.items, "--item")
    chosen = "all" if models == "all" else split_names(models)
    for line in heard.report.lines():
        log.warning("note: %s", line)
    found = features.acoustic_features(heard, models=chosen, pooling=pooling, store=out)
    wave = heard.take([heard.items.index(shown)])
    draw_figure(lambda: viz.plot_acoustics(wave.waveforms, rate=rate, title=shown), figure)
    said = f"{len(found.layers)} acoustic models of {len(found.items)} sounds"
    print_layers(found, out, said, figure, as_json, width=20)
