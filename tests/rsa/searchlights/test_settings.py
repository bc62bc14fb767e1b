"""The settings that spheres, discs and ceilings share: what is refused, and which noise is chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rsatoolbox.data.dataset import Dataset

from brainmap.errors import InputError
from brainmap.rsa.patterns.residuals import Residuals
from brainmap.rsa.rdm.run_noise import RunNoise
from brainmap.rsa.searchlights.settings import SearchlightSettings

CROSSNOBIS = SearchlightSettings(dissimilarity="crossnobis")


def data_of(n_runs: int) -> Dataset:
    rng = np.random.default_rng(0)
    names = [f"s{k}" for k in range(4)] * n_runs
    run = np.repeat([str(k) for k in range(n_runs)], 4)
    described = {"stimulus_id": np.array(names), "run": run}
    return Dataset(
        rng.normal(size=(4 * n_runs, 3)), obs_descriptors=described, channel_descriptors={"voxel": np.array([0, 2, 3])}
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"dissimilarity": "mahalanobis"}, "searchlight dissimilarity"),
        ({"measure": "bures"}, "searchlight measure"),
        ({"runs": "all"}, "searchlight runs"),
        ({"items": "condtion"}, "searchlight items"),
    ],
)
def test_what_a_searchlight_does_not_support_is_refused(given: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        SearchlightSettings(**given)


def test_an_alias_of_a_measure_is_resolved() -> None:
    assert SearchlightSettings(measure="kendall").scale == "tau-b"


def test_noise_is_that_of_voxels_for_crossnobis_alone_and_of_spheres_where_asked() -> None:
    assert SearchlightSettings().choose_noise(data_of(3), source="runs") is None
    assert CROSSNOBIS.choose_noise(data_of(3), source="none") is None
    assert CROSSNOBIS.choose_noise(data_of(1), source="runs") is None
    assert SearchlightSettings().choose_noise(data_of(3), source="runs", place="sphere") == "runs"
    found = CROSSNOBIS.choose_noise(data_of(3), source="runs")
    assert isinstance(found, RunNoise)
    assert found.method == "diag"


def test_residuals_give_the_standard_deviation_of_each_voxel_and_are_refused_where_one_does_not_vary() -> None:
    part = np.random.default_rng(1).normal(size=(20, 4))
    left = Residuals([part], None, ("errts.nii",))
    found = CROSSNOBIS.choose_noise(data_of(2), source="residuals", residuals=left)
    np.testing.assert_allclose(np.asarray(found), part[:, [0, 2, 3]].std(axis=0, ddof=1), rtol=1e-12)
    assert CROSSNOBIS.choose_noise(data_of(2), source="residuals", place="sphere", residuals=left) is left
    part[:, 2] = 1.0
    with pytest.raises(InputError, match=r"1 voxels of the mask do not vary in the residuals.*errts.nii"):
        CROSSNOBIS.choose_noise(data_of(2), source="residuals", residuals=left)
