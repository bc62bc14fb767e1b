"""Compute the activations of every network and the acoustic baselines, and the RDM of every layer (stage 1).

Represent a network of the study as it was trained, one of its controls, the acoustic baselines, or the hypotheses.

Count how many sounds each network classifies as their condition, for the check, the results and the page.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from brainmap.checks import list_some
from brainmap.errors import InputError, name_place
from brainmap.features.networks.description import Checkpoint
from brainmap.features.networks.files import list_files
from brainmap.features.networks.opened import Opened, open_network
from brainmap.features.sounds.files import Sounds
from brainmap.features.sounds.front_ends import WAVEFORM
from brainmap.names import slug
from brainmap.places import remove
from brainmap.record import content_key, file_digest
from brainmap.rsa.rdm.alignment import stack_rdms
from brainmap.rsa.rdm.compute import compute_rdms
from brainmap.rsa.rdm.files import load_rdms, save_rdms
from brainmap.study.results.context import Context, make_parent, make_rng
from brainmap.study.settings.hypotheses import Hypotheses
from brainmap.study.settings.study import Baselines, Network
from brainmap.types import RDMs

if TYPE_CHECKING:
    from torch import nn

    from brainmap.features.activations.stored import Activations
    from brainmap.features.sounds.windows import Windows
    from brainmap.types import Pooling


@dataclass(frozen=True, eq=False)
class Loaded:
    """Hold a network of the study with its sounds; `digest` identifies the function that it computes."""

    settings: Network | Baselines
    opened: Opened
    sounds: Sounds
    digest: str

    @property
    def model(self) -> nn.Module:
        """Return the network itself, which is loaded when it is first needed."""
        return self.opened.model

    def keep(self, kind: str, key: object, compute: Callable[[], Any]) -> Any:
        """Return what `compute` finds out about the network, and compute it only once, as `Opened.keep` does."""

        def compute_alike() -> Any:
            from brainmap.features.layers.running import use_one_thread

            with use_one_thread():
                return compute()

        return self.opened.keep(kind, key, compute_alike)

    @property
    def checkpoint(self) -> Checkpoint:
        """Return how the network is built and fed."""
        return self.opened.checkpoint


@dataclass(frozen=True)
class Version:
    """Represent a network as it was trained, one of its controls, the acoustic baselines, or the hypotheses."""

    network: Network | Baselines | Hypotheses
    control: str  # "", "untrained" or "permuted"

    @property
    def name(self) -> str:
        """Return the name in tables: `ch32`, `ch32-untrained`."""
        return f"{self.network.name}-{self.control}" if self.control else self.network.name

    def slug(self, layer: str) -> str:
        """Return the name in files: `ch32trainedconv4`."""
        return slug(f"{self.network.name}{self.state}{layer}")

    @property
    def heard(self) -> Network | Baselines:
        """Return the settings of what hears the sounds, for what is computed of that only."""
        assert not isinstance(self.network, Hypotheses)
        return self.network

    @property
    def state(self) -> str:
        """Return "trained", "untrained" or "permuted"; the text is empty for models without weights."""
        return self.control or ("trained" if isinstance(self.network, Network) else "")


_FED = ("architecture", "seconds", "input", "rate", "level", "align", "classes", "own_lengths")
"""What a study says of how a network is fed."""
_REPRESENTED = ("name", "layers", "pooling", "pool_frequency", "units_axis", "dissimilarity", "units")
"""What a study says of how the layers of a network become RDMs."""
VERSION = 3  # 2: units are never averaged, and the level is set after sounds are cut; 3: frequency is not averaged
_UNICODE = 1  # 1: labels beyond ASCII are written so that rsatoolbox reads them
_ORDERED = 1  # 1: layers are in the order in which the forward pass ends them, however they are asked for


def yield_versions(context: Context) -> Iterator[Version]:
    """Yield all that is compared with the brain: what hears the sounds, and the hypotheses as one more network."""
    yield from yield_heard(context)
    hypotheses = context.study.settings.hypotheses
    if hypotheses is not None:
        yield Version(hypotheses, "")


def yield_heard(context: Context) -> Iterator[Version]:
    """Yield all networks of the study, each followed by its controls, and the baselines as one more network."""
    settings = context.study.settings
    for network in settings.network:
        yield from (Version(network, control) for control in ("", *network.controls))
    if settings.baselines is not None:
        yield Version(settings.baselines, "")


def load_baselines(context: Context, baselines: Baselines) -> Loaded:
    """Load the acoustic models as a network that takes the sounds of the first network."""
    first = load_heard_network(context, context.study.settings.network[0])
    rate = first.sounds.rate

    @functools.cache
    def load() -> nn.Module:
        from brainmap.features.activations.acoustics import AcousticModels

        return AcousticModels(baselines.models, rate=rate)

    opened = Opened(first.checkpoint, content_key("acoustics", baselines.models, rate), runs_code=False, load=load)
    sounds = replace(first.sounds, front_end=WAVEFORM, own_lengths=False)  # they are compared moment by moment
    return Loaded(baselines, opened, sounds, opened.keep("digest", None, lambda: _hash_weights(load())))


def load_heard_network(context: Context, network: Network) -> Loaded:
    """Open a checkpoint and its sounds, once per call of brainmap.

    The first time that the checkpoint is seen, its network is loaded; later only where the network itself is needed.

    Raises
    ------
    InputError
        The rate or length differs from that of the training, or weights do not fit.
    """
    known = context.networks.get(network.name)
    if isinstance(known, Loaded):
        return known
    path = context.study.resolve(network.checkpoint)
    opened = open_network(
        path,
        architecture=network.architecture,
        variant=network.variant,
        n_classes=len(network.classes) if network.classes else None,
        describe=partial(complete_checkpoint, network, path),
        settings=network.model_dump(include={*_FED}),
    )

    def digest() -> str:
        return content_key(_hash_weights(opened.model), _code_digest(network.architecture or ""))

    loaded = Loaded(network, opened, context.load_sounds_for(opened.checkpoint), opened.keep("digest", None, digest))
    context.networks[network.name] = loaded
    return loaded


def _hash_weights(model: nn.Module) -> str:
    """Compute the SHA-256 of the weights, for which stores of activations are imported."""
    from brainmap.features.activations.store import hash_weights

    return hash_weights(model)


def _code_digest(architecture: str) -> str:
    """Compute the SHA-256 of the module that builds a user's network, since weights alone do not define the network."""
    module, _, function = architecture.partition(":")
    source = getattr(sys.modules.get(module), "__file__", None) if function else None
    return file_digest(source) if source else ""


