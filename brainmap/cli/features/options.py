"""Hold what commands of `brainmap features` share: their group, and the options that name a network and sounds."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from brainmap import features, types
from brainmap.checks import check_choice, list_some
from brainmap.cli import app
from brainmap.cli.options import Device, Several, build_provenance, join_options, make_group, print_files, split_names
from brainmap.errors import InputError
from brainmap.progress import log

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from brainmap.features.networks.opened import Opened
    from brainmap.features.networks.targets import Targets

commands = make_group("features", "Study a network on sounds: activations, maximizing sounds, class activation maps.")
app.add_typer(commands)

OTHERS = "Networks trained elsewhere"
Layers = Annotated[
    str,
    typer.Option(help="Layers: all, last-conv, or names and patterns parted by commas, as in conv1,conv4 or 'conv*'."),
]
Stage = Annotated[types.Stage, typer.Option(help="Side of the nonlinearity that is read.")]
CheckpointFile = Annotated[
    Path,
    typer.Option(
        "--checkpoint", help="Trained network: .safetensors, .pt, .pt2, .keras, .h5, or a Hugging Face folder."
    ),
]
SoundsAt = Annotated[
    Path,
    typer.Option(
        "--sounds",
        help="Sounds: stimuli.tsv (stimulus_id, condition, path), a folder of class folders, or one audio file.",
    ),
]
Store = Annotated[Path, typer.Option("--out", help="Store (.zarr) that is made or added to.")]
InputOption = Annotated[
    str | None,
    typer.Option(
        help="Input: waveform, log-mel,mels=40,hop_ms=10,window_ms=25, cochleagram, or module:function.",
        rich_help_panel=OTHERS,
    ),
]
TargetsOption = Annotated[
    str | None,
    typer.Option(
        "--target",
        help="What is explained, in place of a class: conv3:12 (a channel), conv3:12:max, fc1:7 (a unit), "
        "output:zero (a class), conv3:dog-cat (a direction between conditions), roi:NAME (a region); several "
        "of one layer by commas.",
    ),
]
ItemsOption = Annotated[
    str | None,
    typer.Option("--items", help="Sounds of the figure: ids parted by commas, or all; default: the first ones."),
]


@dataclass(frozen=True)
class Listener:
    """A network, how it is fed, the sounds as it takes them, and the device it runs on."""

    name: str
    model: nn.Module
    checkpoint: features.Checkpoint
    sounds: features.Sounds
    device: str
    path: Path
    sounds_at: Path

    @property
    def inputs(self) -> list[str | Path | Several]:
        """The files that results depend on: the checkpoint, the table of the sounds, and the sounds together."""
        files = tuple(Path(path) for path in self.sounds.table["path"])
        table = [self.sounds_at] if self.sounds_at.is_file() and files != (self.sounds_at,) else []
        return [self.path, *table, Several(f"{len(files)} sounds of {self.sounds_at}", files)]

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Return the names of the classes, where the checkpoint or the command line has them."""
        return self.checkpoint.classes or None

    def understanding(self, logits: NDArray[np.floating] | None = None) -> str | None:
        """Count the sounds that the network calls by their condition; None where its outputs are not known as classes.

        Raises
        ------
        InputError
            The network does not have one output for each class name.
        """
        from brainmap.features.evaluation.understanding import check_understanding

        if self.classes is None or self.checkpoint.readout is not None:  # whose outputs are regions
            return None
        calls, _ = check_understanding(
            self.name, self.model, self.sounds, self.classes, logits=logits, device=self.device
        )
        return calls.line()

    def say_understanding(self, logits: NDArray[np.floating] | None = None) -> None:
        """Say how many sounds the network calls by their condition, where its class names are known."""
        if (line := self.understanding(logits)) is not None:
            log.warning("note: %s", line)

    def units(self, layer: str, text: str) -> Any:
        """Read units of a layer from text: all, numbers, or class names; return "all" or a list of positions.

        Raises
        ------
        InputError
            A class the network does not know.
        """
        if text == "all":
            return "all"
        known = list(self.classes or ()) if layer == "output" else []
        asked = split_names(text)
        bad = [u for u in asked if not u.isdigit() and (not known or u.lstrip("-").isdigit())]
        if bad:
            raise InputError(f"--units: expected all, or numbers from 0 parted by commas, as in 0,1,2, got {bad[0]!r}")
        return [int(u) if u.isdigit() else known.index(check_choice(u, known, "--units")) for u in asked]


def find_listener_targets(one: Listener, text: str) -> Targets:
    """Find the targets of an option among the units, classes, directions and regions of a network.

    Raises
    ------
    InputError
        A target that does not exist, by nearest name.
    """

    def direct(layer: str, toward: str, away: str) -> NDArray[np.floating]:
        return features.condition_direction(
            one.model, one.sounds, layer=layer, toward=[toward], away=[away], device=one.device
        )

    return features.find_targets(one.model, one.sounds, split_names(text), class_names=one.classes, direct=direct)


