"""Represent the maps of a searchlight: the scores of every sphere as images, the best model, and maps over time."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from brainmap.checks import list_some, suggest_word
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.rdm.alignment import list_rdm_names
from brainmap.rsa.searchlights.preparation import read_times
from brainmap.types import Floats, RDMs

_Image = TypeVar("_Image")


class ScoreMaps(Mapping[str, _Image]):
    """Map each model name to a map of its scores, as maps of volumes and of surfaces do alike."""

    names: tuple[str, ...]
    array: Floats

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def row_of(self, name: str) -> Floats:
        """Return the scores of a model.

        Raises
        ------
        KeyError
            There is no such model.
        """
        if name not in self.names:
            raise KeyError(f"no map {name!r}{suggest_word(str(name), self.names)}; there are {list_some(self.names)}")
        return np.asarray(self.array[self.names.index(name)])

    @property
    def _scored(self) -> NDArray[np.bool_]:
        return np.asarray(~np.isnan(self.array).all(axis=0))

    @property
    def _filled(self) -> Floats:
        return np.where(np.isnan(self.array), -np.inf, self.array)


@dataclass(frozen=True, eq=False)
class SearchlightMaps(ScoreMaps[nib.Nifti1Image]):
    """Map each model name to the float32 image of its searchlight scores, NaN where there is no score.

    Attributes
    ----------
    names : tuple of str
        The models, in the order given.
    array : ndarray (n_models, n_mask_voxels)
        Scores in float64; the voxels of the mask in C order.
    counts : ndarray (n_mask_voxels,)
        Number of voxels in each sphere; 0 where the center itself is not usable.
    mask : Nifti1Image
    n_excluded : int
        Number of mask voxels without data, with NaN, or with constant data; they belong to no sphere.
    n_unscored : int
        Number of spheres without a score, with fewer than `minimum_voxels` voxels or a constant pattern.
    times : tuple of float [s], optional
        For models over time (named `layer@seconds`), the center of each model's window.
    """

    names: tuple[str, ...]
    array: Floats
    counts: NDArray[np.int32]
    mask: nib.Nifti1Image
    n_excluded: int
    n_unscored: int
    times: tuple[float, ...] | None = None

    def __getitem__(self, name: str) -> nib.Nifti1Image:
        return self.image(self.row_of(name))

    def image(self, values: NDArray[Any], *, outside: float = np.nan) -> nib.Nifti1Image:
        """Convert values of the mask voxels `(n_mask_voxels,)` to a float32 image."""
        return build_volume(self.mask, values, outside=outside)

    @property
    def layers(self) -> tuple[str, ...]:
        """Return each layer once, without times and in the given order; without times these are the `names`."""
        return tuple(dict.fromkeys(self._layer_of))

    @property
    def best(self) -> nib.Nifti1Image:
        """Return the best model of each voxel as its index in `layers`, from 1; NaN where there is no score.

        For models over time it is the layer with the highest score at any time; `best_time` gives that time.
        """
        place = np.array([self.layers.index(layer) + 1.0 for layer in self._layer_of])
        return self.image(np.where(self._scored, place[self._filled.argmax(axis=0)], np.nan))

    @property
    def best_time(self) -> nib.Nifti1Image:
        """Return the time of the highest score of the best layer in each voxel [s], for models over time.

        Raises
        ------
        InputError
            The models are not over time.
        """
        times = np.array(self._require_times())
        return self.image(np.where(self._scored, times[self._filled.argmax(axis=0)], np.nan))

    def over_time(self, layer: str) -> nib.Nifti1Image:
        """Return the maps of one layer over time as a 4-D image, with the time axis [s] in the header.

        Raises
        ------
        InputError
            There is no such layer, or its times are not evenly spaced.
        """
        times = self._require_times()
        if layer not in self.layers:
            raise InputError(
                f"searchlight: there is no layer {layer!r}{suggest_word(layer, self.layers)}; the layers are "
                f"{list_some(self.layers)}"
            )
        rows = sorted((k for k, name in enumerate(self._layer_of) if name == layer), key=lambda k: times[k])
        when = np.array([times[k] for k in rows])
        steps = np.diff(when)
        if len(steps) and not (steps[0] > 0 and np.allclose(steps, steps[0], rtol=1e-3)):
            raise InputError(
                f"searchlight: the times of {layer} are not evenly spaced ({list_some(when, 5)} s), as the axis of an "
                "image must be; save its maps one by one"
            )
        volumes = np.stack([np.asarray(self.image(self.array[k]).dataobj) for k in rows], axis=3)
        image = nib.Nifti1Image(volumes, self.mask.affine)
        header: Any = image.header
        header.set_xyzt_units("mm", "sec")
        header.set_zooms((*header.get_zooms()[:3], steps[0] if len(steps) else 1.0))
        header["toffset"] = when[0]
        return image

    def _require_times(self) -> tuple[float, ...]:
        if self.times is None:
            raise InputError("searchlight: these models are not over time; make them with compute_rdms(over='time')")
        return self.times

    @property
    def _layer_of(self) -> tuple[str, ...]:
        return self.names if self.times is None else tuple(name.rpartition("@")[0] for name in self.names)

    @property
    def best_score(self) -> nib.Nifti1Image:
        """Return the score of the best model of each voxel."""
        return self.image(np.where(self._scored, self._filled.max(axis=0), np.nan))

    @property
    def voxel_count(self) -> nib.Nifti1Image:
        """Return the number of voxels in the sphere around each voxel; 0 outside the mask."""
        return self.image(self.counts, outside=0.0)


def find_layers_over_time(model_rdms: RDMs) -> tuple[str, ...]:
    """Return the layers whose maps have a time axis; none if the models are not over time."""
    if read_times(model_rdms) is None:
        return ()
    return tuple(dict.fromkeys(name.rpartition("@")[0] for name in list_rdm_names(model_rdms)))


def build_volume(mask: nib.Nifti1Image, values: NDArray[Any], *, outside: float = np.nan) -> nib.Nifti1Image:
    """Convert values of the mask voxels `(n_mask_voxels,)` to a float32 image."""
    inside = np.asarray(mask.dataobj) != 0
    filled = np.full(inside.shape, outside, dtype=np.float32)
    filled[inside] = values
    return nib.Nifti1Image(filled, mask.affine)


def build_maps(
    names: tuple[str, ...],
    scores: Floats,
    counts: NDArray[np.int32],
    mask: nib.Nifti1Image,
    *,
    times: tuple[float, ...] | None = None,
) -> SearchlightMaps:
    """Build maps from scores `(n_models, n_mask_voxels)` and sphere sizes, and count spheres without a score.

    If no sphere has a score, a `BrainmapWarning` is issued.
    """
    unscored = np.isnan(scores).all(axis=0) & (counts > 0)
    if unscored.any() and unscored.sum() == (counts > 0).sum():
        warnings.warn(
            f"searchlight: none of {int(unscored.sum())} spheres has a score, because the pattern of some item is the "
            "same in all voxels, or spheres hold fewer voxels than minimum_voxels",
            BrainmapWarning,
            stacklevel=3,
        )
    return SearchlightMaps(names, scores, counts, mask, int((counts == 0).sum()), int(unscored.sum()), times)
