"""Weights of a file brought under the names of the network they belong to, or refused.

Load files of torch.save without running their code: an allow-list of harmless classes, never arbitrary pickles.
"""

from __future__ import annotations

import argparse
import hashlib
import pathlib
import pickletools
import re
import types
import warnings
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import nn

from brainmap.checks import list_some, refuse_some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.features.networks.files import report_damage

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


COMPILED = "_orig_mod."  # what torch.compile puts before the names of the module it is given
WRAPPERS = (COMPILED, "module.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")  # each holds one module
NESTS = ("state_dict", "model_state_dict", "model_state", "model", "net", "weights")  # looked at first
TRAINING = re.compile(
    r"(criterion|loss|loss_fn|loss_func|metrics?|(train|val|valid|test)_\w+|optimizer|scheduler"
    r"|\w*ema|ema_\w+|shadow\w*|swa_\w+|avg_model|n_averaged|num_updates|decay|step|epoch|best_\w+)(\.|$)"
)
"""Names of what a trainer keeps beside a network."""


def find_state_dict(path: Path, found: object) -> dict[str, torch.Tensor]:
    """Find the weights in what a file of torch.save holds, at whatever depth they lie.

    Raises
    ------
    InputError
        No weights, or several sets of them.
    """
    while isinstance(found, dict) and not _is_state_dict(found):
        within = [key for key, value in found.items() if isinstance(key, str) and _holds_weights(value)]
        within = [key for key in within if not TRAINING.match(key)] or within
        preferred = [key for key in NESTS if key in within]
        if not preferred and len(within) > 1:
            raise InputError(
                f"checkpoint: expected one set of weights, by itself or under {list_some(NESTS)}, got "
                f"{list_some(within)} in {path}; save the one that is meant by itself"
            )
        known = preferred or within or [key for key in NESTS if isinstance(found.get(key), dict)]
        if not known:
            break
        found = found[known[0]]
    if not _is_state_dict(found):
        holds = f"a {type(found).__name__}"
        if isinstance(found, dict):
            holds = f"a dict of {list_some(found)}" if found else "an empty dict"
        raise InputError(
            f"checkpoint: expected a state_dict (names -> tensors), by itself or under {list_some(NESTS)}, got "
            f"{holds} in {path}; save model.state_dict()"
        )
    return {str(k): v for k, v in found.items() if isinstance(v, torch.Tensor)}


def _is_state_dict(found: object) -> TypeGuard[dict[str, Any]]:
    """Tell whether names lead to tensors; numbers and texts of training may lie among them."""
    if not isinstance(found, dict) or not any(isinstance(v, torch.Tensor) for v in found.values()):
        return False
    others = [key for key, value in found.items() if not isinstance(value, torch.Tensor)]
    plain = all(isinstance(found[key], bool | int | float | str | np.generic | None) for key in others)
    return plain and all("." not in str(key) for key in others)


def _holds_weights(found: object) -> bool:
    """Tell whether a state_dict lies in it at any depth; the state of an optimizer, numbered by parameter, is none."""
    if not isinstance(found, dict) or "param_groups" in found:
        return False
    return _is_state_dict(found) or any(_holds_weights(value) for key, value in found.items() if isinstance(key, str))