def choose_items(sounds: features.Sounds, text: str | None, most: int) -> list[int]:
    """Choose the sounds of a figure, and say which are left out.

    Raises
    ------
    InputError
        An id that no sound has, by nearest name.
    """
    ids = list(sounds.items)
    if text == "all":
        return list(range(len(ids)))
    if text is not None:
        return [ids.index(check_choice(name, ids, "--items")) for name in split_names(text)]
    chosen = sounds.table["condition"].drop_duplicates().index.tolist()[:most]
    if len(chosen) < len(ids):
        log.warning(
            "note: the figure shows %d of %d sounds (%s); name others with --items, or say --items all",
            len(chosen),
            len(ids),
            list_some([ids[k] for k in chosen], 6),
        )
    return chosen


Hear: TypeAlias = Callable[..., Listener]
Describe: TypeAlias = Callable[..., "Opened"]


def declare_options(
    checkpoint: CheckpointFile,
    sounds: SoundsAt,
    name: Annotated[str | None, typer.Option(help="Name of the network; default: that of its file.")] = None,
    architecture: Annotated[
        str | None,
        typer.Option(
            help="Architecture: a name that `brainmap networks` lists, or module:function.", rich_help_panel=OTHERS
        ),
    ] = None,
    variant: Annotated[
        types.Variant | None,
        typer.Option(
            help="Variant: plain, with dropout (do), batch normalization (bn), or both.", rich_help_panel=OTHERS
        ),
    ] = None,
    class_names: Annotated[
        str | None,
        typer.Option(help="Names of the classes in the order of the outputs, as in one,two.", rich_help_panel=OTHERS),
    ] = None,
    rate: Annotated[int | None, typer.Option(min=1, help="Rate of its input, in Hz.", rich_help_panel=OTHERS)] = None,
    seconds: Annotated[float | None, typer.Option(help="Length of its input, in s.", rich_help_panel=OTHERS)] = None,
    level: Annotated[
        types.Loudness | None, typer.Option(help="Level to which its input is scaled.", rich_help_panel=OTHERS)
    ] = None,
    own_lengths: Annotated[
        bool,
        typer.Option(
            "--own-lengths",
            help="Sounds keep their own lengths, at most that, and are not padded; the network must take them.",
            rich_help_panel=OTHERS,
        ),
    ] = False,
    input: InputOption = None,
    device: Device = "cpu",
) -> None:
    """Declare the options, their wording and their defaults."""


def add_listener_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command whose first parameter is `hear` the options that name a network and sounds.

    `hear()` loads both and gives a `Listener`; with `hear(report=False)` the command reports on the sounds itself. A
    command checks that its outputs are free before it calls it. Only the device is looked at at once.
    """
    return _add_options(command, inspect.signature(declare_options, eval_str=True).parameters, load_listener)


def add_network_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command whose first parameter is `describe` the options that name a network alone.

    `describe()` gives it as `Opened`: how it is fed, and the network itself once that is needed; with
    `describe(report=True)` it is said at which level it is fed, where nobody said one.
    """
    common = inspect.signature(declare_options, eval_str=True).parameters
    left_out = ("sounds", "name", "device")
    return _add_options(command, {k: v for k, v in common.items() if k not in left_out}, open_described)


def _add_options(
    command: Callable[..., None], common: Mapping[str, inspect.Parameter], load_it: Callable[..., Any]
) -> Callable[..., None]:
    """Give a command the common options, and as its first parameter a function that loads what they name."""

    @functools.wraps(command)
    def wrapper(**given: Any) -> None:
        options = {key: given.pop(key) for key in common}
        if "device" in options:
            from brainmap.features.layers.devices import choose_device

            options["device"] = choose_device(options["device"])
        command(functools.partial(load_it, **options), **given)

    return join_options(
        wrapper, command, common, leaves_out=next(iter(inspect.signature(command).parameters)), first=True
    )


def load_listener(
    checkpoint: Path, sounds: Path, *, name: str | None, device: str, report: bool = True, **given: Any
) -> Listener:
    """Load a network and the sounds as its checkpoint says; `given` completes a checkpoint that says nothing.

    Raises
    ------
    InputError
        A checkpoint that says nothing and options that do not complete it, or that contradict what it says.
    """
    from brainmap.features.networks.description import note_default_level

    model, fed = open_checkpoint(checkpoint, **given)
    heard = fed.load_sounds(sounds)
    level = note_default_level(checkpoint, given["level"], say="--level {}")
    for line in (*[level] * bool(level), *(heard.report.lines() if report else ())):
        log.warning("note: %s", line)
    return Listener(name or checkpoint.stem, model, fed, heard, device, checkpoint, sounds)


