"""Define the command that tests maps over participants: rsa group."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from brainmap import rsa, types
from brainmap.cli.images import read_labeled_maps, refuse_existing_maps, save_maps
from brainmap.cli.options import (
    Jobs,
    Json,
    Overwrite,
    Seed,
    build_provenance,
    check_free,
    make_rng,
    print_table,
    split_names,
    write_tables,
)
from brainmap.cli.rsa.options import commands, count_noun
from brainmap.errors import InputError

_Brick = tuple[str, Any, str | None]  # label, map, and statistic of AFNI
_SHOWN = ("model", "hemisphere", "x", "y", "z", "voxels", "vertices", "mean", "statistic", "p_corrected", "peak_roi")


@commands.command(name="group")
def group_maps(
    maps: Annotated[list[str], typer.Argument(help="Maps of `rsa searchlight`, one file per participant.")],
    out: Annotated[
        str, typer.Option("--out", help="Image of mean, t and p of each model: .nii.gz, x+tlrc for AFNI, or .func.gii.")
    ],
    mask: Annotated[str | None, typer.Option(help="Image of the voxels to test.")] = None,
    correction: Annotated[
        types.GroupCorrection,
        typer.Option(help="Family-wise error by max-t, cluster-mass or tfce, or fdr; over all voxels and models."),
    ] = "max-t",
    difference: Annotated[
        list[str] | None,
        typer.Option(help="Two models to compare, such as conv4,conv2 (two-sided), or all pairs: all. Repeatable."),
    ] = None,
    permutations: Annotated[
        int, typer.Option(min=1, help="Number of random sign flips; if there are fewer, all are used.")
    ] = 5000,
    two_sided: Annotated[
        bool, typer.Option("--two-sided", help="Test both directions, as for maps of differences; default: above 0.")
    ] = False,
    threshold: Annotated[float, typer.Option(help="Largest corrected p of clusters, --thresholded and --best.")] = 0.05,
    cluster_p: Annotated[float, typer.Option(help="With cluster-mass: p of a voxel that forms clusters.")] = 0.001,
    connectivity: Annotated[int | None, typer.Option(help="Neighbors of a voxel: 6 (default), 18 or 26.")] = None,
    mesh: Annotated[str | None, typer.Option(help="Mesh of GIFTI maps: fsaverage5, or {hemi}.pial.surf.gii.")] = None,
    rois: Annotated[str | None, typer.Option(help="Label image of regions that name the clusters.")] = None,
    roi_table: Annotated[Path | None, typer.Option(help="Names of --rois: TSV with index and name.")] = None,
    peak_distance: Annotated[
        float | None, typer.Option(min=0, help="Also list local maxima at least this far apart, in mm.")
    ] = None,
    clusters: Annotated[Path | None, typer.Option(callback=check_free(".tsv"), help="Table of clusters, .tsv.")] = None,
    thresholded: Annotated[
        str | None, typer.Option(help="Image of the means of significant voxels, one per model.")
    ] = None,
    best: Annotated[str | None, typer.Option(help="Image of the best model of each significant voxel, from 1.")] = None,
    seed: Seed = 0,
    space: Annotated[str | None, typer.Option(help="Space: MNI, TLRC, ...; default: that of the first map.")] = None,
    jobs: Jobs = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Test where scores are above 0 over participants and where models differ, by sign flips over the brain."""

    from brainmap.cli.runs import refuse_repeated

    refuse_repeated(maps, "rsa group")
    surface = _is_on_surface(maps, mesh, connectivity, roi_table)
    asked = {"--out": out, "--thresholded": thresholded, "--best": best}
    refuse_existing_maps(asked, overwrite, on_surface=surface)
    result = rsa.group_test(
        [read_surface_maps(path) if surface else read_labeled_maps(path) for path in maps],
        correction=correction,
        contrasts=_parse_contrasts(difference),
        permutations=permutations,
        mask=mask,
        alternative="two-sided" if two_sided else "greater",
        threshold=threshold,
        cluster_p=cluster_p,
        neighbors=mesh if surface else connectivity,
        rois=_load_regions(rois, roi_table, surface),
        peak_distance=peak_distance,
        rng=make_rng(seed),
        threads=jobs,
    )
    results = [result, *([result.differences] if result.differences else [])]
    where = None if surface else space or rsa.image_info(maps[0]).space
    _save_bricks([brick for one in results for brick in _list_bricks(one, correction)], out, where, overwrite)
    if thresholded is not None:
        bricks = [(_format_label(n, ""), m, None) for one in results for n, m in one.thresholded.items()]
        _save_bricks(bricks, thresholded, where, overwrite)
    if best is not None:
        _save_bricks([("best", result.best, None)], best, where, overwrite)
    if clusters is not None:
        parameters = {"correction": correction, "threshold": threshold, "models": list(result.names)}
        parameters |= {"differences": list(results[-1].names)} if result.differences else {}
        _write_clusters(results, clusters, build_provenance(parameters, maps, seed=seed))
    _report_tests(results, out, as_json)


def _save_bricks(bricks: Sequence[_Brick], path: str, space: str | None, overwrite: bool) -> None:
    """Write maps with labels to one file, and on a grid with AFNI's statistics; on a surface there is no `space`."""
    labels, maps, stats = zip(*bricks, strict=True)
    save_maps(maps, labels, path, overwrite=overwrite, **({} if space is None else {"stats": stats, "space": space}))


