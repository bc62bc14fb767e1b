"""The command that compares maps with where words are: features localize."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brainmap import features, types, viz
from brainmap.cli.features.faithfulness import Classes, MapLayer
from brainmap.cli.features.options import Hear, Listener, add_listener_options, commands
from brainmap.cli.options import Leave, Seed, add_output_options, check_names, make_rng, split_names
from brainmap.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


log = logging.getLogger("brainmap")
TITLE = "Where each word is (shaded) and where maps place it"


@commands.command()
@add_listener_options
@add_output_options
def localize(
    hear: Hear,
    leave: Leave,
    boundaries: Annotated[
        Path | None, typer.Option(help="Table of where each word lies: a .tsv with stimulus_id, start_s, end_s.")
    ] = None,
    plant: Annotated[
        float | None,
        typer.Option(
            help="Plant each sound at a random time into this many seconds of noise, in place of --boundaries."
        ),
    ] = None,
    background_db: Annotated[float, typer.Option(help="Level of the noise relative to the sound, in dB.")] = -40.0,
    also: Annotated[
        list[Path] | None, typer.Option(help="Further brainmap checkpoints to compare with; repeat the option.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            parser=check_names(types.MapMethod, "--method"),
            metavar="METHOD,...",
            help="Methods parted by commas; default: cam (for networks with a pooled head), grad-cam, saliency.",
        ),
    ] = None,
    classes: Classes = "true",
    layer: MapLayer = None,
    threshold: Annotated[float, typer.Option(help="Threshold of a map, as a share of its maximum.")] = 0.2,
    smooth_ms: Annotated[float, typer.Option(min=0, help="Length of the moving average over maps, in ms.")] = 50.0,
    seed: Seed = 0,
) -> None:
    """Compare where maps of networks place words in time with known boundaries."""
    from brainmap.features.evaluation.localization import COLUMNS, summarize_localization

    if (boundaries is None) == (plant is None):
        raise InputError("localize: give --boundaries FILE, or --plant SECONDS; one of them")
    one = hear()
    sounds, truth = _place_sounds(one.sounds, boundaries, plant, background_db, seed)
    models = {one.name: one.model} | _load_others(one, also or [])
    methods = split_names(method) if method is not None else _choose_methods(models, sounds)
    settings: dict[str, Any] = {"classes": classes, "layer": layer, "threshold": threshold, "smooth_ms": smooth_ms}
    table = features.localize(
        models, sounds, truth, methods=methods, class_names=one.classes, device=one.device, **settings
    )
    about = settings | {"methods": methods, "plant_s": plant, "background_db": background_db}
    read = [*one.inputs, *(also or []), *([boundaries] if boundaries else [])]
    one.say_understanding()
    leave(
        table,
        COLUMNS,
        lambda: viz.plot_localization(sounds, table, title=TITLE),
        parameters=about,
        inputs=read,
        seed=seed,
        shown=summarize_localization(table),
    )


def _choose_methods(models: dict[str, Any], sounds: features.Sounds) -> list[str]:
    """List CAM, Grad-CAM and saliency; CAM is left out, with a note, for networks without a pooled linear head."""
    try:
        for model in models.values():
            features.class_activation_maps(model, sounds.take([0]), method="cam", upsample=False)
    except InputError as error:
        log.info("without cam: %s", error)
        return ["grad-cam", "saliency"]
    return ["cam", "grad-cam", "saliency"]


def _place_sounds(
    sounds: features.Sounds, boundaries: Path | None, plant: float | None, background_db: float, seed: int
) -> tuple[features.Sounds, pd.DataFrame]:
    from brainmap.features.sounds.intervals import plant_sounds
    from brainmap.tables import read_table

    if plant is not None:
        return plant_sounds(sounds, seconds=plant, background_db=background_db, rng=make_rng(seed))
    return sounds, read_table(boundaries or "", "--boundaries")


def _load_others(one: Listener, paths: list[Path]) -> dict[str, Any]:
    """Load further networks, which must have the same classes and inputs."""
    found = {}
    for path in paths:
        about = features.load_checkpoint(path)
        for what in ("classes", "rate", "level", "align"):
            ours, theirs = getattr(one.checkpoint, what), getattr(about, what)
            if ours != theirs:
                raise InputError(
                    f"--also: {path} has {what} {theirs!r}, {one.name} has {ours!r}; compare networks "
                    "that were fed alike and know the same classes"
                )
        if path.stem in found or path.stem == one.name:
            raise InputError(f"--also: two networks are called {path.stem!r}; rename a file, or give --name")
        found[path.stem] = features.load_network(path)
    return found
