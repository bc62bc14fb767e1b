"""Read and write checkpoints: safetensors with metadata, and files of other programs, without running their code."""

from __future__ import annotations

import json
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from brainmap.checks import list_some
from brainmap.errors import InputError
from brainmap.features.networks.architectures import network_names
from brainmap.features.networks.description import (
    TRANSFORMERS,
    Checkpoint,
    compose_signed_text,
    describe_checkpoint,
    load_checkpoint,
    read_description,
)
from brainmap.features.networks.exported import is_exported, list_archive, load_exported
from brainmap.features.networks.files import check_checkpoint, compute_signature, report_damage
from brainmap.features.networks.huggingface import FolderNetwork, describe_folder, load_folder
from brainmap.features.networks.keras_files import is_keras, load_keras
from brainmap.features.networks.readout import ReadoutNetwork
from brainmap.features.networks.state_dicts import (
    check_weights,
    find_state_dict,
    hash_weights,
    list_pickle_calls,
    load_pickled,
    match_names,
    read_safetensors,
)
from brainmap.record import atomic


def save_checkpoint(model: nn.Module, path: str | Path, checkpoint: Checkpoint) -> Path:
    """Write weights and metadata to one safetensors file atomically.

    Parameters
    ----------
    model : torch.nn.Module
    path : path
    checkpoint : Checkpoint
        How the network is built and fed; for a `readout_network`, that of the network from which it was cut.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    InputError
        A readout network cannot be built again from this checkpoint.
    """
    path = Path(path)
    checkpoint = _complete_description(model, checkpoint)
    weights = {k: v.detach().cpu().clone().contiguous() for k, v in model.state_dict().items()}
    about = json.dumps(describe_checkpoint(checkpoint), sort_keys=True)
    metadata = {"brainmap": about, "sha256": hash_weights(weights, about)}
    signature = compute_signature(compose_signed_text(metadata)) if checkpoint.names_code else None
    metadata |= {"signature": signature} if signature else {}
    with atomic(path) as beside:  # bytes, because save_file would make the file readable by its owner only
        beside.write_bytes(safetensors.torch.save(weights, metadata=metadata))
    return path


