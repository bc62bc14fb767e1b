"""Read and write NIfTI-1 and NIfTI-2 headers, and the AFNI extension inside them (code 4)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any, cast
from xml.sax.saxutils import escape

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.rsa.images.afni import Attributes, build_attributes, describe_sub_bricks
from brainmap.rsa.images.volumes import (
    ImageInfo,
    Stat,
    Stored,
    check_size,
    make_header_error,
    open_compressed,
    warn_of_header,
)

_FORMATS = {348: (nib.Nifti1Header, b"n+1\0", 352), 540: (nib.Nifti2Header, b"n+2\0", 544)}
_SECONDS = {8: 1.0, 16: 1e-3, 24: 1e-6}
_METERS = {1: ("meters", 1e3), 3: ("micrometers", 1e-3)}
_NUMS = "NIfTI_nums"
_AFNI_CODE = 4
SPACE_OF_CODE = {3: "TLRC", 4: "MNI", 5: "template"}


def get_view_of_code(code: int) -> str:
    """Return AFNI's view for an sform code; AFNI shows Talairach, MNI and other templates in its +tlrc view."""
    return "tlrc" if code in SPACE_OF_CODE else "orig"


def get_code_of_space(space: str) -> int:
    """Return the sform code of a space: 3 for the Talairach family, 4 for MNI, 1 for native, 5 for other templates."""
    if space.startswith(("TLRC", "TT_")):
        return 3
    if space.startswith("MNI") and space != "MNI_ANAT":
        return 4
    return 1 if space in ("ORIG", "ACPC", "") else 2 if space == "MNI_ANAT" else 5


def open_nifti(file: Path) -> Stored:
    """Describe a single-file NIfTI image without reading its values.

    Raises
    ------
    InputError
        If the file is not NIfTI, its header is damaged, its size does not match its header, or its values are complex
        or RGB.
    """
    what = str(file)
    with open_compressed(file) as stream:
        block = stream.read(544)
        header, least = _parse_header(block, what)
        offset = float(header["vox_offset"])
        if not (least <= offset < 1 << 31 and offset == int(offset)):
            raise make_header_error(what, f"vox_offset is {offset:g}, expected at least {least}")
        extension = block[least - 4 :] + stream.read(max(int(offset) - len(block), 0))
    grid, n, is_time = _read_shape(header, what)
    dtype = _read_dtype(header, what)
    check_size(file, int(offset) + math.prod(grid) * n * dtype.itemsize)
    attributes = decode_afni_attributes(extension[: int(offset) - least + 4], header.endianness)
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    scaled = slope != 0 and math.isfinite(slope)
    if scaled and not math.isfinite(intercept):
        raise make_header_error(what, f"scl_inter is {intercept}")
    info = build_info(header, grid, n, attributes, path=file, is_time=is_time)
    return Stored(info, file, int(offset), (dtype,) * n, ((slope, intercept) if scaled else (1.0, 0.0),) * n)


def _parse_header(block: bytes, what: str) -> tuple[Any, int]:
    for order in "<>":
        size = int(np.frombuffer(block[:4], f"{order}i4")[0]) if len(block) >= 4 else 0
        if size in _FORMATS and len(block) >= size:
            kind, magic, least = _FORMATS[size]
            header = cast(Any, kind)(block[:size], endianness=order, check=False)
            found = bytes(header["magic"]).rstrip(b"\0")
            if found != magic.rstrip(b"\0"):
                raise InputError(
                    f"{what}: expected the magic {magic[:3]!r}, got {found!r}; save it as one NIfTI file (.nii)"
                )
            return header, least
    hint = "; it is gzip data, so name it .nii.gz" if block[:2] == b"\x1f\x8b" else ""
    raise InputError(f"{what}: the file is neither NIfTI-1 nor NIfTI-2{hint}")


