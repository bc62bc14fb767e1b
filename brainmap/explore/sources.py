"""Open what is explored, a study or networks and sounds; each network is loaded when it is first looked at."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import pandas as pd

from brainmap.checks import check_choice
from brainmap.errors import InputError
from brainmap.explore.notes import collect_notes
from brainmap.features.activations.store import hash_weights
from brainmap.features.layers.devices import choose_device
from brainmap.features.layers.layer import OUTPUT, Layer
from brainmap.features.layers.listing import list_layers
from brainmap.features.layers.running import check_device
from brainmap.features.networks.checkpoints import load_network
from brainmap.features.networks.description import Checkpoint, note_default_level
from brainmap.features.networks.feeding import describe_feeding
from brainmap.features.sounds.files import Sounds
from brainmap.features.sounds.reading import check_sound, read_channels
from brainmap.progress import log
from brainmap.record import content_key

if TYPE_CHECKING:
    from torch import nn

    from brainmap.study.results.context import Context
    from brainmap.study.stages.networks import Version

T = TypeVar("T")
UPLOAD = "upload:"
"""What the name of a sound begins with that was dropped or recorded; its SHA-256 follows."""
FEW = 4
"""Sounds that go through a network together: as fast as more of them on a processor, and with less memory."""
_MOST_BYTES = 128_000_000
_MOST_SOUNDS = 64


class Memory:
    """Remember results by their content, the least recently used ones giving way.

    Examples
    --------
    >>> memory = Memory(most_bytes=16)
    >>> for key in ("a", "b", "c"):
    ...     _ = memory.remember(key, lambda: np.zeros(1))
    >>> sorted(memory.kept)
    ['b', 'c']
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self.kept: OrderedDict[str, tuple[Any, int, list[str]]] = OrderedDict()
        self.noted: list[str] = []

    def remember(self, key: str, compute: Callable[[], T]) -> T:
        """Return the result under a key, computed where there is none; add what was said of it to `noted`."""
        if key not in self.kept:
            with collect_notes() as notes:
                found = compute()
            self.kept[key] = found, _count_bytes(found), notes
            while len(self.kept) > 1 and sum(size for _, size, _ in self.kept.values()) > self.most_bytes:
                self.kept.popitem(last=False)
        self.kept.move_to_end(key)
        value, _, notes = self.kept[key]
        self.noted += [note for note in notes if note not in self.noted]
        return cast("T", value)


