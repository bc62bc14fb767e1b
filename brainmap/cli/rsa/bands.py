"""Define the command that parts explained variance among bands of features: rsa bands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brainmap import types
from brainmap.cli.images import refuse_existing_maps, save_brain_maps
from brainmap.cli.options import (
    Items,
    Json,
    Overwrite,
    Seed,
    Table,
    build_provenance,
    print_files,
    print_table,
    refuse_existing,
    split_names,
    with_options,
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
    refuse_tables,
)
from brainmap.errors import InputError

if TYPE_CHECKING:
    pass


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
        Path | None, typer.Option(help="Also write a .tsv of p of all bands together, by permuting the sounds.")
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
    brain.refuse_none("rsa bands")
    if targets == "roi" and brain.rois is None:
        raise InputError("--targets roi: expected --rois too, got none; give an image of regions, or --targets voxel")
    refuse_existing(out, overwrite, kinds=(".tsv",))
    refuse_existing(tests, overwrite, option="--tests", kinds=(".tsv",))
    if maps is not None:
        from brainmap.rsa.surface.data import is_surface

        refuse_tables(brain.images, "--maps")
        if targets == "roi":
            raise InputError("--maps: expected --targets voxel, got regions; leave --maps out")
        refuse_existing_maps(maps, overwrite, "--maps", on_surface=any(is_surface(name) for name in brain.images))
    networks = open_networks(activations, layers)
    import numpy as np

    from brainmap.record import write_table
    from brainmap.rsa.encoding.bands import BAND_COLUMNS, encode_bands
    from brainmap.rsa.encoding.folds import make_fold_rng
    from brainmap.rsa.encoding.maps import map_bands
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
    fit = encode_bands(given, data, few_items=few_items, rng=make_fold_rng(seed), **asked)
    about = build_provenance(asked, [*brain.inputs, *list_stores(activations)], seed=seed)
    about["FoldOfItem"] = fit.folds.name_folds(fit.responses.items)
    written = [path for path in (out, tests) if path is not None]
    if out is not None:
        write_table(fit.scores, out, columns=BAND_COLUMNS, about=about)
    if tests is not None or maps is not None:
        tested = fit.test(permutations=permutations, correction=correction, rng=np.random.default_rng([seed, 1]))
        if tests is not None:
            columns = {name: text for name, text in ENCODING_TEST_COLUMNS.items() if name in tested}
            write_table(tested, tests, columns=columns, about={**about, "Test": tested.attrs["note"]})
        if maps is not None:
            found = map_bands(fit, None if fit.responses.mesh else brain.mask, tested=tested)
            written += save_brain_maps(found, maps, brain.mask, space=space, overwrite=overwrite)
    if as_json:
        print_table(fit.scores, True)
        return
    kept = ["r", "joint", "unique", "product", "unique_spread"]
    print_table(average_by_region(fit.scores, ["band"], kept, n="joint"), False)
    print_files(*written)
