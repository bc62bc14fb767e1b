"""Hold the settings that spheres, discs and noise ceilings share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from brainmap.checks import check_choice, check_literals, list_some
from brainmap.errors import InputError
from brainmap.resources import find_float64_device
from brainmap.rsa.comparison.measures import ALIASES
from brainmap.rsa.patterns.residuals import Residuals
from brainmap.rsa.rdm.alignment import LABEL_OF
from brainmap.rsa.rdm.run_noise import noise_precision
from brainmap.rsa.searchlights.noise import NoiseSource
from brainmap.types import (
    Dataset,
    Device,
    Level,
    Measure,
    NoiseFrom,
    NoisePlace,
    RunPairing,
    SearchlightDissimilarity,
    Shrinkage,
)

MEASURES = ("spearman", "rho-a", "tau-a", "tau-b", "pearson", "cosine", "corr_cov", "cosine_cov")


@dataclass(frozen=True, kw_only=True)
class SearchlightSettings:
    """Hold how the RDM of a neighborhood is computed and compared with models.

    Attributes
    ----------
    dissimilarity, measure, items, runs, labels, shrinkage, pooled
        As in `brainmap.rsa.searchlight`; an alias of a measure is accepted, see `scale`.
    minimum : int
        Smallest number of voxels or vertices of a neighborhood that has a score.
    device : {"cpu", "cuda", "auto"}
        As in `brainmap.rsa.searchlight`; a device that is missing is refused here, before anything is loaded.

    Raises
    ------
    InputError
        A searchlight does not support the dissimilarity, the measure, the pairing of runs or the level, or the device
        is missing.
    """

    dissimilarity: SearchlightDissimilarity = "correlation"
    measure: Measure | str = "spearman"
    items: Level | None = None
    runs: RunPairing = "between"
    labels: Sequence[str] | None = None
    shrinkage: Shrinkage = "diag"
    pooled: bool = True
    minimum: int = 10
    device: Device = "cpu"

    def __post_init__(self) -> None:
        check_literals(
            (self.dissimilarity, SearchlightDissimilarity, "searchlight dissimilarity"),
            (self.runs, RunPairing, "searchlight runs"),
            (self.device, Device, "searchlight device"),
        )
        check_choice(self.scale, MEASURES, "searchlight measure")
        if self.items is not None:
            check_choice(self.items, tuple(LABEL_OF), "searchlight items")
        find_float64_device(self.device, "searchlight")

    @property
    def scale(self) -> Measure:
        """Return the name of the measure in place of its alias; bures would be too slow for a searchlight."""
        return cast(Measure, ALIASES.get(self.measure, self.measure))

    def choose_noise(
        self, data: Dataset, *, source: NoiseFrom, place: NoisePlace = "voxel", residuals: Residuals | None = None
    ) -> NoiseSource | None:
        """Return the noise of a searchlight as `searchlight` accepts it, for patterns of one participant.

        Parameters
        ----------
        data : rsatoolbox Dataset
        source : {"none", "runs", "residuals"}
        place : {"voxel", "sphere"}
            "sphere" gives each neighborhood a noise covariance of its own. "voxel" gives crossnobis the noise of each
            voxel: the standard deviation of residuals, or for each run what the other runs tell. Other dissimilarities
            then use no noise, and neither does a single run.
        residuals : Residuals, optional
            Residuals of the GLM, for the source "residuals".

        Raises
        ------
        InputError
            A voxel does not vary in the residuals, or runs are too few.
        """
        if place == "sphere":
            return residuals or "runs"
        if self.dissimilarity != "crossnobis" or source == "none":
            return None
        if residuals is None:
            several = len(set(data.obs_descriptors["run"])) > 1
            return noise_precision(data, method="diag") if several else None
        sd = residuals.deviations(np.asarray(data.channel_descriptors["voxel"], int))
        if not (sd > 0).all():
            raise InputError(
                f"{np.count_nonzero(~(sd > 0))} voxels of the mask do not vary in the "
                f"residuals{f' {list_some(residuals.files)}' if residuals.files else ''}; were these masked "
                "differently?"
            )
        return sd