def _read_shape(header: Any, what: str) -> tuple[tuple[int, int, int], int, bool]:
    dim = [int(d) for d in header["dim"]]
    sides = dim[1 : dim[0] + 1] if 1 <= dim[0] <= 7 else [0]
    if min(sides) < 1:
        raise make_header_error(what, f"dim is {dim}")
    sides += [1] * (4 - len(sides))
    more = [side for side in sides[3:] if side > 1]
    if len(more) > 1:
        raise InputError(
            f"{what}: expected at most one axis after x, y, z, got {len(more) + 3} axes (shape {tuple(sides)})"
        )
    return (sides[0], sides[1], sides[2]), (more or [1])[0], sides[3] > 1


def _read_dtype(header: Any, what: str) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = np.dtype(header.get_data_dtype())
    except Exception as error:  # nibabel raises several types of error here
        raise make_header_error(what, f"datatype is {int(header['datatype'])}, which NIfTI does not know") from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise InputError(f"{what}: expected real numbers, got {_describe_kind(dtype)}; save the part you mean as float")
    if dtype.itemsize * 8 != int(header["bitpix"]):
        raise make_header_error(
            what, f"datatype {dtype} has {dtype.itemsize * 8} bits, bitpix says {int(header['bitpix'])}"
        )
    return dtype


def _describe_kind(dtype: np.dtype[Any]) -> str:
    return {"c": "complex", "V": "RGB colors"}.get(dtype.kind, dtype.name)


def build_info(
    header: Any,
    grid: tuple[int, ...],
    n: int,
    attributes: Attributes,
    *,
    path: Path | None,
    is_time: bool,
    current: bool = True,
) -> ImageInfo:
    """Combine a NIfTI header and its AFNI attributes; unless `current`, the attributes of sub-bricks are ignored."""
    what = str(path or "image")
    affine, code = _choose_affine(header, grid, what)
    view = get_view_of_code(code)
    described_n = str(attributes.get(_NUMS, f",,,{n},1")).split(",")[3:5]
    # If AFNI's count differs, sub-bricks were cut or joined after AFNI described them.
    if not current or math.prod(int(word) for word in described_n if word) != n:
        attributes = {name: value for name, value in attributes.items() if not name.startswith("BRICK_")}
    described = describe_sub_bricks(attributes, n, view)
    if "TEMPLATE_SPACE" not in attributes:
        described["space"] = SPACE_OF_CODE.get(code, "ORIG")
    if current and not any(described["stats"]):
        parameters = [float(header[f"intent_p{i}"]) for i in (1, 2, 3)]
        described["stats"] = (Stat.from_code(int(header["intent_code"]), parameters),) * n
    unit = _SECONDS.get(int(header["xyzt_units"]) & 0x38)
    step = float(header["pixdim"][4])
    t_r = round(step * unit, 6) if is_time and unit and math.isfinite(step) and step > 0 else None
    begin = float(header["toffset"])
    start = round(begin * unit, 6) if t_r is not None and unit and math.isfinite(begin) else 0.0
    return ImageInfo(
        path,
        (*grid, n) if n > 1 else grid,
        affine,
        view=view,
        t_r=t_r,
        start=start,
        description=bytes(header["descrip"]).rstrip(b"\0").decode("utf-8", errors="replace"),
        **described,
    )


