"""Define the commands for networks: networks, train, accuracy-table, evaluate."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brainmap import features, types, viz
from brainmap.checks import check_choice
from brainmap.cli import app
from brainmap.cli.options import (
    FORMATS,
    Json,
    Overwrite,
    Seed,
    build_provenance,
    check_free,
    check_names,
    print_files,
    print_table,
    save_figure,
    split_names,
    with_options,
    write_tables,
)
from brainmap.progress import log

if TYPE_CHECKING:
    from brainmap.features.networks.training import TrainingSettings
else:
    TrainingSettings = Any


@app.command()
def networks(
    name: Annotated[
        str | None, typer.Argument(help="Network whose layers are listed; default: all networks, without layers.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the networks of the zoo with their parameters, inputs, layers and receptive fields."""

    chosen = [check_choice(name, features.network_names(), "network")] if name else list(features.network_names())
    found = [features.describe_network(n) for n in chosen]
    if as_json:
        typer.echo(json.dumps([d.as_dict() for d in found], indent=2))
        return
    for d in found:
        last = [layer for layer in d.layers if str(layer["name"]).startswith("conv")][-1]
        what = "samples" if len(d.input) == 2 else "log-mel bands x frames"
        typer.echo(
            f"{d.name:<8}{d.variant:<6} {d.parameters:>9,} parameters  "
            f"input {_format_sizes(d.input[1:])} {what} at {d.rate:,} Hz  "
            f"{len(d.layers)} layers  receptive field of {last['name']}: {_format_sizes(last['receptive_field'])}"
            f"{' samples' if len(d.input) == 2 else ''}"
        )
        if name:
            typer.echo(
                f"\naccuracy in the source study: {d.accuracy_in_source_study}\n\n"
                f"{'layer':<9}{'kind':<10}{'shape':<14}{'receptive field':>16}{'stride':>9}{'parameters':>12}"
            )
            for layer in d.layers:
                shape = " x ".join(str(s) for s in layer["shape"])  # type: ignore[attr-defined]
                field, stride = _format_sizes(layer["receptive_field"]), _format_sizes(layer["stride"])
                typer.echo(
                    f"{layer['name']:<9}{layer['kind']:<10}{shape:<14}{field:>16}{stride:>9}{layer['parameters']:>12,}"
                )


def _format_sizes(sizes: object) -> str:
    """Write a size, or one for each axis; None is unknown and becomes '-'."""
    if sizes is None:
        return "-"
    return " x ".join(f"{n:,}" for n in (sizes if isinstance(sizes, tuple) else (sizes,)))


def share_training(
    activation: Annotated[types.Nonlinearity, typer.Option(help="Nonlinearity after each layer.")] = "relu",
    head: Annotated[
        types.Head,
        typer.Option(
            help="What the classes see of the last convolution: all values (flatten), mean (gap) or maximum (gmp)."
        ),
    ] = "flatten",
    kernel: Annotated[
        int | None, typer.Option(min=1, help="Length of the filters, in samples; default: the architecture's own.")
    ] = None,
    dropout: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Probability of dropout in variants that have it; default: the architecture's."
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training sounds.")] = 10,
    batch_size: Annotated[int, typer.Option(min=2, help="Sounds in each step.")] = 16,
    learning_rate: Annotated[float, typer.Option(min=1e-7, help="Largest learning rate.")] = 2e-3,
    seed: Seed = 0,
    augment: Annotated[
        types.Augment,
        typer.Option(
            help="Vary the sounds: speed, room, equalizer, band, noise, gain and shift (channel); vocal tract, pitch, "
            "durations and a level of 12 dB either way, too (voice); or not (none)."
        ),
    ] = "channel",
    device: Annotated[str, typer.Option(help="Device of the network: cpu, cuda or mps.")] = "cpu",
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads of torch, which change weights by rounding; default: torch's choice."),
    ] = None,
    compile_steps: Annotated[
        bool, typer.Option("--compile", help="Compile the steps, which is faster and needs a C++ compiler.")
    ] = False,
) -> TrainingSettings:
    """Describe what all trainings of a command share, and set the number of threads."""
    import torch

    from brainmap.features.sounds.augmentation import choose_augmentation

    if threads is not None:
        torch.set_num_threads(threads)
    return features.TrainingSettings(
        activation=activation,
        head=head,
        kernel=kernel,
        dropout=dropout,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        augmentation=choose_augmentation(augment),
        device=device,
        compile=compile_steps,
    )


