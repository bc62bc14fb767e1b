"""Commands for activation maximization: features maximize, metamers, saturation, compare-patterns."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brainmap import types
from brainmap.cli.features.activations import commands
from brainmap.cli.features.listening import Figure, Hear, Listener, Store, listening, store_free
from brainmap.cli.options import FORMATS, Jobs, Json, Overwrite, Seed, free, names, provenance, said, save_figure, show
from brainmap.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from brainmap.features.maximization.maximize import MaximizationSettings

HOW = "How patterns are grown (defaults: of the audio preset)"
BOUNDS = "What holds patterns back (default: nothing but full scale)"
DIRECTION = "A direction in place of units"
SHOWN = ("objective", "best_clip", "gain", "centroid_hz", "above_4khz", "confidence", "kept_after_25ms")
QUALITY = {
    "label": "class, direction, or layer and unit",
    "unit": "unit of the layer",
    "class_name": "class or direction",
    "stage": "side of the nonlinearity that was maximized",
    "dead": "never positive on the sounds and on noise",
    "objective": "what the pattern reaches",
    "best_clip": "what the best of the sounds reaches",
    "gain": "objective over best_clip",
    "centroid_hz": "spectral centroid of the pattern [Hz]",
    "bandwidth_hz": "spectral bandwidth of the pattern [Hz]",
    "above_4khz": "share of the energy above 4 kHz",
    "sounds_centroid_hz": "spectral centroid of the sounds [Hz]",
    "sounds_bandwidth_hz": "spectral bandwidth of the sounds [Hz]",
    "sounds_above_4khz": "share of the sounds' energy above 4 kHz",
    "confidence": "probability of the class when the pattern is played back in 16 bits",
    "kept_after_25ms": "share of the objective that is left after a shift of 25 ms, mean of both ways",
    "kept_at_minus_6db": "share of the objective that is left at -6 dB",
    "seed_correlation": "highest circular cross-correlation of patterns from different noise, mean over pairs",
    "seed_spectrum_correlation": "correlation of their amplitude spectra, mean over pairs",
}
Words = Annotated[Path | None, typer.Option(help="A folder for the sounds as WAV and their table.")]
Preset = Annotated[types.Preset, typer.Option(help="source: the source study's; generative goes with --decoder.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Of gradient ascent; 200.", rich_help_panel=HOW)]
Real = float | None


def _number(help: str, panel: str, **more: Any) -> Any:
    return typer.Option(help=help, rich_help_panel=panel, **more)


@commands.command()
@listening
def maximize(
    hear: Hear,
    out: Store,
    layer: Annotated[str, typer.Option(help="A layer, or output for the classes.")] = "output",
    units: Annotated[str, typer.Option(help="all, numbers from 0, or class names, parted by commas.")] = "all",
    wav: Words = None,
    figure: Figure = None,
    preset: Preset = "audio",
    toward: Annotated[str | None, _number("Conditions whose mean it leads to.", DIRECTION)] = None,
    away: Annotated[str | None, _number("Conditions it leads away from; default: all others.", DIRECTION)] = None,
    cosine_power: Annotated[Real, _number("How much the direction alone counts.", DIRECTION, min=0)] = None,
    decoder: Annotated[str | None, _number("words (the one that is shipped), or its .safetensors.", HOW)] = None,
    steps: Steps = None,
    step_size: Annotated[Real, _number("In units of the free parameters; 2.", HOW)] = None,
    objective: Annotated[types.Objective | None, _number("auto: logit or channel.", HOW)] = None,
    stage: Annotated[types.Stage | None, _number("Side of the nonlinearity; default: after.", HOW)] = None,
    optimizer: Annotated[types.Optimizer | None, _number("gradient-rms (default) or adam.", HOW)] = None,
    parameterization: Annotated[
        types.Parameterization | None, _number("What is free; default: spectrum (of the sounds).", HOW)
    ] = None,
    jitter_ms: Annotated[Real, _number("Largest shift in each step, in ms; 25.", HOW, min=0)] = None,
    diversity: Annotated[Real, _number("Pushes the seeds of a unit apart.", HOW, min=0)] = None,
    seeds: Annotated[int | None, _number("Starts from different noise, the best is kept; 1.", HOW, min=1)] = None,
    seed: Seed = 0,
    l1: Annotated[Real, _number("Weight of mean |x|.", BOUNDS, min=0)] = None,
    l2: Annotated[Real, _number("Weight of mean x^2.", BOUNDS, min=0)] = None,
    lp: Annotated[Real, _number("Weight of the p-norm.", BOUNDS, min=0)] = None,
    lp_power: Annotated[Real, _number("Its p, 1 or more; 6.", BOUNDS)] = None,
    total_variation: Annotated[Real, _number("Weight of mean |x\\[t+1] - x\\[t]|.", BOUNDS, min=0)] = None,
    latent_l2: Annotated[Real, _number("Pull of a decoder's latent to 0.", BOUNDS, min=0)] = None,
    low_hz: Annotated[Real, _number("Lowest frequency, in Hz.", BOUNDS, min=0)] = None,
    high_hz: Annotated[Real, _number("Highest frequency, in Hz.", BOUNDS, min=0)] = None,
    peak: Annotated[Real, _number("Largest sample, patterns beyond are scaled down; 1.", BOUNDS)] = None,
    jobs: Jobs = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Sounds that drive units of a layer most (activation maximization), as .zarr, WAV and a picture."""
    settings = _settings("generative" if decoder and preset == "audio" else preset, locals())
    store_free(out, "am", layer, overwrite)
    free(figure, overwrite, option="--figure", kinds=FORMATS)
    table = _table_free(wav, f"{layer}_quality.tsv", overwrite)
    one = hear()
    am = _maximized(
        one, settings, layer=layer, units=units, toward=toward, away=away, decoder=decoder, seed=seed, jobs=jobs
    )
    _keep(am, out, one.name, table, figure, about=(settings, seed, one.path))
    quality = am.quality.assign(label=list(am.labels))
    if as_json:
        show(quality[["label", *am.quality.columns]], True)
        return
    show(quality[["label", *(c for c in SHOWN if c in quality)]], False)
    for note in am.notes:
        typer.echo(f"note: {note}")
    if am.dead:
        typer.echo(f"note: units {', '.join(map(str, am.dead))} never speak; maximized before the nonlinearity")
    typer.echo(f"{out}: {len(am.units)} patterns of {layer}" + (f"; as WAV in {wav}" if wav else ""))
    said(figure)