def complete_checkpoint(network: Network, path: str) -> Checkpoint:
    """Return how a network is fed: settings of its checkpoint, which the study file can complete but not contradict."""
    from brainmap.features.networks.feeding import describe_feeding

    given = {key: getattr(network, key) for key in _FED}
    with name_place(f"[network] {network.name}"):
        return describe_feeding(path, place="in the study", **given)


def build_rdm_path(context: Context, version: Version) -> Path:
    """Return the path of the RDMs of a network's layers."""
    return context.study.out / "rdms" / f"network-{slug(version.name)}_rdms.h5"


def build_features_path(context: Context, name: str, ending: str) -> Path:
    """Build the path of what the study holds of a network or control: `network-NAME_ENDING` in `features`."""
    return context.study.out / "features" / f"network-{slug(name)}_{ending}"


def store_path(context: Context, version: Version) -> Path:
    """Return the path of the activations of a network."""
    return build_features_path(context, version.name, "features.zarr")


def _clear_remains(store: Path) -> Path:
    """Remove chunks without metadata, which remain if the results folder is removed while a network is computed."""
    if store.is_dir() and not (store / "zarr.json").is_file():
        remove(store)
    return store


def load_every_network(context: Context) -> dict[str, Loaded]:
    """Load all networks and the acoustic models, by name."""
    loaded = {network.name: load_heard_network(context, network) for network in context.study.settings.network}
    baselines = context.study.settings.baselines
    return loaded if baselines is None else {**loaded, baselines.name: load_baselines(context, baselines)}


def make_model(context: Context, loaded: Loaded, version: Version, sounds: Sounds | Windows) -> nn.Module:
    """Return the network as it was trained, or its control, which may be adapted to sounds."""
    if not version.control:
        return loaded.model
    from brainmap.features.networks.controls import control_network

    kind: Any = version.control
    return control_network(loaded.model, kind=kind, rng=make_rng(context, version.name), sounds=sounds)


