"""Bring participants with different masks on one grid to the union of their masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from brainmap.checks import refuse_some
from brainmap.errors import InputError
from brainmap.rsa.images.files import check_same_grid
from brainmap.rsa.patterns.residuals import Residuals
from brainmap.rsa.regions.rois import load_mask
from brainmap.rsa.searchlights.noise import NoiseSource
from brainmap.types import Dataset


def renumber_to_shared_mask(
    data: Mapping[str, Any], noise: Mapping[str, NoiseSource | None], masks: Mapping[str, nib.Nifti1Image | str | Path]
) -> tuple[dict[str, Any], dict[str, NoiseSource | None], nib.Nifti1Image]:
    """Renumber the patterns and noise of each participant to the union of all masks, and return that mask, too.

    Raises
    ------
    InputError
        A participant has no mask, masks have different grids, or patterns have no voxel numbers.
    """
    lacking = [who for who in data if who not in masks]
    refuse_some(lacking, "ceiling maps: expected a mask of every participant, got none of ")
    loaded = {who: load_mask(masks[who]) for who in data}
    first, *others = loaded
    for who in others:
        check_same_grid(
            loaded[who], loaded[first], what=f"mask of participant {who}", wanted=f"mask of participant {first}"
        )
    inside = np.any([np.asarray(mask.dataobj) != 0 for mask in loaded.values()], axis=0)
    shared = nib.Nifti1Image(inside.astype(np.uint8), loaded[first].affine)
    number = np.cumsum(inside.ravel()) - 1
    places = {who: number[np.asarray(mask.dataobj).ravel() != 0] for who, mask in loaded.items()}
    return (
        {who: _renumber_voxels(who, one, places[who]) for who, one in data.items()},
        {who: _widen_residuals(noise[who], places[who], int(inside.sum())) for who in data},
        shared,
    )


def _renumber_voxels(who: str, data: Any, place: NDArray[np.intp]) -> Dataset:
    from rsatoolbox.data.dataset import Dataset

    if "voxel" not in getattr(data, "channel_descriptors", {}):
        raise InputError(
            f"ceiling maps: the patterns of participant {who} do not name their voxels, as they must where "
            "participants have masks of their own; read them with load_patterns, or give one mask for all"
        )
    voxel = np.asarray(data.channel_descriptors["voxel"], int)
    if voxel.max(initial=-1) >= len(place):
        raise InputError(
            f"ceiling maps: the patterns of participant {who} have voxels numbered up to {voxel.max()}, but the mask "
            f"has {len(place)}; use the mask with which the data were read"
        )
    return Dataset(
        data.measurements,
        descriptors=data.descriptors,
        obs_descriptors=data.obs_descriptors,
        channel_descriptors={"voxel": place[voxel]},
    )


def _widen_residuals(noise: NoiseSource | None, place: NDArray[np.intp], n_voxels: int) -> NoiseSource | None:
    """Expand residuals to the voxels of the union of the masks, with NaN where the participant has none."""
    if not isinstance(noise, Residuals):
        return noise
    parts = []
    for part in noise.parts:
        whole = np.full((len(part), n_voxels), np.nan, dtype=part.dtype)
        whole[:, place] = part
        parts.append(whole)
    return replace(noise, parts=parts)
