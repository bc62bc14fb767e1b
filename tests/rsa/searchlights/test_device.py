"""Products of a searchlight through torch, on the CPU in place of a graphics card, against the compiled kernels."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import rsatoolbox
import torch
from typer.testing import CliRunner

from brainmap import cli
from brainmap.errors import InputError
from brainmap.rsa import noise_precision
from brainmap.rsa.searchlights import device as on_device
from brainmap.rsa.searchlights.scoring import score_neighborhoods
from brainmap.rsa.searchlights.settings import MEASURES, SearchlightSettings
from brainmap.rsa.searchlights.surface import search_discs
from brainmap.rsa.searchlights.volume import SearchlightPlan, plan_searchlight
from brainmap.rsa.surface.meshes import Mesh

ITEMS = 9
LABELS = [f"s{k}" for k in range(ITEMS)]
BOX = np.ones((6, 5, 7), np.float32)
BOX[3, 2, 2:4] = 0


def mask_of(inside: Any) -> nib.Nifti1Image:
    return nib.Nifti1Image(np.asarray(inside, np.float32), np.eye(4))


def patterns(n_runs: int, mask: nib.Nifti1Image) -> Any:
    n = int(np.asarray(mask.dataobj).sum())
    x = np.random.default_rng(0).normal(size=(n_runs, ITEMS, n)) + 3.0
    return x if n_runs > 1 else x[0]


@pytest.fixture(scope="module")
def models() -> Any:
    return rsatoolbox.rdm.RDMs(
        np.random.default_rng(1).random((3, ITEMS * (ITEMS - 1) // 2)),
        rdm_descriptors={"name": ["a", "b", "c"]},
        pattern_descriptors={"stimulus_id": LABELS},
    )


def plan_of(data: Any, models: Any, mask: nib.Nifti1Image, noise: Any = None, **settings: Any) -> SearchlightPlan:
    chosen = SearchlightSettings(labels=LABELS, minimum=2, **settings)
    return plan_searchlight(data, models, chosen, mask=mask, radius_mm=2.3, noise=noise)


def assert_equal(plan: SearchlightPlan) -> None:
    """Compare the RDMs of all spheres, relative to the largest, and their scores."""
    there = replace(plan, scoring=replace(plan.scoring, device="cpu"))
    centers = np.arange(plan.scoring.hoods.n_voxels)
    wanted, found = plan.scoring.rdms(centers)[0], there.scoring.rdms(centers)[0]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12 * np.nanmax(np.abs(wanted)))
    scores = plan.compute(threads=1)
    assert np.isfinite(scores.array).any()
    np.testing.assert_allclose(there.compute(threads=2).array, scores.array, rtol=0, atol=1e-10)


@pytest.mark.parametrize("n_runs", [1, 4])
@pytest.mark.parametrize("dissimilarity", ["correlation", "cosine", "euclidean", "crossnobis"])
def test_rdms_and_scores_on_every_measure_equal_those_of_the_kernels(
    models: Any, dissimilarity: str, n_runs: int
) -> None:
    if dissimilarity == "crossnobis" and n_runs == 1:
        n_runs = 2
    mask = mask_of(BOX)
    for measure in MEASURES:
        assert_equal(plan_of(patterns(n_runs, mask), models, mask, dissimilarity=dissimilarity, measure=measure))


def test_the_noise_of_voxels_and_weights_of_runs(models: Any) -> None:
    mask = mask_of(BOX)
    x = patterns(4, mask) * np.random.default_rng(2).uniform(0.1, 30.0, int(BOX.sum()))
    data = rsatoolbox.data.Dataset(
        x.reshape(-1, x.shape[2]),
        obs_descriptors={"stimulus_id": LABELS * 4, "run": np.repeat(list("1234"), ITEMS)},
        channel_descriptors={"voxel": np.arange(x.shape[2])},
    )
    for noise in (x.std(axis=(0, 1)), noise_precision(data, source="runs", method="diag")):
        assert_equal(plan_of(data, models, mask, noise, dissimilarity="crossnobis", measure="rho-a"))


@pytest.mark.parametrize("inside", [np.ones((1, 1, 9)), np.pad(np.ones((1, 2, 1)), 3), BOX])
def test_small_masks_and_a_missing_item_and_a_constant_pattern(models: Any, inside: Any) -> None:
    mask = mask_of(inside)
    x = patterns(1, mask)
    x[2] = np.nan
    x[5, : x.shape[1] // 2] = 0.1  # constant in some spheres, which have no score
    assert_equal(plan_of(x, models, mask, dissimilarity="cosine"))
    assert_equal(plan_of(x, models, mask, dissimilarity="euclidean"))
    if inside is BOX:
        assert_equal(plan_of(x, models, mask, dissimilarity="correlation"))


def test_a_large_common_value_costs_no_precision(models: Any) -> None:
    mask = mask_of(BOX)
    x = patterns(1, mask) + 1e5
    assert_equal(plan_of(x, models, mask, measure="pearson"))


def test_ties_have_their_mean_rank() -> None:
    found = on_device.rank_values(torch.tensor([[3.0, 1.0, 3.0, 2.0, 3.0]], dtype=torch.float64))
    assert found.tolist() == [[4.0, 1.0, 4.0, 2.0, 4.0]]


def test_memory_is_bounded_by_pieces_of_spheres(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mask, seen = mask_of(BOX), []
    multiply = on_device.DeviceProducts._multiply
    monkeypatch.setattr(on_device, "_MOST_BYTES", 40_000)

    def count(*given: Any) -> Any:
        seen.append(given[2].numel())
        return multiply(*given)

    monkeypatch.setattr(on_device.DeviceProducts, "_multiply", count)
    assert_equal(plan_of(patterns(4, mask), models, mask, dissimilarity="crossnobis"))
    assert len(seen) > 10
    assert max(seen) * 4 * ITEMS * 8 <= 40_000


def test_discs_equal_those_of_the_kernels(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = np.stack(np.meshgrid(np.arange(9.0), np.arange(8.0), [0.0], indexing="ij"), -1).reshape(-1, 3)
    cells = [8 * i + j for i in range(8) for j in range(7)]
    corners = [t for c in cells for t in ((c, c + 1, c + 9), (c, c + 9, c + 8))]
    mesh, x = Mesh(grid, np.array(corners), (72, 0)), np.random.default_rng(0).normal(size=(3, ITEMS, 72))
    settings = SearchlightSettings(labels=LABELS, minimum=2, dissimilarity="crossnobis")
    wanted = search_discs(x, models, settings, mesh=mesh, radius_mm=2.5, threads=1).array
    monkeypatch.setattr(
        "brainmap.rsa.searchlights.surface.score_neighborhoods",
        lambda scoring, threads: score_neighborhoods(replace(scoring, device="cpu"), threads=threads),
    )
    found = search_discs(x, models, settings, mesh=mesh, radius_mm=2.5, threads=1).array
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-10)


def test_what_a_device_does_not_compute_is_refused_or_said(
    models: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mask = mask_of(BOX)
    gap, whole = patterns(3, mask), patterns(3, mask)
    gap[1, 2] = np.nan
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for data, noise, why in ((gap, None, "missing in some runs"), (whole, "runs", "noise covariance of each")):
        with pytest.raises(InputError, match=rf"^searchlight: cuda does not compute with .*{why}.*device='cpu'$"):
            plan_of(data, models, mask, noise, dissimilarity="crossnobis", device="cuda")
        with caplog.at_level(logging.INFO, logger="brainmap"):
            plan = plan_of(data, models, mask, noise, dissimilarity="crossnobis", device="auto")
        assert plan.scoring.device is None
        assert why in caplog.text
    assert plan_of(whole, models, mask, dissimilarity="crossnobis", device="auto").scoring.device == "cuda"
    assert plan_of(whole, models, mask, dissimilarity="crossnobis").scoring.device is None


def test_a_device_that_is_missing_is_refused_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="searchlight: mps has no float64"):
        SearchlightSettings(device="mps")
    cli.load_commands()
    words = ["rsa", "searchlight", "--models", "no.h5", "--betas", "no.nii", "--device", "cuda", "--out", "x.nii"]
    told = CliRunner().invoke(cli.app, words)
    assert "searchlight: torch finds no cuda here; take --device auto" in str(told.exception)
