"""Load the BOLD of each story, find and describe its files, and read time courses of one kind of files."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import list_some, refuse_some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.glm.confounds import Strategy, read_confounds
from brainmap.rsa.glm.timing import read_timing
from brainmap.rsa.images.files import check_same_grid, image_info, load_image
from brainmap.rsa.inputs.runs import make_natural_key, match_images
from brainmap.rsa.patterns.arrays import find_array, format_shape, is_response_table
from brainmap.rsa.patterns.region_tables import VoxelRois, is_region_table, load_column_rois, read_region_table
from brainmap.rsa.patterns.volume import refuse_empty, tabulate_counts
from brainmap.rsa.regions.rois import Mask, Rois, build_grid, load_mask
from brainmap.rsa.surface.data import check_same_mesh, is_surface, load_surface
from brainmap.rsa.surface.series import read_series_info
from brainmap.types import EncodingTarget, Floats

PLACE = "{sound}"
_OTHERS = ("session", "task", "run")


@dataclass(frozen=True, kw_only=True)
class StoryFile:
    """Describe the file of one repetition of one story from its header.

    Attributes
    ----------
    sound, file : str
    places : mapping of str to str
        Values of the other placeholders of the name, such as the run.
    n_scans : int
    t_r : float [s]
    slice_time_ref : float [TR]
        Moment within a scan that its values represent.
    """

    sound: str
    file: str
    places: Mapping[str, str]
    n_scans: int
    t_r: float
    slice_time_ref: float = 0.0


def find_story_files(
    pattern: str, sounds: Sequence[str], *, t_r: float | None = None, key: str | None = None, mask: Mask | None = None
) -> list[StoryFile]:
    """Find the files of all stories, and read their headers.

    Parameters
    ----------
    pattern : str
        A name with `{sound}`, and `{run}`, `{session}` or `{task}` where a story was heard several times:
        `sub-01/{sound}_run-{run}_bold.nii.gz`. Files are volumes, data on the surface (GIFTI or SUMA with `{hemi}` for
        both hemispheres, or CIFTI), arrays of scans x voxels, or tables of regions (.tsv, a named column each).
    sounds : sequence of str
        Ids of the stories.
    t_r : float, optional [s]
        Time from scan to scan; by default that of the headers and sidecars. Arrays and tables have none.
    key : str, optional
        Name of the array in files that hold several.
    mask : path, Nifti1Image or list of these, optional
        Volumes must lie on its grid.

    Raises
    ------
    InputError
        The pattern lacks `{sound}`, a story has no file, or files differ in their TR or grid.
    """
    unknown = sorted(set(re.findall(r"\{(\w*)\}", pattern)) - {"sound", "hemi", *_OTHERS})
    if PLACE not in pattern or unknown:
        got = f"{{{unknown[0]}}}" if unknown else pattern
        raise InputError(
            f"stories: expected a name with {PLACE} (and {{run}} where a story was heard several times), got {got}"
        )
    inside = None if mask is None or is_surface(pattern) else load_mask(mask)
    found = []
    for sound in dict.fromkeys(sounds):
        matches = match_images(pattern.replace(PLACE, sound))
        ordered = sorted(matches, key=lambda one: [make_natural_key(one[0].get(place, "")) for place in _OTHERS])
        found += [_describe(sound, file, places, t_r=t_r, key=key, inside=inside) for places, file in ordered]
    steps = {one.t_r: one for one in reversed(found)}
    if max(steps) - min(steps) > 1e-3 * max(steps):
        one, other = steps[min(steps)], steps[max(steps)]
        raise InputError(
            f"stories: expected one time between scans, got {one.t_r:g} s in {one.file} and {other.t_r:g} s in "
            f"{other.file}; analyze them apart"
        )
    references = {one.slice_time_ref: one for one in reversed(found)}
    if max(references) - min(references) > 1e-6:
        one, other = references[min(references)], references[max(references)]
        raise InputError(
            f"stories: expected one slice-time reference, got {one.slice_time_ref:g} TR in {one.file} and "
            f"{other.slice_time_ref:g} TR in {other.file}; correct the wrong sidecar"
        )
    return found


def _describe(
    sound: str, file: str, places: Mapping[str, str], *, t_r: float | None, key: str | None, inside: Any
) -> StoryFile:
    """Read the header of a file."""
    if is_response_table(file) or is_region_table(file):
        if t_r is None:
            raise InputError(f"stories: expected the time between scans, which {file} does not tell; give t_r (--t-r)")
        if is_region_table(file):
            return StoryFile(sound=sound, file=file, places=places, n_scans=len(read_region_table(file)), t_r=t_r)
        shape = find_array(file, key).shape
        if len(shape) != 2:
            raise InputError(f"{file}: expected scans x voxels, got an array of {format_shape(shape)}")
        return StoryFile(sound=sound, file=file, places=places, n_scans=shape[0], t_r=t_r)
    if is_surface(file):
        info = read_series_info(file)
    else:
        info = image_info(file)
        if inside is None:
            raise InputError(f"stories: expected a mask for the images ({file}), got none; give an image of the voxels")
        check_same_grid(build_grid(info.shape, info.affine), inside, what=file, wanted="mask")
    timing = read_timing(info, name=file, t_r=t_r)
    if not timing.regular:
        raise InputError(f"{file}: expected scans without pauses, got {timing.said}; sparse sampling is not possible")
    return StoryFile(
        sound=sound,
        file=file,
        places=places,
        n_scans=len(timing.frame_times),
        t_r=timing.t_r,
        slice_time_ref=float(timing.frame_times[0] / timing.t_r),
    )


def name_confounds(pattern: str, one: StoryFile) -> str:
    """Fill the placeholders of a name of confounds by those of the responses.

    Raises
    ------
    InputError
        It has other placeholders.
    """
    name = pattern
    for place, value in {"sound": one.sound, **one.places}.items():
        name = name.replace(f"{{{place}}}", value)
    refuse_some(
        re.findall(r"\{\w*\}", name),
        "confounds: expected the placeholders of the responses, got ",
        f" in {pattern}",
    )
    return name


_SUBCORTICAL = ".*voxels of subcortical structures are left out"


@dataclass(frozen=True, eq=False)
class StorySource:
    """Hold how the files of a participant are read.

    Attributes
    ----------
    read : callable
        Reads a file as `(n_scans, n_voxels)`.
    rois : Rois or None
    inside : bool array
        Which places of `rois.labels` are read; None where they are all.
    places : mapping of str to ndarray (n_voxels,)
        `hemisphere` and `vertex` on a surface.
    mesh : tuple of int
        Numbers of vertices of both hemispheres on a surface.
    """

    read: Callable[[str], NDArray[Any]]
    rois: Rois | None
    inside: NDArray[np.bool_] | None = None
    places: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    mesh: tuple[int, ...] = ()


def open_story_source(file: str, *, mask: Mask | None, rois: Rois | None, key: str | None) -> StorySource:
    """Choose how files of the kind of the first one are read.

    Raises
    ------
    InputError
        Regions or mask are of another grid or mesh, or do not go with the kind of file.
    """
    if is_surface(file):
        return _open_surface(file, mask, rois)
    if is_region_table(file) or is_response_table(file):
        if mask is not None:
            raise InputError(f"mask: expected none, since {file} has no grid, got one; leave it out")
        return _open_region_table(file, rois) if is_region_table(file) else _open_array(rois, key)
    assert mask is not None  # images without a mask were refused
    image = load_mask(mask)
    inside = np.asarray(image.dataobj) > 0
    if rois is not None:
        check_same_grid(build_grid(rois.labels.shape, rois.affine), image, what="ROI image", wanted="mask")

    def read(name: str) -> NDArray[Any]:
        values = np.asarray(load_image(name).dataobj)
        return np.ascontiguousarray(values.reshape(*inside.shape, -1)[inside].T)

    return StorySource(read, rois, inside)


def count_story_voxels(file: str, *, mask: Mask | None, rois: Rois | None, key: str | None) -> int:
    """Count the voxels, vertices or columns that `open_story_source` would read, from headers and masks alone.

    Raises
    ------
    InputError
        Regions or mask are of another grid, mesh or number of voxels.
    """
    if is_surface(file):
        n = read_series_info(file).shape[0]
        inside = None if mask is None else _read_surface_mask(mask)
        for what, other in (("ROIs", None if rois is None else rois.labels), ("mask", inside)):
            if other is not None and other.size != n:
                raise InputError(
                    f"{what}: expected {n} vertices, as {file} has, got {other.size}; use one mesh for both"
                )
        return n if inside is None else int(inside.sum())
    if is_region_table(file):
        return len(read_region_table(file).columns)
    if is_response_table(file):
        n = find_array(file, key).shape[1]
        if isinstance(rois, VoxelRois) and rois.n_columns != n:
            raise InputError(f"{file}: expected scans x {rois.n_columns} voxels, as the voxel table has, got {n}")
        return len(rois.columns) if isinstance(rois, VoxelRois) else n
    assert mask is not None  # volumes without a mask were refused
    return int(np.count_nonzero(load_mask(mask).dataobj))


def _read_surface_mask(mask: Mask) -> NDArray[np.bool_]:
    """Read a mask of vertices, from data of one map."""
    given = mask[0] if isinstance(mask, list | tuple) and len(mask) == 1 else mask
    if not is_surface(str(given)):
        raise InputError(f"mask: expected data on the surface (.shape.gii, .label.gii), got {given}; change it")
    return np.asarray(np.nan_to_num(load_surface(str(given)).values[:, 0]) > 0)


def _open_array(rois: Rois | None, key: str | None) -> StorySource:
    """Read arrays of scans x voxels, whose voxels are those of the voxel table."""
    columns, n_rows = (rois.columns, rois.n_columns) if isinstance(rois, VoxelRois) else (slice(None), None)

    def read(name: str) -> NDArray[Any]:
        values = find_array(name, key).read_values(name)
        n = values.shape[1] if n_rows is None else n_rows
        if values.shape[1] != n:
            turned = "; it seems to be voxels x scans: transpose it" if values.shape[0] == n else ""
            raise InputError(f"{name}: expected scans x {n} voxels, got {format_shape(values.shape)}{turned}")
        return values[:, columns]

    return StorySource(read, rois)


def _open_region_table(first: str, rois: Rois | None) -> StorySource:
    """Read tables of regions, whose columns are the same in every file."""
    names = read_region_table(first).columns.tolist()
    if rois is not None and rois.labels.size != len(names):
        raise InputError(f"{first}: expected regions of {len(names)} columns, got those of {rois.labels.size}")

    def read(name: str) -> NDArray[Any]:
        table = read_region_table(name)
        if table.columns.tolist() != names:
            differ = sorted(set(names) ^ set(table.columns)) or ["their order"]
            raise InputError(f"{name}: expected the columns of {first}, got others: {list_some(differ, 4)}")
        return table.to_numpy(dtype=np.float64)

    return StorySource(read, load_column_rois(first) if rois is None else rois)


def _open_surface(first: str, mask: Mask | None, rois: Rois | None) -> StorySource:
    """Read vertices of both hemispheres, all on one mesh; what CIFTI files hold beside the cortex is told once."""
    count_story_voxels(first, mask=mask, rois=rois, key=None)  # refuses another mesh
    surface = load_surface(first)
    inside = np.ones(len(surface.values), bool) if mask is None else _read_surface_mask(mask)
    held, empty = {first: surface}, replace(surface, left=surface.left[:, :0], right=surface.right[:, :0])

    def read(name: str) -> NDArray[Any]:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=_SUBCORTICAL, category=BrainmapWarning)
            found = held.pop(name) if name in held else load_surface(name)
        check_same_mesh(found, empty)
        return np.ascontiguousarray(found.values[inside].T)

    places = {"hemisphere": surface.hemisphere[inside], "vertex": surface.vertex[inside]}
    return StorySource(read, rois, inside, places, surface.sizes)


@dataclass(frozen=True, eq=False)
class Stories:
    """Hold the responses of one participant to stories, as `brainmap.rsa.encode_stories` takes them.

    Attributes
    ----------
    responses : dict of sound to list of ndarray (n_scans, n_targets)
        One array a repetition.
    confounds : dict of sound to list of ndarray (n_scans, n_confounds), or None
    targets : DataFrame (n_targets,)
        `roi` and `voxel`; of vertices also `hemisphere` and `vertex`.
    counts : DataFrame
        Voxels of the mask and of each region, and those left out, as `brainmap.rsa.voxel_report` has them.
    t_r : float [s]
    slice_time_ref : float [TR]
    files : tuple of str
        All files that were read, confounds too.
    mesh : tuple of int
        Numbers of vertices of both hemispheres, where targets are vertices.
    """

    responses: dict[str, list[Floats]]
    confounds: dict[str, list[Floats]] | None
    targets: pd.DataFrame
    counts: pd.DataFrame
    t_r: float
    slice_time_ref: float
    files: tuple[str, ...] = ()
    mesh: tuple[int, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """Return what `brainmap.rsa.encode_stories` takes beside the responses."""
        names = ("confounds", "targets", "t_r", "slice_time_ref", "mesh")
        return {name: getattr(self, name) for name in names}


def load_stories(
    pattern: str,
    sounds: Sequence[str],
    *,
    mask: Mask | None = None,
    rois: Rois | None = None,
    targets: EncodingTarget = "voxel",
    confounds: str | None = None,
    strategy: Strategy | None = None,
    t_r: float | None = None,
    key: str | None = None,
) -> Stories:
    """Read the responses of one participant to stories inside a mask.

    Voxels that are NaN or infinite in any scan, or constant in any run, are left out and counted.

    Parameters
    ----------
    pattern, sounds
        As in `find_story_files`.
    mask : path, Nifti1Image or list of these
        The voxels of volumes to read; or, on the surface, data of one map whose vertices above 0 are read (by default
        all). Arrays and tables have none.
    rois : Rois, optional
        Regions, of `brainmap.rsa.load_rois`; of `load_surface_rois` on the surface, of `load_voxel_rois` for arrays.
        Tables of regions name their own; `load_column_rois` chooses among them.
    targets : {"voxel", "roi"}
        Each voxel of the mask, or the mean over the voxels of each region.
    confounds : str, optional
        Name with the same placeholders as `pattern`, of files that `brainmap.rsa.read_confounds` reads.
    strategy : str or sequence of str, optional
        Columns of the confounds, as in `brainmap.rsa.read_confounds`.
    t_r, key
        As in `find_story_files`.

    Returns
    -------
    Stories
        `.responses` for `brainmap.rsa.encode_stories`, and `.settings`, what it takes beside them.

    Raises
    ------
    InputError
        A file is missing or has other voxels, or no voxel of a region is left.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> for story in ("alice", "wolf"):
    ...     np.save(f"{folder}/{story}.npy", np.random.default_rng(0).normal(size=(40, 3)))
    >>> data = load_stories(f"{folder}/{{sound}}.npy", ["alice", "wolf"], t_r=2.0)
    >>> data.responses["wolf"][0].shape, data.targets["voxel"].tolist()
    ((40, 3), [0, 1, 2])
    """
    files = find_story_files(pattern, sounds, t_r=t_r, key=key, mask=mask)
    if targets == "roi" and rois is None and not is_region_table(files[0].file):
        raise InputError("stories: expected regions for targets 'roi', got none; give an image of regions")
    source = open_story_source(files[0].file, mask=mask, rois=rois, key=key)
    values: dict[str, list[NDArray[Any]]] = {}
    bad: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None
    for one in files:
        x = source.read(one.file)
        nan, constant = ~np.isfinite(x).all(axis=0), (x == x[0]).all(axis=0)
        if bad is not None and len(bad[0]) != x.shape[1]:
            raise InputError(
                f"stories: expected {len(bad[0])} voxels as in {files[0].file}, got {x.shape[1]} in {one.file}; read "
                "all stories with one mask"
            )
        bad = (nan, constant) if bad is None else (bad[0] | nan, bad[1] | constant)
        values.setdefault(one.sound, []).append(x)
    assert bad is not None  # there is a file for each sound
    nan, constant = bad[0], bad[1] & ~bad[0]
    kept = ~(nan | constant)
    regions, whole = source.rois, np.ones(kept.size, bool) if source.inside is None else source.inside
    counts = tabulate_counts(regions, whole, nan, constant)
    refuse_empty(counts)
    names = np.array(["", *(regions.names if regions else ())])
    roi = (names[regions.labels[whole]] if regions else np.zeros(kept.size, "U1"))[kept]
    read, table = _choose_targets(values, kept, roi, targets, source)
    return Stories(
        responses=read,
        confounds=None if confounds is None else _read_confounds(confounds, files, strategy),
        targets=table,
        counts=pd.DataFrame(counts),
        t_r=files[0].t_r,
        slice_time_ref=files[0].slice_time_ref,
        files=(
            *(one.file for one in files),
            *(() if confounds is None else (name_confounds(confounds, one) for one in files)),
        ),
        mesh=source.mesh if targets == "voxel" else (),
    )


def _choose_targets(
    values: Mapping[str, Sequence[NDArray[Any]]],
    kept: NDArray[np.bool_],
    roi: NDArray[np.str_],
    targets: EncodingTarget,
    source: StorySource,
) -> tuple[dict[str, list[Floats]], pd.DataFrame]:
    """Return the time courses of kept voxels, or of means over those of each region, and describe the targets."""
    rois = source.rois
    if targets == "voxel" or rois is None:
        table = pd.DataFrame({"roi": roi, "voxel": pd.array(np.flatnonzero(kept), dtype="Int64")})
        table = table.assign(**{name: place[kept] for name, place in source.places.items()})
        return {name: [np.asarray(x[:, kept], np.float64) for x in runs] for name, runs in values.items()}, table
    own = [np.flatnonzero(kept)[roi == name] for name in rois.names]
    found = {
        name: [np.stack([x[:, places].mean(axis=1, dtype=np.float64) for places in own], axis=1) for x in runs]
        for name, runs in values.items()
    }
    return found, pd.DataFrame({"roi": list(rois.names), "voxel": pd.array([pd.NA] * len(own), dtype="Int64")})


def _read_confounds(pattern: str, files: Sequence[StoryFile], strategy: Strategy | None) -> dict[str, list[Floats]]:
    """Read the confounds of each repetition of each story."""
    found: dict[str, list[Floats]] = {}
    for one in files:
        name = name_confounds(pattern, one)
        table = read_confounds(Path(name), n_volumes=one.n_scans, strategy=strategy, what=f"{one.sound} ({one.file})")
        found.setdefault(one.sound, []).append(table.to_numpy(dtype=np.float64))
    return found
