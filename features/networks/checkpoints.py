"""Read and write checkpoints: safetensors with metadata, and files of other programs, without running their code."""

from __future__ import annotations

import json
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from brainmap.checks import check_file, list_some
from brainmap.errors import InputError
from brainmap.features.networks.exported import is_exported, list_archive, load_exported
from brainmap.features.networks.huggingface import FolderNetwork, build_described, describe_folder, load_folder
from brainmap.features.networks.keras_files import is_keras, load_keras
from brainmap.features.networks.pickles import list_pickle_calls, load_pickled
from brainmap.features.networks.readout import ReadoutNetwork, rebuild_readout
from brainmap.features.networks.state_dicts import (
    check_weights,
    find_state_dict,
    hash_weights,
    match_names,
    read_safetensors,
    report_damage,
)
from brainmap.features.networks.trust import compute_signature, is_signed
from brainmap.features.networks.zoo import build_network, call_builder, get_zoo_front_end, network_names
from brainmap.features.sounds.front_ends import WAVEFORM, FrontEnd, read_front_end
from brainmap.record import atomic
from brainmap.references import is_reference
from brainmap.types import Align, AnyPart, Loudness

if TYPE_CHECKING:
    from brainmap.features.sounds.files import Sounds


_TRANSFORMERS = "transformers:"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Describe how to build a network and how to feed it, as stored beside the weights.

    Attributes
    ----------
    architecture, variant, activation, head : str
        Arguments of `build_network`, or `module:function`, which builds the network alone; for a Hugging Face folder
        "transformers:" and its class.
    kernel : int, optional [samples]
        Filter length, where it differs from the architecture's own.
    dropout : float, optional
        Dropout probability, where it differs from the architecture's own.
    classes : tuple of str
        Class names in the order of the logits.
    rate : int [Hz]
    n_samples : int [samples]
    level, align : str
        Settings of `load_sounds`.
    own_lengths : bool
        Sounds keep their own lengths, because the network takes no padding; `n_samples` is then the longest one that it
        takes, or 0 for any length.
    training : dict
        Settings, seed, best epoch and history of the training, as plain values.
    input : FrontEnd, optional
        What the network takes; by default that of its architecture in the zoo, or else the waveform.
    readout : dict, optional
        Of a `readout_network`: the layer that is read, and the classes of the network that it was cut from. `classes`
        are then the names of its outputs.
    folder : dict, optional
        Configuration and feature extractor of a network of a Hugging Face folder, once it is saved as one file.
    own : bool
        Whether functions that it names may be called: the caller names them, or this user wrote the file. It is not
        stored.
    """

    architecture: str
    variant: str = "plain"
    activation: str = "relu"
    head: str = "flatten"
    kernel: int | None = None
    dropout: float | None = None
    classes: tuple[str, ...] = ()
    rate: int = 16_000
    n_samples: int = 16_000
    level: Loudness = "rms"
    align: Align = "start"
    own_lengths: bool = False
    training: Mapping[str, Any] | None = None
    input: FrontEnd | None = None
    readout: Mapping[str, Any] | None = None
    folder: Mapping[str, Any] | None = None
    own: bool = field(default=True, compare=False)

    @property
    def front_end(self) -> FrontEnd:
        """Return what the network takes."""
        in_zoo = self.architecture in network_names()
        return self.input or (get_zoo_front_end(self.architecture, rate=self.rate) if in_zoo else WAVEFORM)

    @property
    def names_code(self) -> bool:
        """Tell whether a function of the user's builds the network or its input."""
        return (is_reference(self.architecture) and not self.in_transformers) or self.front_end.is_code

    @property
    def in_transformers(self) -> bool:
        """Tell whether the network is a class of transformers, loaded from a Hugging Face folder."""
        return self.own_lengths and self.architecture.startswith(_TRANSFORMERS)

    def input_shape(self) -> tuple[int, ...]:
        """Compute the shape of one item as the network takes it, `(c, t)` or `(c, h, w)`."""
        self.check_own()
        return self.front_end.shape(self.n_samples, rate=self.rate)

    def check_own(self) -> None:
        """Refuse the file of another that names a function as its front end.

        Raises
        ------
        InputError
            It does, and was not named by the user.
        """
        if self.front_end.is_code and not self.own:
            raise InputError(
                f"checkpoint: names the code {self.front_end.kind!r} as its front end, and was written elsewhere; "
                f"give input = {self.front_end.kind!r} (--input) if you want it to run"
            )

    def load_sounds(self, source: str | Path, *, part: AnyPart = "all") -> Sounds:
        """Find sounds and describe how to read them as this network takes them, as `features.load_sounds` does."""
        from brainmap.features.sounds.files import load_sounds

        self.check_own()
        return load_sounds(
            source,
            rate=self.rate,
            seconds=self.n_samples / self.rate if self.n_samples else None,
            level=self.level,
            align=self.align,
            part=part,
            front_end=self.front_end,
            own_lengths=self.own_lengths,
        )

    def cut_to(self, seconds: float) -> Checkpoint:
        """Return the description with sounds cut to `seconds`, for a network that takes sounds of any length.

        Raises
        ------
        InputError
            The network takes sounds of one length, or no sounds as long as that.
        """
        n_samples = round(seconds * self.rate)
        if not self.own_lengths or (self.n_samples and n_samples > self.n_samples):
            most = "at most " if self.own_lengths else ""
            raise InputError(
                f"seconds: expected {most}{self.n_samples / self.rate:g}, as the network takes them, got {seconds:g}; "
                "leave it out"
            )
        return replace(self, n_samples=n_samples)

    def _picture_shape(self) -> tuple[int, int]:
        """Return bands and frames of the input of a network of the zoo.

        Raises
        ------
        InputError
            The input has another number of axes or channels than the zoo takes.
        """
        shape = self.input_shape()
        if len(shape) != 3 or shape[0] != 1:
            raise InputError(
                f"input: expected a spectrogram (1, bands, frames) for {self.architecture!r}, got shape {shape}"
            )
        return shape[1], shape[2]

    @property
    def whole(self) -> Checkpoint:
        """Return the description of the network that a readout network was cut from; of another, the network's own."""
        if self.readout is None:
            return self
        return replace(self, readout=None, classes=tuple(self.readout.get("classes", ())))

    def build(self) -> nn.Module:
        """Build the network with fresh weights."""
        if self.readout is not None:
            return rebuild_readout(self.whole.build(), self.readout, self.classes)
        if self.folder is not None:
            return build_described(self.folder)
        if self.architecture in network_names():
            return build_network(
                self.architecture,
                variant=self.variant,  # type: ignore[arg-type]
                activation=self.activation,  # type: ignore[arg-type]
                head=self.head,  # type: ignore[arg-type]
                n_classes=len(self.classes) or 16,
                n_samples=self.n_samples,
                kernel=self.kernel,
                dropout=self.dropout,
                shape=None if self.input is None or self.input.is_waveform else self._picture_shape(),
            )
        return call_builder(self.architecture)


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
    about = json.dumps(_describe_checkpoint(checkpoint), sort_keys=True)
    metadata = {"brainmap": about, "sha256": hash_weights(weights, about)}
    signature = compute_signature(_compose_signed_text(metadata)) if checkpoint.names_code else None
    metadata |= {"signature": signature} if signature else {}
    with atomic(path) as beside:  # bytes, because save_file would make the file readable by its owner only
        beside.write_bytes(safetensors.torch.save(weights, metadata=metadata))
    return path


