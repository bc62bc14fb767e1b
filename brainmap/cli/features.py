"""Commands for what a network hears: features activations, maximize, cam."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brainmap.cli import app
from brainmap.cli.shared import Device, Jobs, Json, Overwrite, device_named, group, names, provenance, show
from brainmap.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from brainmap.features.checkpoints import Checkpoint
    from brainmap.features.sounds import Sounds

commands = group("features", "What a network hears: activations, maximizing sounds, class activation maps.")
app.add_typer(commands)

CheckpointFile = Annotated[Path, typer.Option("--checkpoint", help="A trained network: .safetensors, .pt or .pt2.")]
SoundsAt = Annotated[
    Path, typer.Option("--sounds", help="stimuli.tsv (stimulus_id, condition, path), class folders, or one audio file.")
]
Store = Annotated[Path, typer.Option("--out", help="A .zarr folder, made or added to.")]
NetworkName = Annotated[str | None, typer.Option("--name", help="What the network is called; default: as its file.")]
OTHERS = "Networks trained elsewhere"
Architecture = Annotated[
    str | None, typer.Option(help="A name of `brainmap networks`, or module:function.", rich_help_panel=OTHERS)
]
Variant = Annotated[str | None, typer.Option(help="plain, do, bn or do+bn.", rich_help_panel=OTHERS)]
ClassNames = Annotated[str | None, typer.Option(help="In the order of outputs: one,two,...", rich_help_panel=OTHERS)]
Rate = Annotated[int | None, typer.Option(min=1, help="Of the sounds it takes, in Hz.", rich_help_panel=OTHERS)]
Seconds = Annotated[float | None, typer.Option(help="Length of the sounds it takes, in s.", rich_help_panel=OTHERS)]
Level = Annotated[str | None, typer.Option(help="rms, peak or none.", rich_help_panel=OTHERS)]


@dataclass(frozen=True)
class Listener:
    """A network, how it is fed, and the sounds as it takes them."""

    name: str
    model: nn.Module
    checkpoint: Checkpoint
    sounds: Sounds


def listener(checkpoint: Path, sounds: Path, *, name: str | None = None, **given: Any) -> Listener:
    """Load a network and the sounds as its checkpoint says; `given` completes a checkpoint that says nothing.

    Raises
    ------
    InputError
        A checkpoint that says nothing and options that do not complete it, or that contradict what it says.
    """
    from brainmap.features.checkpoints import load_network
    from brainmap.features.sounds import load_sounds

    classes = tuple(names(given["class_names"])) if given["class_names"] else None
    model = load_network(
        checkpoint,
        architecture=given["architecture"],
        variant=given["variant"],
        n_classes=len(classes) if classes else None,
    )
    said = {key: given[key] for key in ("architecture", "rate", "seconds", "level")}
    fed = _feeding(checkpoint, classes=classes, **said)
    heard = load_sounds(
        sounds,
        rate=fed.rate,
        seconds=fed.n_samples / fed.rate,
        level=fed.level,  # type: ignore[arg-type]
        align=fed.align,  # type: ignore[arg-type]
    )
    return Listener(name or checkpoint.stem, model, fed, heard)


def _feeding(path: Path, *, architecture: str | None, seconds: float | None, **given: Any) -> Checkpoint:
    from brainmap.features.checkpoints import Checkpoint, load_checkpoint

    said = {key: value for key, value in given.items() if value is not None}
    if path.suffix != ".safetensors" or not _ours(path):
        if "rate" not in said or seconds is None:
            raise InputError(f"{path} does not say how it was fed; give --rate (Hz) and --seconds")
        return Checkpoint(architecture=architecture or "", n_samples=round(seconds * said["rate"]), **said)
    stored = load_checkpoint(path)
    if seconds is not None:
        said["n_samples"] = round(seconds * stored.rate)
    for key, value in said.items():
        if value != getattr(stored, key):
            raise InputError(
                f"{key} is {value!r} on the command line and {getattr(stored, key)!r} in {path}, with which it was "
                "trained; leave it out"
            )
    return stored


def _ours(path: Path) -> bool:
    import safetensors

    with safetensors.safe_open(path, framework="pt") as file:
        return "brainmap" in (file.metadata() or {})


def _store_free(out: Path, kind: str, layer: str | None, overwrite: bool) -> None:
    """Refuse to replace what a store holds of a kind (and layer)."""
    from brainmap.features.explanations import stored_layers

    held = stored_layers(out, kind)
    if (held if layer is None else layer in held) and not overwrite:
        what = {"activations": "activations", "am": "maximizing patterns", "cam": "class activation maps"}[kind]
        of = f" of {layer}" if layer else ""
        raise InputError(f"--out: {out} holds {what}{of} already; say --overwrite or name another store")


@commands.command()
def activations(
    checkpoint: CheckpointFile,
    sounds: SoundsAt,
    out: Store,
    layers: Annotated[str, typer.Option(help="all, last-conv, or names and patterns: conv1,conv4 or 'conv*'.")] = "all",
    pooling: Annotated[str, typer.Option(help="Over time: mean, max, rms, none or flatten.")] = "mean",
    stage: Annotated[str, typer.Option(help="after or before the nonlinearity.")] = "after",
    name: NetworkName = None,
    architecture: Architecture = None,
    variant: Variant = None,
    class_names: ClassNames = None,
    rate: Rate = None,
    seconds: Seconds = None,
    level: Level = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    device: Device = "cpu",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Activations of every layer for a set of sounds, as .zarr; a run that was killed goes on."""
    from brainmap.features.activations import extract_activations

    where = device_named(device)
    _store_free(out, "activations", None, overwrite)
    one = listener(
        checkpoint, sounds, name=name, architecture=architecture, variant=variant, class_names=class_names,
        rate=rate, seconds=seconds, level=level,
    )  # fmt: skip
    found = extract_activations(
        one.model, one.sounds, layers=names(layers), pooling=pooling, stage=stage, store=out,  # type: ignore[arg-type]
        batch_size=batch_size, device=where, network=one.name,
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
def maximize(
    checkpoint: CheckpointFile,
    sounds: SoundsAt,
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
    name: NetworkName = None,
    architecture: Architecture = None,
    variant: Variant = None,
    class_names: ClassNames = None,
    rate: Rate = None,
    seconds: Seconds = None,
    level: Level = None,
    jobs: Jobs = None,
    device: Device = "cpu",
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
    where = device_named(device)
    _store_free(out, "am", layer, overwrite)
    table = None if wav is None else wav / f"{layer}_quality.tsv"
    if table is not None and table.exists() and not overwrite:
        raise InputError(f"--wav: {table} exists; say --overwrite or name another folder")
    one = listener(
        checkpoint, sounds, name=name, architecture=architecture, variant=variant, class_names=class_names,
        rate=rate, seconds=seconds, level=level,
    )  # fmt: skip
    classes = one.checkpoint.classes if layer == "output" and one.checkpoint.classes else None
    am = maximize_activation(
        one.model, layer=layer, units=_units(units, classes), settings=settings, sounds=one.sounds,
        class_names=classes, rng=np.random.default_rng(seed), device=where, threads=jobs,
    )  # fmt: skip
    save_maximization(am, out, network=one.name)
    quality = am.quality.assign(label=list(am.labels))
    quality = quality[["label", *am.quality.columns]]
    if wav is not None and table is not None:
        am.save_wav(wav, seconds=0.5)
        _write_quality(quality, table, settings, seed, [checkpoint])
    if as_json:
        show(quality, True)
        return
    show(quality[["label", "objective", "best_clip", "gain", *(c for c in SHOWN if c in quality)]], False)
    for note in am.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"{out}: {len(am.units)} patterns of {layer}" + (f"; as WAV in {wav}" if wav else ""))


def _units(text: str, classes: tuple[str, ...] | None) -> Any:
    from brainmap.checks import one_of

    if text == "all":
        return "all"
    known = list(classes or ())
    return [int(u) if u.isdigit() else known.index(one_of(u, known, "--units")) for u in names(text)]


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
def cam(
    checkpoint: CheckpointFile,
    sounds: SoundsAt,
    out: Store,
    method: Annotated[
        str, typer.Option(help="cam, grad-cam, grad-cam++, xgrad-cam, layer-cam, hires-cam or score-cam.")
    ] = "grad-cam",
    layer: Annotated[str, typer.Option(help="A convolution, or last-conv.")] = "last-conv",
    name: NetworkName = None,
    architecture: Architecture = None,
    variant: Variant = None,
    class_names: ClassNames = None,
    rate: Rate = None,
    seconds: Seconds = None,
    level: Level = None,
    device: Device = "cpu",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Where in each sound the evidence for each class lies (class activation maps), as .zarr."""
    from brainmap.features.cam import class_activation_maps
    from brainmap.features.explanations import save_cams
    from brainmap.features.layers import select_layers

    where = device_named(device)
    one = listener(
        checkpoint, sounds, name=name, architecture=architecture, variant=variant, class_names=class_names,
        rate=rate, seconds=seconds, level=level,
    )  # fmt: skip
    (target,) = select_layers(one.model, one.sounds, layer)
    _store_free(out, "cam", target, overwrite)
    cams = class_activation_maps(
        one.model, one.sounds, method=method, layer=target,  # type: ignore[arg-type]
        class_names=one.checkpoint.classes or None, device=where,
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