def extract_version(
    context: Context, model: nn.Module, sounds: Sounds | Windows, version: Version, *, pooling: Pooling, key: str
) -> Activations:
    """Extract the activations of a network or control into its store, which a later run goes on with."""
    from brainmap.features.activations.extract import extract_activations

    network = version.heard
    return extract_activations(
        model,
        sounds,
        layers=network.layers,
        pooling=pooling,
        store=_clear_remains(store_path(context, version)),
        device=context.device,
        network=version.name,
        key=key,
        threads=context.threads,
        units_axis=network.units_axis if isinstance(network, Network) else None,
        pool_frequency=isinstance(network, Network) and network.pool_frequency,
    )


def run_networks(context: Context) -> dict[str, Loaded]:
    """Compute activations and RDMs of all networks and controls, and return the loaded networks."""
    loaded = load_every_network(context)
    for version in yield_heard(context):
        one = loaded[version.network.name]
        check_items(context, one)
        key = compute_network_key(context, one, version)
        context.run_stage(f"network-{version.name}", key, partial(_compute_network, context, one, version))
    return loaded


def compute_heard_key(context: Context, loaded: Loaded, version: Version) -> str:
    """Return the key of everything that the activations of a network depend on."""
    seed = context.study.settings.study.seed if version.control else 0
    return content_key(VERSION, loaded.digest, version.control, seed, loaded.sounds.digest)


def compute_network_key(context: Context, loaded: Loaded, version: Version) -> str:
    """Return the key of everything that the RDMs of a network depend on."""
    labels = [*loaded.sounds.items, *loaded.sounds.conditions]
    written = [] if all(map(str.isascii, labels)) else [_UNICODE]
    return content_key(
        VERSION,
        _ORDERED,
        compute_heard_key(context, loaded, version),
        loaded.settings.model_dump(include={*_REPRESENTED}),
        context.study.settings.rsa.items,
        loaded.sounds.conditions,
        class_names(loaded),
        *written,
    )


def check_items(context: Context, loaded: Loaded) -> None:
    """Refuse fewer than three items."""
    wanted = 3
    level = context.study.settings.rsa.items
    labels = set(loaded.sounds.items if level == "stimulus" else loaded.sounds.conditions)
    if len(labels) < wanted:
        raise InputError(
            f"[rsa] items = {level!r}: expected at least {wanted}, got {len(labels)} in the study "
            f"({list_some(sorted(labels))})"
        )


def _compute_network(context: Context, loaded: Loaded, version: Version) -> list[Path]:
    network, sounds, key = loaded.settings, loaded.sounds, compute_heard_key(context, loaded, version)
    model = make_model(context, loaded, version, sounds)
    activations = extract_version(context, model, sounds, version, pooling=network.pooling, key=key)
    rdms = compute_rdms(
        activations,
        dissimilarity=network.dissimilarity,
        items=context.study.settings.rsa.items,
        units=None if network.units == "none" else "zscore",
        descriptors={"network": version.name},
    )
    activations.close()
    path = save_rdms(rdms, make_parent(build_rdm_path(context, version)))
    settings = {
        "network": network.model_dump(),
        "control": version.control or "none",
        "items": context.study.settings.rsa.items,
    }
    about = {**context.build_provenance(settings, list_inputs(context, version)), "Fed": _describe_fed(loaded.sounds)}
    names = class_names(loaded)
    calls = (
        []
        if names is None or version.control or not isinstance(network, Network)
        else list(write_calls(context, loaded, names, about))
    )
    return [
        path,
        context.write_sidecar(path, about),
        *calls,
        *list_array_paths(store_path(context, version), "activations"),
    ]


def _describe_fed(sounds: Sounds) -> dict[str, Any]:
    """Describe the sounds as a network is fed, for the sidecar, the methods and the cautions."""
    report = sounds.report
    return {
        "rate": sounds.rate,
        "seconds": sounds.n_samples / sounds.rate,
        "level": sounds.level,
        "own_lengths": sounds.own_lengths,
        "sounds": report.n,
        "cut": len(report.cut),
        "padded": len(report.padded),
        "padding": report.padding,
    }


