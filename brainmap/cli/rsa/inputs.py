"""Define the command that lists the runs in a folder: rsa inputs."""

from __future__ import annotations

from typing import Annotated

import typer

from brainmap import rsa, types
from brainmap.cli.options import Json, print_table
from brainmap.cli.rsa.options import commands


@commands.command()
def inputs(
    where: Annotated[
        str,
        typer.Argument(
            help="Folder, or a pattern such as sub-{participant}_{run}.nii (files) or sub-{participant}/first_level "
            "(spm)."
        ),
    ],
    layout: Annotated[types.Layout, typer.Option(help="Layout of the folder.")] = "bids",
    kind: Annotated[types.InputKind, typer.Option(help="Kind of images.")] = "bold",
    participant: Annotated[list[str] | None, typer.Option(help="Only this participant. Repeatable.")] = None,
    session: Annotated[list[str] | None, typer.Option(help="Only this session. Repeatable.")] = None,
    task: Annotated[str | None, typer.Option(help="Only this task entity.")] = None,
    space: Annotated[str | None, typer.Option(help="Only this space entity; native: T1w, or no entity.")] = None,
    desc: Annotated[str | None, typer.Option(help="Only this desc entity; for afni_proc: REML or OLS.")] = None,
    as_json: Json = False,
) -> None:
    """List the runs in folders of fMRIPrep, of another BIDS pipeline, of afni_proc or of SPM, one row per run."""

    people = [label.removeprefix("sub-") for label in participant or []]
    found = rsa.find_inputs(
        where,
        layout=layout,
        kind="betas" if layout in ("afni_proc", "spm") else kind,
        participants=people or None,
        task=task,
        space=space,
        desc=desc,
        sessions=session or None,
    )
    table = rsa.inputs_table(found)
    if as_json:
        print_table(table, True)
        return
    told = table.fillna("").astype(str).replace("None", "")
    one_for_all = [c for c in told if c not in ("participant", "run", "image") and told[c].nunique() == 1]
    print_table(told.drop(columns=one_for_all), False)
    for note in dict.fromkeys(one.note for one in found if one.note):
        who = dict.fromkeys(one.participant for one in found if one.note == note)
        typer.echo(f"{', '.join(who)}: {note}".removeprefix(": "))
    typer.echo("In all: " + ", ".join(f"{c} {told[c].iloc[0]}" for c in one_for_all if told[c].iloc[0]))
