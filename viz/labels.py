"""Format numbers and check tables for figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from brainmap.checks import list_some
from brainmap.errors import InputError


def needs_columns(table: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    """Raise an `InputError` that names the columns a table lacks."""
    absent = [c for c in columns if c not in table.columns]
    if absent:
        raise InputError(
            f"{what}: expected a table with the columns {list(columns)}, got {list(table.columns)}; {absent} is missing"
        )


def needs_one_network(table: pd.DataFrame, what: str) -> None:
    """Raise an `InputError` that names the networks of a table where there are several."""
    names = list(dict.fromkeys(table["network"])) if "network" in table else []
    if len(names) > 1:
        raise InputError(
            f"{what}: expected the rows of one network, got those of {list_some(map(str, names))}; keep the "
            "rows of one of them"
        )


def format_decimals(value: float, digits: int = 2) -> str:
    """Format a number for a figure: without a zero before the decimal point, and with a true minus sign.

    Examples
    --------
    >>> [format_decimals(value) for value in (0.123, -0.5, 1.0, -0.001, float("nan"))]
    ['.12', '−.50', '1.00', '.00', '–']
    """
    if not np.isfinite(value):
        return "–"
    text = f"{abs(value):.{digits}f}"
    text = text[1:] if text.startswith("0") else text
    return ("−" if value < 0 and float(text or 0) != 0 else "") + text
