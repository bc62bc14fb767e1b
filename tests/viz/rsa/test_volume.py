"""Maps in the right place of the head, on any grid, with left on the left."""

from __future__ import annotations

from typing import Any

import nibabel
import numpy as np
import pytest

from brainmap.errors import InputError
from brainmap.viz import plot_brain, plot_glass_brain, plot_sheet
from brainmap.viz.page.sheet import SheetRow
from brainmap.viz.rsa.volume import (
    _BOX,
    _PLANES,
    _compute_plane,
    _load_template,
    _resample_to_box,
    _sample,
    find_peaks,
    plot_best_layer,
    read_volume,
)

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


def colored_place(axes: Any, view: Any) -> Any:
    """Center of the color of a panel in world millimeters; the template below it is gray."""
    picture = np.asarray(axes.images[-1].get_array())
    rows, columns = np.nonzero(picture[..., 3] > 0.5)
    right, up = _PLANES[view]
    step = (_BOX[right][1] - _BOX[right][0]) / picture.shape[1]
    return _BOX[right][0] + (columns.mean() + 0.5) * step, _BOX[up][1] - (rows.mean() + 0.5) * step


@pytest.mark.parametrize("flip", [False, True])
def test_color_lies_where_the_map_is_high_whatever_way_the_grid_runs(flip: Any) -> None:
    figure = plot_brain(ball(flip=flip), cuts=[PEAK])
    for axes, view in zip(figure.axes, "xyz", strict=False):
        right, up = _PLANES[view]
        assert colored_place(axes, view) == pytest.approx((PEAK[right], PEAK[up]), abs=1.5)


def test_the_glass_brain_keeps_hemispheres_apart() -> None:
    figure = plot_glass_brain(ball())
    left, behind, above, right = figure.axes[:4]
    assert colored_place(left, "x") == pytest.approx(PEAK[1:], abs=2.5)
    assert colored_place(behind, "y") == pytest.approx((PEAK[0], PEAK[2]), abs=2.5)
    assert colored_place(above, "z") == pytest.approx(PEAK[:2], abs=2.5)
    assert (np.asarray(right.images[-1].get_array())[..., 3] < 0.5).all()


def test_the_template_is_cut_where_the_box_says() -> None:
    from nilearn.datasets import load_mni152_template

    image = load_mni152_template(resolution=1)
    at = np.linalg.inv(image.affine) @ [_BOX[0][0] + 30, _BOX[1][0] + 90, _BOX[2][0] + 80, 1]
    i, j, k = at[:3].round().astype(int)
    assert _load_template()[30, 90, 80] == np.float32(image.dataobj[i, j, k])


def test_missing_data_never_bleed_into_their_neighbors() -> None:
    image = ball(value=1.0)
    data = np.asarray(image.dataobj).copy()
    data[:] = 1.0
    data[10:20] = np.nan
    values = _sample(read_volume(nibabel.Nifti1Image(data, image.affine), "x"), _compute_plane("z", 8.0))
    inside = values[np.isfinite(values)]
    assert inside.min() == pytest.approx(1.0, abs=1e-5)
    assert np.isnan(values).any()
    assert np.isfinite(_resample_to_box(read_volume(image, "x"))).all()


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
    picture = np.asarray(figure.axes[1].images[-1].get_array())
    seen = np.unique(picture[picture[..., 3] > 0][:, :3], axis=0)
    np.testing.assert_allclose(seen, [to_rgb(assign_layer_colors(["conv1", "conv2", "conv3"])["conv2"])], atol=1e-6)


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
