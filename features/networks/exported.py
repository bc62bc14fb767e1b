"""Load networks saved with `torch.export`, only when nothing in the file can run code of its own.

`torch.export.load` trusts its file: it unpickles members, loads compiled libraries, evaluates the expressions of
dynamic shapes and calls whatever function a node names. The archive is therefore checked first, and is loaded only if
it holds nothing but tensors and operations on tensors.

Run an exported program module by module, under the names that its modules had before it was exported. `torch.export`
keeps for every operation the modules that it lay in (`nn_module_stack`). The program is taken apart along them, and
convolutions, linear layers and batch normalizations become modules of torch again, so that everything that knows these
works on them.
"""

from __future__ import annotations

import ast
import io
import json
import logging
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from brainmap.errors import InputError
from brainmap.features.networks.exported_modules import ExportedNetwork
from brainmap.references import first_line

MEMBERS = re.compile(
    r"archive_format|archive_version|byteorder|\.data/\w+|extra/[\w.]+|models/\w+\.json|data/sample_inputs/\w+\.pt"
    r"|data/weights/(weight_\d+|\w+_weights_config\.json)|data/constants/(tensor_\d+|\w+_constants_config\.json)"
)
OPERATIONS = re.compile(
    r"torch\.ops\.(aten|prims)\.(?!from_file)\w+\.[A-Za-z]\w*|torch\.sym_(int|float|min|max|not|sqrt)|math\.(ceil|floor|trunc)"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_)"
)
EXPRESSION_NODES = (
    ast.Expression,
    ast.Call,
    ast.Name,
    ast.Load,
    ast.Constant,
    ast.keyword,
    ast.BinOp,
    ast.UnaryOp,
    ast.Compare,
    ast.operator,
    ast.unaryop,
    ast.cmpop,
)
EXPRESSION_NAMES = frozenset({
    "Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Mod", "PythonMod", "FloorDiv", "CleanDiv",
    "CeilDiv", "CeilToInt", "FloorToInt", "TruncToInt", "IntTrueDiv", "ToFloat", "Max", "Min", "Abs", "Eq", "Ne", "Lt",
    "Le", "Gt", "Ge", "true", "false",
})  # fmt: skip


def is_exported(path: Path) -> bool:
    """Tell whether a file is an archive of `torch.export.save`, whatever its name."""
    return any(n.endswith("/archive_format") for n in list_archive(path))


_SIZE = re.compile(r"L(\['\w+'\]|\[\d+\])+\.size\(\)\[\d+\]")
"""How conditions on sizes, which are not evaluated here, name the length of an axis of the input."""
DAMAGED = (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError, struct.error, zlib.error)
"""What zipfile raises on a damaged archive."""


def list_archive(path: Path) -> list[str]:
    """List the members of an archive; the list is empty for a file that is not an archive or cannot be read as one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except DAMAGED:
        return []


def load_exported(path: Path) -> nn.Module:
    """Load an exported program after checking everything in it.

    Raises
    ------
    InputError
        The file is damaged, or holds pickles with code, compiled libraries, operations other than those on tensors or
        expressions other than arithmetic.
    """
    with _catch_errors(path):
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
        for name, content in members.items():
            _check_member(path, name.partition("/")[2], content)
        # The bytes that were checked are the bytes that are loaded: two zip readers may see two different archives in
        # one file.
        checked = io.BytesIO()
        with zipfile.ZipFile(checked, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        checked.seek(0)
        return ExportedNetwork(torch.export.load(checked))


@contextmanager
def _catch_errors(path: Path) -> Iterator[None]:
    """Turn any error of the readers of zip, JSON and graphs into one line, and silence torch's own log meanwhile."""
    talker = logging.getLogger("torch.export.pt2_archive._package")
    level = talker.level
    talker.setLevel(logging.CRITICAL)
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"checkpoint: {path} is no readable torch.export program ({first_line(error)}); export it again"
        ) from None
    finally:
        talker.setLevel(level)


def _check_member(path: Path, name: str, content: bytes) -> None:
    if not MEMBERS.fullmatch(name):
        raise _refuse_program(path, f"it holds {name!r}")
    if name.endswith(".pt"):
        try:
            torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            raise _refuse_program(path, f"{name!r} is a pickle with code") from None
    if name.endswith(".json"):
        text = content.decode()
        if "__enum__" in text:
            raise _refuse_program(path, f"{name!r} imports a module")
        for key, value in _walk_json(json.loads(text)):
            _check_value(path, key, value)


def _walk_json(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every plain value of nested JSON with its key."""
    if isinstance(value, dict):
        for name, below in value.items():
            yield from _walk_json(below, name)
    elif isinstance(value, list):
        for below in value:
            yield from _walk_json(below, key)
    else:
        yield key, value


def _check_value(path: Path, key: str, value: Any) -> None:
    if key == "use_pickle" and value:
        raise _refuse_program(path, "it holds pickled tensors")
    if key in ("target", "as_operator") and isinstance(value, str) and not OPERATIONS.fullmatch(value):
        raise _refuse_program(path, f"it calls {value!r}")
    if key == "expr_str" and isinstance(value, str) and not _is_arithmetic(value):
        raise _refuse_program(path, f"it evaluates {value[:60]!r}")
    if key == "guards_code" and value and not _is_arithmetic(_SIZE.sub("s0", str(value))):
        raise _refuse_program(path, f"it evaluates {str(value)[:60]!r}")


def _is_arithmetic(text: str) -> bool:
    """Tell whether an expression of sizes holds only symbols, numbers and the functions in `EXPRESSION_NAMES`."""
    for node in ast.walk(ast.parse(text, mode="eval")):
        if not isinstance(node, EXPRESSION_NODES):
            return False
        if isinstance(node, ast.Name) and node.id not in EXPRESSION_NAMES and not re.fullmatch(r"[a-z]\d+", node.id):
            return False
        text_inside = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else "s0"
        if not re.fullmatch(r"[a-z]+\d+", text_inside):
            return False
    return True


def _refuse_program(path: Path, why: str) -> InputError:
    return InputError(
        f"checkpoint: {path} could run code ({why}), which is refused; export the network again with "
        "torch.export, or save model.state_dict() and name the architecture"
    )
