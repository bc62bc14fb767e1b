"""Commands for what a network hears: features activations; the other commands of the group have files of their own."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from brainmap import features, types, viz
from brainmap.cli.features.options import (
    Hear,
    Listener,
    Store,
    add_listener_options,
    commands,
    print_layers,
    store_free,
)
from brainmap.cli.options import Json, Overwrite, Picture, Seed, build_provenance, draw_figure, make_rng, split_names
from brainmap.errors import InputError
from brainmap.progress import log


@commands.command()
@add_listener_options
def activations(
    hear: Hear,
    out: Store,
    layers: Annotated[
        str,
        typer.Option(
            help="Layers parted by commas: all, last-conv, names, patterns ('conv*'), types (Conv1d), a range (1:4), "
            "or a relative depth (depth:0.5)."
        ),
    ] = "all",
    pooling: Annotated[types.Pooling, typer.Option(help="How time is pooled; none and flatten keep it.")] = "mean",
    pool_frequency: Annotated[
        bool, typer.Option("--pool-frequency", help="Pool over frequency too, in layers of spectrograms.")
    ] = False,
    window: Annotated[
        float | None,
        typer.Option(
            help="Length of windows into which long sounds are cut, in s; each window is an item with an onset."
        ),
    ] = None,
    hop: Annotated[
        float | None, typer.Option(help="Step from one window to the next, in s; default: the length of a window.")
    ] = None,
    last: Annotated[
        types.LastWindow,
        typer.Option(help="Whether a last window that reaches past the end is left out, or padded with zeros."),
    ] = "drop",
    units_axis: Annotated[
        int | None, typer.Option(help="Axis of the units, for layers where it cannot be derived; -1 is the last axis.")
    ] = None,
    stage: Annotated[types.Stage, typer.Option(help="Side of the nonlinearity that is read.")] = "after",
    reduce: Annotated[types.Reduce, typer.Option(help="Method that reduces the number of dimensions.")] = "none",
    dimensions: Annotated[
        int | None,
        typer.Option(help="Number of dimensions; default: 50 for pca, for a projection as many as --tolerance needs."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="Relative error of squared distances that a sparse projection may make.")
    ] = 0.1,
    control: Annotated[
        types.ControlOrNone,
        typer.Option(help="Control network that takes the place of the network: untrained, or with permuted weights."),
    ] = "none",
    seed: Seed = 0,
    dtype: Annotated[types.DType, typer.Option(help="Type of the numbers on disk.")] = "float32",
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Number of sounds in a batch; default: at most 32, and 8 for windows.")
    ] = None,
    figure: Picture = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Extract activations of layers for a set of sounds as .zarr; a run that was killed resumes where it stopped."""
    from brainmap.features.activations.stored import cut_asked_windows

    reduction = _make_reduction(reduce, dimensions=dimensions, tolerance=tolerance, seed=seed)
    store_free(out, "activations", None, overwrite)
    one = hear(report=window is None)
    sounds = cut_asked_windows(one.sounds, window=window, hop=hop, last=last, rate=None)
    if isinstance(sounds, features.Windows):
        for line in sounds.report.lines():
            log.warning("note: %s", line)
    model, name = _choose_network(one, control, seed, sounds)
    found = features.extract_activations(
        model,
        sounds,
        layers=split_names(layers),
        pooling=pooling,
        stage=stage,
        store=out,
        reduce=reduction,
        dtype=dtype,
        batch_size=batch_size,
        device=one.device,
        network=name,
        origin=build_provenance({}, one.inputs, seed=seed),
        units_axis=units_axis,
        pool_frequency=pool_frequency,
    )
    draw_figure(lambda: viz.plot_activations(found), figure)
    items = f"{len(found.items)} {'sounds' if window is None else 'windows'}"
    print_layers(found, out, f"activations of {items} in {len(found.layers)} layers", figure, as_json)


def _make_reduction(kind: types.Reduce, **given: Any) -> Any:
    if kind == "none" and given["dimensions"] is not None:
        raise InputError("--dimensions: is of --reduce sparse-projection or --reduce pca; name one")
    return None if kind == "none" else features.Reduction(kind=kind, **given)


def _choose_network(one: Listener, control: types.ControlOrNone, seed: int, sounds: Any) -> tuple[Any, str]:
    """Return the network, or its control, and the name of either."""
    if control == "none":
        return one.model, one.name
    made = features.control_network(one.model, control, rng=make_rng(seed), sounds=sounds)
    return made, f"{one.name}-{control}"
