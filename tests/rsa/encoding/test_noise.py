"""Reliability recovers what was simulated, also with gaps, and corrected scores follow their formulas."""

from __future__ import annotations

import numpy as np
import pytest

from brainmap.rsa.encoding.noise import correct_for_noise, measure_prediction_reliability, measure_reliability


@pytest.mark.parametrize("n_runs", [2, 3, 6])
def test_the_reliability_of_the_mean_is_recovered(n_runs):
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(150, 300))
    values = signal + np.sqrt(n_runs * (0.7 / 0.3)) * rng.normal(size=(n_runs, 150, 300))  # true reliability .3
    found = measure_reliability(values)
    assert found.mean() == pytest.approx(0.3, abs=0.02)
    # an oracle that shares nothing: the squared correlation of the mean with the signal
    mean = values.mean(axis=0)
    r = [np.corrcoef(mean[:, v], signal[:, v])[0, 1] ** 2 for v in range(300)]
    assert np.mean(found) == pytest.approx(np.mean(r), abs=0.02)


def test_two_runs_give_the_split_half_formula():
    rng = np.random.default_rng(1)
    signal = rng.normal(size=(80, 5))
    values = signal + rng.normal(size=(2, 80, 5))
    r = np.array([np.corrcoef(values[0, :, v], values[1, :, v])[0, 1] for v in range(5)])
    np.testing.assert_allclose(measure_reliability(values), 2 * r / (1 + r))


def test_gaps_do_not_bias_the_reliability():
    rng = np.random.default_rng(2)
    values = rng.normal(size=(200, 200)) + np.sqrt(2) * rng.normal(size=(4, 200, 200))
    for run in range(4):
        values[run, rng.permutation(200)[:100]] = np.nan
    values = values[:, (~np.isnan(values[:, :, 0])).any(axis=0)]
    repetitions = (~np.isnan(values[:, :, 0])).sum(axis=0).mean()
    assert measure_reliability(values).mean() == pytest.approx(repetitions / (repetitions + 2), abs=0.03)


def test_one_run_has_no_reliability_and_a_constant_voxel_neither():
    assert np.isnan(measure_reliability(np.random.default_rng(3).normal(size=(1, 30, 2)))).all()
    values = np.random.default_rng(4).normal(size=(2, 30, 2))
    values[:, :, 1] = 5.0
    assert np.isnan(measure_reliability(values)).tolist() == [False, True]


def test_the_reliability_of_predictions_is_that_of_repeated_measurement():
    rng = np.random.default_rng(5)
    predicted = rng.normal(size=(400, 50)) + rng.normal(size=(3, 400, 50))  # one: .5; three: .75
    found = measure_prediction_reliability(predicted, np.repeat(np.arange(4), 100))
    assert found.mean() == pytest.approx(0.75, abs=0.02)


def test_the_floor_is_explicit():
    r, reliability = np.array([0.2, 0.2, 0.2]), np.array([0.05, 0.16, np.nan])
    np.testing.assert_allclose(correct_for_noise(r, reliability), [0.2 / np.sqrt(0.05), 0.5, np.nan])
    np.testing.assert_allclose(correct_for_noise(r, reliability, 0.1), [np.nan, 0.5, np.nan])
