"""Define the parts of a study file on encoding models: ridge regression from layers to regions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from brainmap.study.settings.brain import Band, Section
from brainmap.types import EncodingTarget, FoldGroups


class EncodingModels(Section):
    """Describe encoding models: ridge regression from each layer to each region, scored on sounds it has not seen."""

    targets: EncodingTarget = "roi"  # the mean of each region, or each of its voxels, whose scores are averaged then
    groups: FoldGroups = "condition"  # what a fold never divides
    folds: int = Field(default=5, ge=2)
    alphas: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(default=None, min_length=1)  # None: 0.1 to 1e8
    reliability_floor: float = Field(default=0.0, ge=0, lt=1)  # at or below it there is no corrected score
    few_items: bool = False  # allow fewer than 40 sounds
    bands: tuple[Band, ...] = Field(default=(), max_length=8)  # NETWORK or NETWORK:LAYER: what each adds
    permutations: int = Field(default=1000, ge=1)  # of the sounds, shared by all participants


Seconds = Annotated[float, Field(ge=0)]
Scans = Annotated[int, Field(ge=0)]
