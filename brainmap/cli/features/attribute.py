"""The command `features attribute`: what each moment and band of a sound does to a class, by several methods."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from brainmap import features, types, viz
from brainmap.cli.features.options import (
    Hear,
    ItemsOption,
    Store,
    TargetsOption,
    add_listener_options,
    choose_items,
    commands,
    find_listener_targets,
    note_origin,
    store_free,
)
from brainmap.cli.options import (
    Json,
    Overwrite,
    Picture,
    Seed,
    check_names,
    make_rng,
    print_files,
    save_figure,
    split_names,
)
from brainmap.errors import InputError

METHODS = f"Methods parted by commas: {', '.join(get_args(types.AttributionMethod))}."
OF_METHODS = "Settings of methods"


@commands.command()
@add_listener_options
def attribute(
    hear: Hear,
    out: Store,
    method: Annotated[
        str,
        typer.Option(parser=check_names(types.AttributionMethod, "--method"), metavar="METHOD,...", help=METHODS),
    ] = "integrated-gradients",
    classes: Annotated[
        str, typer.Option(help="Classes that are explained: predicted, true, all, or names parted by commas.")
    ] = "predicted",
    target: TargetsOption = None,
    layer: Annotated[
        str | None,
        typer.Option(help="guided-grad-cam: layer of the map; default: last-conv.", rich_help_panel=OF_METHODS),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="integrated-gradients: steps of the integral.", rich_help_panel=OF_METHODS)
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            help="smoothgrad: noisy copies; lime: perturbed copies of each sound.", rich_help_panel=OF_METHODS
        ),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(
            help="smoothgrad: standard deviation of the noise, as a share of the range of the sound.",
            rich_help_panel=OF_METHODS,
        ),
    ] = None,
    rules: Annotated[
        str | None, typer.Option(help="lrp: named set of rules: epsilon-plus, epsilon, ...", rich_help_panel=OF_METHODS)
    ] = None,
    segments: Annotated[
        int | None, typer.Option(help="lime: number of segments of each sound.", rich_help_panel=OF_METHODS)
    ] = None,
    window_ms: Annotated[
        float | None,
        typer.Option(
            help="occlusion: length of the window, in ms; 0 occludes whole sounds, one band at a time.",
            rich_help_panel=OF_METHODS,
        ),
    ] = None,
    step_ms: Annotated[
        float | None,
        typer.Option(
            help="occlusion: step from window to window, in ms; default: half a window.", rich_help_panel=OF_METHODS
        ),
    ] = None,
    bands: Annotated[
        str | None,
        typer.Option(
            help="occlusion: frequency bands: mel, octave, or edges in Hz such as 0,500,2000.",
            rich_help_panel=OF_METHODS,
        ),
    ] = None,
    seed: Seed = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Number of sounds in a batch.")] = 8,
    figure: Picture = None,
    view: Annotated[
        types.RelevanceView | None,
        typer.Option(
            help="Figure of one method: its map painted over the waveform or the spectrogram, and the scores of the "
            "classes; default: one row for each method."
        ),
    ] = None,
    colormap: Annotated[
        str | None, typer.Option(help="Colormap of --view: a diverging one of matplotlib, such as seismic.")
    ] = None,
    items: ItemsOption = None,
    wav: Annotated[
        Path | None,
        typer.Option(help="Folder for the sounds in which all that is no evidence for the class is attenuated."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Attribute classes, units or regions to each moment of each sound, by one or several methods, as .zarr."""
    from brainmap.features.networks.targets import is_readout
    from brainmap.features.representations.files import save_attributions

    given = {
        "steps": steps,
        "samples": samples,
        "noise": noise,
        "rules": rules,
        "segments": segments,
        "window_ms": window_ms,
        "step_ms": step_ms,
        "bands": _read_bands(bands),
    }
    chosen = _sort_settings(split_names(method), {key: value for key, value in given.items() if value is not None})
    if layer is not None and "guided-grad-cam" not in chosen:
        raise InputError("--layer: only guided-grad-cam takes a layer; leave it out")
    if target is not None and classes != "predicted":
        raise InputError("--target: is explained in place of --classes; leave one of them out")
    if (view or colormap or items) and figure is None:
        raise InputError("--view, --colormap, --items: describe a figure; name it with --figure")
    if view is not None and len(chosen) > 1:
        raise InputError(f"--view: shows one method, got {', '.join(chosen)}; name one, or leave --view out")
    if colormap is not None and view is None:
        raise InputError("--colormap: is that of --view; say waveform or spectrogram")
    for one in chosen:
        store_free(out, "attribution", one, overwrite)
    heard = hear()
    shown = choose_items(heard.sounds, items, 12 if view else 3) if figure is not None else []
    wanted: Any = classes if classes in ("predicted", "true", "all") else split_names(classes)
    model, names = heard.model, heard.classes
    if target is not None:
        found_targets = find_listener_targets(heard, target)
        model, names, wanted = found_targets.model, found_targets.class_names, list(found_targets.chosen)
        layer = None if layer is None else found_targets.name_layer(layer)

    def attribute(sounds: features.Sounds, one: str) -> features.Attributions:
        return features.attribute(
            model,
            sounds,
            method=one,
            classes=wanted,
            class_names=names,
            layer=layer if one == "guided-grad-cam" else None,
            batch_size=batch_size,
            device=heard.device,
            rng=make_rng(seed),
            **chosen[one],
        )

    for one in chosen if len(chosen) > 1 and len(heard.sounds) > 1 else ():
        attribute(heard.sounds.take([0]), one)  # a method that the network refuses is told before others are computed
    results = []
    for one in chosen:
        found = attribute(heard.sounds, one)
        save_attributions(found, out, align=heard.checkpoint.align, network=heard.name)
        note_origin(out, "attribution", heard, found.method)
        results.append(found)
    if model is heard.model:
        heard.say_understanding()
    if figure is not None:
        rule = f" (LRP by {rules or 'epsilon-plus'})" if "lrp" in chosen else ""
        title = f"{heard.name}: what each moment does to {target or 'the class'}{rule}"
        scores: types.ScoreKind = "probability" if model is heard.model and not is_readout(model) else "value"
        _draw_attributions(
            heard.sounds, results, figure, shown=shown, view=view, colormap=colormap, scores=scores, title=title
        )
    if wav is not None:
        _save_heard(heard.sounds, results, wav, overwrite)
    _print_methods([_summarize_attributions(found) for found in results], out, figure, as_json)


