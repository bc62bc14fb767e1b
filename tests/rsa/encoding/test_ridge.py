"""Ridge regression equals scikit-learn's and himalaya's, in the primal and in the kernel form."""

from __future__ import annotations

import numpy as np
import pytest
from himalaya.kernel_ridge import solve_kernel_ridge_cv_eigenvalues
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from brainmap.errors import InputError
from brainmap.rsa.encoding.fits import EncodingSettings, build_designs, fit_folds, fit_weights_of_layer
from brainmap.rsa.encoding.folds import make_folds, yield_inner_splits
from brainmap.rsa.encoding.responses import FeatureSpace, Responses
from brainmap.rsa.encoding.ridge import (
    Design,
    build_error_operator,
    check_alphas,
    choose_alphas,
    find_device,
    measure_losses,
    move_to_device,
    predict,
)

ALPHAS = np.logspace(-1, 5, 7)


def space_of(x):
    return FeatureSpace("", "layer", x, tuple(np.array([k]) for k in range(x.shape[0])))


def folds_of(n, n_folds=5):
    return make_folds(np.arange(n), "stimulus", n_folds=n_folds, rng=np.random.default_rng(1))


def assign_inner(group, train):
    """The inner fold of each training item."""
    fold = np.empty(len(train), int)
    for k, (_, held) in enumerate(yield_inner_splits(group[train], 5)):
        fold[held] = k
    return fold


@pytest.mark.parametrize("n_units", [12, 300], ids=["primal", "dual"])
def test_predictions_equal_nested_cross_validation_by_scikit_learn(n_units):
    rng = np.random.default_rng(0)
    x = rng.normal(2.0, 3.0, size=(60, n_units))
    y = x[:, :6] @ rng.normal(size=(6, 4)) + 6 * rng.normal(size=(60, 4))
    folds = folds_of(60)
    fitted = fit_folds(space_of(x), y, folds, EncodingSettings(alphas=ALPHAS))
    for k in range(5):
        train, test = folds.split(k)
        scaler = StandardScaler().fit(x[train])
        for target in range(4):
            search = GridSearchCV(
                Ridge(solver="cholesky"),
                {"alpha": ALPHAS},
                scoring="neg_mean_squared_error",
                cv=PredefinedSplit(assign_inner(folds.group, train)),
            ).fit(scaler.transform(x[train]), y[train, target])
            assert ALPHAS[fitted.best[k, target]] == search.best_params_["alpha"]
            expected = search.predict(scaler.transform(x[test]))
            np.testing.assert_allclose(fitted.predicted[test, target], expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("n_units", [12, 300], ids=["primal", "dual"])
def test_weights_equal_those_of_scikit_learn(n_units):
    rng = np.random.default_rng(2)
    x, y = rng.normal(1.0, 2.0, size=(60, n_units)), rng.normal(size=(60, 3))
    x[:, 5] = 7.0
    responses = Responses(y[None], tuple(map(str, range(60))), tuple(map(str, range(60))), ("1",), None)
    found = fit_weights_of_layer(space_of(x), responses, np.arange(60), EncodingSettings(alphas=ALPHAS))
    z = StandardScaler().fit_transform(x)
    for target in range(3):
        model = Ridge(alpha=found.alpha[target], solver="cholesky").fit(z, y[:, target])
        np.testing.assert_allclose(found.weights[:, target], model.coef_, rtol=0, atol=1e-8)
        np.testing.assert_allclose(found.predict(x)[:, target], model.predict(z), rtol=0, atol=1e-8)
    assert found.sd[5] == 0
    assert not found.weights[5].any()


def test_alphas_losses_and_dual_weights_equal_those_of_himalaya():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(50, 200))
    y = x[:, :10] @ rng.normal(size=(10, 30)) + 5 * rng.normal(size=(50, 30))
    kernel = x @ x.T
    splits = yield_inner_splits(np.arange(50), 5)
    design = Design(kernel, True)
    losses = measure_losses(build_error_operator(design, np.arange(50), splits, ALPHAS), y)
    alphas, dual, score, intercept = solve_kernel_ridge_cv_eigenvalues(
        kernel, y, alphas=ALPHAS, cv=splits, fit_intercept=True
    )
    np.testing.assert_allclose(ALPHAS[choose_alphas(losses)], alphas, rtol=1e-12)  # himalaya takes their logarithms
    np.testing.assert_allclose(-losses.min(axis=0), score[0], rtol=1e-7)  # himalaya adds 1e-10 log(alpha)
    every = np.arange(50)
    ours = predict(design.factor(every, every), y, alphas)
    np.testing.assert_allclose(ours, kernel @ dual + intercept, rtol=0, atol=1e-8)


