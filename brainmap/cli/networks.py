"""Commands for networks: networks, train, evaluate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from brainmap import types
from brainmap.cli import app
from brainmap.cli.options import Json, Seed


@app.command()
def networks(
    name: Annotated[str | None, typer.Argument(help="One network, with its layers.")] = None, as_json: Json = False
) -> None:
    """List the zoo: parameters, input, layers, receptive fields."""
    from brainmap.checks import one_of
    from brainmap.features.networks.zoo import describe_network, network_names

    chosen = [one_of(name, network_names(), "network")] if name else list(network_names())
    found = [describe_network(n) for n in chosen]
    if as_json:
        typer.echo(json.dumps([d.as_dict() for d in found], indent=2))
        return
    for d in found:
        last = [layer for layer in d.layers if str(layer["name"]).startswith("conv")][-1]
        what = "samples" if len(d.input) == 2 else "log-mel bands x frames"
        typer.echo(
            f"{d.name:<8}{d.variant:<6} {d.parameters:>9,} parameters  "
            f"input {_sizes(d.input[1:])} {what} at {d.rate:,} Hz  "
            f"{len(d.layers)} layers  receptive field of {last['name']}: {_sizes(last['receptive_field'])}"
            f"{' samples' if len(d.input) == 2 else ''}"
        )
        if name:
            typer.echo(
                f"\naccuracy in the source study: {d.accuracy_in_source_study}\n\n"
                f"{'layer':<9}{'kind':<10}{'shape':<14}{'receptive field':>16}{'stride':>9}{'parameters':>12}"
            )
            for layer in d.layers:
                shape = " x ".join(str(s) for s in layer["shape"])  # type: ignore[attr-defined]
                field, stride = _sizes(layer["receptive_field"]), _sizes(layer["stride"])
                typer.echo(
                    f"{layer['name']:<9}{layer['kind']:<10}{shape:<14}{field:>16}{stride:>9}{layer['parameters']:>12,}"
                )


def _sizes(sizes: object) -> str:
    """A size, or one for each axis; nothing is known of None."""
    if sizes is None:
        return "-"
    return " x ".join(f"{n:,}" for n in (sizes if isinstance(sizes, tuple) else (sizes,)))


@app.command()
def train(
    data: Annotated[Path, typer.Argument(help="Folder of class folders, as Speech Commands.")],
    out: Annotated[Path, typer.Option("--out", help="The checkpoint, .safetensors.")],
    network: Annotated[str, typer.Option(help="base, ch32, ch64, vgg or ch128.")] = "ch32",
    variant: Annotated[
        types.Variant, typer.Option(help="With dropout (do), batch normalization (bn), or both.")
    ] = "do+bn",
    activation: Annotated[types.Nonlinearity, typer.Option(help="The nonlinearity.")] = "relu",
    head: Annotated[types.Head, typer.Option(help="What lies between the convolutions and the classes.")] = "flatten",
    epochs: Annotated[int, typer.Option(min=1)] = 10,
    batch_size: Annotated[int, typer.Option(min=2)] = 16,
    learning_rate: Annotated[float, typer.Option(min=1e-7)] = 2e-3,
    seed: Seed = 0,
    augmentation: Annotated[bool, typer.Option(help="Speed, room, equalizer, band, noise, gain and shift.")] = True,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads of torch; default: its own choice. They change weights by rounding."),
    ] = None,
    compile_steps: Annotated[bool, typer.Option("--compile", help="Fuse the steps; needs a C++ compiler.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Train again where OUT exists.")] = False,
) -> None:
    """Train a network; a training that was stopped goes on when the same command is given again."""
    import torch

    from brainmap.features.networks.training import TrainingSettings, train_network
    from brainmap.features.sounds.augmentation import Augmentation

    if threads is not None:
        torch.set_num_threads(threads)
    settings = TrainingSettings(
        network=network,
        variant=variant,
        activation=activation,
        head=head,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        augmentation=Augmentation() if augmentation else None,
        device=device,
        compile=compile_steps,
    )
    test = train_network(data, out, settings=settings, overwrite=overwrite)
    typer.echo(f"{out}: {test.accuracy:.1%} of {test.n} test sounds right")


@app.command()
def evaluate(
    data: Annotated[Path, typer.Argument(help="Class folders, or a stimuli.tsv.")],
    checkpoint: Annotated[Path, typer.Option(help="What to evaluate.")],
    part: Annotated[types.AnyPart, typer.Option(help="Part of the sounds.")] = "all",
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    as_json: Json = False,
) -> None:
    """Accuracy and confusion table of a checkpoint."""
    from brainmap.features.networks.training import evaluate_network

    found = evaluate_network(data, checkpoint, part=part, device=device)
    if as_json:
        table = found.confusion.T.to_dict()
        confusion = {str(word): {str(c): int(n) for c, n in row.items() if n} for word, row in table.items()}
        typer.echo(json.dumps({"accuracy": found.accuracy, "n": found.n, "confusion": confusion}, indent=2))
        return
    typer.echo(f"{found.accuracy:.1%} of {found.n} sounds right\n\n{found.confusion.to_string()}")
