"""Define what a study file says of explaining layers: activation maximization and class activation maps."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from brainmap.study.settings.brain import Section
from brainmap.types import PatternPrior


class Maximizing(Section):
    """Describe activation maximization of the class units and of some channels of the best layers."""

    steps: int = Field(default=150, ge=1)
    classes: Annotated[int, Field(ge=0)] | Literal["all"] = "all"
    channels: int = Field(default=8, ge=0)  # channels of each best layer
    best_layers: int = Field(default=2, ge=0)
    regions: int = Field(default=6, ge=0)  # with [encoding]: regions whose sounds are shown, those with the highest r
    prior: PatternPrior | None = None  # of classes; default: the decoder for networks of words, and audio beside it
    decoder: str | None = None  # file of a decoder; default: the included one
    judges: Literal["package", "none"] | tuple[str, ...] = "package"  # checkpoints that judge patterns of classes

    @model_validator(mode="after")
    def _a_decoder_for_its_prior(self) -> Maximizing:
        if self.decoder is not None and self.prior not in (None, "decoder"):
            raise ValueError(f"prior = {self.prior!r} takes no decoder; leave decoder out, or say prior = 'decoder'")
        return self


class Cam(Section):
    """Describe class activation maps."""

    method: Literal["grad-cam", "grad-cam++", "xgrad-cam", "layer-cam", "hires-cam", "cam"] = "grad-cam"
    layer: str = "last-conv"


class Explain(Section):
    """Describe how layers are explained."""

    network: str | None = None  # default: the first
    maximization: Maximizing = Maximizing()
    cam: Cam = Cam()
