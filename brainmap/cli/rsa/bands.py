"""Define the command that parts explained variance among bands of features: rsa bands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from brainmap.cli.options import (
    Items,
    Json,
    Overwrite,
    Seed,
    build_provenance,
    print_files,
    print_table,
    refuse_existing,
    split_names,
    with_options,
)
from brainmap.cli.outputs import Table
from brainmap.cli.rsa.options import Brain, FewItems, Groups, LayerNames, NFolds, Targets, commands
from brainmap.cli.rsa.stores import Networks, list_stores, open_networks
from brainmap.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


@commands.command()
@with_options(Brain, fills="brain", first=True)
def bands(
    activations: Networks,
    brain: Brain,
    layers: LayerNames = "all",
    items: Items = "stimulus",
    groups: Groups = "condition",
    targets: Targets = "roi",
    folds: NFolds = 5,
    n_iter: Annotated[int, typer.Option(min=1, help="Number of weights of the bands that are tried.")] = 50,
    searches: Annotated[int, typer.Option(min=1, help="Random searches, over which scores are averaged.")] = 3,
    few_items: FewItems = False,
    seed: Seed = 0,
    out: Table = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Predict responses from several bands of features at once, and say what each band adds.

    Each store is a band (a network, acoustic models of `brainmap features acoustics`), or each layer of the only one.
    """
    brain.refuse_none("rsa bands")
    if targets == "roi" and brain.rois is None:
        raise InputError("--targets roi: expected --rois too, got none; give an image of regions, or --targets voxel")
    refuse_existing(out, overwrite, kinds=(".tsv",))
    networks = open_networks(activations, layers)
    import numpy as np

    from brainmap.record import write_table
    from brainmap.rsa.encoding.bands import BAND_COLUMNS, encode_bands

    data = brain.load_patterns(brain.load_regions())
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
        inputs = [*brain.inputs, *list_stores(activations)]
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
