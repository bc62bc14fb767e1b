"""The cortical surface: GIFTI read and written, volumes projected, ROI RSA on vertices, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from brainmap import rsa, viz
from brainmap.errors import BrainmapError, InputError
from brainmap.rsa.surface.data import MESHES

N = 40  # vertices of a small hemisphere
WORDS = ("cat", "dog", "tree", "yes")


def gifti(path: Path, arrays: Any, side: str = "", names: Any = (), **kind: Any) -> Path:
    """A GIFTI file as nibabel alone writes it."""
    made = [
        nib.gifti.GiftiDataArray(a, meta={"Name": names[k]} if names else None, **kind) for k, a in enumerate(arrays)
    ]
    meta = nib.gifti.GiftiMetaData({"AnatomicalStructurePrimary": side} if side else {})
    nib.save(nib.GiftiImage(darrays=made, meta=meta), path)
    return path


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(4)


@pytest.fixture
def runs(tmp_path: Path, rng: np.random.Generator) -> list[str]:
    """Three runs of four maps on two small hemispheres; vertex 3 of the left is NaN, 5 of the right constant."""
    names = []
    for run in (1, 2, 3):
        for letter, side in (("L", "CortexLeft"), ("R", "CortexRight")):
            maps = rng.normal(size=(4, N)).astype("f4")
            if letter == "L":
                maps[1, 3] = np.nan
            else:
                maps[:, 5] = 0
            gifti(tmp_path / f"run-{run}_hemi-{letter}.func.gii", maps, side, WORDS)
        names.append(str(tmp_path / f"run-{run}_hemi-{{hemi}}.func.gii"))
    return names


def test_both_hemispheres_become_one_set_of_named_maps(runs: list[str], tmp_path: Path) -> None:
    data = rsa.load_surface(runs[0])
    assert data.labels == WORDS
    assert data.sizes == (N, N)
    theirs = nib.load(tmp_path / "run-1_hemi-R.func.gii")
    np.testing.assert_array_equal(data.right, np.stack(theirs.agg_data(), axis=1))
    assert data.hemisphere.tolist() == ["left"] * N + ["right"] * N
    one = rsa.load_surface(tmp_path / "run-1_hemi-R.func.gii")  # it says its side
    np.testing.assert_array_equal(one.right, data.right)
    assert one.sizes == (0, N)


def test_a_time_series_in_one_array_is_read_like_an_array_a_volume(tmp_path: Path, rng: np.random.Generator) -> None:
    values = rng.normal(size=(N, 6)).astype("f4")
    gifti(tmp_path / "a.func.gii", [values], "CortexLeft")
    gifti(tmp_path / "b.func.gii", list(values.T.copy()), "CortexLeft", intent="NIFTI_INTENT_TIME_SERIES")
    one, other = (rsa.load_surface(tmp_path / name) for name in ("a.func.gii", "b.func.gii"))
    np.testing.assert_array_equal(one.left, values)
    np.testing.assert_array_equal(other.left, values)
    assert one.labels == tuple(f"#{k}" for k in range(6))


def test_what_is_saved_comes_back(tmp_path: Path, runs: list[str]) -> None:
    data = rsa.load_surface(runs[1])
    files = rsa.save_surface(data, tmp_path / "again_hemi-{hemi}.shape.gii")
    assert [file.name for file in files] == ["again_hemi-L.shape.gii", "again_hemi-R.shape.gii"]
    again = rsa.load_surface(str(tmp_path / "again_hemi-{hemi}.shape.gii"))
    np.testing.assert_array_equal(again.values, data.values)
    assert again.labels == data.labels
    with pytest.raises(InputError, match="exists"):
        rsa.save_surface(data, tmp_path / "again_hemi-{hemi}.shape.gii")
    with pytest.raises(InputError, match="expected a name like"):
        rsa.save_surface(data, tmp_path / "again.nii")


def test_patterns_know_hemisphere_and_vertex_and_give_the_rdms_of_the_same_numbers(
    runs: list[str], rng: np.random.Generator
) -> None:
    data = rsa.load_surface_patterns(runs, participant="01")
    assert data.measurements.shape == (12, 2 * N - 2)
    sides, vertices = (np.asarray(data.channel_descriptors[key]) for key in ("hemisphere", "vertex"))
    assert set(range(N)) - set(vertices[sides == "left"].tolist()) == {3}
    assert set(range(N)) - set(vertices[sides == "right"].tolist()) == {5}
    report = rsa.voxel_report(data).iloc[0]
    assert report[["voxels", "dropped_nan", "dropped_constant", "kept"]].tolist() == [2 * N, 1, 1, 2 * N - 2]
    values = np.delete(rsa.load_surface(runs[0]).values, [3, N + 5], axis=0)
    np.testing.assert_array_equal(data.measurements[:4], values.T)
    # the same numbers in a volume
    volume = [
        nib.Nifti1Image(np.nan_to_num(rsa.load_surface(r).values).reshape(2 * N, 1, 1, 4), np.diag([2.0, 2, 2, 1]))
        for r in runs
    ]
    mask = np.ones((2 * N, 1, 1), np.uint8)
    mask[[3, N + 5]] = 0
    other = rsa.load_patterns(volume, mask=nib.Nifti1Image(mask, np.diag([2.0, 2, 2, 1])), conditions=list(WORDS))
    for dissimilarity in ("crossnobis", "correlation"):
        one, two = (rsa.compute_rdms(d, dissimilarity=dissimilarity) for d in (data, other))
        np.testing.assert_allclose(one.dissimilarities, two.dissimilarities)


@pytest.fixture
def labels(tmp_path: Path) -> str:
    """Two regions a hemisphere, as FreeSurfer names them, and an unknown one."""
    for letter, side in (("L", "CortexLeft"), ("R", "CortexRight")):
        values = np.zeros(N, np.int32)
        values[:15], values[15:30], values[30:] = 1, 2, 0
        image = nib.load(gifti(tmp_path / f"aparc_{letter}.label.gii", [values], side, intent="NIFTI_INTENT_LABEL"))
        for key, name in enumerate(("unknown", "heschl", "belt")):
            label = nib.gifti.GiftiLabel(key, 1, 0, 0, 1)
            label.label = name
            image.labeltable.labels.append(label)
        nib.save(image, tmp_path / f"aparc_{letter}.label.gii")
    return str(tmp_path / "aparc_{hemi}.label.gii")


def test_label_files_are_regions_of_each_hemisphere_or_of_both(runs: list[str], labels: str) -> None:
    rois = rsa.load_surface_rois(labels)
    assert rois.sizes == {"left-heschl": 15, "left-belt": 15, "right-heschl": 15, "right-belt": 15}
    pooled = rsa.load_surface_rois(labels, hemispheres="pooled")
    assert pooled.sizes == {"heschl": 30, "belt": 30}
    data = rsa.load_surface_patterns(runs, rois=rois)
    part = rsa.select_roi(data, "right-heschl")
    assert set(part.channel_descriptors["hemisphere"]) == {"right"}
    assert sorted(part.channel_descriptors["vertex"]) == [v for v in range(15) if v != 5]
    rdms = rsa.compute_rdms(data, rois="all", dissimilarity="crossnobis")
    assert sorted(rdms.rdm_descriptors["roi"]) == sorted(rois.names)
    assert rsa.noise_precision(part).weights("1").shape == (14, 14)


def test_roi_rsa_runs_from_the_command_line(runs: list[str], labels: str, tmp_path: Path, lines_of: Any) -> None:
    out = tmp_path / "rdms.h5"
    code, said, errors = lines_of("rsa", "rdm", "--betas", *runs, "--rois", labels, "--out", out, "--participant", "01")
    assert code == 0, errors
    assert "4 RDMs" in said[-1]
    rdms = rsa.load_rdms(out)
    expected = rsa.compute_rdms(
        (data := rsa.load_surface_patterns(runs, rois=labels)),
        rois="all",
        dissimilarity="crossnobis",
        noise_precision={r: rsa.noise_precision(rsa.select_roi(data, r)) for r in rsa.load_surface_rois(labels).names},
    )
    np.testing.assert_allclose(rdms.dissimilarities, expected.dissimilarities)


# Projection ---------------------------------------------------------------------------------------------------------


def mni(values: Any, step: float = 6.0) -> nib.Nifti1Image:
    affine = np.diag([step, step, step, 1])
    affine[:3, 3] = -90, -126, -72
    image = nib.Nifti1Image(np.asarray(values, "f4"), affine)
    image.set_sform(affine, 4)
    return image


def positions(step: float = 6.0) -> np.ndarray:
    """World coordinates of the voxels of `mni`."""
    grid = np.stack(np.meshgrid(*[np.arange(int(n / step)) for n in (180, 220, 186)], indexing="ij"), -1)
    return grid * step + [-90, -126, -72]


def test_a_linear_field_projects_to_the_coordinates_between_white_matter_and_pial_surface() -> None:
    from nilearn.datasets import load_fsaverage

    where = positions()
    image = mni(np.stack([where[..., k] for k in range(3)], axis=3))
    data = rsa.project_to_surface(image)
    assert data.sizes == (MESHES["fsaverage5"],) * 2
    mesh = load_fsaverage("fsaverage5")
    for side, values in (("left", data.left), ("right", data.right)):
        middle = (mesh["pial"].parts[side].coordinates + mesh["white_matter"].parts[side].coordinates) / 2
        np.testing.assert_allclose(values, middle, atol=0.05)


def test_missing_data_stay_missing_and_do_not_bleed() -> None:
    where = positions()
    values = np.where(where[..., 0] < 0, 1.0, np.nan)
    data = rsa.project_to_surface(mni(values))
    assert np.isnan(data.right).mean() > 0.9
    assert np.nanmin(data.left) == pytest.approx(1)
    assert np.nanmax(data.left) == pytest.approx(1)
    halves = rsa.project_to_surface(mni(np.where(where[..., 0] < 0, 3, 7)), interpolation="label")
    assert set(np.unique(halves.values)) == {3.0, 7.0}


def test_a_map_in_another_space_or_outside_of_the_cortex_is_refused() -> None:
    native = nib.Nifti1Image(np.ones((4, 4, 4), "f4"), np.diag([3.0, 3, 3, 1]))
    native.set_sform(native.affine, 1)
    with pytest.raises(InputError, match="expected an image in MNI, where fsaverage lies, got one in ORIG"):
        rsa.project_to_surface(native)
    with pytest.raises(InputError, match="no vertex of the cortex lies in the image's data"):
        rsa.project_to_surface(mni(np.full((3, 3, 3), np.nan)))


@pytest.mark.slow
def test_commands_project_and_draw(tmp_path: Path, lines_of: Any) -> None:
    where = positions()
    ball = np.exp(-((where - [-45, -21, 7]) ** 2).sum(-1) / 200)
    path = rsa.save_image(mni(ball), tmp_path / "map.nii.gz", labels=["conv4"], space="MNI")
    out = tmp_path / "map_hemi-{hemi}.func.gii"
    code, said, _ = lines_of("rsa", "project", path, "--out", out)
    assert (code, said) == (0, [f"Wrote {tmp_path}/map_hemi-L.func.gii", f"Wrote {tmp_path}/map_hemi-R.func.gii"])
    assert rsa.load_surface(str(out)).labels == ("conv4",)
    assert lines_of("rsa", "project", path, "--out", out)[0] == 2
    assert lines_of("viz", "brain", out, "--view", "surface", "--out", tmp_path / "s.png", "--dpi", 50)[0] == 0
    assert (tmp_path / "s.png").stat().st_size > 5_000


def test_the_hottest_part_of_the_picture_is_where_the_map_is() -> None:
    where = positions()
    data = rsa.project_to_surface(mni(np.exp(-((where - [-45, -21, 7]) ** 2).sum(-1) / 200)))
    figure = viz.plot_surface(data)
    panels = [axes for axes in figure.axes if axes.collections and len(axes.collections[0].get_paths()) > 1000]
    warm = []
    for axes in panels:
        colors = axes.collections[0].get_facecolor()
        warm.append(int((colors[:, 0] - colors[:, 2] > 0.15).sum()))
    assert warm[0] > 50  # left lateral
    assert warm[2] == warm[3] == 0  # the right hemisphere
    assert warm[0] > 5 * warm[1]
    best = viz.plot_surface(rsa.SurfaceData(np.ones((10_242, 1), "f4"), np.ones((0, 1), "f4")), layers=("a", "b"))
    assert [text.get_text() for text in best.texts if "■" in text.get_text()] == ["■ a", "■ b"]


# Bad input ----------------------------------------------------------------------------------------------------------


def mesh_file(folder: Path) -> Any:
    points = np.zeros((N, 3), "f4")
    arrays = [nib.gifti.GiftiDataArray(points, intent="NIFTI_INTENT_POINTSET")]
    nib.save(nib.GiftiImage(darrays=arrays), folder / "x.surf.gii")
    return folder / "x.surf.gii"


def swapped(folder: Path) -> Any:
    return {"right": gifti(folder / "l.func.gii", [np.zeros(N, "f4")], "CortexLeft")}


def unsaid(folder: Path) -> Any:
    return gifti(folder / "l.func.gii", [np.zeros(N, "f4")])


def other_maps(folder: Path) -> Any:
    gifti(folder / "x_L.func.gii", np.zeros((2, N), "f4"))
    gifti(folder / "x_R.func.gii", np.zeros((3, N), "f4"))
    return str(folder / "x_{hemi}.func.gii")


def cut_short(folder: Path) -> Any:
    path = gifti(folder / "x.func.gii", np.ones((2, N), "f4"), "CortexLeft")
    path.write_bytes(path.read_bytes()[:-200])
    return path


def a_volume(folder: Path) -> Any:
    return rsa.save_image(nib.Nifti1Image(np.zeros((2, 2, 2), "f4"), np.eye(4)), folder / "x.nii")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (mesh_file, "got a mesh"),
        (swapped, "given as the right hemisphere, but says that it is the CortexLeft"),
        (unsaid, "does not say its hemisphere"),
        (other_maps, "the hemispheres hold different maps"),
        (cut_short, "damaged"),
        (a_volume, "expected a GIFTI file"),
        (lambda folder: folder / "none.func.gii", "no file"),
        (lambda folder: str(folder / "none_{hemi}.func.gii"), "no file"),
    ],
)
def test_files_that_are_no_surface_data_are_refused(tmp_path: Path, make: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        rsa.load_surface(make(tmp_path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_meshes_that_differ_are_refused(runs: list[str], labels: str, tmp_path: Path) -> None:
    small = rsa.SurfaceData(np.zeros((N, 4), "f4"), np.zeros((N - 1, 4), "f4"), WORDS, name="small")
    with pytest.raises(InputError, match=r"small: expected \(40, 40\) vertices .* got \(40, 39\)"):
        rsa.load_surface_patterns([runs[0], small])
    values = np.ones((2 * N - 1, 1), "f4")
    wrong = rsa.load_surface_rois(rsa.SurfaceData(values[:N], values[N:]))
    with pytest.raises(InputError, match="expected 80 vertices, as the patterns have, got 79"):
        rsa.load_surface_patterns(runs, rois=wrong)
    with pytest.raises(InputError, match="ROI 'left-heschl': expected at least 20 vertices, got 15"):
        rsa.load_surface_rois(labels, minimum_vertices=20)
    with pytest.raises(InputError, match="values that are not whole numbers"):
        rsa.load_surface_rois(rsa.SurfaceData(np.full((3, 1), 0.5, "f4"), np.zeros((0, 1), "f4")))
    with pytest.raises(InputError, match="expected 10242"):
        viz.plot_surface(small)


@settings(max_examples=60, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=3))
def test_a_flipped_byte_in_gifti_is_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[float, int]]
) -> None:
    path = tmp_path_factory.mktemp("flip") / "x.func.gii"
    content = bytearray(gifti(path, np.ones((2, 10), "f4"), "CortexLeft", ("a", "b")).read_bytes())
    for place, flip in flips:
        content[int(place * len(content))] ^= flip
    path.write_bytes(content)
    try:
        data = rsa.load_surface({"left": path})
    except BrainmapError:
        return
    assert data.left.dtype == np.float32
    assert data.left.ndim == 2
    assert len(data.labels) == data.left.shape[1]


def test_a_label_of_minus_one_is_background_and_other_negative_ones_are_refused(tmp_path: Path) -> None:
    values = np.full(N, -1, np.int32)
    values[:15] = 1
    for letter, side in (("L", "CortexLeft"), ("R", "CortexRight")):
        gifti(tmp_path / f"a_{letter}.label.gii", [values], side, intent="NIFTI_INTENT_LABEL")
    rois = rsa.load_surface_rois(str(tmp_path / "a_{hemi}.label.gii"))
    assert rois.sizes == {"left-1": 15, "right-1": 15}
    data = np.where(values == -1, -2, values)[:, None].astype("f4")
    with pytest.raises(InputError, match="not whole numbers from 0"):
        rsa.load_surface_rois(rsa.SurfaceData(data, data))
