"""Commands for what a network hears: features activations, maximize, cam."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from brainmap.cli import app
from brainmap.cli.listening import Hear, Store, listening, store_free
from brainmap.cli.shared import Jobs, Json, Overwrite, group, names, provenance, show
from brainmap.errors import InputError

commands = group("features", "What a network hears: activations, maximizing sounds, class activation maps.")
app.add_typer(commands)


@commands.command()
@listening
def activations(
    hear: Hear,
    out: Store,
    layers: Annotated[str, typer.Option(help="all, last-conv, or names and patterns: conv1,conv4 or 'conv*'.")] = "all",
    pooling: Annotated[str, typer.Option(help="Over time: mean, max, rms, none or flatten.")] = "mean",
    stage: Annotated[str, typer.Option(help="after or before the nonlinearity.")] = "after",
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Activations of every layer for a set of sounds, as .zarr; a run that was killed goes on."""
    from brainmap.features.activations import extract_activations

    store_free(out, "activations", None, overwrite)
    one = hear()
    found = extract_activations(
        one.model, one.sounds, layers=names(layers), pooling=pooling, stage=stage, store=out,  # type: ignore[arg-type]
        batch_size=batch_size, device=one.device, network=one.name,
    )  # fmt: skip
    shapes = {layer: list(found[layer].shape) for layer in found.layers}
    if as_json:
        about = {"store": str(out), "network": one.name, "items": len(found.items), "layers": shapes}
        typer.echo(json.dumps(about, indent=2))
        return
    for layer, shape in shapes.items():
        typer.echo(f"{layer:<12} {' x '.join(map(str, shape))}")
    typer.echo(f"{out}: activations of {len(found.items)} sounds in {len(shapes)} layers")


