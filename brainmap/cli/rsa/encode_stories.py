"""Define the command that predicts time courses of voxels while stories are heard: rsa encode-stories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brainmap import types
from brainmap.cli.images import refuse_existing_image, save_bricks
from brainmap.cli.options import (
    Json,
    Mask,
    Overwrite,
    Participant,
    Seed,
    build_provenance,
    print_files,
    print_table,
    refuse_existing,
    split_names,
)
from brainmap.cli.outputs import Table
from brainmap.cli.rsa.options import commands, count_noun, load_regions
from brainmap.cli.rsa.stores import Networks, list_stores, open_networks
from brainmap.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from brainmap.rsa.encoding.encode import Encoding
    from brainmap.rsa.inputs.stories import Stories


@commands.command()
def encode_stories(
    activations: Networks,
    bold: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="BOLD of each story, quoted, with {sound} for the id of the story, and {run} where it was heard "
            "several times: 'sub-01/{sound}_run-{run}_bold.nii.gz'; or tables of scans x voxels (.npy, .mat, .h5).",
        ),
    ],
    mask: Mask = None,
    rois: Annotated[
        str | None, typer.Option(help="Label image or voxel table (.tsv) of regions, which the table then names.")
    ] = None,
    roi_table: Annotated[Path | None, typer.Option(help="TSV with index and name of each label.")] = None,
    participant: Participant = None,
    confounds: Annotated[
        str | None, typer.Option(metavar="FILE", help="Confounds of each story: a name with the places of --bold.")
    ] = None,
    strategy: Annotated[
        str | None, typer.Option(help="Columns of --confounds, as in motion6+acompcor; default: all.")
    ] = None,
    t_r: Annotated[
        float | None, typer.Option(help="Time from scan to scan, in s; default: that of the images.")
    ] = None,
    silence: Annotated[
        str, typer.Option(metavar="BEFORE,AFTER", help="Seconds scanned before the sound began and after it ended.")
    ] = "0,0",
    delays: Annotated[
        str | None,
        typer.Option(metavar="SECONDS,...", help="Delays in s, multiples of the TR; default: all up to 8 s or more."),
    ] = None,
    sampling: Annotated[types.ScanSampling, typer.Option(help="How features are brought to the scans.")] = "lanczos",
    high_pass: Annotated[
        float, typer.Option(min=0.0, help="Longest period that is kept in the BOLD, in s; 0 keeps all.")
    ] = 120.0,
    trim: Annotated[
        str, typer.Option(metavar="FIRST,LAST", help="Scans left out at the beginning and at the end of each story.")
    ] = "0,0",
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
        if targets == "roi" or mask is None:
            raise InputError("--maps: expected --targets voxel and a --mask, got none of both; leave --maps out")
        refuse_existing_image(maps, overwrite, "--maps")
    if targets == "roi" and rois is None:
        raise InputError("--targets roi: expected --rois too, got none; give an image of regions")
    around, cut = _read_numbers(silence, "--silence", n=2), _read_numbers(trim, "--trim", n=2)
    if cut != [int(k) for k in cut] or min(*cut, *around) < 0:
        raise InputError(
            f"--silence, --trim: expected seconds and whole numbers of scans from 0, got {silence}, {trim}"
        )
    asked_delays = None if delays is None else _read_numbers(delays, "--delays")
    from brainmap.rsa.encoding.ridge import check_alphas, find_device

    penalties = check_alphas(None if alphas is None else _read_numbers(alphas, "--alphas"))
    find_device(device)
    networks = open_networks(activations, layers)
    import numpy as np

    from brainmap.record import write_table
    from brainmap.rsa.encoding.counts import COUNT_COLUMNS
    from brainmap.rsa.encoding.encode import ENCODING_COLUMNS
    from brainmap.rsa.encoding.maps import map_encoding
    from brainmap.rsa.encoding.permutations import ENCODING_TEST_COLUMNS, encoding_test
    from brainmap.rsa.encoding.stories import encode_stories as fit_stories
    from brainmap.rsa.inputs.stories import load_stories

    regions = load_regions(rois, roi_table, mask, participant=participant, minimum_voxels=1, hemispheres="separate")
    sounds = list(dict.fromkeys(next(iter(networks.values())).table["sound"].astype(str)))
    data = load_stories(
        bold, sounds, mask=mask, rois=regions, targets=targets, confounds=confounds, strategy=strategy, t_r=t_r
    )
    settings: dict[str, Any] = {
        "delays": asked_delays,
        "sampling": sampling,
        "high_pass": high_pass or None,
        "silence": tuple(around),
        "trim": tuple(int(k) for k in cut),
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
        participant=participant or "",
        alphas=penalties,
        device=device,
    )
    made = {**settings, "layers": layers, "targets": targets, "alphas": [float(a) for a in penalties], "t_r": data.t_r}
    others = [name for name in (mask, rois, roi_table) if name is not None]
    about = build_provenance(made, [*data.files, *list_stores(activations), *others], seed=seed)
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
        written.append(_save_maps(map_encoding(fit, mask, score=score), maps, str(mask), space, overwrite))
    _report(fit, data, written, as_json=as_json)


def _read_numbers(text: str, option: str, *, n: int | None = None) -> list[float]:
    """Read numbers between commas; n of them where a number is expected."""
    try:
        found = [float(word) for word in split_names(text)]
    except ValueError:
        found = []
    if not found or n not in (None, len(found)):
        wanted = "numbers parted by commas, as in 1,10,100" if n is None else f"{n} numbers, as in 10,8"
        raise InputError(f"{option}: expected {wanted}, got {text!r}")
    return found


def _save_maps(maps: Mapping[str, Any], path: str, mask: str, space: str | None, overwrite: bool) -> Path:
    """Save maps as sub-bricks of one image."""
    from brainmap.rsa.images.files import image_info

    where = space or image_info(mask).space
    return save_bricks(list(maps.values()), path, labels=list(maps), space=where, overwrite=overwrite)


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
