"""Write the images of commands: check where they may go, and save one file per map or sub-bricks of one file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainmap import rsa
from brainmap.checks import refuse_some
from brainmap.cli.options import refuse_existing
from brainmap.errors import InputError

if TYPE_CHECKING:
    from nibabel import Nifti1Image

    from brainmap.rsa.encoding.maps import BrainMap

PLACE = "{layer}"


def _refuse_existing_image(path: str, overwrite: bool, option: str) -> None:
    """Refuse an image that exists before anything is computed."""
    from brainmap.rsa.images.names import find_afni_base

    base = find_afni_base(path)
    refuse_existing(Path(path if base is None else f"{base}.HEAD"), overwrite, option=option)
    if base is None and not path.endswith((".nii", ".nii.gz")):
        raise InputError(
            f"{option}: expected a name that ends in .nii.gz or .nii, or x+orig, x+tlrc for AFNI, got {path}"
        )


def save_bricks(images: Sequence[Nifti1Image], path: str, *, overwrite: bool, **given: Any) -> Path:
    """Save images on one grid as sub-bricks of one file, with the command in its history."""
    import nibabel
    import numpy as np

    from brainmap.record import command_line

    volumes = [np.asarray(image.dataobj) for image in images]
    joined = images[0]  # as it is, with its time axis, where it is the only one
    if len(volumes) > 1:
        joined = nibabel.Nifti1Image(np.stack(volumes, axis=3), images[0].affine)
    return rsa.save_image(joined, path, history=command_line(), overwrite=overwrite, **given)


def read_labeled_maps(path: str) -> dict[str, Nifti1Image]:
    """Read the maps of one participant by the labels of their sub-bricks; a single map is named map."""
    import nibabel
    import numpy as np

    image = rsa.load_image(path)
    values = np.asarray(image.dataobj)
    if values.ndim == 3:
        return {"map": image}
    labels = rsa.sub_brick_labels(path)
    twice = {label for label, n in Counter(labels).items() if n > 1}
    refuse_some(sorted(twice), f"{path}: the label ", " is given to several sub-bricks; labels must differ")
    return {label: nibabel.Nifti1Image(values[..., k], image.affine) for k, label in enumerate(labels)}


def refuse_existing_maps(asked: Mapping[str, str | None], overwrite: bool, *, on_surface: bool = False) -> None:
    """Refuse maps that exist, by their option: images, or on the surface GIFTI files with `{hemi}`."""
    from brainmap.rsa.surface.data import check_surface_files

    for option, path in asked.items():
        if path is not None and on_surface:
            check_surface_files(path, overwrite, what=option)
        elif path is not None:
            _refuse_existing_image(path, overwrite, option)


def save_maps(maps: Sequence[Any], labels: Sequence[str], path: str, *, overwrite: bool, **given: Any) -> list[Path]:
    """Save maps as sub-bricks of one image, with what is `given` of them, or as arrays of GIFTI files."""
    import numpy as np

    from brainmap.record import command_line

    if not isinstance(maps[0], rsa.SurfaceData):
        return [save_bricks(maps, path, labels=labels, overwrite=overwrite, **given)]
    left, right = (np.concatenate([getattr(one, side) for one in maps], axis=1) for side in ("left", "right"))
    return rsa.save_surface(
        rsa.SurfaceData(left, right, tuple(labels)), path, overwrite=overwrite, history=command_line()
    )


def save_brain_maps(
    maps: Mapping[str, BrainMap], path: str, mask: str | None, *, space: str | None, overwrite: bool
) -> list[Path]:
    """Save maps under their names, as `save_maps` does; images lie in the space of the mask."""

    listed = list(maps.values())
    where = {} if isinstance(listed[0], rsa.SurfaceData) else {"space": space or rsa.image_info(str(mask)).space}
    return save_maps(listed, list(maps), path, overwrite=overwrite, **where)
