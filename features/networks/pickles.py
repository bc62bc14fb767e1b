"""Load files of torch.save without running their code: an allow-list of harmless classes, never arbitrary pickles."""

from __future__ import annotations

import argparse
import pathlib
import pickletools
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch

_NUMPY_TYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32")


_STAND_INS = (
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.nodes.AnyNode",
    "omegaconf.listconfig.ListConfig",
    "easydict.EasyDict",
    "addict.addict.Dict",
    "ml_collections.config_dict.config_dict.ConfigDict",
)


"""Settings that trainers keep in objects of their own: a dictionary stands in for them, and no class is imported."""


def _list_harmless() -> list[Any]:
    """List what a file may hold beside tensors: numbers of numpy, namespaces, paths, and settings of trainers."""
    numpy_core: Any = np._core.multiarray  # type: ignore[attr-defined]
    dtypes = [type(np.dtype(name)) for name in (*_NUMPY_TYPES, "float64", "complex64", "complex128", "str")]
    plain: list[Any] = [np.dtype, np.ndarray, *dtypes, argparse.Namespace, types.SimpleNamespace]
    plain += [pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePosixPath, pathlib.PureWindowsPath]
    for name in ("scalar", "_reconstruct"):  # numpy moved its modules; older files name the older ones
        plain += [(getattr(numpy_core, name), f"numpy.{core}.multiarray.{name}") for core in ("core", "_core")]
    return [*plain, *((OrderedDict, name) for name in _STAND_INS)]


def load_pickled(file: Any) -> Any:
    """Load a file of torch.save on the CPU; only tensors, plain values and what is harmless may be in it.

    Raises
    ------
    pickle.UnpicklingError
        Anything else is in it.
    """
    with torch.serialization.safe_globals(_list_harmless()):
        return torch.load(file, map_location="cpu", weights_only=True)


def list_pickle_calls(path: Path) -> str:
    """List what a plain pickle would call, without loading it; the text is empty for a file that is not a pickle."""
    names: list[str] = []
    try:
        with path.open("rb") as file:
            for code, value, _ in pickletools.genops(file):
                if code.name in ("GLOBAL", "INST"):
                    return str(value).replace(" ", ".")
                if code.name == "STACK_GLOBAL":
                    return ".".join(names[-2:])
                if isinstance(value, str):
                    names.append(value)
    except ValueError:
        return ""
    return ""
