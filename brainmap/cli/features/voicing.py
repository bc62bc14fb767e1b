"""The command for attention to voiced and unvoiced sound: features voicing."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from brainmap import features, types, viz
from brainmap.cli.features.options import Hear, add_listener_options, commands
from brainmap.cli.options import Leave, Seed, add_output_options, make_rng

SHOWN = ["word", "n", "share", "expected", "effect", "low", "high", "p", "p_corrected"]


@commands.command()
@add_listener_options
@add_output_options
def voicing(
    hear: Hear,
    leave: Leave,
    layer: Annotated[str, typer.Option(help="Layer of the maps; its frames must be at most 20 ms apart.")] = "conv4",
    method: Annotated[types.VoicingMethod, typer.Option(help="Method of the maps.")] = "layer-cam",
    kind: Annotated[
        types.VoicingKind, typer.Option(help="Kind of sound whose share of attention is tested.")
    ] = "unvoiced",
    energy: Annotated[
        bool, typer.Option(help="Take the energy of frames into the expected share, as a covariate.")
    ] = True,
    alternative: Annotated[types.Alternative, typer.Option(help="Direction of the test.")] = "two-sided",
    correction: Annotated[types.WordCorrection, typer.Option(help="Correction for multiple tests over words.")] = "fdr",
    permutations: Annotated[
        int, typer.Option(min=99, help="Number of circular shifts of the null distribution.")
    ] = 4999,
    seed: Seed = 0,
) -> None:
    """Test by circular shifts whether a network attends more to unvoiced than to voiced sound, word by word."""
    from brainmap.features.attention.voiced_shares import WORD_COLUMNS

    one = hear()
    settings: dict[str, Any] = {
        "kind": kind,
        "energy": energy,
        "alternative": alternative,
        "correction": correction,
        "permutations": permutations,
    }
    found = features.attention_to_voicing(
        one.model,
        one.sounds,
        layer=layer,
        method=method,
        class_names=one.classes,
        device=one.device,
        rng=make_rng(seed),
        **settings,
    )
    up, heard = int((found.words["effect"] > 0).sum()), int((found.words["n"] > 0).sum())
    leave(
        found.words,
        WORD_COLUMNS,
        lambda: viz.plot_voiced_attention(one.sounds, found),
        inputs=one.inputs,
        parameters={"maps": found.source, **settings},
        seed=seed,
        shown=found.words[SHOWN],
        about={"AllWords": {"Effect": found.effect, "P": found.p}},
        words=f"{found.source}: {found.kind} sound gets {found.effect:+.3f} of the map more than expected "
        f"(p = {found.p:.2g}; more in {up} of {heard} words)",
    )