def _settings(preset: types.Preset, given: dict[str, Any]) -> MaximizationSettings:
    """A preset with what was said beside it."""
    from dataclasses import fields

    from brainmap.features.maximization.maximize import MaximizationSettings

    said = {f.name: given[f.name] for f in fields(MaximizationSettings) if given.get(f.name) is not None}
    return MaximizationSettings.of(preset, **said)


def _table_free(wav: Path | None, name: str, overwrite: bool) -> Path | None:
    table = None if wav is None else wav / name
    if table is not None and table.exists() and not overwrite:
        raise InputError(f"--wav: {table} exists; say --overwrite or name another folder")
    return table


def _maximized(
    one: Listener,
    settings: MaximizationSettings,
    *,
    layer: str,
    units: str,
    toward: str | None,
    away: str | None,
    decoder: str | None,
    seed: int,
    jobs: int | None,
) -> Any:
    import numpy as np

    from brainmap.features.maximization.decoder import load_decoder
    from brainmap.features.maximization.directions import condition_direction
    from brainmap.features.maximization.maximize import maximize_activation

    directions = None
    if away is not None and toward is None:
        raise InputError("--away: leads away from conditions, to which? say --toward too")
    if toward is not None:
        found = condition_direction(
            one.model,
            one.sounds,
            layer=layer,
            toward=names(toward),
            away=None if away is None else names(away),
            device=one.device,
        )
        directions = {f"{toward}-{away}" if away else toward: found}
    prior = None if decoder is None else load_decoder(None if decoder == "words" else decoder)
    return maximize_activation(
        one.model,
        layer=layer,
        units=one.units(layer, units),
        settings=settings,
        sounds=one.sounds,
        class_names=one.classes if layer == "output" and toward is None and settings.objective != "layer" else None,
        directions=directions,
        decoder=prior,
        rng=np.random.default_rng(seed),
        device=one.device,
        threads=jobs,
    )


def _keep(
    am: Any,
    out: Path,
    network: str,
    table: Path | None,
    figure: Path | None,
    *,
    about: tuple[MaximizationSettings, int, Path],
) -> None:
    from brainmap.features.representations.files import save_maximization
    from brainmap.viz.features.sounds import plot_maximization

    wavs = am.save_wav(table.parent, seconds=0.5) if table is not None else []
    save_maximization(am, out, network=network, wavs=[file.name for file in wavs])
    if table is not None:
        quality = am.quality.assign(label=list(am.labels))[["label", *am.quality.columns]]
        _write(quality, table, about)
    if figure is not None:
        save_figure(plot_maximization(am, labels=am.labels, title=f"{network}: what drives {am.layer}"), figure)


def _write(table: pd.DataFrame, path: Path, about: tuple[MaximizationSettings, int, Path]) -> None:
    from brainmap.record import write_table

    settings, seed, checkpoint = about
    columns = {str(c): str(c).replace("_", " ") for c in table.columns} | {
        c: words for c, words in QUALITY.items() if c in table
    }
    write_table(table, path, columns=columns, about=provenance(asdict(settings), [checkpoint], seed=seed))


