"""The command for class activation maps: features cam."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from brainmap import features, types, viz
from brainmap.checks import list_some
from brainmap.cli.features.options import (
    Hear,
    ItemsOption,
    Listener,
    Store,
    TargetsOption,
    add_listener_options,
    choose_items,
    commands,
    find_listener_targets,
    note_origin,
    store_free,
)
from brainmap.cli.options import Json, Overwrite, Picture, print_files, save_figure
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
    figure: Picture = None,
    view: Annotated[
        types.CamView | None,
        typer.Option(
            help="What the figure shows: maps of the sounds' own classes (sounds), the mean attention of every "
            "class to every word, or the top five or all classes of each sound; default: sounds, and top where "
            "no condition is a class."
        ),
    ] = None,
    target: TargetsOption = None,
    items: ItemsOption = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Map where in each sound the evidence for each class, unit or region lies (class activation maps), as .zarr."""
    from brainmap.features.attribution.cam import map_layer
    from brainmap.features.networks.targets import is_readout
    from brainmap.features.representations.files import save_cams
    from brainmap.features.sounds.inputs import describe_input

    if (view or items) and figure is None:
        raise InputError("--view, --items: describe a figure; name it with --figure")
    one = hear()
    model, names = one.model, one.classes
    classes: str | list[str] = "all"
    if target is not None:
        found = find_listener_targets(one, target)
        model, names, classes = found.model, found.class_names, list(found.chosen)
        layer = found.name_layer(layer)
    view = _choose_view(view, one, named=target is None) if figure is not None else None
    shown = choose_items(one.sounds, items, 3) if view in ("top", "all") else []
    mapped = map_layer(model, one.sounds, layer).name
    store_free(out, "cam", mapped, overwrite)
    cams = features.class_activation_maps(
        model,
        one.sounds,
        method=method,
        layer=mapped,
        classes=classes,
        class_names=names,
        device=one.device,
        upsample=None,
    )
    axes = describe_input(one.sounds)
    save_cams(cams, out, rate=one.checkpoint.rate, align=one.checkpoint.align, network=one.name, axes=axes)
    note_origin(out, "cam", one, cams.layer)
    heard = [cams.class_names[k] for k in cams.logits.argmax(axis=1)]
    calls = one.understanding(cams.logits) if target is None else None
    if figure is not None:
        scores: types.ScoreKind = "value" if target is not None or is_readout(model) else "probability"
        _draw_cams(one, cams, figure, view=view, shown=shown, scores=scores)
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
        if word != condition and target is None:
            typer.echo(f"{item:<24} heard as {word}")
    if calls is not None:
        typer.echo(calls)
    typer.echo(f"{out}: {cams.method} of {len(cams.items)} sounds x {len(cams.class_names)} classes at {cams.layer}")
    print_files(figure)


def _choose_view(view: types.CamView | None, one: Listener, *, named: bool) -> types.CamView:
    """Choose what the figure shows; labels that it needs are looked for before anything is computed.

    Raises
    ------
    InputError
        The figure needs conditions that are classes, and there is none.
    """
    known = set(one.classes or ()) if named else set()
    there = list(dict.fromkeys(one.sounds.conditions))
    if view is None:
        return "sounds" if any(condition in known for condition in there) else "top"
    if view in ("sounds", "attention") and not any(condition in known for condition in there):
        names = list_some(sorted(known), 4) or "whose names are not known"
        raise InputError(
            f"--view {view}: no condition of the sounds ({list_some(there, 4)}) is a class of the network ({names}); "
            "say --view top, or --class-names in the order of its outputs"
        )
    return view


def _draw_cams(
    one: Listener,
    cams: features.ClassActivationMaps,
    out: Path,
    *,
    view: types.CamView | None,
    shown: list[int],
    scores: types.ScoreKind,
) -> None:
    from brainmap.features.attention.words import keep_known_words

    title = f"{one.name}: {cams.method} at {cams.layer.removeprefix('network.')}"
    if view in ("top", "all"):
        most = 5 if view == "top" else None
        save_figure(viz.plot_class_maps(one.sounds, cams, items=shown, most=most, scores=scores, title=title), out)
        return
    sounds, drawn, strange = keep_known_words(one.sounds, cams)
    if strange:
        log.warning("note: the figure leaves out sounds whose condition is no class: %s", list_some(strange, 8))
    draw = viz.plot_cam if view == "sounds" else viz.plot_target_attention
    save_figure(draw(sounds, drawn, title=title), out)
