"""The command that compares priors of maximizing patterns: features compare-priors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from brainmap import features, viz
from brainmap.cli.features.options import Hear, add_listener_options, commands
from brainmap.cli.options import (
    Jobs,
    Json,
    Overwrite,
    Picture,
    Seed,
    build_provenance,
    check_free,
    draw_figure,
    make_rng,
    print_files,
    print_table,
    split_names,
    write_tables,
)
from brainmap.errors import InputError


@commands.command("compare-priors")
@add_listener_options
def compare_priors(
    hear: Hear,
    out: Annotated[Path, typer.Option(callback=check_free(".tsv"), help="Table to write: .tsv.")],
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
    figure: Picture = None,
    jobs: Jobs = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Compare what other networks make of class patterns by several priors, of real sounds and of noise."""
    from brainmap.features.evaluation.priors import PRIOR_COLUMNS
    from brainmap.features.maximization.decoder import choose_priors

    one = hear()
    fed = one.checkpoint
    paths = None if judges == "package" else [Path(name) for name in split_names(judges)]
    judging, notes = features.load_judges(paths, climbed=one.model)
    speech = None
    if decoder != "none":
        try:
            (chosen,) = choose_priors(
                "decoder",
                decoder=decoder,
                rate=fed.rate,
                n_samples=one.sounds.n_samples,
                on_waveforms=fed.front_end.is_waveform,
            )
        except InputError as error:
            raise InputError(f"{error}; here that is --decoder none, or a --seconds that fits") from error
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
    write_tables((out, found.table, columns, build_provenance(about, inputs, seed=seed)))
    draw_figure(lambda: viz.plot_prior_comparison(found, title=f"{one.name}: who recognizes its patterns"), figure)
    print_table(found.table, as_json)
    if not as_json:
        for note in notes:
            typer.echo(f"note: {note}")
        print_files(out, figure)
