"""The covariance that is shrunk to its diagonal, by products of matrices."""

from __future__ import annotations

import numpy as np
import pytest
from rsatoolbox.data.noise import cov_from_residuals

from brainmap.rsa.rdm.shrinkage import shrink_to_diagonal


@pytest.mark.parametrize(("n_rows", "n_variables"), [(20, 7), (12, 40), (144, 113), (6, 1000)])
@pytest.mark.parametrize("correlated", [0.0, 0.8])
def test_it_is_that_of_rsatoolbox(n_rows: int, n_variables: int, correlated: float) -> None:
    rng = np.random.default_rng(n_rows)
    rows = rng.standard_normal((n_rows, n_variables)) + correlated * rng.standard_normal((n_rows, 1))
    rows = 3 + rows * rng.uniform(0.1, 10, n_variables)
    for dof in (n_rows - 1, n_rows - 5):
        wanted = cov_from_residuals(rows.copy(), dof=dof, method="shrinkage_diag")
        scale = np.sqrt(np.outer(np.diagonal(wanted), np.diagonal(wanted)))
        np.testing.assert_allclose(shrink_to_diagonal(rows, dof) / scale, wanted / scale, atol=1e-11)


def test_independent_variables_lose_their_correlations_and_others_keep_them() -> None:
    rng = np.random.default_rng(0)
    noise, shared = rng.standard_normal((500, 30)), rng.standard_normal((500, 1))
    apart = shrink_to_diagonal(noise, 499)[np.triu_indices(30, 1)]
    alike = shrink_to_diagonal(noise + 3 * shared, 499)[np.triu_indices(30, 1)]
    assert np.abs(apart).max() < 0.05
    assert alike.min() > 7
