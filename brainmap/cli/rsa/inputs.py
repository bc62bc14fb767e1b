"""Commands for inputs: rsa inputs (what lies in a folder), rsa project (maps to the surface)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from brainmap import types
from brainmap.cli.options import Json, Overwrite, show
from brainmap.cli.rsa.rdm import commands
from brainmap.errors import InputError


@commands.command()
def inputs(
    where: Annotated[str, typer.Argument(help="A folder; for --layout files a pattern: sub-{participant}_{run}.nii")],
    layout: Annotated[types.Layout, typer.Option(help="How the folder is laid out.")] = "bids",
    kind: Annotated[types.InputKind, typer.Option(help="What the runs are.")] = "bold",
    participant: Annotated[list[str] | None, typer.Option(help="Only this one; may be repeated.")] = None,
    session: Annotated[list[str] | None, typer.Option(help="Only this one; may be repeated.")] = None,
    task: Annotated[str | None, typer.Option(help="The task entity.")] = None,
    space: Annotated[str | None, typer.Option(help="The space entity; native: none, or T1w.")] = None,
    desc: Annotated[str | None, typer.Option(help="The desc entity; afni_proc: REML or OLS.")] = None,
    as_json: Json = False,
) -> None:
    """What a folder of fMRIPrep, of another BIDS pipeline or of afni_proc holds, a row a run."""
    from brainmap.rsa.inputs.layouts import find_inputs, inputs_table

    people = [label.removeprefix("sub-") for label in participant or []]
    found = find_inputs(
        where,
        layout=layout,
        kind="betas" if layout == "afni_proc" else kind,
        participants=people or None,
        task=task,
        space=space,
        desc=desc,
        sessions=session or None,
    )
    table = inputs_table(found)
    if as_json:
        show(table, True)
        return
    told = table.fillna("").astype(str).replace("None", "")
    one_for_all = [c for c in told if c not in ("participant", "run", "image") and told[c].nunique() == 1]
    show(told.drop(columns=one_for_all), False)
    typer.echo("In all: " + ", ".join(f"{c} {told[c].iloc[0]}" for c in one_for_all if told[c].iloc[0]))


@commands.command()
def project(
    image: Annotated[str, typer.Argument(metavar="MAP", help="NIfTI or AFNI, in MNI space.")],
    out: Annotated[str, typer.Option("--out", help="map_hemi-{hemi}.func.gii (or .shape.gii, .label.gii): L and R.")],
    labels: Annotated[bool, typer.Option("--labels", help="Whole numbers: regions, best layers.")] = False,
    space: Annotated[str | None, typer.Option(help="MNI, where the header does not say it.")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Bring maps in MNI space to fsaverage5, as GIFTI."""
    from brainmap.rsa.surface.data import project_to_surface, save_surface, taken_surface

    taken_surface(out, overwrite)
    if labels != out.endswith(".label.gii"):
        raise InputError(f"--out {out}: --labels and the ending .label.gii go together")
    data = project_to_surface(image, interpolation="label" if labels else "continuous", space=space)
    written = [str(path) for path in save_surface(data, out, overwrite=overwrite)]
    if as_json:
        typer.echo(json.dumps({"maps": list(data.labels), "files": written}, indent=2))
        return
    for path in written:
        typer.echo(f"Wrote {Path(path)}")
