"""Noise ceilings of every sphere against `noise_ceiling` of the same RDMs, one sphere after another."""

from __future__ import annotations

import warnings
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import rsatoolbox
import scipy.stats

from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa import ceiling_maps, compute_rdms, noise_ceiling, noise_precision, stack_rdms
from brainmap.rsa.comparison.ceilings import compute_vector_ceiling
from brainmap.rsa.searchlights.ceiling_kernels import compute_ranked_ceilings
from brainmap.rsa.searchlights.kernels import NORM
from brainmap.rsa.searchlights.scoring import KeptRanks
from brainmap.rsa.searchlights.settings import MEASURES

LABELS = [*"abcdefgh", "b10"]
RUNS, PEOPLE, STEP, RADIUS = 3, 5, 7, 6.0


@pytest.fixture
def mask():
    inside = np.ones((5, 5, 4), dtype=np.float32)
    inside[2, 2, 2] = 0
    return nib.Nifti1Image(inside, np.diag([3.0, 3, 3, 1]))


@pytest.fixture
def people(mask):
    rng = np.random.default_rng(0)
    n_voxels = int(np.asarray(mask.dataobj).sum())
    truth = rng.normal(size=(len(LABELS), n_voxels))
    found = [truth + rng.normal(size=(RUNS, len(LABELS), n_voxels)) for _ in range(PEOPLE)]
    found[1][..., 7] = np.nan  # a voxel that one participant lacks
    return found


def dataset_of(x, seed):
    order = np.random.default_rng(seed).permutation(RUNS * len(LABELS))
    return rsatoolbox.data.Dataset(
        x.reshape(RUNS * len(LABELS), -1)[order],
        obs_descriptors={
            "stimulus_id": np.tile(LABELS, RUNS)[order],
            "run": np.repeat(np.arange(RUNS), len(LABELS))[order],
        },
        channel_descriptors={"voxel": np.arange(x.shape[-1])},
    )


def rdms_of(people, mask, voxel, precision=None, **how):
    """The RDMs of one sphere, one a participant who has data at its center."""
    where = np.argwhere(np.asarray(mask.dataobj) != 0) @ mask.affine[:3, :3].T
    near = np.linalg.norm(where - where[voxel], axis=1) <= RADIUS + 1e-6
    found = []
    for k, x in enumerate(people):
        there = np.isfinite(x).any(axis=(0, 1))
        if there[voxel]:
            data = dataset_of(x[..., near & there], seed=k)
            given = {} if precision is None else {"noise_precision": precision(data)}
            found.append(compute_rdms(data, **how, **given))
    return stack_rdms(found)


def mapped(people, mask, **how):
    return ceiling_maps([dataset_of(x, seed=k) for k, x in enumerate(people)], mask=mask, radius_mm=RADIUS, **how)


@pytest.mark.parametrize("missing", ["none", "item", "pair"])
@pytest.mark.parametrize("dissimilarity", ["crossnobis", "correlation"])
def test_every_sphere_has_the_ceiling_of_its_rdms(mask, people, dissimilarity, missing):
    if missing == "item":
        for x in people:
            x[:, 4] = np.nan
    if missing == "pair":
        people[2][0, 6] = people[2][1:, 3] = np.nan
    voxels = range(0, people[0].shape[-1], STEP)
    rdms = {voxel: rdms_of(people, mask, voxel, dissimilarity=dissimilarity) for voxel in voxels}
    for measure in MEASURES if missing != "pair" else ("spearman", "corr_cov"):
        maps = mapped(people, mask, dissimilarity=dissimilarity, measure=measure, threads=1)
        wanted = [noise_ceiling(rdms[voxel], measure=measure) for voxel in voxels]
        for found, bounds in (
            (maps.lower_array, [one.lower for one in wanted]),
            (maps.upper_array, [one.upper for one in wanted]),
        ):
            np.testing.assert_allclose(found[::STEP], bounds, rtol=0, atol=1e-10, err_msg=measure)
        np.testing.assert_array_equal(maps.participants, np.where(np.arange(people[0].shape[-1]) == 7, 4, 5))
        assert maps.approximate == wanted[0].approximate


