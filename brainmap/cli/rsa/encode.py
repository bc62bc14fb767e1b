"""Define the command that predicts voxels from layers: rsa encode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brainmap import types
from brainmap.cli.images import refuse_existing_image, save_bricks
from brainmap.cli.options import (
    Axes,
    Betas,
    Items,
    Json,
    Key,
    Labels,
    Mask,
    Missing,
    More,
    Normalize,
    Overwrite,
    Participant,
    Seed,
    Stimuli,
    build_provenance,
    print_files,
    print_table,
    refuse_existing,
    split_names,
)
from brainmap.cli.outputs import Table
from brainmap.cli.rsa.options import commands, count_noun, list_steps, load_given_patterns, load_regions, refuse_tables
from brainmap.cli.rsa.stores import Networks, list_inputs, open_networks
from brainmap.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from brainmap.rsa.encoding.encode import Encoding

_Component = Annotated[
    int | None, typer.Option(min=1, help="Reduce each layer to this number of principal components of training items.")
]


@commands.command()
def encode(
    activations: Networks,
    more: More = None,
    betas: Betas = None,
    mask: Mask = None,
    rois: Annotated[
        str | None, typer.Option(help="Label image or voxel table (.tsv) of regions, which the table then names.")
    ] = None,
    roi_table: Annotated[Path | None, typer.Option(help="TSV with index and name of each label.")] = None,
    labels: Labels = None,
    stimuli: Stimuli = None,
    participant: Participant = None,
    key: Key = None,
    axes: Axes = None,
    missing: Missing = "error",
    normalize: Normalize = None,
    layers: Annotated[str, typer.Option(help="all, or names such as conv1,conv4.")] = "all",
    items: Items = "stimulus",
    groups: Annotated[
        types.FoldGroups, typer.Option(help="What folds never divide; stimulus separates the tokens of a word.")
    ] = "condition",
    targets: Annotated[
        types.EncodingTarget, typer.Option(help="Predict each voxel, or the mean of each ROI.")
    ] = "voxel",
    alphas: Annotated[
        str | None, typer.Option(metavar="NUMBER,...", help="Penalties to choose from; default: 13 from 0.1 to 1e8.")
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Test folds; scores are compared at equal numbers only.")] = 5,
    inner_folds: Annotated[
        int, typer.Option(min=2, help="Folds that choose alpha; a large number leaves out one group at a time.")
    ] = 5,
    components: _Component = None,
    reliability_floor: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="No corrected score at or below this reliability.")
    ] = 0.0,
    prediction_reliability: Annotated[
        bool, typer.Option("--prediction-reliability", help="Also correct for the reliability of predictions.")
    ] = False,
    few_items: Annotated[bool, typer.Option("--few-items", help="Allow fewer than 40 items.")] = False,
    maps: Annotated[
        str | None, typer.Option(help="Image to write, one sub-brick a layer: .nii.gz, x+tlrc, .func.gii with {hemi}.")
    ] = None,
    score: Annotated[types.EncodingScore, typer.Option(help="The score of --maps.")] = "r",
    counts: Annotated[
        Path | None, typer.Option(help="Also write a .tsv of targets without a score and of alphas at the ends.")
    ] = None,
    tests: Annotated[
        Path | None, typer.Option(help="Also write a .tsv of p for each row, by permuting the sounds.")
    ] = None,
    permutations: Annotated[int, typer.Option(min=1, help="Permutations of the sounds for --tests.")] = 1000,
    correction: Annotated[
        types.PermutationCorrection,
        typer.Option(help="Correction of --tests over all rows; max is family-wise by the highest r."),
    ] = "fdr",
    best: Annotated[
        Path | None, typer.Option(help="Also write a .tsv of best layers, chosen on one half and scored on the other.")
    ] = None,
    best_maps: Annotated[
        str | None, typer.Option(help="Also write an image of best layer (from 1), its position (0 to 1), and its r.")
    ] = None,
    network: Annotated[str | None, typer.Option(help="The network of --best-maps, where there are several.")] = None,
    splits: Annotated[int, typer.Option(min=1, help="Halvings of the sounds for --best and --best-maps.")] = 10,
    space: Annotated[str | None, typer.Option(help="Space of images; default: that of the mask.")] = None,
    device: Annotated[
        types.Device, typer.Option(help="Device of the regression; auto takes cuda if there is one.")
    ] = "auto",
    seed: Seed = 0,
    out: Table = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Predict voxels or regions from every layer by ridge regression, with cross-validated scores.

    Sounds that are predicted are never in training. brainmap rsa encode --activations net.zarr --betas run-*.nii.gz
    --mask mask.nii.gz --stimuli stimuli.tsv --rois rois.nii.gz --out scores.tsv --maps r.nii.gz
    """
    images = [*(betas or []), *(more or [])]
    if not images:
        raise InputError("rsa encode: expected --betas, got none; give the images of one participant")
    for option, path in (("--out", out), ("--counts", counts), ("--tests", tests), ("--best", best)):
        refuse_existing(path, overwrite, option=option, kinds=(".tsv",))
    _check_maps({"--maps": maps, "--best-maps": best_maps}, images, targets, rois, overwrite)
    from brainmap.rsa.encoding.ridge import check_alphas, find_device

    penalties = check_alphas(None if alphas is None else _read_numbers(alphas))
    find_device(device)
    networks = open_networks(activations, layers)
    import numpy as np

    from brainmap.record import write_table
    from brainmap.rsa.encoding.best_layers import BEST_LAYER_COLUMNS, best_encoding_layers
    from brainmap.rsa.encoding.counts import COUNT_COLUMNS
    from brainmap.rsa.encoding.encode import ENCODING_COLUMNS, encode as fit_models
    from brainmap.rsa.encoding.maps import map_encoding
    from brainmap.rsa.encoding.permutations import ENCODING_TEST_COLUMNS, encoding_test
    from brainmap.rsa.patterns.normalize import normalize_patterns

    regions = load_regions(rois, roi_table, mask, participant=participant, minimum_voxels=1, hemispheres="separate")
    data = load_given_patterns(
        images,
        mask,
        conditions=labels,
        rois=regions,
        stimuli=stimuli,
        participant=participant,
        missing=missing,
        key=key,
        axes=axes,
    )
    for method in list_steps(normalize):
        data = normalize_patterns(data, method)
    settings: dict[str, Any] = {
        "groups": groups,
        "items": items,
        "targets": targets,
        "folds": folds,
        "inner_folds": inner_folds,
        "components": components,
        "reliability_floor": reliability_floor,
    }
    fit = fit_models(
        networks,
        data,
        layers="all" if layers == "all" else split_names(layers),
        alphas=penalties,
        prediction_reliability=prediction_reliability,
        few_items=few_items,
        device=device,
        rng=np.random.default_rng(seed),
        **settings,
    )
    made = {**settings, "layers": layers, "alphas": [float(a) for a in penalties], "normalize": normalize}
    about = build_provenance(made, [*images, *list_inputs(activations, mask, rois, roi_table, stimuli)], seed=seed)
    if out is not None:
        write_table(fit.scores, out, columns=ENCODING_COLUMNS, about=about)
    if counts is not None:
        write_table(fit.counts, counts, columns=COUNT_COLUMNS, about=about)
    if tests is not None:
        asked: dict[str, Any] = {"permutations": permutations, "correction": correction}
        tested = encoding_test(fit, rng=np.random.default_rng([seed, 1]), **asked)
        write_table(tested, tests, columns=ENCODING_TEST_COLUMNS, about={**about, "Test": tested.attrs["note"]})
    place = None if fit.responses.mesh else mask
    drawn: dict[str, Mapping[str, Any]] = {} if maps is None else {maps: map_encoding(fit, place, score=score)}
    if best is not None or best_maps is not None:
        found = best_encoding_layers(fit, splits=splits, rng=np.random.default_rng(seed))
        if best is not None:
            write_table(found.regions, best, columns=BEST_LAYER_COLUMNS, about=about)
        drawn |= {} if best_maps is None else {best_maps: found.maps(place, network)}
    written = [file for path, own in drawn.items() for file in _save_maps(own, path, mask, space, overwrite)]
    _report_encoding(fit, (out, counts, tests, best, *written), as_json=as_json)