@app.command()
@with_options(share_training, fills="settings")
def train(
    data: Annotated[
        Path, typer.Argument(help="Folder with one folder of sounds for each class, as in Speech Commands.")
    ],
    settings: TrainingSettings,
    out: Annotated[Path, typer.Option("--out", help="Checkpoint to write (.safetensors).")],
    network: Annotated[
        str, typer.Option(help="Architecture: base, ch32, ch64, vgg, ch128, or base-2d on spectrograms.")
    ] = "ch32",
    variant: Annotated[
        types.Variant,
        typer.Option(help="Regularization: dropout (do), batch normalization (bn), both, or none (plain)."),
    ] = "do+bn",
    input: Annotated[
        str | None,
        typer.Option(help="Input of base-2d: log-mel,mels=40,hop_ms=10,window_ms=25, cochleagram, or module:function."),
    ] = None,
    start_from: Annotated[
        Path | None, typer.Option(help="Checkpoint whose weights are trained on, in place of random ones.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Train again if OUT exists.")] = False,
) -> None:
    """Train a network. The same command continues a training that was stopped."""

    chosen = replace(
        settings,
        network=network,
        variant=variant,
        input=None if input is None else features.read_front_end(input),
        start_from=None if start_from is None else str(start_from),
    )
    test = features.train_network(data, out, settings=chosen, overwrite=overwrite)
    typer.echo(f"{out}: {test.accuracy:.1%} of {test.n} test sounds are classified correctly")


@app.command("accuracy-table")
@with_options(share_training, fills="settings")
def accuracy_table(
    data: Annotated[
        Path, typer.Argument(help="Folder with one folder of sounds for each class, as in Speech Commands.")
    ],
    settings: TrainingSettings,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the table (accuracy.tsv), confusion matrices and checkpoints.")
    ],
    networks: Annotated[str, typer.Option(help="Architectures, parted by commas.")] = "base,ch32,ch64,vgg,ch128",
    variants: Annotated[
        str, typer.Option(help="Variants, parted by commas.", parser=check_names(types.Variant, "--variants"))
    ] = "plain,do,bn,do+bn",
    figure: Annotated[
        Path | None,
        typer.Option(
            callback=check_free(*FORMATS),
            help="Picture to write: accuracies and confusion matrices (.png, .svg, .pdf).",
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Train architectures in variants, and make the accuracy table. The same command goes on where it was stopped."""

    from brainmap.features.networks.accuracy import ACCURACY_COLUMNS
    from brainmap.record import atomic

    chosen: list[types.Variant] = split_names(variants)  # type: ignore[assignment]
    found = features.train_accuracy_table(data, out, networks=split_names(networks), variants=chosen, settings=settings)
    about = build_provenance(asdict(settings), found.checkpoints.values(), seed=settings.seed)
    write_tables((out / "accuracy.tsv", found.table, ACCURACY_COLUMNS, about))
    for name, matrix in found.confusions.items():
        with atomic(found.checkpoints[name].with_suffix(".confusion.tsv")) as beside:
            matrix.to_csv(beside, sep="\t", lineterminator="\n")
    if figure is not None:
        save_figure(viz.plot_accuracy(found), figure)
    print_table(found.table, as_json)
    if not as_json:
        print_files(out / "accuracy.tsv", figure)


@app.command()
def evaluate(
    data: Annotated[Path, typer.Argument(help="Folder with one folder of sounds for each class, or a stimuli.tsv.")],
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint to evaluate.")],
    part: Annotated[types.AnyPart, typer.Option(help="Part of the sounds on which accuracy is measured.")] = "all",
    device: Annotated[str, typer.Option(help="Device of the network: cpu, cuda or mps.")] = "cpu",
    as_json: Json = False,
) -> None:
    """Measure the accuracy and the confusion table of a checkpoint, and say what is likely wrong where it is low."""
    from brainmap.features.evaluation.understanding import check_understanding
    from brainmap.features.networks.training import evaluate_model, load_evaluated

    model, sounds, classes = load_evaluated(data, checkpoint, part=part)
    for line in sounds.report.lines():
        log.warning("note: %s", line)
    found = evaluate_model(model, sounds, classes, device=device)
    calls, _ = check_understanding(checkpoint.stem, model, sounds, classes, logits=found.logits, device=device)
    log.warning("note: %s", calls.line())
    if as_json:
        table = found.confusion.T.to_dict()
        confusion = {str(word): {str(c): int(n) for c, n in row.items() if n} for word, row in table.items()}
        typer.echo(
            json.dumps(
                {"accuracy": found.accuracy, "n": found.n, "calls": calls.line(), "confusion": confusion}, indent=2
            )
        )
        return
    typer.echo(f"{found.accuracy:.1%} of {found.n} sounds are classified correctly\n\n{found.confusion.to_string()}")