def test_noise_of_every_sphere(mask, people):
    maps = mapped(people, mask, dissimilarity="crossnobis", measure="pearson", noise="runs")
    for voxel in range(0, people[0].shape[-1], 31):
        rdms = rdms_of(
            people, mask, voxel, precision=lambda data: noise_precision(data, source="runs"), dissimilarity="crossnobis"
        )
        bounds = noise_ceiling(rdms, measure="pearson")
        np.testing.assert_allclose(
            [maps.lower_array[voxel], maps.upper_array[voxel]], [bounds.lower, bounds.upper], rtol=0, atol=1e-10
        )


@pytest.mark.bits
def test_threads_change_no_bit_and_chunks_no_number(mask, people, monkeypatch):
    from brainmap.rsa.searchlights import ceilings as _ceiling_maps

    monkeypatch.setattr(_ceiling_maps, "SHARE", 40)  # more parts than threads
    one, three = (mapped(people, mask, threads=n) for n in (1, 3))
    np.testing.assert_array_equal(one.lower_array, three.lower_array)
    monkeypatch.setattr(_ceiling_maps, "_MOST_BYTES", 1)  # one sphere at a time
    single = mapped(people, mask, threads=1)
    # spheres together are products of another shape, which may add up in another order
    np.testing.assert_allclose(single.upper_array, one.upper_array, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(single.counts, one.counts)


@pytest.mark.parametrize("measure", ["spearman", "rho-a"])
@pytest.mark.parametrize("dissimilarity", ["correlation", "cosine"])
def test_ranks_that_the_searchlight_kept_give_the_same_ceilings(mask, people, dissimilarity, measure, monkeypatch):
    from brainmap.rsa.searchlights.ceilings import map_ceilings
    from brainmap.rsa.searchlights.scoring import Scoring
    from brainmap.rsa.searchlights.settings import SearchlightSettings
    from brainmap.rsa.searchlights.volume import plan_searchlight

    people[3][:, :3, 40] = people[3][:, :1, 40]  # some distances are equal
    data = {f"{k}": dataset_of(x, seed=k) for k, x in enumerate(people)}
    models = stack_rdms([compute_rdms(people[0][0], descriptors={"stimulus_id": LABELS, "name": "first"})])
    settings = SearchlightSettings(dissimilarity=dissimilarity, measure=measure, minimum=20)
    how = {"mask": mask, "radius_mm": RADIUS, "noise": None, "threads": 1}
    wanted, kept = map_ceilings(data, settings, **how), dict[str, Any]()
    assert (wanted.participants == 0).any()  # spheres at corners are too small
    for who, one in data.items():
        plan = plan_searchlight(one, models, settings, mask=mask, radius_mm=RADIUS)
        keeping = plan.keep_ranks()
        assert plan.n_bytes_kept == keeping.scoring.kept.ranks.nbytes
        assert not keeping.scoring.kept.is_complete
        np.testing.assert_array_equal(keeping.compute(threads=1).array, plan.compute(threads=1).array)
        kept[who] = keeping.scoring.kept
    lacking = kept | {"2": KeptRanks(*kept["2"].ranks.shape)}
    again = map_ceilings(data, settings, **how, kept=lacking)
    np.testing.assert_array_equal(again.upper_array, wanted.upper_array)  # those of one participant are not complete
    monkeypatch.setattr(Scoring, "rank_rdms", None)
    found = map_ceilings(data, settings, **how, kept=kept)
    for name in ("lower_array", "upper_array", "participants", "counts"):
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), rtol=0, atol=1e-12, err_msg=name)


def test_ranks_are_kept_only_of_rdms_that_depend_on_no_other(mask, people):
    from brainmap.rsa.searchlights.settings import SearchlightSettings
    from brainmap.rsa.searchlights.volume import plan_searchlight

    models = stack_rdms([compute_rdms(people[0][0], descriptors={"stimulus_id": LABELS, "name": "first"})])
    for dissimilarity, measure in (("crossnobis", "rho-a"), ("correlation", "pearson"), ("correlation", "tau-a")):
        settings = SearchlightSettings(dissimilarity=dissimilarity, measure=measure)
        plan = plan_searchlight(dataset_of(people[0], seed=0), models, settings, mask=mask, radius_mm=RADIUS)
        assert plan.n_bytes_kept == 0


