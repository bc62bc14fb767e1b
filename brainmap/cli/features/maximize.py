"""The command for maximizing patterns: features maximize."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brainmap import features, types, viz
from brainmap.checks import list_some
from brainmap.cli.features.options import (
    Hear,
    Listener,
    Store,
    add_listener_options,
    commands,
    note_origin,
    store_free,
)
from brainmap.cli.features.regions import join_networks, maximize_named_regions, write_regions
from brainmap.cli.options import (
    Jobs,
    Json,
    Overwrite,
    Picture,
    Seed,
    build_provenance,
    draw_figure,
    make_rng,
    print_files,
    print_table,
    split_names,
    write_tables,
)
from brainmap.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from brainmap.features.maximization.decoder import ChosenPrior

HOW = "How patterns are grown (defaults: of the audio preset)"
BOUNDS = "What holds patterns back (default: nothing but full scale)"
DIRECTION = "A direction in place of units"
DRAWS = 192
_GROWN = ("parameterization", "optimizer", "step_size", "stage", "objective", "diversity", "peak", "l1", "l2", "lp")
SHOWN = ("objective", "best_clip", "gain", "centroid_hz", "above_4khz", "confidence", "kept_after_25ms")
JUDGED = ("transfer", "random_transfer", "noise_transfer", "real_correlation", "voiced")
QUALITY = {
    "label": "class, direction, or layer and unit",
    "prior": "what held the pattern to sounds: a decoder, noise with the spectrum of the sounds (audio), or nothing",
    "best_random": "what the best of 192 random patterns of the prior reaches",
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
Words = Annotated[
    Path | None, typer.Option(help="Folder in which sounds are saved as WAV, with a table of their quality.")
]
Preset = Annotated[
    types.Preset | None,
    typer.Option(
        help="Set of defaults, in place of --prior: source is that of the source study; generative needs --decoder."
    ),
]
Steps = Annotated[
    int | None, typer.Option(min=1, help="Number of steps of gradient ascent; default: 200.", rich_help_panel=HOW)
]
Real = float | None


def make_option(help: str, panel: str, **more: Any) -> Any:
    """Make an option of a number, in a panel of the help."""
    return typer.Option(help=help, rich_help_panel=panel, **more)


@commands.command()
@add_listener_options
def maximize(
    hear: Hear,
    out: Store,
    layer: Annotated[str, typer.Option(help="Layer of the units: a name, or output for the classes.")] = "output",
    units: Annotated[str, typer.Option(help="Units: all, numbers from 0, or class names, parted by commas.")] = "all",
    wav: Words = None,
    figure: Picture = None,
    prior: Annotated[
        types.PatternPrior | None,
        make_option(
            "What holds patterns to sounds: the sounds' spectrum, a decoder of speech, or nothing; default: for words "
            "the decoder, and audio beside it, otherwise audio.",
            HOW,
        ),
    ] = None,
    judges: Annotated[
        str | None,
        typer.Option(
            help="Networks that judge patterns of classes: none, package (default), or checkpoints parted by commas."
        ),
    ] = None,
    preset: Preset = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="What is driven, in place of --layer and --units: conv3:12, output:zero, or roi:NAME, regions of an "
            "encoding model (--checkpoint); several by commas."
        ),
    ] = None,
    also: Annotated[
        str | None,
        typer.Option(
            help="Further networks of the same classes and input, or encoding models of the same regions, by commas: "
            "the mean of their outputs with that of --checkpoint is climbed."
        ),
    ] = None,
    toward: Annotated[str | None, make_option("Conditions whose mean the direction leads to.", DIRECTION)] = None,
    away: Annotated[str | None, make_option("Conditions it leads away from; default: all others.", DIRECTION)] = None,
    cosine_power: Annotated[
        Real,
        make_option(
            "Power of the cosine with the direction by which the objective is multiplied; default: 0.", DIRECTION, min=0
        ),
    ] = None,
    decoder: Annotated[
        str | None,
        make_option("Decoder as prior: words (the one that is shipped), or a .safetensors file.", HOW),
    ] = None,
    steps: Steps = None,
    step_size: Annotated[Real, make_option("Step in units of the free parameters; default: 2.", HOW)] = None,
    objective: Annotated[
        types.Objective | None,
        make_option("What is maximized; auto takes logit for the output and channel for other layers.", HOW),
    ] = None,
    stage: Annotated[
        types.Stage | None, make_option("Side of the nonlinearity that is maximized; default: after.", HOW)
    ] = None,
    optimizer: Annotated[types.Optimizer | None, make_option("Optimizer; default: gradient-rms.", HOW)] = None,
    parameterization: Annotated[
        types.Parameterization | None,
        make_option(
            "What is optimized; default: envelopes of noise for units that hear a whole sound, such as classes, else a "
            "spectrum; both are scaled as the sounds are.",
            HOW,
        ),
    ] = None,
    jitter_ms: Annotated[
        Real, make_option("Largest random shift in each step, in ms; default: 25.", HOW, min=0)
    ] = None,
    diversity: Annotated[
        Real, make_option("Weight of the term that pushes patterns of one unit apart.", HOW, min=0)
    ] = None,
    seeds: Annotated[
        int | None,
        make_option("Number of starts from different noise, of which the best is kept; default: 1.", HOW, min=1),
    ] = None,
    seed: Seed = 0,
    l1: Annotated[Real, make_option("Weight of the mean of |x|.", BOUNDS, min=0)] = None,
    l2: Annotated[Real, make_option("Weight of the mean of x^2.", BOUNDS, min=0)] = None,
    lp: Annotated[Real, make_option("Weight of the p-norm of x.", BOUNDS, min=0)] = None,
    lp_power: Annotated[Real, make_option("Power p of the p-norm, 1 or more; default: 6.", BOUNDS)] = None,
    total_variation: Annotated[Real, make_option("Weight of the mean of |x\\[t+1] - x\\[t]|.", BOUNDS, min=0)] = None,
    latent_l2: Annotated[Real, make_option("Weight that pulls the latent of a decoder to 0.", BOUNDS, min=0)] = None,
    low_hz: Annotated[Real, make_option("Lowest frequency of patterns, in Hz.", BOUNDS, min=0)] = None,
    high_hz: Annotated[Real, make_option("Highest frequency of patterns, in Hz.", BOUNDS, min=0)] = None,
    peak: Annotated[Real, make_option("Largest sample; patterns above it are scaled down; default: 1.", BOUNDS)] = None,
    jobs: Jobs = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Synthesize sounds that drive units of a layer most (activation maximization), as .zarr, WAV and a figure."""
    from brainmap.features.layers.inputs import find_longest_input
    from brainmap.features.maximization.decoder import describe_priors

    given = {name: value for name, value in locals().items() if name != "preset"}
    if preset is not None and prior is not None:
        raise InputError("--preset: says how patterns are grown, as --prior does; leave one of them out")
    regions: tuple[str, ...] = ()
    if target is not None:
        if (layer, units) != ("output", "all"):
            raise InputError("--target: is driven in place of --layer and --units; leave them out")
        layer, units, regions = _read_targets(target)
    settings = [make_settings(preset, given)] if preset else []
    store_free(out, "am", layer, overwrite)
    table = refuse_table(wav, f"{layer}_quality.tsv", overwrite)
    one = hear()
    if regions:
        found = maximize_named_regions(
            one,
            regions,
            _list_given(given),
            also=also,
            judges=judges,
            prior=prior,
            decoder=decoder,
            seed=seed,
            jobs=jobs,
        )
        write_regions(found, one, out, table, figure, seed=seed, as_json=as_json)
        return
    if wav is not None and find_longest_input(one.model) is not None:
        raise InputError(
            "--wav: gradients of the network end at its own spectrograms, which are maximized and are no sounds; leave "
            "--wav out"
        )
    climbed = [one.model]
    if also is not None:
        one, climbed = join_networks(one, split_names(also))
    of_classes = layer == "output" and toward is None and objective in (None, "auto", "logit")
    own_recipe = bool(preset) or any(given[name] is not None for name in _GROWN)
    chosen = _choose_priors(one, prior, decoder, automatic=of_classes and not own_recipe)
    settings = settings or [by.settings(**_list_given(given)) for by in chosen]
    patterns = []
    judging, notes = _load_judges(one, climbed, judges, of_classes)
    for recipe, by in zip(settings, chosen, strict=True):
        am = _maximize_layer(
            one,
            replace(recipe, draws=DRAWS) if of_classes else recipe,
            layer=layer,
            units=units,
            toward=toward,
            away=away,
            decoder=by.decoder,
            seed=seed,
            jobs=jobs,
        )
        patterns.append(_judge(am, judging, one, seed, jobs))
    quality = _save_patterns(patterns, out, one.name, table, figure, about=(settings[0], seed, one))
    note_origin(out, "am", one, layer)
    if as_json:
        print_table(quality, True)
        return
    print_table(quality[["label", *(c for c in ("prior", *SHOWN, *JUDGED) if c in quality)]], False)
    for note in dict.fromkeys([*notes, *(note for am in patterns for note in am.notes)]):
        typer.echo(f"note: {note}")
    if patterns[0].dead:
        typer.echo(f"note: units {list_some(patterns[0].dead)} never speak; maximized before the nonlinearity")
    told = f" ({describe_priors(chosen)})" if len(chosen) > 1 else ""
    where = f"; as WAV in {wav}" if wav else ""
    typer.echo(f"{out}: {len(patterns[0].units)} patterns of {layer}{told}{where}")
    print_files(figure)


