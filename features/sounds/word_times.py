"""Read when words are spoken in a recording: Praat TextGrids, and tables."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from brainmap.checks import check_file, list_some
from brainmap.errors import InputError
from brainmap.tables import read_table

SPEECH = "speech"
"""The name of features of speech among networks."""
_VALUE = re.compile(r'"((?:[^"]|"")*)"|<(\w+)>|(?<![\w\[.-])(-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)(?![\w\].])')
_TIERS = ("words", "word")
_SILENT = ("sp", "sil", "spn", "ns", "br", "lg", "cg", "ls", "sl")  # labels of aligners where nothing is said
_SLACK = 1e-6  # s


def read_word_times(path: str | Path) -> pd.DataFrame:
    """Read the words of a recording with their times.

    Parameters
    ----------
    path : path
        A TextGrid of Praat (long or short text), whose tier `words` (or `word`, or the only interval tier) holds a word
        in each interval; or a TSV with `start_s` and `end_s`, or with `onset` and `duration`, in seconds, and perhaps
        `word`. Intervals without a word (empty, `sp`, `sil`, or in brackets) are left out.

    Returns
    -------
    DataFrame
        `word`, `start_s`, `end_s` [s], in the order of time.

    Raises
    ------
    InputError
        The file is neither, has no such tier or columns, or a time is no number, negative, or after its end.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w", suffix=".tsv") as file:
    ...     _ = file.write("onset\\tduration\\tword\\n0.5\\t0.2\\tonce\\n0.7\\t0.4\\tupon\\n")
    ...     file.flush()
    ...     read_word_times(file.name)["end_s"].round(3).tolist()
    [0.7, 1.1]
    """
    path = check_file(path, "word times")
    table = _read_text_grid(path) if path.suffix.lower() == ".textgrid" else _read_word_table(path)
    said = table["word"].str.strip()
    silent = (said == "") | said.str.lower().isin(_SILENT) | said.str.fullmatch(r"[<{\[(].*[>}\])]")
    found = table.assign(word=said)[~silent].sort_values("start_s", kind="stable").reset_index(drop=True)
    wrong = found[~((found["start_s"] >= 0) & (found["end_s"] >= found["start_s"] - _SLACK))]
    if len(wrong):
        row = wrong.iloc[0]
        raise InputError(
            f"{path}: expected times from 0 s on, each start before its end, got {row['start_s']:g} to "
            f"{row['end_s']:g} s for {row['word']!r}; correct it there"
        )
    if not len(found):
        raise InputError(f"{path}: expected words with their times, got none; give another tier or table")
    return found


def check_word_times(words: str | Path | pd.DataFrame, seconds: float) -> pd.DataFrame:
    """Return the words of a recording, none of which may begin behind its end.

    Raises
    ------
    InputError
        A word does, or the file cannot be read.
    """
    times = words if isinstance(words, pd.DataFrame) else read_word_times(words)
    late = times[times["start_s"] >= seconds]
    if len(late):
        where = "word times" if isinstance(words, pd.DataFrame) else str(words)
        raise InputError(
            f"{where}: expected words within the {seconds:g} s of the sound, got {late['word'].iloc[0]!r} at "
            f"{late['start_s'].iloc[0]:g} s and {len(late) - 1} more; give the times of this sound"
        )
    return times


def _read_word_table(path: Path) -> pd.DataFrame:
    """Read a TSV of words."""
    table = read_table(path, "word times")
    pair = next((pair for pair in (("start_s", "end_s"), ("onset", "duration")) if set(pair) <= set(table)), None)
    if pair is None:
        raise InputError(
            f"{path}: expected the columns start_s and end_s, or onset and duration, got {list_some(map(str, table))}; "
            "rename them"
        )
    start, end = (pd.to_numeric(table[name], errors="coerce") for name in pair)
    if start.isna().any() or end.isna().any():
        row = int(np.flatnonzero(start.isna() | end.isna())[0])
        got = table[pair[0]].iloc[row], table[pair[1]].iloc[row]
        raise InputError(f"{path}: expected numbers of seconds in row {row + 1}, got {got[0]!r} and {got[1]!r}")
    if pair[0] == "onset":
        end = start + end
    word = table["word"] if "word" in table else pd.Series("word", index=table.index)
    return pd.DataFrame({"word": word, "start_s": start.astype(float), "end_s": end.astype(float)})


def _read_text_grid(path: Path) -> pd.DataFrame:
    """Read the tier of words of a TextGrid: in both of its text forms the same values come in the same order."""
    raw = path.read_bytes()
    coding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = raw.decode(coding)
    except UnicodeDecodeError:
        raise InputError(f"{path}: expected text in UTF-8 or UTF-16, got other bytes; save it again in Praat") from None
    values = [m[1].replace('""', '"') if m[1] is not None else m[2] or float(m[3]) for m in _VALUE.finditer(text)]
    try:
        if values[:2] != ["ooTextFile", "TextGrid"]:
            raise ValueError
        tiers = _list_tiers(iter(values[4:]))  # after two names and the times of the whole
    except (ValueError, StopIteration, TypeError):
        raise InputError(f"{path}: expected a TextGrid of Praat, got something else, or its end is lost") from None
    chosen = next((name for name in tiers if name.lower() in _TIERS), None)
    if chosen is None and len(tiers) != 1:
        raise InputError(
            f"{path}: expected an interval tier called {_TIERS[0]!r}, got {list_some(tiers) or 'none'}; rename it"
        )
    rows = tiers[chosen if chosen is not None else next(iter(tiers))]
    return pd.DataFrame(rows, columns=["start_s", "end_s", "word"])[["word", "start_s", "end_s"]]


def _list_tiers(values: object) -> dict[str, list[tuple[float, float, str]]]:
    """Return the intervals of each interval tier."""
    take = iter(values)  # type: ignore[call-overload]
    if next(take) != "exists":
        raise ValueError
    found = {}
    for _ in range(int(next(take))):
        kind, name, _, _, n = (next(take) for _ in range(5))
        if kind == "IntervalTier":
            found[str(name)] = [(float(next(take)), float(next(take)), str(next(take))) for _ in range(int(n))]
        else:
            for _ in range(2 * int(n)):
                next(take)
    return found