def _choose_affine(header: Any, grid: tuple[int, ...], what: str) -> tuple[NDArray[np.float64], int]:
    """Return the sform if there is one, else the qform, else a guess from voxel sizes with a warning."""
    qcode, scode = int(header["qform_code"]), int(header["sform_code"])
    if not (0 <= qcode <= 5 and 0 <= scode <= 5):
        warn_of_header(
            f"{what}: sform code {scode} and qform code {qcode}, the standard knows 0 to 5; check the header"
        )
    sform = np.array(header.get_sform(), float)
    qform = _compute_qform(header) if qcode > 0 else None
    if scode > 0:
        affine, code = sform, scode
        if qform is None and qcode > 0:
            warn_of_header(f"{what}: the qform is invalid; the sform is used")
        elif qform is not None and (off := measure_corner_distance(sform, qform, grid)) > 0.1:
            mirrored = np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0
            flip = " and are mirror images (left/right)" if mirrored else ""
            warn_of_header(f"{what}: sform and qform disagree by up to {off:.3g} mm{flip}; the sform is used")
    elif qform is not None:
        affine, code = qform, qcode
    elif qcode > 0:
        raise make_header_error(what, "the qform is invalid and there is no sform")
    else:
        affine, code = np.array(header.get_base_affine(), float), 0
        warn_of_header(f"{what}: neither sform nor qform; positions and left/right are guessed from the voxel sizes")
    unit, factor = _METERS.get(int(header["xyzt_units"]) & 7, ("", 1.0))
    if unit:
        warn_of_header(f"{what}: the header gives positions in {unit}; they are converted to mm")
        affine[:3] *= factor
    return affine, code


def _compute_qform(header: Any) -> NDArray[np.float64] | None:
    """Return the affine of the quaternion; None if it is invalid."""
    if header["pixdim"][0] == 0:
        header["pixdim"][0] = 1  # as the NIfTI standard specifies
    try:
        qform = np.array(header.get_qform(), float)
    except Exception:  # nibabel raises several types of error here
        return None
    return qform if np.isfinite(qform).all() else None


def measure_corner_distance(one: NDArray[np.float64], other: NDArray[np.float64], grid: tuple[int, ...]) -> float:
    """Return the largest coordinate difference [mm] between two affines over the corners of a grid."""
    corners = np.array([[i, j, k, 1] for i in (0, grid[0]) for j in (0, grid[1]) for k in (0, grid[2])], float)
    return float(np.abs(corners @ (one - other).T).max())


def decode_afni_attributes(block: bytes, order: str) -> Attributes:
    """Decode the AFNI extension among a header's extensions; `block` begins at the four extender bytes."""
    at = 4
    while block[:1] != b"\0" and at + 8 <= len(block):
        size, code = (int(v) for v in np.frombuffer(block[at : at + 8], f"{order}i4"))
        if size < 8:
            break
        if code == _AFNI_CODE:
            return decode_extension(block[at + 8 : at + size])
        at += size
    return {}


def decode_extension(content: bytes) -> Attributes:
    """Decode the attributes in the XML of an AFNI extension; unreadable elements are left out."""
    attributes: Attributes = {}
    if nums := re.search(rb'NIfTI_nums="([\d,]{1,120})"', content):
        attributes[_NUMS] = nums[1].decode()
    for element in content.decode("utf-8", errors="replace").split("<AFNI_atr")[1:]:
        start, _, rest = element.partition(">")
        body, closed, _ = rest.partition("</AFNI_atr>")
        keys = dict(re.findall(r'(\w+)="([^"]*)"', start))
        name = keys.get("atr_name") or keys.get("AFNI_name")
        if not name or not closed:
            continue
        if keys.get("ni_type") == "String":
            attributes[name] = unescape("".join(re.findall(r'"([^"]*)"', body)))
            continue
        try:
            convert = int if keys.get("ni_type") == "int" else float
            attributes[name] = tuple(convert(word) for word in body.split())
        except ValueError:
            continue
    return attributes


def encode_extension(attributes: Attributes, nums: tuple[int, ...]) -> bytes:
    """Encode attributes as XML of an AFNI extension; by `nums` (nx, ny, nz, nt, nu, datatype) AFNI detects edits."""
    parts = [f"<?xml version='1.0' ?>\n<AFNI_attributes\n  NIfTI_nums=\"{','.join(map(str, nums))}\"\n"]
    parts.append('  ni_form="ni_group" >\n')
    for name, value in attributes.items():
        if isinstance(value, str):
            kind, count = "String", 1
            body = ' "' + escape(value, {'"': "&quot;", "'": "&apos;"}) + '"\n'
        else:
            kind = "int" if all(isinstance(number, int) for number in value) else "float"
            count = len(value)
            body = "".join(f" {number:.9g}\n" for number in value)
        parts.append(f'<AFNI_atr\n  ni_type="{kind}"\n  ni_dimen="{count}"\n  atr_name="{name}" >\n{body}</AFNI_atr>\n')
    parts.append("</AFNI_attributes>\n")
    return "".join(parts).encode()


