"""Define the command that projects maps to the surface: rsa project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from brainmap import rsa
from brainmap.cli.options import Json, Overwrite
from brainmap.cli.rsa.options import commands
from brainmap.errors import InputError


@commands.command()
def project(
    image: Annotated[str, typer.Argument(metavar="MAP", help="Map in MNI space, NIfTI or AFNI.")],
    out: Annotated[
        str, typer.Option("--out", help="map_hemi-{hemi}.func.gii (or .shape.gii, .label.gii); {hemi} becomes L and R.")
    ],
    labels: Annotated[
        bool, typer.Option("--labels", help="The map holds labels, such as regions or best layers.")
    ] = False,
    space: Annotated[str | None, typer.Option(help="MNI, if the header does not say so.")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Project maps from MNI space to fsaverage5, as GIFTI."""
    from brainmap.rsa.surface.data import check_surface_files

    check_surface_files(out, overwrite)
    if labels != out.endswith(".label.gii"):
        raise InputError(f"--out {out}: --labels and the ending .label.gii go together")
    data = rsa.project_to_surface(image, interpolation="label" if labels else "continuous", space=space)
    written = [str(path) for path in rsa.save_surface(data, out, overwrite=overwrite)]
    if as_json:
        typer.echo(json.dumps({"maps": list(data.labels), "files": written}, indent=2))
        return
    for path in written:
        typer.echo(f"Wrote {Path(path)}")