@commands.command()
@listening
def metamers(
    hear: Hear,
    out: Store,
    layer: Annotated[str, typer.Option(help="The layer that shall not tell them apart.")],
    items: Annotated[str | None, typer.Option(help="stimulus_ids to match; default: the first of each word.")] = None,
    wav: Words = None,
    figure: Figure = None,
    steps: Steps = None,
    step_size: Annotated[Real, _number("In units of the free parameters; 0.1.", HOW)] = None,
    optimizer: Annotated[types.Optimizer | None, _number("gradient-rms or adam (default).", HOW)] = None,
    parameterization: Annotated[
        types.Parameterization | None, _number("What is free; default: spectrum (of the sounds).", HOW)
    ] = None,
    seed: Seed = 0,
    jobs: Jobs = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Noise changed until a layer hears it as a given sound (model metamers), as .zarr, WAV and a picture."""
    import numpy as np

    from brainmap.features.activations import store as stores
    from brainmap.features.maximization.metamers import match_activation

    settings = _settings("metamer", locals())
    store_free(out, "metamer", layer, overwrite)
    free(figure, overwrite, option="--figure", kinds=FORMATS)
    table = _table_free(wav, f"{layer}_metamers.tsv", overwrite)
    one = hear()
    known = one.sounds.items
    first = [known[one.sounds.conditions.index(c)] for c in one.sounds.class_names]
    found = match_activation(
        one.model,
        one.sounds,
        layer=layer,
        items=names(items) if items else first,
        settings=settings,
        class_names=one.classes,
        rng=np.random.default_rng(seed),
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
    if wav is not None and table is not None:
        found.save_wav(wav)
        _write(found.table, table, (settings, seed, one.path))
    if figure is not None:
        from brainmap.viz.features.maximization import plot_metamers

        save_figure(plot_metamers(found, title=f"{one.name}: metamers of {layer}"), figure)
    show(found.table, as_json)
    if not as_json:
        typer.echo(f"{out}: {len(found.items)} metamers of {layer}, {int(found.table['matched'].sum())} matched")
        said(figure)


@commands.command()
@listening
def saturation(
    hear: Hear,
    figure: Annotated[Path, typer.Option("--figure", help="The picture: .png, .svg or .pdf.")],
    units: Annotated[str, typer.Option(help="all, numbers from 0, or class names, parted by commas.")] = "all",
    preset: Preset = "source",
    steps: Steps = None,
    seed: Seed = 0,
    jobs: Jobs = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Why logits are maximized: classes climbed by softmax and by logit, step by step, as a picture."""
    import numpy as np

    from brainmap.features.maximization.saturation import softmax_saturation
    from brainmap.viz.features.maximization import plot_softmax_saturation

    settings = _settings(preset, locals())
    free(figure, overwrite, option="--figure", kinds=FORMATS)
    one = hear()
    found = softmax_saturation(
        one.model,
        units=one.units("output", units),
        settings=settings,
        sounds=one.sounds,
        class_names=one.classes,
        rng=np.random.default_rng(seed),
        device=one.device,
        threads=jobs,
    )
    save_figure(plot_softmax_saturation(found, title=one.name), figure)
    show(found.table, as_json)
    if not as_json:
        said(figure)


def _networks(stores: list[Path]) -> list[str]:
    """The networks whose patterns stores hold; the stores' own names where two are of one network."""
    from brainmap.features.representations.files import stored_network

    known = [stored_network(path, "am") or path.stem for path in stores]
    return known if len(set(known)) == len(known) else [path.stem for path in stores]


@commands.command("compare-patterns")
def compare(
    stores: Annotated[list[Path], typer.Argument(help="Two or more .zarr stores of `brainmap features maximize`.")],
    layer: Annotated[str, typer.Option(help="A layer whose units are the same in all networks.")] = "output",
    called: Annotated[str | None, typer.Option("--names", help="By store; default: those of the networks.")] = None,
    table: Annotated[Path | None, typer.Option(help="Noise of every pattern, as .tsv.")] = None,
    figure: Figure = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Patterns of the same classes in several networks: how alike their spectra are, and how noisy each is."""
    from brainmap.checks import one_of
    from brainmap.features.maximization.comparison import compare_patterns
    from brainmap.features.representations.files import open_maximizations
    from brainmap.record import write_table

    free(figure, overwrite, option="--figure", kinds=FORMATS)
    free(table, overwrite, option="--table", kinds=(".tsv",))
    networks = names(called) if called else _networks(stores)
    if len(networks) != len(stores) or len(set(networks)) != len(networks):
        raise InputError(f"--names: {', '.join(networks)} for {len(stores)} stores; give each a name of its own")
    held = {name: open_maximizations(path) for name, path in zip(networks, stores, strict=True)}
    found = compare_patterns({name: one[one_of(layer, list(one), "--layer")] for name, one in held.items()})
    if table is not None:
        columns = {str(c): str(c).replace("_", " ") for c in found.table.columns}
        write_table(found.table, table, columns=columns, about=provenance({"layer": layer}, []))
    if figure is not None:
        from brainmap.viz.features.maximization import plot_pattern_comparison

        save_figure(plot_pattern_comparison(found), figure)
    if as_json:
        parts = {"pairs": found.pairs, "patterns": found.table}
        typer.echo(json.dumps({k: json.loads(v.to_json(orient="records")) for k, v in parts.items()}, indent=2))
        return
    show(found.table.groupby("network", sort=False).mean(numeric_only=True).reset_index(), False)
    typer.echo()
    show(found.pairs, False)
