"""Brain beside sound: regions that an encoding model predicts, the sounds that they answered, and predicted ones."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from brainmap.errors import BrainmapWarning
from brainmap.rsa.encoding.folds import Folds
from brainmap.rsa.encoding.responses import FeatureSpace, Responses
from brainmap.study.stages.region_encoders import collect_region_data
from tests.study.encoding_inputs import PLANTED, SMALL, write_study
from tests.study.runs import read

N = 12


def make_person(label: str, values: Any, items: list[str], rois: list[str]) -> Any:
    """Make a participant with responses (n_runs, n_items, n_targets), whose features are the numbers of the items."""
    targets = pd.DataFrame({"roi": rois, "voxel": pd.array([pd.NA] * len(rois), dtype="Int64")})
    runs = tuple(str(k + 1) for k in range(len(values)))
    responses = Responses(values, tuple(items), tuple(items), runs, targets, participant=label)
    members = tuple(np.array([int(item)]) for item in items)
    space = FeatureSpace("net", "conv1", np.zeros((N, 2)), members)
    order = np.arange(len(items))
    return SimpleNamespace(
        label=label, aligned=([space], responses), folds=Folds(order % 3, order, "stimulus"), settings=None
    )


def test_participants_are_halved_and_their_items_matched() -> None:
    rng, items = np.random.default_rng(0), [str(k) for k in range(N)]
    values = {label: rng.standard_normal((2, N, 3)) for label in ("01", "02", "03")}
    back = items[::-1]
    people = [
        make_person("01", values["01"], items, ["A", "A", "B"]),
        make_person("02", values["02"], back, ["B", "A", "C"]),
        make_person("03", values["03"][:, 1:], items[1:], ["A", "B", "C"]),  # lacks the first item
    ]
    data = collect_region_data(people, 3)
    assert (data.items, data.regions) == (tuple(items[1:]), ("A", "B"))
    assert data.divided
    assert sorted(data.climbed.names) == ["sub-01", "sub-03"]
    assert sorted(data.judging.names) == ["sub-02"]
    assert [int(rows[0]) for rows in data.rows] == list(range(1, N))

    def z(x: Any) -> Any:
        return (x - x.mean()) / x.std()

    own = values["01"].mean(axis=0)
    expected = (z(own[1:, :2].mean(axis=1)) + z(values["03"].mean(axis=0)[1:, 0])) / 2
    np.testing.assert_allclose(data.climbed.mean[:, 0], expected)
    np.testing.assert_allclose(data.judging.mean[:, 1], z(values["02"].mean(axis=0)[::-1][1:, 0]))


def test_runs_of_a_single_participant_are_halved_where_both_halves_have_all_items() -> None:
    rng, items = np.random.default_rng(0), [str(k) for k in range(N)]
    values = rng.standard_normal((3, N, 1))
    data = collect_region_data([make_person("01", values, items, ["A"])], 1)
    assert data.climbed.names == {"sub-01 run-1", "sub-01 run-3"}
    assert data.judging.names == {"sub-01 run-2"}
    values[1, :6] = np.nan  # run 2 has the other items only
    assert not collect_region_data([make_person("01", values, items, ["A"])], 1).divided


@pytest.fixture(scope="module")
def listened(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of natural sounds with two networks and a page."""
    from brainmap.study.results.context import Context
    from brainmap.study.run import run_study
    from brainmap.study.settings.study import load_study

    path = write_study(tmp_path_factory.mktemp("listened"), sounds=40, people=2, changes=SMALL)
    asked = "maximization = { steps = 30, classes = 0, channels = 0, best_layers = 0 }"
    path.write_text(f"{path.read_text()}\n[explain]\n{asked}\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)
        run_study(Context(load_study(path), threads=1))
    return path


@pytest.mark.slow
def test_only_regions_that_are_predicted_have_sounds_and_their_numbers_are_those_of_the_data(listened: Path) -> None:
    table = read(listened, "features/network-first_regions.tsv")
    planted = {roi: where[1] for roi, where in PLANTED.items() if where}
    assert dict(zip(table["region"], table["layer"], strict=True)) == planted
    assert (table["p_corrected"] <= 0.05).all()
    assert set(table["judged_on"]) == {"other data"}
    assert table["judges"].str.startswith("second ").all()
    folder = listened.parent
    labels = np.asarray(nib.load(folder / "sub-01" / "rois.nii.gz").dataobj)
    from brainmap.rsa.images.files import load_image, sub_brick_labels

    means = {}
    for who in ("01", "02"):
        runs = []
        for k in (1, 2, 3):
            image = folder / f"sub-{who}" / f"betas_run-{k}.nii.gz"
            values = np.asarray(load_image(str(image)).dataobj, dtype=np.float64)[labels == 1].mean(axis=0)
            runs.append(pd.Series(values, index=sub_brick_labels(str(image))))
        mean = pd.concat(runs, axis=1).mean(axis=1)
        means[who] = (mean - mean.mean()) / mean.std(ddof=0)
    real = read(listened, "features/network-first_region-sounds.tsv")
    mine = real[real["region"] == "primary"]
    assert list(mine["stimulus_id"]) == list(means["01"].sort_values(ascending=False).index[:3])
    np.testing.assert_allclose(mine["measured"], means["02"][mine["stimulus_id"]], rtol=1e-4)
    maps = read(listened, "features/network-first_region-maps.tsv")
    assert set(maps["region"]) == set(planted)


@pytest.mark.slow
def test_the_page_plays_them_and_a_study_that_asks_for_none_has_no_section(listened: Path) -> None:
    from brainmap.study.results.context import Context
    from brainmap.study.run import run_study
    from brainmap.study.settings.study import load_study
    from brainmap.study.stages.page import read_page_content

    page = (listened.parent / "derivatives" / "brainmap" / "report.html").read_text()
    section = page[page.index('<h2 id="listening">') :].split("</section>")[0]
    assert section.count("<audio") == 2 * 4
    assert "fitted on another half of the data" in section
    assert "fitted to the other half of the data, judged it" in page
    context = Context(load_study(listened), threads=1)
    run_study(context)
    assert not context.computed
    text = listened.read_text()
    listened.write_text(text.replace("best_layers = 0 }", "best_layers = 0, regions = 0 }"))
    assert not read_page_content(Context(load_study(listened))).listening
    listened.write_text(text)
