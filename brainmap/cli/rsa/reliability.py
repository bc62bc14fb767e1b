"""Define the command that estimates the reliability of RDMs: rsa reliability."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from brainmap import rsa, types
from brainmap.cli.options import (
    Axes,
    Betas,
    Items,
    Json,
    Key,
    Labels,
    Mask,
    Measure,
    Missing,
    Overwrite,
    Participant,
    Seed,
    Stimuli,
    Table,
    make_rng,
)
from brainmap.cli.rsa.options import commands, leave_tables, load_given_patterns, load_regions
from brainmap.cli.runs import load_data_rdms
from brainmap.errors import InputError


@commands.command()
def reliability(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", help="RDMs (.h5), one file per participant; or further images of --betas."),
    ] = None,
    betas: Betas = None,
    mask: Mask = None,
    rois: Annotated[
        str | None,
        typer.Option(help="Label image or voxel table (.tsv), for one row per ROI; default: one for the mask."),
    ] = None,
    roi_table: Annotated[Path | None, typer.Option(help="TSV with index and name of each label.")] = None,
    labels: Labels = None,
    stimuli: Stimuli = None,
    participant: Participant = None,
    key: Key = None,
    axes: Axes = None,
    missing: Missing = "error",
    items: Items = "stimulus",
    dissimilarity: Annotated[
        types.Dissimilarity,
        typer.Option(help="Dissimilarity of the patterns of --betas; crossnobis needs four runs or more."),
    ] = "correlation",
    measure: Measure = "rho-a",
    splits: Annotated[
        int, typer.Option(min=1, help="Number of random halvings; if there are fewer, all are used.")
    ] = 100,
    seed: Seed = 0,
    out: Table = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Estimate split-half reliability of RDMs over the runs of one participant (--betas) or over participants."""

    from brainmap.rsa.comparison.reliability import RELIABILITY_COLUMNS

    given: dict[str, Any] = {"measure": measure, "splits": splits, "rng": make_rng(seed)}
    inputs = [*(betas or []), *(files or [])]
    if betas:
        regions = load_regions(
            rois, roi_table, mask, participant=participant, minimum_voxels=10, hemispheres="separate"
        )
        data = load_given_patterns(
            inputs,
            mask,
            conditions=labels,
            rois=regions,
            stimuli=stimuli,
            participant=participant,
            missing=missing,
            key=key,
            axes=axes,
        )
        table = rsa.rdm_reliability(
            data, rois=None if regions is None else "all", items=items, dissimilarity=dissimilarity, **given
        )
    elif inputs:
        table = rsa.rdm_reliability(load_data_rdms([Path(name) for name in inputs]), **given)
    else:
        raise InputError(
            "rsa reliability: expected data, got none; give RDMs of several participants, or --betas of one"
        )
    asked: dict[str, Any] = {"measure": measure, "splits": splits}
    asked |= {"items": items, "dissimilarity": dissimilarity} if betas else {}
    leave_tables(table, [(out, table, RELIABILITY_COLUMNS)], as_json, parameters=asked, inputs=inputs, seed=seed)
