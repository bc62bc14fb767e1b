"""Define the command that parts explained variance among bands of features: rsa bands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    Seed,
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

if TYPE_CHECKING:
    import pandas as pd


@commands.command()
def bands(
    activations: Networks,
    more: More = None,
    betas: Betas = None,
    mask: Mask = None,
    rois: Annotated[
        str | None, typer.Option(help="Label image or voxel table (.tsv) of regions, which the table then names.")
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
    groups: Annotated[
        types.FoldGroups, typer.Option(help="What folds never divide; stimulus separates the tokens of a word.")
    ] = "condition",
    targets: Annotated[types.EncodingTarget, typer.Option(help="Predict each voxel, or the mean of each ROI.")] = "roi",
    folds: Annotated[int, typer.Option(min=2, help="Test folds; scores are compared at equal numbers only.")] = 5,
    n_iter: Annotated[int, typer.Option(min=1, help="Number of weights of the bands that are tried.")] = 50,
    searches: Annotated[int, typer.Option(min=1, help="Random searches, over which scores are averaged.")] = 3,
    few_items: Annotated[bool, typer.Option("--few-items", help="Allow fewer than 40 items.")] = False,
    seed: Seed = 0,
    out: Table = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Predict responses from several bands of features at once, and say what each band adds.

    Each store is a band (a network, acoustic models of `brainmap features acoustics`), or each layer of the only one.
    """
    images = [*(betas or []), *(more or [])]
    if not images:
        raise InputError("rsa bands: expected --betas, got none; give the images of one participant")
    if targets == "roi" and rois is None:
        raise InputError("--targets roi: expected --rois too, got none; give an image of regions, or --targets voxel")
    refuse_existing(out, overwrite, kinds=(".tsv",))
    networks = open_networks(activations, layers)
    import numpy as np

    from brainmap.record import write_table
    from brainmap.rsa.encoding.bands import BAND_COLUMNS, encode_bands

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
    asked: dict[str, Any] = {
        "groups": groups,
        "items": items,
        "targets": targets,
        "layers": "all" if layers == "all" else split_names(layers),
        "folds": folds,
        "n_iter": n_iter,
        "seeds": [seed + k for k in range(searches)],
    }
    given = next(iter(networks.values())) if len(networks) == 1 else networks
    fit = encode_bands(given, data, few_items=few_items, rng=np.random.default_rng(seed), **asked)
    if out is not None:
        inputs = [*images, *list_inputs(activations, mask, rois, roi_table, stimuli)]
        write_table(fit.scores, out, columns=BAND_COLUMNS, about=build_provenance(asked, inputs, seed=seed))
    if as_json:
        print_table(fit.scores, True)
        return
    print_table(_average_bands(fit.scores), False)
    print_files(out)


def _average_bands(scores: pd.DataFrame) -> pd.DataFrame:
    """Average scores over the targets of each region; `n` counts those with a joint score."""
    table = scores.assign(roi=scores["roi"].replace("", "elsewhere" if scores["roi"].any() else "mask"))
    grouped = table.groupby(["band", "roi"], sort=False)
    found: pd.DataFrame = grouped[["r", "joint", "unique", "product", "unique_spread"]].mean()
    return found.assign(n=grouped["joint"].count()).reset_index()
