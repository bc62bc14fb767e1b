"""Represent a network of the study as it was trained, one of its controls, or the acoustic baselines."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from brainmap.features.networks.checkpoints import Checkpoint
from brainmap.features.sounds.files import Sounds
from brainmap.names import slug
from brainmap.study.settings.study import Baselines, Network


@dataclass(frozen=True)
class Loaded:
    """Hold a network of the study with its sounds; `digest` identifies the function that it computes."""

    settings: Network | Baselines
    model: nn.Module
    checkpoint: Checkpoint
    sounds: Sounds
    digest: str


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
