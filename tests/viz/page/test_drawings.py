"""A figure is drawn again where its content, its code or its file has changed, and only there."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import nibabel
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from brainmap.viz.page import drawings
from brainmap.viz.page.content import ReportContent
from brainmap.viz.page.drawings import Drawing
from brainmap.viz.page.write import write_report

SCORES = pd.DataFrame(
    {
        "network": "net",
        "layer": ["a", "b"] * 4,
        "roi": ["x", "x", "y", "y"] * 2,
        "participant": ["1"] * 4 + ["2"] * 4,
        "score": [0.1, 0.2, 0.3, 0.4, 0.2, 0.2, 0.1, 0.5],
    }
)
ALIKE = pd.DataFrame([[1.0, 0.3], [0.3, 1.0]], ["a", "b"], ["a", "b"])
CONTENT = ReportContent(title="t", networks={"net": []}, scores=SCORES, layer_correlations={"net": ALIKE})


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the functions whose figures were drawn."""
    found: list[str] = []
    render = drawings.render

    def count(plot: Any, *, painted: bool) -> Any:
        found.append(plot.func.__name__)
        return render(plot, painted=painted)

    monkeypatch.setattr(drawings, "render", count)
    return found


def write(content: ReportContent, folder: Path) -> tuple[bytes, dict[str, bytes]]:
    """The bytes of the page and of its figures."""
    page = write_report(content, folder / "page.html", memory=folder / ".memory")
    return page.read_bytes(), {file.name: file.read_bytes() for file in (folder / "figures").iterdir()}


def test_what_is_drawn_already_is_not_drawn_again_and_is_the_same(tmp_path: Path, drawn: list[str]) -> None:
    first = write(CONTENT, tmp_path)
    assert sorted(drawn) == ["plot_correlation_matrix", "plot_layer_profile"]
    assert write(CONTENT, tmp_path) == first
    assert len(drawn) == 2
    alone = tmp_path / "alone"
    assert write(CONTENT, alone) == first, "as a page that nothing was drawn for"
    changed = replace(CONTENT, layer_correlations={"net": ALIKE * 0.5 + 0.5})
    drawn.clear()
    again = write(changed, tmp_path)
    assert drawn == ["plot_correlation_matrix"]
    assert again == write(changed, tmp_path / "fresh")
    assert again[0] != first[0]


@pytest.fixture(scope="module")
def page_written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[bytes, dict[str, bytes]]]:
    """A folder with a page and its figures, to be copied, and their bytes."""
    folder = tmp_path_factory.mktemp("written")
    return folder, write(CONTENT, folder)


@pytest.mark.parametrize(
    "how", ["changed", "gone", "no memory", "damaged memory", "strange memory", "other code", "other font"]
)
def test_a_figure_is_drawn_again_where_its_file_is_not_to_be_trusted(
    page_written: tuple[Path, tuple[bytes, dict[str, bytes]]],
    tmp_path: Path,
    drawn: list[str],
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    folder, first = page_written
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    file, memory = tmp_path / "figures" / "layer-profile.svg", tmp_path / ".memory"
    if how == "changed":
        file.write_bytes(file.read_bytes().replace(b"net", b"not", 1) + b" ")
    elif how == "gone":
        file.unlink()
    elif how == "no memory":
        memory.unlink()
    elif how == "other font":
        monkeypatch.setitem(mpl.rcParams, "font.monospace", ["Courier"])  # which no figure uses
    elif how == "other code":
        monkeypatch.setattr(drawings, "_digest_code", lambda: "another version")
    else:
        memory.write_text("{" if how == "damaged memory" else '{"layer-profile": 3, "layer-correlations": {"key": []}}')
    assert write(CONTENT, tmp_path) == first
    assert "plot_layer_profile" in drawn
    assert ("plot_correlation_matrix" in drawn) == (how not in ("changed", "gone"))


def plot(*args: Any, **kwargs: Any) -> Figure:
    """A figure of anything."""
    raise NotImplementedError


def key(*args: Any, **kwargs: Any) -> str | None:
    return Drawing(functools.partial(plot, *args, **kwargs)).key


@dataclass
class Row:
    name: str
    values: Any


IMAGE = nibabel.Nifti1Image(np.arange(8, dtype=np.float32).reshape(2, 2, 2), np.eye(4))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        ("1", 1),
        (None, "None"),
        (["a", "b"], ["ab"]),
        (["a", ["b"]], [["a"], "b"]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (np.zeros(4), np.zeros((2, 2))),
        (np.zeros(4), np.zeros(4, np.float32)),
        (np.array(["a", None], object), np.array(["a", "None"], object)),
        (SCORES, SCORES[::-1]),
        (SCORES, SCORES.assign(score=SCORES["score"] + 1e-12)),
        (SCORES, SCORES.rename(columns={"roi": "region"})),
        (SCORES["layer"], SCORES["layer"].astype("category")),
        (pd.Categorical(["a"], ["a", "b"]), pd.Categorical(["a"], ["b", "a"])),
        (IMAGE, nibabel.Nifti1Image(np.asarray(IMAGE.dataobj), np.diag([2.0, 1, 1, 1]))),
        (IMAGE, nibabel.Nifti1Image(np.asarray(IMAGE.dataobj) + 1, np.eye(4))),
        (Row("a", [1]), Row("a", [2])),
    ],
)
def test_different_content_has_different_keys(one: Any, other: Any) -> None:
    one, other = (pd.Series(x) if isinstance(x, pd.Categorical) else x for x in (one, other))
    assert key(one) is not None
    assert key(one) != key(other)
    assert key(x=one) != key(x=other)
    assert key(one) != key(x=one)


def test_equal_content_has_one_key_in_every_process_and_what_is_not_known_has_none() -> None:
    content = [SCORES, IMAGE, Row("a", {"x": np.arange(3)}), np.float32(0.1), {"b", "a", "c"}, float("nan"), pd.NA]
    image = nibabel.Nifti1Image(IMAGE.get_fdata(dtype=np.float32), np.eye(4))
    assert key(content) == key([SCORES.copy(), image, *content[2:]])
    assert key(lambda: None) is None
    assert key([object()]) is None
    letters = set("abcdefghij")  # no two processes have them in one order
    code = (
        "import functools\nfrom tests.viz.page import test_drawings as t\n"
        "print(t.Drawing(functools.partial(t.plot, t.SCORES, t.IMAGE, names=set('abcdefghij'))).key)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "1"},
    )
    assert told.stdout.strip() == key(SCORES, IMAGE, names=letters)
    assert len(told.stdout) == 65
