"""Read the RDM of a hypothesis from every form of file, matched by label."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from brainmap.errors import InputError
from brainmap.rsa.rdm.hypothesis_files import read_hypothesis

ITEMS = ["cat", "dog", "flute", "rain", "yes"]


def square(seed: int = 0) -> pd.DataFrame:
    """Dissimilarities of the items and one more, in another order."""
    labels = ["yes", "rain", "spare", "cat", "flute", "dog"]
    values = np.random.default_rng(seed).random((6, 6))
    values = values + values.T
    np.fill_diagonal(values, 0)
    return pd.DataFrame(values, index=labels, columns=labels)


def wanted(table: pd.DataFrame) -> np.ndarray:
    """The vector over the items, by pandas."""
    return table.loc[ITEMS, ITEMS].to_numpy()[np.triu_indices(len(ITEMS), 1)]


def write_long(table: pd.DataFrame, path: Path) -> None:
    rows = [
        (a, b, table.loc[a, b], 7.0) for k, a in enumerate(table.index) for b in table.columns[k + 1 :]
    ]  # fmt: skip
    columns = ["stimulus_id_1", "stimulus_id_2", "mine", "other"]
    pd.DataFrame(rows, columns=columns).to_csv(path, sep="\t", index=False)


def write_rsatoolbox(table: pd.DataFrame, path: Path) -> None:
    from rsatoolbox.rdm import RDMs

    vector = table.to_numpy()[np.triu_indices(len(table), 1)]
    RDMs(
        np.stack([np.ones_like(vector), vector]),
        rdm_descriptors={"name": ["flat", "mine"]},
        pattern_descriptors={"sound": list(table.index), "kind": ["a", "a", "a", "b", "b", "b"]},
    ).save(str(path), file_type="hdf5", overwrite=True)


FORMS: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    "comma.csv": lambda table, path: table.to_csv(path),
    "semicolon.csv": lambda table, path: table.to_csv(path, sep=";"),
    "tab.tsv": lambda table, path: table.to_csv(path, sep="\t"),
    "blank.txt": lambda table, path: table.rename_axis("sound").to_csv(path, sep=" "),
    "excel.csv": lambda table, path: table.to_csv(path, encoding="utf-8-sig"),
    "rows.csv": lambda table, path: table[sorted(table.columns)].to_csv(path),
    "long.tsv": write_long,
    "tool.h5": write_rsatoolbox,
}


@pytest.mark.parametrize("name", FORMS)
def test_items_of_every_form_are_matched_by_label(tmp_path: Path, name: str) -> None:
    table = square()
    FORMS[name](table, tmp_path / name)
    found = read_hypothesis(tmp_path / name, "mine", items=ITEMS)
    np.testing.assert_allclose(found.vector, wanted(table), rtol=1e-12)
    assert found.others == ("spare",)


@pytest.mark.parametrize("name", ["square.npy", "vector.npy", "bare.csv", "bare.txt"])
def test_a_matrix_without_labels_takes_those_of_a_text_file(tmp_path: Path, name: str) -> None:
    table = square()
    values = table.to_numpy()
    if name == "vector.npy":
        np.save(tmp_path / name, values[np.triu_indices(len(values), 1)])
    elif name.endswith(".npy"):
        np.save(tmp_path / name, values)
    else:
        np.savetxt(tmp_path / name, values, delimiter="," if name.endswith(".csv") else " ", fmt="%.17g")
    (tmp_path / "order.txt").write_text("\n".join(table.index) + "\n\n")
    found = read_hypothesis(tmp_path / name, "mine", items=ITEMS, labels=tmp_path / "order.txt")
    np.testing.assert_array_equal(found.vector, wanted(table))
    with pytest.raises(InputError, match=r"labels = 'order\.txt'"):
        read_hypothesis(tmp_path / name, "mine", items=ITEMS)


def spoil(change: Callable[[pd.DataFrame], Any]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        table = square()
        changed = change(table)
        (table if changed is None else changed).to_csv(path)

    return write


def _set(row: str, column: str, value: float) -> Callable[[pd.DataFrame], None]:
    def change(table: pd.DataFrame) -> None:
        table.loc[row, column] = value

    return change


def _both(table: pd.DataFrame) -> None:
    table.loc["cat", "dog"] = table.loc["dog", "cat"] = np.nan


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop(index="dog", columns="dog"), "got no 'dog' among 'yes', 'rain'"),
        (lambda t: t.rename(index={"dog": "dgo"}, columns={"dog": "dgo"}), "did you mean 'dgo'"),
        (lambda t: t.drop(index="dog"), "square matrix with its labels in m.csv, got 5 rows and 6 columns"),
        (_set("cat", "dog", 5.0), "symmetric matrix, got 5 from 'cat' to 'dog'"),
        (_set("cat", "cat", 1.0), "0 on the diagonal, got 1; are these similarities"),
        (_both, "a number for every pair, got nan for 'cat' and 'dog'"),
        (lambda t: t.rename(columns={"dog": "dgo"}), "they differ in 'dgo', 'dog'"),
        (lambda t: t.rename(index={"dog": "cat"}, columns={"dog": "cat"}), "each column once, got 'cat'"),
        (lambda t: t.astype(object).replace(t.iloc[0, 1], "much"), "got 'much'"),
    ],
)
def test_what_is_no_rdm_of_these_items_is_said(
    tmp_path: Path, change: Callable[[pd.DataFrame], Any], words: str
) -> None:
    spoil(change)(tmp_path / "m.csv")
    with pytest.raises(InputError, match=words):
        read_hypothesis(tmp_path / "m.csv", "mine", items=ITEMS)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.xlsx", b"", "a file that ends in .h5, .hdf5, .csv, .tsv, .txt, .npy, got m.xlsx"),
        ("m.csv", b"", "m.csv cannot be read as a table"),
        ("m.csv", b"\xff\xfe\x00", "m.csv cannot be read as a table"),
        ("m.csv", b"cat,dog\ncat,0,1\ndog,1,0\n", "as many cells in the first row"),
        ("m.h5", b"no hdf5", "is no HDF5 file"),
        ("m.npy", b"\x93NUMPY", "m.npy holds no labels"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_hypothesis(tmp_path / name, "mine", items=ITEMS)


def test_one_of_several_rdms_is_taken_by_name(tmp_path: Path) -> None:
    write_rsatoolbox(square(), tmp_path / "tool.h5")
    with pytest.raises(InputError, match="an RDM named 'mien' among the 2 of the file, got 'flat', 'mine'; did you"):
        read_hypothesis(tmp_path / "tool.h5", "mien", items=ITEMS)
    with pytest.raises(InputError, match="names its items itself"):
        read_hypothesis(tmp_path / "tool.h5", "mine", items=ITEMS, labels=tmp_path / "order.txt")


@pytest.mark.parametrize(
    ("text", "words"),
    [("a\nb\n", "labels: expected one for each of 3 rows"), ("a\nb\nb\n", "got 'b'"), ("a\n\nb\nc", "an empty line")],
)
def test_labels_are_one_for_each_row(tmp_path: Path, text: str, words: str) -> None:
    np.save(tmp_path / "m.npy", np.ones((3, 3)) - np.eye(3))
    (tmp_path / "order.txt").write_text(text)
    with pytest.raises(InputError, match=words):
        read_hypothesis(tmp_path / "m.npy", "mine", items=["a", "b", "c"], labels=tmp_path / "order.txt")
