"""Read and write GIFTI data on the cortical surface, and project volume maps to fsaverage."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from xml.parsers.expat import ExpatError

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_file, list_some
from brainmap.errors import InputError
from brainmap.record import atomic
from brainmap.rsa.images.files import image_info, load_image
from brainmap.rsa.images.names import CIFTI_ENDINGS, SURFACE_ENDINGS, find_hemisphere_files
from brainmap.rsa.regions.rois import Image, find_space_family
from brainmap.rsa.surface.cifti import read_cifti
from brainmap.rsa.surface.suma import read_niml
from brainmap.types import Interpolation

Floats = NDArray[np.float32]
HEMISPHERES = ("left", "right")
_STRUCTURES = {"left": "CortexLeft", "right": "CortexRight"}
_GEOMETRY = (1008, 1009)  # intents of the points and triangles of a mesh
MESHES = {"fsaverage5": 10_242, "fsaverage": 163_842}


@dataclass(frozen=True, eq=False)
class SurfaceData:
    """Hold values at the vertices of the two hemispheres.

    Attributes
    ----------
    left, right : ndarray of float32, (n_vertices, n_maps)
        Values per vertex; one hemisphere may have no vertices.
    labels : tuple of str
        One name per map; `#0`, `#1`, ... if the file names none.
    label_tables : mapping of "left", "right" to a mapping of int to str
        Names of the whole numbers in label files.
    name : str
        Source of the data.

    Examples
    --------
    >>> data = SurfaceData(np.zeros((3, 2), "f4"), np.ones((4, 2), "f4"))
    >>> data.values.shape, data.hemisphere.tolist()[:4], data.vertex.tolist()
    ((7, 2), ['left', 'left', 'left', 'right'], [0, 1, 2, 0, 1, 2, 3])
    """

    left: Floats
    right: Floats
    labels: tuple[str, ...] = ()
    label_tables: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    name: str = "surface"

    @property
    def values(self) -> Floats:
        """Values of both hemispheres, the left one first: `(n_vertices, n_maps)`."""
        return np.concatenate([self.left, self.right])

    @property
    def hemisphere(self) -> NDArray[np.str_]:
        """Side of each row of `values`."""
        return np.repeat(np.array(HEMISPHERES), [len(self.left), len(self.right)])

    @property
    def vertex(self) -> NDArray[np.int64]:
        """Vertex of each row of `values`, counted from 0 in its hemisphere."""
        return np.concatenate([np.arange(len(self.left)), np.arange(len(self.right))])

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers of vertices of the left and the right hemisphere."""
        return len(self.left), len(self.right)


def load_surface(path: str | Path | Mapping[str, str | Path]) -> SurfaceData:
    """Load per-vertex data from GIFTI (`.func.gii`, `.shape.gii`, `.label.gii`), SUMA (`.niml.dset`) or CIFTI files.

    Parameters
    ----------
    path : str, Path or mapping of "left", "right" to a path
        `{hemi}` in a name stands for L and R, lh and rh, or left and right. A name without it is one hemisphere, which
        the file itself must name. CIFTI (`.dscalar.nii`, `.dtseries.nii`, `.dlabel.nii`) is one file of both; its
        vertices without data are NaN (0 in labels), and its subcortical voxels are left out with a warning.

    Returns
    -------
    SurfaceData

    Raises
    ------
    InputError
        If a file does not exist, is damaged or holds a mesh in place of data, if maps differ between hemispheres, or
        if a left file is given as right.
    """
    if not isinstance(path, Mapping) and str(path).endswith(CIFTI_ENDINGS):
        maps = read_cifti(path)
        none = np.empty((0, len(maps.labels)), np.float32)
        left, right = (maps.values.get(side, none) for side in HEMISPHERES)
        return SurfaceData(left, right, maps.labels, maps.label_tables, str(path))
    if isinstance(path, Mapping):
        files = {check_choice(side, HEMISPHERES, "hemisphere"): Path(file) for side, file in path.items()}
    else:  # the side is empty if only the file can tell it
        files = find_hemisphere_files(str(path)) if "{hemi}" in str(path) else {"": check_file(path, "surface")}
    read: dict[str, tuple[Floats, tuple[str, ...], dict[int, str]]] = {}
    for side, file in files.items():
        suma = file.name.endswith(".niml.dset")  # which has no label table and does not name its side
        values, labels, table, said = (*read_niml(file), {}, "") if suma else _read_gifti(file)
        if side and said and side != said:
            raise InputError(
                f"{file}: the file is given as the {side} hemisphere, but says that it is the {_STRUCTURES[said]}"
            )
        if not side and not said:
            raise InputError(
                f"{file}: the file does not say its hemisphere; give {{'left': ...}}, or a name with {{hemi}}"
            )
        read[side or said] = values, labels, table
    first = next(iter(read.values()))
    for values, labels, _ in read.values():
        if values.shape[1] != first[0].shape[1] or labels != first[1]:
            raise InputError(
                f"{path}: the hemispheres hold different maps: {list_some(labels)} and {list_some(first[1])}"
            )
    none = np.empty((0, first[0].shape[1]), np.float32)
    left, right = (read[side][0] if side in read else none for side in HEMISPHERES)
    tables = {side: table for side, (_, _, table) in read.items() if table}
    return SurfaceData(left, right, first[1], tables, str(path))


