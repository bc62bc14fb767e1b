"""Participants one by one, and the models of BOLD: what is small is still what was measured."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.spatial.distance import squareform

from brainmap.viz.page.content import DesignContent, DesignedRun, PeopleContent, Person, ReportContent
from brainmap.viz.page.designs import show_designs
from brainmap.viz.page.people import MOST_RDMS, draw_small_rdm, show_people
from brainmap.viz.page.write import write_report
from brainmap.viz.style import get_colormap

HOSTILE = "<img src=x onerror=alert(1)>"


def pixels(source: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))).convert("RGB"), dtype=int)


def test_a_small_rdm_shows_ranks_and_no_diagonal() -> None:
    square = squareform(np.array([1.0, 5.0, np.nan, 2.0, 9.0, 3.0]))
    shown = pixels(draw_small_rdm(square))
    assert shown.shape == (4, 4, 3)
    colors = 255 * np.asarray(get_colormap("dissimilarity")([0.0, 0.25, 0.5, 0.75, 1.0]))[:, :3]
    for (i, j), rank in {(0, 1): 0, (1, 2): 1, (2, 3): 2, (0, 2): 3, (1, 3): 4}.items():
        assert np.abs(shown[i, j] - colors[rank]).max() < 12
        assert (shown[i, j] == shown[j, i]).all()
    gray = [(i, i) for i in range(4)] + [(0, 3)]
    assert all(np.ptp(shown[at]) < 12 and shown[at].mean() > 220 for at in gray)


def test_the_rdm_of_many_items_is_averaged_over_neighbors() -> None:
    place = np.arange(130) // 65
    shown = pixels(draw_small_rdm(np.where(place[:, None] == place, 0.1, 0.9)))
    assert shown.shape == (44, 44, 3)
    assert shown[2, 10].mean() < shown[2, 40].mean() - 100


def person(label: str, n: int = 2, *, agreement: float = 0.3, outlier: bool = False) -> Person:
    rng = np.random.default_rng(len(label))
    names = [f"region{k}" for k in range(n)]
    regions = pd.DataFrame(
        {
            "roi": ["mask", *names],
            "agreement": [np.nan, *(agreement + 0.02 * np.arange(n))],
            "reliability": [np.nan, *rng.random(n)],
            "voxels": [1000, *[50] * n],
            "dropped_nan": [12, *[1] * n],
            "kept": [988, *[49] * n],
        }
    )
    return Person(
        label=label,
        outlier=outlier,
        agreement=agreement,
        regions=regions,
        rdms={name: squareform(rng.random(10)) for name in names},
    )


def test_participants_say_what_is_left_out_and_maps_share_a_scale() -> None:
    affine = np.diag([8.0, 8, 8, 1])
    affine[:3, 3] = -56, -80, -40
    maps = {}
    for label, high in (("01", 0.3), ("02", 0.6)):
        values = np.zeros((14, 18, 14), np.float32)
        values[3, 9, 6] = high
        maps[label] = nibabel.Nifti1Image(values, affine)
    people = [person("02", agreement=0.1, outlier=True), person("01"), person("03")]
    view = show_people(PeopleContent(persons=people, maps=maps, shown="conv4 of net"))
    assert view is not None
    assert [one.label for one in view.persons] == ["02", "01", "03"]
    assert view.ends == (".20", ".60")
    assert view.persons[0].facts.startswith("mean agreement .10, mean reliability")
    assert view.persons[0].facts.endswith("12 voxels left out")
    assert view.persons[2].map == ""
    assert view.persons[0].map_words == "Glass brain of participant 02, conv4 of net: highest value .60"
    darkest = [pixels(one.map).sum(axis=2).min() for one in view.persons[:2]]
    assert darkest[0] < darkest[1] - 60, "the higher map is darker"
    assert [rdm.words for rdm in view.persons[0].rdms] == ["agreement .10", "agreement .12"]


def test_of_many_participants_and_regions_the_page_says_how_many_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brainmap.viz.page.people.MOST_PEOPLE", 3)
    people = [person(f"{k:02d}", n=MOST_RDMS + 3) for k in range(5)]
    content = PeopleContent(persons=people)
    view = show_people(content)
    assert view is not None
    assert (len(view.persons), view.left_out) == (3, 2)
    assert [rdm.roi for rdm in view.persons[0].rdms] == [f"region{k}" for k in range(MOST_RDMS)]
    table = pd.DataFrame({"participant": [one.label for one in people]})
    page = write_report(ReportContent(title="t", people=table, persons=content), tmp_path / "r.html").read_text()
    assert "the table above has the other 2" in page
    assert "Of 11 regions, the RDMs of the eight where it is lowest are shown" in page
    assert page.count('<details class="table person">') == 3
    hostile = replace(people[0], label=HOSTILE, rdms={HOSTILE: people[0].rdms["region0"]})
    content = PeopleContent(persons=[hostile])
    page = write_report(ReportContent(title="t", people=table, persons=content), tmp_path / "h.html").read_text()
    assert "<img src=x" not in page


def test_the_design_of_a_run_is_drawn_a_pixel_a_regressor_and_volume(tmp_path: Path) -> None:
    matrix = pd.DataFrame(
        {
            "cat": [0.0, 1, 2, 0],
            HOSTILE: [5.0, -5, 0, 1],
            "motion_outlier00": [0.0, 0, 1, 0],
            "drift_1": [1.0, 0.5, -0.5, -1],
            "constant": 1.0,
        },
        index=[0.0, 2, 4, 6],
    )
    kinds = ["event", "confound", "censored volume", "drift", "constant"]
    events = pd.DataFrame({"onset": [1.0, 4.0], "duration": [2.0, 0.0], "name": ["cat", HOSTILE]})
    run = DesignedRun(participant="01", run="1", matrix=matrix, kinds=kinds, events=events)
    content = DesignContent(runs=[run, replace(run, run="2", events=None)], table=pd.DataFrame({"run": ["1", "2"]}))
    view = show_designs(content)
    assert view is not None
    first, second = view.people["01"]
    shown = pixels(first.matrix)
    colors = 255 * np.asarray(get_colormap("signed")(np.linspace(0, 1, 64)))[:, :3]
    scaled = matrix.to_numpy() / np.abs(matrix.to_numpy()).max(axis=0)
    assert np.abs(shown - colors[np.round((scaled + 1) / 2 * 63).astype(int)]).max() <= 1
    assert first.words.startswith("1 regressor of events, 1 confound (")
    assert first.words.endswith("1 censored volume, 1 drift, 1 constant")
    assert (first.volumes, first.seconds, second.gone) == (4, "8", True)
    assert list(first.events.values()) == ["M60.0,0h120.0v5h-120.0z", "M240.0,6h1.0v5h-1.0z"]
    page = write_report(ReportContent(title="t", designs=content), tmp_path / "r.html").read_text()
    assert "<img src=x" not in page
    assert "The events of this run can no longer be read." in page
    assert page.count('class="matrix"') == 2