def _count_bytes(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    if isinstance(value, Mapping):
        return sum(map(_count_bytes, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_count_bytes, value))
    parts = getattr(value, "__dict__", None)
    return 64 if parts is None or isinstance(value, type) else sum(map(_count_bytes, parts.values()))


@dataclass(frozen=True, eq=False)
class Heard:
    """Hold a network with the sounds that it is explored with.

    Attributes
    ----------
    name : str
    model : torch.nn.Module
    checkpoint : Checkpoint
        How it is fed.
    sounds : Sounds
    given_names : tuple of str or None
        Names of its classes, where they are known.
    digest : str
        Identifies the function that it computes.
    version : Version or None
        The network in the study.
    """

    name: str
    model: nn.Module
    checkpoint: Checkpoint
    sounds: Sounds
    given_names: tuple[str, ...] | None
    digest: str
    version: Version | None = None

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """List the layers, the output last."""
        return tuple(list_layers(self.model, self.sounds.take([0])))

    @property
    def output(self) -> Layer:
        """Return the layer of the logits."""
        return next(layer for layer in self.layers if layer.name == OUTPUT)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Name the classes; by their positions where their names are not known.

        Raises
        ------
        InputError
            There are more or fewer names than outputs.
        """
        n = self.output.shape[0]
        names = self.given_names or tuple(map(str, range(n)))
        if len(names) != n:
            raise InputError(
                f"{self.name}: expected names of its {n} outputs, got {len(names)}; correct the names of the classes"
            )
        return names

    def layer(self, name: str) -> Layer:
        """Find a layer by its name."""
        check_choice(name, [layer.name for layer in self.layers], "layer")
        return next(layer for layer in self.layers if layer.name == name)

    def check_unit(self, layer: str, unit: int) -> Layer:
        """Return the layer of a unit.

        Raises
        ------
        InputError
            The layer is unknown, or has no such unit.
        """
        found = self.layer(layer)
        if not 0 <= unit < found.shape[0]:
            raise InputError(f"unit: expected 0 to {found.shape[0] - 1} of {layer!r}, got {unit}")
        return found


@dataclass(eq=False)
class Source:
    """Hold what is explored.

    Attributes
    ----------
    title, question : str
    simulated : bool
    loaders : mapping of str to callable
        One for each network; it loads the network.
    items, conditions : sequence of str
        Ids of the sounds, and the word or category of each.
    context : Context or None
        The study, where one is explored.
    device : str
    """

    title: str
    loaders: Mapping[str, Callable[[], Heard]]
    items: Sequence[str]
    conditions: Sequence[str]
    question: str = ""
    simulated: bool = False
    context: Context | None = None
    device: str = "cpu"
    memory: Memory = field(default_factory=Memory)
    uploads: dict[str, tuple[Path, str]] = field(default_factory=dict)
    brains: Any = None
    _networks: dict[str, Heard] = field(default_factory=dict)
    _sounds: OrderedDict[tuple[str, str], Sounds] = field(default_factory=OrderedDict)

    def network(self, name: str) -> Heard:
        """Return a network by its name, loaded once."""
        if name not in self._networks:
            self._networks[name] = self.loaders[check_choice(name, list(self.loaders), "network")]()
        return self._networks[name]

    def sound(self, heard: Heard, key: str) -> Sounds:
        """Return one sound as a network takes it, by its id, or by the digest of a sound that was sent.

        Raises
        ------
        InputError
            There is no such sound, or it cannot be read.
        """
        known = (heard.name, key)
        if known not in self._sounds:
            found = self._find_sound(heard, key)
            _ = found.waveforms  # a sound that cannot be read is refused here
            self._sounds[known] = found
            while len(self._sounds) > _MOST_SOUNDS:
                self._sounds.popitem(last=False)
        self._sounds.move_to_end(known)
        return self._sounds[known]

    def _find_sound(self, heard: Heard, key: str) -> Sounds:
        if key in self.items:
            return heard.sounds.take([list(heard.sounds.items).index(key)])
        if key not in self.uploads:
            if key.startswith(UPLOAD):
                raise InputError("This sound was dropped or recorded while another explorer ran; drop it again.")
            check_choice(key, list(self.items), "sound")
        path, name = self.uploads[key]
        table = pd.DataFrame({"stimulus_id": [name], "condition": [name], "path": [str(path)]})
        try:
            return heard.checkpoint.load_sounds(table)  # type: ignore[arg-type]
        except InputError as error:
            raise InputError(str(error).replace(str(path), name)) from None

    def receive(self, path: Path, name: str, seconds: float) -> dict[str, Any]:
        """Take a file that was sent as a sound, and describe it.

        Raises
        ------
        InputError
            It is no sound, is cut short, or lasts longer than allowed.
        """
        try:
            rate, frames = check_sound(path)
            if frames > seconds * rate:
                raise InputError(
                    f"{name} lasts {frames / rate:.1f} s, and the explorer takes at most {seconds:g} s; cut it, or "
                    "start the explorer with a larger --longest-upload"
                )
            read_channels(path)  # a file may be cut short although its header is whole
        except InputError as error:
            raise InputError(str(error).replace(str(path), name)) from None
        key = f"{UPLOAD}{path.name}"
        self.uploads[key] = path, name
        return {"sound": key, "name": name, "rate": rate, "seconds": frames / rate}


def open_source(
    *,
    study: str | None = None,
    checkpoints: Sequence[str] = (),
    sounds: str | None = None,
    feeding: Mapping[str, Any] | None = None,
    device: str = "cpu",
    uploads: Sequence[tuple[str, str]] = (),
) -> Source:
    """Open a study, or checkpoints and sounds.

    Parameters
    ----------
    study : str, optional
        The study file.
    checkpoints : sequence of str
    sounds : str, optional
        A table, a folder of class folders, or a file, as `load_sounds` takes it.
    feeding : mapping, optional
        What the checkpoints do not say: architecture, variant, classes, rate, seconds, level, input.
    device : str
        A name of torch's, or "auto".
    uploads : sequence of tuple of str
        Files that were sent before, and their names.

    Raises
    ------
    InputError
        The study or the sounds cannot be read, or this machine lacks the device.
    """
    device = choose_device("auto") if device == "auto" else device
    check_device(device)
    if study is not None:
        found = _open_study(Path(study), device)
    elif sounds is not None and checkpoints:
        found = _open_checkpoints(checkpoints, sounds, dict(feeding or {}), device)
    else:
        raise InputError("explore: expected a study, or a checkpoint and sounds; give one of them")
    found.uploads.update({f"{UPLOAD}{Path(path).name}": (Path(path), name) for path, name in uploads})
    return found


def _open_checkpoints(checkpoints: Sequence[str], sounds: str, given: dict[str, Any], device: str) -> Source:
    names = _name_checkpoints(checkpoints)
    for path in checkpoints:
        if level := note_default_level(path, given.get("level"), say="--level {}"):
            log.warning("note: %s", level)
    first = describe_feeding(checkpoints[0], **_feeding_of(given)).load_sounds(sounds)

    def load(name: str, path: str) -> Heard:
        model = load_network(
            path,
            architecture=given.get("architecture"),
            variant=given.get("variant"),
            n_classes=len(given["classes"]) if given.get("classes") else None,
        )
        fed = describe_feeding(path, **_feeding_of(given))
        return Heard(name, model, fed, fed.load_sounds(sounds), fed.classes or None, hash_weights(model))

    loaders = {name: partial(load, name, path) for name, path in names.items()}
    return Source(
        title=", ".join(names),
        loaders=loaders,
        items=[str(i) for i in first.items],
        conditions=[str(c) for c in first.conditions],
        device=device,
    )


def _feeding_of(given: Mapping[str, Any]) -> dict[str, Any]:
    classes = tuple(given["classes"]) if given.get("classes") else None
    said = {key: given.get(key) for key in ("architecture", "rate", "seconds", "level", "input", "variant")}
    return {**said, "classes": classes, "place": "on the command line", "ask": "--rate (Hz) and --seconds"}


def _name_checkpoints(paths: Sequence[str]) -> dict[str, str]:
    """Name each checkpoint by its file; files of one name by their folders, too."""
    stems = [Path(path).stem for path in paths]
    names = [path if stems.count(stem) > 1 else stem for path, stem in zip(paths, stems, strict=True)]
    return dict(zip(names, paths, strict=True))


def _open_study(path: Path, device: str) -> Source:
    from brainmap.study.results.context import Context
    from brainmap.study.settings.study import load_study
    from brainmap.study.stages.networks import class_names, load_heard_network, make_model, yield_versions

    context = Context(load_study(path), device_wanted=device, threads=1)  # each thread takes memory of its own
    about = context.study.settings.study

    def load(version: Version) -> Heard:
        loaded = load_heard_network(context, version.network)  # type: ignore[arg-type]
        model, digest = make_model(context, loaded, version, loaded.sounds), loaded.digest
        if version.control:
            digest = content_key(digest, version.control, about.seed)
        return Heard(version.name, model, loaded.checkpoint, loaded.sounds, class_names(loaded), digest, version)

    networks = {network.name for network in context.study.settings.network}
    versions = [version for version in yield_versions(context) if version.network.name in networks]
    return Source(
        title=about.name,
        question=about.question,
        simulated=about.simulated,
        loaders={version.name: partial(load, version) for version in versions},
        items=list(context.stimuli),
        conditions=list(context.stimuli.values()),
        context=context,
        device=device,
    )
