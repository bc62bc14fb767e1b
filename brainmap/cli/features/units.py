"""Commands for what units and layers prefer: features filters, tuning, spectra, exemplars, neighbors, embed."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brainmap import types
from brainmap.cli.features.activations import commands
from brainmap.cli.features.listening import Hear, Listener, listening
from brainmap.cli.options import Overwrite, Seed, names
from brainmap.cli.outputs import Leave, leaving
from brainmap.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

Layers = Annotated[str, typer.Option(help="all, last-conv, or names and patterns: conv1,conv4 or 'conv*'.")]
Stage = Annotated[types.Stage, typer.Option(help="Side of the nonlinearity that is read.")]


@commands.command()
@listening
@leaving
def filters(
    hear: Hear,
    leave: Leave,
    layer: Annotated[str, typer.Option(help="first, or a layer with nothing nonlinear before it.")] = "first",
) -> None:
    """Frequency responses of the first layer's filters: best frequency and bandwidth of each, sorted."""
    from brainmap.features.units.filters import FILTER_COLUMNS, layer_filters
    from brainmap.viz.features.units import plot_filters

    one = hear()
    found = layer_filters(one.model, one.sounds, layer=layer, device=one.device)
    table = found.table.iloc[found.order][list(FILTER_COLUMNS)]
    leave(
        table,
        FILTER_COLUMNS,
        lambda: plot_filters(found),
        inputs=[one.path],
        parameters={"layer": found.layer, "rate": found.rate, "stride": found.stride},
        shown=table.drop(columns=["layer", "offset"]),
        rows=table,
    )


@commands.command()
@listening
@leaving
def tuning(
    hear: Hear,
    leave: Leave,
    layers: Layers = "all",
    stimulus: Annotated[types.Stimulus, typer.Option(help="What units hear.")] = "tone",
    lowest: Annotated[float, typer.Option(help="Lowest frequency, in Hz.")] = 60.0,
    highest: Annotated[float, typer.Option(help="Highest frequency, in Hz.")] = 7_600.0,
    spacing: Annotated[types.Spacing, typer.Option(help="Between frequencies.")] = "octave",
    per_step: Annotated[int, typer.Option(min=1, help="Frequencies an octave, or an ERB.")] = 12,
    levels: Annotated[str, typer.Option(help="Against the sounds' level, in dB: -20,-10,0")] = "-20,-10,0",
    duration: Annotated[float | None, typer.Option(help="Of a stimulus, in s; default: half of the sound.")] = None,
    ramp_ms: Annotated[float, typer.Option(min=0)] = 10.0,
    noise_octaves: Annotated[float, typer.Option(help="Width of the noise.")] = 1 / 3,
    repeats: Annotated[int, typer.Option(min=1, help="Phases of tones, samples of noise.")] = 2,
    measure: Annotated[types.TuningMeasure, typer.Option(help="How frames are pooled.")] = "mean",
    height: Annotated[float, typer.Option(help="Of the peak, where a band ends: 0.707 is 3 dB.")] = 0.7071,
    stage: Stage = "after",
    curves: Annotated[str | None, typer.Option(help="A layer: the figure shows its units' tuning curves.")] = None,
    seed: Seed = 0,
) -> None:
    """Best frequency and bandwidth of every unit of any layer, by tones or bands of noise."""
    import numpy as np

    from brainmap.features.units.tuning import TUNING_COLUMNS, TuningSettings, describe_tuning, measure_tuning
    from brainmap.viz.features.units import plot_tuning, plot_tuning_curves

    settings = TuningSettings(
        stimulus=stimulus,
        lowest_hz=lowest,
        highest_hz=highest,
        spacing=spacing,
        per_step=per_step,
        levels_db=_numbers(levels, "--levels"),
        seconds=duration,
        ramp_ms=ramp_ms,
        noise_octaves=noise_octaves,
        repeats=repeats,
        measure=measure,
        height=height,
    )
    one = hear()
    found = measure_tuning(
        one.model,
        one.sounds,
        layers=names(layers),
        settings=settings,
        stage=stage,
        rng=np.random.default_rng(seed),
        device=one.device,
    )
    make = (
        functools.partial(plot_tuning, found)
        if curves is None
        else functools.partial(plot_tuning_curves, found, curves)
    )
    leave(
        found.table,
        TUNING_COLUMNS,
        make,
        inputs=[one.path],
        parameters={**describe_tuning(found), "stage": stage},
        seed=seed,
        shown=_by_layer(found),
        rows=found.table,
    )


def _numbers(text: str, option: str) -> list[float]:
    try:
        return [float(part) for part in names(text)]
    except ValueError:
        raise InputError(f"{option}: found {text!r}, wanted numbers parted by commas, as in -20,-10,0") from None


def _by_layer(found: Any) -> pd.DataFrame:
    """Summarize what the units of each layer do at the highest level."""
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


