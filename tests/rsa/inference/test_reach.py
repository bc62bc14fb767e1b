"""What the false discovery rate can find when p cannot be small: against Benjamini and Hochberg's method itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from brainmap import rsa
from brainmap.rsa.inference.scores import describe_fdr_reach


@pytest.mark.parametrize(("smallest", "n"), [(1 / 256, 1000), (1 / 256, 30), (1 / 32, 40), (1 / 64, 7), (1 / 32, 1)])
def test_so_many_tests_at_the_smallest_p_are_found_and_one_fewer_is_not(smallest: float, n: int) -> None:
    needed = max(1, math.ceil(smallest * n / 0.05 * (1 - 1e-9)))  # k tests are significant where p is at most .05 k / n
    for at_least, found in ((needed, True), (needed - 1, False)):
        if at_least > 0:
            p = np.r_[np.full(at_least, smallest), np.ones(n - at_least)]
            assert (false_discovery_control(p) <= 0.05).any() == found
            assert bool(describe_fdr_reach(p, smallest)) != found


def test_eight_participants_need_eight_percent_of_the_tests() -> None:
    said = describe_fdr_reach(np.r_[np.full(50, 1 / 256), np.ones(950)], 1 / 256)
    wanted = "no p is under 0.00391, so that fdr finds at least 79 of the 1,000 tests (8 %) together or none; here none"
    assert said == wanted


def test_a_test_over_participants_says_so_and_says_its_side_and_its_sounds() -> None:
    rng = np.random.default_rng(0)
    note = rsa.score_statistics(rng.normal(size=(200, 8))).attrs["note"]
    assert note.startswith(
        "Wilcoxon signed-rank test over participants (one-sided), which takes the sounds as fixed (these sounds only)"
    )
    assert note.endswith("fdr finds at least 16 of the 200 tests (8 %) together or none; here none")
    assert "together or none" not in rsa.score_statistics(rng.normal(size=(200, 8)) + 3).attrs["note"]
    assert "two-sided" in rsa.score_differences(rng.normal(size=(3, 8))).attrs["note"]
    assert "fdr can find nothing" in rsa.score_statistics(rng.normal(size=(3, 4))).attrs["note"]


def test_tests_of_different_reach_are_found_where_all_p_at_their_smallest_would_be() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        smallest = 2.0 ** -rng.integers(2, 9, size=rng.integers(1, 8)).astype(float)
        possible = bool((false_discovery_control(smallest) <= 0.05).any())
        assert ("can find nothing" in describe_fdr_reach(np.ones(len(smallest)), smallest)) != possible
