"""Build the columns of regressions on control RDMs: splines, products of splines, or linear terms."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import list_some
from brainmap.errors import InputError
from brainmap.rsa.comparison.ranks import rank_rows
from brainmap.types import Floats, Measure, SplineForm

PARTIAL: tuple[Measure, ...] = ("rho-a", "spearman", "pearson")
"""Measures with a partial form that is 0 on average if model and data share only the controls."""
ONE, TWO, MOST = 6, 4, 8
"""Number of columns of a single spline, and the fewest and most of each of two splines that are multiplied."""
PAIRS_A_COLUMN, PLENTY = 10, 15
"""Number of pairs that each column needs, and that it needs where products of splines take more than the fewest."""
FEWEST_ITEMS = 12
_CUBIC = 3


def choose_form(measure: Measure, n_controls: int) -> SplineForm:
    """Return the form of the regression for a number of controls; ranks allow at most two.

    Examples
    --------
    >>> choose_form("rho-a", 1), choose_form("rho-a", 3), choose_form("pearson", 3)
    ('ranks', 'additive', 'linear')
    """
    if measure == "pearson":
        return "linear"
    return "ranks" if n_controls <= 2 else "additive"


def name_partial(measure: Measure, n_controls: int) -> str:
    """Return the name of a partial score for a number of controls.

    Examples
    --------
    >>> name_partial("rho-a", 1), name_partial("spearman", 3)
    ('spline partial correlation of ranks', 'spline partial correlation (Pearson)')
    """
    return {
        "ranks": "spline partial correlation of ranks",
        "additive": "spline partial correlation (Pearson)",
        "linear": "linear partial correlation (Pearson)",
    }[choose_form(measure, n_controls)]


def count_columns(form: SplineForm, n_controls: int) -> int:
    """Count the columns that the regression takes at least, if no control has fewer values than columns.

    The constant is counted. Products of splines take more columns where there are many pairs (`choose_product_size`).

    Examples
    --------
    >>> count_columns("ranks", 1), count_columns("ranks", 2), count_columns("additive", 3), count_columns("linear", 3)
    (6, 18, 16, 4)
    """
    if form == "ranks":
        return ONE if n_controls == 1 else TWO**2 + 2
    return 1 + n_controls * (ONE - 1 if form == "additive" else 1)


def choose_product_size(n_pairs: int) -> int:
    """Return the number of columns of each of two splines that are multiplied: 4 to 8, with 15 pairs a column above 4.

    Many pairs show small deviations from a curve of few columns, such as those of a sum of two exponentials.

    Examples
    --------
    >>> [choose_product_size(n_items * (n_items - 1) // 2) for n_items in (20, 28, 29, 35, 40, 45, 165)]
    [4, 4, 5, 6, 7, 8, 8]
    """
    return max(size for size in range(TWO, MOST + 1) if size == TWO or n_pairs >= PLENTY * (size**2 + 2))


def count_items_needed(measure: Measure, n_controls: int) -> int:
    """Compute the smallest number of items that allows a number of controls, with ten pairs per spline column.

    Examples
    --------
    >>> [count_items_needed("rho-a", n) for n in (1, 2, 3)], count_items_needed("pearson", 1)
    ([12, 20, 19], 3)
    """
    form = choose_form(measure, n_controls)
    if form == "linear":  # a correlation needs one more pair than there are columns
        return _count_items_for_pairs(count_columns(form, n_controls) + 1)
    return max(FEWEST_ITEMS, _count_items_for_pairs(PAIRS_A_COLUMN * count_columns(form, n_controls)))


def _count_items_for_pairs(pairs: int) -> int:
    """Compute the smallest number of items with at least this many pairs.

    Examples
    --------
    >>> _count_items_for_pairs(60), _count_items_for_pairs(66), _count_items_for_pairs(67)
    (12, 12, 13)
    """
    return int(np.ceil((1 + np.sqrt(1 + 8 * pairs)) / 2))


def build_spline_columns(controls: Floats, form: SplineForm) -> Floats:
    """Compute orthonormal columns `(n_pairs, n_columns)` of the regression on controls `(n_controls, n_pairs)`.

    Parameters
    ----------
    controls : array
        The controls, without missing pairs.
    form : {"ranks", "additive", "linear"}
        "ranks": for one control, a cubic B-spline of its ranks with knots at their terciles (6 columns, including the
        constant); for two controls, their values and the products of two cubic splines of their ranks, without inner
        knots or, where there are plenty of pairs, with one to four (`choose_product_size`). "additive": a sum of cubic
        B-splines of the values of each control. "linear": the values and a constant.
        A control with at most as many distinct values as a spline has columns gives one indicator column per value.

    Returns
    -------
    array
        The linearly independent columns.

    Raises
    ------
    InputError
        A control has no variance.

    Examples
    --------
    >>> x = np.arange(66.0)[None]
    >>> build_spline_columns(x, "ranks").shape, build_spline_columns(x % 2, "ranks").shape
    ((66, 6), (66, 2))
    """
    flat = np.flatnonzero(np.ptp(controls, axis=1) <= 1e-13 * np.abs(controls).max(axis=1)) + 1
    if len(flat):
        raise InputError(f"partial comparison: control RDM {list_some(flat.tolist())} has no variance; leave it out")
    values = (controls - controls.mean(axis=1, keepdims=True)) / controls.std(axis=1, keepdims=True)
    constant = np.ones((1, controls.shape[1]))
    if form == "linear":
        parts = [constant, values]
    elif form == "additive":
        parts = [constant, *(_build_spline(one, ONE) for one in values)]
    elif len(controls) == 1:
        parts = [_build_spline(rank_rows(controls)[0], ONE)]
    else:
        one, other = (_build_spline(ranks, choose_product_size(controls.shape[1])) for ranks in rank_rows(controls))
        parts = [values, (one[:, None] * other[None]).reshape(-1, controls.shape[1])]
    return _orthonormalize_rows(np.concatenate(parts))


def has_enough_pairs(columns: Floats, n_items: int, form: SplineForm) -> bool:
    """Tell whether the numbers of pairs (rows) and items allow these columns."""
    n_pairs, size = columns.shape
    if form == "linear":
        return bool(n_pairs > size)
    return bool(n_items >= FEWEST_ITEMS and n_pairs >= PAIRS_A_COLUMN * size)


def _build_spline(x: NDArray[np.floating], size: int) -> Floats:
    """Compute a cubic B-spline `(size, n_pairs)` with knots at quantiles, or indicators if there are few values."""
    from scipy.interpolate import BSpline

    values = np.unique(x)
    if len(values) <= size:
        return np.asarray(x == values[:, None], dtype=np.float64)
    inner = np.quantile(x, np.linspace(0, 1, size - _CUBIC + 1)[1:-1])
    inner = np.unique(inner[(inner > values[0]) & (inner < values[-1])])
    knots = np.concatenate([np.repeat(values[0], _CUBIC + 1), inner, np.repeat(values[-1], _CUBIC + 1)])
    return np.asarray(BSpline.design_matrix(x, knots, _CUBIC).toarray().T)


def _orthonormalize_rows(rows: Floats) -> Floats:
    """Compute orthonormal columns with the same span as the rows."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    left, size, _ = np.linalg.svd((rows / np.where(length > 0, length, 1.0)).T, full_matrices=False)
    return np.asarray(left[:, size > 1e-10 * size[0]])