@commands.command()
@leaving
def spectra(
    store: Annotated[Path, typer.Argument(metavar="STORE.zarr", help="As `brainmap features maximize` writes it.")],
    leave: Leave,
    layer: Annotated[str, typer.Option(help="Whose maximizing patterns.")] = "output",
) -> None:
    """Spectra of maximizing patterns, sorted by their peak frequency."""
    from brainmap.checks import one_of
    from brainmap.features.representations.files import open_maximizations
    from brainmap.features.units.filters import FILTER_COLUMNS, pattern_spectra
    from brainmap.viz.features.units import plot_spectra

    kept = open_maximizations(store)
    patterns = kept[one_of(layer, list(kept), "--layer")]
    found = pattern_spectra(patterns)
    table = found.table.iloc[found.order]
    columns = {
        **FILTER_COLUMNS,
        "label": "class, or layer and unit",
        "best_hz": "frequency of the largest power [Hz]",
        "peak": "that power, smoothed over a sixth of an octave",
        "low_hz": "lower edge of the band, where the power is half [Hz]",
        "bands": "how many separate bands reach half of the largest power",
    }
    title = f"Spectra of what maximizes {layer}, by their peaks (dots)"
    leave(
        table,
        columns,
        lambda: plot_spectra(found, title=title),
        inputs=[],
        parameters={"store": str(store), "layer": layer},
    )


@commands.command()
@listening
@leaving
def exemplars(
    hear: Hear,
    leave: Leave,
    layer: Annotated[str, typer.Option(help="A layer, last-conv, or output for the classes.")] = "last-conv",
    units: Annotated[str, typer.Option(help="all, numbers from 0, or class names, parted by commas.")] = "all",
    k: Annotated[int, typer.Option("--k", min=1, help="Crops a unit.")] = 9,
    per_sound: Annotated[int, typer.Option(min=1, help="At most so many of one sound.")] = 1,
    inside: Annotated[bool, typer.Option("--inside", help="Only fields that lie within the sound.")] = False,
    own_class: Annotated[bool, typer.Option("--own-class", help="Of the output: only sounds of that class.")] = False,
    stage: Stage = "after",
    wav: Annotated[Path | None, typer.Option(help="A folder for the crops as WAV.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """The stretches of sounds that drive units most, with their times, as a table and WAV."""
    from brainmap.features.units.exemplars import EXEMPLAR_COLUMNS, find_exemplars
    from brainmap.viz.features.exemplars import plot_exemplars

    if wav is not None and wav.exists() and any(wav.iterdir() if wav.is_dir() else [wav]) and not overwrite:
        raise InputError(f"--wav: {wav} exists; say --overwrite or name another folder")
    one = hear()
    found = find_exemplars(
        one.model,
        one.sounds,
        layer=layer,
        units=one.units(layer, units),
        k=k,
        per_sound=per_sound,
        inside=inside,
        own_class=own_class,
        class_names=one.classes,
        stage=stage,
        device=one.device,
    )
    parameters = {
        "layer": found.layer,
        "k": k,
        "per_sound": per_sound,
        "inside": inside,
        "own_class": own_class,
        "stage": stage,
        "dead": list(found.dead),
    }
    if wav is not None:
        found.save_wav(wav, seconds=0.5)
    best = found.table[found.table["rank"] == 1].drop(columns=["layer", "rank", "frame"])
    heard = "" if wav is None else f"{wav}: {len(found.crops)} sounds, each repeated to half a second"
    leave(
        found.table,
        EXEMPLAR_COLUMNS,
        lambda: plot_exemplars(found),
        inputs=[one.path],
        parameters=parameters,
        shown=best,
        rows=found.table,
        words=heard,
    )


def _activations(one: Listener, layers: str) -> Any:
    from brainmap.features.activations.extract import extract_activations

    return extract_activations(one.model, one.sounds, layers=names(layers), device=one.device, network=one.name)


@commands.command()
@listening
@leaving
def neighbors(
    hear: Hear,
    leave: Leave,
    layers: Layers = "all",
    k: Annotated[int, typer.Option("--k", min=1, help="Neighbors of a sound.")] = 5,
    metric: Annotated[types.SoundMetric, typer.Option(help="Distance of two sounds.")] = "correlation",
) -> None:
    """Nearest neighbors of every sound in layers (time averages) and as waveforms, and how many share its word."""
    from brainmap.features.units.nearest_sounds import NEIGHBOR_COLUMNS, nearest_neighbors
    from brainmap.viz.features.exemplars import plot_neighbors

    one = hear()
    found = nearest_neighbors(_activations(one, layers), one.sounds, k=k, metric=metric)
    overall = found.precision[found.precision["condition"] == "all"].drop(columns="condition")
    leave(
        found.table,
        NEIGHBOR_COLUMNS,
        lambda: plot_neighbors(found, one.sounds),
        inputs=[one.path],
        parameters={"k": k, "metric": metric, "layers": layers},
        shown=overall,
        rows=found.precision,
    )


@commands.command()
@listening
@leaving
def embed(
    hear: Hear,
    leave: Leave,
    layers: Layers = "all",
    method: Annotated[types.EmbeddingMethod, typer.Option(help="How dimensions are reduced.")] = "pca",
    components: Annotated[int, typer.Option(min=1)] = 2,
    units: Annotated[types.EmbeddingUnits, typer.Option(help="Whether units are z-scored over sounds.")] = "zscore",
    perplexity: Annotated[float, typer.Option(help="Of t-SNE; below the number of sounds.")] = 30.0,
    seed: Seed = 0,
) -> None:
    """Sounds as points, by principal components or t-SNE of layers (time averages)."""
    import numpy as np
    import pandas as pd

    from brainmap.features.units.embedding import embed as embed_layer
    from brainmap.viz.features.embedding import plot_embedding

    one = hear()
    acts = _activations(one, layers)
    found = [
        embed_layer(
            acts,
            layer=layer,
            method=method,
            n_components=components,
            units=units,
            perplexity=perplexity,
            rng=np.random.default_rng(seed),
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
        table, columns, lambda: plot_embedding(found), inputs=[one.path], parameters=parameters, seed=seed, shown=about
    )
