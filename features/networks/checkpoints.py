"""Read and write checkpoints: safetensors with metadata, and files of other programs, without running their code."""

from __future__ import annotations

import hashlib
import importlib
import json
import pickle
import pickletools
import re
import sys
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from brainmap.checks import existing_file, nearest, some
from brainmap.errors import InputError
from brainmap.features.networks.exported import is_exported, load_exported, names_in_zip
from brainmap.features.networks.state_dicts import check_weights, state_dict_in, unwrapped
from brainmap.features.networks.zoo import build_network, network_names
from brainmap.record import atomic
from brainmap.types import Align, Loudness


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Describe how to build a network and how to feed it, as stored beside the weights.

    Attributes
    ----------
    architecture, variant, activation, head : str
        Arguments of `build_network`, or `module:function`, which builds the network alone.
    kernel : int, optional [samples]
        Filter length, where it differs from the architecture's own.
    classes : tuple of str
        Class names in the order of the logits.
    rate : int [Hz]
    n_samples : int [samples]
    level, align : str
        Settings of `load_sounds`.
    training : dict
        Settings, seed, best epoch and history of the training, as plain values.
    """

    architecture: str
    variant: str = "plain"
    activation: str = "relu"
    head: str = "flatten"
    kernel: int | None = None
    classes: tuple[str, ...] = ()
    rate: int = 16_000
    n_samples: int = 16_000
    level: Loudness = "rms"
    align: Align = "start"
    training: Mapping[str, Any] | None = None

    def build(self) -> nn.Module:
        """Build the network with fresh weights."""
        if self.architecture in network_names():
            return build_network(
                self.architecture,
                variant=self.variant,  # type: ignore[arg-type]
                activation=self.activation,  # type: ignore[arg-type]
                head=self.head,  # type: ignore[arg-type]
                n_classes=len(self.classes) or 16,
                n_samples=self.n_samples,
                kernel=self.kernel,
            )
        return call_builder(self.architecture)


def save_checkpoint(model: nn.Module, path: str | Path, checkpoint: Checkpoint) -> Path:
    """Write weights and metadata to one safetensors file atomically."""
    path = Path(path)
    weights = {k: v.detach().cpu().clone().contiguous() for k, v in model.state_dict().items()}
    about = json.dumps(asdict(checkpoint), sort_keys=True)
    metadata = {"brainmap": about, "sha256": _digest(weights, about)}
    with atomic(path) as beside:  # bytes, because save_file would make the file readable by its owner only
        beside.write_bytes(safetensors.torch.save(weights, metadata=metadata))
    return path


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read only the metadata of a checkpoint that brainmap wrote."""
    found = _metadata(existing_file(path, "checkpoint"))
    if found is None:
        raise InputError(f"checkpoint: {path} carries no brainmap metadata; name its architecture, classes and rate")
    return found


def _metadata(path: Path) -> Checkpoint | None:
    """Read the metadata in a file; return None for a file that brainmap did not write."""
    if path.suffix != ".safetensors":
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("brainmap")
    except (safetensors.SafetensorError, OSError) as error:
        raise _damaged(path, "safetensors file", error) from None
    if text is None:
        return None
    known = {f.name for f in fields(Checkpoint)}
    try:
        stored = {k: v for k, v in json.loads(text).items() if k in known}
        return Checkpoint(**{**stored, "classes": tuple(stored.get("classes", ()))})
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"checkpoint: {path} carries brainmap metadata that cannot be read ({error})") from None


def load_network(
    path: str | Path,
    *,
    architecture: str | None = None,
    variant: str | None = None,
    n_classes: int | None = None,
    activation: str | None = None,
    head: str | None = None,
) -> nn.Module:
    """Load a trained network in eval mode on the CPU.

    Parameters
    ----------
    path : path
        `.safetensors`; a `state_dict` saved with `torch.save` (loaded with `weights_only=True`, so that no code of the
        file runs); or a `torch.export` program (`.pt2`), after all of its contents are checked.
    architecture : str, optional
        A name of the zoo, or `module:function` that builds the network. Checkpoints of brainmap know their own, but a
        function is called only when it is named here: a file does not choose which code runs.
    variant, n_classes, activation, head : optional
        For a zoo architecture without metadata, as `build_network` takes them.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    InputError
        The file is missing, damaged or would run code; the weights do not fit the architecture.

    Warns
    -----
    BrainmapWarning
        A prefix that all names of the weights share (`model.`, `module.model.`) was taken off to make them fit.
    """
    path = existing_file(path, "checkpoint")
    if path.suffix == ".pt2" or is_exported(path):
        return load_exported(path)
    weights = _read_weights(path)
    given = {"architecture": architecture, "variant": variant, "activation": activation, "head": head}
    with torch.random.fork_rng(devices=[]):  # building draws weights that are then replaced
        model = _build_for(path, {k: v for k, v in given.items() if v is not None}, n_classes)
    weights = unwrapped(path, weights, model)
    check_weights(path, model, weights, architecture or load_checkpoint(path).architecture)
    model.load_state_dict(weights)
    return model.eval()


