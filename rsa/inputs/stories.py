"""Load the BOLD of each story, find and describe its files, and read time courses of one kind of files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.rsa.glm.confounds import Strategy, read_confounds
from brainmap.rsa.inputs.story_files import StoryFile, find_story_files, name_confounds
from brainmap.rsa.inputs.story_sources import StorySource, open_story_source
from brainmap.rsa.patterns.region_tables import is_region_table
from brainmap.rsa.patterns.volume import refuse_empty, tabulate_counts
from brainmap.rsa.regions.rois import Mask, Rois
from brainmap.types import EncodingTarget, Floats


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
