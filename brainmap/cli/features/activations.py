"""Commands for what a network hears: features activations; the other commands of the group have files of their own."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from brainmap import types
from brainmap.cli.features.options import Figure, Hear, Listener, Store, commands, listening, store_free
from brainmap.cli.options import FORMATS, Json, Overwrite, Seed, free, names, said, save_figure
from brainmap.errors import InputError
from brainmap.progress import log


@commands.command()
@listening
def activations(
    hear: Hear,
    out: Store,
    layers: Annotated[
        str, typer.Option(help="all, last-conv, names, 'conv*', conv, Conv1d, 1:4, depth:0.5; parted by commas.")
    ] = "all",
    pooling: Annotated[types.Pooling, typer.Option(help="How time is pooled; units stay.")] = "mean",
    window: Annotated[
        float | None,
        typer.Option(help="Cut long sounds into windows of so many s, items with onsets, and stream them."),
    ] = None,
    hop: Annotated[float | None, typer.Option(help="From one window to the next, in s; default: a window.")] = None,
    last: Annotated[
        types.LastWindow, typer.Option(help="A window that reaches behind the end is left out, or padded with zeros.")
    ] = "drop",
    units_axis: Annotated[
        int | None, typer.Option(help="Of layers whose units lie where cannot be told: -1 is the last axis.")
    ] = None,
    stage: Annotated[types.Stage, typer.Option(help="Side of the nonlinearity that is read.")] = "after",
    reduce: Annotated[types.Reduce, typer.Option(help="Fewer dimensions by a method.")] = "none",
    dimensions: Annotated[int | None, typer.Option(help="Default: 50 of pca, else by --tolerance.")] = None,
    tolerance: Annotated[float, typer.Option(help="Of a projection: error of squared distances.")] = 0.1,
    control: Annotated[types.ControlOrNone, typer.Option(help="A control in place of the network.")] = "none",
    seed: Seed = 0,
    dtype: Annotated[types.DType, typer.Option(help="Numbers on disk.")] = "float32",
    batch_size: Annotated[int | None, typer.Option(min=1, help="Default: 32, and 8 for windows.")] = None,
    figure: Figure = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Activations of every layer for a set of sounds, as .zarr; a run that was killed goes on."""
    from brainmap.features.activations.extract import extract_activations
    from brainmap.features.activations.windowed import windows_asked
    from brainmap.features.sounds.windows import Windows

    reduction = _reduction(reduce, dimensions=dimensions, tolerance=tolerance, seed=seed)
    store_free(out, "activations", None, overwrite)
    free(figure, overwrite, option="--figure", kinds=FORMATS)
    one = hear(report=window is None)
    sounds = windows_asked(one.sounds, window=window, hop=hop, last=last, rate=None)
    if isinstance(sounds, Windows):
        for line in sounds.report.lines():
            log.warning("note: %s", line)
    model, name = _controlled(one, control, seed, sounds)
    found = extract_activations(
        model,
        sounds,
        layers=names(layers),
        pooling=pooling,
        stage=stage,
        store=out,
        reduce=reduction,
        dtype=dtype,
        batch_size=batch_size,
        device=one.device,
        network=name,
        units_axis=units_axis,
    )
    if figure is not None:
        from brainmap.viz.features.activations import plot_activations

        save_figure(plot_activations(found), figure)
    shapes = {layer: list(found[layer].shape) for layer in found.layers}
    if as_json:
        about = {"store": str(out), "network": name, "items": len(found.items), "layers": shapes}
        typer.echo(json.dumps(about, indent=2))
        return
    for layer, shape in shapes.items():
        before = f"  of {found.reductions[layer]['units']} units" if layer in found.reductions else ""
        typer.echo(f"{layer:<12} {' x '.join(map(str, shape))}{before}")
    typer.echo(
        f"{out}: activations of {len(found.items)} {'sounds' if window is None else 'windows'} in {len(shapes)} layers"
    )
    said(figure)


def _reduction(kind: types.Reduce, **given: Any) -> Any:
    from brainmap.features.activations.reduction import Reduction

    if kind == "none" and given["dimensions"] is not None:
        raise InputError("--dimensions: is of --reduce sparse-projection or --reduce pca; name one")
    return None if kind == "none" else Reduction(kind=kind, **given)


def _controlled(one: Listener, control: types.ControlOrNone, seed: int, sounds: Any) -> tuple[Any, str]:
    """The network asked for and its name: its own, or a control's."""
    import numpy as np

    from brainmap.features.networks.controls import control_network

    if control == "none":
        return one.model, one.name
    made = control_network(one.model, control, rng=np.random.default_rng(seed), sounds=sounds)
    return made, f"{one.name}-{control}"
