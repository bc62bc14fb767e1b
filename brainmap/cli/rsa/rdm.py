"""Commands for RDMs: rsa rdm, compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from brainmap import types
from brainmap.cli import app
from brainmap.cli.options import (
    FORMATS,
    Betas,
    Correction,
    Items,
    Json,
    Labels,
    LeftOver,
    Mask,
    Measure,
    Missing,
    More,
    Noise,
    Normalize,
    Overwrite,
    Participant,
    Seed,
    Stimuli,
    Test,
    free,
    group,
    names,
    provenance,
    said,
    save_figure,
    show,
)
from brainmap.cli.runs import load_data_rdms
from brainmap.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import RDMs

    from brainmap.rsa.patterns.residuals import Residuals
    from brainmap.rsa.regions.rois import Rois

commands = group("rsa", "What network and brain share: RDMs, their comparison, searchlight, group maps.")
app.add_typer(commands)


Cams = Annotated[
    Path | None, typer.Option(help="A .zarr of `brainmap features cam`: where in time the network attends.")
]


def patterns_of(betas: Sequence[str], mask: str | None, **given: Any) -> Dataset:
    """Patterns of one participant inside a mask, or on the surface, where GIFTI files (with {hemi}) are given."""
    from brainmap.cli.runs import labels_of, runs_named
    from brainmap.rsa.patterns.volume import load_patterns
    from brainmap.rsa.surface.data import is_surface

    given |= {"conditions": labels_of(given.get("conditions"), betas), "runs": runs_named(betas)}
    if any(is_surface(name) for name in betas):
        from brainmap.rsa.patterns.surface import load_surface_patterns

        return load_surface_patterns(list(betas), mask=mask, **given)
    if mask is None:
        raise InputError("--betas: give --mask too, an image of the voxels to read")
    files = list(betas) if len(betas) > 1 else betas[0]
    data: Dataset = load_patterns(files, mask=mask, **given)
    return data


@commands.command()
def rdm(
    out: Annotated[Path, typer.Option("--out", help="RDMs as HDF5, .h5, in the layout of rsatoolbox.")],
    more: More = None,
    activations: Annotated[
        Path | None, typer.Option(help="A .zarr of `brainmap features activations`: an RDM a layer.")
    ] = None,
    patterns: Annotated[
        Path | None, typer.Option(help="A .zarr of `brainmap features maximize`: class x class, or unit x unit.")
    ] = None,
    cams: Cams = None,
    attributions: Annotated[Path | None, typer.Option(help="A .zarr of `brainmap features attribute`.")] = None,
    sounds: Annotated[
        Path | None, typer.Option(help="stimuli.tsv: aligns maps and attributions to the onset of each sound.")
    ] = None,
    space: Annotated[types.PatternSpace, typer.Option(help="How patterns are compared.")] = "spectrum",
    classes: Annotated[str, typer.Option(help="Of maps: true, predicted, all, or one class.")] = "true",
    betas: Betas = None,
    mask: Mask = None,
    rois: Annotated[str | None, typer.Option(help="Label image: an RDM an ROI; else one of the whole mask.")] = None,
    roi_table: Annotated[Path | None, typer.Option(help="TSV with index and name of each label.")] = None,
    hemispheres: Annotated[
        types.Hemispheres, typer.Option(help="Whether regions of both hemispheres are kept apart or joined.")
    ] = "separate",
    minimum_voxels: Annotated[int, typer.Option(min=1, help="A smaller ROI is refused.")] = 10,
    labels: Labels = None,
    stimuli: Stimuli = None,
    participant: Participant = None,
    missing: Missing = "error",
    normalize: Normalize = None,
    reliability: Annotated[float | None, typer.Option(help="Smallest split-half correlation of a voxel.")] = None,
    sound: Annotated[str | None, typer.Option(help="Voxels with sound > silence only: a t, z or F image.")] = None,
    sound_p: Annotated[float, typer.Option(help="Largest p of --sound, one-sided.")] = 0.001,
    voxels: Annotated[Path | None, typer.Option(help="Also a .tsv of voxels left out, by ROI and reason.")] = None,
    noise: Noise = "runs",
    residuals: LeftOver = None,
    layers: Annotated[str, typer.Option(help="all, or names: conv1,conv4; of attributions, the method.")] = "all",
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
        typer.Option(help="An RDM a layer and window of time, of activations with --pooling none."),
    ] = None,
    window: Annotated[float, typer.Option(help="Length of the windows of --over time, in ms.")] = 100.0,
    step: Annotated[float | None, typer.Option(help="From one window to the next, in ms; default: half of it.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """RDMs of a network's layers, of what explains them, or of a participant's ROIs (--betas)."""
    from brainmap.cli.rsa.stores import features_in
    from brainmap.record import write_json
    from brainmap.rsa.rdm.files import save_rdms

    images = [*(betas or []), *(more or [])]
    given = {"activations": activations, "patterns": patterns, "cams": cams, "attributions": attributions}
    stores = {kind: path for kind, path in given.items() if path is not None}
    if len(stores) + bool(images) != 1:
        raise InputError(f"rsa rdm: give one of {', '.join(f'--{kind}' for kind in given)} and --betas")
    steps = _steps(normalize)
    free(out, overwrite, kinds=(".h5", ".hdf5"))
    free(voxels, overwrite, option="--voxels", kinds=(".tsv",))
    standard = activations is not None and dissimilarity != "poisson"  # rates are not z-scored
    scaling = units or ("zscore" if standard else "none")
    settings: dict[str, Any] = {"items": items, "units": "zscore" if scaling == "zscore" else None}
    settings |= _windows(over, window, step, activations)
    for kind, store in stores.items():
        found = features_in(store, kind, layers=layers, sounds=sounds, space=space, classes=classes)
        rdms = _layer_rdms(found, layers, dissimilarity=dissimilarity or "correlation", **settings)
    if images:
        left = left_over(noise, residuals, mask)
        regions = regions_from(rois, roi_table, mask, minimum_voxels=minimum_voxels, hemispheres=hemispheres)
        data = patterns_of(
            images, mask, conditions=labels, rois=regions, stimuli=stimuli, participant=participant, missing=missing
        )
        data = _prepared(data, steps, reliability=reliability, sound=sound, p=sound_p, mask=mask)
        rdms = _brain_rdms(data, regions, noise, left, dissimilarity=dissimilarity or "crossnobis", **settings)
        _voxel_table(data, voxels, images)
    save_rdms(rdms, out)
    inputs = [*images, *(name for name in (mask, rois, roi_table, stimuli) if images and name is not None)]
    made = {**settings, "dissimilarity": rdms.dissimilarity_measure, **{k: str(path) for k, path in stores.items()}}
    write_json(out.with_suffix(".json"), provenance(made, [*inputs, *(residuals or [])]))
    _say(rdms, out)


def _windows(over: str | None, window: float, step: float | None, activations: Path | None) -> dict[str, Any]:
    """Return the windows that `--over time` asks for."""
    if over is None:
        return {}
    if activations is None:
        raise InputError("--over time: give --activations, made with --pooling none")
    return {"over": over, "window_ms": window, "step_ms": step}


def _say(rdms: RDMs, out: Path) -> None:
    from brainmap.rsa.rdm.alignment import LEVELS, level_of

    typer.echo(
        f"{out}: {counted(rdms.n_rdm, 'RDM')} ({_described(rdms)}) of {rdms.n_cond} {LEVELS[level_of(rdms)]}, "
        f"{rdms.dissimilarity_measure}"
    )


def _steps(text: str | None) -> list[types.Normalization]:
    """The normalizations that are named, in their order."""
    from brainmap.checks import one_of

    known = get_args(types.Normalization)
    return [known[known.index(one_of(name, known, "--normalize"))] for name in (names(text) if text else ())]


def _prepared(
    data: Dataset,
    methods: Sequence[types.Normalization],
    *,
    reliability: float | None,
    sound: str | None,
    p: float,
    mask: str | None,
) -> Dataset:
    """Patterns of the voxels that the screens keep, normalized."""
    from brainmap.rsa.patterns.normalize import normalize_patterns
    from brainmap.rsa.patterns.screen import screen_voxels

    if reliability is not None or sound is not None:
        data = screen_voxels(data, minimum_reliability=reliability, sound=sound, p=p, mask=mask)
    for method in methods:
        data = normalize_patterns(data, method)
    return data


def _voxel_table(data: Dataset, path: Path | None, inputs: Sequence[str]) -> None:
    from brainmap.record import write_table
    from brainmap.rsa.patterns.table import VOXEL_COLUMNS
    from brainmap.rsa.patterns.volume import voxel_report

    if path is not None:
        write_table(voxel_report(data), path, columns=VOXEL_COLUMNS, about=provenance({}, inputs))
        typer.echo(f"Wrote {path}")


def _layer_rdms(found: Any, layers: str, **settings: Any) -> RDMs:
    from brainmap.rsa.rdm.compute import compute_rdms

    chosen = "all" if layers == "all" else names(layers)
    network = {"network": found.network} if hasattr(found, "network") else {}
    return compute_rdms(found, layers=chosen, descriptors=network, **settings)


def regions_from(image: str | None, table: Path | None, mask: str | None, **settings: Any) -> Rois | None:
    """The ROIs of a label image, or of a surface's labels; none where no image is given."""
    from brainmap.rsa.regions.labels import load_rois
    from brainmap.rsa.surface.data import is_surface

    if image is not None and is_surface(image):
        from brainmap.rsa.surface.rois import load_surface_rois

        least, sides = settings["minimum_voxels"], settings["hemispheres"]
        return load_surface_rois(image, minimum_vertices=least, hemispheres=sides)
    return None if image is None else load_rois(image, table=table, mask=mask, **settings)


