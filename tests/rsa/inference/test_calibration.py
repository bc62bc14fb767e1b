"""Calibration over simulated studies: tests reject at the size they can attain, and find what was planted.

Each test states its null. Two nulls differ: data independent of everything (participant tests keep their size), and a
geometry that participants share and no model explains (participant tests against 0 then reject by right: the scores
are not 0, and other participants would have them too; only resampled conditions answer whether other stimuli would).
Condition permutation and bootstraps are calibrated beside their other tests, and so are tests over voxels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rsatoolbox.rdm.rdms import RDMs
from scipy import stats

from brainmap.rsa import compute_rdms, score_statistics, split_half_best_layer, stack_rdms
from brainmap.rsa.comparison.measures import compare_vectors
from brainmap.rsa.inference.bootstrap import bootstrap_vectors
from brainmap.rsa.rdm.dissimilarity import compute_dissimilarities
from brainmap.rsa.simulation.participants import filter_ar1
from brainmap.rsa.simulation.rates import count_detections
from brainmap.rsa.simulation.rdms import Measurement, compute_geometry, draw_group, embed_rdm, find_signal_of_ceiling

pytestmark = pytest.mark.slow

N_SIMULATIONS, N_PEOPLE, N_ITEMS, N_REGIONS = 2000, 8, 14, 3
LAYERS = ("conv1", "conv2", "conv4", "conv7")


def models(n_items: int = N_ITEMS, alike: float = 0.5, seed: int = 0) -> RDMs:
    """Layers whose neighbors are alike, as those of networks are."""
    rng = np.random.default_rng(seed)
    features, found = rng.normal(size=(n_items, 12)), []
    for layer in LAYERS:
        features = np.sqrt(alike) * features + np.sqrt(1 - alike) * rng.normal(size=features.shape)
        items = {"stimulus_id": [f"s{k:02d}" for k in range(n_items)], "layer": layer}
        found.append(compute_rdms(features.copy(), descriptors=items))
    return stack_rdms(found)


def layer_scores(
    measure: str,
    how: Measurement,
    rng: np.random.Generator,
    *,
    signal: float = 0.0,
    n_studies: int = N_SIMULATIONS,
    n_regions: int = 1,
) -> np.ndarray:
    """Scores of the layers where conv4 is planted, or nothing: `(n_layers, n_studies, n_regions, n_people)`."""
    layers, n = models(), n_studies * n_regions * N_PEOPLE
    gram = compute_geometry(layers, 2, dissimilarity=how.dissimilarity).gram
    _, vectors = draw_group(gram, signal=signal, measurement=how, n_participants=n, rng=rng)
    scores = compare_vectors(layers.dissimilarities, vectors, measure=measure)
    return scores.reshape(len(LAYERS), n_studies, n_regions, N_PEOPLE)


@pytest.mark.parametrize(("measure", "dissimilarity"), [("rho-a", "crossnobis"), ("pearson", "correlation")])
def test_tests_over_participants_reject_at_their_attainable_size(measure: str, dissimilarity: Any) -> None:
    """Null: RDMs of noise, independent between participants and runs; a layer against 0, and against its neighbor.

    Planted: conv4, at a lower ceiling of about .15.
    """
    rng = np.random.default_rng(1)
    how = Measurement(n_runs=3, n_voxels=20, dissimilarity=dissimilarity)
    nothing = layer_scores(measure, how, rng)[:, :, 0]
    planted = layer_scores(measure, how, rng, signal=0.2, n_studies=400)[:, :, 0]
    sizes = {  # of 2^8 sign patterns: those whose p is at most .05, one-sided and two-sided
        "signed-rank": (10 / 256, 12 / 256),
        "sign-flip": (12 / 256, 12 / 256),
        "t": (0.05, 0.05),
    }
    for test, expected in sizes.items():
        for two_sided, size in zip((False, True), expected, strict=True):
            settings: dict[str, Any] = {"test": test, "alpha": 0.05, "two_sided": two_sided}
            (above, below, _), (power, _, _) = (
                count_detections(scores[2] - scores[1] if two_sided else scores[2], **settings)
                for scores in (nothing, planted)
            )
            error, found = np.sqrt(size * (1 - size) / N_SIMULATIONS), above + below
            said = f"{test}, {two_sided=}: {found:.4f}, wanted {size:.4f}; {above:.4f} above; power {power:.2f}"
            assert abs(found - size) < 4 * error, said
            assert power > (0.15 if two_sided else 0.6), said
            if two_sided:
                assert abs(above - below) < 4 * error, said
            else:
                assert below == 0, "a test against 0 is one-sided"


def test_the_largest_t_over_layers_and_regions_keeps_the_family_wise_size() -> None:
    """Null: as above, 4 layers that are alike in 3 regions; max-t is exact, FDR is at most as often wrong.

    Planted: conv4 in all three regions, at a lower ceiling of about .15.
    """
    how, rng = Measurement(n_runs=3, n_voxels=20), np.random.default_rng(2)
    settings: list[dict[str, Any]] = [
        {"test": "sign-flip", "correction": "max-t"},
        {"test": "sign-flip", "correction": "max-t", "alternative": "two-sided"},
        {"test": "signed-rank", "correction": "fdr"},
    ]

    def any_found(scores: np.ndarray) -> Any:
        return np.mean(
            [
                [(score_statistics(study, **one)["p_corrected"] <= 0.05).any() for one in settings]
                for study in scores.transpose(1, 0, 2, 3)
            ],
            axis=0,
        )

    wrong = any_found(layer_scores("rho-a", how, rng, n_regions=N_REGIONS))
    power = any_found(layer_scores("rho-a", how, rng, signal=0.2, n_studies=100, n_regions=N_REGIONS))
    error, said = 4 * np.sqrt(0.05 * 0.95 / N_SIMULATIONS), f"wrong {wrong}, power {power}"
    np.testing.assert_allclose(wrong[:2], 12 / 256, atol=error, err_msg=said)
    assert wrong[2] < 0.05 + error, said
    assert (power > 0.6).all(), said


def test_a_shared_geometry_that_no_model_explains_is_found_over_participants_and_not_over_conditions() -> None:
    """Null for conditions only: participants share a geometry that the model does not explain.

    Over participants the mean score is not 0, whichever sign it has by chance of these conditions: tests against 0
    reject by right, in many of the studies. Resampled conditions ask about other conditions, and do not.
    """
    rng, layers = np.random.default_rng(3), models()
    geometry = embed_rdm(layers.dissimilarities[2])
    rejected = {"participants": 0, "conditions": 0, "both": 0}
    found = dict(rejected)
    n = 150
    for explained, count in ((0.0, rejected), (1.0, found)):
        how = Measurement(n_runs=4, n_voxels=400, specific=0.1, explained=explained)
        for _ in range(n):
            _, data = draw_group(geometry.gram, signal=4.0, measurement=how, n_participants=N_PEOPLE, rng=rng)
            scores = compare_vectors(layers.dissimilarities[2:3], data, measure="pearson")
            count["participants"] += int(score_statistics(scores)["p"][0] <= 0.05)
            for over in ("conditions", "both"):
                result = bootstrap_vectors(
                    layers.dissimilarities[2:3],
                    data,
                    measure="pearson",
                    participants=None if over == "conditions" else rng.integers(N_PEOPLE, size=(40, N_PEOPLE)),
                    conditions=rng.integers(N_ITEMS, size=(40, N_ITEMS)),
                )
                count[over] += int(result.table("none")["p"].iloc[0] < 0.05)
    said = {over: f"{rejected[over] / n:.3f}, power {found[over] / n:.2f}" for over in rejected}
    assert rejected["participants"] > 0.3 * n, said
    assert max(rejected["conditions"], rejected["both"]) <= 0.065 * n + 3 * np.sqrt(0.065 * n), said
    assert min(found.values()) > 0.8 * n, said


@pytest.mark.parametrize("over", ["participants", "both"])
def test_bootstrapped_differences_of_two_models_stay_below_their_conservative_level(over: str) -> None:
    """Null: two models with equal claims on what participants share, both drawn anew with the conditions.

    Over participants alone these conditions are all there is, and one of the two is ahead there: that null is a shared
    geometry in which neither is (none, that is: data of noise). Planted: the first model only.
    """
    rng, n_items, n_resamples = np.random.default_rng(8), 12, 40
    i, j = np.triu_indices(n_items, 1)

    def p_value(shares: tuple[float, float]) -> float:
        points = rng.normal(size=(2, n_items, 5))
        distances = ((points[:, i] - points[:, j]) ** 2).sum(axis=-1)
        data = rng.normal(size=(N_PEOPLE, len(i))) * distances.std() + np.asarray(shares) @ distances
        found = bootstrap_vectors(
            distances,
            data,
            measure="pearson",
            participants=rng.integers(N_PEOPLE, size=(n_resamples, N_PEOPLE)),
            conditions=None if over == "participants" else rng.integers(n_items, size=(n_resamples, n_items)),
        )
        return float(found.pairs("none")["p"].iloc[0])

    equal = (0.0, 0.0) if over == "participants" else (0.7, 0.7)
    false = np.mean([p_value(equal) < 0.05 for _ in range(N_SIMULATIONS)])
    power = np.mean([p_value((1.4, 0.0)) < 0.05 for _ in range(100)])
    assert false <= 0.065, f"false positives {false:.3f}, power {power:.2f}"
    assert power > 0.7, f"false positives {false:.3f}, power {power:.2f}"


@pytest.mark.parametrize("shuffled", [False, True])
def test_order_in_time_makes_no_region_significant_under_the_defaults(shuffled: bool) -> None:
    """Null: noise that is correlated in time (AR .3), in one order of items for all runs and participants.

    The order is that of the table, word by word, or one shuffle of it; layers tell words apart, so that neighbors in
    time are neighbors in the model. Defaults: crossnobis between runs, rho-a, signed-rank, FDR over layers x regions.
    """
    rng, n_items, n_runs, n_studies = np.random.default_rng(4), 48, 4, 60
    order = rng.permutation(n_items) if shuffled else np.arange(n_items)
    near = np.abs(np.subtract.outer(np.argsort(order), np.argsort(order)))
    i, j = np.triu_indices(n_items, 1)
    words = np.arange(n_items) // 3
    # the layers of the table's order tell words apart; with a shuffle it takes a model that happens to follow it
    base = (words[i] != words[j]).astype(float) if not shuffled else 1 - 0.5 ** near[i, j]
    layers = base + 0.3 * rng.normal(size=(9, len(i)))
    significant = {"defaults": 0, "within runs": 0}
    for _ in range(n_studies):
        scores = {name: np.empty((9, N_REGIONS, N_PEOPLE)) for name in significant}
        for region, person in np.ndindex(N_REGIONS, N_PEOPLE):
            x = np.empty((n_runs, n_items, 60))
            x[:, order] = [filter_ar1(rng.normal(size=(n_items, 60)), 0.3) for _ in range(n_runs)]
            for name, vector in (
                ("defaults", compute_dissimilarities(x, dissimilarity="crossnobis")),
                ("within runs", compute_dissimilarities(x.mean(axis=0), dissimilarity="correlation")),
            ):
                scores[name][:, region, person] = compare_vectors(layers, vector, measure="rho-a")[:, 0]
        for name, one in scores.items():
            significant[name] += int((score_statistics(one)["p_corrected"] <= 0.05).any())
    assert significant["defaults"] == 0, significant
    assert significant["within runs"] == n_studies, significant


@pytest.mark.parametrize("folds", ["two", "five", "unbalanced", "precision of runs"])
def test_crossnobis_of_noise_is_0_on_average(folds: str) -> None:
    """Null: noise correlated in time and over voxels, in a fixed order; runs of any number, some without all items."""
    rng, n, n_items, n_voxels = np.random.default_rng(5), N_SIMULATIONS, 10, 12
    n_runs = {"two": 2, "five": 5}.get(folds, 4)
    mixing = np.linalg.cholesky(0.6 * np.eye(n_voxels) + 0.4)
    found = np.empty((n, n_items * (n_items - 1) // 2))
    for k in range(n):
        x = np.array([filter_ar1(rng.normal(size=(n_items, n_voxels)), 0.4) for _ in range(n_runs)]) @ mixing.T
        precision = None
        if folds == "unbalanced":
            x[0, :4] = x[1, 3:6] = x[0, 9] = np.nan  # every pair shares two runs
        if folds == "precision of runs":
            residuals = rng.normal(size=(n_runs, 40, n_voxels)) @ mixing.T
            precision = np.linalg.inv(residuals.transpose(0, 2, 1) @ residuals / 40)
        found[k] = compute_dissimilarities(x, dissimilarity="crossnobis", precision=precision)
    t = found.mean(axis=0) / found.std(axis=0, ddof=1) * np.sqrt(n)
    of_all = found.mean(axis=1)
    assert abs(of_all.mean() / of_all.std(ddof=1) * np.sqrt(n)) < 3.5
    assert np.abs(t).max() < stats.norm.isf(0.0005 / len(t))
    assert np.isfinite(found).all()


def test_the_planted_layer_wins_at_the_planted_rate() -> None:
    """Truth: one of three layers in each of 400 regions, with chances .2, .5, .3; lower ceiling .3, 8 participants."""
    rng, layers = np.random.default_rng(6), models(24)
    how, which = Measurement(n_runs=4, n_voxels=60), np.array([0, 2, 3])
    geometries = {k: compute_geometry(layers, k, dissimilarity="crossnobis") for k in which}
    signals = {
        k: find_signal_of_ceiling(one, 0.3, measure="rho-a", n_participants=N_PEOPLE, measurement=how, rng=rng)
        for k, one in geometries.items()
    }
    planted, winner = rng.choice(which, size=400, p=[0.2, 0.5, 0.3]), np.empty(400, int)
    for region, k in enumerate(planted):
        _, data = draw_group(geometries[k].gram, signal=signals[k], measurement=how, n_participants=N_PEOPLE, rng=rng)
        winner[region] = compare_vectors(layers.dissimilarities, data, measure="rho-a").mean(axis=1).argmax()
    assert (winner == planted).mean() > 0.97
    for k in which:
        assert (winner == k).mean() == pytest.approx((planted == k).mean(), abs=0.03)


def test_the_best_layer_of_one_half_is_scored_fairly_on_the_other() -> None:
    """Null: noise; the best of many layers has a score above 0 where it was chosen, and none on the other half.

    Planted: the layer is chosen on most splits, and its score on the other half is what that layer has there.
    """
    rng, layers = np.random.default_rng(7), models(24, alike=0.2)
    geometry = compute_geometry(layers, 2, dissimilarity="crossnobis")
    how, people = Measurement(n_runs=4, n_voxels=40), [f"{k:02d}" for k in range(1, 9)]
    flattered, fair, chosen = [], [], []
    for signal in [0.0] * 150 + [0.4] * 30:
        _, vectors = draw_group(geometry.gram, signal=signal, measurement=how, n_participants=8, rng=rng)
        brains = RDMs(
            vectors,
            rdm_descriptors={"participant": people},
            pattern_descriptors={"stimulus_id": layers.pattern_descriptors["stimulus_id"]},
        )
        table = split_half_best_layer(layers, brains, splits=6, rng=rng, by="stimulus")
        scores = compare_vectors(layers.dissimilarities, vectors, measure="rho-a").mean(axis=1)
        if signal:
            chosen.append((table["layer"][0] == "conv4", table["score"][0] / scores[2]))
        else:
            flattered.append(scores.max())
            fair.append(table["score"][0])
    t = [np.mean(x) / stats.sem(x) for x in (flattered, fair)]
    assert t[0] > 10
    assert abs(t[1]) < 3.5, t
    right, ratio = np.mean(chosen, axis=0)
    assert right > 0.95, right
    assert ratio == pytest.approx(1.0, abs=0.1)
