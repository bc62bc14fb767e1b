"""Define the command that predicts voxels from layers: rsa encode."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from brainmap import rsa
from brainmap.cli.options import (
    Items,
    Normalize,
    Seed,
    build_provenance,
    read_numbers,
    split_names,
    with_options,
)
from brainmap.cli.rsa.encoding_options import EncoderOutput, EncodingOutputs
from brainmap.cli.rsa.options import (
    Brain,
    FewItems,
    Float64Device,
    Groups,
    LayerNames,
    Networks,
    NFolds,
    SideBySide,
    Targets,
    average_by_region,
    commands,
    count_noun,
    list_steps,
    list_stores,
    open_networks,
    print_scores,
    refuse_tables,
)


@commands.command()
@with_options(Brain, fills="brain", first=True)
@with_options(EncoderOutput, fills="encoder")
@with_options(EncodingOutputs, fills="outputs")
def encode(
    activations: Networks,
    brain: Brain,
    outputs: EncodingOutputs,
    encoder: EncoderOutput,
    normalize: Normalize = None,
    layers: LayerNames = "all",
    items: Items = "stimulus",
    groups: Groups = "condition",
    targets: Targets = "voxel",
    alphas: Annotated[
        str | None, typer.Option(metavar="NUMBER,...", help="Penalties to choose from; default: 13 from 0.1 to 1e8.")
    ] = None,
    folds: NFolds = 5,
    inner_folds: Annotated[
        int, typer.Option(min=2, help="Folds that choose alpha; a large number leaves out one group at a time.")
    ] = 5,
    components: Annotated[
        int | None,
        typer.Option(min=1, help="Reduce each layer to this number of principal components of training items."),
    ] = None,
    reliability_floor: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="No corrected score at or below this reliability.")
    ] = 0.0,
    prediction_reliability: Annotated[
        bool, typer.Option("--prediction-reliability", help="Also correct for the reliability of predictions.")
    ] = False,
    few_items: FewItems = False,
    device: Float64Device = "auto",
    jobs: SideBySide = 1,
    seed: Seed = 0,
) -> None:
    """Predict voxels or regions from every layer by ridge regression, with cross-validated scores.

    Sounds that are predicted are never in training. brainmap rsa encode --activations net.zarr --betas run-*.nii.gz
    --mask mask.nii.gz --stimuli stimuli.tsv --rois rois.nii.gz --out scores.tsv --maps r.nii.gz
    """
    brain.check("rsa encode", targets)
    from brainmap.rsa.surface.data import is_surface

    for option in outputs.asked_maps:
        refuse_tables(brain.images, option)
    outputs.refuse_existing(targets, on_surface=any(is_surface(name) for name in brain.images))
    from brainmap.rsa.encoding.ridge import check_alphas, find_device

    penalties = check_alphas(None if alphas is None else read_numbers(alphas, "--alphas"))
    find_device(device)
    networks = open_networks(activations, layers)
    encoder.refuse(networks, layers)
    from brainmap.rsa.encoding.folds import make_fold_rng

    data = brain.load_patterns(brain.load_regions())
    for method in list_steps(normalize):
        data = rsa.normalize_patterns(data, method)
    settings: dict[str, Any] = {
        "groups": groups,
        "items": items,
        "targets": targets,
        "folds": folds,
        "inner_folds": inner_folds,
        "components": components,
        "reliability_floor": reliability_floor,
    }
    fit = rsa.encode(
        networks,
        data,
        layers="all" if layers == "all" else split_names(layers),
        alphas=penalties,
        prediction_reliability=prediction_reliability,
        few_items=few_items,
        device=device,
        threads=jobs,
        rng=make_fold_rng(seed),
        **settings,
    )
    made = {**settings, "layers": layers, "alphas": [float(a) for a in penalties], "normalize": normalize}
    about = build_provenance(made, [*brain.inputs, *list_stores(activations)], seed=seed)
    written = list(outputs.write(fit, brain.mask, about, seed))
    images = build_provenance({}, brain.images)["InputsSHA256"].values()
    network = encoder.write(
        fit, next(iter(networks.values())), data=sorted(map(str, images)), permutations=outputs.permutations, seed=seed
    )
    written += [] if network is None else [network]
    kept = ["r", "r_corrected", "r2", "reliability"]
    print_scores(
        fit.scores,
        lambda: average_by_region(fit.scores, ["network", "layer"], kept, n="r", corrected="r_corrected"),
        written,
        as_json=outputs.as_json,
        words=f"{len(fit.items)} items in {fit.folds.n_folds} test folds by {fit.folds.by}, "
        f"{count_noun(len(fit.responses.runs), 'run')}; means over voxels, of which those without a score are left out",
    )