def _read_targets(text: str) -> tuple[str, str, tuple[str, ...]]:
    """Return the layer and units that targets name, or the regions."""
    from brainmap.features.networks.targets import ROI, read_target

    asked = [read_target(part) for part in split_names(text)]
    if len({one.layer for one in asked}) > 1:
        raise InputError("--target: expected targets of one layer; drive the others by another command")
    names = tuple(one.unit for one in asked)
    if asked[0].layer == ROI:
        return "output", "all", names
    if any(one.pooling == "max" for one in asked):
        raise InputError("--target: :max is driven by --objective neuron; leave :max out")
    return asked[0].layer, ",".join(names), ()


def make_settings(preset: types.Preset, given: dict[str, Any]) -> features.MaximizationSettings:
    """Combine a preset with the options that are given."""
    return features.MaximizationSettings.of(preset, **_list_given(given))


def _list_given(given: dict[str, Any]) -> dict[str, Any]:
    return {f.name: given[f.name] for f in fields(features.MaximizationSettings) if given.get(f.name) is not None}


def _choose_priors(
    one: Listener, prior: types.PatternPrior | None, decoder: str | None, *, automatic: bool
) -> tuple[ChosenPrior, ...]:
    from brainmap.features.maximization.decoder import AUDIO, choose_priors

    if prior is None and decoder is None and not automatic:
        return (AUDIO,)
    fed = one.checkpoint
    return choose_priors(
        prior,
        decoder=decoder,
        class_names=one.classes or (),
        rate=fed.rate,
        n_samples=one.sounds.n_samples,
        on_waveforms=fed.front_end.is_waveform,
    )