def _is_on_surface(maps: list[str], mesh: str | None, connectivity: int | None, table: Path | None) -> bool:
    """Tell whether maps are GIFTI, and refuse options of the other kind."""
    from brainmap.rsa.surface.data import is_surface

    surface = [is_surface(path) for path in maps]
    if any(surface) and not all(surface):
        raise InputError("rsa group: expected maps of one kind, got volumes and surfaces")
    if surface[0] and mesh is None:
        raise InputError("rsa group: maps lie on a surface; say its --mesh, as fsaverage5 or {hemi}.pial.surf.gii")
    for option, given in (("--connectivity", connectivity), ("--roi-table", table)):
        if surface[0] and given is not None:
            raise InputError(f"rsa group: {option} is for volumes, and the maps lie on a surface")
    if mesh is not None and not surface[0]:
        raise InputError("rsa group: --mesh is for maps on a surface (.func.gii), and these are volumes")
    return surface[0]


def read_surface_maps(path: str) -> dict[str, rsa.SurfaceData]:
    """Read the maps of one participant on the surface by name; a single map is named map.

    Raises
    ------
    InputError
        A file that is no surface data, or that names two maps alike.
    """

    data = rsa.load_surface(path)
    if len(set(data.labels)) < len(data.labels):
        raise InputError(f"{path}: several maps of one name; names must differ")
    labels = data.labels if len(data.labels) > 1 else ("map",)
    return {
        label: rsa.SurfaceData(data.left[:, [k]], data.right[:, [k]], (label,), name=data.name)
        for k, label in enumerate(labels)
    }


def _parse_contrasts(given: list[str] | None) -> Any:
    if given is None:
        return None
    return "all-pairs" if given == ["all"] else [tuple(split_names(pair)) for pair in given]


def _load_regions(rois: str | None, table: Path | None, surface: bool) -> Any:

    if table is not None and rois is None:
        raise InputError("rsa group: --roi-table names the regions of --rois, which is not given")
    return rois if rois is None or surface else rsa.load_rois(rois, table=table, minimum_voxels=1)


def _format_label(name: str, kind: str) -> str:
    """Format the label of a sub-brick without blanks, since AFNI users type it in brackets."""
    return name.replace(" ", "") + (f"_{kind}" if kind else "")


def _list_bricks(result: rsa.GroupResult, correction: str) -> list[_Brick]:
    """Return label, map and AFNI statistic of every sub-brick."""
    from brainmap.rsa.group.maps import ENHANCED

    kinds: list[_Brick] = [
        ("mean", result.mean, None),
        ("t", result.statistic, f"Ttest({result.n_participants - 1})"),
    ]
    kinds += [(ENHANCED[correction], result.enhanced, None)] if result.enhanced is not None else []
    kinds += [("pfdr" if correction == "fdr" else "pfwe", result.p_corrected, None)]
    return [(_format_label(model, kind), maps[model], stat) for model in result.names for kind, maps, stat in kinds]


def _write_clusters(results: list[rsa.GroupResult], path: Path, about: dict[str, Any]) -> None:
    import pandas as pd

    from brainmap.rsa.group.maps import CLUSTER_COLUMNS

    found = [one.clusters for one in results if len(one.clusters)] or [results[0].clusters]
    write_tables((path, pd.concat(found, ignore_index=True), CLUSTER_COLUMNS, about))


def _report_tests(results: list[rsa.GroupResult], out: str, as_json: bool) -> None:
    """Print what was tested and found, as JSON or as text."""
    import numpy as np

    def describe_group(one: rsa.GroupResult, what: Literal["models", "differences"]) -> dict[str, Any]:
        critical = one.critical if np.isfinite(one.critical) else None
        limits = {"critical": critical, "smallest_p": one.smallest_p} | ({"reach": one.reach} if one.reach else {})
        return {what: list(one.names), **limits, "clusters": len(one.clusters)}

    result = results[0]
    found = {
        "out": out,
        "participants": result.n_participants,
        **describe_group(result, "models"),
        "voxels": result.n_voxels,
        "excluded": result.n_excluded,
        "flips": result.n_flips,
        "enumerated": result.enumerated,
    }
    if len(results) > 1:
        found["differences"] = describe_group(results[1], "differences")
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    places = next(kind for kind in ("voxels", "vertices", "places") if kind in result.clusters)
    flips = f"all {result.n_flips}" if result.enumerated else f"{result.n_flips} drawn"
    typer.echo(
        f"{result.n_participants} participants, {count_noun(len(result.names), 'model')}, {result.n_voxels:,} "
        f"{places} ({result.n_excluded:,} excluded), {flips} sign flips (these sounds only), "
        f"{count_noun(len(result.clusters), 'cluster')}"
    )
    for one in results:
        if one.smallest_p > one.threshold:
            typer.echo(f"Nothing can be significant: with {flips} sign flips no p is under {one.smallest_p:.3g}")
        elif one.reach:
            typer.echo(f"Of {count_noun(len(one.names), 'map')}: {one.reach}")
        if len(one.clusters):
            print_table(one.clusters[[column for column in _SHOWN if column in one.clusters]], False)
        elif one is not result:
            typer.echo(f"No cluster in {count_noun(len(one.names), 'difference')}")
    typer.echo(f"Wrote {out}")
