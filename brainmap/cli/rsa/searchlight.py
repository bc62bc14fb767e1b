"""Define the command that maps the similarity of brain and models: rsa searchlight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from brainmap import rsa
from brainmap.cli.images import PLACE, refuse_existing_maps, save_bricks
from brainmap.cli.options import (
    Betas,
    Items,
    Jobs,
    Labels,
    LeftOver,
    Mask,
    Missing,
    More,
    Noise,
    Overwrite,
    SearchlightDissimilarity,
    SearchlightMeasure,
    Stimuli,
    print_files,
)
from brainmap.cli.rsa.options import (
    Float64Device,
    commands,
    count_noun,
    load_given_patterns,
    load_left_over,
    refuse_tables,
)
from brainmap.cli.rsa.searchlight_options import (
    SPHERES_MM,
    Disc,
    Mesh,
    Metric,
    NoisePer,
    Picture,
    Radius,
    Shrinkage,
    build_searchlight_settings,
)
from brainmap.cli.rsa.searchlight_surface import refuse_surface_options, search_surface
from brainmap.errors import InputError


@commands.command()
def searchlight(
    models: Annotated[Path, typer.Option(help="RDMs of the models (.h5).")],
    out: Annotated[
        str,
        typer.Option("--out", help="Image of scores: .nii.gz, x+tlrc, .func.gii; with {layer} for models over time."),
    ],
    more: More = None,
    betas: Betas = None,
    mask: Mask = None,
    labels: Labels = None,
    stimuli: Stimuli = None,
    missing: Missing = "error",
    radius: Radius = None,
    mesh: Mesh = None,
    metric: Metric = None,
    vertices: Disc = None,
    dissimilarity: SearchlightDissimilarity = "correlation",
    measure: SearchlightMeasure = "spearman",
    items: Items = "stimulus",
    noise: Noise = "runs",
    residuals: LeftOver = None,
    noise_per: NoisePer = "voxel",
    shrinkage: Shrinkage = None,
    minimum_voxels: Annotated[
        int, typer.Option(min=2, help="Smallest number of voxels; smaller spheres have no score.")
    ] = 10,
    best: Annotated[str | None, typer.Option(help="Also write the best model of each voxel, from 1.")] = None,
    counts: Annotated[str | None, typer.Option(help="Also write the number of voxels in each sphere.")] = None,
    figure: Picture = None,
    space: Annotated[str | None, typer.Option(help="Space: ORIG, MNI, TLRC, ...; default: that of the mask.")] = None,
    device: Float64Device = "cpu",
    jobs: Jobs = None,
    overwrite: Overwrite = False,
) -> None:
    """Compare the sphere around every voxel, or the disc around every vertex, with every model, in one pass.

    On the surface all names contain {hemi}: --betas run-1_hemi-{hemi}.func.gii --out scores_hemi-{hemi}.func.gii.
    """
    from brainmap.rsa.searchlights.maps import find_layers_over_time
    from brainmap.rsa.searchlights.volume import plan_searchlight
    from brainmap.rsa.surface.data import is_surface

    images = [*(betas or []), *(more or [])]
    refuse_tables(images, "rsa searchlight")
    settings = build_searchlight_settings(
        noise_per,
        noise,
        shrinkage,
        dissimilarity=dissimilarity,
        measure=measure,
        items=items,
        minimum=minimum_voxels,
        device=device,
    )
    if any(is_surface(name) for name in images):
        if noise == "residuals" or residuals:
            raise InputError("--noise residuals: residuals are images; on the surface take --noise runs, or none")
        search_surface(
            images,
            models,
            settings,
            out=out,
            best=best,
            counts=counts,
            figure=figure,
            overwrite=overwrite,
            noise={"source": noise, "place": noise_per},
            reading={"mask": mask, "conditions": labels, "stimuli": stimuli, "missing": missing},
            mesh=mesh or "fsaverage5",
            discs={"metric": metric or "dijkstra", "radius_mm": radius, "n_vertices": vertices},
            threads=jobs,
        )
        return
    refuse_surface_options(mesh=mesh, metric=metric, vertices=vertices, figure=figure)
    if not images or mask is None:
        raise InputError("rsa searchlight: expected --betas and --mask, got one or none of them; give both")
    model_rdms = rsa.load_rdms(models)
    targets = _check_targets(out, best, counts, layers=find_layers_over_time(model_rdms), overwrite=overwrite)
    left = load_left_over(noise, residuals, mask)
    how: dict[str, Any] = {"conditions": labels, "stimuli": stimuli, "missing": missing, "dtype": "float32"}
    data = load_given_patterns(images, mask, **how)
    own = settings.choose_noise(data, source=noise, place=noise_per, residuals=left)
    plan = plan_searchlight(data, model_rdms, settings, mask=mask, radius_mm=radius or SPHERES_MM, noise=own)
    maps = plan.compute(threads=jobs)
    written = _write_maps(maps, targets, space=space or rsa.image_info(mask).space, overwrite=overwrite)
    scored = int((maps.counts > 0).sum()) - maps.n_unscored
    typer.echo(
        f"{count_noun(len(maps), 'model')} at {scored:,} voxels; {maps.n_excluded:,} voxels of the mask without data, "
        f"{maps.n_unscored:,} spheres without a score"
    )
    print_files(*written)


def _check_targets(
    out: str, best: str | None, counts: str | None, *, layers: Sequence[str], overwrite: bool
) -> dict[str, str]:
    """Return the files to write by option, with one `--out` per layer for models over time; refuse existing files.

    Raises
    ------
    InputError
        If a file exists, or several layers have one name.
    """
    given = {option: path for option, path in (("--best", best), ("--counts", counts)) if path is not None}
    if len(layers) > 1 and PLACE not in out:
        raise InputError(
            f"--out: expected {PLACE} in the name, got none; models over time have one image per layer; put it in "
            "the name, as in scores_{layer}.nii.gz"
        )
    if not layers and PLACE in out:
        raise InputError(f"--out: expected models over time for {PLACE}, got others; leave {PLACE} out")
    outs = {f"--out {layer}": out.replace(PLACE, layer) for layer in layers} or {"--out": out}
    refuse_existing_maps(outs | given, overwrite)
    return outs | given


def _write_maps(maps: rsa.SearchlightMaps, targets: Mapping[str, str], **how: Any) -> Iterator[Path]:
    """Write what is asked for: scores, the best model (and its time), voxel counts."""
    for option, path in targets.items():
        kind, _, layer = option.partition(" ")
        if kind == "--best":
            images = [maps.best] if maps.times is None else [maps.best, maps.best_time]
            yield save_bricks(images, path, labels=["best", "seconds"][: len(images)], **how)
        elif kind == "--counts":
            yield save_bricks([maps.voxel_count], path, labels=["voxels"], **how)
        elif layer:
            names = [name for name in maps if name.rpartition("@")[0] == layer]
            yield save_bricks([maps.over_time(layer)], path, labels=names, **how)
        else:
            yield save_bricks([maps[name] for name in maps], path, labels=list(maps), **how)