def _load_judges(
    one: Listener, climbed: Sequence[nn.Module], judges: str | None, of_classes: bool
) -> tuple[tuple[features.Judge, ...], tuple[str, ...]]:
    """Load the networks that judge patterns of classes; by default those of brainmap, where they know a class."""
    if judges == "none" or (judges is None and not (of_classes and one.classes)):
        return (), ()
    if not of_classes or not one.classes:
        raise InputError("--judges: expected patterns of classes with names, got other units; leave it out")
    named = None if judges in (None, "package") else [Path(name) for name in split_names(judges)]
    found, notes = features.load_judges(named, climbed=climbed)
    if judges is None and not any(set(judge.checkpoint.classes) & set(one.classes) for judge in found):
        return (), ("not judged: the networks of brainmap know none of the classes; name others with --judges",)
    return found, notes


def _judge(
    am: features.Maximization, judging: tuple[features.Judge, ...], one: Listener, seed: int, jobs: int | None
) -> features.Maximization:
    """Let other networks judge patterns that can be heard."""
    if not judging or not am.can_be_heard:
        return am
    return features.judge_maximization(
        am, judging, sounds=one.sounds, rng=make_rng(seed), device=one.device, threads=jobs
    )


def refuse_table(wav: Path | None, name: str, overwrite: bool) -> Path | None:
    """Return the path of the table of sounds; one that exists is refused."""
    table = None if wav is None else wav / name
    if table is not None and table.exists() and not overwrite:
        raise InputError(f"--wav: {table} exists; say --overwrite or name another folder")
    return table


