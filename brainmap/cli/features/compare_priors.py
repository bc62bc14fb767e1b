"""The command that compares priors of maximizing patterns: features compare-priors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from brainmap import features, viz
from brainmap.cli.features.options import Figure, Hear, add_listener_options, commands
from brainmap.cli.options import (
    FORMATS,
    Jobs,
    Json,
    Overwrite,
    Seed,
    build_provenance,
    make_rng,
    print_files,
    print_table,
    refuse_existing,
    save_figure,
    split_names,
)


@commands.command("compare-priors")
@add_listener_options
def compare_priors(
    hear: Hear,
    out: Annotated[Path, typer.Option(help="Table to write: .tsv.")],
    classes: Annotated[
        str, typer.Option(help="Classes, parted by commas; all takes those of which there are sounds.")
    ] = "all",
    judges: Annotated[
        str, typer.Option(help="Networks that judge: package (those of brainmap), or checkpoints parted by commas.")
    ] = "package",
    decoder: Annotated[str, typer.Option(help="Decoder: words (the included one), none, or a .safetensors file.")] = (
        "words"
    ),
    steps: Annotated[int, typer.Option(min=1, help="Steps of gradient ascent.")] = 150,
    seeds: Annotated[int, typer.Option(min=1, help="Ascents of each class, all of which count.")] = 1,
    draws: Annotated[int, typer.Option(min=1, help="Random latents of which the best one is taken.")] = 192,
    seed: Seed = 0,
    figure: Figure = None,
    jobs: Jobs = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Compare what other networks make of class patterns by several priors, of real sounds and of noise."""
    from brainmap.features.evaluation.priors import PRIOR_COLUMNS
    from brainmap.features.maximization.decoder import choose_priors
    from brainmap.record import write_table

    refuse_existing(out, overwrite, kinds=(".tsv",))
    refuse_existing(figure, overwrite, option="--figure", kinds=FORMATS)
    one = hear()
    fed = one.checkpoint
    paths = None if judges == "package" else [Path(name) for name in split_names(judges)]
    judging, notes = features.load_judges(paths, climbed=one.model)
    speech = None
    if decoder != "none":
        (chosen,) = choose_priors(
            "decoder",
            decoder=decoder,
            rate=fed.rate,
            n_samples=fed.n_samples,
            on_waveforms=fed.front_end.is_waveform,
        )
        speech = chosen.decoder
    found = features.compare_priors(
        one.model,
        one.sounds,
        checkpoint=fed,
        judges=judging,
        classes=None if classes == "all" else split_names(classes),
        decoder=speech,
        steps=steps,
        seeds=seeds,
        draws=draws,
        rng=make_rng(seed),
        device=one.device,
        threads=jobs,
    )
    columns = PRIOR_COLUMNS | {judge: f"share that {judge} calls by its class" for judge in found.judges}
    about = {"classes": list(found.class_names), "steps": steps, "seeds": seeds, "draws": draws, "decoder": decoder}
    inputs = [*one.inputs, *(paths or [])]
    write_table(found.table, out, columns=columns, about=build_provenance(about, inputs, seed=seed))
    if figure is not None:
        save_figure(viz.plot_prior_comparison(found, title=f"{one.name}: who recognizes its patterns"), figure)
    print_table(found.table, as_json)
    if not as_json:
        for note in notes:
            typer.echo(f"note: {note}")
        print_files(out, figure)