def left_over(noise: types.NoiseFrom, residuals: Sequence[str] | None, mask: str | None) -> Residuals | None:
    """The residuals that the noise comes from, where it does.

    Raises
    ------
    InputError
        Residuals without being asked for and the other way round.
    """
    if (noise == "residuals") != bool(residuals):
        raise InputError("--noise residuals and --residuals FILE go together; give both, or neither")
    if not residuals:
        return None
    from brainmap.rsa.patterns.residuals import load_residuals
    from brainmap.rsa.regions.rois import load_mask

    if mask is None:
        raise InputError("--residuals: give --mask too, an image of the voxels to read")
    return load_residuals(residuals, mask=load_mask(mask))


def _brain_rdms(data: Dataset, regions: Rois | None, noise: str, left: Residuals | None, **settings: Any) -> RDMs:
    from brainmap.rsa.rdm.compute import compute_rdms

    precision = None if noise == "none" else _precision(data, regions, settings["dissimilarity"], left)
    return compute_rdms(data, rois=None if regions is None else "all", noise_precision=precision, **settings)


def _precision(
    data: Dataset,
    regions: Rois | None,
    dissimilarity: Annotated[
        types.Dissimilarity | None, typer.Option(help="Default: crossnobis for betas, else correlation.")
    ],
    left: Residuals | None,
) -> Any:
    """The noise precision of each ROI, where the dissimilarity takes one and the patterns have runs or residuals."""
    from brainmap.rsa.rdm.run_noise import noise_precision
    from brainmap.rsa.rdm.sources import select_roi

    if dissimilarity not in ("crossnobis", "mahalanobis"):
        return None
    if left is None and len(set(data.obs_descriptors["run"])) < 2:
        return None  # compute_rdms says what is missing
    source: Any = {} if left is None else {"source": left.parts, "dof": left.dof}
    if regions is None:
        return noise_precision(data, **source)
    return {name: noise_precision(select_roi(data, name), **source) for name in regions.names}


