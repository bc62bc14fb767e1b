"""Define the commands that each draw one figure of the report: viz rdm, profile, brain, maximization, cam, sheet."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brainmap import features, rsa, types, viz
from brainmap.checks import check_choice, check_file, list_some, suggest_word
from brainmap.cli import app
from brainmap.cli.options import FORMATS, Overwrite, check_free, join_options, make_group, save_figure, split_names
from brainmap.errors import InputError
from brainmap.progress import log
from brainmap.types import RDMs

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from nibabel import Nifti1Image

commands = make_group("viz", "Draw one figure of the report, as .png, .svg or .pdf.")
app.add_typer(commands)

Out = Annotated[Path, typer.Option("--out", callback=check_free(*FORMATS), help="Figure to write: .png, .svg or .pdf.")]
Dpi = Annotated[int, typer.Option(min=50, max=1200, help="Resolution of a .png, in dots per inch.")]
Title = Annotated[str, typer.Option(help="Title of the figure.")]
Columns = Annotated[int, typer.Option(min=1, help="Number of panels in each row.")]
StoreFile = Annotated[Path, typer.Argument(metavar="STORE.zarr", help="Store that `brainmap features` writes.")]


def _declare_figure(out: Out, dpi: Dpi = 192, overwrite: Overwrite = False) -> None:
    """Declare the options of a figure."""


def _draws(command: Callable[..., Any]) -> Callable[..., None]:
    """Give a command that makes a figure the options that say where, and write it whole, with the command inside."""
    shared = inspect.signature(_declare_figure, eval_str=True).parameters

    @functools.wraps(command)
    def wrapper(*, out: Path, dpi: int, overwrite: bool, **given: Any) -> None:
        save_figure(command(**given), out, dpi=dpi)
        typer.echo(f"Wrote {out}")

    return join_options(wrapper, command, shared, leaves_out="")


@commands.command()
@_draws
def rdm(
    rdms: Annotated[Path, typer.Argument(metavar="RDMS.h5", help="RDMs that `brainmap rsa rdm` writes.")],
    layers: Annotated[str | None, typer.Option(help="Layers that are drawn, parted by commas; default: all.")] = None,
    rois: Annotated[str | None, typer.Option(help="ROIs that are drawn, parted by commas; default: all.")] = None,
    brain: Annotated[
        list[Path] | None,
        typer.Option(
            help="RDMs of the brain, whose mean over participants is drawn beside that of one layer; repeat the option."
        ),
    ] = None,
    correlations: Annotated[
        bool, typer.Option("--correlations", help="Draw the Spearman correlations between the RDMs.")
    ] = False,
    rank: Annotated[bool, typer.Option(help="Draw ranks in place of dissimilarities.")] = False,
    columns: Columns = 4,
) -> Any:
    """Draw RDMs side by side, one layer beside one region (--brain), or their correlations (--correlations)."""

    found = _select_rdms(rsa.load_rdms(rdms), "layer", layers, "--layers")
    if brain:
        regions = _select_rdms(rsa.stack_rdms([rsa.load_rdms(path) for path in brain]), "roi", rois, "--rois")
        return viz.plot_rdm_pair(
            _check_one_rdm(found, "layer", "--layers"), _check_one_region(regions, "roi", "--rois")
        )
    found = _select_rdms(found, "roi", rois, "--rois")
    if correlations:
        return viz.plot_correlation_matrix(_correlate_rdms(found))
    return viz.plot_rdm(found, rank=rank, columns=columns)


def _select_rdms(rdms: RDMs, key: str, wanted: str | None, option: str) -> RDMs:
    """Select the RDMs whose layer or ROI is named, in that order."""
    if wanted is None:
        return rdms
    known = [str(value) for value in rdms.rdm_descriptors.get(key, [])]
    if not known:
        raise InputError(f"{option}: expected RDMs with a {key}, got RDMs without; leave {option} out")
    asked = [check_choice(name, list(dict.fromkeys(known)), option) for name in split_names(wanted)]
    chosen: RDMs = rdms[[at for name in asked for at, value in enumerate(known) if value == name]]
    return chosen


def _check_one_rdm(rdms: RDMs, key: str, option: str) -> RDMs:
    """Return RDMs of which there is one; several are refused."""
    if rdms.n_rdm != 1:
        raise InputError(f"{option}: expected one RDM, got {rdms.n_rdm}; name a {key}")
    return rdms


def _check_one_region(rdms: RDMs, key: str, option: str) -> RDMs:
    """Return RDMs of one region, of any participants; several regions are refused."""
    known = sorted({str(value) for value in rdms.rdm_descriptors.get(key, [])})
    if len(known) > 1:
        raise InputError(f"{option}: expected RDMs of one ROI, got {len(known)} ({', '.join(known[:8])}); name one")
    return rdms


def _correlate_rdms(rdms: RDMs) -> pd.DataFrame:
    """Compute Spearman correlations between RDMs, labeled by what tells them apart."""
    import pandas as pd

    keys = [key for key in ("participant", "network", "layer", "time", "roi") if key in rdms.rdm_descriptors]
    keys = [key for key in keys if len(set(rdms.rdm_descriptors[key])) > 1] or keys
    labels = [" ".join(str(rdms.rdm_descriptors[key][k]) for key in keys) or str(k + 1) for k in range(rdms.n_rdm)]
    return pd.DataFrame(rsa.compare_rdms(rdms, rdms, measure="spearman"), index=labels, columns=labels)


@commands.command()
@_draws
def profile(
    scores: Annotated[
        list[Path], typer.Argument(help="Scores (.tsv) that `rsa compare` writes: layer, roi, participant, score.")
    ],
    ceilings: Annotated[Path | None, typer.Option(help="Noise ceilings (.tsv): roi, lower, upper.")] = None,
    statistics: Annotated[
        Path | None,
        typer.Option(help="Tests (.tsv), whose significant scores get stars: layer, roi, mean, p_corrected."),
    ] = None,
    as_table: Annotated[
        bool, typer.Option("--table", help="Draw a table of layers x regions; SCORES are then tests.")
    ] = False,
    rois: Annotated[
        str | None, typer.Option(help="ROIs that are drawn, in this order, parted by commas; default: all.")
    ] = None,
    network: Annotated[str | None, typer.Option(help="Network that is drawn, where the tables hold several.")] = None,
    measure: Annotated[str, typer.Option(help="Label of the vertical axis.")] = "RDM correlation",
    columns: Columns = 4,
) -> Any:
    """Draw scores over layers in each region, with noise ceilings and stars, or as a table of layers x regions."""

    import pandas as pd

    table = _select_rois(pd.concat([_read_table(path) for path in scores], ignore_index=True), rois)
    table = _select_network(table, network)
    if as_table:
        return viz.plot_layer_roi_table(table, measure=measure)
    return viz.plot_layer_profile(
        table,
        None if ceilings is None else _read_table(ceilings),
        statistics=None if statistics is None else _select_network(_read_table(statistics), network),
        measure=measure,
        columns=columns,
    )


def _read_table(path: Path) -> pd.DataFrame:
    import pandas as pd

    from brainmap.tables import NAMES

    check_file(path, "table")
    try:
        return pd.read_csv(path, sep="\t", na_values="n/a", dtype=dict.fromkeys(NAMES, str))
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"table: expected tab-separated values, got {path}, which cannot be read: {error}") from None


def _select_network(table: pd.DataFrame, network: str | None) -> pd.DataFrame:
    if network is None or "network" not in table:
        return table
    check_choice(network, [str(name) for name in dict.fromkeys(table["network"])], "network")
    return table[table["network"] == network]


def _select_rois(table: pd.DataFrame, rois: str | None) -> pd.DataFrame:
    import pandas as pd

    if rois is None or "roi" not in table:
        return table
    known = list(dict.fromkeys(table["roi"]))
    return pd.concat(
        [table[table["roi"] == check_choice(name, known, "--rois")] for name in split_names(rois)], ignore_index=True
    )


@commands.command()
@_draws
def brain(
    image: Annotated[
        str, typer.Argument(metavar="MAP", help="Map in MNI space, NIfTI or AFNI, as in map.nii.gz\\[conv4_mean].")
    ],
    view: Annotated[
        types.BrainView, typer.Option(help="View of the map; best colors each voxel by the best of --layers.")
    ] = "slices",
    layers: Annotated[
        str | None, typer.Option(help="Names of the layers that 1, 2, ... stand for, with --view best.")
    ] = None,
    outline: Annotated[str | None, typer.Option(help="Image whose voxels above 0 are outlined.")] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Smallest value that is shown; default: a third of the largest.")
    ] = None,
    vmax: Annotated[float | None, typer.Option(help="Largest value of the color scale.")] = None,
    signed: Annotated[bool, typer.Option("--signed", help="Show negative values too.")] = False,
    label: Annotated[str, typer.Option(help="Label of the color scale.")] = "score",
    title: Title = "",
) -> Any:
    """Draw a map on the MNI template: slices through peaks, a glass brain, the inflated cortex, or the best layers.

    With --view surface, MAP may also be GIFTI data on fsaverage5: map_hemi-{hemi}.func.gii
    """
    if (layers is None and view == "best") or (layers is not None and view in ("slices", "glass")):
        raise InputError(
            "--layers: expected together with --view best or surface; name the layers that 1, 2, ... stand for"
        )

    if view == "surface":
        limits = {"threshold": threshold, "vmax": vmax, "signed": signed}
        return _plot_on_surface(image, layers, title=title, label=label, **limits)
    shown = _load_volume(image)
    if layers is not None:
        return viz.plot_best_layer(shown, split_names(layers), title=title)
    if view == "glass":
        return viz.plot_glass_brain(shown, threshold=threshold, vmax=vmax, title=title, label=label)
    around = None if outline is None else rsa.load_image(outline)
    return viz.plot_brain(
        shown, outline=around, threshold=threshold, vmax=vmax, signed=signed, title=title, label=label
    )


def _plot_on_surface(path: str, layers: str | None, **given: Any) -> Figure:
    from brainmap.rsa.surface.data import is_surface

    best = layers is not None
    kind: Any = "label" if best else "continuous"
    data = (
        rsa.load_surface(path) if is_surface(path) else rsa.project_to_surface(_load_volume(path), interpolation=kind)
    )
    return viz.plot_surface(data, layers=tuple(split_names(layers)) if layers is not None else None, **given)


def _load_volume(path: str) -> Nifti1Image:

    loaded = rsa.load_image(path)
    if len(loaded.shape) > 3:
        raise InputError(
            f"MAP: expected one map, got {loaded.shape[3]} in {path} ({list_some(rsa.sub_brick_labels(path))}); choose "
            f"one, as in '{path}[0]'"
        )
    return loaded


@commands.command()
@_draws
def maximization(
    store: StoreFile,
    layer: Annotated[str, typer.Option(help="Layer whose patterns are drawn.")] = "output",
    columns: Columns = 8,
    title: Title = "",
) -> Any:
    """Draw the waveform and spectrogram of every maximizing pattern of a layer."""

    from brainmap.features.representations.files import open_maximizations

    found = open_maximizations(store)
    am = found[check_choice(layer, list(found), "--layer")]
    return viz.plot_maximization(am, labels=am.labels, columns=columns, title=title)


@commands.command()
@_draws
def cam(
    store: StoreFile,
    sounds: Annotated[Path, typer.Option(help="Sounds of the maps: stimuli.tsv or a folder of class folders.")],
    layer: Annotated[
        str | None, typer.Option(help="Layer of the maps; default: the one that was computed last.")
    ] = None,
    view: Annotated[
        types.CamView,
        typer.Option(
            help="What is drawn: maps of the sounds' own classes, the mean attention of every class to every word, or "
            "the top five or all classes of each sound."
        ),
    ] = "sounds",
    items: Annotated[
        str | None, typer.Option(help="stimulus_ids of the sounds, parted by commas; default: the first of each word.")
    ] = None,
    columns: Columns = 4,
    title: Title = "",
) -> Any:
    """Draw waveforms colored by their class activation maps, or the attention of every class to every word."""

    from brainmap.features.attention.words import keep_known_words
    from brainmap.features.representations.files import open_cams
    from brainmap.features.sounds.front_ends import WAVEFORM

    kept = open_cams(store, layer=layer)
    length = (kept.axes.n_samples if kept.axes is not None else kept.cams.maps.shape[-1]) / kept.rate
    taken = WAVEFORM if kept.axes is None else kept.axes.front_end
    if taken.is_code:  # a store of others does not choose which code runs
        raise InputError(
            f"--store: the maps lie over an input that the code {taken.kind!r} computes, which is not run here; "
            "draw them with features cam --figure"
        )
    heard = features.load_sounds(
        sounds, rate=kept.rate, seconds=length, level="none", align=kept.align, front_end=taken
    )
    heard = heard.take(_find_rows(kept.cams.items, heard.items, "--sounds"))
    if view in ("top", "all"):
        rows = None if items is None else _find_rows(split_names(items), kept.cams.items, "--items")
        return viz.plot_class_maps(heard, kept.cams, items=rows, most=5 if view == "top" else None, title=title)
    heard, cams, strange = keep_known_words(heard, kept.cams)
    if heard is None:
        raise InputError(
            f"--store: expected sounds whose condition is a class ({list_some(kept.cams.class_names, 4)}), got "
            f"{list_some(strange, 4)}"
        )
    if strange:
        log.warning("note: sounds whose condition is no class are left out: %s", list_some(strange, 8))
    if view == "attention":
        return viz.plot_target_attention(heard, cams, title=title)
    rows = None if items is None else _find_rows(split_names(items), cams.items, "--items")
    return viz.plot_cam(heard, cams, items=rows, columns=columns, title=title)


def _find_rows(wanted: Sequence[str], known: Sequence[str], option: str) -> list[int]:
    places = {name: at for at, name in enumerate(known)}
    lacking = [name for name in wanted if name not in places]
    if lacking:
        raise InputError(
            f"{option}: expected some of {list_some(known, 4)}, got "
            f"{list_some(lacking, 4)}{suggest_word(lacking[0], known)}"
        )
    return [places[name] for name in wanted]


@commands.command()
@_draws
def sheet(
    store: StoreFile,
    maps: Annotated[str, typer.Option(help="Maps in MNI space whose sub-bricks are layers (conv4, or conv4_mean).")],
    layers: Annotated[
        str | None, typer.Option(help="Layers that are drawn, in this order, parted by commas; default: all.")
    ] = None,
) -> Any:
    """Draw the maximizing pattern and the brain map of each layer, one row for each layer."""

    from brainmap.features.representations.files import open_maximizations

    patterns, images = open_maximizations(store), _read_layer_maps(maps)
    both = [layer for layer in images if layer in patterns]
    if not both:
        raise InputError(
            f"sheet: expected layers with patterns and maps, got patterns of {list_some(patterns)} in {store} and "
            f"maps of {list_some(images)} in {maps}"
        )
    chosen = both if layers is None else [check_choice(layer, both, "--layers") for layer in split_names(layers)]
    rows = [
        viz.SheetRow(layer=layer, image=images[layer], pattern=am.patterns[0, 0], rate=am.rate, unit=am.labels[0])
        for layer, am in ((layer, patterns[layer]) for layer in chosen)
    ]
    return viz.plot_sheet(rows, layers=list(images))


def _read_layer_maps(path: str) -> dict[str, Any]:
    """Read maps by layer: the sub-bricks of a searchlight, or the means of a group analysis."""
    from brainmap.cli.images import read_labeled_maps

    found = read_labeled_maps(path)
    means = {name.removesuffix("_mean"): image for name, image in found.items() if name.endswith("_mean")}
    return means or found