def test_images_lie_on_the_mask_and_counts_are_the_fewest(mask, people):
    maps = mapped(people, mask)
    inside = np.asarray(mask.dataobj) != 0
    for image in (maps.lower, maps.upper):
        np.testing.assert_array_equal(np.isnan(np.asarray(image.dataobj)), ~inside)
    np.testing.assert_array_equal(np.asarray(maps.lower.dataobj)[inside], maps.lower_array.astype(np.float32))
    assert np.asarray(maps.participant_count.dataobj)[~inside].max() == 0
    where = np.argwhere(inside) * 3.0
    near = np.linalg.norm(where[:, None] - where[None], axis=2) <= RADIUS
    wanted = near.sum(axis=1) - near[:, 7]  # the second participant's are without voxel 7
    wanted[7] += 1
    np.testing.assert_array_equal(maps.counts, wanted)
    np.testing.assert_array_equal(np.asarray(maps.voxel_count.dataobj)[inside], wanted)


def test_a_sphere_that_one_participant_has_alone_has_no_ceiling(mask, people):
    for x in people[1:]:
        x[..., 30] = np.nan
    maps = mapped(people, mask, threads=1)
    assert np.flatnonzero(np.isnan(maps.lower_array)).tolist() == [30]
    assert maps.participants[30] == 1


def test_bad_input_is_one_clear_line(mask, people):
    with pytest.raises(InputError, match="expected at least 2 participants, got 1"):
        mapped(people[:1], mask)
    first, second = (dataset_of(x, seed=0) for x in people[:2])
    ids = second.obs_descriptors["stimulus_id"].astype("U4")
    second.obs_descriptors["stimulus_id"] = np.where(ids == "a", "owl", ids)
    said = "participants 01 and 02 have different items: only in 02: 'owl'; only in 01: 'a'"
    with pytest.raises(InputError, match=said):
        ceiling_maps({"01": first, "02": second}, mask=mask)
    with pytest.raises(InputError, match="give labels="):
        ceiling_maps(people, mask=mask)
    with pytest.raises(InputError, match="expected two runs or more for crossnobis, got one"):
        ceiling_maps([x[0] for x in people], mask=mask, labels=LABELS, dissimilarity="crossnobis")
    with pytest.raises(InputError, match="noise: expected one for each of 5 participants, got 2"):
        mapped(people, mask, dissimilarity="crossnobis", noise=["runs", "runs"])
    with pytest.raises(InputError, match="smaller than a voxel"):
        ceiling_maps(people, mask=mask, labels=LABELS, radius_mm=1.0)
    with pytest.raises(InputError, match="fewer than minimum_voxels=50"):
        mapped(people, mask, minimum_voxels=50)


@pytest.mark.parametrize("dtype", [np.int16, np.int32])
@pytest.mark.parametrize("levels", [3, 10_000])
@pytest.mark.parametrize("measure", ["spearman", "rho-a"])
def test_ceilings_of_integer_ranks_are_those_of_the_dissimilarities(dtype, levels, measure):
    rng = np.random.default_rng(0)
    rdms = rng.integers(0, levels, size=(5, 4, 66)).astype(float)
    rdms[:, 3] = 1.0  # of no order
    rdms[0, 2] = 1.0
    there = np.ones((5, 4), bool)
    there[1:4, 1] = False
    ranks = (2 * scipy.stats.rankdata(rdms, axis=2) - 67).astype(dtype)
    lower, upper = np.full((2, 4), np.nan)
    compute_ranked_ceilings(ranks, there, NORM[measure], lower, upper)
    for k in range(3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BrainmapWarning)
            oracle = compute_vector_ceiling(rdms[there[:, k], k], measure=measure)
        np.testing.assert_allclose([lower[k], upper[k]], [oracle.lower, oracle.upper], rtol=1e-12)