@commands.command()
@listening
def maximize(
    hear: Hear,
    out: Store,
    layer: Annotated[str, typer.Option(help="A layer, or output for the classes.")] = "output",
    units: Annotated[str, typer.Option(help="all, numbers from 0, or class names, parted by commas.")] = "all",
    wav: Annotated[Path | None, typer.Option(help="A folder for the sounds as WAV and their quality table.")] = None,
    steps: Annotated[int, typer.Option(min=1)] = 200,
    step_size: Annotated[float, typer.Option()] = 2.0,
    objective: Annotated[str, typer.Option(help="auto, channel, neuron, layer or logit.")] = "auto",
    optimizer: Annotated[str, typer.Option(help="gradient-rms or adam.")] = "gradient-rms",
    parameterization: Annotated[str, typer.Option(help="spectrum (of the sounds), pixels or 1/f.")] = "spectrum",
    jitter_ms: Annotated[float, typer.Option(min=0, help="Largest shift in each step.")] = 25.0,
    l1: Annotated[float, typer.Option(min=0)] = 0.0,
    l2: Annotated[float, typer.Option(min=0)] = 0.0,
    total_variation: Annotated[float, typer.Option(min=0)] = 0.0,
    seeds: Annotated[int, typer.Option(min=1, help="Starts from different noise; the best is kept.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 0,
    jobs: Jobs = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Sounds that drive units of a layer most (activation maximization), as .zarr and WAV."""
    import numpy as np

    from brainmap.features.explanations import save_maximization
    from brainmap.features.maximization import MaximizationSettings, maximize_activation

    settings = MaximizationSettings(
        objective=objective, steps=steps, step_size=step_size, optimizer=optimizer,  # type: ignore[arg-type]
        parameterization=parameterization, jitter_ms=jitter_ms, l1=l1, l2=l2,  # type: ignore[arg-type]
        total_variation=total_variation, seeds=seeds,
    )  # fmt: skip
    store_free(out, "am", layer, overwrite)
    table = None if wav is None else wav / f"{layer}_quality.tsv"
    if table is not None and table.exists() and not overwrite:
        raise InputError(f"--wav: {table} exists; say --overwrite or name another folder")
    one = hear()
    am = maximize_activation(
        one.model, layer=layer, units=one.units(layer, units), settings=settings, sounds=one.sounds,
        class_names=one.classes if layer == "output" else None, rng=np.random.default_rng(seed),
        device=one.device, threads=jobs,
    )  # fmt: skip
    save_maximization(am, out, network=one.name)
    quality = am.quality.assign(label=list(am.labels))
    quality = quality[["label", *am.quality.columns]]
    if wav is not None and table is not None:
        am.save_wav(wav, seconds=0.5)
        _write_quality(quality, table, settings, seed, [one.path])
    if as_json:
        show(quality, True)
        return
    show(quality[["label", "objective", "best_clip", "gain", *(c for c in SHOWN if c in quality)]], False)
    for note in am.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"{out}: {len(am.units)} patterns of {layer}" + (f"; as WAV in {wav}" if wav else ""))


SHOWN = ("centroid_hz", "confidence")
QUALITY = {
    "label": "class, or layer and unit",
    "unit": "unit of the layer",
    "class_name": "class",
    "stage": "side of the nonlinearity that was maximized",
    "dead": "never positive on the sounds and on noise",
    "objective": "what the pattern reaches",
    "best_clip": "what the best of the sounds reaches",
    "gain": "objective over best_clip",
    "centroid_hz": "spectral centroid of the pattern [Hz]",
    "bandwidth_hz": "spectral bandwidth of the pattern [Hz]",
    "above_4khz": "share of the energy above 4 kHz",
    "sounds_centroid_hz": "spectral centroid of the sounds [Hz]",
    "sounds_bandwidth_hz": "spectral bandwidth of the sounds [Hz]",
    "sounds_above_4khz": "share of the sounds' energy above 4 kHz",
    "confidence": "probability of the class when the pattern is played back in 16 bits",
}


def _write_quality(table: Any, path: Path, settings: Any, seed: int, inputs: list[Path]) -> None:
    from dataclasses import asdict

    from brainmap.record import write_table

    columns = {str(c): str(c).replace("_", " ") for c in table.columns} | QUALITY
    write_table(table, path, columns=columns, about=provenance(asdict(settings), inputs, seed=seed))


@commands.command()
@listening
def cam(
    hear: Hear,
    out: Store,
    method: Annotated[
        str, typer.Option(help="cam, grad-cam, grad-cam++, xgrad-cam, layer-cam, hires-cam or score-cam.")
    ] = "grad-cam",
    layer: Annotated[str, typer.Option(help="A convolution, or last-conv.")] = "last-conv",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Where in each sound the evidence for each class lies (class activation maps), as .zarr."""
    from brainmap.features.cam import class_activation_maps
    from brainmap.features.explanations import save_cams
    from brainmap.features.layers import select_layers

    one = hear()
    (target,) = select_layers(one.model, one.sounds, layer)
    store_free(out, "cam", target, overwrite)
    cams = class_activation_maps(
        one.model, one.sounds, method=method, layer=target,  # type: ignore[arg-type]
        class_names=one.classes, device=one.device,
    )  # fmt: skip
    save_cams(cams, out, rate=one.checkpoint.rate, align=one.checkpoint.align, network=one.name)
    heard = [cams.class_names[k] for k in cams.logits.argmax(axis=1)]
    about = {
        "store": str(out), "network": one.name, "method": cams.method, "layer": cams.layer,
        "classes": list(cams.class_names), "items": dict(zip(cams.items, heard, strict=True)),
    }  # fmt: skip
    if as_json:
        typer.echo(json.dumps(about, indent=2))
        return
    for item, word in zip(cams.items, heard, strict=True):
        typer.echo(f"{item:<24} heard as {word}")
    typer.echo(f"{out}: {cams.method} of {len(cams.items)} sounds x {len(cams.class_names)} classes at {cams.layer}")
