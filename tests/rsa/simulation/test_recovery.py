"""The recovery table against hand-made truths, and the demo's known answer over five seeds."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from brainmap.errors import InputError
from brainmap.rsa.simulation.recovery import RECOVERY_COLUMNS, recovery_table

LAYERS = ["conv1", "conv2", "conv3", "conv4"]
PLANTED = {"core": "conv2", "belt": "conv4", "visual": None}
CEILINGS = dict.fromkeys(PLANTED, (0.2, 0.4))


def scores(best, n=8, seed=0):
    """Participants' scores (n, 4, 3), with the layer of `best` ahead by .2 in each region that has one."""
    found = np.random.default_rng(seed).normal(0, 0.02, size=(n, 4, 3))
    for k, layer in enumerate(best):
        if layer is not None:
            found[:, :, k] += 0.1
            found[:, LAYERS.index(layer), k] += 0.2
    return found


def image(values):
    return nib.Nifti1Image(np.asarray(values, dtype=np.float32), np.diag([4.0, 4.0, 4.0, 1.0]))


@pytest.fixture
def maps():
    """A line of ten voxels: core at 0-3, belt at 5-8; every layer's scores decided by hand."""
    values = dict.fromkeys(LAYERS, np.full((10, 1, 1), 0.1))
    values = {layer: v.copy() for layer, v in values.items()}
    values["conv2"][:4] = 0.3  # best in the core...
    values["conv4"][3] = 0.5  # ...but for one voxel, where conv4 has its peak
    values["conv4"][5:9] = 0.3
    regions = {name: np.zeros((10, 1, 1), dtype=bool) for name in PLANTED}
    regions["core"][:4] = regions["belt"][5:9] = regions["visual"][9] = True
    above = np.full((10, 1, 1), np.nan)
    above[:7] = 1.0
    return {
        "mean_maps": {layer: image(v) for layer, v in values.items()},
        "significant": image(above),
        "regions": regions,
    }


def test_each_region_says_what_was_found_how_far_off_and_whether_that_agrees():
    table = recovery_table(
        scores(["conv3", "conv1", None]), layers=LAYERS, planted=PLANTED, ceilings=CEILINGS
    ).set_index("region")
    assert list(table["recovered"])[:2] == ["conv3", "conv1"]
    assert pd.isna(table.loc["visual", "recovered"]), "nothing is recovered where nothing is significant"
    assert list(table["best_layer"])[:2] == ["conv3", "conv1"]
    assert table.loc["visual", "best_layer"] in LAYERS
    assert list(table["distance"])[:2] == [1, 3]
    assert pd.isna(table.loc["visual", "distance"])
    assert list(table["agrees"]) == [True, False, True]
    assert table.loc["core", "p_corrected"] == pytest.approx(1 / 256)
    assert table.loc["visual", "p_corrected"] > 0.05


def test_a_control_with_a_signal_does_not_agree():
    table = recovery_table(
        scores(["conv2", "conv4", "conv1"]), layers=LAYERS, planted=PLANTED, ceilings=CEILINGS
    ).set_index("region")
    assert list(table["agrees"]) == [True, True, False]


def test_maps_are_counted_within_regions_above_threshold_and_peaks_are_placed(maps):
    table = recovery_table(
        scores(["conv2", "conv4", None]), layers=LAYERS, planted=PLANTED, ceilings=CEILINGS, **maps
    ).set_index("region")
    assert list(table.reset_index()) == list(RECOVERY_COLUMNS)
    assert list(table["voxels"]) == [4, 4, 1]
    assert list(table["voxels_significant"]) == [4, 2, 0]
    assert table.loc["core", "share_within_one"] == pytest.approx(0.75)
    assert table.loc["belt", "share_within_one"] == 1.0
    assert np.isnan(table.loc["visual", "share_within_one"])
    assert table.loc["belt", ["peak_x", "peak_y", "peak_z"]].tolist() == [12.0, 0.0, 0.0]
    assert table.loc["belt", "peak_region"] == "core"


