"""Place the scores of encoding models in the brain, as images."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import nibabel as nib
import numpy as np

from brainmap.checks import one_of
from brainmap.errors import InputError
from brainmap.rsa.encoding.encode import Encoding
from brainmap.rsa.regions.rois import Mask, load_mask
from brainmap.types import EncodingScore, Floats

if TYPE_CHECKING:
    import pandas as pd


def map_encoding(fit: Encoding, mask: Mask, *, score: EncodingScore = "r") -> dict[str, nib.Nifti1Image]:
    """Return an image of the scores of each layer, by its name; NaN where there is no score.

    Parameters
    ----------
    fit : Encoding
        Models of voxels, of patterns that were read inside the mask.
    mask : path, Nifti1Image or list of these
    score : {"r", "r2", "r_corrected", "r2_corrected"}

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
    one_of(score, get_args(EncodingScore), "score")
    inside = load_mask(mask)
    n = len(fit.responses.targets)
    return {
        space.name: place_in_mask(fit.scores[score].to_numpy()[k * n : (k + 1) * n], fit.responses.targets, inside)
        for k, space in enumerate(fit.spaces)
    }


def place_in_mask(values: Floats, targets: pd.DataFrame, mask: nib.Nifti1Image) -> nib.Nifti1Image:
    """Return an image of the values of voxels `(n_targets,)`, NaN elsewhere.

    Raises
    ------
    InputError
        The targets are regions, or voxels that the mask does not have.
    """
    if targets["voxel"].isna().any():
        raise InputError("encoding maps: expected scores of voxels, got those of regions; take targets='voxel'")
    inside = np.asarray(mask.dataobj) > 0
    voxel = targets["voxel"].to_numpy(dtype=np.intp)
    if voxel.max() >= inside.sum():
        raise InputError(
            f"encoding maps: expected the mask of the patterns, got one of {inside.sum()} voxels without voxel "
            f"{voxel.max()}; give the same mask"
        )
    filled, flat = np.full(inside.shape, np.nan, np.float32), np.full(int(inside.sum()), np.nan)
    flat[voxel] = values
    filled[inside] = flat
    return nib.Nifti1Image(filled, mask.affine)
