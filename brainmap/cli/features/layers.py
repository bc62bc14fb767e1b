"""The command that lists the layers of a network: features layers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brainmap import features
from brainmap.cli.features.options import Describe, add_network_options, commands, describe_network, format_feeding
from brainmap.cli.options import Json

if TYPE_CHECKING:
    from brainmap.features.networks.opened import Opened

HEADS = ("layer", "kind", "shape", "receptive field", "stride", "parameters")


@commands.command()
@add_network_options
def layers(
    describe: Describe,
    every: Annotated[
        bool, typer.Option("--every", help="List every module, not only convolutions and linear ones.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the layers of a network: name, kind, shape, receptive field, stride in ms."""
    opened = describe()
    checkpoint = opened.checkpoint
    rows = [_describe_layer(layer, checkpoint) for layer in _find_layers(opened, every=every)]
    if as_json:
        typer.echo(json.dumps({**describe_network(checkpoint), "layers": rows}, indent=2))
        return
    typer.echo(format_feeding(checkpoint))
    table = [HEADS, *(_format_row(row) for row in rows)]
    widths = [max(len(line[k]) for line in table) for k in range(len(HEADS))]
    for line in table:
        left = [cell.ljust(width) for cell, width in zip(line[:3], widths[:3], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(line[3:], widths[3:], strict=True)]
        typer.echo("  ".join([*left, *right]))


def _find_layers(opened: Opened, *, every: bool) -> list[features.Layer]:
    """Find the layers of a network, which is run only the first time that its files are seen."""
    from dataclasses import asdict

    from brainmap.features.layers.layer import restore_layer

    def run() -> list[dict[str, Any]]:
        from brainmap.features.layers.running import evaluating, list_modules
        from brainmap.features.networks.feeding import make_example

        model, example = opened.model, make_example(opened.checkpoint)
        with evaluating(model):
            listed = features.list_layers(model, example, also=list_modules(model, example) if every else ())
        return [asdict(layer) for layer in listed]

    return [restore_layer(layer) for layer in opened.keep("listing", every, run)]


def _describe_layer(layer: features.Layer, checkpoint: features.Checkpoint) -> dict[str, Any]:
    """Describe a layer as plain values; along time, samples of the sound become ms."""
    field, stride = layer.receptive_field, layer.stride
    return {
        "name": layer.name,
        "kind": layer.kind,
        "shape": list(layer.shape),
        "receptive_field": _convert_sizes(field),
        "receptive_field_ms": _convert_to_ms(field, checkpoint, window=True),
        "whole_sound": _spans_sound(field, checkpoint),
        "stride": _convert_sizes(stride),
        "stride_ms": _convert_to_ms(stride, checkpoint, window=False),
        "parameters": layer.parameters,
    }


def _convert_sizes(sizes: Any) -> Any:
    return list(sizes) if isinstance(sizes, tuple) else sizes


def _spans_sound(sizes: Any, checkpoint: features.Checkpoint) -> bool:
    """Tell whether a receptive field is as long as the sound, as where units attend to all of it."""
    from brainmap.features.networks.feeding import shorten_input

    checkpoint, taken = shorten_input(checkpoint), checkpoint.front_end
    along = sizes[taken.time_axis] if isinstance(sizes, tuple) else sizes
    whole = checkpoint.n_samples if taken.is_waveform else checkpoint.input_shape()[taken.time_axis]
    return along is not None and along == whole


def _convert_to_ms(sizes: Any, checkpoint: features.Checkpoint, *, window: bool) -> float | None:
    """Convert a size along time [samples or frames] to ms; None where it is not known or the unit sees everything."""
    taken, rate = checkpoint.front_end, checkpoint.rate
    along = sizes[taken.time_axis] if isinstance(sizes, tuple) else sizes
    if along is None or (along == 0 and not window):
        return None
    if taken.is_waveform:
        return 1000 * float(along) / rate
    hop = 1000 / taken.frame_rate(
        rate, n_samples=checkpoint.n_samples, n_frames=checkpoint.input_shape()[taken.time_axis]
    )
    covered = taken.window(rate) * 1000 / rate - hop if window and taken.kind == "log-mel" else 0.0
    return float(along * hop + covered)


def _format_row(row: dict[str, Any]) -> tuple[str, ...]:
    field, stride = row["receptive_field_ms"], row["stride_ms"]
    return (
        row["name"],
        row["kind"],
        " x ".join(map(str, row["shape"])),
        "-" if field is None else f"{_format_sizes(row['receptive_field'])} ({_format_field(row)})",
        "-" if stride is None else f"{stride:.4g} ms",
        f"{row['parameters']:,}",
    )


def _format_field(row: dict[str, Any]) -> str:
    return "whole sound" if row["whole_sound"] else f"{row['receptive_field_ms']:.4g} ms"


def _format_sizes(sizes: Any) -> str:
    return " x ".join(f"{n:,}" for n in (sizes if isinstance(sizes, list) else [sizes]))