def _check_maps(
    maps: Mapping[str, str | None], images: Sequence[str], targets: str, rois: str | None, overwrite: bool
) -> None:
    """Refuse maps and regions that could not be made before anything is read."""
    from brainmap.rsa.surface.data import check_surface_files, is_surface

    if targets == "roi" and rois is None:
        raise InputError("--targets roi: expected --rois too, got none; give an image of regions")
    vertices = any(is_surface(name) for name in images)
    if any(maps.values()):
        refuse_tables(images, next(option for option, path in maps.items() if path is not None))
    for option, path in maps.items():
        if path is None:
            continue
        if targets == "roi":
            raise InputError(f"{option}: expected --targets voxel, got regions; leave {option} out")
        if vertices:
            check_surface_files(path, overwrite, what=option)
        else:
            refuse_existing_image(path, overwrite, option)


def _save_maps(maps: Mapping[str, Any], path: str, mask: str | None, space: str | None, overwrite: bool) -> list[Path]:
    """Save maps as sub-bricks of one image, or as arrays of one GIFTI file a hemisphere."""
    import numpy as np

    from brainmap.record import command_line
    from brainmap.rsa.images.files import image_info
    from brainmap.rsa.surface.data import SurfaceData, save_surface

    listed = list(maps.values())
    if isinstance(listed[0], SurfaceData):
        left, right = (np.concatenate([getattr(one, side) for one in listed], axis=1) for side in ("left", "right"))
        joined = SurfaceData(left, right, tuple(maps))
        return save_surface(joined, path, overwrite=overwrite, history=command_line())
    where = space or image_info(str(mask)).space
    return [save_bricks(listed, path, labels=list(maps), space=where, overwrite=overwrite)]


def _read_numbers(text: str) -> list[float]:
    """Read numbers between commas."""
    try:
        return [float(word) for word in split_names(text)]
    except ValueError:
        raise InputError(f"--alphas: expected numbers parted by commas, as in 1,10,100, got {text!r}") from None


def _report_encoding(fit: Encoding, written: Sequence[Path | None], *, as_json: bool) -> None:
    """Print the mean score of each layer in each region, or the rows as JSON."""
    if as_json:
        print_table(fit.scores, True)
        return
    print_table(_average_regions(fit.scores), False)
    folds, n = fit.folds, len(fit.items)
    typer.echo(
        f"{n} items in {folds.n_folds} test folds by {folds.by}, {count_noun(len(fit.responses.runs), 'run')}; means "
        "over voxels, of which those without a score are left out"
    )
    print_files(*written)


def _average_regions(scores: pd.DataFrame) -> pd.DataFrame:
    """Average scores over the targets of each region; `n` counts the targets with r, `corrected` those with both."""
    table = scores.assign(roi=scores["roi"].replace("", "elsewhere" if scores["roi"].any() else "mask"))
    grouped = table.groupby(["network", "layer", "roi"], sort=False)
    found: pd.DataFrame = grouped[["r", "r_corrected", "r2", "reliability"]].mean()
    return found.assign(n=grouped["r"].count(), corrected=grouped["r_corrected"].count()).reset_index()
