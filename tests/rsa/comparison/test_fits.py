"""Selected, weighted and interpolated models against rsatoolbox's fitters, and planted weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rsatoolbox.inference import crossval
from rsatoolbox.model import ModelInterpolate, ModelSelect, ModelWeighted
from rsatoolbox.model.fitter import fit_interpolate, fit_optimize_positive, fit_regress_nn, fit_select
from rsatoolbox.rdm.rdms import RDMs

from brainmap.errors import InputError
from brainmap.rsa.comparison import fits as regression
from brainmap.rsa.comparison.fits import fit_weights, score_models
from brainmap.rsa.comparison.measures import compare_vectors

THEIRS = {"pearson": "corr", "cosine": "cosine", "cosine_cov": "cosine_cov", "corr_cov": "corr_cov", "rho-a": "rho-a"}


def family(rng: np.random.Generator, n: int = 4, n_items: int = 9) -> np.ndarray:
    return rng.gamma(2.0, size=(n, n_items * (n_items - 1) // 2))


def noisy(rng: np.random.Generator, truth: np.ndarray, n: int = 5, noise: float = 1.0) -> np.ndarray:
    return np.asarray(truth + noise * np.abs(rng.normal(size=(n, len(truth)))))


def direction(x: np.ndarray) -> np.ndarray:
    return np.asarray(x / np.linalg.norm(x))


def size(models: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt((models**2).mean(axis=1)))


def score(weights: np.ndarray, models: np.ndarray, data: np.ndarray, measure: str) -> float:
    return float(compare_vectors((weights / size(models)) @ models, data, measure=measure).mean())


@pytest.mark.parametrize("measure", ["pearson", "cosine", "cosine_cov"])
def test_weights_are_those_of_rsatoolboxes_non_negative_regression(measure: str) -> None:
    rng = np.random.default_rng(0)
    models = family(rng)
    data = noisy(rng, models[0] + 0.5 * models[2])
    theirs = fit_regress_nn(ModelWeighted("m", models), RDMs(data), method=THEIRS[measure])
    ours = fit_weights(models, data, measure=measure)
    # theirs solves the whitened case by conjugate gradients
    tolerance = 1e-4 if measure == "cosine_cov" else 1e-10
    np.testing.assert_allclose(direction(ours / size(models)), theirs, atol=tolerance)


@pytest.mark.parametrize("measure", ["pearson", "cosine"])
@pytest.mark.parametrize("against", [False, True])
def test_weighted_models_reach_the_score_of_a_general_optimizer(measure: str, against: bool) -> None:
    np.random.seed(0)  # noqa: NPY002 - their optimizer begins anywhere
    rng = np.random.default_rng(1)
    models = family(rng, n=3)
    data = noisy(rng, models[1]) if not against else noisy(rng, 12 - models.sum(axis=0), noise=0.1)
    theirs = fit_optimize_positive(ModelWeighted("m", models), RDMs(data), method=THEIRS[measure])
    ours = score(fit_weights(models, data, measure=measure), models, data, measure)
    if theirs.any():
        assert ours >= float(compare_vectors(theirs @ models, data, measure=measure).mean()) - 1e-6
    else:  # every RDM scores below 0: theirs then predicts nothing, and one alone hurts least
        assert against
        weights = fit_weights(models, data, measure=measure)
        assert np.count_nonzero(weights) == 1
        assert weights.argmax() == compare_vectors(models, data, measure=measure).mean(axis=1).argmax()


@pytest.mark.parametrize("measure", ["pearson", "cosine", "rho-a", "corr_cov"])
def test_the_selected_rdm_is_that_of_rsatoolbox(measure: str) -> None:
    rng = np.random.default_rng(2)
    for _ in range(8):
        models = family(rng)
        data = noisy(rng, models[rng.integers(4)], noise=3.0)
        theirs = fit_select(ModelSelect("m", models), RDMs(data), method=THEIRS[measure])
        assert fit_weights(models, data, kind="selected", measure=measure).argmax() == theirs


@pytest.mark.parametrize("measure", ["pearson", "cosine"])
def test_interpolated_models_lie_where_rsatoolboxes_do(measure: str) -> None:
    rng = np.random.default_rng(3)
    models = family(rng)
    data = noisy(rng, 0.3 * models[1] + 0.7 * models[2], noise=0.5)
    theirs = fit_interpolate(ModelInterpolate("m", models), RDMs(data), method=THEIRS[measure])
    ours = fit_weights(models, data, kind="interpolated", measure=measure)
    np.testing.assert_allclose(direction(ours / size(models)), direction(theirs), atol=1e-4)
    assert np.flatnonzero(ours).tolist() == [1, 2]


def test_rank_measures_take_weights_from_mean_ranks() -> None:
    rng = np.random.default_rng(4)
    models = family(rng, n_items=24)
    data = noisy(rng, 2 * models[0] + models[3], n=8, noise=0.3)
    weights = fit_weights(models, data, measure="rho-a")
    assert weights.sum() == pytest.approx(1.0)
    assert weights[0] > weights[3] > 0.15 > weights[1:3].sum()
    assert score(weights, models, data, "rho-a") > compare_vectors(models, data, measure="rho-a").mean(1).max() + 0.1


def test_missing_pairs_are_left_out() -> None:
    rng = np.random.default_rng(5)
    models, truth = family(rng), family(rng, 1)[0]
    data = noisy(rng, truth + models[0])
    models[2, 4] = np.nan
    data[:, 9] = np.nan
    rest = np.setdiff1d(np.arange(models.shape[1]), [4, 9])
    ours = fit_weights(models, data, measure="cosine")
    clean = fit_weights(models[:, rest], data[:, rest], measure="cosine")
    scale = np.sqrt(np.nanmean(models**2, axis=1)) / size(models[:, rest])
    np.testing.assert_allclose(direction(ours / scale), direction(clean), atol=0.02)


def described(vectors: np.ndarray, n_items: int, **rdm: list[str]) -> RDMs:
    names = np.array([f"i{k:02d}" for k in range(n_items)])
    return RDMs(
        vectors, descriptors={"level": "stimulus"}, rdm_descriptors=rdm, pattern_descriptors={"stimulus_id": names}
    )


@pytest.mark.parametrize("kind", ["selected", "weighted"])
@pytest.mark.parametrize("measure", ["pearson", "cosine"])
def test_scores_equal_rsatoolboxes_crossvalidation_on_the_same_folds(
    measure: str, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(6)
    n_items = 12
    models = family(rng, n_items=n_items)
    data = noisy(rng, models[1] + models[2], n=6)
    items = [np.arange(0, n_items, 2), np.arange(1, n_items, 2)]
    people = [np.array([0, 1, 2]), np.array([3, 4, 5])]

    class InOrder:
        """Folds that can be told: numbers dealt so that array_split gives the parts above."""

        def permutation(self, n: int) -> np.ndarray:
            return np.concatenate(items if n == n_items else people)

    rdms = RDMs(data)
    rdms.pattern_descriptors["index"] = np.arange(n_items)
    train, test = [], []
    for held_items in items:
        for held_people in people:
            rest_items, rest = np.setdiff1d(np.arange(n_items), held_items), np.setdiff1d(np.arange(6), held_people)
            train.append((rdms.subset("index", rest).subset_pattern("index", rest_items), rest_items))
            test.append((rdms.subset("index", held_people).subset_pattern("index", held_items), held_items))
    theirs_of = {"selected": (ModelSelect, fit_select), "weighted": (ModelWeighted, fit_regress_nn)}
    make, fitter = theirs_of[kind]
    theirs = crossval(
        make("m", models), rdms, train, test, method=THEIRS[measure], fitter=fitter, calc_noise_ceil=False
    )
    ours = score_models(
        {"net": described(models, n_items)},
        described(data, n_items),
        kind=kind,
        measure=measure,
        participant_folds=2,
        rng=InOrder(),
    )  # type: ignore[arg-type]
    assert ours.scores["score"].mean() == pytest.approx(np.mean(theirs.evaluations), abs=1e-10)


def test_a_planted_mixture_of_layers_beats_every_layer_and_noise_scores_nothing() -> None:
    rng = np.random.default_rng(7)
    models = family(rng, n_items=30)
    data = np.concatenate([noisy(rng, models[0] + models[3], n=6), noisy(rng, np.zeros(models.shape[1]), n=6)])
    rdms = described(data, 30, roi=["A1"] * 6 + ["noise"] * 6, participant=list("123456") * 2)
    layers = described(models, 30, layer=["conv1", "conv2", "conv3", "conv4"])
    scores = {}
    for kind in ("selected", "weighted"):
        found = score_models({"net": layers}, rdms, kind=kind, measure="pearson", rng=np.random.default_rng(0))
        scores[kind] = found.scores.groupby("roi")["score"].mean()
    assert scores["weighted"]["A1"] > scores["selected"]["A1"] + 0.1
    assert abs(scores["weighted"]["noise"]) < 0.1
    weights = found.weights[found.weights["roi"] == "A1"].set_index("rdm")
    assert weights["weight"].sum() == pytest.approx(1.0)
    assert weights.loc[["conv1", "conv4"], "weight"].min() > 0.3
    assert weights.loc[["conv1", "conv4"], "chosen"].min() == 1.0


def test_no_word_is_scored_on_its_own_tokens() -> None:
    words = np.repeat([f"w{k}" for k in range(6)], 2)
    rdms = RDMs(
        np.random.default_rng(8).gamma(2.0, size=(1, 66)),
        descriptors={"level": "stimulus"},
        pattern_descriptors={"stimulus_id": np.array([f"i{k:02d}" for k in range(12)]), "condition": words},
    )
    i, j = np.triu_indices(12, 1)
    for train, test in regression._split_items(rdms, 2, None, np.random.default_rng(0)):
        trained, tested = ({words[k] for k in (*i[pairs], *j[pairs])} for pairs in (train, test))
        assert len(tested) == 3
        assert not trained & tested


def test_a_fixed_model_is_its_comparison_within_the_folds() -> None:
    rng = np.random.default_rng(9)
    model, data = family(rng, 1), family(rng, 3)
    found = score_models(
        {"m": described(model, 9)}, described(data, 9), kind="fixed", measure="rho-a", item_folds=1, rng=rng
    )
    np.testing.assert_allclose(found.scores["score"], compare_vectors(model, data, measure="rho-a")[0])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "best"}, "expected one of 'fixed', 'selected'"),
        ({"kind": "fixed"}, "expected one RDM, got 4"),
        ({"item_folds": 4}, "expected at least 12 groups by stimulus, .* got 9"),
        ({"participant_folds": 4}, "expected 1 to 3 folds of 3 participants, got 4"),
        ({"participant_folds": 1, "item_folds": 1}, "nothing is held out"),
        ({"models": {}}, "expected at least one model, got none"),
        ({"by": "condition"}, "by: expected one of"),
    ],
)
def test_bad_input_is_said(given: dict[str, Any], words: str) -> None:
    rng = np.random.default_rng(10)
    models = given.pop("models", {"net": described(family(rng), 9)})
    with pytest.raises(InputError, match=words):
        score_models(models, described(family(rng, 3), 9), rng=rng, **given)


def test_fits_refuse_what_has_no_fit() -> None:
    x = family(np.random.default_rng(11))
    with pytest.raises(InputError, match="expected at least 2"):
        fit_weights(x[:1], x, kind="interpolated")
    with pytest.raises(InputError, match="model RDM 1 has no variance"):
        fit_weights(np.ones_like(x[:1]), x, measure="pearson")
    with pytest.raises(InputError, match="got 35 in models and 36 in data"):
        fit_weights(x[:, :-1], x)
