"""The best layer is chosen on one half and scored on the other: planted layers come back, noise has no score."""

from __future__ import annotations

import warnings

import nibabel as nib
import numpy as np
import pytest

from brainmap import rsa
from brainmap.errors import BrainmapWarning, InputError


def encode(*args, **given):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "encoding: ", BrainmapWarning)
        return rsa.encode(*args, **given)


@pytest.fixture
def planted(world):
    rng = np.random.default_rng(0)
    acts = world.features(rng, n_items=120, n_units=25)
    signal = np.concatenate([world.plant(rng, acts[name], 12) for name in acts.layers], axis=1)
    signal = np.concatenate([signal, rng.normal(size=(120, 12))], axis=1)
    roi = np.repeat([*acts.layers, "none"], 12)
    return encode(acts, world.responses(rng, signal, acts.items, reliability=0.6, roi=roi))


def test_planted_layers_and_their_positions_come_back(planted):
    found = rsa.best_encoding_layers(planted, splits=6)
    table = found.regions.set_index("roi")
    assert table["layer"].head(3).tolist() == ["conv1", "conv2", "conv3"]
    assert table["chosen_share"].head(3).tolist() == [1.0] * 3
    assert table["position"].head(3).tolist() == [0.0, 0.5, 1.0]
    voxels = found.voxels.query("roi != 'none'")
    assert (voxels["layer"] == voxels["roi"]).mean() > 0.9
    mean = found.splits.groupby("roi", sort=False)["position"].mean()  # of the positions that each half chooses
    np.testing.assert_allclose(mean[table.index], table["position"])
    assert found.splits.groupby("roi").size().tolist() == [6] * 4


def test_scores_of_the_best_of_many_unrelated_layers_are_not_inflated(world):
    rng = np.random.default_rng(1)
    acts = world.features(rng, n_items=96, layers=[f"conv{k}" for k in range(12)], n_units=20)
    data = world.responses(rng, rng.normal(size=(96, 150)), acts.items)
    fit = encode(acts, data, inner_folds=3, alphas=np.logspace(0, 4, 5))
    naive = fit.scores.groupby("voxel")["r"].max().mean()
    honest = rsa.best_encoding_layers(fit, splits=4).voxels["r"].mean()
    assert naive > 0.12
    assert abs(honest) < 0.02


def test_the_half_that_scores_has_no_part_in_the_choice(planted):
    found = rsa.best_encoding_layers(planted, splits=1)
    group = np.random.default_rng(0).permutation(120)
    test = np.isin(planted.folds.group, group[60:])
    planted.responses.values[:, test] = np.random.default_rng(2).normal(size=planted.responses.values[:, test].shape)
    again = rsa.best_encoding_layers(planted, splits=1)
    assert again.voxels["layer"].tolist() == found.voxels["layer"].tolist()
    assert abs(again.voxels["r"].mean()) < 0.06 < found.voxels["r"].mean()


def test_maps_place_layers_and_positions_in_the_mask(planted):
    found = rsa.best_encoding_layers(planted, splits=3)
    mask = nib.Nifti1Image(np.ones((4, 4, 3), "f4"), np.eye(4))
    maps = found.maps(mask)
    assert list(maps) == ["layer", "position", "r"]
    number = found.voxels["layer"].map({"conv1": 1, "conv2": 2, "conv3": 3}).where(found.voxels["position"].notna())
    np.testing.assert_array_equal(maps["layer"].get_fdata().ravel(), number)


def test_one_layer_or_halves_of_few_items_are_refused(planted, world):
    rng = np.random.default_rng(3)
    acts = world.features(rng, n_items=60, layers=("conv1",))
    fit = encode(acts, world.responses(rng, rng.normal(size=(60, 2)), acts.items))
    with pytest.raises(InputError, match="two layers or more"):
        rsa.best_encoding_layers(fit)
    with pytest.raises(InputError, match="at least 1 split"):
        rsa.best_encoding_layers(planted, splits=0)
