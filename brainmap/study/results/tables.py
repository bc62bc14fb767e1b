"""Read tables of the results."""

from __future__ import annotations

from pathlib import Path

import pandas as pd


def read_results_table(path: Path) -> pd.DataFrame:
    """Read a table of the results, in which a region may be called NA."""
    return pd.read_csv(path, sep="\t", na_values="n/a", keep_default_na=False, dtype={"participant": str})
