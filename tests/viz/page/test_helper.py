"""A second process draws the same figures, and its failure costs nothing but time."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import matplotlib as mpl
import nibabel
import numpy as np
import pandas as pd
import pytest

from brainmap.errors import InputError
from brainmap.viz.page.content import NetworkMaps, ReportContent
from brainmap.viz.page.drawings import Drawing, render
from brainmap.viz.page.helper import Helper, start_helper
from brainmap.viz.page.write import write_report
from brainmap.viz.rsa.rdms import plot_correlation_matrix, plot_rdm
from brainmap.viz.rsa.volume import plot_brain
from tests.viz.page.test_drawings import CONTENT

ALIKE = pd.DataFrame([[1.0, 0.3], [0.3, 1.0]], ["a", "b"], ["a", "b"])


def one_map(seed: int) -> nibabel.Nifti1Image:
    """A map whose header says whole numbers, which its values are not."""
    values = np.random.default_rng(seed).random((12, 14, 12))
    image = nibabel.Nifti1Image(
        values, np.diag([12.0, 12, 12, 1]) - [[0, 0, 0, 70], [0, 0, 0, 90], [0, 0, 0, 60], [0] * 4]
    )
    image.set_data_dtype(np.int16)
    return image


MAPPED = replace(
    CONTENT,
    map_measure="rho-a",
    maps={"net": NetworkMaps(means={name: one_map(k) for k, name in enumerate("abcd")}, layers=list("abcd"))},
)


def write(content: ReportContent, folder: Path, helper: Helper | None = None) -> dict[str, bytes]:
    """The bytes of a page and of its figures."""
    page = write_report(content, folder / "page.html", memory=folder / ".memory", helper=helper)
    return {file.name: file.read_bytes() for file in [page, *(folder / "figures").iterdir()]}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The page with maps, drawn by this process."""
    return write(MAPPED, tmp_path_factory.mktemp("alone"))


def test_a_page_with_a_helper_is_that_without_one(tmp_path: Path, alone: dict[str, bytes]) -> None:
    with Helper() as helper:
        assert write(MAPPED, tmp_path / "both", helper) == alone
    assert len(alone) > 8


def test_a_helper_draws_with_the_settings_of_this_process() -> None:
    with mpl.rc_context({"font.size": 17.0}):
        wanted = render(partial(plot_correlation_matrix, ALIKE), painted=False)
        with Helper() as helper:
            drawn = Drawing(partial(plot_correlation_matrix, ALIKE))
            helper.offer(drawn)
            while drawn.rendered is None and helper._thread.is_alive():
                helper._thread.join(0.05)
    assert drawn.rendered == wanted


def test_a_helper_that_is_killed_leaves_its_figures_to_this_process(tmp_path: Path, alone: dict[str, bytes]) -> None:
    with Helper() as helper:
        helper._process.kill()
        assert write(MAPPED, tmp_path / "both", helper) == alone


def test_a_system_that_refuses_another_process_has_no_helper(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("subprocess.Popen", refuse)
    with start_helper() as helper:
        assert helper is None


def test_what_is_wrong_with_a_figure_is_said_as_without_a_helper() -> None:
    bad = Drawing(partial(plot_rdm, np.ones(4)))
    with Helper() as helper:
        helper.offer(bad)
        helper._thread.join(60)
        assert bad.rendered is None
        helper.finish()
        with pytest.raises(InputError, match="expected RDMs of shape"):
            bad.draw()


def test_this_process_and_the_helper_draw_each_figure_once() -> None:
    figures = [Drawing(partial(plot_brain, one_map(k)), painted=True) for k in range(5)]
    with Helper() as helper:
        for one in figures:
            helper.offer(one)
        taken = []
        while (one := helper.take()) is not None:
            taken.append(one)
        helper.finish()
    assert taken == figures[: -len(taken) - 1 : -1]
    assert all((one.rendered is None) == (one in taken) for one in figures)
