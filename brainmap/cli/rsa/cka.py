"""Define the command that compares layers with regions by CKA: rsa cka."""

from __future__ import annotations

from typing import Annotated

import typer

from brainmap import rsa, types
from brainmap.cli.options import Items, Json, Overwrite, Table, split_names, with_options
from brainmap.cli.rsa.options import Brain, LayerNames, Networks, commands, leave_tables, list_stores, open_networks


@commands.command()
@with_options(Brain, fills="brain", first=True)
def cka(
    activations: Networks,
    brain: Brain,
    layers: LayerNames = "all",
    items: Items = "stimulus",
    units: Annotated[
        types.Scaling, typer.Option(help="Whether units of layers are z-scored over items first.")
    ] = "none",
    out: Table = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Compare every layer with every region by debiased linear CKA over the same items."""
    brain.check("rsa cka")
    networks = open_networks(activations, layers)
    from brainmap.rsa.encoding.cka import CKA_COLUMNS

    data = brain.load_patterns(brain.load_regions())
    chosen = "all" if layers == "all" else split_names(layers)
    table = rsa.linear_cka(networks, data, items=items, layers=chosen, units=units)
    asked = {"items": items, "layers": layers, "units": units}
    inputs = [*brain.inputs, *list_stores(activations)]
    leave_tables(table, [(out, table, CKA_COLUMNS)], as_json, parameters=asked, inputs=inputs)