def open_checkpoint(
    checkpoint: Path, *, class_names: str | None = None, **given: Any
) -> tuple[nn.Module, features.Checkpoint]:
    """Load a network, and tell how it is fed.

    Raises
    ------
    InputError
        A checkpoint that says nothing and options that do not complete it, or that contradict what it says.
    """

    classes = tuple(split_names(class_names)) if class_names else None
    model = features.load_network(
        checkpoint,
        architecture=given["architecture"],
        variant=given["variant"],
        n_classes=len(classes) if classes else None,
    )
    return model, _describe_feeding(checkpoint, classes, given)


def open_described(checkpoint: Path, *, class_names: str | None = None, report: bool = False, **given: Any) -> Opened:
    """Open a network for a command that may do without the network itself.

    Raises
    ------
    InputError
        As `open_checkpoint` raises it.
    """
    from brainmap.features.networks.description import note_default_level
    from brainmap.features.networks.opened import open_network

    if report and (level := note_default_level(checkpoint, given["level"], say="--level {}")):
        log.warning("note: %s", level)
    classes = tuple(split_names(class_names)) if class_names else None
    return open_network(
        checkpoint,
        architecture=given["architecture"],
        variant=given["variant"],
        n_classes=len(classes) if classes else None,
        describe=functools.partial(_describe_feeding, checkpoint, classes, given),
        settings=[classes, given],
    )


def _describe_feeding(
    checkpoint: Path, classes: tuple[str, ...] | None, given: Mapping[str, Any]
) -> features.Checkpoint:
    from brainmap.features.networks.feeding import describe_feeding

    place, ask = "on the command line", "--rate (Hz) and --seconds"
    given = {**given, "own_lengths": given.get("own_lengths") or None}
    return describe_feeding(checkpoint, classes=classes, place=place, ask=ask, **given)


def note_origin(out: Path, kind: str, one: Listener, layer: str) -> None:
    """Store with the latest array of a layer what it was computed from."""
    from brainmap.features.activations.store import list_arrays, note, open_store

    root = open_store(out)
    note(root, kind, layer, list_arrays(root, kind)[layer], {"provenance": build_provenance({}, one.inputs)})


def describe_network(checkpoint: features.Checkpoint) -> dict[str, Any]:
    """Describe how a network is built and fed, as plain values; a length is None where any is taken."""
    return {
        "architecture": checkpoint.architecture,
        "input": checkpoint.front_end.describe(),
        "input_shape": [n or None for n in checkpoint.input_shape()],
        "rate": checkpoint.rate,
        "seconds": checkpoint.n_samples / checkpoint.rate or None,
        "level": checkpoint.level,
        "align": checkpoint.align,
        "classes": list(checkpoint.classes),
    }


def format_feeding(checkpoint: features.Checkpoint) -> str:
    """Describe how a network is fed in one line."""
    about = describe_network(checkpoint)
    called = f", {len(checkpoint.classes)} classes" if checkpoint.classes else ""
    length = "any length" if about["seconds"] is None else f"{about['seconds']:g} s"
    length = f"up to {length}" if checkpoint.own_lengths and checkpoint.n_samples else length
    shape = " x ".join("any" if n is None else str(n) for n in about["input_shape"])
    return (
        f"{about['architecture'] or 'network'}: takes {about['input']}, {shape}, "
        f"of {length} at {checkpoint.rate:,} Hz (level {checkpoint.level}){called}"
    )


def store_free(out: Path, kind: str, layer: str | None, overwrite: bool) -> None:
    """Refuse to replace what a store holds of a kind (and layer).

    Raises
    ------
    InputError
    """
    from brainmap.features.representations.files import list_stored_layers

    held = list_stored_layers(out, kind)
    if (held if layer is None else layer in held) and not overwrite:
        what = {"am": "maximizing patterns", "cam": "class activation maps", "attribution": "attributions"}
        of = f" of {layer}" if layer else ""
        raise InputError(
            f"--out: {out} holds {what.get(kind, kind)}{of} already; say --overwrite or name another store"
        )


def print_layers(
    found: features.Activations, out: Path, words: str, figure: Path | None, as_json: bool, *, width: int = 12
) -> None:
    """List the layers of stored activations with their shapes, and say in words what the store holds."""
    shapes = {layer: list(found[layer].shape) for layer in found.layers}
    if as_json:
        about = {"store": str(out), "network": found.network, "items": len(found.items), "layers": shapes}
        typer.echo(json.dumps(about, indent=2))
        return
    for layer, shape in shapes.items():
        before = f"  of {found.reductions[layer]['units']} units" if layer in found.reductions else ""
        typer.echo(f"{layer:<{width}} {' x '.join(map(str, shape))}{before}")
    typer.echo(f"{out}: {words}")
    print_files(figure)


def extract_all(one: Listener, layers: str) -> Any:
    """Extract the activations of the layers that are named, for all sounds."""
    return features.extract_activations(
        one.model, one.sounds, layers=split_names(layers), device=one.device, network=one.name
    )
