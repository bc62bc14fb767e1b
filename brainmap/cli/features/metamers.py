"""The command for sounds that a layer cannot distinguish: features metamers."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from brainmap import features, types, viz
from brainmap.cli.features.maximize import (
    HOW,
    Real,
    Steps,
    Words,
    make_option,
    make_settings,
    refuse_table,
    write_quality,
)
from brainmap.cli.features.options import Hear, Store, add_listener_options, commands, note_origin, store_free
from brainmap.cli.options import (
    Jobs,
    Json,
    Overwrite,
    Picture,
    Seed,
    draw_figure,
    make_rng,
    print_files,
    print_table,
    split_names,
)


@commands.command()
@add_listener_options
def metamers(
    hear: Hear,
    out: Store,
    layer: Annotated[str, typer.Option(help="Layer that cannot distinguish a metamer from its sound.")],
    items: Annotated[
        str | None, typer.Option(help="stimulus_ids of the sounds to match; default: the first of each word.")
    ] = None,
    wav: Words = None,
    figure: Picture = None,
    steps: Steps = None,
    step_size: Annotated[Real, make_option("Step in units of the free parameters; default: 0.1.", HOW)] = None,
    optimizer: Annotated[types.Optimizer | None, make_option("Optimizer; default: adam.", HOW)] = None,
    parameterization: Annotated[
        types.Parameterization | None,
        make_option("What is optimized; default: a spectrum scaled as the sounds are.", HOW),
    ] = None,
    seed: Seed = 0,
    jobs: Jobs = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Change noise until a layer responds to it as to a given sound (model metamers), as .zarr, WAV and a figure."""
    from brainmap.features.activations import store as stores

    settings = make_settings("metamer", locals())
    store_free(out, "metamer", layer, overwrite)
    table = refuse_table(wav, f"{layer}_metamers.tsv", overwrite)
    one = hear()
    known = one.sounds.items
    first = [known[one.sounds.conditions.index(c)] for c in one.sounds.class_names]
    found = features.match_activation(
        one.model,
        one.sounds,
        layer=layer,
        items=split_names(items) if items else first,
        settings=settings,
        class_names=one.classes,
        rng=make_rng(seed),
        device=one.device,
        threads=jobs,
    )
    attributes = {
        "items": list(found.items),
        "conditions": list(found.conditions),
        "rate": found.rate,
        "table": json.loads(found.table.to_json(orient="split")),
    }
    stores.keep_array(stores.open_store(out), ("metamer", layer), found.patterns, attributes, network=one.name)
    note_origin(out, "metamer", one, layer)
    if wav is not None and table is not None:
        found.save_wav(wav)
        write_quality(found.table, table, (settings, seed, one))
    draw_figure(lambda: viz.plot_metamers(found, title=f"{one.name}: metamers of {layer}"), figure)
    print_table(found.table, as_json)
    if not as_json:
        typer.echo(f"{out}: {len(found.items)} metamers of {layer}, {int(found.table['matched'].sum())} matched")
        print_files(figure)
