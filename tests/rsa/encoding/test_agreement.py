"""The agreement of layer profiles is Spearman's correlation within regions and participants."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from brainmap.errors import InputError
from brainmap.rsa.encoding.agreement import correlate_profiles


def test_it_is_spearmans_correlation_of_each_region_and_participant() -> None:
    rng = np.random.default_rng(3)
    one, other = rng.normal(size=(2, 9, 3, 4)).round(1)  # with ties
    found = correlate_profiles(one, other)
    assert found.shape == (3, 4)
    for place in np.ndindex(3, 4):
        assert found[place] == pytest.approx(spearmanr(one[:, *place], other[:, *place]).statistic, abs=1e-12)


def test_layers_without_a_score_are_left_out_and_few_or_equal_ones_have_none() -> None:
    rng = np.random.default_rng(3)
    one, other = rng.normal(size=(2, 6, 1, 3))
    one[2, 0, 0] = other[:3, 0, 1] = np.nan
    other[:, 0, 2] = 0.3
    found = correlate_profiles(one, other)[0]
    kept = np.arange(6) != 2
    assert found[0] == pytest.approx(spearmanr(one[kept, 0, 0], other[kept, 0, 0]).statistic, abs=1e-12)
    assert np.isnan(found[1:]).all()


def test_other_shapes_are_refused() -> None:
    rng = np.random.default_rng(3)
    with pytest.raises(InputError, match="of one shape"):
        correlate_profiles(rng.normal(size=(5, 1, 2)), rng.normal(size=(4, 1, 2)))