def call_builder(reference: str) -> nn.Module:
    """Call `module:function`, which must return a `torch.nn.Module`; the current folder is searched too."""
    module_name, _, function_name = reference.partition(":")
    if not module_name or not function_name:
        raise InputError(
            f"architecture: expected one of {some(network_names())} or 'module:function', got {reference!r}"
            f"{nearest(reference, network_names())}"
        )
    added = str(Path.cwd())
    sys.path.insert(0, added)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        raise InputError(
            f"architecture: {module_name!r} cannot be imported ({type(error).__name__}: "
            f"{_first_line(error)}); is it installed or in this folder?"
        ) from None
    finally:
        sys.path.remove(added)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise InputError(
            f"architecture: {module_name} has no function {function_name!r}{nearest(function_name, dir(module))}"
        )
    try:
        model = function()
    except (Exception, SystemExit) as error:
        raise InputError(
            f"architecture: {reference} failed ({type(error).__name__}: {_first_line(error)}); "
            "name a function that works without arguments"
        ) from None
    if not isinstance(model, nn.Module):
        raise InputError(
            f"architecture: expected {reference} to return a torch.nn.Module, got an object of type "
            f"{type(model).__name__}"
        )
    return model


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if any(n.endswith("/constants.pkl") for n in names_in_zip(path)):
        raise InputError(
            f"checkpoint: {path} is a TorchScript program, which carries code and is refused; "
            "export the network with torch.export, or save model.state_dict()"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old formats and protocols, which load or are refused anyway
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        called = wanted[1] if wanted else _called_by_pickle(path)
        if not called:
            raise _damaged(path, "file of torch.save", error) from None
        raise InputError(
            f"checkpoint: {path} is a pickle that wants to run code ({called}: a whole model or other "
            "objects were saved, not weights alone), which is refused; save model.state_dict() and name the "
            "architecture, or export the model with torch.export"
        ) from None
    except Exception as error:  # for a damaged file torch raises whatever its zip, tar and pickle readers raise
        raise _damaged(path, "file of torch.save", error) from None
    return state_dict_in(path, found)


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Read the weights of a safetensors file; those of a checkpoint of brainmap must match their digest."""
    try:
        weights = safetensors.torch.load_file(path)
        with safetensors.safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
    except Exception as error:  # for a damaged file safetensors raises whatever torch and json raise
        raise _damaged(path, "safetensors file", error) from None
    if "sha256" in about and about["sha256"] != _digest(weights, about.get("brainmap", "")):
        raise _damaged(path, "safetensors file", ValueError("its weights or metadata changed since it was written"))
    return weights


def _digest(weights: Mapping[str, torch.Tensor], about: str) -> str:
    """Compute the SHA-256 of weights and their metadata."""
    digest = hashlib.sha256(about.encode("utf-8", "surrogatepass"))
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode("utf-8", "surrogatepass"))
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _called_by_pickle(path: Path) -> str:
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


def _damaged(path: Path, what: str, error: Exception) -> InputError:
    return InputError(
        f"checkpoint: {path} ({path.stat().st_size} bytes) is no readable {what} ({_first_line(error)}); copy it again"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]


def _build_for(path: Path, given: dict[str, str], n_classes: int | None) -> nn.Module:
    """Build the network of a file from its metadata, which the caller's arguments override."""
    stored = _metadata(path)
    if stored is None:
        if "architecture" not in given:
            raise InputError(
                f"checkpoint: {path} does not say its architecture; give one of {some(network_names())} "
                "or 'module:function'"
            )
        stored = Checkpoint(architecture=given["architecture"], classes=tuple(str(i) for i in range(n_classes or 16)))
    if "architecture" not in given and stored.architecture not in network_names():
        raise InputError(
            f"checkpoint: {path} names the code {stored.architecture!r} as its architecture; give "
            f"architecture={stored.architecture!r} if you want it to run"
        )
    if n_classes not in (None, len(stored.classes)) and stored.classes:
        raise InputError(f"checkpoint: expected {n_classes} classes, got {len(stored.classes)} in {path}")
    return replace(stored, **given).build()  # type: ignore[arg-type]
