"""The searchlight on the cortical surface: disc by disc what RDMs and their comparison give, and what is planted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from rsatoolbox.rdm import RDMs
from scipy.spatial import Delaunay

from brainmap import rsa, viz
from brainmap.errors import InputError
from brainmap.rsa import SurfaceData, surface_searchlight
from brainmap.rsa.surface.discs import discs_on
from brainmap.rsa.surface.meshes import Mesh, join_hemispheres, load_mesh

WORDS = [f"w{k}" for k in range(8)]


def patch(rng: np.random.Generator, n: int, x: float) -> tuple[Any, Any]:
    """Points and triangles of a bumpy piece of cortex of 20 mm."""
    flat = rng.uniform(0, 20, (n, 2))
    return np.c_[flat[:, 0] + x, flat[:, 1], 2 * np.sin(flat[:, 0] / 3)], Delaunay(flat).simplices


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.fixture
def mesh(rng: np.random.Generator) -> Mesh:
    return join_hemispheres({"left": patch(rng, 120, -40), "right": patch(rng, 90, 20)}, name="small")


@pytest.fixture
def models(rng: np.random.Generator) -> RDMs:
    return RDMs(
        rng.random((3, 28)),
        rdm_descriptors={"layer": ["conv1", "conv2", "conv3"]},
        pattern_descriptors={"stimulus_id": WORDS},
        descriptors={"level": "stimulus"},
    )


def runs_on(mesh: Mesh, rng: np.random.Generator, n_runs: int = 3) -> list[SurfaceData]:
    """Noise in runs; a vertex of the left is NaN in one run, one of the right constant."""
    left, right = mesh.sizes
    runs = []
    for _ in range(n_runs):
        values = rng.normal(size=(left + right, len(WORDS))).astype("f4")
        runs.append(SurfaceData(values[:left], values[left:], tuple(WORDS)))
    if left:
        runs[-1].left[7, 2] = np.nan
    if right:
        for run in runs:
            run.right[5] = 3
    return runs


def place_of(data: Any, mesh: Mesh) -> Any:
    """The place in the mesh of each channel."""
    sides = np.asarray(data.channel_descriptors["hemisphere"]) == "right"
    return np.asarray(data.channel_descriptors["vertex"]) + sides * mesh.sizes[0]


# What it computes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dissimilarity", "measure", "size", "whitened"),
    [
        ("correlation", "spearman", {"radius_mm": 5.0}, False),
        ("euclidean", "pearson", {"radius_mm": 5.0, "metric": "geodesic"}, False),
        ("cosine", "cosine", {"n_vertices": 15}, False),
        ("crossnobis", "rho-a", {"n_vertices": 15, "metric": "geodesic"}, False),
        ("crossnobis", "spearman", {"radius_mm": 5.0}, True),
        ("correlation", "tau-a", {"n_vertices": 12}, False),
        ("crossnobis", "cosine_cov", {"radius_mm": 5.0}, False),
    ],
)
def test_every_disc_has_the_scores_of_its_rdm(
    mesh: Mesh, models: RDMs, rng: np.random.Generator, dissimilarity: Any, measure: Any, size: Any, whitened: bool
) -> None:
    data = rsa.load_surface_patterns(runs_on(mesh, rng))
    place = place_of(data, mesh)
    assert len(place) == 208
    noise: Any = {"noise": "runs"} if whitened else {}
    maps = surface_searchlight(data, models, mesh=mesh, dissimilarity=dissimilarity, measure=measure, **size, **noise)
    discs = discs_on(mesh, vertices=place, **size)
    np.testing.assert_array_equal(maps.counts[place], discs.sizes())
    assert maps.n_excluded == 2
    for center in range(0, len(place), 9):
        members = np.sort(discs.members[discs.starts[center] : discs.starts[center + 1]])
        part = data.subset_channel("voxel", [int(v) for v in data.channel_descriptors["voxel"][members]])
        own = {"noise_precision": rsa.noise_precision(part)} if whitened else {}
        wanted = np.full(3, np.nan)
        if len(members) >= 10:
            rdms = rsa.compute_rdms(part, dissimilarity=dissimilarity, **own)
            wanted = rsa.compare_rdms(models, rdms, measure=measure)[:, 0]
        np.testing.assert_allclose(maps.array[:, place[center]], wanted, atol=1e-10, rtol=0)


def test_an_array_is_searched_as_it_lies_on_the_mesh(mesh: Mesh, models: RDMs, rng: np.random.Generator) -> None:
    runs = runs_on(mesh, rng)
    data = rsa.load_surface_patterns(runs)
    array = np.stack([run.values.T for run in runs])
    one = surface_searchlight(data, models, mesh=mesh, radius_mm=6)
    other = surface_searchlight(array, models, mesh=mesh, radius_mm=6, labels=WORDS, threads=2)
    np.testing.assert_allclose(one.array, other.array, atol=1e-12)
    np.testing.assert_array_equal(one.counts, other.counts)


def test_a_mask_and_missing_data_leave_vertices_out_of_every_disc(
    mesh: Mesh, models: RDMs, rng: np.random.Generator
) -> None:
    runs = runs_on(mesh, rng)
    inside = rng.random(210) > 0.3
    mask = SurfaceData(inside[:120, None].astype("f4"), inside[120:, None].astype("f4"))
    maps = surface_searchlight(rsa.load_surface_patterns(runs), models, mesh=mesh, radius_mm=6, mask=mask)
    earlier = surface_searchlight(rsa.load_surface_patterns(runs, mask=mask), models, mesh=mesh, radius_mm=6)
    np.testing.assert_array_equal(maps.array, earlier.array)
    usable = inside.copy()
    usable[[7, 125]] = False
    np.testing.assert_array_equal(maps.counts > 0, usable)
    assert maps.n_excluded == inside[[7, 125]].sum()
    assert np.isnan(maps.array[:, ~usable]).all()
    few = (maps.counts > 0) & (maps.counts < 10)
    assert maps.n_unscored == few.sum() == (np.isnan(maps.array[0]) & usable).sum()
    np.testing.assert_array_equal(
        maps.counts[usable], discs_on(mesh, radius_mm=6, vertices=np.flatnonzero(usable)).sizes()
    )


def test_a_disc_with_a_constant_pattern_has_no_score_and_the_others_do(mesh: Mesh, models: RDMs) -> None:
    values = np.random.default_rng(0).normal(size=(8, 210))
    discs = discs_on(mesh, radius_mm=6)
    values[3, discs.members[discs.starts[40] : discs.starts[41]]] = 1.0
    maps = surface_searchlight(values, models, mesh=mesh, radius_mm=6, labels=WORDS)
    assert np.isnan(maps.array[:, 40]).all()
    assert maps.n_unscored < 40
    assert np.isfinite(maps.array[:, 120:][:, maps.counts[120:] >= 10]).all()


@pytest.mark.parametrize("side", ["left", "right"])
def test_one_hemisphere_is_searched_alone(mesh: Mesh, models: RDMs, rng: np.random.Generator, side: str) -> None:
    runs = runs_on(mesh, rng)
    both = surface_searchlight(rsa.load_surface_patterns(runs), models, mesh=mesh, radius_mm=6)
    none = np.empty((0, 8), "f4")
    half = [
        SurfaceData(run.left if side == "left" else none, run.right if side == "right" else none, run.labels)
        for run in runs
    ]
    maps = surface_searchlight(rsa.load_surface_patterns(half), models, mesh=mesh, radius_mm=6)
    assert maps.mesh.sizes == ((120, 0) if side == "left" else (0, 90))
    own = slice(0, 120) if side == "left" else slice(120, 210)
    np.testing.assert_allclose(maps.array, both.array[:, own], atol=1e-12)
    assert getattr(maps["conv2"], side).shape == (len(both.counts[own]), 1)
    alone = surface_searchlight(rsa.load_surface_patterns(half), models, mesh=mesh.side(side), radius_mm=6)
    np.testing.assert_array_equal(maps.array, alone.array)


def test_maps_are_a_mapping_that_saves_itself_as_gifti(
    mesh: Mesh, models: RDMs, rng: np.random.Generator, tmp_path: Path
) -> None:
    maps = surface_searchlight(rsa.load_surface_patterns(runs_on(mesh, rng)), models, mesh=mesh, radius_mm=6)
    assert list(maps) == ["conv1", "conv2", "conv3"]
    files = maps.save(tmp_path / "sub-01_hemi-{hemi}.func.gii")
    again = rsa.load_surface(str(tmp_path / "sub-01_hemi-{hemi}.func.gii"))
    assert [file.name for file in files] == ["sub-01_hemi-L.func.gii", "sub-01_hemi-R.func.gii"]
    assert again.labels == maps.names
    np.testing.assert_array_equal(again.values, maps.array.T.astype("f4"))
    scored = np.isfinite(maps.array[0])
    best = maps.best.values[:, 0]
    np.testing.assert_array_equal(np.isfinite(best), scored)
    np.testing.assert_array_equal(best[scored], maps.array[:, scored].argmax(axis=0) + 1)
    np.testing.assert_allclose(maps.best_score.values[scored, 0], maps.array[:, scored].max(axis=0), rtol=1e-6)
    assert maps.vertex_count.values[:, 0].tolist() == maps.counts.tolist()
    with pytest.raises(KeyError, match="did you mean 'conv2'"):
        maps["conv22"]


def test_maps_are_drawn_on_their_own_mesh_with_the_best_model_below(
    mesh: Mesh, models: RDMs, rng: np.random.Generator
) -> None:
    maps = surface_searchlight(rsa.load_surface_patterns(runs_on(mesh, rng)), models, mesh=mesh, radius_mm=6)
    figure = viz.plot_surface_maps(maps)
    assert {"conv1", "conv2", "conv3", "best", "■ conv3"} <= {text.get_text() for text in figure.texts}
    assert len([axes for axes in figure.axes if axes.collections and len(axes.collections[0].get_paths()) > 50]) == 16
    one = viz.plot_surface_maps(maps, models=["conv2"], threshold=0.2)
    assert "best" not in {text.get_text() for text in one.texts}
    with pytest.raises(InputError, match="did you mean 'conv2'"):
        viz.plot_surface_maps(maps, models=["conv22"])
    with pytest.raises(InputError, match="expected 0 vertices in the left half, as the mesh has, got 120"):
        viz.plot_surface_maps(maps, mesh=mesh.side("right"))
    with pytest.raises(InputError, match="give the mesh"):
        viz.plot_surface_maps(dict(maps))


# What it finds ------------------------------------------------------------------------------------------------------

LEFT, RIGHT = (-52.0, -20.0, 6.0), (56.0, -12.0, 2.0)


def planted(models: RDMs, rng: np.random.Generator) -> Any:
    """Patterns on fsaverage5: conv1's geometry around one place of the left hemisphere, conv3's around one of the
    right, else noise; and which vertices these are."""
    cortex = load_mesh("fsaverage5")
    values = rng.normal(size=(8, len(cortex.points)))
    near = []
    for place, layer in ((LEFT, 0), (RIGHT, 2)):
        inside = np.linalg.norm(cortex.points - place, axis=1) < 16
        distances = np.zeros((8, 8))
        distances[np.triu_indices(8, 1)] = models.dissimilarities[layer]
        distances += distances.T
        centering = np.eye(8) - 1 / 8
        strength, axes = np.linalg.eigh(-0.5 * centering @ distances @ centering)
        points = axes * np.sqrt(np.maximum(strength, 0))
        values[:, inside] += 12 * points @ rng.normal(size=(8, inside.sum())) / np.sqrt(8)
        near.append(inside)
    return values, near


def test_what_is_planted_is_found_where_it_is_planted(models: RDMs, rng: np.random.Generator) -> None:
    values, (left, right) = planted(models, rng)
    maps = surface_searchlight(values, models, labels=WORDS, dissimilarity="euclidean", measure="pearson")
    assert maps.mesh.sizes == (10_242, 10_242)
    for layer, inside in (("conv1", left), ("conv3", right)):
        scores = maps[layer].values[:, 0]
        assert inside[np.nanargmax(scores)]
        deep = inside & (scores > 0.7 * np.nanmax(scores))
        assert deep.sum() > 20
        assert (maps.best.values[deep, 0] == 1 + maps.names.index(layer)).mean() > 0.9
        assert abs(np.nanmean(scores[~(left | right)])) < 0.05


def test_maps_of_participants_are_tested_over_vertices(mesh: Mesh, models: RDMs, rng: np.random.Generator) -> None:
    inside = np.linalg.norm(mesh.points - mesh.points[30], axis=1) < 8
    maps = []
    for _ in range(8):
        values = rng.normal(size=(8, 210))
        side = np.zeros((8, 8))
        side[np.triu_indices(8, 1)] = models.dissimilarities[1]
        strength, axes = np.linalg.eigh(-0.5 * (np.eye(8) - 1 / 8) @ (side + side.T) @ (np.eye(8) - 1 / 8))
        values[:, inside] += 9 * (axes * np.sqrt(np.maximum(strength, 0))) @ rng.normal(size=(8, inside.sum()))
        maps.append(
            surface_searchlight(
                values, models, mesh=mesh, radius_mm=5, labels=WORDS, dissimilarity="euclidean", measure="pearson"
            )
        )
    result = rsa.group_test(maps, correction="max-t")
    p = result.p_corrected["conv2"].values[:, 0]
    assert result.n_flips == 256
    assert (p[inside] <= 0.05).sum() > 5
    assert (p[120:][np.isfinite(p[120:])] > 0.05).all()  # the other hemisphere
    assert set(result.clusters["model"]) == {"conv2"}


# Bad input ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mesh": "fsaverage5"}, "120 vertices in the left hemisphere, but the mesh fsaverage5 has 10242"),
        ({"radius_mm": 0.2}, "radius of 0.2 mm is smaller than the mean edge of small"),
        ({"radius_mm": 5, "n_vertices": 12}, "exactly one of radius_mm and n_vertices"),
        ({"n_vertices": 119}, "from 2 to 89"),
        ({"n_vertices": 5}, "the largest disc holds 5 vertices, fewer than minimum_vertices=10"),
        ({"metric": "euclid"}, "metric: expected one of"),
        ({"measure": "sperman"}, "did you mean 'spearman'"),
        ({"dissimilarity": "crossnobs"}, "did you mean 'crossnobis'"),
        ({"threads": 0}, "threads=0"),
        ({"mask": SurfaceData(np.ones((119, 1), "f4"), np.ones((90, 1), "f4"))}, "the mask has 119 vertices in the"),
        ({"mask": SurfaceData(np.zeros((120, 1), "f4"), np.zeros((90, 1), "f4"))}, "has no vertex above 0"),
    ],
)
def test_what_does_not_fit_is_refused(
    mesh: Mesh, models: RDMs, rng: np.random.Generator, settings: Any, message: str
) -> None:
    data = rsa.load_surface_patterns(runs_on(mesh, rng))
    with pytest.raises(InputError) as error:
        surface_searchlight(data, models, **({"mesh": mesh} | settings))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_data_of_no_mesh_or_another_one_are_refused(mesh: Mesh, models: RDMs, rng: np.random.Generator) -> None:
    data = rsa.load_surface_patterns(runs_on(mesh, rng))
    with pytest.raises(InputError, match=r"90 vertices in the right hemisphere, but the mesh small \(left"):
        surface_searchlight(data, models, mesh=mesh.side("left"))
    larger = join_hemispheres({"left": patch(rng, 200, -40), "right": patch(rng, 90, 20)}, name="larger")
    with pytest.raises(InputError, match=r"larger has 200 \+ 90"):  # all its vertices exist, and mean other places
        surface_searchlight(data, models, mesh=larger)
    with pytest.raises(InputError, match="the data have 210 vertices, but the mesh larger"):
        surface_searchlight(np.zeros((8, 210)), models, mesh=larger, labels=WORDS)
    del data.channel_descriptors["vertex"]
    with pytest.raises(InputError, match="no 'vertex' and 'hemisphere'"):
        surface_searchlight(data, models, mesh=mesh)
    one_run = rsa.load_surface_patterns(runs_on(mesh, rng, n_runs=1))
    with pytest.raises(InputError, match="expected two runs or more for crossnobis, got one"):
        surface_searchlight(one_run, models, mesh=mesh, dissimilarity="crossnobis")
    with pytest.raises(InputError, match="different items"):
        surface_searchlight(np.ones((8, 210)), models, mesh=mesh, labels=[*WORDS[:7], "other"])


# The command line ---------------------------------------------------------------------------------------------------


@pytest.fixture
def files(mesh: Mesh, models: RDMs, rng: np.random.Generator, tmp_path: Path) -> dict[str, Any]:
    """Names of three runs on a mesh of its own, the mesh, and RDMs, all on disk."""
    names = []
    for k, run in enumerate(runs_on(mesh, rng, n_runs=3)):
        names.append(str(tmp_path / f"run-{k}_hemi-{{hemi}}.func.gii"))
        rsa.save_surface(run, names[-1])
    for side, hemi in (("left", "lh"), ("right", "rh")):
        part = mesh.side(side)
        nib.freesurfer.write_geometry(tmp_path / f"{hemi}.mid", part.points, part.triangles)
    models.dissimilarity_measure = "correlation"
    rsa.save_rdms(models, tmp_path / "models.h5")
    return {"betas": names, "models": tmp_path / "models.h5", "mesh": tmp_path / "{hemi}.mid"}


@pytest.mark.slow
def test_maps_and_their_picture_come_from_the_command_line(
    files: dict[str, Any], tmp_path: Path, lines_of: Any
) -> None:
    out, best, figure = tmp_path / "x_{hemi}.func.gii", tmp_path / "best_{hemi}.shape.gii", tmp_path / "x.png"
    command = [
        "rsa",
        "searchlight",
        "--betas",
        *files["betas"],
        "--models",
        files["models"],
        "--mesh",
        files["mesh"],
        "--radius",
        6,
        "--metric",
        "geodesic",
        "--dissimilarity",
        "crossnobis",
        "--out",
        out,
    ]
    code, said, errors = lines_of(*command, "--best", best, "--figure", figure)
    assert code == 0, errors
    assert said[0].startswith("3 models at ")
    assert said[1:] == [
        f"Wrote {tmp_path}/{name}"
        for name in ("x_L.func.gii", "x_R.func.gii", "best_L.shape.gii", "best_R.shape.gii", "x.png")
    ]
    data = rsa.load_surface_patterns(files["betas"])
    maps = surface_searchlight(
        data,
        rsa.load_rdms(files["models"]),
        mesh=files["mesh"],
        radius_mm=6,
        metric="geodesic",
        dissimilarity="crossnobis",
        noise=rsa.noise_precision(data, method="diag"),
    )
    found = rsa.load_surface(str(out))
    assert found.labels == maps.names
    np.testing.assert_array_equal(found.values, maps.data.values)
    np.testing.assert_array_equal(rsa.load_surface(str(best)).values, maps.best.values)
    assert figure.stat().st_size > 20_000
    assert "rsa searchlight" in nib.load(tmp_path / "x_L.func.gii").meta["History"]
    assert lines_of(*command)[0] == 2  # what is there is kept
    code, _, errors = lines_of(*command, "--precision", "sphere", "--overwrite", "--vertices", 12)
    assert code == 2
    assert "exactly one of radius_mm and n_vertices" in errors[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "x.func.gii"], "--out: expected a name like"),
        (["--out", "x_{hemi}.func.gii", "--mesh", "fsaverage"], "in the left hemisphere, but the mesh fsaverage"),
        (["--out", "x_{hemi}.func.gii", "--mesh", "fsaverge5"], "did you mean 'fsaverage5'"),
        (["--out", "x_{hemi}.func.gii", "--noise", "residuals"], "on the surface take --noise runs"),
        (["--out", "x_{hemi}.func.gii", "--figure", "x.gif"], "got x.gif"),
    ],
)
def test_commands_refuse_what_does_not_fit_a_surface(
    files: dict[str, Any], tmp_path: Path, monkeypatch: Any, lines_of: Any, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if "fsaverage" in options:  # nilearn would download it
        monkeypatch.setattr("brainmap.rsa.load_mesh", lambda name: load_mesh("fsaverage5"))
    code, _, errors = lines_of("rsa", "searchlight", "--betas", *files["betas"], "--models", files["models"], *options)
    assert code == 2
    assert message in errors[-1]
    assert not list(tmp_path.glob("x*"))


def test_options_of_surfaces_mean_nothing_for_volumes(files: dict[str, Any], tmp_path: Path, lines_of: Any) -> None:
    given = ["--betas", "x.nii.gz", "--mask", "m.nii.gz", "--models", files["models"], "--out", tmp_path / "x.nii.gz"]
    code, _, errors = lines_of("rsa", "searchlight", *given, "--metric", "geodesic")
    assert code == 2
    assert "--metric: expected data on the surface" in errors[-1]