def _read_bands(text: str | None) -> Any:
    if text is None or text in ("mel", "octave"):
        return text
    try:
        return [float(edge) for edge in split_names(text)]
    except ValueError:
        raise InputError(f"--bands: expected mel, octave, or edges in Hz such as 0,500,2000, got {text!r}") from None


def _sort_settings(methods: list[str], given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Sort settings by the methods that take them; a setting that no method takes is refused."""
    from brainmap.features.attribution.methods import METHODS as KNOWN

    if given.get("window_ms") == 0:
        given["window_ms"] = None
    known: Mapping[str, Any] = KNOWN
    taken = {m: {f.name for f in fields(known[m])} for m in methods}
    for key in given:
        if not any(key in settings for settings in taken.values()):
            raise InputError(f"--{key.replace('_', '-')}: not a setting of {', '.join(methods)}; leave it out")
    return {m: {key: value for key, value in given.items() if key in settings} for m, settings in taken.items()}


def _draw_attributions(
    sounds: features.Sounds,
    results: list[features.Attributions],
    out: Path,
    *,
    shown: list[int],
    view: types.RelevanceView | None,
    colormap: str | None,
    scores: types.ScoreKind,
    title: str,
) -> None:
    if view is not None:
        title = f"{title}, {results[0].method}"
        figure = viz.plot_relevance(
            sounds, results[0], items=shown, view=view, colormap=colormap, scores=scores, title=title
        )
    elif len(results) == 1 and results[0].bands is not None:
        figure = viz.plot_occlusion(sounds, results[0], items=shown, title="Logit lost without a moment of a band")
    else:
        figure = viz.plot_attribution(sounds, results, items=shown, title=title)
    save_figure(figure, out)


def _save_heard(sounds: features.Sounds, results: list[features.Attributions], folder: Path, overwrite: bool) -> None:
    """Write each sound without what does not count, a file for each method, sound and class."""
    from brainmap.features.maximization.quality import save_waveforms
    from brainmap.names import file_name

    for found in results:
        waves, names = features.hear_relevance(sounds, found)
        full = [(found.method, *name) for name in names]
        taken = [folder / f"{file_name(*name)}.wav" for name in full]
        if not overwrite and (there := [path for path in taken if path.exists()]):
            raise InputError(f"--wav: {there[0]} exists; say --overwrite or name another folder")
        save_waveforms(waves, folder, full, rate=sounds.rate)
    typer.echo(f"{folder}: {sum(len(one.items) * one.targets.shape[1] for one in results)} sounds", err=True)


def _summarize_attributions(found: features.Attributions) -> dict[str, Any]:
    """Summarize the attributions of one method for the terminal."""
    import numpy as np

    about: dict[str, Any] = {"method": found.method, "maps": list(found.maps.shape)}
    if found.delta is not None:
        about["largest_delta"] = float(np.abs(found.delta).max())
    if found.fidelity is not None:
        about["median_fidelity"] = float(np.nanmedian(found.fidelity)) if np.isfinite(found.fidelity).any() else None
    return about | {"items": {item: list(found.names(row)) for row, item in enumerate(found.items)}}


def _print_methods(about: list[dict[str, Any]], out: Path, figure: Path | None, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"store": str(out), "figure": figure and str(figure), "methods": about}, indent=2))
        return
    for one in about:
        words = {"largest_delta": "a map and its logit differ by at most", "median_fidelity": "median fit R2"}
        notes = "".join(f", {text} {one[key]:.2g}" for key, text in words.items() if one.get(key) is not None)
        n_items, n_classes = one["maps"][:2]
        typer.echo(f"{one['method']:<23} {n_items} sounds x {n_classes} class{'es' * (n_classes > 1)}{notes}")
    typer.echo(f"{out}: attributions by {len(about)} method{'s'[: len(about) > 1]}")
    print_files(figure)
