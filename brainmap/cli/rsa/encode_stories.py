"""Define the command that predicts time courses of voxels while stories are heard: rsa encode-stories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from brainmap import rsa
from brainmap.cli.options import (
    Seed,
    build_provenance,
    read_numbers,
    split_names,
    with_options,
)
from brainmap.cli.rsa.encoding_options import EncodingOutputs, StoryBrain, StoryScans
from brainmap.cli.rsa.options import (
    Float64Device,
    LayerNames,
    Networks,
    SideBySide,
    Targets,
    commands,
    count_noun,
    list_stores,
    open_networks,
    print_scores,
)
from brainmap.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


@commands.command()
@with_options(StoryScans, fills="scans")
@with_options(StoryBrain, fills="brain", first=True)
@with_options(EncodingOutputs, fills="outputs")
def encode_stories(
    activations: Networks,
    brain: StoryBrain,
    scans: StoryScans,
    outputs: EncodingOutputs,
    layers: LayerNames = "all",
    targets: Targets = "voxel",
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
    block: Annotated[float, typer.Option(help="Length in s, 20 or more, of the blocks that --tests exchanges.")] = 20.0,
    device: Float64Device = "auto",
    jobs: SideBySide = 1,
    seed: Seed = 0,
) -> None:
    """Predict the BOLD of voxels or regions while stories are heard, from windows of each layer.

    Whole stories are left out. brainmap features activations --checkpoint net.safetensors --sounds stories.tsv --window
    2 --hop 0.5 --out net.zarr; brainmap rsa encode-stories --activations net.zarr --bold 'sub-01/{sound}.nii.gz' --mask
    mask.nii.gz --out scores.tsv
    """
    for option in outputs.asked_maps:
        if not (brain.mask or brain.on_surface):
            raise InputError(f"{option}: expected images and a --mask, or surfaces, got none; leave {option} out")
    outputs.refuse_existing(targets, on_surface=brain.on_surface)
    brain.check(targets)
    aligned = scans.read()
    from brainmap.rsa.encoding.ridge import check_alphas, find_device

    penalties = check_alphas(None if alphas is None else read_numbers(alphas, "--alphas"))
    find_device(device)
    networks = open_networks(activations, layers)

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
    fit = rsa.encode_stories(
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
    written = list(outputs.write(fit, brain.mask, about, seed))
    whole, stories = data.counts.iloc[0], len(set(fit.responses.conditions))
    print_scores(
        fit.scores,
        lambda: _average_regions(fit),
        written,
        as_json=outputs.as_json,
        words=f"{count_noun(len(fit.items), 'scan')} of {data.t_r:g} s in {stories} stories, {fit.folds.n_folds} test "
        f"folds of whole stories, {count_noun(len(fit.responses.runs), 'repetition')}\n"
        f"voxels: {whole['kept']} of {whole['voxels']} used; left out: {whole['dropped_constant']} constant in a run, "
        f"{whole['dropped_nan']} with NaN",
    )


def _average_regions(fit: rsa.Encoding) -> pd.DataFrame:
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
