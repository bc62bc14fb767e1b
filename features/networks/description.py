"""Describe how a network is built and fed: what its file says beside the weights. Nothing here needs torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors

from brainmap.errors import InputError
from brainmap.features.networks.architectures import get_zoo_front_end, network_names
from brainmap.features.networks.files import check_checkpoint, is_signed, report_damage
from brainmap.features.sounds.front_ends import WAVEFORM, FrontEnd, read_front_end
from brainmap.references import find_function, is_reference
from brainmap.types import Align, AnyPart, Loudness

if TYPE_CHECKING:
    from torch import nn

    from brainmap.features.sounds.files import Sounds

TRANSFORMERS = "transformers:"


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
        Sounds keep their own lengths, because the network takes no padding or the user wants none; `n_samples` is then
        the longest one that it takes, or 0 for any length.
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
    beside : str
        Folder of its file, where functions that it names may lie, too. It is not stored.
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
    beside: str = field(default="", compare=False)

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
        return self.own_lengths and self.architecture.startswith(TRANSFORMERS)

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
        if self.front_end.is_code and self.beside:
            find_function(self.front_end.kind, "input", beside=self.beside)

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
        from brainmap.features.networks.huggingface import build_described  # what imports torch is imported here
        from brainmap.features.networks.readout import rebuild_readout
        from brainmap.features.networks.zoo import build_network, call_builder

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
        return call_builder(self.architecture, beside=self.beside)


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
        from brainmap.features.networks.huggingface import describe_folder

        about = describe_folder(path)
        about["architecture"] = f"{TRANSFORMERS}{about['architecture']}"
        return Checkpoint(**about, level="none", own_lengths=True)
    path = check_checkpoint(path)
    if path.suffix != ".safetensors":
        return None
    try:
        with safetensors.safe_open(path, framework="np") as file:
            held = file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise report_damage(path, "safetensors file", error) from None
    text = held.get("brainmap")
    if text is None:
        return None
    own = is_signed(compose_signed_text(held), held.get("signature", ""))
    try:
        return replace(restore_checkpoint(json.loads(text)), own=own, beside=str(path.parent))
    except (InputError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"checkpoint: {path} carries brainmap metadata that cannot be read ({error})") from None


def note_default_level(path: str | Path, level: str | None, *, say: str) -> str:
    """Say that sounds keep their level, where neither the file of a network nor the user says one; otherwise nothing.

    Parameters
    ----------
    path : path
        The checkpoint.
    level : str, optional
        What the user says.
    say : str
        How the user says it, with {} for the level.
    """
    from brainmap.features.sounds.files import PEAK_LEVEL, RMS_LEVEL

    if level is not None or read_description(path) is not None:
        return ""
    none, rms, peak = (say.format(one) for one in ("none", "rms", "peak"))
    return (
        f"level: sounds keep the level of their files, since {Path(path).name} does not say at which one it was "
        f"trained; give {rms} (each sound at an RMS of {RMS_LEVEL:g} of full scale), {peak} (a peak of "
        f"{PEAK_LEVEL:g}), or {none}"
    )


def restore_checkpoint(stored: Mapping[str, Any]) -> Checkpoint:
    """Return the description that `describe_checkpoint` made plain values of; values of later versions are left out."""
    known = {f.name for f in fields(Checkpoint)} - {"own", "beside"}
    kept = {k: v for k, v in stored.items() if k in known}
    taken = read_front_end(stored["input"]) if "input" in stored else None
    return Checkpoint(**{**kept, "classes": tuple(stored.get("classes", ())), "input": taken})


def describe_checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return a description as plain values; what the architecture says itself is left out."""
    found = asdict(checkpoint)
    del found["own"], found["beside"]
    for key in ("dropout", "input", "readout", "folder"):
        if found[key] is None:
            del found[key]
    if checkpoint.input is not None:
        found["input"] = checkpoint.input.settings()
    return found


def compose_signed_text(metadata: Mapping[str, str]) -> str:
    """Return what a signature is of: the description, and the digest that ties the weights to it."""
    return f"{metadata.get('sha256', '')} {metadata.get('brainmap', '')}"
