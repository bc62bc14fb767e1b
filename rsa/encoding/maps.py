"""Place the scores of encoding models in the brain, as images or on the surface."""

from __future__ import annotations

from typing import TypeAlias, get_args

import nibabel as nib
import numpy as np
import pandas as pd

from brainmap.checks import check_choice
from brainmap.errors import InputError
from brainmap.rsa.encoding.bands import BandedEncoding
from brainmap.rsa.encoding.encode import Encoding
from brainmap.rsa.encoding.responses import Responses
from brainmap.rsa.regions.rois import Mask, load_mask
from brainmap.rsa.surface.data import SurfaceData
from brainmap.types import EncodingScore, Floats

BrainMap: TypeAlias = nib.Nifti1Image | SurfaceData


def map_encoding(fit: Encoding, mask: Mask | None = None, *, score: EncodingScore = "r") -> dict[str, BrainMap]:
    """Return a map of the scores of each layer, by its name: an image, or surface data; NaN where there is no score.

    Parameters
    ----------
    fit : Encoding
        Models of voxels, of patterns that were read inside the mask, or of vertices.
    mask : path, Nifti1Image or list of these, optional
        The mask of the patterns, which voxels need.
    score : {"r", "r2", "r_corrected", "r2_corrected"}

    Returns
    -------
    dict of str to Nifti1Image or SurfaceData

    Raises
    ------
    InputError
        The models are of regions, or the mask has fewer voxels than the patterns were read from.

    Examples
    --------
    >>> import nibabel as nib
    >>> from brainmap.rsa import encode, load_patterns
    >>> rng = np.random.default_rng(0)
    >>> x, names = rng.normal(size=(40, 4)), [f"sound{k}" for k in range(40)]
    >>> mask = nib.Nifti1Image(np.ones((2, 1, 1), "f4"), np.eye(4))
    >>> signal = x.T[:2, None, None]
    >>> betas = [nib.Nifti1Image((signal + rng.normal(size=signal.shape)).astype("f4"), np.eye(4)) for _ in range(2)]
    >>> data = load_patterns(betas, mask=mask, conditions=names)
    >>> fit = encode({"conv1": x}, data, descriptors={"stimulus_id": names})
    >>> bool((map_encoding(fit, mask)["conv1"].get_fdata() > 0.4).all())
    True
    """
    check_choice(score, get_args(EncodingScore), "score")
    n = len(fit.responses.targets)
    values = fit.scores[score].to_numpy()
    return {
        space.name: place_in_brain(values[k * n : (k + 1) * n], fit.responses, mask, space.name)
        for k, space in enumerate(fit.spaces)
    }


def map_bands(
    fit: BandedEncoding, mask: Mask | None = None, *, tested: pd.DataFrame | None = None, alpha: float = 0.05
) -> dict[str, BrainMap]:
    """Return maps of a banded model: the preferred band, R2 of all bands, and what each band adds to the others.

    Parameters
    ----------
    fit : BandedEncoding
        A model of voxels, of patterns that were read inside the mask, or of vertices.
    mask : path, Nifti1Image or list of these, optional
        The mask of the patterns, which voxels need.
    tested : DataFrame, optional
        What `fit.test` returns: voxels in which all bands together are not significant have no preferred band.
    alpha : float
        Level of that test, corrected.

    Returns
    -------
    dict of str to Nifti1Image or SurfaceData
        `preferred` (the number of the band, from 1; NaN where there is none), `joint`, and `unique <band>` of each,
        which may be negative.

    Raises
    ------
    InputError
        As in `map_encoding`.

    Examples
    --------
    >>> from rsatoolbox.data.dataset import Dataset
    >>> from brainmap.rsa import encode_bands
    >>> rng = np.random.default_rng(0)
    >>> x, names = rng.normal(size=(60, 10)), [f"sound{k}" for k in range(60)]
    >>> voxels = np.stack([x[:, 0], x[:, 9]], axis=1) + 0.3 * rng.normal(size=(60, 2))
    >>> data = Dataset(voxels, obs_descriptors={"stimulus_id": names})
    >>> two = {"one": x[:, :5], "other": x[:, 5:]}
    >>> fit = encode_bands(two, data, descriptors={"stimulus_id": names}, n_iter=10, seeds=(0,))
    >>> maps = map_bands(fit, nib.Nifti1Image(np.ones((2, 1, 1), "f4"), np.eye(4)))
    >>> maps["preferred"].get_fdata().ravel().tolist()
    [1.0, 2.0]
    """
    n = len(fit.responses.targets)
    preferred = fit.preference(tested, alpha=alpha)["band"]
    number = {band: k for k, band in enumerate(fit.bands, start=1)}
    values = {
        "preferred": np.array([number.get(band, np.nan) for band in preferred], np.float64),
        "joint": fit.scores["joint"].to_numpy(np.float64)[:n],
    }
    unique = fit.scores["unique"].to_numpy(np.float64).reshape(len(fit.bands), n)
    values |= {f"unique {band}": own for band, own in zip(fit.bands, unique, strict=True)}
    return {name: place_in_brain(own, fit.responses, mask, name) for name, own in values.items()}


def place_in_brain(values: Floats, responses: Responses, mask: Mask | None, name: str) -> BrainMap:
    """Return the values of voxels or vertices `(n_targets,)` as a map of that name, NaN elsewhere.

    Raises
    ------
    InputError
        The targets are regions, or voxels that the mask does not have, or there is no mask.
    """
    targets = responses.targets
    if targets["voxel"].isna().any():
        raise InputError("encoding maps: expected scores of voxels, got those of regions; take targets='voxel'")
    if responses.mesh:
        sides = [np.full((size, 1), np.nan, np.float32) for size in responses.mesh]
        for side, column in zip(("left", "right"), sides, strict=True):
            own = (targets["hemisphere"] == side).to_numpy()
            column[targets["vertex"].to_numpy(np.intp)[own], 0] = values[own]
        return SurfaceData(sides[0], sides[1], (name,))
    if mask is None:
        raise InputError("encoding maps: expected the mask of the patterns, got none; give it, to place voxels")
    image = load_mask(mask)
    inside, voxel = np.asarray(image.dataobj) > 0, targets["voxel"].to_numpy(dtype=np.intp)
    if voxel.max() >= inside.sum():
        raise InputError(
            f"encoding maps: expected the mask of the patterns, got one of {inside.sum()} voxels without voxel "
            f"{voxel.max()}; give the same mask"
        )
    filled, flat = np.full(inside.shape, np.nan, np.float32), np.full(int(inside.sum()), np.nan)
    flat[voxel] = values
    filled[inside] = flat
    return nib.Nifti1Image(filled, image.affine)
