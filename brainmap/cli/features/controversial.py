"""The command that picks sounds about which two networks disagree: features controversial."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from brainmap import features
from brainmap.cli.features.options import Hear, add_listener_options, commands
from brainmap.cli.options import Json, Seed, build_provenance, make_rng, print_table
from brainmap.errors import InputError


@commands.command()
@add_listener_options
def controversial(
    hear: Hear,
    other: Annotated[Path, typer.Option(help="The second network: a checkpoint that says how it is fed.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the sounds, as WAV with a stimuli.tsv.")],
    n: Annotated[int, typer.Option("-n", "--number", min=1, help="Number of sounds.")] = 16,
    output: Annotated[
        str | None,
        typer.Option(
            help="Output of both networks whose predictions are compared, such as a region of two encoding models; "
            "default: the classes that they hear."
        ),
    ] = None,
    per_condition: Annotated[
        int | None, typer.Option(min=1, help="Largest number of sounds of one condition; default: any.")
    ] = None,
    synthesize: Annotated[
        bool,
        typer.Option(
            "--synthesize",
            help="Make sounds with a decoder of speech in place of picking, for the classes that are heard.",
        ),
    ] = False,
    decoder: Annotated[
        Path | None, typer.Option(help="Decoder of --synthesize, as train-decoder writes it; default: the shipped one.")
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="Random sounds from which --synthesize begins.")] = 256,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the ascent of --synthesize.")] = 100,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Pick the sounds of --sounds about which two networks disagree most, as a stimulus folder for an experiment.

    With --synthesize sounds are made with a decoder instead.
    """
    if synthesize and (output is not None or per_condition is not None):
        raise InputError("--synthesize: takes neither --output nor --per-condition; leave them out, or pick")
    if (out / "stimuli.tsv").exists():
        raise InputError(f"--out: {out / 'stimuli.tsv'} exists; name another folder")
    one = hear()
    (second,), _ = features.load_judges([other])
    first = features.Judge(name=one.name, model=one.model, checkpoint=one.checkpoint)
    given: dict[str, object] = {"other": str(other), "output": output, "number": n, "per_condition": per_condition}
    inputs = [*one.inputs, other]
    if synthesize:
        found, pool = features.synthesize_controversial(
            first,
            second,
            features.load_decoder(decoder),
            n=n,
            draws=draws,
            steps=steps,
            raters=features.load_judges(climbed=[first.model, second.model])[0],
            rng=make_rng(seed),
            device=one.device,
        )
        given |= {"synthesize": True, "draws": draws, "steps": steps, "seed": seed}
        inputs += [] if decoder is None else [decoder]
    else:
        pool = one.sounds
        found = features.pick_controversial(
            first, second, pool, n=n, output=output, per_condition=per_condition, device=one.device
        )
    path = features.save_stimuli(found, pool, out, about=build_provenance(given, inputs))
    print_table(found.table, as_json)
    if not as_json:
        made = f"sounds synthesized from {draws} random ones" if synthesize else f"of {len(pool)} sounds"
        pair = f"{found.names[0]} and {found.names[1]}"
        typer.echo(
            f"{path}: {len(found.rows)} {made}, about which {pair} differ by "
            f"{found.table['controversy'].min():.2g} or more (the median sound: {found.median:.2g}); measurement "
            "decides which is right"
        )
