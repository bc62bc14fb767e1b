"""Estimate a covariance of many variables from few observations, shrunk to its diagonal."""

from __future__ import annotations

import numpy as np

from brainmap.types import Floats


def shrink_to_diagonal(residuals: Floats, dof: int) -> Floats:
    """Estimate the covariance of residuals, with correlations shrunk by their optimal share.

    Equal but for rounding to `shrinkage_diag` of rsatoolbox, which adds up an outer product for each row.

    Parameters
    ----------
    residuals : ndarray (n_rows, n_variables)
        They are demeaned over rows.
    dof : int
        Degrees of freedom.

    Returns
    -------
    ndarray (n_variables, n_variables)

    References
    ----------
    Schäfer and Strimmer 2005, doi:10.2202/1544-6115.1175

    Examples
    --------
    >>> rows = np.array([[2.0, 1.0], [-2.0, -1.0], [2.0, 1.0], [-2.0, 0.0]])
    >>> shrink_to_diagonal(rows, 3).round(2).tolist()
    [[5.33, 2.0], [2.0, 0.92]]
    """
    rows = residuals - residuals.mean(axis=0, keepdims=True)
    n = len(rows)
    products, squares = rows.T @ rows, np.square(rows)
    covariance = products / dof
    variance = np.diagonal(covariance)
    scale = np.sqrt(variance)
    mean = products / scale / scale[:, None] / (n - 1)
    mean_of_squares = (squares.T @ squares) / variance / variance[:, None] / (n - 1)
    others = ~np.eye(len(covariance), dtype=bool)
    spread = n / dof**2 * (mean_of_squares - mean**2)
    share = max(min(spread[others].sum() / np.square(mean[others]).sum(), 1), 0)
    found: Floats = covariance * (np.eye(len(covariance)) + (1 - share) * others)
    return found
