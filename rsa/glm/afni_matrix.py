"""Read the design matrix that 3dDeconvolve writes as X.xmat.1D."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brainmap.errors import InputError


@dataclass(frozen=True)
class Design:
    """Hold what an `X.xmat.1D` file records about a regression.

    Attributes
    ----------
    columns : tuple of str
        `name#k` for every regressor.
    stimuli : tuple of str
        Names of the stimuli; drift, motion and contrasts are not among them.
    run_starts : ndarray of int
        First volume of each run.
    rows : ndarray of int
        The volume of each row; censored volumes are left out.
    matrix : ndarray, (n_rows, n_columns)
    bases : mapping of name to (option, model)
        The option (`-stim_times`, `-stim_times_IM`) and the response function of each stimulus.
    contrasts : tuple of str
        Names of the general linear tests.
    """

    columns: tuple[str, ...]
    stimuli: tuple[str, ...]
    run_starts: NDArray[np.int64]
    rows: NDArray[np.int64]
    matrix: NDArray[np.float64]
    bases: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    contrasts: tuple[str, ...] = ()

    def run_of(self, column: str) -> str | None:
        """Return the only run (from 1) in which a regressor is not 0; None if there is no such run or more than one."""
        if column not in self.columns:
            return None
        there = np.flatnonzero(np.abs(self.matrix[:, self.columns.index(column)]) > 1e-6)
        runs = np.unique(np.searchsorted(self.run_starts, self.rows[there], side="right"))
        return str(runs[0]) if len(runs) == 1 else None


def read_design(path: Path) -> Design:
    """Read a design matrix of 3dDeconvolve.

    Raises
    ------
    InputError
        If the file is not a design matrix of 3dDeconvolve, or if its parts do not fit each other.
    """
    try:
        text = path.read_text(encoding="latin-1")
        said = dict(re.findall(r'^#\s*(\w+)\s*=\s*"([^"]*)"', text, re.M))
        columns = tuple(label.strip() for label in said["ColumnLabels"].split(";"))
        body = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
        matrix = np.array(body.split(), float).reshape(-1, len(columns))
        rows = _parse_integers(said["GoodList"]) if "GoodList" in said else np.arange(len(matrix))
        starts = _parse_integers(said.get("RunStart", "0"))
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{path}: expected a design matrix of 3dDeconvolve, got another file ({error}); look for X.xmat.1D"
        ) from None
    if len(matrix) > len(rows):  # the matrix still holds the rows that the fit left out
        rows = np.arange(len(matrix))
    if len(matrix) != len(rows) or not len(starts):
        raise InputError(
            f"{path}: expected {len(rows)} rows, the volumes that GoodList names, got {len(matrix)}; make the design "
            "again"
        )
    lists = [said.get(key, "").split(";") for key in ("StimLabels", "GltLabels")]
    stimuli, contrasts = (tuple(name.strip() for name in names if name.strip()) for names in lists)
    numbers = [key.removeprefix("BasisName_") for key in said if key.startswith("BasisName_")]
    bases = {
        said[f"BasisName_{k}"].strip(): (said.get(f"BasisOption_{k}", "").strip(), said.get(f"BasisFormula_{k}", ""))
        for k in numbers
    }
    return Design(columns, stimuli, starts, rows, matrix, bases, contrasts)


def _parse_integers(text: str) -> NDArray[np.int64]:
    """Parse AFNI's compact notation for integers.

    Examples
    --------
    >>> _parse_integers("0..3,7,2@9").tolist()
    [0, 1, 2, 3, 7, 9, 9]
    """
    numbers: list[int] = []
    for word in re.split(r"[,\s]+", text.strip()):
        if match := re.fullmatch(r"(-?\d{1,9})(?:\.\.|:)(-?\d{1,9})", word):
            numbers += range(int(match[1]), int(match[2]) + 1)
        elif match := re.fullmatch(r"(\d{1,6})@(-?\d{1,9})", word):
            numbers += [int(match[2])] * int(match[1])
        else:
            numbers.append(int(word))
    return np.array(numbers, np.int64)
