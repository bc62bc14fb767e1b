"""Declare the options of `brainmap rsa` that several commands share, and read what they name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from brainmap import features, rsa, types
from brainmap.checks import check_choice, check_each, list_some
from brainmap.cli import app
from brainmap.cli.options import (
    Axes,
    Betas,
    Key,
    Labels,
    Mask,
    Missing,
    More,
    Participant,
    Stimuli,
    build_provenance,
    make_group,
    print_files,
    print_table,
    split_names,
    write_tables,
)
from brainmap.errors import InputError
from brainmap.types import Dataset, RDMs

if TYPE_CHECKING:
    import pandas as pd


commands = make_group(
    "rsa", "Representational similarity analysis: RDMs, comparison, inference, searchlights, group maps."
)
app.add_typer(commands)

LayerNames = Annotated[str, typer.Option(help="all, or names such as conv1,conv4.")]
Groups = Annotated[
    types.FoldGroups, typer.Option(help="What folds never divide; stimulus separates the tokens of a word.")
]
Targets = Annotated[types.EncodingTarget, typer.Option(help="Predict each voxel, or the mean of each ROI.")]
NFolds = Annotated[int, typer.Option(min=2, help="Test folds; scores are compared at equal numbers only.")]
SideBySide = Annotated[
    int, typer.Option("--jobs", "--n-jobs", "-j", min=1, help="Layers fitted side by side, each on one core.")
]
Float64Device = Annotated[
    types.Device, typer.Option(help="Device of the computation, in float64; auto takes cuda if there is one.")
]
FewItems = Annotated[bool, typer.Option("--few-items", help="Allow fewer than 40 items.")]


@dataclass(frozen=True, kw_only=True)
class Brain:
    """Hold the options that name the brain data of one participant; patterns and regions are read when asked for."""

    more: More = None
    betas: Betas = None
    mask: Mask = None
    rois: Annotated[
        str | None, typer.Option(help="Label image or voxel table (.tsv) of regions; default: the whole mask.")
    ] = None
    roi_table: Annotated[Path | None, typer.Option(help="TSV with index and name of each label.")] = None
    labels: Labels = None
    stimuli: Stimuli = None
    participant: Participant = None
    key: Key = None
    axes: Axes = None
    missing: Missing = "error"

    @property
    def images(self) -> list[str]:
        """Return the images, or tables, of all runs."""
        return [*(self.betas or []), *(self.more or [])]

    @property
    def inputs(self) -> list[str | Path]:
        """Return every file that patterns and regions are read from."""
        given = (self.mask, self.rois, self.roi_table, self.stimuli)
        return [*self.images, *(name for name in given if name is not None)]

    def check(self, command: str, targets: types.EncodingTarget = "voxel") -> None:
        """Refuse a command without images, or means of regions without regions."""
        if not self.images:
            raise InputError(f"{command}: expected --betas, got none; give the images of one participant")
        if targets == "roi" and self.rois is None:
            raise InputError(
                "--targets roi: expected --rois too, got none; give an image of regions, or --targets voxel"
            )

    def load_regions(self, *, minimum_voxels: int = 1, hemispheres: types.Hemispheres = "separate") -> rsa.Rois | None:
        """Load the regions; None where none are given."""
        return load_regions(
            self.rois,
            self.roi_table,
            self.mask,
            participant=self.participant,
            minimum_voxels=minimum_voxels,
            hemispheres=hemispheres,
        )

    def load_patterns(self, regions: rsa.Rois | None) -> Dataset:
        """Load the patterns of all runs, with the region of each voxel."""
        return load_given_patterns(
            self.images,
            self.mask,
            conditions=self.labels,
            rois=regions,
            stimuli=self.stimuli,
            participant=self.participant,
            missing=self.missing,
            key=self.key,
            axes=self.axes,
        )


def load_given_patterns(
    betas: Sequence[str], mask: str | None, *, key: str | None = None, axes: str | None = None, **given: Any
) -> Dataset:
    """Load the patterns of one participant inside a mask, on the surface (GIFTI, with {hemi}), or of a table."""
    from brainmap.cli.runs import choose_labels, read_run_names
    from brainmap.rsa.patterns.arrays import is_response_table
    from brainmap.rsa.patterns.surface import load_any_patterns
    from brainmap.rsa.surface.data import is_surface

    _refuse_spm(betas)
    if mask is None and not any(is_surface(name) or is_response_table(name) for name in betas):
        raise InputError("--betas: expected --mask too, got none; give an image of the voxels to read")
    given |= {"conditions": choose_labels(given.get("conditions"), betas), "runs": read_run_names(betas)}
    given["axes"] = split_names(axes) if axes else None
    return load_any_patterns(list(betas), mask=mask, key=key, **given)


def _refuse_spm(betas: Sequence[str]) -> None:
    """Refuse folders and single betas of SPM, of which an image each would be a run."""
    from brainmap.rsa.inputs.spm import is_beta

    spm = next((name for name in betas if Path(name).is_dir() or is_beta(name)), None)
    if spm is not None:
        folder = spm if Path(spm).is_dir() else str(Path(spm).parent)
        raise InputError(
            f"--betas: expected an image a run, got {spm}; folders of SPM are read in a study file (layout = 'spm', "
            f"folder = '{folder}') and in Python (rsa.load_inputs(rsa.find_inputs('{folder}', layout='spm')))"
        )


def refuse_tables(betas: Sequence[str], what: str) -> None:
    """Refuse response tables where a command needs the positions of voxels.

    Raises
    ------
    InputError
    """
    from brainmap.rsa.patterns.arrays import is_response_table

    tables = [name for name in betas if is_response_table(name)]
    if tables:
        raise InputError(
            f"{what}: expected images, since a response table does not tell where its voxels lie, got {tables[0]}; "
            "take regions (brainmap rsa rdm --rois voxels.tsv), or make images of it ('From a matrix to maps' in the "
            "guide to betas)"
        )


def load_regions(
    image: str | None, table: Path | None, mask: str | None, *, participant: str | None = None, **settings: Any
) -> rsa.Rois | None:
    """Load the ROIs of a label image, of surface labels or of a voxel table (.tsv); None without an image."""
    from brainmap.rsa.surface.data import is_surface

    if image is not None and is_surface(image):
        least, sides = settings["minimum_voxels"], settings["hemispheres"]
        return rsa.load_surface_rois(image, minimum_vertices=least, hemispheres=sides)
    if image is not None and image.endswith(".tsv"):
        return rsa.load_voxel_rois(image, participant=participant, **settings)
    return None if image is None else rsa.load_rois(image, table=table, mask=mask, **settings)


def load_left_over(noise: types.NoiseFrom, residuals: Sequence[str] | None, mask: str | None) -> rsa.Residuals | None:
    """Load the residuals from which the noise is estimated; None if it is estimated otherwise.

    Raises
    ------
    InputError
        If residuals are given but not requested, or requested but not given.
    """
    if (noise == "residuals") != bool(residuals):
        raise InputError("--noise residuals and --residuals FILE go together; give both, or neither")
    if not residuals:
        return None

    if mask is None:
        raise InputError("--residuals: expected --mask too, got none; give an image of the voxels to read")
    return rsa.load_residuals(residuals, mask=rsa.load_mask(mask))


def list_steps(text: str | None) -> list[types.Normalization]:
    """List the normalizations that are named, in their order."""
    known = get_args(types.Normalization)
    return [known[known.index(name)] for name in (split_names(text) if text else ())]


def count_noun(n: int, noun: str) -> str:
    """Write a number with its noun: 1 item, 2 items."""
    return f"{n} {noun}" + ("" if n == 1 else "s")


Data = Annotated[list[Path], typer.Argument(help="RDMs of the data (.h5), one file per participant.")]


def load_named_rdms(given: list[str], option: str) -> tuple[dict[str, RDMs], list[Path]]:
    """Load RDMs by the names that the user gives them, and return their files."""

    found: dict[str, RDMs] = {}
    files = []
    for one in given:
        name, sign, rest = one.partition("=")
        if not (name and sign and rest):
            raise InputError(f"{option}: expected name=FILE.h5, got {one!r}")
        if name in found:
            raise InputError(f"{option}: expected each name once, got {name!r} more than once; rename one")
        path, colon, some_of = (rest, "", "") if Path(rest).exists() else rest.rpartition(":")
        file = Path(path if colon or not some_of else rest)
        rdms = rsa.load_rdms(file)
        if colon:
            key = next((k for k in ("layer", "name") if k in rdms.rdm_descriptors), None)
            if key is None:
                raise InputError(f"{option}: expected RDMs with names, got none in {file}; take the whole file")
            known = [str(value) for value in rdms.rdm_descriptors[key]]
            wanted = [check_choice(value, known, f"{option}: RDM of {file}") for value in split_names(some_of)]
            rdms = rdms.subset(key, wanted)
        found[name] = rdms
        files.append(file)
    return found, files


Layers = Annotated[
    list[Path],
    typer.Argument(help="RDMs of layers (.h5), from `brainmap rsa rdm`; several files for several networks."),
]


def load_stacked_rdms(files: Sequence[Path]) -> RDMs:
    """Load RDMs of the same items from one or several files."""

    return rsa.stack_rdms([rsa.load_rdms(file) for file in files])


Networks = Annotated[
    list[str],
    typer.Option(
        "--activations",
        metavar="FILE...",
        help="Activations, a .zarr of `brainmap features activations`, or name=FILE for several networks.",
    ),
]
Segment = Annotated[
    float | None,
    typer.Option(help="Join the windows of stories to segments of so many s, of which the RDMs are, as in 10."),
]


def join_asked(acts: Any, segment: float | None) -> Any:
    """Join the windows of activations to segments, where these are asked for."""
    if segment is None:
        return acts

    return rsa.join_windows(acts, segment)


def load_features(
    store: Path, kind: str, *, layers: str, sounds: Path | None, space: types.PatternSpace, classes: str
) -> Any:
    """Read activations, maximizing patterns, class activation maps or attributions of a store as a feature set.

    Raises
    ------
    InputError
        Nothing of that kind, or several (layers of patterns and maps, methods of attributions) and none named.
    """

    if kind == "activations":
        return features.open_activations(store)
    if kind == "patterns":
        from brainmap.features.representations.files import open_maximizations

        kept = open_maximizations(store)
        if layers == "all" and len(kept) > 1:
            raise InputError(
                f"--layers: expected one layer for an RDM, got patterns of {list_some(kept)} in {store}; name one"
            )
        layer = next(iter(kept)) if layers == "all" else check_choice(layers, list(kept), "--layers")
        found = features.pattern_features(kept[layer], space=space)
        return replace(found, layers=(layer,), arrays={layer: found[found.layers[0]]})  # as the store names them
    if kind == "cams":
        from brainmap.features.representations.files import open_cams

        stored = open_cams(store, layer=_choose_layer(store, "cam", layers))
        maps: Any = stored.cams
        rate, align = stored.rate, stored.align
    else:
        from brainmap.features.representations.files import open_attributions

        kept_maps = open_attributions(store, method=_choose_layer(store, "attribution", layers))
        maps, align = kept_maps.attributions, kept_maps.align
        if maps.rate is None:
            raise InputError(f"--attributions: {store} was made of arrays without a rate; make it of sounds")
        rate = round(maps.rate)
    heard = None if sounds is None else _load_waveforms(sounds, maps, rate=rate, align=align)
    return features.map_features(
        maps, rate=rate, classes=classes, sounds=heard, align="none" if heard is None else "onset"
    )


def _choose_layer(store: Path, kind: str, layers: str) -> str | None:
    """Return the requested layer (for attributions, the method), or None for the only one in the store."""
    from brainmap.features.representations.files import list_stored_layers

    held = list_stored_layers(store, kind)
    if layers != "all":
        return layers
    if len(held) > 1:
        raise InputError(f"--layers: expected one {kind} for an RDM, got {list_some(held)} in {store}; name one")
    return None


def _load_waveforms(path: Path, maps: Any, *, rate: int, align: types.Align) -> Any:
    import numpy as np

    found = features.load_sounds(path, rate=rate, seconds=maps.maps.shape[-1] / rate, align=align)
    place = {item: row for row, item in enumerate(found.items)}
    missing = [item for item in maps.items if item not in place]
    if missing:
        raise InputError(f"--sounds: {path} lacks {missing[0]!r}, of which there is a map; give the table of the maps")
    return np.asarray(found.take([place[item] for item in maps.items]).waveforms)


def open_networks(given: Sequence[str], layers: str) -> dict[str, Any]:
    """Open stores of activations by the name of their network, and check the names of layers.

    Raises
    ------
    InputError
        Two networks have one name, or a network lacks a layer.
    """

    found: dict[str, Any] = {}
    for one in given:
        name, store = _split_network(one)
        acts = features.open_activations(store)
        name = name or acts.network or store.stem
        if name in found:
            raise InputError(f"--activations: expected networks of different names, got {name!r} twice; say name=FILE")
        found[name] = acts
        if layers != "all":
            check_each(split_names(layers), list(acts.layers), f"--layers: layer of {name}")
    return found


def _split_network(one: str) -> tuple[str, Path]:
    """Part name=FILE; the name is empty where there is none."""
    name, sign, rest = one.partition("=")
    return (name, Path(rest)) if sign and not Path(one).exists() else ("", Path(one))


def list_stores(activations: Sequence[str]) -> list[Path]:
    """List the stores that a command read."""
    return [_split_network(one)[1] for one in activations]


def write_rdms(rdms: RDMs, out: Path, parameters: Mapping[str, Any], inputs: Sequence[str | Path]) -> None:
    """Write RDMs, and beside them a JSON file that says what they were made of."""
    from brainmap.record import write_json

    rsa.save_rdms(rdms, out)
    write_json(out.with_suffix(".json"), build_provenance(parameters, inputs))


def leave_tables(
    shown: pd.DataFrame,
    tables: Sequence[tuple[Path | None, pd.DataFrame, Mapping[str, str]]],
    as_json: bool,
    *,
    parameters: Mapping[str, Any],
    inputs: Sequence[str | Path],
    seed: int = 0,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write tables with their columns where a path is given; show one if the first is not written, or as JSON."""
    paths = [path for path, _, _ in tables]
    said = {**(about or {}), **build_provenance(parameters, inputs, seed=seed)} if any(paths) else {}
    write_tables(*((*one, said) for one in tables))
    if paths[0] is None or as_json:
        print_table(shown, as_json)
    if not as_json:
        print_files(*paths)


def print_scores(
    scores: pd.DataFrame,
    average: Callable[[], pd.DataFrame],
    written: Sequence[Path],
    *,
    as_json: bool,
    words: str = "",
) -> None:
    """Print scores: their rows as JSON, or for people their averages, some words, and the files that were left.

    `average` is called where people read it.
    """
    if as_json:
        print_table(scores, True)
        return
    print_table(average(), False)
    if words:
        typer.echo(words)
    print_files(*written)


def average_by_region(
    scores: pd.DataFrame, keys: Sequence[str], columns: Sequence[str], **counted: str
) -> pd.DataFrame:
    """Average columns of scores over the targets of each region, beside the counts of targets with a value of some."""
    table = scores.assign(roi=scores["roi"].replace("", "elsewhere" if scores["roi"].any() else "mask"))
    grouped = table.groupby([*keys, "roi"], sort=False)
    found: pd.DataFrame = grouped[list(columns)].mean()
    return found.assign(**{name: grouped[column].count() for name, column in counted.items()}).reset_index()
