"""The sign-flip test against brute force, scipy and nilearn, and its size under the null."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from brainmap.errors import InputError
from brainmap.rsa.inference.sign_flips import sign_flip_test


def brute_force(x, two_sided):
    """p and corrected p by the definition: t under every sign pattern, one after another."""

    def t(y):
        value = stats.ttest_1samp(y, 0).statistic
        return np.abs(value) if two_sided else value

    observed = t(x)
    flips = np.array([t(x * np.array(s)[:, None]) for s in itertools.product((1, -1), repeat=len(x))])
    near = 1e-9
    p = (flips >= observed - near).mean(axis=0)
    corrected = (flips.max(axis=1)[:, None] >= observed - near).mean(axis=0)
    return p, corrected


@pytest.mark.parametrize("alternative", ["greater", "two-sided"])
def test_enumerated_p_equals_brute_force_over_all_sign_patterns(alternative):
    x = np.random.default_rng(1).normal(0.3, 1, size=(6, 9))
    found = sign_flip_test(x, alternative=alternative, permutations=64)
    p, corrected = brute_force(x, alternative == "two-sided")
    assert found.enumerated
    assert found.n_flips == 64
    np.testing.assert_allclose(found.p, p, rtol=0, atol=1e-15)
    np.testing.assert_allclose(found.p_corrected, corrected, rtol=0, atol=1e-15)
    np.testing.assert_allclose(found.statistic, stats.ttest_1samp(x, 0).statistic, rtol=1e-12)


def test_tied_scores_count_as_reached():
    x = np.array([[0.1, 0.3], [0.2, 0.3], [0.3, 0.3], [0.4, 0.3]])
    assert sign_flip_test(x).p[1] == 1 / 16
    p, _ = brute_force(x[:, :1], two_sided=False)
    assert sign_flip_test(x).p[0] == p[0]


def test_drawn_p_agrees_with_the_enumerated_one_and_repeats_with_its_generator():
    x = np.random.default_rng(2).normal(0.4, 1, size=(12, 400))
    exact = sign_flip_test(x, permutations=4096)
    drawn = sign_flip_test(x, permutations=4000, rng=np.random.default_rng(0))
    again = sign_flip_test(x, permutations=4000, rng=np.random.default_rng(0))
    assert exact.enumerated
    assert not drawn.enumerated
    error = 5 * np.sqrt(exact.p * (1 - exact.p) / 4000) + 1 / 4000
    assert (np.abs(drawn.p - exact.p) < error).all()
    error = 5 * np.sqrt(exact.p_corrected * (1 - exact.p_corrected) / 4000) + 1 / 4000
    assert (np.abs(drawn.p_corrected - exact.p_corrected) < error).all()
    np.testing.assert_array_equal(drawn.p, again.p)


def test_same_p_as_nilearn_to_monte_carlo_error():
    inference = pytest.importorskip("nilearn.mass_univariate")
    x = np.random.default_rng(3).normal(0.5, 1, size=(12, 200))
    theirs = inference.permuted_ols(
        np.ones((12, 1)),
        x,
        model_intercept=False,
        two_sided_test=False,
        n_perm=3000,
        random_state=0,
        n_jobs=1,
        output_type="dict",
        verbose=0,
    )
    ours = sign_flip_test(x, permutations=3000, rng=np.random.default_rng(0))
    np.testing.assert_allclose(ours.statistic, theirs["t"][0], rtol=1e-10)
    np.testing.assert_allclose(ours.p_corrected, 10 ** -theirs["logp_max_t"][0], atol=5 * 0.5 / np.sqrt(3000))


def test_a_test_with_nan_or_only_zeros_is_left_out_and_counted():
    x = np.random.default_rng(4).normal(0.5, 1, size=(8, 5))
    alone = sign_flip_test(x[:, 2:])
    x[3, 0] = np.nan
    x[:, 1] = 0
    found = sign_flip_test(x)
    assert found.n_excluded == 2
    assert np.isnan(found.p[:2]).all()
    assert np.isnan(found.statistic[:2]).all()
    np.testing.assert_array_equal(found.p_corrected[2:], alone.p_corrected)


@pytest.mark.parametrize(("n", "permutations"), [(8, 5000), (14, 999)])
def test_critical_value_separates_significant_from_the_rest(n, permutations):
    x = np.random.default_rng(5).normal(0.8, 1, size=(n, 300))
    found = sign_flip_test(x, permutations=permutations, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(found.statistic >= found.critical(0.05), found.p_corrected <= 0.05)
    assert (found.p_corrected <= 0.05).any()
    assert sign_flip_test(x[:3]).critical(0.05) == np.inf


def test_family_wise_rate_is_nominal_under_the_null():
    rng = np.random.default_rng(6)
    shared = rng.normal(size=(400, 8, 1))
    hits = [(sign_flip_test(0.5 * s + rng.normal(size=(8, 30))).p_corrected <= 0.05).any() for s in shared]
    # 256 patterns: the attainable size is 12/256
    assert stats.binomtest(sum(hits), 400, 12 / 256).pvalue > 0.001


@pytest.mark.parametrize(
    ("scores", "settings", "said"),
    [
        (np.ones((1, 4)), {}, "expected at least 2 participants"),
        (np.ones(4), {}, "n_participants, n_tests"),
        (np.ones((4, 4)), {"permutations": 0}, "expected at least 1 permutation, got 0"),
        (np.ones((4, 4)), {"alternative": "bigger"}, "expected one of 'greater'"),
    ],
)
def test_bad_input_is_one_clear_line(scores, settings, said):
    with pytest.raises(InputError, match=said):
        sign_flip_test(scores, **settings)
