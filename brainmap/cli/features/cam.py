"""The command for class activation maps: features cam."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from brainmap import types
from brainmap.checks import list_some
from brainmap.cli.features.options import Figure, Hear, Store, add_listener_options, commands, note_origin, store_free
from brainmap.cli.options import FORMATS, Json, Overwrite, print_files, refuse_existing, save_figure
from brainmap.errors import InputError
from brainmap.progress import log

Method = Annotated[types.CamMethod, typer.Option(help="Method of class activation mapping.")]
MapLayer = Annotated[
    str, typer.Option(help="Layer of the maps: a convolution, last-conv, or a relative depth (depth:0.5).")
]


@commands.command()
@add_listener_options
def cam(
    hear: Hear,
    out: Store,
    method: Method = "grad-cam",
    layer: MapLayer = "last-conv",
    figure: Figure = None,
    view: Annotated[
        types.CamView,
        typer.Option(help="What the figure shows: maps of sounds, or the mean attention of every class to every word."),
    ] = "sounds",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Map where in each sound the evidence for each class lies (class activation maps), as .zarr."""
    from brainmap.features.attention.words import keep_known_words
    from brainmap.features.attribution.cam import class_activation_maps, map_layer
    from brainmap.features.representations.files import save_cams
    from brainmap.features.sounds.inputs import describe_input

    refuse_existing(figure, overwrite, option="--figure", kinds=FORMATS)
    one = hear()
    target = map_layer(one.model, one.sounds, layer).name
    store_free(out, "cam", target, overwrite)
    cams = class_activation_maps(
        one.model,
        one.sounds,
        method=method,
        layer=target,
        class_names=one.classes,
        device=one.device,
        upsample=None,
    )
    axes = describe_input(one.sounds)
    save_cams(cams, out, rate=one.checkpoint.rate, align=one.checkpoint.align, network=one.name, axes=axes)
    note_origin(out, "cam", one, cams.layer)
    heard = [cams.class_names[k] for k in cams.logits.argmax(axis=1)]
    calls = one.understanding(cams.logits)
    if figure is not None:
        from brainmap.viz.features.attention import plot_target_attention
        from brainmap.viz.features.sounds import plot_cam

        title = f"{one.name}: {cams.method} at {cams.layer}"
        draw = plot_cam if view == "sounds" else plot_target_attention
        sounds, drawn, strange = keep_known_words(one.sounds, cams)
        if sounds is None:
            raise InputError(
                f"--figure: no condition of the sounds ({list_some(strange, 4)}) is a class of the network "
                f"({list_some(cams.class_names, 4)}); the maps are in {out}; say --class-names in the order of its "
                "outputs"
            )
        if strange:
            log.warning("note: the figure leaves out sounds whose condition is no class: %s", list_some(strange, 8))
        save_figure(draw(sounds, drawn, title=title), figure)
    if as_json:
        about = {
            "store": str(out),
            "network": one.name,
            "method": cams.method,
            "layer": cams.layer,
            "classes": list(cams.class_names),
            "items": dict(zip(cams.items, heard, strict=True)),
            "calls": calls,
        }
        typer.echo(json.dumps(about, indent=2))
        return
    for item, condition, word in zip(cams.items, cams.conditions, heard, strict=True):
        if word != condition:
            typer.echo(f"{item:<24} heard as {word}")
    if calls is not None:
        typer.echo(calls)
    typer.echo(f"{out}: {cams.method} of {len(cams.items)} sounds x {len(cams.class_names)} classes at {cams.layer}")
    print_files(figure)