def match_names(path: Path, weights: dict[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
    """Bring weights under the names of a network, and say what was done to them.

    What a trainer keeps beside the network is left out, common prefixes are taken off, and weight norm is written in
    the form that the network has.

    Warns
    -----
    BrainmapWarning
        Something was left out or read under another name.
    """
    own = model.state_dict().keys()
    training = [name for name in weights if TRAINING.match(name) and name not in own]
    kept = {name: value for name, value in weights.items() if name not in training}
    if training and kept:
        _warn(f"checkpoint: {list_some(training, 4)} of {path.name} belong to its training and are left out")
        weights = kept
    weights = unwrap_names(path, _renorm(weights, own), model)
    found = _renorm(weights, own)
    if found.keys() != weights.keys():
        before, after = next(iter(weights.keys() - found.keys())), next(iter(found.keys() - weights.keys()))
        _warn(f"checkpoint: the weight norm of {path.name} is read in the network's own form: {before!r} as {after!r}")
    return found


def _warn(words: str) -> None:
    warnings.warn(words, BrainmapWarning, stacklevel=4)


_OLD, _NEW = ("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1")


def _renorm(weights: dict[str, torch.Tensor], own: Collection[str]) -> dict[str, torch.Tensor]:
    """Write weight norm as a network has it: `weight_g` and `weight_v`, parametrizations, or the weight itself.

    The weight is g v / |v|, with the norm over all axes along which g has length 1.
    """
    found = dict(weights)
    for name in weights:
        for g, v in (_OLD, _NEW):
            before = name.removesuffix(g)
            if before == name or f"{before}{v}" not in weights or name in own:
                continue
            other = _NEW if g == _OLD[0] else _OLD
            size, direction = found.pop(name), found.pop(f"{before}{v}")
            if f"{before}{other[0]}" in own:
                found |= {f"{before}{other[0]}": size, f"{before}{other[1]}": direction}
            elif f"{before}weight" in own:
                axes = [axis for axis in range(direction.ndim) if size.shape[axis] == 1]
                found[f"{before}weight"] = size * direction / direction.norm(dim=axes or None, keepdim=True)
            else:
                found |= {name: size, f"{before}{v}": direction}
    return found


def unwrap_names(path: Path, weights: dict[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
    """Weights under the network's own names: without what a trainer or wrapper put before all of them.

    As few leading parts as possible are taken off, and only what all names share; what `torch.compile` or another
    wrapper of a part put inside names goes too. Where all names of the network share leading parts, because the network
    is a wrapper itself, these may take their place. Where nothing makes all names fit, what makes most of them fit is
    taken, and `check_weights` says the rest.
    """
    wanted = {name for name in model.state_dict() if not _is_counter(name)}
    best = weights
    for named in _rename_weights(weights, model.state_dict()):
        have = {name for name in named if not _is_counter(name)}
        if have == wanted:
            best = named
            break
        if len(have & wanted) > len(wanted & best.keys()):
            best = named
    if best is not weights and best.keys() != weights.keys():
        before, after = next(pair for pair in zip(weights, best, strict=True) if pair[0] != pair[1])
        done = "is taken off" if before.endswith(after) else "is replaced by that of the network"
        what = f"a prefix that all names of {path.name} share {done}"
        if after.endswith(before):
            what = f"the prefix that all names of the network share is put before those of {path.name}"
        _warn(f"checkpoint: {what}, so that they fit the network: {before!r} is read as {after!r}")
    return best


def _rename_weights(weights: dict[str, torch.Tensor], own: Collection[str]) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the weights under other names: stripped, and then below the leading parts that all own names share."""
    stripped = list(_strip_prefixes(weights))
    yield from stripped
    prefix, left = "", set(own)
    while left and all("." in name for name in left) and len(first := {name.partition(".")[0] for name in left}) == 1:
        part = f"{first.pop()}."
        prefix, left = prefix + part, {name.removeprefix(part) for name in left}
        yield from ({f"{prefix}{name}": value for name, value in one.items()} for one in stripped)


def _strip_prefixes(weights: dict[str, torch.Tensor]) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the weights without the first 0, 1, ... parts that all their names share; each also without wrappers."""
    prefix = ""
    while True:
        cut = {name.removeprefix(prefix): value for name, value in weights.items()}
        yield cut
        for wrappers in ((COMPILED,), WRAPPERS):
            plain = {_strip_wrappers(name, wrappers): value for name, value in cut.items()}
            if plain.keys() != cut.keys() and len(plain) == len(cut):
                yield plain
        first = {name.partition(".")[0] for name in cut}
        if len(first) != 1 or not all("." in name for name in cut):
            return
        prefix += f"{first.pop()}."


def _strip_wrappers(name: str, wrappers: Sequence[str]) -> str:
    """Remove the parts of a name that wrappers put into it.

    Examples
    --------
    >>> _strip_wrappers("model.module._orig_mod.conv.weight", WRAPPERS)
    'model.conv.weight'
    """
    return ".".join(part for part in name.split(".") if f"{part}." not in wrappers)


def check_weights(path: Path, model: nn.Module, weights: Mapping[str, torch.Tensor], architecture: str) -> None:
    """Refuse weights that are not those of a network: their names, shapes, kinds of numbers, or that are not finite.

    Raises
    ------
    InputError
    """
    wanted = {k: v for k, v in model.state_dict().items() if not _is_counter(k) or k in weights}
    problems = [
        f"{k}: expected {tuple(v.shape)}, got {tuple(weights[k].shape)}"
        for k, v in wanted.items()
        if k in weights and weights[k].shape != v.shape
    ]
    problems += [
        f"{k}: expected {_describe_kind(v)}, got {_describe_kind(weights[k])}"
        for k, v in wanted.items()
        if k in weights and _describe_kind(weights[k]) != _describe_kind(v)
    ]
    lacking = [k for k in wanted if k not in weights]
    extra = sorted((k for k in weights if k not in wanted), key=_is_counter)
    if lacking:
        problems.append(f"lacks {list_some(lacking, 4)}")
    if extra:
        problems.append(f"has {list_some(extra, 4)} that the architecture lacks")
    if problems:
        raise InputError(
            f"checkpoint: {path} does not fit architecture {architecture!r}: {'; '.join(problems[:4])}; "
            f"{_explain_prefix(lacking, extra) or 'check architecture, variant and number of classes'}"
        )
    check_finite_weights(path, weights)


def check_finite_weights(path: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """Refuse weights that are NaN or infinite.

    Raises
    ------
    InputError
    """
    broken = [name for name, value in weights.items() if not torch.isfinite(value).all()]
    refuse_some(broken, f"checkpoint: {path} holds NaN or infinite weights in ", "; its training failed", most=4)


def _describe_kind(tensor: torch.Tensor) -> str:
    """Describe what sort of numbers a tensor holds; their precision is left out, since it is converted."""
    if tensor.is_meta:
        return "without values (a meta tensor)"
    if tensor.layout != torch.strided or tensor.is_quantized:
        return "sparse or quantized"
    return "complex" if tensor.is_complex() else "of floats" if tensor.is_floating_point() else "of integers"


def _explain_prefix(lacking: Sequence[str], extra: Sequence[str]) -> str:
    """Say that a prefix makes some of the names fit, and that others do not have it; empty where none does."""
    wanted = set(lacking)
    found = Counter(
        name[:at] for name in extra for at in range(1, len(name)) if name[at - 1] == "." and name[at:] in wanted
    )
    if not found:
        return ""
    (prefix, n), others = found.most_common(1)[0], "others begin otherwise"
    strange = [name for name in extra if not name.startswith(prefix)]
    if strange:
        others = (
            f"{list_some(strange, 3)} does not have it"
            if len(strange) == 1
            else f"{list_some(strange, 3)} do not have it"
        )
    return f"{n} names fit without {prefix!r}, but {others}; save the state_dict of the network alone"


def _is_counter(name: str) -> bool:
    """Batch counters of normalization: older checkpoints lack them, and a trained network does not use them."""
    return name.endswith("num_batches_tracked")


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Read the weights of a safetensors file; those of a checkpoint of brainmap must match their digest."""
    try:
        weights = safetensors.torch.load_file(path)
        with safetensors.safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
    except Exception as error:  # for a damaged file safetensors raises whatever torch and json raise
        raise report_damage(path, "safetensors file", error) from None
    if "sha256" in about and about["sha256"] != hash_weights(weights, about.get("brainmap", "")):
        raise report_damage(
            path, "safetensors file", ValueError("its weights or metadata changed since it was written")
        )
    return weights


def hash_weights(weights: Mapping[str, torch.Tensor], about: str) -> str:
    """Compute the SHA-256 of weights and their metadata."""
    digest = hashlib.sha256(about.encode("utf-8", "surrogatepass"))
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode("utf-8", "surrogatepass"))
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
