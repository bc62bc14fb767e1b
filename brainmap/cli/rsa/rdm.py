"""Define the command that computes RDMs: rsa rdm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from brainmap import rsa, types
from brainmap.cli.options import (
    Items,
    LeftOver,
    Noise,
    Normalize,
    Overwrite,
    build_provenance,
    check_free,
    print_files,
    split_names,
    with_options,
    write_tables,
)
from brainmap.cli.rsa.options import (
    Brain,
    Segment,
    commands,
    count_noun,
    join_asked,
    list_steps,
    load_features,
    load_left_over,
    write_rdms,
)
from brainmap.errors import InputError
from brainmap.types import Dataset, RDMs

Cams = Annotated[Path | None, typer.Option(help="Class activation maps over time, a .zarr of `brainmap features cam`.")]


@commands.command()
@with_options(Brain, fills="brain")
def rdm(
    out: Annotated[
        Path,
        typer.Option(
            "--out", callback=check_free(".h5", ".hdf5"), help="RDMs as HDF5, .h5, in the layout of rsatoolbox."
        ),
    ],
    brain: Brain,
    activations: Annotated[
        Path | None, typer.Option(help="Activations, a .zarr of `brainmap features activations`: one RDM per layer.")
    ] = None,
    patterns: Annotated[
        Path | None,
        typer.Option(help="Maximizing patterns, a .zarr of `brainmap features maximize`: RDM of classes or units."),
    ] = None,
    cams: Cams = None,
    attributions: Annotated[
        Path | None, typer.Option(help="Attributions, a .zarr of `brainmap features attribute`.")
    ] = None,
    sounds: Annotated[
        Path | None, typer.Option(help="stimuli.tsv, to align maps and attributions to the onset of each sound.")
    ] = None,
    space: Annotated[types.PatternSpace, typer.Option(help="How maximizing patterns are compared.")] = "spectrum",
    classes: Annotated[str, typer.Option(help="Class of the maps: true, predicted, all, or one name.")] = "true",
    hemispheres: Annotated[
        types.Hemispheres, typer.Option(help="Whether regions of both hemispheres are kept apart or joined.")
    ] = "separate",
    minimum_voxels: Annotated[
        int, typer.Option(min=1, help="Smallest number of voxels; a smaller ROI is an error.")
    ] = 10,
    normalize: Normalize = None,
    reliability: Annotated[
        float | None, typer.Option(help="Keep voxels with at least this split-half correlation.")
    ] = None,
    sound: Annotated[str | None, typer.Option(help="Keep voxels that respond to sound: a t, z or F image.")] = None,
    sound_p: Annotated[float, typer.Option(help="Largest p of --sound, one-sided.")] = 0.001,
    voxels: Annotated[
        Path | None,
        typer.Option(callback=check_free(".tsv"), help="Also write a .tsv of excluded voxels by ROI and reason."),
    ] = None,
    noise: Noise = "runs",
    residuals: LeftOver = None,
    layers: Annotated[
        str, typer.Option(help="all, or names such as conv1,conv4; for attributions, the method.")
    ] = "all",
    dissimilarity: Annotated[
        types.Dissimilarity | None, typer.Option(help="Default: crossnobis for betas, else correlation.")
    ] = None,
    items: Items = "stimulus",
    units: Annotated[
        types.Scaling | None,
        typer.Option(help="Whether units are z-scored over items; default: zscore for activations, none for betas."),
    ] = None,
    over: Annotated[
        types.OverTime | None,
        typer.Option(help="One RDM per layer and time window, for activations made with --pooling none."),
    ] = None,
    window: Annotated[float, typer.Option(help="Length of the windows of --over time, in ms.")] = 100.0,
    step: Annotated[float | None, typer.Option(help="Step between windows in ms; default: half a window.")] = None,
    segment: Segment = None,
    overwrite: Overwrite = False,
) -> None:
    """Compute RDMs of a network's layers, patterns or maps, or of a participant's ROIs (--betas)."""
    from brainmap.rsa.rdm.alignment import LEVELS, find_level

    given = {"activations": activations, "patterns": patterns, "cams": cams, "attributions": attributions}
    stores = {kind: path for kind, path in given.items() if path is not None}
    if len(stores) + bool(brain.images) != 1:
        raise InputError(f"rsa rdm: give one of {', '.join(f'--{kind}' for kind in given)} and --betas")
    steps = list_steps(normalize)
    standard = activations is not None and dissimilarity != "poisson"  # rates are not z-scored
    scaling = units or ("zscore" if standard else "none")
    settings: dict[str, Any] = {"items": items, "units": "zscore" if scaling == "zscore" else None}
    settings |= _choose_windows(over, window, step, activations)
    if segment is not None and (activations is None or over is not None):
        raise InputError("--segment: expected --activations of windows of stories without --over, got others")
    for kind, store in stores.items():
        found = load_features(store, kind, layers=layers, sounds=sounds, space=space, classes=classes)
        found = join_asked(found, segment)
        rdms = _compute_layer_rdms(found, layers, dissimilarity=dissimilarity or "correlation", **settings)
    if brain.images:
        left = load_left_over(noise, residuals, brain.mask)
        regions = brain.load_regions(minimum_voxels=minimum_voxels, hemispheres=hemispheres)
        data = brain.load_patterns(regions)
        data = _screen_and_normalize(data, steps, reliability=reliability, sound=sound, p=sound_p, mask=brain.mask)
        rdms = _compute_brain_rdms(data, regions, noise, left, dissimilarity=dissimilarity or "crossnobis", **settings)
        rdms = _sort_as_table(rdms, brain.stimuli)
        if voxels is not None:
            from brainmap.rsa.patterns.table import VOXEL_COLUMNS

            about = build_provenance({}, brain.images)
            print_files(*write_tables((voxels, rsa.voxel_report(data), VOXEL_COLUMNS, about)))
    inputs = [*(brain.inputs if brain.images else []), *(residuals or [])]
    made = {
        **settings,
        "segment": segment,
        "dissimilarity": rdms.dissimilarity_measure,
        **{k: str(path) for k, path in stores.items()},
    }
    write_rdms(rdms, out, made, inputs)
    typer.echo(
        f"{out}: {count_noun(rdms.n_rdm, 'RDM')} ({_describe_rdms(rdms)}) of {rdms.n_cond} {LEVELS[find_level(rdms)]}, "
        f"{rdms.dissimilarity_measure}"
    )


def _choose_windows(over: str | None, window: float, step: float | None, activations: Path | None) -> dict[str, Any]:
    """Return the windows that `--over time` asks for."""
    if over is None:
        return {}
    if activations is None:
        raise InputError("--over time: expected --activations, got none; give those made with --pooling none")
    return {"over": over, "window_ms": window, "step_ms": step}


def _screen_and_normalize(
    data: Dataset,
    methods: Sequence[types.Normalization],
    *,
    reliability: float | None,
    sound: str | None,
    p: float,
    mask: str | None,
) -> Dataset:
    """Screen the voxels and normalize their patterns."""

    if reliability is not None or sound is not None:
        data = rsa.screen_voxels(data, minimum_reliability=reliability, sound=sound, p=p, mask=mask)
    for method in methods:
        data = rsa.normalize_patterns(data, method)
    return data


def _compute_layer_rdms(found: Any, layers: str, **settings: Any) -> RDMs:

    chosen = "all" if layers == "all" else split_names(layers)
    network = {"network": found.network} if hasattr(found, "network") else {}
    return rsa.compute_rdms(found, layers=chosen, descriptors=network, **settings)


def _compute_brain_rdms(
    data: Dataset, regions: rsa.Rois | None, noise: str, left: rsa.Residuals | None, **settings: Any
) -> RDMs:

    precision = None if noise == "none" else _estimate_precision(data, regions, settings["dissimilarity"], left)
    return rsa.compute_rdms(data, rois=None if regions is None else "all", noise_precision=precision, **settings)


def _sort_as_table(rdms: RDMs, stimuli: Path | None) -> RDMs:
    """Sort the items as in the table of stimuli where it names all of them, as the RDMs of a network's layers are."""
    from brainmap.rsa.patterns.table import read_conditions
    from brainmap.rsa.rdm.alignment import list_labels, sort_items

    known = read_conditions(stimuli)
    order = [*known, *known.values()]
    return sort_items(rdms, order) if set(list_labels(rdms)) <= set(order) else rdms


