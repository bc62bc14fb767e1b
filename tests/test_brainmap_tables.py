"""Tables that brainmap wrote are read back with the names that were written."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np

from brainmap.tables import match_by_folders, read_results_table


def test_names_that_look_like_numbers_or_gaps_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    rows = ("participant\trun\troi\tlayer\tscore", "007\t01\tNA\t10\t0.5", "008\t02\t\t1e3\tn/a")
    (tmp_path / "scores.tsv").write_text("\n".join(rows) + "\n")
    table = read_results_table(tmp_path / "scores.tsv")
    names = table[["participant", "run", "roi", "layer"]].to_numpy().tolist()
    assert names == [["007", "01", "NA", "10"], ["008", "02", "", "1e3"]]
    np.testing.assert_array_equal(table["score"], [0.5, np.nan])


def test_letters_are_matched_in_whatever_way_they_are_composed() -> None:
    composed, decomposed = (unicodedata.normalize(form, "Grüße aus Köln") for form in ("NFC", "NFD"))
    assert composed != decomposed
    assert match_by_folders([decomposed], [composed, "cat"]) == {decomposed: composed}
    assert match_by_folders([f"speech/{composed}"], [decomposed, "cat"]) == {f"speech/{composed}": decomposed}
