"""The command for embeddings of sounds: features embed."""

from __future__ import annotations

from typing import Annotated

import typer

from brainmap import features, types, viz
from brainmap.cli.features.options import Hear, Layers, add_listener_options, commands, extract_all
from brainmap.cli.options import Leave, Seed, add_output_options, make_rng


@commands.command()
@add_listener_options
@add_output_options
def embed(
    hear: Hear,
    leave: Leave,
    layers: Layers = "all",
    method: Annotated[types.EmbeddingMethod, typer.Option(help="Method of the embedding.")] = "pca",
    components: Annotated[int, typer.Option(min=1, help="Number of dimensions of the embedding.")] = 2,
    units: Annotated[
        types.EmbeddingUnits, typer.Option(help="zscore: units are z-scored over sounds first; raw: they are not.")
    ] = "zscore",
    perplexity: Annotated[float, typer.Option(help="Perplexity of t-SNE, below the number of sounds.")] = 30.0,
    seed: Seed = 0,
) -> None:
    """Embed sounds in few dimensions by principal components or t-SNE of each layer (averaged over time)."""
    import pandas as pd

    one = hear()
    acts = extract_all(one, layers)
    found = [
        features.embed(
            acts,
            layer=layer,
            method=method,
            n_components=components,
            units=units,
            perplexity=perplexity,
            rng=make_rng(seed),
        )
        for layer in acts.layers
    ]
    table = pd.concat([each.table for each in found], ignore_index=True)
    columns = {"layer": "layer of the network", "item": "stimulus id", "condition": "its word or category"}
    columns |= {f"x{i + 1}": f"coordinate {i + 1}; t-SNE's carry no units" for i in range(components)}
    about = pd.DataFrame(
        [
            {
                "layer": e.layer,
                **{f"variance_{i + 1}": v for i, v in enumerate(e.explained or ())},
                "trustworthiness": e.trustworthiness,
                "constant_units": e.constant,
            }
            for e in found
        ]
    )
    parameters = {
        "method": method,
        "units": units,
        "perplexity": found[0].perplexity,
        "layers": about.to_dict(orient="records"),
    }
    leave(
        table,
        columns,
        lambda: viz.plot_embedding(found),
        inputs=one.inputs,
        parameters=parameters,
        seed=seed,
        shown=about,
    )
