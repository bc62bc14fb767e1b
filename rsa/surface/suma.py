"""Read the datasets of SUMA, AFNI's surface program (`.niml.dset`): values at the nodes of one hemisphere."""

from __future__ import annotations

import base64
import binascii
import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_file, check_one_each, list_some
from brainmap.errors import InputError

_TAG = re.compile(rb"<\s*([A-Za-z_][\w.:-]*)((?:\s+[\w.:-]+\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s\"'>/]+))*)\s*(/?)>")
_ATTRIBUTE = re.compile(rb"([\w.:-]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>/]+))")
_TYPES = {"byte": "u1", "short": "i2", "int": "i4", "float": "f4", "double": "f8"}


class _Element(NamedTuple):
    """Hold one element of a file: its name, its attributes, and its values or text."""

    name: str
    attributes: dict[str, str]
    content: NDArray[np.float64] | str


def read_niml(path: str | Path) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Read values `(n_nodes, n_maps)` and names of maps of a `.niml.dset`, in binary, base64 or text form.

    Raises
    ------
    InputError
        If the file does not exist, is damaged, holds labels or no values, or does not hold every node of its mesh.

    Notes
    -----
    The format is that of NIML, https://afni.nimh.nih.gov/pub/dist/src/niml/NIML_base.html: SPARSE_DATA holds a row per
    node, INDEX_LIST the nodes of the rows, and the attribute COLMS_LABS the names of the columns.
    """
    file = check_file(path, "surface")
    raw = file.read_bytes()
    group = _TAG.search(raw)
    if group is None or group[1] != b"AFNI_dataset":
        raise InputError(f"{file}: expected a dataset of SUMA (<AFNI_dataset ...>), got another file")
    if "label" in _read_attributes(group[2]).get("dset_type", "").lower():
        raise InputError(f"{file}: expected values, got labels; write regions as .label.gii (ConvertDset -o_gii)")
    try:
        elements = list(_yield_elements(raw, group.end()))
    except (ValueError, TypeError, binascii.Error, OverflowError, MemoryError) as error:
        raise InputError(f"{file}: damaged NIML ({error}); write it again") from None
    data = [one.content for one in elements if one.name == "SPARSE_DATA" and not isinstance(one.content, str)]
    if len(data) != 1:
        raise InputError(f"{file}: expected one table of values (SPARSE_DATA), got {len(data)}")
    nodes = [one.content for one in elements if one.name == "INDEX_LIST" and not isinstance(one.content, str)]
    values = data[0]
    if nodes:
        values = _order_nodes(values, nodes[0].ravel(), file)
    texts = {one.attributes.get("atr_name", ""): one.content for one in elements if isinstance(one.content, str)}
    names = texts.get("COLMS_LABS", "").split(";")[: values.shape[1]]
    names += [""] * (values.shape[1] - len(names))
    return values.astype(np.float32), tuple(name.strip() or f"#{k}" for k, name in enumerate(names))


def _order_nodes(values: NDArray[np.float64], nodes: NDArray[np.float64], file: Path) -> NDArray[np.float64]:
    """Return a row per node in their order; the file must hold every node."""
    check_one_each(nodes, len(values), f"{file}: nodes", "rows", "; write it again")
    order = np.argsort(nodes, kind="stable")
    if not np.array_equal(nodes[order], np.arange(len(nodes))):
        raise InputError(
            f"{file}: expected every node of the mesh from 0, got {len(nodes)} nodes ({list_some(nodes[order], 3)}), "
            "which do not tell the size of the mesh; write all of them (ConvertDset -pad_to_node LAST_NODE)"
        )
    return values[order]


def _read_attributes(text: bytes) -> dict[str, str]:
    found = {}
    for name, *texts in _ATTRIBUTE.findall(text):
        found[name.decode()] = html.unescape(b"".join(texts).decode("utf-8", "replace"))
    return found


def _yield_elements(raw: bytes, start: int) -> Iterator[_Element]:
    """Yield the elements of a file behind the tag of its group, whose binary content is passed over by its size."""
    while (tag := _TAG.search(raw, start)) is not None:
        start = tag.end()
        name, attributes = tag[1].decode(), _read_attributes(tag[2])
        if attributes.get("ni_form") == "ni_group":
            raise ValueError(f"expected one group, got another inside it: {name}")
        if tag[3] or "ni_type" not in attributes:
            continue
        content, start = _read_content(raw, start, attributes, name)
        end = re.compile(rb"\s*</\s*" + tag[1] + rb"\s*>").match(raw, start)
        if end is None:
            raise ValueError(f"{name} does not end where its size says")
        start = end.end()
        yield _Element(name, attributes, content)
    if re.compile(rb"\s*</\s*AFNI_dataset\s*>").match(raw, start) is None:
        raise ValueError("the dataset does not end")


def _read_content(
    raw: bytes, start: int, attributes: dict[str, str], name: str
) -> tuple[NDArray[np.float64] | str, int]:
    """Read the values `(n_rows, n_columns)` or the text of an element, and return where they end."""
    form, kinds = attributes.get("ni_form", "text"), attributes["ni_type"]
    end = raw.find(b"</", start)
    if kinds == "String":
        return html.unescape(raw[start:end].decode("utf-8", "replace").strip().strip("\"'")), max(end, start)
    columns = _list_columns(kinds)
    n_rows = int(attributes.get("ni_dimen", "1"))
    encoding, _, order = form.partition(".")
    if encoding == "text":
        numbers = np.array(raw[start:end].split(), float)
        if numbers.size != n_rows * len(columns):
            raise ValueError(f"expected {n_rows} x {len(columns)} numbers of {name}, got {numbers.size}")
        return numbers.reshape(n_rows, len(columns)), end
    if encoding not in ("binary", "base64") or order not in ("lsbfirst", "msbfirst"):
        raise ValueError(f"expected ni_form text, binary or base64 with lsbfirst or msbfirst, got {form}")
    sign = "<" if order == "lsbfirst" else ">"
    dtype = np.dtype([(f"c{k}", sign + _TYPES[kind]) for k, kind in enumerate(columns)])
    size = n_rows * dtype.itemsize
    if encoding == "base64":
        block = base64.b64decode(b"".join(raw[start:end].split()), validate=True)
    else:
        end, block = start + size, raw[start : start + size]
    if n_rows < 0 or len(block) != size:
        raise ValueError(f"expected {size} bytes of {name}, got {len(block)}")
    rows = np.frombuffer(block, dtype)
    with np.errstate(invalid="ignore"):  # a signalling NaN stays a NaN, which the caller counts as missing
        return np.stack([rows[field].astype(float) for field in dtype.names or ()], axis=1), end


def _list_columns(kinds: str) -> list[str]:
    """List the type of each column: `2*float,int` is float, float, int."""
    columns: list[str] = []
    for part in kinds.split(","):
        count, star, kind = part.strip().rpartition("*")
        if kind not in _TYPES:
            raise ValueError(f"expected columns of {', '.join(_TYPES)}, got {kind}")
        columns += [kind] * (int(count) if star else 1)
    return columns
