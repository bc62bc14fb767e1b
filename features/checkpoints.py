"""Checkpoints: our own safetensors with their metadata, and anybody else's, loaded without running their code."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from brainmap.checks import existing_file, nearest, some
from brainmap.errors import InputError
from brainmap.features.networks import build_network, network_names


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What travels beside the weights, so that nobody has to remember how the network was fed.

    Attributes
    ----------
    architecture, variant, activation, head : str
        Arguments of `build_network`, or `module:function` with an empty variant.
    classes : tuple of str
        Class names in the order of the logits.
    rate : int [Hz]
    n_samples : int [samples]
    level, align : str
        As `load_sounds` takes them.
    training : dict
        Settings, seed, best epoch and history of the training, as plain values.
    """

    architecture: str
    variant: str = "plain"
    activation: str = "relu"
    head: str = "flatten"
    classes: tuple[str, ...] = ()
    rate: int = 16_000
    n_samples: int = 16_000
    level: str = "rms"
    align: str = "start"
    training: Mapping[str, Any] | None = None

    def build(self) -> nn.Module:
        """The network with fresh weights."""
        if self.architecture in network_names():
            return build_network(
                self.architecture, variant=self.variant, activation=self.activation, head=self.head,  # type: ignore[arg-type]
                n_classes=len(self.classes) or 16, n_samples=self.n_samples,
            )
        return call_builder(self.architecture)


def save_checkpoint(model: nn.Module, path: str | Path, checkpoint: Checkpoint) -> Path:
    """Write weights and metadata as one safetensors file, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    weights = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    safetensors.torch.save_file(weights, beside, metadata={"brainmap": json.dumps(asdict(checkpoint), sort_keys=True)})
    beside.replace(path)
    return path


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read only the metadata of a checkpoint that brainmap wrote."""
    path = existing_file(path, "checkpoint")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("brainmap")
    except safetensors.SafetensorError as error:
        raise InputError(f"checkpoint: {path} is no readable safetensors file ({error})") from None
    if text is None:
        raise InputError(f"checkpoint: {path} carries no brainmap metadata; name its architecture, classes and rate in the study")
    known = {f.name for f in fields(Checkpoint)}
    stored = {k: v for k, v in json.loads(text).items() if k in known}
    return Checkpoint(**{**stored, "classes": tuple(stored.get("classes", ()))})


def load_network(
    path: str | Path, *, architecture: str | None = None, variant: str | None = None, n_classes: int | None = None
) -> nn.Module:
    """Load a trained network in eval mode on the CPU.

    Parameters
    ----------
    path : path
        `.safetensors`; a `state_dict` saved with `torch.save` (loaded with `weights_only=True`, so that no code of the file
        runs); or a `torch.export` program (`.pt2`).
    architecture : str, optional
        A name of the zoo, or `module:function` that builds the network. Checkpoints of brainmap know their own.
    variant, n_classes : optional
        For a zoo architecture without metadata.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    InputError
        A file that is missing, damaged or wants to run code; weights whose names or shapes differ from the architecture.
    """
    path = existing_file(path, "checkpoint")
    if path.suffix == ".pt2":
        return _load_exported(path)
    weights, stored = _read_weights(path)
    model = _build_for(path, stored, architecture, variant, n_classes)
    _check_weights(path, model, weights, architecture or (stored.architecture if stored else "?"))
    model.load_state_dict(weights)
    return model.eval()


def call_builder(reference: str) -> nn.Module:
    """Call `module:function`, which must give a `torch.nn.Module`; the current folder is searched too."""
    module_name, _, function_name = reference.partition(":")
    if not module_name or not function_name:
        raise InputError(f"architecture: found {reference!r}, wanted one of {some(network_names())} or 'module:function'"
                         f"{nearest(reference, network_names())}")
    added = str(Path.cwd())
    sys.path.insert(0, added)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise InputError(f"architecture: {module_name!r} cannot be imported ({error}); is it installed or in this folder?") from None
    finally:
        sys.path.remove(added)
    function: Callable[[], object] | None = getattr(module, function_name, None)
    if function is None:
        raise InputError(f"architecture: {module_name} has no {function_name!r}{nearest(function_name, dir(module))}")
    model = function()
    if not isinstance(model, nn.Module):
        raise InputError(f"architecture: {reference} gave a {type(model).__name__}, wanted a torch.nn.Module")
    return model


def _read_weights(path: Path) -> tuple[dict[str, torch.Tensor], Checkpoint | None]:
    if path.suffix == ".safetensors":
        try:
            weights = safetensors.torch.load_file(path)
        except safetensors.SafetensorError as error:
            raise InputError(f"checkpoint: {path} is no readable safetensors file ({error}); copy it again") from None
        with safetensors.safe_open(path, framework="pt") as file:
            ours = "brainmap" in (file.metadata() or {})
        return weights, load_checkpoint(path) if ours else None
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"checkpoint: {path} is a pickle that wants to run code (a whole model was saved, not its weights), which is refused; "
            "save model.state_dict() and name the architecture, or export the model with torch.export"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise InputError(f"checkpoint: {path} cannot be read ({str(error).splitlines()[0]}); copy it again") from None
    return _state_dict_in(path, found), None


def _state_dict_in(path: Path, found: object) -> dict[str, torch.Tensor]:
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not found or not all(isinstance(v, torch.Tensor) for v in found.values()):
        raise InputError(f"checkpoint: {path} holds no state_dict (names -> tensors), found {type(found).__name__}")
    return {str(k).removeprefix("module."): v for k, v in found.items()}


def _build_for(
    path: Path, stored: Checkpoint | None, architecture: str | None, variant: str | None, n_classes: int | None
) -> nn.Module:
    if stored is not None and architecture in (None, stored.architecture) and variant in (None, stored.variant):
        return stored.build()
    if architecture is None:
        raise InputError(f"checkpoint: {path} does not say its architecture; give one of {some(network_names())} or 'module:function'")
    if architecture in network_names():
        return build_network(architecture, variant=variant or "plain", n_classes=n_classes or 16)  # type: ignore[arg-type]
    return call_builder(architecture)


def _check_weights(path: Path, model: nn.Module, weights: Mapping[str, torch.Tensor], architecture: str) -> None:
    wanted = model.state_dict()
    problems = [f"{k} is {tuple(weights[k].shape)}, wanted {tuple(v.shape)}"
                for k, v in wanted.items() if k in weights and weights[k].shape != v.shape]
    lacking = [k for k in wanted if k not in weights]
    extra = [k for k in weights if k not in wanted]
    if lacking:
        problems.append(f"lacks {some(lacking, 4)}")
    if extra:
        problems.append(f"has {some(extra, 4)} that the architecture lacks")
    if problems:
        raise InputError(f"checkpoint: {path} does not fit architecture {architecture!r}: {'; '.join(problems[:4])}; "
                         "check architecture, variant and number of classes")


def _load_exported(path: Path) -> nn.Module:
    try:
        return torch.export.load(path).module()
    except Exception as error:  # torch.export raises whatever its zip and JSON readers raise
        raise InputError(f"checkpoint: {path} is no readable torch.export program ({str(error).splitlines()[0]})") from None
