"""Declare the options of spheres and discs, which searchlights and their noise ceilings share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brainmap import types
from brainmap.cli.options import FORMATS, check_free
from brainmap.errors import InputError

if TYPE_CHECKING:
    from brainmap.rsa.searchlights.settings import SearchlightSettings


SPHERES_MM = 9.0  # radius of spheres where none is given
Radius = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        help=f"Radius in mm of spheres (default {SPHERES_MM:g}) or discs (10); includes exactly this distance.",
    ),
]
NoisePer = Annotated[
    types.NoisePlace,
    typer.Option(help="Whether noise is the variance of each voxel, or the covariance of each sphere."),
]
Shrinkage = Annotated[
    types.Shrinkage | None, typer.Option(help="Shrinkage target of the covariance of a sphere; default: diag.")
]


def build_searchlight_settings(
    noise_per: types.NoisePlace, noise: types.NoiseFrom, shrinkage: types.Shrinkage | None, **given: Any
) -> SearchlightSettings:
    """Build the settings of spheres and discs, and of their ceilings.

    Raises
    ------
    InputError
        If choices do not go together.
    """
    from brainmap.rsa.searchlights.settings import SearchlightSettings

    if shrinkage is not None and noise_per == "voxel":
        raise InputError("--shrinkage is of the covariance of a sphere: give --noise-per sphere too, or leave it out")
    if noise_per == "sphere" and noise == "none":
        raise InputError("--noise-per sphere needs to know the noise: give --noise runs or --noise residuals")
    return SearchlightSettings(shrinkage=shrinkage or "diag", **given)


Mesh = Annotated[
    str | None,
    typer.Option(
        help="For surface data: fsaverage5 (default), fsaverage, or files such as {hemi}.midthickness.surf.gii."
    ),
]
Metric = Annotated[
    types.Metric | None,
    typer.Option(help="For surface data, distances along edges (dijkstra; default) or across triangles (geodesic)."),
]
Disc = Annotated[
    int | None, typer.Option("--vertices", min=2, help="For surface data, vertices per disc, instead of --radius.")
]
Picture = Annotated[
    Path | None,
    typer.Option(
        "--figure",
        callback=check_free(*FORMATS),
        help="For surface data, a picture of both hemispheres: .png, .svg or .pdf.",
    ),
]
