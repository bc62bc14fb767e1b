"""Define the command that maps noise ceilings: rsa ceiling."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from brainmap import rsa
from brainmap.checks import refuse_some
from brainmap.cli.images import refuse_existing_maps, save_bricks
from brainmap.cli.options import (
    Items,
    Jobs,
    Missing,
    Noise,
    Overwrite,
    SearchlightDissimilarity,
    SearchlightMeasure,
    Stimuli,
    print_files,
)
from brainmap.cli.rsa.options import (
    commands,
    count_noun,
    load_given_patterns,
    load_left_over,
    refuse_tables,
)
from brainmap.cli.rsa.searchlight_options import SPHERES_MM, NoisePer, Radius, Shrinkage, build_searchlight_settings
from brainmap.errors import InputError

PLACE = "{participant}"


@commands.command()
def ceiling(
    betas: Annotated[list[str], typer.Option(help=f"Images with {PLACE} in their names, one --betas per run.")],
    participant: Annotated[list[str], typer.Option(help="Labels that replace {participant}; two or more.")],
    mask: Annotated[str, typer.Option(help=f"Image of the voxels to read, one for all or with {PLACE}; on one grid.")],
    out: Annotated[str, typer.Option("--out", help="Image of lower and upper ceiling: .nii.gz, or x+tlrc for AFNI.")],
    labels: Annotated[
        list[str] | None,
        typer.Option(help=f"Labels of the volumes: sub-brick, or a TSV (with {PLACE} and {{run}} if tables differ)."),
    ] = None,
    stimuli: Stimuli = None,
    missing: Missing = "error",
    radius: Radius = None,
    dissimilarity: SearchlightDissimilarity = "correlation",
    measure: SearchlightMeasure = "spearman",
    items: Items = "stimulus",
    noise: Noise = "runs",
    residuals: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE...", help=f"Residuals of the GLM for --noise residuals: files or a pattern, with {PLACE}."
        ),
    ] = None,
    noise_per: NoisePer = "voxel",
    shrinkage: Shrinkage = None,
    minimum_voxels: Annotated[
        int, typer.Option(min=2, help="Smallest number of voxels; smaller spheres have no ceiling.")
    ] = 10,
    counts: Annotated[
        str | None, typer.Option(help="Also write the participants and the fewest voxels of each sphere.")
    ] = None,
    space: Annotated[str | None, typer.Option(help="Space: MNI, TLRC, ...; default: that of the mask.")] = None,
    jobs: Jobs = None,
    overwrite: Overwrite = False,
) -> None:
    """Compute the noise ceiling of the sphere around every voxel, the highest score that a model can expect there.

    The participants' images must be on one grid. Give the dissimilarity, measure and radius of the searchlight maps:

    brainmap rsa ceiling --betas 'sub-{participant}/betas.nii.gz' --participant 01 --participant 02 --mask mask.nii.gz
    --out ceilings.nii.gz
    """
    import numpy as np

    from brainmap.cli.runs import expand_patterns
    from brainmap.rsa.searchlights.ceilings import map_ceilings

    refuse_existing_maps({"--out": out, "--counts": counts}, overwrite)
    refuse_some(
        sorted({who for who in participant if participant.count(who) > 1}),
        "--participant: expected each label once, got ",
        " more than once; remove the repeats",
    )
    refuse_tables(betas, "rsa ceiling")
    bare = [name for name in (*betas, *(residuals or [])) if PLACE not in name]
    if bare:
        raise InputError(
            f"rsa ceiling: expected {PLACE} in the name, got {bare[0]} for all participants; put it where names differ"
        )
    settings = build_searchlight_settings(
        noise_per, noise, shrinkage, dissimilarity=dissimilarity, measure=measure, items=items, minimum=minimum_voxels
    )
    known: dict[str, Any] = {}
    data, masks = {}, {who: mask.replace(PLACE, who) for who in participant}
    for who in participant:
        files = expand_patterns([name.replace(PLACE, who) for name in betas], "--betas")
        left = load_left_over(
            noise, expand_patterns([name.replace(PLACE, who) for name in residuals or []], "--residuals"), masks[who]
        )
        data[who] = load_given_patterns(
            files,
            masks[who],
            conditions=[label.replace(PLACE, who) for label in labels or ["sub-brick"]],
            stimuli=stimuli,
            missing=missing,
        )
        known[who] = settings.choose_noise(data[who], source=noise, place=noise_per, residuals=left)
    maps = map_ceilings(data, settings, mask=masks, radius_mm=radius or SPHERES_MM, noise=known, threads=jobs)
    where = space or rsa.image_info(masks[participant[0]]).space
    written = [save_bricks([maps.lower, maps.upper], out, labels=["lower", "upper"], space=where, overwrite=overwrite)]
    if counts is not None:
        images = [maps.participant_count, maps.voxel_count]
        written.append(save_bricks(images, counts, labels=["participants", "voxels"], space=where, overwrite=overwrite))
    there = np.isfinite(maps.lower_array)
    most = f"; the lower ceiling reaches {maps.lower_array[there].max():.3f}" if there.any() else ""
    at = f"ceilings at {np.count_nonzero(there):,} of {there.size:,} voxels"
    typer.echo(f"{count_noun(len(data), 'participant')}, {at}{most}")
    if maps.approximate:
        typer.echo(f"The best pool for {maps.measure} is no mean of ranks: the upper ceiling may be too low")
    print_files(*written)
