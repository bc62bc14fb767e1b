"""The command that picks sounds about which two networks disagree: features controversial."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from brainmap import features
from brainmap.cli.features.options import Hear, add_listener_options, commands
from brainmap.cli.options import Json, build_provenance, print_table
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
    as_json: Json = False,
) -> None:
    """Pick the sounds of --sounds about which two networks disagree most, as a stimulus folder for an experiment."""
    if (out / "stimuli.tsv").exists():
        raise InputError(f"--out: {out / 'stimuli.tsv'} exists; name another folder")
    one = hear()
    (second,), _ = features.load_judges([other])
    first = features.Judge(name=one.name, model=one.model, checkpoint=one.checkpoint)
    found = features.pick_controversial(
        first, second, one.sounds, n=n, output=output, per_condition=per_condition, device=one.device
    )
    given = {"other": str(other), "output": output, "number": n, "per_condition": per_condition}
    about = build_provenance(given, [*one.inputs, other])
    path = features.save_stimuli(found, one.sounds, out, about=about)
    print_table(found.table, as_json)
    if not as_json:
        pair = f"{found.names[0]} and {found.names[1]}"
        typer.echo(
            f"{path}: {len(found.rows)} of {len(one.sounds)} sounds, about which {pair} differ by "
            f"{found.table['controversy'].min():.2g} or more (the median sound: {found.median:.2g}); measurement "
            "decides which is right"
        )
