"""The maps that the page holds for its viewer are those of the files, and what has no room is named."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import nibabel
import numpy as np
import pytest
from nilearn.datasets import load_fsaverage, load_fsaverage_data

from brainmap.rsa import Mesh, SurfaceData, load_mesh
from brainmap.viz.page import viewer
from brainmap.viz.page.brain import BrainView
from brainmap.viz.page.content import NetworkMaps, ReportContent
from brainmap.viz.page.viewer import ViewerMap, embed_map, make_viewer
from brainmap.viz.rsa.panels import load_template
from brainmap.viz.rsa.surface import choose_shown_mesh

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


@pytest.mark.parametrize("known", [True, False])
def test_maps_on_the_cortex_are_in_the_menu_with_the_mesh_that_is_drawn(known: bool) -> None:
    """A browser sums the differences again, and finds the coordinates, triangles, gyri and values of the files."""
    if known:
        mesh = load_mesh("fsaverage5")
    else:
        mesh = Mesh(np.random.default_rng(0).normal(0, 30, (9, 3)), np.array([[0, 1, 2], [2, 1, 3], [5, 6, 8]]), (5, 4))
    n, left = len(mesh.points), mesh.sizes[0]
    values = np.random.default_rng(1).normal(size=(n, 1)).astype(np.float32)
    values[3] = np.nan
    p = np.where(values > 1, 0.01, 0.9)
    best = np.where(values > 1, 2.0, np.nan)
    data, p_data, best_data = (SurfaceData(one[:left], one[left:], ("m",)) for one in (values, p, best))
    its = NetworkMaps(
        means={"conv1": data}, p={"conv1": p_data}, best_layer=best_data, mesh=mesh, layers=["a", "conv1"]
    )
    content = ReportContent(title="t", measure="rho-a", maps={"n": its})
    found = make_viewer(content, [brain("n", [])])
    assert found is not None
    assert found.kind == "cortex"
    assert [one.name for one in found.groups["n"]] == ["conv1", "best layer"]
    assert found.first == ("n", "conv1")
    about, shown, significant = unpack(found.groups["n"][0])
    assert np.nanmax(np.abs(shown - values[:, 0])) <= about["step"] / 2 * (1 + 1e-9)
    np.testing.assert_array_equal(np.isnan(shown), np.isnan(values[:, 0]))
    np.testing.assert_array_equal(significant, (p[:, 0] < 0.05) & np.isfinite(values[:, 0]))
    np.testing.assert_array_equal(unpack(found.groups["n"][1])[1], best[:, 0])

    about, content_ = json.loads(found.template.about), zlib.decompress(base64.b64decode(found.template.data))
    assert about["sizes"] == list(mesh.sizes)
    numbers = np.frombuffer(content_[: 4 * (3 * n + 3 * about["triangles"])], "<i4")
    points, triangles = (np.cumsum(part.reshape(3, -1), axis=1).T for part in np.split(numbers, [3 * n]))
    np.testing.assert_array_equal(triangles, mesh.triangles)
    assert about["inflated"] == known
    if not known:
        np.testing.assert_allclose(points * about["step"], mesh.points, atol=about["step"] / 2 + 1e-9)
        return
    parts = load_fsaverage("fsaverage5")["inflated"].parts
    inflated = np.concatenate([parts[side].coordinates for side in ("left", "right")])
    np.testing.assert_allclose(points * about["step"], inflated, atol=about["step"] / 2 + 1e-9)
    rest = content_[4 * len(numbers) :]
    own = np.cumsum(np.frombuffer(rest[: 12 * n], "<i4").reshape(3, -1), axis=1).T * about["step"]
    np.testing.assert_allclose(own, mesh.points, atol=about["step"] / 2 + 1e-9)
    depth = load_fsaverage_data("fsaverage5", mesh_type="inflated", data_type="sulcal").data.parts
    gyri = np.concatenate([np.ravel(depth[side]) < 0 for side in ("left", "right")])
    np.testing.assert_array_equal(np.unpackbits(np.frombuffer(rest[12 * n :], np.uint8), count=n), gyri)


def test_every_16th_vertex_of_a_fine_mesh_is_drawn_and_a_mesh_without_room_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fine = 163_842
    mesh = Mesh(np.zeros((2 * fine, 3)), np.zeros((0, 3), np.int64), (fine, fine))
    values = np.arange(2 * fine, dtype=np.float32)[:, None]
    data = SurfaceData(values[:fine], values[fine:], ("m",))
    shown = choose_shown_mesh(data, mesh)
    assert shown.sizes == (10_242, 10_242)
    np.testing.assert_array_equal(shown.take(data), np.r_[0:10_242, fine : fine + 10_242])
    assert "every 16th of fsaverage" in shown.words
    coarse = load_mesh("fsaverage5")
    its = NetworkMaps(means={"conv1": data}, mesh=mesh)
    content = ReportContent(title="t", maps={"n": its})
    assert make_viewer(content, [brain("n", [])]) is not None
    np.testing.assert_array_equal(coarse.triangles, shown.triangles)
    monkeypatch.setattr(viewer, "_ROOM", 1000)
    assert make_viewer(content, [brain("n", [])]) is None
