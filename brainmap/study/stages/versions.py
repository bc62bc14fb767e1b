"""A network of the study as it was trained, one of its controls, or the acoustic baselines."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from brainmap.features.networks.checkpoints import Checkpoint
from brainmap.features.sounds.files import Sounds
from brainmap.names import slug
from brainmap.study.settings.study import Baselines, Network


@dataclass(frozen=True)
class Loaded:
    """A network of the study, ready to hear its sounds; `digest` says what it computes."""

    settings: Network | Baselines
    model: nn.Module
    checkpoint: Checkpoint
    sounds: Sounds
    digest: str


@dataclass(frozen=True)
class Version:
    """A network as it was trained, one of its controls, or the acoustic baselines."""

    network: Network | Baselines
    control: str  # "", "untrained" or "permuted"

    @property
    def name(self) -> str:
        """Name in tables: `ch32`, `ch32-untrained`."""
        return f"{self.network.name}-{self.control}" if self.control else self.network.name

    def slug(self, layer: str) -> str:
        """Name in files: `ch32trainedconv4`."""
        return slug(f"{self.network.name}{self.state}{layer}")

    @property
    def state(self) -> str:
        """trained, untrained or permuted; nothing for baselines, which learn nothing."""
        return self.control or ("trained" if isinstance(self.network, Network) else "")