def read_fed(context: Context, version: Version) -> dict[str, Any]:
    """Read what a network was fed from the sidecar of its RDMs; empty where that does not say it."""
    return dict(context.read_sidecar(build_rdm_path(context, version)).get("Fed", {}))


def list_inputs(context: Context, version: Version) -> list[str]:
    """List the files that a network's features depend on, for provenance; the sounds themselves are in their key."""
    table = context.sounds_table
    weights: list[str] = []
    if isinstance(version.network, Hypotheses):
        named = [name for one in version.network.entries for name in (one.rdm, one.labels) if name]
        weights = [context.study.resolve(name) for name in named]
    if isinstance(version.network, Network):
        checkpoint = context.study.resolve(version.network.checkpoint)
        weights = [str(path) for path in list_files(checkpoint)]
    return [*weights, str(table)] if table.is_file() else weights


def list_array_paths(store: Path, kind: str) -> list[Path]:
    """List the folders of the current arrays of a kind in a network's store, and the file that lists them."""
    from brainmap.features.activations.store import get_current_arrays, open_store

    arrays = get_current_arrays(open_store(store, create=False), kind).values()
    return [*(store / array.path for array in arrays), store / kind / "zarr.json"]


def join_model_rdms(context: Context, versions: list[Version] | None = None) -> RDMs:
    """Join the RDMs of the layers of some networks (all by default)."""
    chosen = list(yield_versions(context)) if versions is None else versions
    found: list[Any] = [load_rdms(build_rdm_path(context, v)) for v in chosen]
    if len({one.dissimilarity_measure for one in found}) > 1:  # each network may have its own measure
        for one in found:
            one.dissimilarity_measure = "of each network"
    return stack_rdms(found)


def list_layer_names(models: RDMs) -> list[tuple[str, str]]:
    """Return the network (or control) and layer of each model RDM."""
    found = models.rdm_descriptors
    return [(str(n), str(layer)) for n, layer in zip(found["network"], found["layer"], strict=True)]


def class_names(loaded: Loaded) -> tuple[str, ...] | None:
    """Return the names of the network's classes where they are known."""
    names = getattr(loaded.settings, "classes", None) or loaded.checkpoint.classes
    return tuple(names) if names else None


CALLS_COLUMNS = {
    "stimulus_id": "stimulus",
    "condition": "what it is",
    "called": "class of the network's largest logit",
}


def describe_calls(context: Context, loaded: Loaded, names: tuple[str, ...], *, done: bool) -> str:
    """Describe how many sounds a network classifies as their condition; read from the results where they are `done`."""
    kept = read_calls_line(context, loaded.settings) if done else None
    return _predict_calls(context, loaded, names)[1] if kept is None else kept


def read_calls_line(context: Context, network: Network | Baselines) -> str | None:
    """Read the same line from the results; None where they do not contain it."""
    about = context.read_sidecar(build_features_path(context, network.name, "calls.tsv"))
    return str(about["Calls"]) if "Calls" in about else None


def write_calls(context: Context, loaded: Loaded, names: tuple[str, ...], about: Mapping[str, Any]) -> Iterator[Path]:
    """Write the classes that a network predicts as a table, with the count in its sidecar, and return both files."""
    called, line = _predict_calls(context, loaded, names)
    sounds = loaded.sounds
    table = pd.DataFrame({"stimulus_id": sounds.items, "condition": sounds.conditions, "called": called})
    path = make_parent(build_features_path(context, loaded.settings.name, "calls.tsv"))
    yield from context.save_table(table, path, columns=CALLS_COLUMNS, about={**about, "Calls": line})


def _predict_calls(context: Context, loaded: Loaded, names: tuple[str, ...]) -> tuple[list[str], str]:
    """Predict the class of every sound, and describe the count; computed once per call of brainmap."""
    name = loaded.settings.name

    def predict() -> tuple[list[str], str]:
        from brainmap.features.evaluation.understanding import check_understanding

        calls, logits = check_understanding(name, loaded.model, loaded.sounds, names, device=context.device)
        return [names[k] for k in np.asarray(logits).argmax(axis=1)], calls.line()

    if name not in context.calls:
        key = [name, loaded.sounds.digest, loaded.sounds.conditions, loaded.sounds.level, names]
        called, line = loaded.keep("calls", key, predict)
        context.calls[name] = called, line
    return context.calls[name]
