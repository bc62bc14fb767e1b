"""Read residuals of BOLD models from files, to estimate the noise covariance between voxels."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from nibabel import Nifti1Image
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.rsa.glm.afni import read_design
from brainmap.rsa.images.files import check_same_grid, load_image
from brainmap.rsa.rdm.run_noise import RunNoise, noise_precision
from brainmap.rsa.rdm.sources import select_roi
from brainmap.rsa.regions.rois import build_grid
from brainmap.types import Dataset, Floats, NoiseMethod


@dataclass(frozen=True)
class Residuals:
    """Hold the residuals of a participant's runs.

    Attributes
    ----------
    parts : list of ndarray (n_volumes, n_voxels)
        One array per file, with the voxels of the mask in C order.
    dof : int or None
        Number of volumes less number of regressors over all files, if their sidecars give it; None otherwise.
    files : tuple of str
        Names of the files.
    """

    parts: list[NDArray[np.float64]] = field(repr=False)
    dof: int | None
    files: tuple[str, ...] = ()

    def deviations(self, voxels: NDArray[np.intp]) -> NDArray[np.float64]:
        """Compute the noise standard deviation of each of these voxels, `(n_voxels,)`; 0 if residuals do not vary."""
        parts = [part[:, voxels] - part[:, voxels].mean(axis=0) for part in self.parts]
        freedom = self.dof or sum(len(part) - 1 for part in parts)
        sd: NDArray[np.float64] = np.sqrt(sum((part**2).sum(axis=0) for part in parts) / freedom)
        return sd


def load_residuals(files: Sequence[str], *, mask: Nifti1Image, designs: Mapping[str, str] | None = None) -> Residuals:
    """Load residuals: those of `brainmap rsa betas --residuals`, AFNI's errts files, or any 4-D image.

    Parameters
    ----------
    files : sequence of str
        NIfTI or AFNI files, each with one run or all runs.
    mask : Nifti1Image
        Mask on the grid of the files.
    designs : mapping of file to design, optional
        AFNI's `X.xmat.1D` for a file; its columns are the regressors that the model removed.

    Returns
    -------
    Residuals
        One array a run, `(n_volumes, n_voxels)`, with its degrees of freedom.

    Raises
    ------
    InputError
        If a file has another grid, or only one volume.
    """
    inside = np.asarray(mask.dataobj) > 0
    parts = []
    for name in files:
        image = load_image(name)
        check_same_grid(build_grid(image.shape, image.affine), mask, what=name, wanted="mask")
        values = np.asarray(image.dataobj)
        if values.ndim != 4:
            raise InputError(f"{name}: expected the residuals of every volume, got one volume")
        kept = values[inside].T.astype(float)
        parts.append(kept[~(kept == 0).all(axis=1)])  # AFNI writes censored volumes as 0
    freedoms = [_read_freedom(name, (designs or {}).get(name)) for name in files]
    known = [freedom for freedom in freedoms if freedom is not None]
    return Residuals(parts, sum(known) if known and len(known) == len(files) else None, tuple(files))


def estimate_precisions(
    data: Dataset, names: Sequence[str], *, method: NoiseMethod = "shrinkage", residuals: Residuals | None = None
) -> dict[str, Floats | RunNoise]:
    """Estimate the noise precision of each region, from residuals or else from runs, for each run by the others.

    Raises
    ------
    InputError
        As in `noise_precision`.
    """
    source: Any = {} if residuals is None else {"source": residuals.parts, "dof": residuals.dof}
    return {name: noise_precision(select_roi(data, name), method=method, **source) for name in names}


def _read_freedom(name: str, design: str | None) -> int | None:
    """Return the degrees of freedom of one file: from its sidecar, or volumes less the rank of its design."""
    beside = Path(re.sub(r"(\+\w+)?\.(nii(\.gz)?|HEAD)$", ".json", name))
    if beside.is_file():
        try:
            return int(json.loads(beside.read_text(encoding="utf-8"))["ResidualDegreesOfFreedom"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
    if design is None:
        return None
    matrix = read_design(Path(design)).matrix
    return len(matrix) - int(np.linalg.matrix_rank(matrix))
