"""The maps that the page holds for its viewer are those of the files, and what has no room is named."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import nibabel
import numpy as np
import pytest

from brainmap.viz.page import viewer
from brainmap.viz.page.brain import BrainView
from brainmap.viz.page.content import NetworkMaps, ReportContent
from brainmap.viz.page.viewer import ViewerMap, embed_map, make_viewer
from brainmap.viz.rsa.panels import load_template

SHAPE = (7, 6, 5)
AFFINE = np.array([[-8.0, 0, 0, 24], [0, 8, 0, -20], [0, 0, 8, -4], [0, 0, 0, 1]])


def unpack(one: ViewerMap) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """What a browser makes of it: what is said of the map, its values, and where it is significant."""
    about = json.loads(one.about)
    content, n = zlib.decompress(base64.b64decode(one.data)), int(np.prod(about["shape"]))
    start = -(-n // 8)
    there = np.unpackbits(np.frombuffer(content[:start], np.uint8), count=n).astype(bool)
    m = int(there.sum())
    first = start + (-(-m // 8) if about["tested"] else 0)
    values, significant = np.full(n, np.nan), np.zeros(n, bool)
    values[there] = np.frombuffer(content[first:], "<i2") * about["step"]
    if about["tested"]:
        significant[there] = np.unpackbits(np.frombuffer(content[start:first], np.uint8), count=m)
    return about, values.reshape(about["shape"]), significant.reshape(about["shape"])


def make_map(seed: int, scale: float = 1.0) -> nibabel.Nifti1Image:
    rng = np.random.default_rng(seed)
    values = (scale * rng.normal(size=SHAPE)).astype(np.float32)
    values[rng.random(SHAPE) < 0.3] = np.nan
    return nibabel.Nifti1Image(values, AFFINE)


@pytest.mark.parametrize("scale", [1e-6, 0.4, 3e4])
def test_values_are_those_of_the_file_to_half_a_step(scale: float) -> None:
    image = make_map(0, scale)
    chosen = np.random.default_rng(1).random(SHAPE) < 0.5
    about, values, significant = unpack(embed_map("a", image, {"top": 1, "colors": "score"}, significant=chosen))
    wanted = np.asarray(image.dataobj, dtype=float)
    assert about["step"] == pytest.approx(np.nanmax(np.abs(wanted)) / 32_767)
    assert (np.isnan(values) == np.isnan(wanted)).all()
    assert np.nanmax(np.abs(values - wanted)) <= about["step"] / 2 * (1 + 1e-9)
    assert (significant == (chosen & np.isfinite(wanted))).all()
    np.testing.assert_allclose(np.array(about["inverse"]) @ [24, -20, -4, 1], 0, atol=1e-12)
    np.testing.assert_array_equal(about["affine"], AFFINE[:3])


def test_a_map_of_names_holds_whole_numbers_and_no_zero() -> None:
    values = np.zeros(SHAPE, np.float32)
    values[1:3], values[4] = 2, np.nan
    about, found, _ = unpack(embed_map("best", nibabel.Nifti1Image(values, AFFINE), {"names": {"a": "", "b": ""}}))
    assert about["step"] == 1
    assert not about["tested"]
    np.testing.assert_array_equal(found, np.where(values == 2, 2.0, np.nan))


def test_a_map_of_one_value_and_an_empty_one_are_held_too() -> None:
    for values in (np.zeros(SHAPE, np.float32), np.full(SHAPE, np.nan, np.float32)):
        _, found, _ = unpack(embed_map("a", nibabel.Nifti1Image(values, AFFINE), {"top": 1.0, "colors": "score"}))
        np.testing.assert_array_equal(found, values)


def brain(name: str, maps: list[str], differences: list[str] | None = None) -> BrainView:
    none: Any = None
    return BrainView(
        name=name,
        colors={},
        best_layer=none,
        surface=none,
        maps={layer: [] for layer in maps},
        highest=len(maps) - 1,
        differences={name: [] for name in differences or []},
        silent=[],
        note="",
    )


def test_all_maps_that_are_drawn_are_in_the_menu_and_those_without_room_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    means = {"conv1": make_map(1), "conv2": make_map(2)}
    p = {"conv1": nibabel.Nifti1Image(np.full(SHAPE, 0.01, np.float32), AFFINE)}
    best = nibabel.Nifti1Image(np.full(SHAPE, 2, np.float32), AFFINE)
    differences = {"conv2 - conv1": make_map(3), "conv1 - conv3": make_map(4)}
    its = NetworkMaps(means=means, p=p, best_layer=best, differences=differences)
    maps = {"n": its, "other": NetworkMaps(means={"conv1": make_map(5)})}
    content = ReportContent(title="t", measure="rho-a", maps=maps)
    brains = [brain("n", ["conv1", "conv2"], ["conv2 - conv1"]), brain("other", ["conv1"])]
    found = make_viewer(content, brains)
    assert found is not None
    assert {name: [one.name for one in group] for name, group in found.groups.items()} == {
        "n": ["conv1", "conv2", "conv2 − conv1", "best layer"],
        "other": ["conv1"],
    }
    assert found.first == ("n", "conv2")
    about = [json.loads(one.about) for one in found.groups["n"]]
    assert [one["tested"] for one in about] == [True, False, False, False]
    assert len({one["top"] for one in about[:2]}) == 1, "layers have one color scale"
    assert list(about[3]["names"]) == ["conv1", "conv2"]
    template = json.loads(found.template.about)
    gray = np.frombuffer(zlib.decompress(base64.b64decode(found.template.data)), np.uint8).reshape(template["shape"])
    fine = load_template()[80:82, 100:102, 60:62].mean()
    assert gray[40, 50, 30] == round(63 * float(fine))

    monkeypatch.setattr(viewer, "_ROOM", sum(len(one.data) for one in found.groups["n"]))
    less = make_viewer(content, brains)
    assert less is not None
    assert less.left_out == ["conv1 of other"]
    surfaces = ReportContent(title="t", maps={"n": NetworkMaps(mesh=object())})
    assert make_viewer(surfaces, [brain("n", [])]) is None