def _maximize_layer(
    one: Listener,
    settings: features.MaximizationSettings,
    *,
    layer: str,
    units: str,
    toward: str | None,
    away: str | None,
    decoder: nn.Module | None,
    seed: int,
    jobs: int | None,
) -> features.Maximization:

    directions = None
    if away is not None and toward is None:
        raise InputError("--away: leads away from conditions, to which? say --toward too")
    if toward is not None:
        found = features.condition_direction(
            one.model,
            one.sounds,
            layer=layer,
            toward=split_names(toward),
            away=None if away is None else split_names(away),
            device=one.device,
        )
        directions = {f"{toward}-{away}" if away else toward: found}
    return features.maximize_activation(
        one.model,
        layer=layer,
        units=one.units(layer, units),
        settings=settings,
        sounds=one.sounds,
        class_names=one.classes if layer == "output" and toward is None and settings.objective != "layer" else None,
        directions=directions,
        decoder=decoder,
        rng=make_rng(seed),
        device=one.device,
        threads=jobs,
    )


def _save_patterns(
    patterns: list[features.Maximization],
    out: Path,
    network: str,
    table: Path | None,
    figure: Path | None,
    *,
    about: tuple[features.MaximizationSettings, int, Listener],
) -> pd.DataFrame:
    """Store the patterns of one layer by one prior or several; return the table of their quality."""
    import pandas as pd

    from brainmap.features.representations.files import name_beside, save_maximization

    parts = []
    for at, am in enumerate(patterns):
        name = name_beside(am.layer, am.prior) if at else am.layer
        wavs = am.save_wav(table.parent, seconds=0.5, name=name) if table is not None else []
        save_maximization(am, out, network=network, wavs=[file.name for file in wavs], beside=at > 0)
        part = am.quality.copy()
        part.insert(0, "label", list(am.labels))
        part.insert(1, "prior", am.prior)
        parts.append(part)
    quality = pd.concat(parts, ignore_index=True)
    if table is not None:
        write_quality(quality, table, about)
    title = f"{network}: what drives {patterns[0].layer}"
    draw_figure(lambda: viz.plot_maximization(patterns, labels=patterns[0].labels, title=title), figure)
    return quality


def write_quality(table: pd.DataFrame, path: Path, about: tuple[features.MaximizationSettings, int, Listener]) -> None:
    """Write the table of the quality of patterns, with its sidecar."""
    from brainmap.features.evaluation.judges import JUDGED_COLUMNS

    settings, seed, one = about
    columns = {str(c): str(c).replace("_", " ") for c in table.columns} | {
        c: words for c, words in {**QUALITY, **JUDGED_COLUMNS}.items() if c in table
    }
    write_tables((path, table, columns, build_provenance(asdict(settings), one.inputs, seed=seed)))