def _estimate_precision(
    data: Dataset,
    regions: rsa.Rois | None,
    dissimilarity: types.Dissimilarity,
    left: rsa.Residuals | None,
) -> Any:
    """Estimate the noise precision of each ROI; None if the dissimilarity does not use it or no noise is given."""
    from brainmap.rsa.patterns.residuals import estimate_precisions

    if dissimilarity not in ("crossnobis", "mahalanobis"):
        return None
    if left is None and len(set(data.obs_descriptors["run"])) < 2:
        return None  # compute_rdms says what is missing
    if regions is not None:
        return estimate_precisions(data, regions.names, residuals=left)
    return rsa.noise_precision(data) if left is None else rsa.noise_precision(data, source=left.parts, dof=left.dof)


def _describe_rdms(rdms: RDMs) -> str:
    """Describe the RDMs by the names in their descriptors."""
    from brainmap.checks import list_some

    for key in ("layer", "roi"):
        if key in rdms.rdm_descriptors:
            said = list_some(dict.fromkeys(str(name) for name in rdms.rdm_descriptors[key]), 12).replace("'", "")
            windows = len(set(rdms.rdm_descriptors.get("time", ())))
            return (
                f"{said}; {count_noun(windows, 'window')} of {rdms.descriptors['window_ms']:g} ms" if windows else said
            )
    return "all voxels"
