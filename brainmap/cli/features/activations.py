"""Commands for what a network hears: features activations; the other commands of the group have files of their own."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from brainmap.cli import app
from brainmap.cli.features.listening import Figure, Hear, Listener, Store, listening, store_free
from brainmap.cli.options import FORMATS, Json, Overwrite, free, group, names, said, save_figure
from brainmap.errors import InputError

commands = group("features", "What a network hears: activations, maximizing sounds, class activation maps.")
app.add_typer(commands)


@commands.command()
@listening
def activations(
    hear: Hear,
    out: Store,
    layers: Annotated[
        str, typer.Option(help="all, last-conv, names, 'conv*', conv, Conv1d, 1:4, depth:0.5; parted by commas.")
    ] = "all",
    pooling: Annotated[str, typer.Option(help="Over time, not units: mean, max, rms, none or flatten.")] = "mean",
    units_axis: Annotated[
        int | None, typer.Option(help="Of layers whose units lie where cannot be told: -1 is the last axis.")
    ] = None,
    stage: Annotated[str, typer.Option(help="after or before the nonlinearity.")] = "after",
    reduce: Annotated[str, typer.Option(help="Fewer dimensions: none, sparse-projection or pca.")] = "none",
    dimensions: Annotated[int | None, typer.Option(help="Default: 50 of pca, else by --tolerance.")] = None,
    tolerance: Annotated[float, typer.Option(help="Of a projection: error of squared distances.")] = 0.1,
    control: Annotated[str, typer.Option(help="Instead of the network: none, untrained or permuted.")] = "none",
    seed: Annotated[int, typer.Option(min=0, help="Of the projection and the control.")] = 0,
    dtype: Annotated[str, typer.Option(help="On disk: float16, float32 or float64.")] = "float32",
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    figure: Figure = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Activations of every layer for a set of sounds, as .zarr; a run that was killed goes on."""
    from brainmap.features.activations.extract import extract_activations

    reduction = _reduction(reduce, dimensions=dimensions, tolerance=tolerance, seed=seed)
    store_free(out, "activations", None, overwrite)
    free(figure, overwrite, option="--figure", kinds=FORMATS)
    one = hear()
    model, name = _controlled(one, control, seed)
    found = extract_activations(
        model,
        one.sounds,
        layers=names(layers),
        pooling=pooling,  # type: ignore[arg-type]
        stage=stage,  # type: ignore[arg-type]
        store=out,
        reduce=reduction,
        dtype=dtype,  # type: ignore[arg-type]
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
    typer.echo(f"{out}: activations of {len(found.items)} sounds in {len(shapes)} layers")
    said(figure)


def _reduction(kind: str, **given: Any) -> Any:
    from brainmap.checks import one_of
    from brainmap.features.activations.reduction import Reduction

    one_of(kind, ("none", "sparse-projection", "pca"), "--reduce")
    if kind == "none" and given["dimensions"] is not None:
        raise InputError("--dimensions: is of --reduce sparse-projection or --reduce pca; name one")
    return None if kind == "none" else Reduction(kind=kind, **given)  # type: ignore[arg-type]


def _controlled(one: Listener, control: str, seed: int) -> tuple[Any, str]:
    """The network asked for and its name: its own, or a control's."""
    import numpy as np

    from brainmap.checks import one_of
    from brainmap.features.networks.controls import control_network

    if one_of(control, ("none", "untrained", "permuted"), "--control") == "none":
        return one.model, one.name
    made = control_network(one.model, control, rng=np.random.default_rng(seed), sounds=one.sounds)  # type: ignore[arg-type]
    return made, f"{one.name}-{control}"
