"""Planted participants: noise as stated, the layer's geometry, and the truth found again."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from brainmap.errors import InputError
from brainmap.rsa.simulation.bold import _build_trial_regressors, fill_volumes, simulate_bold
from brainmap.rsa.simulation.participants import matched_geometry, plant_patterns, simulate_participant

PAIRS = np.triu_indices(12, 1)


def squared_distances(patterns):
    return ((patterns[:, None] - patterns[None]) ** 2).mean(-1)[PAIRS]


def correlation_distances(features):
    z = (features - features.mean(0)) / features.std(0)
    return 1 - np.corrcoef(z)[PAIRS]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def features():
    return np.random.default_rng(1).normal(size=(12, 10)) ** 2


@pytest.fixture
def brain():
    """A ball of 4 mm voxels with two small boxes in it: (mask, regions)."""
    at = np.indices((15, 16, 17)).transpose(1, 2, 3, 0)
    ball = np.linalg.norm(at - 8.0, axis=-1) < 6.5
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    left, right = np.zeros((2, *ball.shape), dtype=bool)
    left[4:8, 6:11, 6:11] = right[10:12, 6:11, 6:11] = True
    return nib.Nifti1Image(ball.astype(np.uint8), affine), {"left": left, "right": right}


def test_rows_fill_volumes_as_indexing_does_and_in_the_order_of_files(brain, rng):
    inside = np.asarray(brain[0].dataobj) > 0
    rows = rng.normal(size=(3, inside.sum())).astype(np.float32)
    expected = np.zeros((*inside.shape, 3), dtype=np.float32)
    expected[inside] = rows.T
    found = fill_volumes(rows, inside)
    np.testing.assert_array_equal(found, expected)
    assert found.flags.f_contiguous


def test_points_have_the_layers_correlation_distances_whatever_units_are_dead(features):
    dead = np.hstack([features, np.full((12, 3), 7.0)])
    points = matched_geometry(dead)
    squared = ((points[:, None] - points[None]) ** 2).sum(-1)[PAIRS]
    np.testing.assert_allclose(squared, 2 * correlation_distances(features), atol=1e-12)


def test_planted_distances_are_the_mixture_of_shared_and_own_geometry(features, rng):
    patterns = plant_patterns(
        features, n_voxels=150_000, rng=rng, specific=0.3, participant_rng=np.random.default_rng(5)
    )
    relabeled = np.random.default_rng(5).permutation(12)
    mixture = 0.7 * correlation_distances(features) + 0.3 * correlation_distances(features[relabeled])
    np.testing.assert_allclose(squared_distances(patterns), 2 * mixture, atol=0.05)


def test_noise_has_unit_variance_and_the_stated_smoothness_everywhere(brain, features, rng):
    mask, _ = brain
    grid = {"edge": np.asarray(mask.dataobj) > 0}
    pure = simulate_participant({"edge": features}, grid, mask=mask, rng=rng, n_runs=150, signal=0.0, fwhm_mm=6.0).betas
    noise = pure.reshape(-1, pure.shape[-1])
    assert noise.std(0).min() > 0.9
    assert noise.std(0).max() < 1.1
    at = np.argwhere(grid["edge"])
    index = {tuple(voxel): k for k, voxel in enumerate(at)}
    pairs = [(k, index[(i + 1, j, m)]) for (i, j, m), k in index.items() if (i + 1, j, m) in index]
    correlation = np.mean([np.mean(noise[:, a] * noise[:, b]) for a, b in pairs])
    # The smoothing Gaussian is sampled at 4 mm, hence not exact.
    assert correlation == pytest.approx(np.exp(-(4.0**2) / (4 * (6.0 / 2.3548) ** 2)), abs=0.05)


def test_noise_follows_the_order_of_presentation_not_of_the_table(brain, features, rng):
    mask, regions = brain
    planted = {"left": features, "right": None}
    simulated = simulate_participant(planted, regions, mask=mask, rng=rng, n_runs=40, signal=0.0, ar=0.3)
    presented = np.take_along_axis(simulated.betas, simulated.orders[..., None], axis=1)
    assert np.mean(presented[:, 1:] * presented[:, :-1]) == pytest.approx(0.3, abs=0.03)
    assert np.mean(simulated.betas[:, 1:] * simulated.betas[:, :-1]) == pytest.approx(0.3 / 12 * 2, abs=0.04)
    assert len({tuple(order) for order in simulated.orders}) == 40
    assert all(sorted(order) == list(range(12)) for order in simulated.orders)


def test_signal_is_planted_in_its_region_only_and_at_the_stated_strength(brain, features, rng):
    mask, regions = brain
    layers = {"left": features, "right": None}
    pure = {"mask": mask, "rng": rng, "n_runs": 1, "signal": 0.2, "specific": 0.0}
    participants = [simulate_participant(layers, regions, **pure) for _ in range(60)]
    distances = np.mean([squared_distances(one.planted["left"]) for one in participants], axis=0)
    assert distances.std() == pytest.approx(0.2, rel=0.1)
    assert np.corrcoef(distances, correlation_distances(features))[0, 1] > 0.95
    simulated = participants[0]
    signal = simulated.signal()
    inside = np.asarray(mask.dataobj) > 0
    assert set(simulated.planted) == {"left"}
    np.testing.assert_array_equal(np.any(signal != 0, axis=0), regions["left"][inside])


def test_runs_share_the_signal_and_a_seed_gives_the_same_participant(brain, features):
    mask, regions = brain
    layers = {"left": features, "right": None}

    def simulate(seed, n_runs=4):
        rng = np.random.default_rng(seed)
        return simulate_participant(layers, regions, mask=mask, rng=rng, n_runs=n_runs, signal=0.2)

    one, again, other = simulate(3), simulate(3), simulate(4)
    np.testing.assert_array_equal(one.betas, again.betas)
    assert not np.array_equal(one.orders, other.orders)
    many = simulate(3, n_runs=200)
    np.testing.assert_allclose(many.betas.mean(0), many.signal(), atol=0.4)


def test_a_glm_on_the_bold_gives_betas_with_the_signal_to_noise_of_the_participant(brain, features, rng):
    from nilearn.glm.first_level import make_first_level_design_matrix

    mask, regions = brain
    layers = {"left": features, "right": None}
    simulated = simulate_participant(layers, regions, mask=mask, rng=rng, n_runs=6, signal=0.3)
    items = [f"item{k:02d}" for k in range(12)]
    bold = simulate_bold(simulated, items, mask=mask, rng=rng)
    inside = np.asarray(mask.dataobj) > 0
    fitted = []
    for image, events in zip(bold.images, bold.events, strict=True):
        assert image.get_data_dtype() == np.int16
        series = np.asarray(image.dataobj)
        assert not series[~inside].any()
        scans = bold.t_r * np.arange(series.shape[-1])
        design = make_first_level_design_matrix(scans, events, drift_model="cosine", high_pass=1 / 80)
        betas = np.linalg.lstsq(design.to_numpy(), series[inside].T.astype(float), rcond=None)[0]
        fitted.append(betas[[design.columns.get_loc(item) for item in items]])
    for order, events in zip(simulated.orders, bold.events, strict=True):
        assert list(events["trial_type"]) == [items[k] for k in order]
        assert events["onset"].is_monotonic_increasing

    where = simulated.voxels["left"]
    fitted = np.stack(fitted)[:, :, where]
    fitted = fitted - fitted.mean(1, keepdims=True)
    truth = simulated.planted["left"] - simulated.planted["left"].mean(0)
    ours = simulated.betas[:, :, where] - simulated.betas[:, :, where].mean(1, keepdims=True)
    wanted = np.mean([np.corrcoef(run.ravel(), truth.ravel())[0, 1] for run in ours])
    found = np.mean([np.corrcoef(run.ravel(), truth.ravel())[0, 1] for run in fitted])
    assert found == pytest.approx(wanted, rel=0.3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"planted": {"left": np.ones((12, 1, 2)), "right": None}}, "3 items or more"),
        ({"planted": {"left": np.full((12, 4), np.nan), "right": None}}, "NaN or infinity"),
        ({"planted": {"left": np.ones((12, 4)), "right": None}}, "at least 2 units that vary over items, got 0"),
        ({"planted": {"left": np.eye(12), "right": None}}, "equally far apart"),
        ({"planted": {"left": None, "right": None}}, "at least one planted region"),
        ({"planted": {"left": np.eye(12)}}, "None plants nothing"),
        ({"overlap": True}, "got 20 shared voxels"),
        ({"outside": True}, "at least one voxel inside the mask, got none"),
        ({"grid": True}, "expected the mask's grid (15, 16, 17), got (14, 16, 17)"),
        ({"ar": 1.0}, "ar between -1 and 1, got 1.0"),
        ({"specific": 1.0}, "a share, from 0 to below 1, got"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(brain, features, rng, change, message):
    mask, regions = brain
    change = dict(change)
    planted = change.pop("planted", {"left": features, "right": None})
    if change.pop("overlap", False):
        regions["right"][7, 6:10, 6:11] = True
    if change.pop("outside", False):
        regions["right"] = np.zeros_like(regions["right"])
    if change.pop("grid", False):
        regions["right"] = regions["right"][:-1]
    with pytest.raises(InputError) as caught:
        simulate_participant(planted, regions, mask=mask, rng=rng, **change)
    assert message in str(caught.value)


@pytest.mark.parametrize(("t_r", "duration"), [(2.0, 1.0), (0.8, 0.0), (1.35, 3.3)])
def test_trial_regressors_are_those_of_nilearn(t_r: float, duration: float) -> None:
    from nilearn.glm.first_level import compute_regressor

    scans, onsets = t_r * np.arange(90), np.array([0.0, 6.1, 11.7, 40.0, 89 * t_r, 90.5 * t_r])
    found = _build_trial_regressors(onsets, duration, scans)
    wanted = [compute_regressor(np.array([[one], [duration], [1.0]]), "spm", scans)[0][:, 0] for one in onsets]
    np.testing.assert_allclose(found, np.stack(wanted, axis=1), atol=1e-12)