def test_a_peak_one_voxel_beside_a_region_counts_and_two_beside_does_not(maps):
    for voxel, found in ((9, "belt"), (4, "core")):
        values = np.full((10, 1, 1), 0.1)
        values[voxel] = 0.9
        table = recovery_table(
            scores(["conv2", "conv4", None]),
            layers=LAYERS,
            planted=PLANTED,
            ceilings=CEILINGS,
            **(maps | {"mean_maps": maps["mean_maps"] | {"conv4": image(values)}}),
        ).set_index("region")
        assert table.loc["belt", "peak_region"] == found
    maps["regions"]["belt"][7:9] = False
    table = recovery_table(
        scores(["conv2", "conv4", None]),
        layers=LAYERS,
        planted=PLANTED,
        ceilings=CEILINGS,
        **(maps | {"mean_maps": maps["mean_maps"] | {"conv4": image(np.eye(10)[9][:, None, None])}}),
    ).set_index("region")
    assert pd.isna(table.loc["belt", "peak_region"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": np.zeros((8, 3, 3))}, "expected scores of shape (participants, 4 layers, 3 regions)"),
        ({"scores": np.full((8, 4, 3), np.nan)}, "NaN or infinity"),
        ({"planted": {"core": "conv9", "belt": None, "visual": None}}, "got 'conv9'"),
        ({"ceilings": {"core": (0.1, 0.2)}}, "no noise ceiling for 'belt', 'visual'"),
        ({"regions": None}, "together, or none"),
        ({"significant": image(np.zeros((9, 1, 1)))}, "on the grid (10, 1, 1) of the maps, got (9, 1, 1)"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(maps, change, message):
    arguments = {"layers": LAYERS, "planted": PLANTED, "ceilings": CEILINGS, **maps, **change}
    found = arguments.pop("scores", scores(["conv2", "conv4", None]))
    with pytest.raises(InputError) as caught:
        recovery_table(found, **arguments)
    assert message in str(caught.value)


@pytest.fixture(scope="module")
def layer_features():
    """Time-mean features of the demo's sounds: the shipped network's, or an untrained one's where none is shipped."""
    import torch

    from brainmap import data, features
    from brainmap.features.networks.controls import recalibrate
    from brainmap.study.demo import NETWORK, VOICES

    folder = data.folder()
    table = pd.read_csv(folder / "words" / "stimuli.tsv", sep="\t")
    table = table[table["voice"].isin(VOICES)].sort_values("stimulus_id")
    sounds = features.load_sounds([folder / "words" / path for path in table["path"]])
    checkpoint = folder / "networks" / f"{NETWORK}.safetensors"
    if checkpoint.exists():
        model = features.load_network(checkpoint)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = features.build_network(NETWORK, variant="bn", n_classes=16)
        recalibrate(model, sounds)
    found = features.extract_activations(model, sounds)
    assert len(table) == 48
    return {layer: np.asarray(found[layer][:]) for layer in found.layers}


def analyze(participants, models, planted):
    """ROI scores, ceilings and group maps of simulated participants, as the demo's study asks for them."""
    from rsatoolbox.data import Dataset

    from brainmap.rsa import compare_rdms, compute_rdms, group_test, noise_ceiling, noise_precision, searchlight
    from brainmap.rsa.rdm.alignment import stack_rdms
    from brainmap.study.demo import load_demo_mask

    items = list(models.pattern_descriptors["stimulus_id"])
    rdms, maps = {region: [] for region in planted}, []
    for one in participants:
        n_runs, n_items, _ = one.betas.shape
        rows = {
            "stimulus_id": np.tile(items, n_runs),
            "condition": np.tile(items, n_runs),
            "run": np.repeat([str(run) for run in range(n_runs)], n_items),
        }
        for region in planted:
            patterns = one.betas[:, :, one.voxels[region]].reshape(n_runs * n_items, -1).astype(np.float64)
            data = Dataset(patterns, obs_descriptors=rows)
            rdms[region].append(
                compute_rdms(data, dissimilarity="crossnobis", noise_precision=noise_precision(data, source="runs"))
            )
        maps.append(searchlight(one.betas, models, mask=load_demo_mask(), labels=items))
    stacked = {region: stack_rdms(found) for region, found in rdms.items()}
    roi_scores = np.stack([compare_rdms(models, found, measure="rho-a").T for found in stacked.values()], axis=2)
    ceilings = {region: noise_ceiling(found, measure="rho-a") for region, found in stacked.items()}
    return roi_scores, {r: (c.lower, c.upper) for r, c in ceilings.items()}, group_test(maps)


def test_the_demos_mask_is_that_of_nilearn():
    from nilearn.datasets import load_mni152_brain_mask

    from brainmap.study.demo import load_demo_mask

    wanted, found = load_mni152_brain_mask(resolution=4), load_demo_mask()
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(wanted.dataobj))
    np.testing.assert_array_equal(found.affine, wanted.affine)


@pytest.mark.slow
def test_the_demos_known_answer_is_recovered_over_five_seeds(layer_features):
    from brainmap.rsa import compute_rdms, simulate_participant
    from brainmap.rsa.rdm.alignment import stack_rdms
    from brainmap.study.demo import PLANTED as LAYER_OF, build_demo_regions, load_demo_mask

    mask = load_demo_mask()
    regions = build_demo_regions(mask)
    planted = {
        region: next((layer for part, layer in LAYER_OF.items() if region.endswith(part)), None) for region in regions
    }
    assert sorted(filter(None, planted.values())) == sorted(2 * list(LAYER_OF.values()))
    items = [f"item{k:02d}" for k in range(48)]
    models = stack_rdms(
        [
            compute_rdms(values.astype(np.float64), units="zscore", descriptors={"stimulus_id": items, "layer": layer})
            for layer, values in layer_features.items()
        ]
    )
    quiet, control_scores = 0, []
    for seed in range(5):
        participants = (
            simulate_participant(
                {region: None if layer is None else layer_features[layer] for region, layer in planted.items()},
                regions,
                mask=mask,
                rng=np.random.default_rng(np.random.SeedSequence([seed, k])),
            )
            for k in range(8)
        )
        found, ceilings, group = analyze(participants, models, planted)
        table = recovery_table(
            found,
            layers=list(layer_features),
            planted=planted,
            ceilings=ceilings,
            mean_maps=group.mean,
            significant=group.best,
            regions=regions,
        )
        signal, control = table[table["planted"].notna()], table[table["planted"].isna()]
        assert signal["agrees"].all(), table.to_string()
        assert signal["ceiling_lower"].between(0.2, 0.5).all(), table.to_string()
        assert signal["peak_region"].notna().all(), table.to_string()
        assert (signal["voxels_significant"] > 0).all(), table.to_string()
        assert (signal["share_within_one"] >= 0.7).all(), table.to_string()
        quiet += bool(control["agrees"].all())
        control_scores.append(control["score"].mean())
    assert quiet >= 4
    assert np.mean(control_scores) < 0.03