def _complete_description(model: nn.Module, checkpoint: Checkpoint) -> Checkpoint:
    """Add to a description what it takes to build a readout network, or one of a Hugging Face folder."""
    found, network = checkpoint.whole, model.network if isinstance(model, ReadoutNetwork) else model
    if isinstance(network, FolderNetwork):
        found = replace(found, folder=network.describe(found.architecture.removeprefix(_TRANSFORMERS)))
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


def _describe_checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return a description as plain values; what the architecture says itself is left out."""
    found = asdict(checkpoint)
    del found["own"]
    for key in ("dropout", "input", "readout", "folder"):
        if found[key] is None:
            del found[key]
    if checkpoint.input is not None:
        found["input"] = checkpoint.input.settings()
    return found


def _compose_signed_text(metadata: Mapping[str, str]) -> str:
    """Return what a signature is of: the description, and the digest that ties the weights to it."""
    return f"{metadata.get('sha256', '')} {metadata.get('brainmap', '')}"


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read only the metadata of a checkpoint that brainmap wrote, or of a Hugging Face folder.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    Checkpoint
        What the network takes and gives: rate, length, level, classes, front end.

    Raises
    ------
    InputError
        There is no such file, it is damaged, or it was not written by brainmap.
    """
    found = read_description(path)
    if found is None:
        raise InputError(f"checkpoint: {path} carries no brainmap metadata; name its architecture, classes and rate")
    return found


def read_description(path: str | Path) -> Checkpoint | None:
    """Read the metadata in a file or a Hugging Face folder; return None for a file that brainmap did not write.

    Raises
    ------
    InputError
        There is no such file, or it is damaged.
    """
    if Path(path).is_dir():
        folder = describe_folder(path)
        return Checkpoint(
            architecture=f"{_TRANSFORMERS}{folder.architecture}",
            classes=folder.classes,
            rate=folder.rate,
            n_samples=folder.longest,
            level="none",
            own_lengths=True,
        )
    path = check_file(path, "checkpoint")
    if path.suffix != ".safetensors":
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            held = file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise report_damage(path, "safetensors file", error) from None
    text = held.get("brainmap")
    if text is None:
        return None
    own = is_signed(_compose_signed_text(held), held.get("signature", ""))
    known = {f.name for f in fields(Checkpoint)} - {"own"}
    try:
        stored = {k: v for k, v in json.loads(text).items() if k in known}
        taken = read_front_end(stored["input"]) if "input" in stored else None
        return Checkpoint(**{**stored, "classes": tuple(stored.get("classes", ())), "input": taken, "own": own})
    except (InputError, ValueError, TypeError, AttributeError, RecursionError) as error:
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
    path = check_file(path, "checkpoint")
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
        if value is not None and not (name == "architecture" and value.endswith(named.architecture)):
            raise InputError(
                f"checkpoint: the folder {path} holds {named.architecture}, as its configuration says, and takes no "
                f"{name}; leave {name} out"
            )
    if n_classes not in (None, len(named.classes)):
        raise InputError(f"checkpoint: expected {n_classes} classes, got {len(named.classes)} in {path}")


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
    return replace(stored, **given).build()  # type: ignore[arg-type]