def counted(n: int, noun: str) -> str:
    """A number with its noun: 1 item, 2 items."""
    return f"{n} {noun}" + ("" if n == 1 else "s")


def _described(rdms: RDMs) -> str:
    """What the RDMs are of, in their own words."""
    from brainmap.checks import some

    for key in ("layer", "roi"):
        if key in rdms.rdm_descriptors:
            said = some(dict.fromkeys(str(name) for name in rdms.rdm_descriptors[key]), 12).replace("'", "")
            windows = len(set(rdms.rdm_descriptors.get("time", ())))
            return f"{said}; {counted(windows, 'window')} of {rdms.descriptors['window_ms']:g} ms" if windows else said
    return "all voxels"


@commands.command()
def compare(
    models: Annotated[Path, typer.Argument(help="RDMs of the models (.h5).")],
    data: Annotated[list[Path], typer.Argument(help="RDMs of the data, a file a participant.")],
    measure: Measure = "rho-a",
    control_for: Annotated[
        Path | None, typer.Option(help="RDMs (.h5) to remove from both: splines of ranks, or (pearson) straight lines.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Scores, .tsv; default: printed.")] = None,
    ceilings: Annotated[Path | None, typer.Option(help="Noise ceilings over participants, .tsv.")] = None,
    statistics: Annotated[Path | None, typer.Option(help="The test over participants, .tsv.")] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Scores over time, of models made with `rsa rdm --over time`: .png, .svg, .pdf.")
    ] = None,
    test: Test = "signed-rank",
    correction: Correction = "fdr",
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Compare RDMs of models with RDMs of data, item by item label; a table of scores."""
    from brainmap.record import write_table
    from brainmap.rsa.comparison.ceilings import CEILING_COLUMNS, noise_ceilings
    from brainmap.rsa.comparison.measures import compare_rdms
    from brainmap.rsa.comparison.partial import (
        aligned_controls,
        compare_rdms_partial,
        partial_ceilings,
        partial_measure,
    )
    from brainmap.rsa.comparison.splines import partial_name
    from brainmap.rsa.inference.scores import STATISTICS_COLUMNS
    from brainmap.rsa.rdm.files import load_rdms

    for option, path in (("--out", out), ("--ceilings", ceilings), ("--statistics", statistics)):
        free(path, overwrite, option=option, kinds=(".tsv",))
    free(figure, overwrite, option="--figure", kinds=FORMATS)
    one, other = load_rdms(models), load_data_rdms(data)
    inputs = [models, *data]
    if control_for is None:
        scores = compare_rdms(one, other, measure=measure)
        measured: str = measure
    else:
        controls = load_rdms(control_for)
        scores = compare_rdms_partial(one, other, controls, measure=measure)
        measured = partial_name(partial_measure(measure), aligned_controls(controls, other).shape[-2])
        inputs.append(control_for)
    table = _scores(one, other, scores)
    about = {"Measure": measured, **provenance({"measure": measured}, inputs, seed=seed)}
    drawn = None
    if ceilings is not None or (figure is not None and len(data) > 1):
        bounds = noise_ceilings(other, measure=measure)
        if control_for is not None:
            bounds = partial_ceilings(other, controls, measure=measure)
    if figure is not None:
        drawn = _over_time(table, bounds if len(data) > 1 else None, measured)
    if ceilings is not None:
        write_table(bounds, ceilings, columns=CEILING_COLUMNS, about=about)
    if statistics is not None:
        tested = _tested(table, measure=measure, test=test, correction=correction, seed=seed)
        columns = {**STATISTICS_COLUMNS, **_MODEL_COLUMNS}
        write_table(tested, statistics, columns=columns, about={**about, "Test": test, "Correction": correction})
    if out is not None:
        write_table(table, out, columns=_score_columns(table), about=about)
    if drawn is not None and figure is not None:
        save_figure(drawn, figure)
    if out is None or as_json:
        show(table, as_json)
    said(*(() if as_json else (out, ceilings, statistics, figure)))


def _over_time(table: pd.DataFrame, ceilings: pd.DataFrame | None, measure: str) -> Figure:
    """The figure of scores over time; of several networks, a line a network and layer."""
    from brainmap.viz.rsa.time_courses import plot_time_course

    if "time" not in table:
        raise InputError(
            "--figure: the models have no time; make them with `brainmap rsa rdm --over time`, or draw "
            "layers with `brainmap viz profile`"
        )
    if "network" in table and table["network"].nunique() > 1:
        table = table.assign(layer=table["network"] + " " + table["layer"])
    return plot_time_course(table, ceilings, measure=measure)


_MODEL_COLUMNS = {"model": "number of the model RDM, from 1"}


def _scores(models: RDMs, data: RDMs, scores: Any) -> pd.DataFrame:
    """A row for each model and data RDM: what both are, and their score."""
    import numpy as np
    import pandas as pd

    def described(rdms: RDMs, keys: Sequence[str], instead: str) -> pd.DataFrame:
        known = [key for key in keys if key in rdms.rdm_descriptors]
        kinds = {key: float if key == "time" else str for key in known}
        found = {key: [kinds[key](value) for value in rdms.rdm_descriptors[key]] for key in known}
        return pd.DataFrame(found or {instead: [str(k) for k in range(1, rdms.n_rdm + 1)]})

    every = ("participant", "network", "layer", "time", "roi", "name")
    left, right = described(models, every, "model"), described(data, every, "data")
    same = set(left) & set(right)
    left = left.rename(columns={key: f"model_{key}" if key in same else key for key in left})
    right = right.rename(columns={key: f"data_{key}" if key in same else key for key in right})
    i, j = (index.ravel() for index in np.indices(scores.shape))
    parts = [left.iloc[i].reset_index(drop=True), right.iloc[j].reset_index(drop=True)]
    table: pd.DataFrame = pd.concat(parts, axis=1).assign(score=scores.ravel())
    return table


def _score_columns(table: pd.DataFrame) -> dict[str, str]:
    from brainmap.rsa.comparison.measures import SCORE_COLUMNS

    known = {**SCORE_COLUMNS, **_MODEL_COLUMNS, "data": "number of the data RDM, from 1", "name": "name of the RDM"}
    for side in ("model", "data"):
        known |= {f"{side}_{key}": f"{words} ({side} side)" for key, words in known.items()}
    return known


def _tested(
    table: pd.DataFrame, *, measure: str, test: types.Test, correction: types.Correction, seed: int
) -> pd.DataFrame:
    """The scores' test over participants, a row a model and region."""
    import numpy as np

    from brainmap.rsa.inference.scores import score_statistics

    if "participant" not in table or table["participant"].nunique() < 2:
        raise InputError(
            "--statistics: the data are of one participant or do not say whose they are; give a file a participant, "
            "made with `brainmap rsa rdm --participant`"
        )
    over = [key for key in ("model", "name", "network", "layer", "time", "roi") if key in table]
    wide = table.set_index([*over, "participant"])["score"].unstack(sort=False)
    found = score_statistics(
        wide.to_numpy(),
        test=test,
        correction=correction,
        measure=measure,
        rng=np.random.default_rng(seed),
    ).drop(columns="model")
    for at, key in enumerate(over):
        found.insert(at, key, wide.index.get_level_values(key))
    return found
