"""The command for tuning curves of units: features tuning."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brainmap import features, types, viz
from brainmap.cli.features.options import Hear, Layers, Stage, add_listener_options, commands
from brainmap.cli.options import Leave, Seed, add_output_options, make_rng, read_numbers, split_names

if TYPE_CHECKING:
    import pandas as pd


@commands.command()
@add_listener_options
@add_output_options
def tuning(
    hear: Hear,
    leave: Leave,
    layers: Layers = "all",
    stimulus: Annotated[types.Stimulus, typer.Option(help="Kind of the test sounds.")] = "tone",
    lowest: Annotated[float, typer.Option(help="Lowest frequency, in Hz.")] = 60.0,
    highest: Annotated[float, typer.Option(help="Highest frequency, in Hz.")] = 7_600.0,
    spacing: Annotated[types.Spacing, typer.Option(help="Unit of the spacing between frequencies.")] = "octave",
    per_step: Annotated[int, typer.Option(min=1, help="Number of frequencies in each octave or ERB.")] = 12,
    levels: Annotated[
        str, typer.Option(help="Levels relative to that of the sounds, in dB, as in -20,-10,0.")
    ] = "-20,-10,0",
    duration: Annotated[
        float | None, typer.Option(help="Duration of a test sound, in s; default: half of a sound.")
    ] = None,
    ramp_ms: Annotated[
        float, typer.Option(min=0, help="Length of the ramps at both ends of a test sound, in ms.")
    ] = 10.0,
    noise_octaves: Annotated[float, typer.Option(help="Bandwidth of noise, in octaves.")] = 1 / 3,
    repeats: Annotated[
        int, typer.Option(min=1, help="Number of repeats, each with another phase or another sample of noise.")
    ] = 2,
    measure: Annotated[types.TuningMeasure, typer.Option(help="How frames of a response are pooled.")] = "mean",
    height: Annotated[
        float, typer.Option(help="Share of the peak response at which a band ends; 0.7071 is 3 dB.")
    ] = 0.7071,
    stage: Stage = "after",
    curves: Annotated[str | None, typer.Option(help="Layer whose tuning curves the figure shows.")] = None,
    seed: Seed = 0,
) -> None:
    """Measure the best frequency and bandwidth of every unit of layers with tones or bands of noise."""
    from brainmap.features.units.tuning import TUNING_COLUMNS, describe_tuning

    settings = features.TuningSettings(
        stimulus=stimulus,
        lowest_hz=lowest,
        highest_hz=highest,
        spacing=spacing,
        per_step=per_step,
        levels_db=read_numbers(levels, "--levels"),
        seconds=duration,
        ramp_ms=ramp_ms,
        noise_octaves=noise_octaves,
        repeats=repeats,
        measure=measure,
        height=height,
    )
    one = hear()
    found = features.measure_tuning(
        one.model,
        one.sounds,
        layers=split_names(layers),
        settings=settings,
        stage=stage,
        rng=make_rng(seed),
        device=one.device,
    )
    make = (
        functools.partial(viz.plot_tuning, found)
        if curves is None
        else functools.partial(viz.plot_tuning_curves, found, curves)
    )
    leave(
        found.table,
        TUNING_COLUMNS,
        make,
        inputs=one.inputs,
        parameters={**describe_tuning(found), "stage": stage},
        seed=seed,
        shown=_summarize_layers(found),
        rows=found.table,
    )


def _summarize_layers(found: Any) -> pd.DataFrame:
    """Summarize the tuning of the units of each layer at the highest level."""
    import pandas as pd

    loudest = found.table[found.table["level_db"] == max(found.settings.levels_db)]
    rows = []
    for layer in found.layers:
        mine = loudest[loudest["layer"] == layer]
        shapes = mine["shape"].value_counts()
        passing = [s for s in ("band-pass", "low-pass", "high-pass") if s in shapes]
        rows.append(
            {
                "layer": layer,
                "units": len(mine),
                "tuned": int(shapes[passing].sum()),
                "untuned": int(shapes.get("untuned", 0)),
                "suppressed": int(shapes.get("suppressed", 0)),
                "unresponsive": int(shapes.get("unresponsive", 0)),
                "dead": int(shapes.get("dead", 0)),
                "median_best_hz": mine["best_hz"].median(),
                "median_octaves": mine["octaves"].median(),
                "frames": found.frames[layer],
            }
        )
    return pd.DataFrame(rows)
