"""Read the responses to stories from images or tables of scans x voxels, one file for each story and repetition."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import list_some
from brainmap.errors import InputError
from brainmap.rsa.glm.confounds import Strategy, read_confounds
from brainmap.rsa.glm.timing import read_timing
from brainmap.rsa.images.files import check_same_grid, image_info, load_image
from brainmap.rsa.inputs.runs import make_natural_key, match_files
from brainmap.rsa.patterns.arrays import find_array, format_shape, is_response_table
from brainmap.rsa.patterns.volume import refuse_empty, tabulate_counts
from brainmap.rsa.patterns.voxel_tables import VoxelRois
from brainmap.rsa.regions.rois import Mask, Rois, build_grid, load_mask
from brainmap.rsa.surface.data import is_surface
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


@dataclass(frozen=True, eq=False)
class Stories:
    """Hold the responses of one participant to stories, as `brainmap.rsa.encode_stories` takes them.

    Attributes
    ----------
    responses : dict of sound to list of ndarray (n_scans, n_targets)
        One array a repetition.
    confounds : dict of sound to list of ndarray (n_scans, n_confounds), or None
    targets : DataFrame (n_targets,)
        `roi` and `voxel`.
    counts : DataFrame
        Voxels of the mask and of each region, and those left out, as `brainmap.rsa.voxel_report` has them.
    t_r : float [s]
    slice_time_ref : float [TR]
    files : tuple of str
        All files that were read, confounds too.
    """

    responses: dict[str, list[Floats]]
    confounds: dict[str, list[Floats]] | None
    targets: pd.DataFrame
    counts: pd.DataFrame
    t_r: float
    slice_time_ref: float
    files: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """Return what `brainmap.rsa.encode_stories` takes beside the responses."""
        names = ("confounds", "targets", "t_r", "slice_time_ref")
        return {name: getattr(self, name) for name in names}


def find_story_files(
    pattern: str, sounds: Sequence[str], *, t_r: float | None = None, key: str | None = None, mask: Mask | None = None
) -> list[StoryFile]:
    """Find the files of all stories, and read their headers.

    Parameters
    ----------
    pattern : str
        A name with `{sound}`, and `{run}`, `{session}` or `{task}` where a story was heard several times:
        `sub-01/{sound}_run-{run}_bold.nii.gz`.
    sounds : sequence of str
        Ids of the stories.
    t_r : float, optional [s]
        Time from scan to scan; by default that of the headers. Tables of scans x voxels have none.
    key : str, optional
        Name of the array in tables that hold several.
    mask : path, Nifti1Image or list of these, optional
        Images must lie on its grid.

    Raises
    ------
    InputError
        The pattern lacks `{sound}`, a story has no file, or files differ in their TR or grid.
    """
    unknown = sorted(set(re.findall(r"\{(\w*)\}", pattern)) - {"sound", *_OTHERS})
    if PLACE not in pattern or unknown:
        got = f"{{{unknown[0]}}}" if unknown else pattern
        raise InputError(
            f"stories: expected a name with {PLACE} (and {{run}} where a story was heard several times), got {got}"
        )
    inside = None if mask is None else load_mask(mask)
    found = []
    for sound in dict.fromkeys(sounds):
        matches = match_files(pattern.replace(PLACE, sound))
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
    if is_surface(file):
        raise InputError(f"stories: expected volumes (.nii.gz, +tlrc) or tables of scans x voxels (.npy), got {file}")
    if is_response_table(file):
        if t_r is None:
            raise InputError(f"stories: expected the time between scans, which {file} does not tell; give t_r (--t-r)")
        shape = find_array(file, key).shape
        if len(shape) != 2:
            raise InputError(f"{file}: expected scans x voxels, got an array of {format_shape(shape)}")
        return StoryFile(sound=sound, file=file, places=places, n_scans=shape[0], t_r=t_r)
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
    pattern, sounds, t_r, key
        As in `find_story_files`.
    mask : path, Nifti1Image or list of these
        The voxels to read; tables of scans x voxels need none.
    rois : Rois, optional
        Regions, of `brainmap.rsa.load_rois`, or of `load_voxel_rois` for tables.
    targets : {"voxel", "roi"}
        Each voxel of the mask, or the mean over the voxels of each region.
    confounds : str, optional
        Name with the same placeholders as `pattern`, of files that `brainmap.rsa.read_confounds` reads.
    strategy : str or sequence of str, optional
        Columns of the confounds, as in `brainmap.rsa.read_confounds`.

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
    tables = is_response_table(files[0].file)
    if targets == "roi" and rois is None:
        raise InputError("stories: expected regions for targets 'roi', got none; give an image of regions")
    image = None if tables or mask is None else load_mask(mask)  # images without a mask were refused
    inside = None if image is None else np.asarray(image.dataobj) > 0
    if rois is not None and image is not None:
        check_same_grid(build_grid(rois.labels.shape, rois.affine), image, what="ROI image", wanted="mask")
    columns = rois.columns if isinstance(rois, VoxelRois) else None
    values: dict[str, list[NDArray[Any]]] = {}
    bad: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None
    for one in files:
        x = _read_table(one.file, key, rois) if inside is None else _read_image(one.file, inside)
        x = x if columns is None else x[:, columns]
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
    whole = np.ones(kept.size, bool) if inside is None else inside
    counts = tabulate_counts(rois, whole, nan, constant)
    refuse_empty(counts)
    names = np.array(["", *(rois.names if rois else ())])
    roi = (names[rois.labels[whole]] if rois else np.zeros(kept.size, "U1"))[kept]
    read, table = _choose_targets(values, kept, roi, targets, rois)
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
    )


def _read_image(file: str, inside: NDArray[np.bool_]) -> NDArray[Any]:
    """Read the voxels inside a mask `(n_scans, n_voxels)`."""
    values = np.asarray(load_image(file).dataobj)
    return np.ascontiguousarray(values.reshape(*inside.shape, -1)[inside].T)


def _read_table(file: str, key: str | None, rois: Rois | None) -> NDArray[Any]:
    """Read a table of scans x voxels, whose voxels are those of the voxel table."""
    values = find_array(file, key).read_values(file)
    n = rois.n_columns if isinstance(rois, VoxelRois) else values.shape[1]
    if values.shape[1] != n:
        turned = "; it seems to be voxels x scans: transpose it" if values.shape[0] == n else ""
        raise InputError(f"{file}: expected scans x {n} voxels, got {format_shape(values.shape)}{turned}")
    return values


def _choose_targets(
    values: Mapping[str, Sequence[NDArray[Any]]],
    kept: NDArray[np.bool_],
    roi: NDArray[np.str_],
    targets: EncodingTarget,
    rois: Rois | None,
) -> tuple[dict[str, list[Floats]], pd.DataFrame]:
    """Return the time courses of kept voxels, or of means over those of each region, and describe the targets."""
    if targets == "voxel" or rois is None:
        table = pd.DataFrame({"roi": roi, "voxel": pd.array(np.flatnonzero(kept), dtype="Int64")})
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
    left = re.findall(r"\{\w*\}", name)
    if left:
        raise InputError(f"confounds: expected the placeholders of the responses, got {list_some(left)} in {pattern}")
    return name
