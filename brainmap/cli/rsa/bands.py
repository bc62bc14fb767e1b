"""Define the command that parts explained variance among bands of features: rsa bands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from brainmap import rsa, types
from brainmap.cli.images import refuse_existing_maps, save_brain_maps
from brainmap.cli.options import (
    Items,
    Json,
    Overwrite,
    Seed,
    Table,
    build_provenance,
    check_free,
    make_rng,
    split_names,
    with_options,
    write_tables,
)
from brainmap.cli.rsa.options import (
    Brain,
    FewItems,
    Groups,
    LayerNames,
    Networks,
    NFolds,
    Targets,
    average_by_region,
    commands,
    list_stores,
    open_networks,
    print_scores,
    refuse_tables,
)
from brainmap.errors import InputError


@commands.command()
@with_options(Brain, fills="brain", first=True)
def bands(
    activations: Networks,
    brain: Brain,
    layers: LayerNames = "all",
    items: Items = "stimulus",
    groups: Groups = "condition",
    targets: Targets = "roi",
    folds: NFolds = 5,
    n_iter: Annotated[int, typer.Option(min=1, help="Number of weights of the bands that are tried.")] = 50,
    searches: Annotated[int, typer.Option(min=1, help="Random searches, over which scores are averaged.")] = 3,
    few_items: FewItems = False,
    tests: Annotated[
        Path | None,
        typer.Option(
            callback=check_free(".tsv"), help="Also write a .tsv of p of all bands together, by permuting the sounds."
        ),
    ] = None,
    maps: Annotated[
        str | None,
        typer.Option(
            help="Image to write: the preferred band (from 1) where all bands are significant, their R2, and what each "
            "adds. .nii.gz, x+tlrc, .func.gii with {hemi}."
        ),
    ] = None,
    permutations: Annotated[int, typer.Option(min=1, help="Permutations of the sounds for --tests and --maps.")] = 1000,
    correction: Annotated[
        types.PermutationCorrection,
        typer.Option(help="Correction of --tests over all rows; max is family-wise by the highest r."),
    ] = "fdr",
    space: Annotated[str | None, typer.Option(help="Space of images; default: that of the mask.")] = None,
    seed: Seed = 0,
    out: Table = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Predict responses from several bands of features at once, and say what each band adds.

    Each store is a band (a network, acoustic models of `brainmap features acoustics`), or each layer of the only one.
    """
    brain.check("rsa bands", targets)
    if maps is not None:
        from brainmap.rsa.surface.data import is_surface

        refuse_tables(brain.images, "--maps")
        if targets == "roi":
            raise InputError("--maps: expected --targets voxel, got regions; leave --maps out")
        refuse_existing_maps({"--maps": maps}, overwrite, on_surface=any(map(is_surface, brain.images)))
    networks = open_networks(activations, layers)

    from brainmap.rsa.encoding.bands import BAND_COLUMNS
    from brainmap.rsa.encoding.folds import make_fold_rng
    from brainmap.rsa.encoding.permutations import ENCODING_TEST_COLUMNS

    data = brain.load_patterns(brain.load_regions())
    asked: dict[str, Any] = {
        "groups": groups,
        "items": items,
        "targets": targets,
        "layers": "all" if layers == "all" else split_names(layers),
        "folds": folds,
        "n_iter": n_iter,
        "seeds": [seed + k for k in range(searches)],
    }
    given = next(iter(networks.values())) if len(networks) == 1 else networks
    fit = rsa.encode_bands(given, data, few_items=few_items, rng=make_fold_rng(seed), **asked)
    about = build_provenance(asked, [*brain.inputs, *list_stores(activations)], seed=seed)
    about["FoldOfItem"] = fit.folds.name_folds(fit.responses.items)
    written = write_tables((out, fit.scores, BAND_COLUMNS, about))
    if tests is not None or maps is not None:
        tested = fit.test(permutations=permutations, correction=correction, rng=make_rng([seed, 1]))
        columns = {name: text for name, text in ENCODING_TEST_COLUMNS.items() if name in tested}
        written += write_tables((tests, tested, columns, {**about, "Test": tested.attrs["note"]}))
        if maps is not None:
            found = rsa.map_bands(fit, None if fit.responses.mesh else brain.mask, tested=tested)
            written += save_brain_maps(found, maps, brain.mask, space=space, overwrite=overwrite)
    kept = ["r", "joint", "unique", "product", "unique_spread"]
    print_scores(fit.scores, lambda: average_by_region(fit.scores, ["band"], kept, n="joint"), written, as_json=as_json)
