"""The numbers that are saved beside figures are those of what they show."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd

from brainmap.viz.page.listening import RealSound, RegionPanel
from brainmap.viz.page.pictures import list_attention, list_courses, list_regions, list_sheet
from brainmap.viz.page.sheet import SheetRow

AFFINE = np.array([[-2.0, 0, 0, 10], [0, 2, 0, -20], [0, 0, 2, 4], [0, 0, 0, 1]])


def test_regions_have_their_centers_and_sizes() -> None:
    labels = np.zeros((6, 6, 6), int)
    labels[1:3, 2, 2] = 1
    rois = SimpleNamespace(names=("a", "gone"), labels=labels, affine=AFFINE)
    found = list_regions(rois)
    assert found.loc[0].tolist() == ["a", 7.0, -16.0, 8.0, 2]
    assert np.isnan(found.loc[1, "x"])
    assert found.loc[1, "voxels"] == 0


def test_a_sheet_names_the_highest_place_of_each_map() -> None:
    values = np.full((6, 6, 6), np.nan, np.float32)
    values[1, 2, 3], values[4, 4, 4] = 0.5, -0.1
    found = list_sheet([SheetRow(layer="conv1", image=nib.Nifti1Image(values, AFFINE), unit="channel 3", where="left")])
    row = found.loc[0]
    assert (row["layer"], row["unit"], row["where"], row["highest"]) == ("conv1", "channel 3", "left", 0.5)
    assert row[["x", "y", "z"]].tolist() == [8.0, -16.0, 10.0]


def test_attention_is_the_mean_over_the_sounds_of_a_word() -> None:
    rng = np.random.default_rng(0)
    sounds = SimpleNamespace(conditions=["cat", "dog", "cat"])
    maps = rng.normal(size=(3, 2, 48))
    found = list_attention(sounds, SimpleNamespace(maps=maps, class_names=["dog", "cat"]), bins=24)
    cat = found[(found["word"] == "cat") & (found["class"] == "dog")].sort_values("bin")
    expected = maps[[0, 2], 0].reshape(2, 24, 2).mean(axis=(0, 2))
    np.testing.assert_allclose(cat["map"], expected, rtol=1e-5)
    assert len(found) == 2 * 2 * 24


def test_courses_are_those_of_the_first_real_sounds() -> None:
    sound = RealSound(
        name="s1", wave=np.zeros(10), rate=10.0, measured=1.0, judged=2.0, seconds=np.arange(3.0), course=np.arange(3)
    )
    one = RegionPanel(roi="A1", layer="l", predicted=np.zeros(10), rate=10.0, wav=Path("x"), values={}, real=[sound])
    found = list_courses([one])
    expected = pd.DataFrame({"region": "A1", "sound": "s1", "second": np.arange(3.0), "map": np.arange(3)})
    pd.testing.assert_frame_equal(found.drop(columns="energy_db"), expected)
    assert not len(list_courses([]))