def _read_gifti(file: Path) -> tuple[Floats, tuple[str, ...], dict[int, str], str]:
    """Read values `(n_vertices, n_maps)`, map names, label table, and the side that the file names."""
    check_file(file, "surface")
    try:
        image: Any = nib.load(file)
        if not isinstance(image, nib.GiftiImage):
            raise InputError(f"{file}: expected a GIFTI file (.func.gii, .shape.gii or .label.gii), got another format")
        arrays = [(np.asarray(array.data), array.intent, dict(array.meta)) for array in image.darrays]
        table = {int(label.key): str(label.label or "") for label in image.labeltable.labels}
        structure = str(image.meta.get("AnatomicalStructurePrimary", ""))
    except InputError:
        raise
    except Exception as error:  # nibabel and expat raise many types of error: KeyError, ValueError, zlib.error, ...
        kind = "damaged XML" if isinstance(error, ExpatError) else "damaged GIFTI"
        raise InputError(f"{file}: {kind} ({str(error) or type(error).__name__}); write it again") from None
    if not arrays or any(intent in _GEOMETRY for _, intent, _ in arrays):
        what = "a mesh" if arrays else "no data array"
        raise InputError(f"{file}: expected values at vertices (.func.gii, .shape.gii, .label.gii), got {what}")
    columns, names = [], []
    for values, _, meta in arrays:
        block = values.reshape(len(values), -1) if values.ndim else values.reshape(1, 1)
        if values.ndim not in (1, 2) or values.dtype.kind not in "iuf" or len(block) != len(arrays[0][0]):
            shapes = list_some([a.shape for a, _, _ in arrays])
            raise InputError(f"{file}: expected arrays of real numbers, one per vertex, got arrays of shapes {shapes}")
        columns.append(block.astype(np.float32))
        names += [str(meta.get("Name", ""))] * block.shape[1] if block.shape[1] == 1 else [""] * block.shape[1]
    stacked = np.concatenate(columns, axis=1)
    labels = tuple(name.strip() or f"#{k}" for k, name in enumerate(names))
    structures = {value: side for side, value in _STRUCTURES.items()}
    return stacked, labels, table, structures.get(structure, "")


def save_surface(data: SurfaceData, path: str | Path, *, overwrite: bool = False, history: str = "") -> list[Path]:
    """Write one GIFTI file per hemisphere that has vertices; `{hemi}` in the name becomes L and R.

    Parameters
    ----------
    data : SurfaceData
    path : str or Path
    overwrite : bool
    history : str
        The command that produced the data, recorded in the files.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    InputError
        If the name lacks `{hemi}` or has another ending, or if a file exists.
    """
    name = str(path)
    files = check_surface_files(name, overwrite)
    sides = {side: values for side, values in zip(HEMISPHERES, (data.left, data.right), strict=True) if len(values)}
    for side, values in sides.items():
        labelled = name.endswith(".label.gii")
        intent = "NIFTI_INTENT_LABEL" if labelled else "NIFTI_INTENT_NONE"
        labels = data.labels or [f"#{k}" for k in range(values.shape[1])]
        arrays = [
            nib.gifti.GiftiDataArray(
                np.ascontiguousarray(column.astype(np.int32 if labelled else np.float32)),
                intent=intent,
                meta=nib.gifti.GiftiMetaData({"Name": label}),
            )
            for column, label in zip(values.T, labels, strict=True)
        ]
        said = {"AnatomicalStructurePrimary": _STRUCTURES[side]} | ({"History": history} if history else {})
        image = nib.GiftiImage(darrays=arrays, meta=nib.gifti.GiftiMetaData(said))
        for value, label in data.label_tables.get(side, {}).items():
            entry: Any = nib.gifti.GiftiLabel(value, 0.5, 0.5, 0.5, 1.0)
            entry.label = label
            image.labeltable.labels.append(entry)
        with atomic(files[side]) as beside:
            nib.save(image, beside)
    return [files[side] for side in sides]


def check_surface_files(name: str, overwrite: bool, *, what: str = "surface") -> dict[str, Path]:
    """Return the file of each hemisphere for a name with `{hemi}`; refuse files that may not be written."""
    if "{hemi}" not in name or not name.endswith((".func.gii", ".shape.gii", ".label.gii")):
        raise InputError(f"{what}: expected a name like map_hemi-{{hemi}}.func.gii (or .shape, .label), got {name}")
    files = {side: Path(name.replace("{hemi}", side[0].upper())) for side in HEMISPHERES}
    taken = [file for file in files.values() if file.exists()]
    if taken and not overwrite:
        raise InputError(
            f"{what}: {taken[0]} exists; overwrite it (overwrite=True, --overwrite) or choose another name"
        )
    return files


