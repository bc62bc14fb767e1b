"""The command for what maps attend to: features attention."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from brainmap import features, types, viz
from brainmap.cli.features.cam import MapLayer, Method
from brainmap.cli.features.options import Hear, add_listener_options, commands
from brainmap.cli.options import Leave, Seed, add_output_options, make_rng


@commands.command()
@add_listener_options
@add_output_options
def attention(
    hear: Hear,
    leave: Leave,
    method: Method = "grad-cam",
    layer: MapLayer = "last-conv",
    measure: Annotated[
        types.CoverMeasure, typer.Option(help="Measure of cover: entropy, or area above a threshold.")
    ] = "entropy",
    scale: Annotated[
        types.CoverScale,
        typer.Option(help="area: the threshold is a share of the maximum of each map, or of all maps of the sound."),
    ] = "map",
    threshold: Annotated[float, typer.Option(help="area: threshold as a share of the maximum.")] = 0.5,
    empty: Annotated[
        types.Empty, typer.Option(help="Whether maps without positive values count as zero or are left out.")
    ] = "zero",
    alternative: Annotated[
        types.Alternative, typer.Option(help="Direction of the test; greater: the own class covers more.")
    ] = "two-sided",
    seed: Seed = 0,
) -> None:
    """Test over words whether maps of the own class cover more of a word than maps of other classes."""
    from brainmap.features.attention.words import COVER_COLUMNS

    settings: dict[str, Any] = {
        "measure": measure,
        "scale": scale,
        "threshold": threshold,
        "empty": empty,
        "alternative": alternative,
    }
    chosen = features.CoverSettings(**settings)
    one = hear()
    cams = features.class_activation_maps(
        one.model,
        one.sounds,
        method=method,
        layer=layer,
        class_names=one.classes,
        device=one.device,
        upsample=None,
    )
    found = features.attention_cover(cams, settings=chosen, rng=make_rng(seed))
    summary = {
        "own": found.own,
        "others": found.others,
        "difference": found.difference,
        "effect": found.effect,
        "p": found.p,
        "words": found.n_words,
    }
    one_line = (
        f"{cams.method} at {cams.layer}: the own class covers {found.own:.2f} of the input, others "
        f"{found.others:.2f} (p = {found.p:.2g}, sign flips over {found.n_words} words)"
    )
    one.say_understanding(cams.logits)
    leave(
        found.table,
        COVER_COLUMNS,
        lambda: viz.plot_cover(found),
        inputs=one.inputs,
        seed=seed,
        words=one_line,
        parameters={"method": method, "layer": cams.layer, **settings},
        about={"OverWords": summary},
        read={"network": one.name, "method": cams.method, "layer": cams.layer, **summary},
    )
