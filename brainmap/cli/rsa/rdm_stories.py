"""Define the command that computes brain RDMs of windows of stories: rsa rdm-stories."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from brainmap import rsa, types
from brainmap.cli.options import Overwrite, check_free, read_numbers, with_options
from brainmap.cli.rsa.encoding_options import StoryBrain
from brainmap.cli.rsa.options import (
    Networks,
    Segment,
    commands,
    count_noun,
    join_asked,
    list_stores,
    open_networks,
    write_rdms,
)
from brainmap.errors import InputError
from brainmap.rsa.encoding.latencies import check_latencies


@commands.command()
@with_options(StoryBrain, fills="brain", first=True)
def rdm_stories(
    activations: Networks,
    brain: StoryBrain,
    out: Annotated[Path, typer.Option(callback=check_free(".h5", ".hdf5"), help="RDMs to write (.h5), one a region.")],
    lag: Annotated[float, typer.Option(min=0.0, help="Seconds from a sound to the response to it.")] = 5.0,
    silence: Annotated[
        str, typer.Option(metavar="BEFORE,AFTER", help="Seconds scanned before the sound began and after it ended.")
    ] = "0,0",
    high_pass: Annotated[
        float, typer.Option(min=0.0, help="Longest period that is kept in the BOLD, in s; 0 keeps all.")
    ] = 120.0,
    dissimilarity: Annotated[
        types.Dissimilarity, typer.Option(help="crossnobis needs repetitions of the stories.")
    ] = "correlation",
    pairs: Annotated[
        types.StoryPairs,
        typer.Option(help="Pairs of windows of different stories, or all: neighbors in time are alike in any case."),
    ] = "between",
    segment: Segment = None,
    overwrite: Overwrite = False,
) -> None:
    """Compute the RDMs of regions over windows of stories, for comparison with those of a network's windows.

    Windows are those of the activations and must not overlap; those of encoding models are joined by --segment:
    brainmap rsa rdm-stories --activations net.zarr --segment 10 --bold 'sub-01/{sound}.nii.gz' --mask mask.nii.gz
    --rois rois.nii.gz --out brain.h5; brainmap rsa rdm --activations net.zarr --segment 10 --out layers.h5; brainmap
    rsa compare layers.h5 brain.h5
    """
    check_latencies([lag], "--lag")
    brain.check("voxel")
    around = read_numbers(silence, "--silence", n=2)
    if min(around) < 0:
        raise InputError(f"--silence: expected seconds from 0, got {silence}")
    network = join_asked(next(iter(open_networks(activations, "all").values())), segment)
    data = brain.load(list(dict.fromkeys(network.table["sound"].astype(str))), "voxel")
    asked: dict[str, Any] = {"lag": lag, "silence": (around[0], around[1]), "high_pass": high_pass or None}
    patterns = rsa.story_patterns(
        network, data.responses, **data.settings, **asked, participant=brain.participant or ""
    )
    regions = None if brain.rois is None else "all"
    found = rsa.compute_rdms(patterns, rois=regions, dissimilarity=dissimilarity)
    found = rsa.leave_out_pairs_within(found) if pairs == "between" else found
    made = {**asked, "dissimilarity": dissimilarity, "pairs": pairs, "segment": segment}
    write_rdms(found, out, made, [*data.files, *list_stores(activations), *brain.others])
    stories = len(data.responses)
    which = "between stories" if pairs == "between" else "within stories too"
    typer.echo(
        f"{out}: {count_noun(found.n_rdm, 'RDM')} of {count_noun(found.n_cond, 'window')} of {stories} stories, pairs "
        f"{which}, {dissimilarity}"
    )
