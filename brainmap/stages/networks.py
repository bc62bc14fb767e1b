"""Stage 1: every network's activations of the sounds, and the RDM of every layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from brainmap.checks import some
from brainmap.errors import InputError
from brainmap.features.activations import extract_activations
from brainmap.features.checkpoints import Checkpoint, load_checkpoint, load_network
from brainmap.features.controls import control_network
from brainmap.features.sounds import Sounds
from brainmap.record import content_key, file_digest
from brainmap.rsa.alignment import stack_rdms
from brainmap.rsa.rdm import compute_rdms, load_rdms, save_rdms
from brainmap.stages.context import Context, ready, slug
from brainmap.study import Network

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

VERSION = 1


@dataclass(frozen=True)
class Loaded:
    """A network of the study, ready to hear its sounds."""

    settings: Network
    model: nn.Module
    checkpoint: Checkpoint
    sounds: Sounds
    digest: str

    @property
    def n_parameters(self) -> int:
        """Trainable parameters."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)


@dataclass(frozen=True)
class Version:
    """A network as it was trained, or one of its controls."""

    network: Network
    control: str  # "", "untrained" or "permuted"

    @property
    def name(self) -> str:
        """Name in tables: `ch32`, `ch32-untrained`."""
        return f"{self.network.name}-{self.control}" if self.control else self.network.name

    def slug(self, layer: str) -> str:
        """Name in files: `ch32trainedconv4`."""
        return slug(f"{self.network.name}{self.control or 'trained'}{layer}")


def versions_of(context: Context) -> Iterator[Version]:
    """All networks of the study, each followed by its controls."""
    for network in context.study.settings.network:
        yield from (Version(network, control) for control in ("", *network.controls))


def load(context: Context, network: Network) -> Loaded:
    """Load a checkpoint and the sounds as it wants them.

    Raises
    ------
    InputError
        A rate or length that differs from what the checkpoint was trained with; weights that do not fit.
    """
    path = context.study.resolve(network.checkpoint)
    model = load_network(
        path,
        architecture=network.architecture,
        variant=network.variant,
        n_classes=len(network.classes) if network.classes else None,
    )
    checkpoint = feeding(network, path)
    sounds = context.sounds_for(network, checkpoint)
    return Loaded(network, model, checkpoint, sounds, file_digest(path))


def feeding(network: Network, path: str) -> Checkpoint:
    """How a network is fed: what its checkpoint says, completed and never contradicted by the study file."""
    given = {k: getattr(network, k) for k in ("rate", "level", "align", "classes") if getattr(network, k) is not None}
    if network.seconds is not None:
        given["n_samples"] = round(network.seconds * (network.rate or 16_000))
    try:
        stored = load_checkpoint(path)
    except InputError:
        if network.rate is None or network.seconds is None:
            raise InputError(
                f"[network] {network.name}: {path} does not say how it was fed; give rate (Hz) and seconds in the study"
            ) from None
        return Checkpoint(architecture=network.architecture or "", **given)
    for key, value in given.items():
        if value != getattr(stored, key):
            raise InputError(
                f"[network] {network.name}: {key} is {value!r} in the study and {getattr(stored, key)!r} in the "
                f"checkpoint it was trained with; leave {key} out of the study"
            )
    return stored


def rdm_path(context: Context, version: Version) -> Path:
    """Where the RDMs of a network's layers lie."""
    return context.study.out / "rdms" / f"network-{slug(version.name)}_rdms.h5"


def store_path(context: Context, version: Version) -> Path:
    """Where the activations of a network lie."""
    return context.study.out / "features" / f"{version.name}.zarr"


def run_networks(context: Context) -> dict[str, Loaded]:
    """Activations and RDMs of all networks and controls; gives the networks that were loaded."""
    loaded = {n.name: load(context, n) for n in context.study.settings.network}
    for version in versions_of(context):
        one = loaded[version.network.name]
        check_items(context, one)
        key = network_key(context, one, version)
        context.stage(f"network-{version.name}", key, lambda v=version, o=one, k=key: _compute(context, o, v, k))
    return loaded


def network_key(context: Context, loaded: Loaded, version: Version) -> str:
    """What the RDMs of a network depend on."""
    settings = version.network.model_dump(exclude={"checkpoint", "controls"})
    return content_key(
        VERSION,
        loaded.digest,
        settings,
        version.control,
        loaded.sounds.digest,
        context.study.settings.rsa.items,
        loaded.sounds.conditions,
        context.study.settings.study.seed if version.control else 0,
    )


def check_items(context: Context, loaded: Loaded) -> None:
    """Refuse fewer than three items."""
    wanted = 3
    level = context.study.settings.rsa.items
    labels = set(loaded.sounds.items if level == "stimulus" else loaded.sounds.conditions)
    if len(labels) < wanted:
        raise InputError(
            f"[rsa] items = {level!r}: the study has {len(labels)} of them ({some(sorted(labels))}), "
            f"wanted at least {wanted}"
        )


def _compute(context: Context, loaded: Loaded, version: Version, key: str) -> list[Path]:
    network, seed = version.network, context.study.settings.study.seed
    model = loaded.model
    if version.control:
        rng = np.random.default_rng(np.random.SeedSequence([seed, *version.name.encode()]))
        model = control_network(model, kind=version.control, rng=rng, sounds=loaded.sounds)  # type: ignore[arg-type]
    activations = extract_activations(
        model,
        loaded.sounds,
        layers=network.layers,
        pooling=network.pooling,
        store=store_path(context, version),
        device=context.device,
        network=version.name,
        key=key,
    )
    rdms = compute_rdms(
        activations,
        dissimilarity=network.dissimilarity,
        items=context.study.settings.rsa.items,
        units=None if network.units == "none" else "zscore",
        descriptors={"network": version.name},
    )
    activations.close()
    path = save_rdms(rdms, ready(rdm_path(context, version)))
    about = context.about(
        {
            "network": network.model_dump(),
            "control": version.control or "none",
            "items": context.study.settings.rsa.items,
        },
        [context.study.resolve(network.checkpoint), context.study.resolve(context.study.settings.stimuli.table)],
    )
    return [path, context.sidecar(path, about), store_path(context, version)]


def model_rdms(context: Context, versions: list[Version] | None = None) -> RDMs:
    """The RDMs of the layers of some (default all) networks, as one object."""
    chosen = list(versions_of(context)) if versions is None else versions
    found: list[Any] = [load_rdms(rdm_path(context, v)) for v in chosen]
    return stack_rdms(found)


def class_names(loaded: Loaded) -> tuple[str, ...] | None:
    """Names of the network's classes where anything says them."""
    names = loaded.settings.classes or loaded.checkpoint.classes
    return tuple(names) if names else None
