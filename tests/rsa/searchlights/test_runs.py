"""Searchlights where runs lack items, and with noise that runs tell: every sphere against a loop over pairs of runs."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from rsatoolbox.data.dataset import Dataset
from rsatoolbox.data.noise import prec_from_residuals
from rsatoolbox.rdm.rdms import RDMs
from scipy import stats

from brainmap import rsa
from brainmap.errors import InputError
from brainmap.rsa.rdm.dissimilarity import scale_to_unit_length
from brainmap.rsa.searchlights import shared_runs as _shared_runs
from brainmap.rsa.searchlights.settings import SearchlightSettings
from brainmap.rsa.searchlights.volume import plan_searchlight
from brainmap.rsa.surface.meshes import Mesh

N_RUNS, N_ITEMS, RADIUS = 5, 7, 4.5
CROSSNOBIS = SearchlightSettings(dissimilarity="crossnobis", minimum=3)
LABELS = [f"s{k}" for k in range(N_ITEMS)]
MASK = nib.Nifti1Image(np.ones((4, 3, 3), np.uint8), np.diag([3.0, 3, 3, 1]))
WHERE = np.argwhere(np.ones((4, 3, 3))) * 3.0
NEAR = np.linalg.norm(WHERE[:, None] - WHERE, axis=2) <= RADIUS
MODELS = RDMs(
    np.random.default_rng(9).random((3, 21)),
    descriptors={"level": "stimulus"},
    rdm_descriptors={"name": ["a", "b", "c"]},
    pattern_descriptors={"stimulus_id": LABELS},
)
Gaps = dict[str, list[tuple[int, int]]]
GAPS: Gaps = {
    "none": [],
    "one item lacks a run": [(3, 2)],
    "many sets of runs": [(0, 1), (3, 2), (0, 2), (4, 4), (1, 6), (2, 6)],
    "a pair shares one run": [(0, 1), (1, 1), (2, 5), (3, 5)],
}


def patterns(gaps: str, seed: int = 0) -> np.ndarray:
    x = 2 + np.random.default_rng(seed).normal(size=(N_RUNS, N_ITEMS, len(WHERE)))
    for run, item in GAPS[gaps]:
        x[run, item] = np.nan
    return np.asarray(x)


def of_runs(x: np.ndarray, voxels: np.ndarray | None = None) -> Dataset:
    run, item = np.nonzero(~np.isnan(x[..., 0]))
    return Dataset(
        x[run, item],
        obs_descriptors={"stimulus_id": [LABELS[k] for k in item], "run": [f"r{k}" for k in run]},
        channel_descriptors={"voxel": np.arange(x.shape[-1]) if voxels is None else voxels},
    )


def loop(x: np.ndarray, product: Callable[[int, int, np.ndarray, np.ndarray], float]) -> np.ndarray:
    """`product(m, n, i, j)` of two items in two runs, mean over ordered pairs of runs that both items have."""
    found = []
    for i, j in itertools.combinations(range(N_ITEMS), 2):
        runs = [m for m in range(len(x)) if np.isfinite(x[m, [i, j]]).all()]
        products = [product(m, n, i, j) for m in runs for n in runs if m != n]  # type: ignore[arg-type]
        found.append(np.mean(products) if products else np.nan)
    return np.array(found)


def weighted(x: np.ndarray, metric: Callable[[int, int], np.ndarray]) -> np.ndarray:
    return loop(x, lambda m, n, i, j: (x[m, i] - x[m, j]) @ metric(m, n) @ (x[n, i] - x[n, j]) / x.shape[-1])


def without(x: np.ndarray, run: int | None, method: str) -> np.ndarray:
    """The precision from all runs but one, by rsatoolbox."""
    others = x if run is None else np.delete(x, run, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        apart = (others - np.nanmean(others, axis=0))[~np.isnan(others[..., 0])]
    dof = len(apart) - int((~np.isnan(others[..., 0])).any(axis=0).sum())
    return np.asarray(prec_from_residuals(apart, dof=dof, method=method))


def rooted(x: np.ndarray, method: str, *, center: bool) -> np.ndarray:
    """Between-run correlation (or cosine) in which run m and all others are whitened by what the others tell."""
    units = []
    for m in range(len(x)):
        values, vectors = np.linalg.eigh(without(x, m, method))
        units.append(scale_to_unit_length(x @ (vectors * np.sqrt(values)) @ vectors.T, center=center))
    return loop(x, lambda m, n, i, j: (units[m][m, i] - units[m][m, j]) @ (units[m][n, i] - units[m][n, j]) / 2)


def residual_runs() -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.normal(size=(60, len(WHERE))) * rng.uniform(0.5, 2, len(WHERE)) for _ in range(N_RUNS)]


def demeaned(parts: list[np.ndarray], near: np.ndarray) -> np.ndarray:
    return np.concatenate([part[:, near] - part[:, near].mean(axis=0) for part in parts])


LEFT = residual_runs()
SD = np.random.default_rng(6).uniform(0.5, 2, len(WHERE))
Way = tuple[dict[str, Any], Callable[[np.ndarray, np.ndarray], np.ndarray]]


def per_run(near: np.ndarray) -> Callable[[int, int], np.ndarray]:
    each = [
        np.linalg.inv(prec_from_residuals(demeaned([part], near), dof=59, method="shrinkage_diag")) for part in LEFT
    ]
    return lambda m, n: np.linalg.inv((each[m] + each[n]) / 2)


def units_of(x: np.ndarray, center: bool) -> np.ndarray:
    u = scale_to_unit_length(x, center=center)
    return loop(x, lambda m, n, i, j: (u[m, i] - u[m, j]) @ (u[n, i] - u[n, j]) / 2)


WAYS: dict[str, Way] = {
    "crossnobis": ({}, lambda x, _: weighted(x, lambda *_: np.eye(x.shape[-1]))),
    "correlation": ({"dissimilarity": "correlation"}, lambda x, _: units_of(x, True)),
    "cosine": ({"dissimilarity": "cosine"}, lambda x, _: units_of(x, False)),
    "noise of voxels": ({"noise": SD}, lambda x, near: weighted(x, lambda *_: np.diag(SD[near] ** -2))),
    "noise of voxels from other runs": (
        {"noise": "diag"},
        lambda x, _: weighted(x, lambda m, _: without(x, m, "diag")),
    ),
    "noise of spheres from other runs": (
        {"noise": "runs"},
        lambda x, _: weighted(x, lambda m, _: without(x, m, "shrinkage_diag")),
    ),
    "shrunk to the identity": (
        {"noise": "runs", "shrinkage": "eye"},
        lambda x, _: weighted(x, lambda m, _: without(x, m, "shrinkage_eye")),
    ),
    "correlation, noise of spheres from other runs": (
        {"noise": "runs", "dissimilarity": "correlation"},
        lambda x, _: rooted(x, "shrinkage_diag", center=True),
    ),
    "cosine, noise of spheres from other runs": (
        {"noise": "runs", "dissimilarity": "cosine"},
        lambda x, _: rooted(x, "shrinkage_diag", center=False),
    ),
    "residuals": (
        {"noise": LEFT},
        lambda x, near: weighted(
            x, lambda *_: prec_from_residuals(demeaned(LEFT, near), dof=295, method="shrinkage_diag")
        ),
    ),
    "residuals a run": ({"noise": LEFT, "pooled": False}, lambda x, near: weighted(x, per_run(near))),
}


@pytest.mark.parametrize("gaps", list(GAPS))
@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.slow
def test_every_sphere_is_the_loop_over_the_runs_that_two_items_share(
    way: str, gaps: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    how, oracle = WAYS[way]
    x = patterns(gaps)
    data = of_runs(x)
    named = isinstance(how.get("noise"), str) and how["noise"] == "diag"
    noise = rsa.noise_precision(data, method="diag") if named else how.get("noise")
    centers = np.arange(0, len(WHERE), 7)
    wanted = np.array([oracle(x[..., NEAR[k]], NEAR[k]) for k in centers])
    settings: Any = {"dissimilarity": "crossnobis", **how}
    settings.pop("noise", None)
    for row in (_shared_runs._ROW, 0.0, 1e9):  # the cheaper; item by item where possible; matrix products alone
        monkeypatch.setattr(_shared_runs, "_ROW", row)
        chosen = SearchlightSettings(**settings, minimum=3)
        plan = plan_searchlight(data, MODELS, chosen, mask=MASK, radius_mm=RADIUS, noise=noise)
        pairs = plan.scoring.prepared.pairs
        np.testing.assert_array_equal(np.flatnonzero(~np.isnan(wanted[0])), pairs)
        found, singular = plan.scoring.rdms(centers)
        assert singular == 0
        np.testing.assert_allclose(found, wanted[:, pairs], rtol=1e-10, atol=1e-12)
    settings |= {"noise": noise, "minimum_voxels": 3, "measure": "pearson"}
    scores = rsa.searchlight(data, MODELS, mask=MASK, radius_mm=RADIUS, threads=1, **settings).array
    rdms = RDMs(wanted, descriptors={"level": "stimulus"}, pattern_descriptors={"stimulus_id": LABELS})
    np.testing.assert_allclose(scores[:, centers], rsa.compare_rdms(MODELS, rdms, measure="pearson"), atol=1e-10)


@pytest.mark.parametrize("gaps", ["one item lacks a run", "many sets of runs"])
@pytest.mark.parametrize("noise", [None, "diag"])
def test_a_pattern_added_to_each_whole_run_changes_no_sphere(noise: str | None, gaps: str) -> None:
    x = patterns(gaps)
    more = x + 100 * np.random.default_rng(1).normal(size=(N_RUNS, 1, len(WHERE)))
    found = []
    for each in (x, more):
        given = rsa.noise_precision(of_runs(x), method="diag") if noise == "diag" else None
        plan = plan_searchlight(of_runs(each), MODELS, CROSSNOBIS, mask=MASK, radius_mm=RADIUS, noise=given)
        found.append(plan.scoring.rdms(np.arange(len(WHERE)))[0])
    np.testing.assert_allclose(*found, atol=1e-9)


def test_items_that_are_the_same_in_every_run_have_no_distance_in_any_sphere() -> None:
    response = np.random.default_rng(2).normal(size=len(WHERE))
    x = np.array([1, 1, 1.3, 0.7, 1.1])[:, None, None] * response * np.ones((N_RUNS, N_ITEMS, 1))
    for run, item in GAPS["many sets of runs"]:
        x[run, item] = np.nan
    plan = plan_searchlight(of_runs(x), MODELS, CROSSNOBIS, mask=MASK, radius_mm=RADIUS)
    np.testing.assert_allclose(plan.scoring.rdms(np.arange(len(WHERE)))[0], 0, atol=1e-12)


@pytest.mark.parametrize("noise", [None, "diag", "runs"])
def test_discs_and_ceilings_take_the_runs_that_two_items_share(noise: Any) -> None:
    people = [patterns("many sets of runs", seed) for seed in range(3)]
    own = [rsa.noise_precision(of_runs(x), method="diag") if noise == "diag" else noise for x in people]
    method: Any = {"diag": "diag", "runs": "shrinkage"}.get(noise)

    def rdm_of(x: np.ndarray) -> RDMs:
        told = None if method is None else rsa.noise_precision(of_runs(x), method=method)
        return rsa.compute_rdms(of_runs(x), dissimilarity="crossnobis", noise_precision=told)

    rdms = [[rdm_of(x[..., near]) for near in NEAR] for x in people]
    maps = rsa.ceiling_maps(
        [of_runs(x) for x in people],
        mask=MASK,
        radius_mm=RADIUS,
        dissimilarity="crossnobis",
        measure="pearson",
        noise=own,
        minimum_voxels=3,
        threads=1,
    )
    for k in range(0, len(WHERE), 5):
        wanted = rsa.noise_ceiling(rsa.stack_rdms([one[k] for one in rdms]), measure="pearson")
        assert (maps.lower_array[k], maps.upper_array[k]) == pytest.approx((wanted.lower, wanted.upper))
    grid = np.stack(np.meshgrid(np.arange(6) * 3.0, np.arange(6) * 3.0, [0.0]), -1).reshape(-1, 3)
    cells = [6 * i + j for i in range(5) for j in range(5)]
    mesh = Mesh(grid, np.array([t for c in cells for t in ((c, c + 1, c + 7), (c, c + 7, c + 6))]), (36, 0))
    data = of_runs(people[0])
    data.channel_descriptors = {"vertex": np.arange(36), "hemisphere": np.full(36, "left")}
    found = rsa.surface_searchlight(
        data,
        MODELS,
        mesh=mesh,
        radius_mm=4.5,
        measure="pearson",
        noise=own[0],
        dissimilarity="crossnobis",
        minimum_vertices=3,
        threads=1,
    )
    discs = rsa.discs_on(mesh, radius_mm=4.5)
    for k in range(0, 36, 5):
        disc = discs.patches(k, k + 1)[0]
        rdm = rdm_of(people[0][..., np.sort(disc[disc >= 0])])
        np.testing.assert_allclose(found.array[:, k], rsa.compare_rdms(MODELS, rdm, measure="pearson")[:, 0])


def test_noise_of_two_runs_is_refused_in_spheres_but_for_averages() -> None:
    data = of_runs(patterns("none")[:2])
    how: Any = {"mask": MASK, "radius_mm": RADIUS, "minimum_voxels": 3, "threads": 1, "noise": "runs"}
    for dissimilarity in ("crossnobis", "correlation", "euclidean"):
        with pytest.raises(InputError, match=r"expected 3 runs or more, .* got 2.*residuals.*noise = 'none'"):
            rsa.searchlight(data, MODELS, dissimilarity=dissimilarity, **how)  # type: ignore[arg-type]
    assert np.isfinite(rsa.searchlight(data, MODELS, dissimilarity="euclidean", runs="average", **how).array).all()


def test_voxels_divided_by_the_noise_of_all_runs_are_refused() -> None:
    data = rsa.normalize_patterns(of_runs(patterns("none")), "noise-runs")
    with pytest.raises(InputError, match="'noise-runs'"):
        rsa.searchlight(data, MODELS, mask=MASK, radius_mm=RADIUS, minimum_voxels=3)


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["diag", "runs"])
@pytest.mark.parametrize("n_runs", [3, 4, 8])
def test_pure_noise_has_no_distance_on_average_in_any_kind_of_sphere(n_runs: int, noise: Any) -> None:
    rng = np.random.default_rng(n_runs)
    means = []
    for _ in range(150):
        data = of_runs(rng.normal(size=(n_runs, N_ITEMS, len(WHERE))) * rng.uniform(0.5, 2, len(WHERE)))
        own = rsa.noise_precision(data, method="diag") if noise == "diag" else noise
        plan = plan_searchlight(data, MODELS, CROSSNOBIS, mask=MASK, radius_mm=RADIUS, noise=own)
        means.append(plan.scoring.rdms(np.arange(0, len(WHERE), 9))[0].mean())
    assert abs(np.mean(means)) < 4 * stats.sem(means)
