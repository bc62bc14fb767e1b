"""Define the command that predicts voxels from layers: rsa encode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brainmap import types
from brainmap.cli.images import refuse_existing_maps, save_brain_maps
from brainmap.cli.options import (
    Items,
    Json,
    Normalize,
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
from brainmap.cli.rsa.encoders import EncoderOutput
from brainmap.cli.rsa.options import (
    Brain,
    FewItems,
    Groups,
    LayerNames,
    NFolds,
    SideBySide,
    Targets,
    commands,
    count_noun,
    list_steps,
    refuse_tables,
)
from brainmap.cli.rsa.stores import Networks, list_stores, open_networks
from brainmap.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from brainmap.rsa.encoding.encode import Encoding


@dataclass(frozen=True, kw_only=True)
class _Outputs:
    """Hold the options that say what is written of encoding models, and write it."""

    maps: Annotated[
        str | None, typer.Option(help="Image to write, one sub-brick a layer: .nii.gz, x+tlrc, .func.gii with {hemi}.")
    ] = None
    score: Annotated[types.EncodingScore, typer.Option(help="The score of --maps.")] = "r"
    counts: Annotated[
        Path | None, typer.Option(help="Also write a .tsv of targets without a score and of alphas at the ends.")
    ] = None
    tests: Annotated[
        Path | None, typer.Option(help="Also write a .tsv of p for each row, by permuting the sounds.")
    ] = None
    permutations: Annotated[int, typer.Option(min=1, help="Permutations of the sounds for --tests and --encoder.")] = (
        1000
    )
    correction: Annotated[
        types.PermutationCorrection,
        typer.Option(help="Correction of --tests over all rows; max is family-wise by the highest r."),
    ] = "fdr"
    best: Annotated[
        Path | None, typer.Option(help="Also write a .tsv of best layers, chosen on one half and scored on the other.")
    ] = None
    best_maps: Annotated[
        str | None, typer.Option(help="Also write an image of best layer (from 1), its position (0 to 1), and its r.")
    ] = None
    network: Annotated[str | None, typer.Option(help="The network of --best-maps, where there are several.")] = None
    splits: Annotated[int, typer.Option(min=1, help="Halvings of the sounds for --best and --best-maps.")] = 10
    space: Annotated[str | None, typer.Option(help="Space of images; default: that of the mask.")] = None
    out: Table = None
    overwrite: Overwrite = False
    as_json: Json = False

    def refuse_existing(self, brain: Brain, targets: str) -> None:
        """Refuse files that exist, and maps that could not be made, before anything is read.

        Raises
        ------
        InputError
        """
        tables = {"--out": self.out, "--counts": self.counts, "--tests": self.tests, "--best": self.best}
        for option, path in tables.items():
            refuse_existing(path, self.overwrite, option=option, kinds=(".tsv",))
        _check_maps({"--maps": self.maps, "--best-maps": self.best_maps}, brain, targets, self.overwrite)

    def write(self, fit: Encoding, mask: str | None, about: Mapping[str, Any], seed: int) -> Iterator[Path]:
        """Write the tables and maps that are asked for, and yield their files."""
        import numpy as np

        from brainmap.record import write_table
        from brainmap.rsa.encoding.best_layers import BEST_LAYER_COLUMNS, best_encoding_layers
        from brainmap.rsa.encoding.counts import COUNT_COLUMNS
        from brainmap.rsa.encoding.encode import ENCODING_COLUMNS
        from brainmap.rsa.encoding.maps import map_encoding
        from brainmap.rsa.encoding.permutations import ENCODING_TEST_COLUMNS, encoding_test

        place = None if fit.responses.mesh else mask
        if self.out is not None:
            yield write_table(fit.scores, self.out, columns=ENCODING_COLUMNS, about=about)
        if self.counts is not None:
            yield write_table(fit.counts, self.counts, columns=COUNT_COLUMNS, about=about)
        if self.tests is not None:
            rng = np.random.default_rng([seed, 1])
            tested = encoding_test(fit, permutations=self.permutations, correction=self.correction, rng=rng)
            said = {**about, "Test": tested.attrs["note"]}
            yield write_table(tested, self.tests, columns=ENCODING_TEST_COLUMNS, about=said)
        if self.maps is not None:
            found = map_encoding(fit, place, score=self.score)
            yield from save_brain_maps(found, self.maps, mask, space=self.space, overwrite=self.overwrite)
        if self.best is not None or self.best_maps is not None:
            best = best_encoding_layers(fit, splits=self.splits, rng=np.random.default_rng(seed))
            if self.best is not None:
                yield write_table(best.regions, self.best, columns=BEST_LAYER_COLUMNS, about=about)
            if self.best_maps is not None:
                maps = best.maps(place, self.network)
                yield from save_brain_maps(maps, self.best_maps, mask, space=self.space, overwrite=self.overwrite)


@commands.command()
@with_options(Brain, fills="brain", first=True)
@with_options(EncoderOutput, fills="encoder")
@with_options(_Outputs, fills="outputs")
def encode(
    activations: Networks,
    brain: Brain,
    outputs: _Outputs,
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
    device: Annotated[
        types.Device, typer.Option(help="Device of the regression; auto takes cuda if there is one.")
    ] = "auto",
    jobs: SideBySide = 1,
    seed: Seed = 0,
) -> None:
    """Predict voxels or regions from every layer by ridge regression, with cross-validated scores.

    Sounds that are predicted are never in training. brainmap rsa encode --activations net.zarr --betas run-*.nii.gz
    --mask mask.nii.gz --stimuli stimuli.tsv --rois rois.nii.gz --out scores.tsv --maps r.nii.gz
    """
    brain.refuse_none("rsa encode")
    outputs.refuse_existing(brain, targets)
    from brainmap.rsa.encoding.ridge import check_alphas, find_device

    penalties = check_alphas(None if alphas is None else _read_numbers(alphas))
    find_device(device)
    networks = open_networks(activations, layers)
    encoder.refuse(networks, layers, outputs.overwrite)
    import numpy as np

    from brainmap.rsa.encoding.encode import encode as fit_models
    from brainmap.rsa.patterns.normalize import normalize_patterns

    data = brain.load_patterns(brain.load_regions())
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
        threads=jobs,
        rng=np.random.default_rng(seed),
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
    _report_encoding(fit, written, as_json=outputs.as_json)


def _check_maps(maps: Mapping[str, str | None], brain: Brain, targets: str, overwrite: bool) -> None:
    """Refuse maps and regions that could not be made before anything is read."""
    from brainmap.rsa.surface.data import is_surface

    if targets == "roi" and brain.rois is None:
        raise InputError("--targets roi: expected --rois too, got none; give an image of regions")
    vertices = any(is_surface(name) for name in brain.images)
    if any(maps.values()):
        refuse_tables(brain.images, next(option for option, path in maps.items() if path is not None))
    for option, path in maps.items():
        if path is None:
            continue
        if targets == "roi":
            raise InputError(f"{option}: expected --targets voxel, got regions; leave {option} out")
        refuse_existing_maps(path, overwrite, option, on_surface=vertices)


def _read_numbers(text: str) -> list[float]:
    """Read numbers between commas."""
    try:
        return [float(word) for word in split_names(text)]
    except ValueError:
        raise InputError(f"--alphas: expected numbers parted by commas, as in 1,10,100, got {text!r}") from None


def _report_encoding(fit: Encoding, written: Sequence[Path], *, as_json: bool) -> None:
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