def test_both_forms_predict_alike():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(50, 40)), rng.normal(size=(50, 5))
    train, test = np.arange(40), np.arange(40, 50)
    alphas = np.full(5, 2.0)
    primal, dual = (
        predict(Design(array, kernel).factor(train, test), y[train], alphas)
        for array, kernel in ((x, False), (x @ x.T, True))
    )
    np.testing.assert_allclose(primal, dual, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kernel", [False, True])
def test_components_are_those_of_the_training_items(kernel):
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(50, 20)) * np.linspace(1, 4, 20), rng.normal(size=(50, 2))
    train, test = np.arange(40), np.arange(40, 50)
    design = Design(x @ x.T if kernel else x, kernel, components=6)
    found = predict(design.factor(train, test), y[train], np.full(2, 3.0))
    expected = make_pipeline(PCA(6), Ridge(alpha=3.0)).fit(x[train], y[train]).predict(x[test])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)


def test_test_items_change_nothing_that_is_learned():
    rng = np.random.default_rng(6)
    x, y, folds = rng.normal(size=(60, 100)), rng.normal(size=(60, 8)), folds_of(60)
    train, test = folds.split(0)
    other_x, other_y = x.copy(), y.copy()
    other_x[test] *= 100
    other_y[test] += rng.normal(size=(len(test), 8)) * 100
    settings = EncodingSettings(alphas=ALPHAS)
    one = fit_folds(space_of(x), y, folds, settings)
    two = fit_folds(space_of(other_x), other_y, folds, settings)
    np.testing.assert_array_equal(one.best[0], two.best[0])
    design, other = (build_designs(space_of(a), [train], settings)[0][0] for a in (x, other_x))
    np.testing.assert_allclose(design.array[np.ix_(train, train)], other.array[np.ix_(train, train)], rtol=1e-12)


@pytest.mark.parametrize("n_units", [12, 300])
def test_tensors_give_the_numbers_of_arrays(n_units):
    rng = np.random.default_rng(7)
    x, y, folds = rng.normal(size=(60, n_units)), rng.normal(size=(60, 9)), folds_of(60)
    one, two = (
        fit_folds(space_of(x), y, folds, EncodingSettings(alphas=ALPHAS, device=device)) for device in (None, "cpu")
    )
    np.testing.assert_array_equal(one.best, two.best)
    np.testing.assert_allclose(one.predicted, two.predicted, rtol=0, atol=1e-9)
    assert move_to_device(y, "cpu").dtype.is_floating_point


def test_units_that_are_read_in_parts_give_the_same_predictions(monkeypatch):
    rng = np.random.default_rng(8)
    x, y, folds = rng.normal(size=(60, 400)), rng.normal(size=(60, 3)), folds_of(60)

    class OnDisk:
        shape, dtype = x.shape, x.dtype

        def __getitem__(self, key):
            return x[key]

    whole = fit_folds(space_of(x), y, folds, EncodingSettings(alphas=ALPHAS))
    monkeypatch.setattr("brainmap.rsa.rdm.blocks.SLAB_BYTES", 60 * 8 * 150)
    parts = fit_folds(space_of(OnDisk()), y, folds, EncodingSettings(alphas=ALPHAS))
    np.testing.assert_allclose(parts.predicted, whole.predicted, rtol=0, atol=1e-9)


def test_a_choice_among_equals_takes_the_largest_alpha():
    assert choose_alphas(np.array([[1.0, 2.0], [1.0, 1.0], [3.0, 4.0]])).tolist() == [1, 1]


@pytest.mark.parametrize("alphas", [[], [0.0], [-1.0, 1.0], [np.nan]])
def test_alphas_that_are_not_above_0_are_refused(alphas):
    with pytest.raises(InputError, match="expected alphas above 0"):
        check_alphas(alphas)


def test_a_device_without_double_precision_is_refused():
    with pytest.raises(InputError, match="mps has no float64"):
        find_device("mps")
