"""Define the command that compares layers with regions by CKA: rsa cka."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from brainmap import types
from brainmap.cli.options import (
    Axes,
    Betas,
    Items,
    Json,
    Key,
    Labels,
    Mask,
    Missing,
    More,
    Overwrite,
    Participant,
    Stimuli,
    build_provenance,
    print_files,
    print_table,
    refuse_existing,
    split_names,
)
from brainmap.cli.outputs import Table
from brainmap.cli.rsa.options import commands, load_given_patterns, load_regions
from brainmap.cli.rsa.stores import Networks, list_inputs, open_networks
from brainmap.errors import InputError


@commands.command()
def cka(
    activations: Networks,
    more: More = None,
    betas: Betas = None,
    mask: Mask = None,
    rois: Annotated[
        str | None, typer.Option(help="Label image or voxel table (.tsv) of regions; default: one row for the mask.")
    ] = None,
    roi_table: Annotated[Path | None, typer.Option(help="TSV with index and name of each label.")] = None,
    labels: Labels = None,
    stimuli: Stimuli = None,
    participant: Participant = None,
    key: Key = None,
    axes: Axes = None,
    missing: Missing = "error",
    layers: Annotated[str, typer.Option(help="all, or names such as conv1,conv4.")] = "all",
    items: Items = "stimulus",
    units: Annotated[
        types.Scaling, typer.Option(help="Whether units of layers are z-scored over items first.")
    ] = "none",
    out: Table = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Compare every layer with every region by debiased linear CKA over the same items."""
    images = [*(betas or []), *(more or [])]
    if not images:
        raise InputError("rsa cka: expected --betas, got none; give the images of one participant")
    refuse_existing(out, overwrite, kinds=(".tsv",))
    networks = open_networks(activations, layers)
    from brainmap.record import write_table
    from brainmap.rsa.encoding.cka import CKA_COLUMNS, linear_cka

    regions = load_regions(rois, roi_table, mask, participant=participant, minimum_voxels=1, hemispheres="separate")
    data = load_given_patterns(
        images,
        mask,
        conditions=labels,
        rois=regions,
        stimuli=stimuli,
        participant=participant,
        missing=missing,
        key=key,
        axes=axes,
    )
    chosen = "all" if layers == "all" else split_names(layers)
    table = linear_cka(networks, data, items=items, layers=chosen, units=units)
    if out is not None:
        inputs = [*images, *list_inputs(activations, mask, rois, roi_table, stimuli)]
        about = build_provenance({"items": items, "layers": layers, "units": units}, inputs)
        write_table(table, out, columns=CKA_COLUMNS, about=about)
    if out is None or as_json:
        print_table(table, as_json)
    if not as_json:
        print_files(out)