def _complete_description(model: nn.Module, checkpoint: Checkpoint) -> Checkpoint:
    """Add to a description what it takes to build a readout network, or one of a Hugging Face folder."""
    found, network = checkpoint.whole, model.network if isinstance(model, ReadoutNetwork) else model
    if isinstance(network, FolderNetwork):
        found = replace(found, folder=network.describe(found.architecture.removeprefix(TRANSFORMERS)))
    if not isinstance(model, ReadoutNetwork):
        return found
    if not found.architecture or isinstance(network, ReadoutNetwork):
        what = "a readout of a readout" if found.architecture else "the checkpoint of a program"
        raise InputError(
            "save_checkpoint: expected a readout of a network that can be built again (of the zoo, module:function, or "
            f"a Hugging Face folder), got {what}; read out such a network"
        )
    said = {**model.describe(), "classes": list(found.classes)}
    found = replace(found, classes=model.classes, readout=said)
    with torch.random.fork_rng(devices=[]):
        fresh = {name: value.shape for name, value in found.build().state_dict().items()}
    if fresh != {name: value.shape for name, value in model.state_dict().items()}:
        raise InputError(
            f"save_checkpoint: expected the checkpoint of the network that was read out, got that of "
            f"{found.architecture!r} with other weights; give the one from which the network was loaded"
        )
    return found


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
        `.safetensors`; a local Hugging Face folder (`config.json` and `model.safetensors`); a `state_dict` saved with
        `torch.save` (loaded with `weights_only=True`, so that no code of the file runs); a `torch.export` program
        (`.pt2`), after all of its contents are checked; or a Keras file (`.keras`, `.h5`), in Keras' safe mode.
    architecture : str, optional
        A name of the zoo, or `module:function` that builds the network. Checkpoints of brainmap know their own, but a
        function is called only when it is named here or in a file that this user wrote: the file of another does not
        choose which code runs.
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
        A prefix that all names of the weights share (`model.`, `module.model.`) was taken off to make them fit, keys
        of training (`criterion.weight`, `n_averaged`, shadows) were left out, or weight norm has another form.
    """
    if Path(path).is_dir():
        given = {"architecture": architecture, "variant": variant, "activation": activation, "head": head}
        _check_folder_options(Path(path), given, n_classes)
        return load_folder(path)
    path = check_checkpoint(path)
    if path.suffix == ".pt2" or is_exported(path):
        return load_exported(path)
    if is_keras(path):
        return load_keras(path)
    weights = _read_weights(path)
    given = {"architecture": architecture, "variant": variant, "activation": activation, "head": head}
    with torch.random.fork_rng(devices=[]):  # building draws weights that are then replaced
        model = _build_for(path, {k: v for k, v in given.items() if v is not None}, n_classes)
    weights = match_names(path, weights, model)
    check_weights(path, model, weights, architecture or load_checkpoint(path).architecture)
    model.load_state_dict(weights)
    return model.eval()


def _check_folder_options(path: Path, given: Mapping[str, str | None], n_classes: int | None) -> None:
    """Refuse options that a Hugging Face folder, which describes its network itself, contradicts or does not have."""
    named = describe_folder(path)
    for name, value in given.items():
        if value is not None and not (name == "architecture" and value.endswith(named["architecture"])):
            raise InputError(
                f"checkpoint: the folder {path} holds {named['architecture']}, as its configuration says, and takes no "
                f"{name}; leave {name} out"
            )
    if n_classes not in (None, len(named["classes"])):
        raise InputError(f"checkpoint: expected {n_classes} classes, got {len(named['classes'])} in {path}")


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if path.suffix.lower() == ".onnx":
        raise InputError(
            f"checkpoint: {path} is an ONNX program, in which nothing can be listened to; take the PyTorch network "
            "that it was made of: its state_dict with its architecture, or torch.export of it"
        )
    if any(n.endswith("/constants.pkl") for n in list_archive(path)):
        raise InputError(
            f"checkpoint: {path} is a TorchScript program, which carries code and is refused; "
            "export the network with torch.export, or save model.state_dict()"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old formats and protocols, which load or are refused anyway
            found = load_pickled(path)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        called = wanted[1] if wanted else list_pickle_calls(path)
        if not called:
            raise report_damage(path, "file of torch.save", error) from None
        raise InputError(
            f"checkpoint: {path} is a pickle that would run code ({called}: a whole model or other "
            "objects were saved, not weights alone), which is refused; save model.state_dict() and name the "
            "architecture, or export the model with torch.export"
        ) from None
    except Exception as error:  # for a damaged file torch raises whatever its zip, tar and pickle readers raise
        raise report_damage(path, "file of torch.save", error) from None
    return find_state_dict(path, found)


def _build_for(path: Path, given: dict[str, str], n_classes: int | None) -> nn.Module:
    """Build the network of a file from its metadata, which the caller's arguments override."""
    stored = read_description(path)
    if stored is None:
        if "architecture" not in given:
            raise InputError(
                f"checkpoint: {path} does not say its architecture; give one of {list_some(network_names())} "
                "or 'module:function'"
            )
        stored = Checkpoint(architecture=given["architecture"], classes=tuple(str(i) for i in range(n_classes or 16)))
    named = "architecture" in given or stored.architecture in network_names() or stored.folder is not None
    if not named and not stored.own:
        raise InputError(
            f"checkpoint: {path} names the code {stored.architecture!r} as its architecture, and was written "
            f"elsewhere; give architecture={stored.architecture!r} (--architecture) if you want it to run"
        )
    if n_classes not in (None, len(stored.classes)) and stored.classes:
        raise InputError(f"checkpoint: expected {n_classes} classes, got {len(stored.classes)} in {path}")
    return replace(stored, beside=str(path.parent), **given).build()  # type: ignore[arg-type]
