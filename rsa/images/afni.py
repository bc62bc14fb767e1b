"""Read AFNI header attributes from a HEAD file, interpret them, and write them.

The format is described in AFNI's README.attributes. Coordinates in a HEAD file follow the DICOM convention (x grows to
the left, y to the back); everything that leaves this module is RAS+, as in nibabel.

References
----------
Cox RW (1996). AFNI: software for analysis and visualization of functional magnetic resonance neuroimages.
https://doi.org/10.1006/cbmr.1996.0014
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.rsa.images.names import VIEWS
from brainmap.rsa.images.volumes import (
    ImageInfo,
    Stat,
    Stored,
    check_free,
    check_size,
    make_header_error,
    warn_of_header,
    write_in_place,
)

Value = str | tuple[int, ...] | tuple[float, ...]
Attributes = dict[str, Value]

_ENTRY = re.compile(
    r"\s*type\s*=\s*(string|integer|float)-attribute\s+name\s*=\s*(\S+)\s+count\s*=\s*(\d{1,9})[ \t]*\r?\n"
)
_NEXT = re.compile(r"\n\s*type\s*=")
_DTYPES = {0: "u1", 1: "i2", 3: "f4"}
_UNREAD = {2: "32-bit integers", 4: "doubles", 5: "complex", 6: "RGB", 7: "RGBA"}
_SECONDS = {77001: 1e-3, 77002: 1.0}
# Axis and sign, in DICOM coordinates, of AFNI's orientation codes R2L, L2R, P2A, A2P, I2S, S2I.
_ORIENTATIONS = ((0, 1), (0, -1), (1, -1), (1, 1), (2, 1), (2, -1))
_DICOM_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def parse_head(text: str, what: str) -> Attributes:
    """Parse the attributes of a HEAD file, given as text with one character per byte.

    String attributes are read by their count, so they may hold blank lines, quotes and any other characters.

    Raises
    ------
    InputError
        If the text breaks the format: counts that do not match, words in place of numbers, or text between attributes.

    Examples
    --------
    >>> parse_head("type = integer-attribute\\nname = BRICK_TYPES\\ncount = 2\\n 1 3\\n", "x.HEAD")
    {'BRICK_TYPES': (1, 3)}
    """
    attributes: Attributes = {}
    at = 0
    while entry := _ENTRY.match(text, at):
        kind, name, count = entry[1], entry[2], int(entry[3])
        if kind == "string":
            start = text.find("'", entry.end()) + 1
            at = start + count
            if not start or text[entry.end() : start - 1].strip() or text[at : at + 1].strip() or at > len(text):
                raise make_header_error(
                    what, f"the {count} characters of {name} do not end where the next attribute begins"
                )
            value = text[start:at].removesuffix("~")
            attributes[name] = value.encode("latin-1").decode("utf-8", errors="replace")
            continue
        following = _NEXT.search(text, entry.end() - 1)
        at = following.start() if following else len(text)
        words = text[entry.end() : at].split()
        if len(words) != count:
            raise make_header_error(what, f"{name} should hold {count} numbers, got {len(words)}")
        try:
            attributes[name] = tuple(map(int, words)) if kind == "integer" else tuple(map(float, words))
        except ValueError:
            raise make_header_error(what, f"{name} holds something that is not a number") from None
    if text[at:].strip("\0 \t\r\n"):
        raise make_header_error(what, f"no attribute begins at character {at}: {text[at : at + 40].strip()!r}")
    return attributes


def _read_numbers(attributes: Mapping[str, Value], name: str, least: int, what: str) -> tuple[Any, ...]:
    value = attributes.get(name)
    if not isinstance(value, tuple) or len(value) < least or not all(map(math.isfinite, value)):
        found = "nothing" if value is None else repr(value)
        raise make_header_error(what, f"{name} should hold at least {least} finite numbers, got {found[:60]}")
    return value


def _read_integers(attributes: Mapping[str, Value], name: str, least: int, what: str) -> tuple[int, ...]:
    values = _read_numbers(attributes, name, least, what)
    if not all(isinstance(value, int) for value in values):
        raise make_header_error(what, f"{name} should hold integers")
    return values


def open_afni(head: Path, brik: Path) -> Stored:
    """Describe a BRIK/HEAD pair without reading values; only the size of the BRIK file is checked.

    Raises
    ------
    InputError
        If the header is damaged, the size of the BRIK file does not match the header, or the data type is not
        supported.
    """
    what = str(head)
    attributes = parse_head(head.read_bytes().decode("latin-1"), what)
    spatial, n = _read_integers(attributes, "DATASET_RANK", 2, what)[:2]
    grid = _read_integers(attributes, "DATASET_DIMENSIONS", 3, what)[:3]
    if spatial != 3 or n < 1 or min(grid) < 1:
        raise make_header_error(what, f"{spatial} dimensions, {n} sub-bricks of {grid} voxels")
    types = _read_per_brick(attributes, "BRICK_TYPES", n, 1, what) if "BRICK_TYPES" in attributes else None
    if types is None:
        check_size(brik, 2 * n * math.prod(grid))
    types = types or (1,) * n  # AFNI 1.0 supported only shorts and wrote no types
    for code in types:
        if code not in _DTYPES:
            kind = _UNREAD.get(code, f"of unknown type {code}")
            raise InputError(
                f"{what}: expected sub-bricks of byte, short or float, got {kind}; convert them with 3dcalc"
            )
    order = attributes.get("BYTEORDER_STRING", "=")
    if order not in ("=", "LSB_FIRST", "MSB_FIRST"):
        raise make_header_error(what, f"BYTEORDER_STRING is {order!r}, expected LSB_FIRST or MSB_FIRST")
    byte_order = {"LSB_FIRST": "<", "MSB_FIRST": ">"}.get(str(order), "=")
    dtypes = tuple(np.dtype(byte_order + _DTYPES[code]) for code in types)
    check_size(brik, math.prod(grid) * sum(dtype.itemsize for dtype in dtypes))
    factors = _read_per_brick(attributes, "BRICK_FLOAT_FACS", n, 0.0, what)
    if min(factors) < 0:
        raise make_header_error(what, f"BRICK_FLOAT_FACS holds {min(factors)}, expected 0 or more")
    view = _read_view(attributes, head, what)
    t_r, start = _read_time_axis(attributes, what)
    info = ImageInfo(
        path=head,
        shape=(*grid, n) if n > 1 else tuple(grid),
        affine=_read_matrix(attributes, what),
        view=view,
        t_r=t_r,
        start=start,
        **describe_sub_bricks(attributes, n, view),
    )
    return Stored(info, brik, 0, dtypes, tuple((factor or 1.0, 0.0) for factor in factors), _read_ranges(attributes, n))


def _read_per_brick(attributes: Mapping[str, Value], name: str, n: int, default: float, what: str) -> tuple[Any, ...]:
    if name not in attributes:
        return (default,) * n
    values = _read_numbers(attributes, name, 1, what)
    if len(values) != n:
        raise make_header_error(what, f"{name} holds {len(values)} numbers for {n} sub-bricks")
    return values


def _read_ranges(attributes: Mapping[str, Value], n: int) -> tuple[tuple[float, float], ...] | None:
    stats = attributes.get("BRICK_STATS")
    if not isinstance(stats, tuple) or len(stats) != 2 * n:
        return None
    return tuple(zip(stats[::2], stats[1::2], strict=True))


def _read_view(attributes: Mapping[str, Value], head: Path, what: str) -> str:
    code = _read_integers(attributes, "SCENE_DATA", 1, what)[0] if "SCENE_DATA" in attributes else 0
    if not 0 <= code < len(VIEWS):
        raise make_header_error(what, f"SCENE_DATA holds view {code}, expected 0, 1 or 2")
    view = VIEWS[code]
    named = [v for v in VIEWS if head.stem.endswith(f"+{v}")]
    if named and named != [view]:
        warn_of_header(f"{what}: the name says +{named[0]}, its header +{view}; the header is believed")
    return view


def _read_time_axis(attributes: Mapping[str, Value], what: str) -> tuple[float | None, float]:
    """Return the repetition time and the time of the first sub-brick [s]."""
    if "TAXIS_NUMS" not in attributes or "TAXIS_FLOATS" not in attributes:
        return None, 0.0
    units = _read_integers(attributes, "TAXIS_NUMS", 3, what)[2]
    start, step = (float(number) for number in _read_numbers(attributes, "TAXIS_FLOATS", 2, what)[:2])
    if units not in _SECONDS or not step > 0:
        return None, 0.0
    return round(step * _SECONDS[units], 9), round(start * _SECONDS[units], 9) if math.isfinite(start) else 0.0


def _read_matrix(attributes: Mapping[str, Value], what: str) -> NDArray[np.float64]:
    """Return the voxel-to-RAS matrix: the oblique matrix if the header has one, else the axis-aligned matrix."""
    delta = np.array(_read_numbers(attributes, "DELTA", 3, what)[:3], float)
    origin = np.array(_read_numbers(attributes, "ORIGIN", 3, what)[:3], float)
    codes = _read_integers(attributes, "ORIENT_SPECIFIC", 3, what)[:3]
    if not all(code in range(6) for code in codes) or {_ORIENTATIONS[c][0] for c in codes} != {0, 1, 2}:
        raise make_header_error(what, f"ORIENT_SPECIFIC is {codes}, which is no orientation")
    along = np.eye(4)
    along[:3, :3] = 0
    for column, code in enumerate(codes):
        row = _ORIENTATIONS[code][0]
        along[row, column], along[row, 3] = delta[column], origin[column]
    if "IJK_TO_DICOM_REAL" not in attributes:
        if "IJK_TO_DICOM" in attributes:
            warn_of_header(f"{what}: no IJK_TO_DICOM_REAL; the image is taken as not oblique")
        return np.asarray(_DICOM_TO_RAS @ along)
    real = np.eye(4)
    real[:3] = np.reshape(_read_numbers(attributes, "IJK_TO_DICOM_REAL", 12, what)[:12], (3, 4))
    oblique = np.count_nonzero(np.abs(real[:3, :3]) > 1e-4 * np.abs(delta).max()) > 3
    differs = (
        np.abs(np.linalg.norm(real[:3, :3], axis=0) - np.abs(delta)) > 1e-3 * np.abs(delta) + 1e-4
        if oblique
        else np.abs(real - along) > 1e-3
    )
    if differs.any():
        warn_of_header(f"{what}: IJK_TO_DICOM_REAL contradicts ORIGIN and DELTA; IJK_TO_DICOM_REAL is believed")
    return np.asarray(_DICOM_TO_RAS @ real)


def describe_sub_bricks(attributes: Mapping[str, Value], n: int, view: str) -> dict[str, Any]:
    """Return labels, statistics, label table, space and history of `n` sub-bricks as fields of an `ImageInfo`."""
    default = {"orig": "ORIG", "acpc": "ACPC", "tlrc": "TLRC"}[view]
    names = _read_text(attributes, "BRICK_LABS").split("~")
    history = _read_text(attributes, "HISTORY_NOTE")
    return {
        "labels": tuple((names[i].strip() if i < len(names) else "") or f"#{i}" for i in range(n)),
        "stats": _read_stats(attributes, n),
        "label_table": _read_label_table(attributes),
        "space": _read_text(attributes, "TEMPLATE_SPACE") or default,
        "names_space": bool(_read_text(attributes, "TEMPLATE_SPACE")),
        "history": re.sub(r"\\([nt\"])", lambda m: {"n": "\n", "t": "\t", '"': '"'}[m[1]], history),
    }


def _read_text(attributes: Mapping[str, Value], name: str) -> str:
    value = attributes.get(name, "")
    return value.strip("~") if isinstance(value, str) and name != "BRICK_LABS" else str(value)


def _read_stats(attributes: Mapping[str, Value], n: int) -> tuple[Stat | None, ...]:
    stats: list[Stat | None] = [None] * n
    packed = attributes.get("BRICK_STATAUX", ())
    if isinstance(packed, str) or not all(map(math.isfinite, packed)):
        return tuple(stats)
    at = 0
    while at + 3 <= len(packed):
        brick, code, count = (int(v) for v in packed[at : at + 3])
        if 0 <= brick < n:
            stats[brick] = Stat.from_code(code, packed[at + 3 : at + 3 + max(count, 0)])
        at += 3 + max(count, 0)
    return tuple(stats)


def parse_label_table(text: str) -> dict[int, str]:
    """Parse AFNI's `VALUE_LABEL_DTABLE` from a HEAD or `.niml.lt` file into names by value.

    Examples
    --------
    >>> parse_label_table('<VALUE_LABEL_DTABLE ni_type="2*String" >\\n"1" "A1"\\n"2" "belt"\\n</VALUE_LABEL_DTABLE>')
    {1: 'A1', 2: 'belt'}
    """
    found = re.findall(r'"\s*(-?\d{1,9})(?:\.0*)?\s*"\s+"([^"]*)"', text[text.find(">") + 1 :])
    return {int(value): name for value, name in found}


def _read_label_table(attributes: Mapping[str, Value]) -> dict[int, str]:
    table = parse_label_table(_read_text(attributes, "VALUE_LABEL_DTABLE"))
    for point in re.findall(r"<ATLAS_POINT([^<>]*)>", _read_text(attributes, "ATLAS_LABEL_TABLE")):
        value, name = re.search(r'VAL="(-?\d{1,9})"', point), re.search(r'STRUCT="([^"]*)"', point)
        if value and name:
            table[int(value[1])] = name[1]
    return table


def build_attributes(
    *,
    labels: Sequence[str],
    stats: Sequence[Stat | None],
    label_table: Mapping[int, str],
    space: str,
    history: str,
) -> Attributes:
    """Build the sub-brick attributes that a HEAD file and the AFNI extension of a NIfTI file share."""
    attributes: Attributes = {"TEMPLATE_SPACE": space}
    if labels:
        attributes["BRICK_LABS"] = "~".join(labels)
    if history:
        escaped = history.replace('"', '\\"').replace("\t", "\\t").replace("\r", "").replace("\n", "\\n")
        attributes["HISTORY_NOTE"] = escaped.replace("~", "*")
    packed = [
        number
        for brick, stat in enumerate(stats)
        if stat
        for number in (brick, stat.code, len(stat.parameters), *stat.parameters)
    ]
    if packed:
        attributes["BRICK_STATAUX"] = tuple(float(number) for number in packed)
        attributes["BRICK_STATSYM"] = ";".join(str(stat) if stat else "none" for stat in stats)
    if label_table:
        rows = "".join(f'"{value}" "{name.replace(chr(34), chr(39))}"\n' for value, name in sorted(label_table.items()))
        shape = f'ni_type="2*String"\n  ni_dimen="{len(label_table)}"'
        attributes["VALUE_LABEL_DTABLE"] = f"<VALUE_LABEL_DTABLE\n  {shape} >\n{rows}</VALUE_LABEL_DTABLE>\n"
    return attributes


def build_grid_attributes(
    affine: NDArray[np.float64], shape: Sequence[int], *, view: str, t_r: float | None, start: float = 0.0
) -> Attributes:
    """Build the attributes of a grid: sizes, orientation, origin, matrix, view and time axis."""
    n = shape[3] if len(shape) > 3 else 1
    dicom = _DICOM_TO_RAS @ affine
    rows = _find_main_axes(dicom[:3, :3])
    steps = np.linalg.norm(dicom[:3, :3], axis=0)
    codes, delta, origin = [], [], []
    along = np.zeros((3, 4))
    for column, row in enumerate(rows):
        step = math.copysign(float(steps[column]), dicom[row, column])
        codes.append(2 * row + (step < 0 if row != 1 else step > 0))
        delta.append(step)
        origin.append(float(dicom[row, 3]))
        along[row, column], along[row, 3] = step, dicom[row, 3]
    attributes: Attributes = {
        "TYPESTRING": "3DIM_HEAD_FUNC",
        "SCENE_DATA": (VIEWS.index(view), 11 if t_r is None else 0, 1, *(-999,) * 5),
        "ORIENT_SPECIFIC": tuple(int(code) for code in codes),
        "ORIGIN": tuple(origin),
        "DELTA": tuple(delta),
        "IJK_TO_DICOM": tuple(along.ravel().tolist()),
        "IJK_TO_DICOM_REAL": tuple(dicom[:3].ravel().tolist()),
        "DATASET_RANK": (3, n, *(0,) * 6),
        "DATASET_DIMENSIONS": (*(int(side) for side in shape[:3]), 0, 0),
    }
    if t_r is not None:
        attributes["TAXIS_NUMS"] = (n, 0, 77002, *(-999,) * 5)
        attributes["TAXIS_FLOATS"] = (float(start), float(t_r), 0.0, 0.0, 0.0, *(-999999.0,) * 3)
    return attributes


def _find_main_axes(matrix: NDArray[np.float64]) -> list[int]:
    """Return the nearest coordinate axis of each voxel axis, using each coordinate axis once."""
    left = np.abs(matrix / np.linalg.norm(matrix, axis=0))
    rows = [0, 0, 0]
    for _ in range(3):
        row, column = np.unravel_index(int(left.argmax()), left.shape)
        rows[int(column)] = int(row)
        left[row], left[:, column] = -1, -1
    return rows


def format_head(attributes: Mapping[str, Value]) -> bytes:
    """Format a HEAD file as bytes; floats keep enough digits to be read back exactly."""
    parts = []
    for name, value in attributes.items():
        if isinstance(value, str):
            text = value.encode() + b"~"
            parts.append(b"\ntype = string-attribute\nname = %s\ncount = %d\n'%s\n" % (name.encode(), len(text), text))
            continue
        whole = all(isinstance(number, int) for number in value)
        words = [f"{number}" if whole else repr(float(number)).removesuffix(".0") for number in value]
        lines = "\n".join(" " + " ".join(words[i : i + 5]) for i in range(0, len(words), 5))
        kind = "integer" if whole else "float"
        parts.append(f"\ntype = {kind}-attribute\nname = {name}\ncount = {len(value)}\n{lines}\n".encode())
    return b"".join(parts)


def build_brik_attributes(data: NDArray[np.generic]) -> Attributes:
    """Build the attributes of the stored values; `data` is uint8, int16 or float32, `(x, y, z, n)`."""
    code = {"u1": 0, "i2": 1, "f4": 3}[data.dtype.str[1:]]
    n = data.shape[3]
    bricks = [data[..., brick] for brick in range(n)]
    ranges = [float(end) for brick in bricks for end in (brick.min(), brick.max())]
    attributes: Attributes = {
        "BRICK_TYPES": (code,) * n,
        "BRICK_FLOAT_FACS": (0.0,) * n,
        "BYTEORDER_STRING": "LSB_FIRST",
    }
    if all(map(math.isfinite, ranges)):
        attributes["BRICK_STATS"] = tuple(ranges)
    return attributes


def save_afni(values: NDArray[Any], info: ImageInfo, base: str, typed: str, overwrite: bool) -> Path:
    """Write an AFNI dataset, the HEAD last, and return the path of the HEAD.

    Parameters
    ----------
    values : ndarray (x, y, z) or (x, y, z, n_sub_bricks)
    info : ImageInfo
        Grid, labels, statistics, space and history.
    base : str
        Path without an ending, with its view, as `out/x+tlrc`.
    typed : str
        Path as the user typed it; a `.gz` at its end compresses the BRIK.
    overwrite : bool
    """
    named = [view for view in VIEWS if base.endswith(f"+{view}")]
    if not named:
        raise InputError(
            f"save_image: expected a name with a view, {base}+orig.HEAD or {base}+tlrc.HEAD for AFNI, got {typed}"
        )
    if (named[0] == "tlrc") != (info.view == "tlrc"):
        raise InputError(
            f"save_image: expected a name of view +{info.view}, as the space is {info.space}, got {typed} (view "
            f"+{named[0]}); change the name, or give space='MNI', 'TLRC' or 'ORIG'"
        )
    head = Path(f"{base}.HEAD")
    brik = Path(f"{base}.BRIK.gz" if typed.endswith(".gz") else f"{base}.BRIK")
    others = [Path(base + suffix) for suffix in (".BRIK", ".BRIK.gz", ".BRIK.bz2") if Path(base + suffix) != brik]
    check_free([head, brik, *others], overwrite)
    bricks = values.reshape((*values.shape, 1)[:4]).astype(values.dtype.newbyteorder("<"), copy=False)
    attributes = (
        build_grid_attributes(info.affine, values.shape, view=named[0], t_r=info.t_r, start=info.start)
        | build_brik_attributes(bricks)
        | build_attributes(
            labels=info.labels,
            stats=info.stats,
            label_table=info.label_table,
            space=info.space,
            history=info.history,
        )
    )
    with write_in_place(brik) as stream:
        for brick in range(bricks.shape[3]):
            stream.write(bricks[..., brick].tobytes(order="F"))
    for other in others:
        other.unlink(missing_ok=True)
    with write_in_place(head) as stream:  # written last, because a dataset exists as soon as its HEAD does
        stream.write(format_head(attributes))
    return head
