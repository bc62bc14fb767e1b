"""Define the command that predicts time courses of voxels while stories are heard: rsa encode-stories."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brainmap import types
from brainmap.cli.images import refuse_existing_maps, save_brain_maps
from brainmap.cli.options import (
    Json,
    Overwrite,
    Seed,
    build_provenance,
    print_files,
    print_table,
    refuse_existing,
    split_names,
    with_options,
)
from brainmap.cli.outputs import Table
from brainmap.cli.rsa.options import SideBySide, commands, count_noun
from brainmap.cli.rsa.stores import Networks, list_stores, open_networks
from brainmap.cli.rsa.story_options import StoryBrain, StoryScans, read_numbers
from brainmap.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from brainmap.rsa.encoding.encode import Encoding
    from brainmap.rsa.inputs.stories import Stories


@commands.command()
@with_options(StoryScans, fills="scans")
@with_options(StoryBrain, fills="brain", first=True)
def encode_stories(
    activations: Networks,
    brain: StoryBrain,
    scans: StoryScans,
    layers: Annotated[str, typer.Option(help="all, or names such as conv1,conv4.")] = "all",
    targets: Annotated[
        types.EncodingTarget, typer.Option(help="Predict each voxel, or the mean of each ROI.")
    ] = "voxel",
    alphas: Annotated[
        str | None, typer.Option(metavar="NUMBER,...", help="Penalties to choose from; default: 13 from 0.1 to 1e8.")
    ] = None,
    folds: Annotated[int | None, typer.Option(min=2, help="Test folds of whole stories; default: each story.")] = None,
    inner_folds: Annotated[int, typer.Option(min=2, help="Folds of whole stories that choose alpha.")] = 5,
    components: Annotated[
        int | None, typer.Option(min=1, help="Reduce each layer to this number of principal components of training.")
    ] = None,
    reliability_floor: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="No corrected score at or below this reliability.")
    ] = 0.0,
    maps: Annotated[str | None, typer.Option(help="Image to write, one sub-brick a layer: .nii.gz or x+tlrc.")] = None,
    score: Annotated[types.EncodingScore, typer.Option(help="The score of --maps.")] = "r",
    counts: Annotated[
        Path | None, typer.Option(help="Also write a .tsv of targets without a score and of alphas at the ends.")
    ] = None,
    tests: Annotated[
        Path | None, typer.Option(help="Also write a .tsv of p for each row, by permuting blocks within stories.")
    ] = None,
    permutations: Annotated[int, typer.Option(min=1, help="Permutations of blocks for --tests.")] = 1000,
    block: Annotated[float, typer.Option(help="Length of the blocks in s, 20 or more.")] = 20.0,
    correction: Annotated[
        types.PermutationCorrection,
        typer.Option(help="Correction of --tests over all rows; max is family-wise by the highest r."),
    ] = "fdr",
    space: Annotated[str | None, typer.Option(help="Space of images; default: that of the mask.")] = None,
    device: Annotated[
        types.Device, typer.Option(help="Device of the regression; auto takes cuda if there is one.")
    ] = "auto",
    jobs: SideBySide = 1,
    seed: Seed = 0,
    out: Table = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Predict the BOLD of voxels or regions while stories are heard, from windows of each layer.

    Whole stories are left out. brainmap features activations --checkpoint net.safetensors --sounds stories.tsv --window
    2 --hop 0.5 --out net.zarr; brainmap rsa encode-stories --activations net.zarr --bold 'sub-01/{sound}.nii.gz' --mask
    mask.nii.gz --out scores.tsv
    """
    for option, path in (("--out", out), ("--counts", counts), ("--tests", tests)):
        refuse_existing(path, overwrite, option=option, kinds=(".tsv",))
    if maps is not None:
        if targets == "roi" or not (brain.mask or brain.on_surface):
            raise InputError("--maps: expected --targets voxel and a --mask, got none of both; leave --maps out")
        refuse_existing_maps(maps, overwrite, "--maps", on_surface=brain.on_surface)
    brain.check(targets)
    aligned = scans.read()
    from brainmap.rsa.encoding.ridge import check_alphas, find_device

    penalties = check_alphas(None if alphas is None else read_numbers(alphas, "--alphas"))
    find_device(device)
    networks = open_networks(activations, layers)
    import numpy as np

    from brainmap.record import write_table
    from brainmap.rsa.encoding.counts import COUNT_COLUMNS
    from brainmap.rsa.encoding.encode import ENCODING_COLUMNS
    from brainmap.rsa.encoding.maps import map_encoding
    from brainmap.rsa.encoding.permutations import ENCODING_TEST_COLUMNS, encoding_test
    from brainmap.rsa.encoding.stories import encode_stories as fit_stories

    sounds = list(dict.fromkeys(next(iter(networks.values())).table["sound"].astype(str)))
    data = brain.load(sounds, targets)
    settings: dict[str, Any] = {
        **aligned,
        "folds": folds,
        "inner_folds": inner_folds,
        "components": components,
        "reliability_floor": reliability_floor,
        "block": block,
    }
    fit = fit_stories(
        networks,
        data.responses,
        **data.settings,
        **settings,
        layers="all" if layers == "all" else split_names(layers),
        participant=brain.participant or "",
        alphas=penalties,
        device=device,
        threads=jobs,
    )
    made = {**settings, "layers": layers, "targets": targets, "alphas": [float(a) for a in penalties], "t_r": data.t_r}
    about = build_provenance(made, [*data.files, *list_stores(activations), *brain.others], seed=seed)
    if out is not None:
        write_table(fit.scores, out, columns=ENCODING_COLUMNS, about=about)
    if counts is not None:
        write_table(fit.counts, counts, columns=COUNT_COLUMNS, about=about)
    if tests is not None:
        rng = np.random.default_rng([seed, 1])
        tested = encoding_test(fit, permutations=permutations, correction=correction, rng=rng)
        write_table(tested, tests, columns=ENCODING_TEST_COLUMNS, about={**about, "Test": tested.attrs["note"]})
    written: list[Path | None] = [out, counts, tests]
    if maps is not None:
        found = map_encoding(fit, None if fit.responses.mesh else brain.mask, score=score)
        written += save_brain_maps(found, maps, brain.mask, space=space, overwrite=overwrite)
    _report(fit, data, written, as_json=as_json)