def describe_image(image: nib.Nifti1Image) -> ImageInfo:
    """Describe an image in memory."""
    described = getattr(image, "described", None)
    if isinstance(described, ImageInfo):
        return described
    shape = tuple(int(side) for side in image.shape)
    more = [side for side in shape[3:] if side != 1]
    if len(shape) < 2 or len(more) > 1:
        raise InputError(f"image: expected shape (x, y, z) or (x, y, z, n), got {shape}")
    grid, n = (*shape[:3], *(1,) * (3 - len(shape))), (more or [1])[0]
    header: Any = image.header
    attributes: Attributes = {}
    if isinstance(header, nib.Nifti1Header):
        for extension in header.extensions:
            if extension.get_code() == _AFNI_CODE:
                attributes = decode_extension(bytes(extension.get_content()))
    else:
        empty = np.broadcast_to(np.float32(0), grid)
        header = cast(Any, nib.Nifti1Image)(empty, image.affine).header
    # Derived images inherit the header, so only an image that is still on disk has its own labels.
    current = nib.is_proxy(image.dataobj)
    info = build_info(header, grid, n, attributes, path=None, is_time=n > 1, current=current)
    return replace(info, affine=np.array(image.affine, float))


def build_image(values: NDArray[Any], info: ImageInfo) -> nib.Nifti1Image:
    """Build an image that carries all of `info`, while images derived from it (by slicing, by nilearn) do not.

    Derived images inherit the header, so it holds only what stays true of them; labels and statistics are attached to
    the image object itself.
    """
    image: Any = build_image_for_file(values, replace(info, stats=(None,) * len(info.stats)), labels=())
    image.described = info
    return cast(nib.Nifti1Image, image)


def build_image_for_file(
    values: NDArray[Any], info: ImageInfo, *, labels: Sequence[str] | None = None
) -> nib.Nifti1Image:
    """Build an image whose header carries all of `info`, for AFNI and for other programs."""
    header: Any = nib.Nifti1Header()
    header.set_data_dtype(values.dtype)
    try:
        header.set_data_shape(values.shape)
    except nib.spatialimages.HeaderDataError as error:
        raise InputError(
            f"{info.path}: expected at most 32767 values along an axis, as NIfTI-1 can count, got shape {values.shape}"
        ) from error
    code = get_code_of_space(info.space)
    header.set_xyzt_units("mm", "sec" if info.t_r else "unknown")
    if values.ndim > 3:
        header.set_zooms((*header.get_zooms()[:3], info.t_r or 0.0))
        header["toffset"] = info.start if info.t_r else 0.0
    header.set_sform(info.affine, code)
    header.set_qform(info.affine, code)
    if not np.allclose(header.get_qform(), info.affine, atol=1e-4):
        header["qform_code"] = 0  # a qform cannot represent shear
    if len(info.stats) == 1 and info.stats[0] is not None:
        header.set_intent(info.stats[0].code, info.stats[0].parameters, allow_unknown=True)
    attributes = build_attributes(
        labels=info.labels if labels is None else labels,
        stats=info.stats,
        label_table=info.label_table,
        space=info.space,
        history=info.history,
    )
    nums = (*(*values.shape, 1)[:4], 1, int(header["datatype"]))
    header.extensions.append(nib.nifti1.Nifti1Extension(_AFNI_CODE, encode_extension(attributes, nums)))
    return nib.Nifti1Image(values, info.affine, header)
