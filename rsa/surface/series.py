"""Describe time series on the cortical surface from their headers: vertices, scans, and the time between scans."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from brainmap.checks import check_file
from brainmap.errors import InputError
from brainmap.rsa.images.names import CIFTI_ENDINGS, list_image_files
from brainmap.rsa.images.volumes import ImageInfo
from brainmap.rsa.surface.suma import read_niml

_ARRAY = re.compile(rb"<DataArray\b([^>]*)>")


_SIZE = re.compile(rb"\bDim([01])\s*=\s*[\"'](\d+)[\"']")


_SECONDS = {"SECOND": 1.0}


def read_series_info(name: str) -> ImageInfo:
    """Describe a time series at the vertices of both hemispheres as an image `(n_vertices, 1, 1, n_scans)`.

    CIFTI series tell the time between scans; GIFTI files and those of SUMA do not, but their JSON files may
    (`brainmap.rsa.glm.timing.read_timing`).

    Parameters
    ----------
    name : str
        As for `brainmap.rsa.load_surface`; `{hemi}` stands for both hemispheres.

    Raises
    ------
    InputError
        A file does not exist, is damaged, or holds no series; or the hemispheres differ in their scans.
    """
    files = list_image_files(name)
    t_r: float | None = None
    if name.endswith(CIFTI_ENDINGS):
        n_vertices, n_scans, t_r = _describe_cifti(files[0])
    else:
        sizes = [_describe_hemisphere(file) for file in files]
        scans = [n for _, n in sizes]
        if len(set(scans)) > 1:
            raise InputError(
                f"{name}: expected as many scans in both hemispheres, got {scans[0]} and {scans[1]}; was one cut off?"
            )
        n_vertices, n_scans = sum(size for size, _ in sizes), scans[0]
    return ImageInfo(
        path=files[0],
        shape=(n_vertices, 1, 1, n_scans),
        affine=np.eye(4),
        labels=(),
        stats=(),
        label_table={},
        t_r=t_r,
        space="surface",
        view="",
        history="",
    )


def _describe_hemisphere(file: Path) -> tuple[int, int]:
    """Return the numbers of vertices and of maps of one hemisphere, from the tags of GIFTI without its values."""
    check_file(file, "surface")
    if file.name.endswith(".niml.dset"):
        values, _ = read_niml(file)
        return int(values.shape[0]), int(values.shape[1])
    sizes = [{int(k): int(n) for k, n in _SIZE.findall(tag)} for tag in _ARRAY.findall(file.read_bytes())]
    if not sizes or any(0 not in one for one in sizes):
        raise InputError(
            f"{file}: expected a GIFTI file of values at vertices (.func.gii), got another or a damaged one"
        )
    return sizes[0][0], sum(one.get(1, 1) for one in sizes)


def _describe_cifti(file: Path) -> tuple[int, int, float | None]:
    """Return the numbers of vertices of the cortex and of maps, and the step of a series in seconds."""
    try:
        image: Any = nib.load(file)
        maps, models = (image.header.get_axis(k) for k in range(2))
        n_vertices = sum(models.nvertices.values())
    except Exception as error:  # nibabel raises many types of error for damaged files
        raise InputError(
            f"{file}: expected a CIFTI series of vertices (.dtseries.nii), got another file or a damaged one "
            f"({str(error) or type(error).__name__})"
        ) from None
    step = _SECONDS.get(str(getattr(maps, "unit", "")))
    return int(n_vertices), len(maps), None if step is None else step * float(maps.step)
