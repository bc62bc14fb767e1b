"""Represent a network of the study as it was trained, one of its controls, or the acoustic baselines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brainmap.features.networks.description import Checkpoint
from brainmap.features.networks.opened import Opened
from brainmap.features.sounds.files import Sounds
from brainmap.names import slug
from brainmap.study.settings.study import Baselines, Network

if TYPE_CHECKING:
    from torch import nn


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
    """Represent a network as it was trained, one of its controls, or the acoustic baselines."""

    network: Network | Baselines
    control: str  # "", "untrained" or "permuted"

    @property
    def name(self) -> str:
        """Return the name in tables: `ch32`, `ch32-untrained`."""
        return f"{self.network.name}-{self.control}" if self.control else self.network.name

    def slug(self, layer: str) -> str:
        """Return the name in files: `ch32trainedconv4`."""
        return slug(f"{self.network.name}{self.state}{layer}")

    @property
    def state(self) -> str:
        """Return "trained", "untrained" or "permuted"; the text is empty for baselines, which have no weights."""
        return self.control or ("trained" if isinstance(self.network, Network) else "")
