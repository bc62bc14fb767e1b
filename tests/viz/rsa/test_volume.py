"""Maps in the right place of the head, on any grid, with left on the left."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import nibabel
import numpy as np
import pytest

from brainmap.errors import InputError
from brainmap.rsa.regions.rois import Rois
from brainmap.viz import plot_brain, plot_glass_brain, plot_regions, plot_sheet
from brainmap.viz.page.sheet import SheetRow
from brainmap.viz.rsa.panels import (
    BOX,
    PLANES,
    TALL,
    _read_template,
    compute_plane,
    load_template,
    measure_width,
    resample_to_box,
    sample,
)
from brainmap.viz.rsa.volume import find_peaks, plot_best_layer, read_volume

PEAK = (-44.0, -20.0, 8.0)


def ball(center: Any = PEAK, *, flip: Any = False, step: Any = 4.0, value: Any = 1.0) -> Any:
    """A ball of 8 mm around a place, on a grid whose first axis runs either way, 0 outside and NaN beyond y = 60."""
    shape = (int(184 / step), int(224 / step), int(188 / step))
    affine = np.diag([step, step, step, 1.0])
    affine[:3, 3] = (-92, -128, -76)
    if flip:
        affine[0] = [-step, 0, 0, -92 + step * (shape[0] - 1)]
    world = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    data = np.where(((world - center) ** 2).sum(axis=-1) <= 64, value, 0.0)
    data[world[..., 1] > 60] = np.nan
    return nibabel.Nifti1Image(data.astype(np.float32), affine)


def saturation(axes: Any) -> np.ndarray:
    """How far each pixel of the picture of an axes is from gray; the template below the colors is gray."""
    picture = np.asarray(axes.images[0].get_array())
    return np.asarray(np.ptp(picture[..., :3], axis=-1) * picture[..., 3])


def colored_place(axes: Any, views: str, at: int) -> Any:
    """Center of the color of a view in world millimeters."""
    right, up = PLANES[views[at]]
    left = sum(measure_width(view) for view in views[:at])
    rows, columns = np.nonzero(saturation(axes)[:, left : left + measure_width(views[at])] > 0.2)
    middle = (BOX[up][0] + BOX[up][1]) / 2
    return BOX[right][0] + columns.mean() + 0.5, middle + TALL / 2 - rows.mean() - 0.5


@pytest.mark.parametrize("flip", [False, True])
def test_color_lies_where_the_map_is_high_whatever_way_the_grid_runs(flip: Any) -> None:
    figure = plot_brain(ball(flip=flip), cuts=[PEAK])
    for at, view in enumerate("xyz"):
        right, up = PLANES[view]
        assert colored_place(figure.axes[0], "xyz", at) == pytest.approx((PEAK[right], PEAK[up]), abs=1.5)


def test_crosses_and_outlines_lie_in_their_own_view() -> None:
    figure = plot_brain(ball(), cuts=[PEAK, (44.0, 20.0, 40.0)], outline=ball())
    axes = figure.axes[0]
    views = "xyzxyz"
    crosses: list[Any] = [line.get_xydata()[0].tolist() for line in axes.lines if line.get_markersize() == 8]
    assert len(crosses) == 6
    for at, (x, y) in enumerate(crosses):
        right, up = PLANES[views[at]]
        place = (PEAK, (44.0, 20.0, 40.0))[at // 3]
        left = sum(measure_width(view) for view in views[:at])
        middle = (BOX[up][0] + BOX[up][1]) / 2
        assert (x, y) == (left + place[right] - BOX[right][0], place[up] - middle - TALL / 2)
    (outline,) = axes.collections
    around = np.concatenate([path.vertices for path in outline.get_paths()])
    assert around[:, 0].max() < sum(measure_width(view) for view in "xyz"), "the ball is in the first three views"
    near = np.abs(around[:, 0] - crosses[2][0]) < 20
    assert np.linalg.norm(around[near].mean(axis=0) - np.array(crosses[2])) < 2


def test_the_glass_brain_keeps_hemispheres_apart() -> None:
    axes = plot_glass_brain(ball()).axes[0]
    front, up = colored_place(axes, "xyzx", 0)
    assert (BOX[1][0] + BOX[1][1] - front, up) == pytest.approx(PEAK[1:], abs=2.5), "seen from the left"
    assert colored_place(axes, "xyzx", 1) == pytest.approx((PEAK[0], PEAK[2]), abs=2.5)
    assert colored_place(axes, "xyzx", 2) == pytest.approx(PEAK[:2], abs=2.5)
    assert (saturation(axes)[:, -measure_width("x") :] < 0.2).all()


@pytest.mark.parametrize("flip", [False, True])
def test_a_box_is_interpolated_as_scipy_does_it_whether_axes_are_along_it_or_not(flip: bool) -> None:
    from scipy.ndimage import map_coordinates

    image = ball(flip=flip, step=3.7)
    values = np.random.default_rng(0).random(image.shape).astype(np.float32)
    world = np.stack(np.meshgrid(*[np.arange(low, high, 2.0) for low, high in BOX], indexing="ij"))
    turned = image.affine @ np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    tilted = image.affine.copy()
    tilted[0, 1] = 0.4
    for data, affine in ((values, image.affine), (np.swapaxes(values, 0, 1), turned), (values, tilted)):
        inverse = np.linalg.inv(affine)
        voxel = np.tensordot(inverse[:3, :3], world, axes=1) + inverse[:3, 3].reshape(-1, 1, 1, 1)
        wanted = map_coordinates(data, voxel, order=1, cval=0.0)
        found = resample_to_box(read_volume(nibabel.Nifti1Image(data, affine), "x"))
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_the_template_is_cut_where_the_box_says() -> None:
    from nilearn.datasets import load_mni152_template

    image = load_mni152_template(resolution=1)
    at = np.linalg.inv(image.affine) @ [BOX[0][0] + 30, BOX[1][0] + 90, BOX[2][0] + 80, 1]
    i, j, k = at[:3].round().astype(int)
    assert load_template()[30, 90, 80] == np.float32(image.dataobj[i, j, k])


def test_missing_data_never_bleed_into_their_neighbors() -> None:
    image = ball(value=1.0)
    data = np.asarray(image.dataobj).copy()
    data[:] = 1.0
    data[10:20] = np.nan
    values = sample(read_volume(nibabel.Nifti1Image(data, image.affine), "x"), compute_plane("z", 8.0))
    inside = values[np.isfinite(values)]
    assert inside.min() == pytest.approx(1.0, abs=1e-5)
    assert np.isnan(values).any()
    assert np.isfinite(resample_to_box(read_volume(image, "x"))).all()


def test_peaks_are_the_highest_places_and_far_from_each_other() -> None:
    two = nibabel.Nifti1Image(
        np.fmax(np.asarray(ball().dataobj), 0.5 * np.asarray(ball((44, -20, 8)).dataobj)), ball().affine
    )
    first, second = find_peaks(two, n=2)
    assert np.linalg.norm(np.subtract(first, PEAK)) <= 8
    assert np.linalg.norm(np.subtract(second, (44, -20, 8))) <= 8
    assert len(find_peaks(two, n=5)) == 2


def test_best_layers_keep_the_colors_of_their_depth() -> None:
    from matplotlib.colors import to_rgb

    from brainmap.viz.style import assign_layer_colors

    figure = plot_best_layer(ball(value=2.0), ["conv1", "conv2", "conv3"], cuts=[8.0])
    colored = np.asarray(figure.axes[0].images[0].get_array())[saturation(figure.axes[0]) > 0.02]
    seen = np.unique(colored[:, :3], axis=0)
    np.testing.assert_allclose(seen, [to_rgb(assign_layer_colors(["conv1", "conv2", "conv3"])["conv2"])], atol=1e-6)


def test_regions_lie_where_they_are_each_in_a_color_of_its_own_and_the_mask_has_an_edge() -> None:
    image = ball()
    labels = np.zeros(image.shape, np.int32)
    world = np.moveaxis(np.indices(image.shape), 0, -1) @ image.affine[:3, :3].T + image.affine[:3, 3]
    for k, center in enumerate(((-44, -20, 8), (44, -20, 8)), start=1):
        labels[((world - center) ** 2).sum(axis=-1) <= 64] = k
    regions = Rois(("left", "right"), labels, image.affine)
    mask = nibabel.Nifti1Image((np.abs(world) < 60).all(axis=-1).astype(np.uint8), image.affine)
    figure = plot_regions(regions, mask=mask, cuts=[8.0])
    axes = figure.axes[0]
    colored = saturation(axes) > 0.1
    picture = np.asarray(axes.images[0].get_array())[..., :3]
    assert len(np.unique(picture[colored].round(4), axis=0)) == 2
    left = measure_width("x")
    columns = np.nonzero(colored[:, left : left + measure_width("z")])[1]
    assert np.unique(np.sign(BOX[0][0] + columns + 0.5)).tolist() == [-1, 1]
    assert np.abs(BOX[0][0] + columns + 0.5).mean() == pytest.approx(44, abs=1.5)
    (edge,) = axes.collections
    around = np.concatenate([path.vertices for path in edge.get_paths()])
    inside = around[(around[:, 0] > left) & (around[:, 0] < left + measure_width("z"))]
    assert np.ptp(inside[:, 0]) == pytest.approx(120, abs=6)
    assert [text.get_text() for text in figure.axes[1].texts] == ["left", "right"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot_best_layer(ball(value=4.0), ["a", "b", "c"]), "expected whole numbers from 0 to 3"),
        (lambda: plot_best_layer(ball(value=0.5), ["a"]), "expected whole numbers"),
        (lambda: plot_brain(nibabel.Nifti1Image(np.zeros((4, 4, 4, 2), np.float32), np.eye(4))), "expected one volume"),
        (lambda: plot_glass_brain(nibabel.Nifti1Image(np.full((4, 4, 4), np.nan, np.float32), np.eye(4))), "no finite"),
        (lambda: plot_sheet([]), "expected at least one SheetRow, got none"),
    ],
)
def test_mistakes_are_named(call: Any, message: Any) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_a_map_without_anything_high_is_drawn_all_the_same() -> None:
    image = ball(value=0.0)
    assert plot_brain(image).axes
    assert plot_glass_brain(image).axes


def test_a_sheet_has_a_row_a_layer() -> None:
    wave = np.sin(np.arange(1600) / 5)
    rows = [SheetRow(layer=name, image=ball(), pattern=wave, unit="channel 3") for name in ("conv2", "conv7")]
    figure = plot_sheet(rows, layers=["conv2", "conv4", "conv7"])
    assert [part.texts[0].get_text() for part in figure.subfigs] == ["conv2", "conv7"]


def test_maps_of_a_sheet_without_sounds_take_their_place() -> None:
    wave = np.sin(np.arange(1600) / 5)
    heard, alone = (
        plot_sheet([SheetRow(layer=name, image=ball(), pattern=own, where="best in HG (0.31)") for name in ("a", "b")])
        for own in (wave, None)
    )
    starts = [
        min(axes.get_position().x0 for axes in figure.subfigs[1].axes if axes.get_position().x1 > 0.5)
        for figure in (heard, alone)
    ]
    assert starts[0] > 0.35
    assert starts[1] < 0.25, "there is no empty column"
    assert not [text for text in alone.subfigs[0].texts if "no sound" in text.get_text()]


def test_the_template_is_nilearns_and_is_read_without_its_import() -> None:
    from nilearn.datasets import load_mni152_template

    wanted = load_mni152_template(resolution=1)
    data, affine = _read_template()
    assert np.array_equal(data, np.asarray(wanted.dataobj, dtype=np.float32))
    assert np.array_equal(affine, wanted.affine)
    code = (
        "import sys\nfrom brainmap.viz.rsa.panels import load_template\nload_template()\n"
        "print([name for name in ('nilearn', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
