"""Tables on the page: rounded numbers for reading, a download with all digits, and the heat table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex

from brainmap.viz.labels import format_decimals, needs_columns, needs_one_network
from brainmap.viz.style import choose_ink, encode_data_uri, get_colormap


@dataclass(frozen=True, kw_only=True)
class Table:
    """Hold a formatted table: header, cells as text with the color of a layer that they name, and its file."""

    columns: list[str]
    numeric: list[bool]
    rows: list[list[tuple[str, str]]]
    download: str
    name: str
    length: int


@dataclass(frozen=True, kw_only=True)
class HeatCell:
    """Hold one cell of the table of layers by regions."""

    text: str
    background: str
    ink: str
    hint: str
    starred: bool
    best: bool
    planted: bool
    rival: bool = False


@dataclass(frozen=True, kw_only=True)
class HeatRow:
    """Hold the row of one layer."""

    layer: str
    cells: list[HeatCell]


_COORDINATES = ("x", "y", "z")


_CORRELATIONS = ("score", "mean", "lower", "upper", "ceiling", "difference", "standard_error", "agreement", "reliab")
"""How the names of columns begin that hold correlations, or differences of these."""


def format_value(value: Any, column: str) -> str:
    """Format a cell for reading; columns named p or p_... hold p values, with three digits.

    Examples
    --------
    >>> [format_value(value, "beta") for value in (0.25, 0.0, -0.000101, 12.0, 1234.5)]
    ['.250', '.000', '−1.0e−04', '12', '1.23e+03']
    >>> format_value(-0.000101, "ceiling_lower")  # a correlation is not told more exactly
    '.000'
    >>> format_value(0.0, "z"), format_value(0.0001, "p_corrected")
    ('0', '< .001')
    """
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if value is None or value is pd.NA or (isinstance(value, float | np.floating) and bool(np.isnan(value))):
        return "–"
    if isinstance(value, int | np.integer):
        return f"{value}".replace("-", "−")
    if isinstance(value, float | np.floating):
        value = float(value)
        if column == "p" or column.startswith("p_"):
            return "< .001" if value < 0.001 else format_decimals(value, 3)
        if value.is_integer() and (abs(value) >= 1 or column in _COORDINATES):
            return f"{int(value)}".replace("-", "−")
        if value == 0 or 0.0005 <= abs(value) < 1:
            return format_decimals(value, 3)
        if abs(value) < 1 and column.startswith(_CORRELATIONS):
            return format_decimals(0.0, 3)
        if abs(value) < 1:
            return f"{value:.1e}".replace("-", "−")
        return f"{value:.3g}".replace("-", "−")
    return str(value)


def select_network_rows(table: pd.DataFrame, network: str, others: Sequence[str] = ()) -> pd.DataFrame:
    """Return the rows of a network, then those of `others`; all rows if the table has no column for networks."""
    if "network" not in table:
        return table
    return pd.concat([table[table["network"] == name] for name in (network, *others)])


def make_table(
    table: pd.DataFrame,
    name: str,
    *,
    colors: Mapping[str, str] | None = None,
    most: int = 60,
    columns: Sequence[str] | None = None,
) -> Table:
    """Format a table: rounded numbers on the page, all digits in the file to download.

    Parameters
    ----------
    table : DataFrame
        The table to show.
    name : str
        Name of the file to download.
    colors : mapping, optional
        Color of each layer; cells that name a layer get a swatch.
    most : int
        Largest number of rows shown; the file has all rows.
    columns : sequence of str, optional
        Columns to show, if the table has them; the file has all columns.

    Returns
    -------
    Table

    Examples
    --------
    >>> made = make_table(pd.DataFrame({"roi": ["A1"], "p": [0.0123]}), "x.tsv")
    >>> made.rows
    [[('A1', ''), ('.012', '')]]
    """
    known = colors or {}
    shown = table.head(most)
    if columns is not None:
        shown = shown[[c for c in columns if c in table]]
    names = [str(c) for c in shown.columns]
    rows = [
        [(format_value(value, column), known.get(str(value), "")) for column, value in zip(names, row, strict=True)]
        for row in shown.itertuples(index=False, name=None)
    ]
    return Table(
        columns=[c.replace("_", " ") for c in names],
        numeric=[pd.api.types.is_numeric_dtype(shown[c]) for c in shown.columns],
        rows=rows,
        download=encode_data_uri(table.to_csv(sep="\t", index=False).encode(), "text/tab-separated-values"),
        name=name,
        length=len(table),
    )


def arrange_heat_rows(
    statistics: pd.DataFrame,
    layers: Sequence[str],
    planted: Mapping[str, str],
    *,
    rivals: Mapping[str, Sequence[str]] | None = None,
    alpha: float = 0.05,
) -> list[HeatRow]:
    """Arrange layers by regions as rows of colored cells.

    Parameters
    ----------
    statistics : DataFrame
        Columns `layer`, `roi`, `mean`, and if known `standard_error` and `p_corrected`, for one network.
    layers : sequence of str
        Layers by depth.
    planted : mapping roi -> layer
        The layer that a simulation planted in each region.
    rivals : mapping roi -> layers, optional
        The best layer of a region, then the layers that are not told apart from it.
    alpha : float
        Significance level of the stars.

    Returns
    -------
    list of HeatRow

    Raises
    ------
    InputError
        If a column is missing, or the table has several networks.
    """
    needs_columns(statistics, ["layer", "roi", "mean"], "report: statistics")
    needs_one_network(statistics, "report: statistics")
    rois = list(dict.fromkeys(statistics["roi"]))
    found = {(row["layer"], row["roi"]): row for row in statistics.to_dict("records")}
    top = max(float(statistics["mean"].max()), 1e-9) * 1.15
    best = {}
    for roi in rois:
        here = statistics[statistics["roi"] == roi]
        if here["mean"].notna().any() and ("p_corrected" not in here or (here["p_corrected"] < alpha).any()):
            best[roi] = here["layer"].iloc[int(np.nanargmax(here["mean"].to_numpy(dtype=float)))]
    return [
        HeatRow(
            layer=layer,
            cells=[
                _make_cell(
                    found.get((layer, roi)),
                    top,
                    alpha,
                    best=best.get(roi) == layer,
                    planted=planted.get(roi) == layer,
                    rival=layer in list((rivals or {}).get(roi, ()))[1:],
                )
                for roi in rois
            ],
        )
        for layer in layers
        if any((layer, roi) in found for roi in rois)
    ]


def arrange_reference_rows(
    statistics: pd.DataFrame, rows: Mapping[str, str], rois: Sequence[str], *, alpha: float = 0.05
) -> list[HeatRow]:
    """Arrange the highest mean of each control and of the acoustic models in each region as rows of uncolored cells.

    Parameters
    ----------
    statistics : DataFrame
        `network`, `layer`, `roi`, `mean`, and if known `p_corrected`.
    rows : mapping of network to the name of its row
    rois : sequence of str
    alpha : float

    Returns
    -------
    list of HeatRow
    """
    made = []
    for network, name in rows.items():
        mine = select_network_rows(statistics, network)
        mine = mine[mine["mean"].notna()]
        if not len(mine):
            continue
        highest = {str(row["roi"]): row for row in mine.loc[mine.groupby("roi")["mean"].idxmax()].to_dict("records")}
        cells = [
            replace(
                _make_cell(highest.get(roi), 1.0, alpha, best=False, planted=False, rival=False),
                background="",
                ink="",
                hint=f"{highest[roi]['layer']}: {format_decimals(float(highest[roi]['mean']), 3)}"
                if roi in highest
                else "–",
            )
            for roi in rois
        ]
        made.append(HeatRow(layer=name, cells=cells))
    return made


def _make_cell(
    row: Mapping[Any, Any] | None, top: float, alpha: float, *, best: bool, planted: bool, rival: bool
) -> HeatCell:
    mean = float(row["mean"]) if row is not None else float("nan")
    color = to_hex(get_colormap("score")(np.clip(np.nan_to_num(mean) / top, 0, 1))) if np.isfinite(mean) else "#ffffff"
    parts = [f"mean {format_decimals(mean, 3)}"]
    if row is not None and "standard_error" in row:
        parts.append(f"standard error {format_decimals(float(row['standard_error']), 3)}")
    p = float(row["p_corrected"]) if row is not None and "p_corrected" in row else float("nan")
    if np.isfinite(p):
        parts.append(f"corrected p = {format_decimals(p, 3)}")
    return HeatCell(
        text=format_decimals(mean),
        background=color,
        ink=choose_ink(color),
        hint=", ".join(parts),
        starred=bool(p < alpha),
        best=best,
        planted=planted,
        rival=rival,
    )