def project_to_surface(
    image: Image,
    *,
    mesh: Literal["fsaverage5", "fsaverage"] = "fsaverage5",
    interpolation: Interpolation = "continuous",
    space: str | None = None,
) -> SurfaceData:
    """Project maps in MNI space to the surface by averaging through the cortex, from white matter to pial surface.

    fsaverage is close to MNI152 but not identical to it. This suffices for figures and group maps. For fine-grained
    patterns of one participant, project with the participant's own surfaces (FreeSurfer, fMRIPrep) and load the GIFTI
    files.

    Parameters
    ----------
    image : path or Nifti1Image, `(x, y, z)` or `(x, y, z, n)`
        The maps; NaN marks missing data, which does not spread to neighboring voxels.
    mesh : {"fsaverage5", "fsaverage"}
        10,242 vertices per hemisphere, or 163,842 (downloaded once by nilearn).
    interpolation : {"continuous", "label"}
        "continuous": the mean of linearly interpolated samples. "label": the most frequent label of the nearest
        voxels.
    space : str, optional
        The space of the image, if its header does not name it or names it wrongly.

    Returns
    -------
    SurfaceData
        Projected maps, NaN where the image has no data.

    Raises
    ------
    InputError
        If the image is not in MNI space, or no vertex lies in it.

    References
    ----------
    Fischl et al. (1999), https://doi.org/10.1006/nimg.1998.0396
    """
    check_choice(mesh, tuple(MESHES), "mesh")
    check_choice(interpolation, ("continuous", "label"), "interpolation")
    loaded, info = load_image(image), image_info(image)
    if find_space_family(space or info.space) != "MNI":
        raise InputError(
            f"project_to_surface: expected an image in MNI, where fsaverage lies, got one in {space or info.space}; "
            "warp the image first, or pass space='MNI' where the header is wrong"
        )
    values = np.asarray(loaded.dataobj).reshape(*info.shape[:3], -1)
    left, right = (_sample_volume(values, loaded.affine, side, mesh, interpolation) for side in HEMISPHERES)
    if not (np.isfinite(left).any() or np.isfinite(right).any()):
        raise InputError("project_to_surface: no vertex of the cortex lies in the image's data; check its space")
    tables = dict.fromkeys(HEMISPHERES, info.label_table) if info.label_table else {}
    return SurfaceData(left, right, info.labels, tables, str(info.path or "image"))


def _sample_volume(values: Floats, affine: NDArray[np.floating], side: str, mesh: str, interpolation: str) -> Floats:
    """Sample a volume at the vertices of a hemisphere `(n_vertices, n)`, NaN where there is no data."""
    from nilearn.datasets import load_fsaverage
    from nilearn.surface import vol_to_surf

    meshes = load_fsaverage(mesh)
    pial, white = (meshes[key].parts[side] for key in ("pial", "white_matter"))

    def project(volume: NDArray[Any], how: str) -> Floats:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Mean of empty slice", category=RuntimeWarning)
            found = vol_to_surf(nib.Nifti1Image(volume, affine), pial, inner_mesh=white, interpolation=how)
        return np.asarray(found, np.float32).reshape(len(found), -1)

    if interpolation == "label":
        return project(np.nan_to_num(values), "nearest_most_frequent")
    there = np.isfinite(values)
    weight = np.nan_to_num(project(there.astype(np.float32), "linear"))
    total = project(np.where(there, values, 0).astype(np.float32), "linear")
    return np.where(weight > 0.5, total / np.maximum(weight, 1e-6), np.nan).astype(np.float32)


def is_surface(path: str) -> bool:
    """Return whether a name belongs to surface data.

    Examples
    --------
    >>> [is_surface(name) for name in ("run-1_hemi-{hemi}.func.gii", "run-1.dscalar.nii", "run-1.nii.gz")]
    [True, True, False]
    """
    return path.endswith(SURFACE_ENDINGS)


def ensure_surface(data: SurfaceData | str | Path | Mapping[str, str | Path]) -> SurfaceData:
    """Return surface data unchanged, or load them from files."""
    return data if isinstance(data, SurfaceData) else load_surface(data)


def check_same_mesh(one: SurfaceData, other: SurfaceData) -> None:
    """Refuse data whose numbers of vertices differ."""
    if one.sizes != other.sizes:
        raise InputError(
            f"{one.name}: expected {other.sizes} vertices (left, right) as in {other.name}, got {one.sizes}; bring "
            "both to one mesh"
        )