def _report(fit: Encoding, data: Stories, written: Sequence[Path | None], *, as_json: bool) -> None:
    """Print the mean score of each layer in each region, or the rows as JSON."""
    if as_json:
        print_table(fit.scores, True)
        return
    print_table(_average_regions(fit), False)
    whole = data.counts.iloc[0]
    stories, folds = len(set(fit.responses.conditions)), fit.folds.n_folds
    typer.echo(
        f"{count_noun(len(fit.items), 'scan')} of {data.t_r:g} s in {stories} stories, {folds} test folds of whole "
        f"stories, {count_noun(len(fit.responses.runs), 'repetition')}\n"
        f"voxels: {whole['kept']} of {whole['voxels']} used; left out: {whole['dropped_constant']} constant in a run, "
        f"{whole['dropped_nan']} with NaN"
    )
    print_files(*written)


def _average_regions(fit: Encoding) -> pd.DataFrame:
    """Average the scores over the targets of each region; those without a score are left out."""
    import pandas as pd

    from brainmap.rsa.encoding.participants import average_over_regions

    regions = list(dict.fromkeys(fit.responses.targets["roi"]))
    other = "elsewhere" if any(regions) else "mask"
    means = {
        score: average_over_regions([fit], regions, score)[..., 0] for score in ("r", "r_corrected", "reliability")
    }
    return pd.DataFrame(
        [
            {
                "network": space.network,
                "layer": space.layer,
                "roi": roi or other,
                **{score: mean[k, m] for score, mean in means.items()},
            }
            for k, space in enumerate(fit.spaces)
            for m, roi in enumerate(regions)
        ]
    )
