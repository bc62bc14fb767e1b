"""Planted geometries with a chosen ceiling, and the power of designs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rsatoolbox.rdm.rdms import RDMs
from scipy import stats

from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa import compute_rdms, noise_ceiling, power_analysis, save_rdms, simulate_rdms, stack_rdms
from brainmap.rsa.comparison.ceilings import compute_vector_ceiling
from brainmap.rsa.rdm.alignment import find_pair_positions
from brainmap.rsa.rdm.dissimilarity import compute_dissimilarities
from brainmap.rsa.simulation.participants import simulate_participant
from brainmap.rsa.simulation.rates import compute_wilson, count_detections
from brainmap.rsa.simulation.rdms import (
    Measurement,
    compute_lower_ceiling,
    compute_lower_ceilings,
    draw_group,
    embed_rdm,
    find_signal_of_ceiling,
)
from brainmap.types import Measure


def layers(n_items: int = 12, names: tuple[str, ...] = ("conv2", "conv4"), alike: float = 0.0) -> RDMs:
    """Layers with random features, a part of which they may have in common."""
    rng = np.random.default_rng(4)
    items = {"stimulus_id": [f"s{k:02d}" for k in range(n_items)]}
    common = rng.normal(size=(n_items, 10))
    one_each = [alike * common + (1 - alike) * rng.normal(size=(n_items, 10)) for _ in names]
    return stack_rdms(
        [compute_rdms(x, descriptors={**items, "layer": name}) for x, name in zip(one_each, names, strict=True)]
    )


@pytest.mark.parametrize(("runs", "voxels"), [(1, 30), (4, 30), (3, 3)])
@pytest.mark.slow
def test_rdms_are_distributed_as_those_of_patterns_with_this_geometry(runs: int, voxels: int) -> None:
    gram = embed_rdm(layers(5).dissimilarities[0]).gram
    kind: Any = "euclidean" if runs == 1 else "crossnobis"
    how = Measurement(n_runs=runs, n_voxels=voxels, dissimilarity=kind, specific=0.0, variation=0.0)
    n, rng = 6000, np.random.default_rng(0)
    _, drawn = draw_group(gram, signal=0.5, measurement=how, n_participants=n, rng=rng)
    root = np.linalg.cholesky(0.5 * gram + 1e-9 * np.eye(5))
    patterns = (root @ rng.normal(size=(n, 1, 5, voxels))) + rng.normal(size=(n, runs, 5, voxels))
    made = np.array([compute_dissimilarities(x if runs > 1 else x[0], dissimilarity=kind) for x in patterns])
    spread = made.std(axis=0)
    np.testing.assert_allclose(drawn.mean(axis=0), made.mean(axis=0), atol=(5 * spread * np.sqrt(2 / n)).max())
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(made.T), atol=0.1 * spread.max() ** 2)
    assert stats.ks_2samp(drawn[:, 0], made[:, 0]).pvalue > 1e-3


@pytest.mark.parametrize("measure", ["rho-a", "spearman", "pearson", "cosine", "tau-b"])
def test_ceilings_of_several_group_sizes_are_those_of_each(measure: Measure) -> None:
    data = np.random.default_rng(3).gamma(2.0, size=(9, 45)).round(1)
    found = compute_lower_ceilings(data, (3, 5, 9), measure)
    assert found == pytest.approx([compute_vector_ceiling(data[:n], measure=measure).lower for n in (3, 5, 9)])


def test_the_ceiling_that_is_told_is_that_of_all_studies(monkeypatch: Any) -> None:
    seen: list[float] = []

    def watched(data: Any, participants: Any, measure: Any) -> list[float]:
        found = compute_lower_ceilings(data, participants, measure)
        seen.extend(found)
        return found

    monkeypatch.setattr("brainmap.rsa.simulation.power.compute_lower_ceilings", watched)
    table = power_analysis(layers(), a="conv4", participants=(6,), simulations=60, rng=np.random.default_rng(0)).table
    assert len(seen) == 60
    assert table["ceiling_lower"][0] == pytest.approx(np.mean(seen))


def test_what_a_participant_has_of_its_own_and_what_no_model_explains_leave_the_models_share() -> None:
    gram = embed_rdm(layers(9).dissimilarities[0]).gram
    how = Measurement(n_runs=1, n_voxels=400, dissimilarity="euclidean", specific=0.2, explained=0.5, variation=0.4)
    rng, studies = np.random.default_rng(2), []
    for _ in range(300):
        _, drawn = draw_group(gram, signal=25.0, measurement=how, n_participants=4, rng=rng)
        studies.append(drawn.mean(axis=0))
    own = np.diag(gram)
    planted = (own[:, None] + own - 2 * gram)[np.triu_indices(9, 1)]
    slope = np.polyfit(planted, np.mean(studies, axis=0), 1)[0]
    assert slope == pytest.approx(25 * np.exp(0.4**2 / 2) * 0.8 * 0.5, rel=0.15)


def test_an_rdm_that_no_points_have_says_what_is_lost() -> None:
    vector = np.array([1.0, 1.0, 9.0, 1.0, 1.0, 1.0])  # a detour through any third point is shorter
    assert embed_rdm(vector).lost > 0.1
    model = RDMs(vector[None], pattern_descriptors={"stimulus_id": list("abcd")})
    with pytest.warns(BrainmapWarning, match="left out"):
        simulate_rdms(model, ceiling=0.0, n_participants=3, rng=np.random.default_rng(0))


@pytest.mark.parametrize("measure", ["rho-a", "spearman", "pearson", "cosine", "tau-a", "corr_cov"])
def test_lower_ceilings_in_one_go_are_the_noise_ceilings(measure: Measure) -> None:
    x = np.random.default_rng(3).random((5, 45))
    assert compute_lower_ceiling(x, measure) == pytest.approx(
        compute_vector_ceiling(x, measure=measure).lower, abs=1e-12
    )


@pytest.mark.parametrize(
    ("measure", "dissimilarity", "runs", "people", "ceiling"),
    [
        ("rho-a", "crossnobis", 4, 8, 0.3),
        ("pearson", "euclidean", 1, 4, 0.5),
        ("corr_cov", "crossnobis", 6, 5, 0.15),
        ("spearman", "correlation", 2, 5, 0.3),
    ],
)
def test_the_ceiling_asked_for_is_the_ceiling_measured(
    measure: Measure, dissimilarity: Any, runs: int, people: int, ceiling: float
) -> None:
    geometry = embed_rdm(layers(16).dissimilarities[0], angular=dissimilarity == "correlation")
    how, rng = Measurement(n_runs=runs, n_voxels=40, dissimilarity=dissimilarity), np.random.default_rng(5)
    signal = find_signal_of_ceiling(geometry, ceiling, measure=measure, n_participants=people, measurement=how, rng=rng)
    found = [
        compute_lower_ceiling(
            draw_group(geometry.gram, signal=signal, measurement=how, n_participants=people, rng=rng)[1], measure
        )
        for _ in range(100)
    ]
    error = np.std(found) * np.sqrt(1 / 100 + 1 / 125)  # of these studies and of those it was solved on
    assert abs(np.mean(found) - ceiling) < 3.5 * error


def test_the_signal_is_the_one_of_simulated_participants() -> None:
    import nibabel as nib

    rng, n_people, n_items, n_voxels = np.random.default_rng(7), 5, 16, 60
    features = rng.normal(size=(n_items, 10))
    z = (features - features.mean(axis=0)) / features.std(axis=0)
    model = compute_rdms(z, descriptors={"stimulus_id": [f"s{k:02d}" for k in range(n_items)]})
    how = {"n_runs": 4, "n_voxels": n_voxels, "variation": 0.0}
    brains = simulate_rdms(model, ceiling=0.4, n_participants=n_people, rng=rng, **how)  # type: ignore[arg-type]
    assert brains.rdm_descriptors["participant"] == ["01", "02", "03", "04", "05"]
    signal, region = brains.descriptors["signal"], np.ones((n_voxels, 1, 1), np.uint8)
    lower = []
    for _ in range(30):
        people = [
            simulate_participant(
                {"A1": features},
                {"A1": region},
                mask=nib.Nifti1Image(region, np.eye(4)),
                rng=rng,
                n_runs=4,
                signal=signal,
                fwhm_mm=0,
                ar=0,
            ).betas
            for _ in range(n_people)
        ]
        vectors = np.array([compute_dissimilarities(betas, dissimilarity="crossnobis") for betas in people])
        lower.append(compute_vector_ceiling(vectors, measure="rho-a").lower)
    assert np.mean(lower) == pytest.approx(0.4, abs=0.05)
    assert noise_ceiling(brains).lower == pytest.approx(0.4, abs=0.25)


def test_power_of_the_t_test_is_that_of_the_noncentral_t() -> None:
    n, d, n_studies = 12, 0.8, 4000
    scores = np.random.default_rng(0).normal(d, 1.0, size=(n_studies, n))
    found, wrong, _ = count_detections(scores, test="t", alpha=0.05, two_sided=False)
    expected = stats.nct.sf(stats.t.ppf(0.95, n - 1), n - 1, d * np.sqrt(n))
    assert found == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / n_studies))
    assert wrong == 0
    ahead, behind, _ = count_detections(-scores, test="t", alpha=0.05, two_sided=True)
    both = stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, d * np.sqrt(n))
    assert behind == pytest.approx(both, abs=4 * np.sqrt(both * (1 - both) / n_studies))
    assert ahead < 0.001


@pytest.mark.parametrize(("test", "level"), [("signed-rank", 10 / 256), ("sign-flip", 12 / 256)])
def test_without_a_signal_power_is_the_attainable_size(test: Any, level: float) -> None:
    found = power_analysis(
        layers(10),
        a="conv4",
        b="conv2",
        ceiling=0.0,
        participants=(8,),
        simulations=1000,
        n_voxels=15,
        test=test,
        rng=np.random.default_rng(1),
    ).table
    error = 3.5 * np.sqrt(level / 1000)
    assert found["power"][0] == pytest.approx(level, abs=error)
    two_sided = 12 / 256 if test == "sign-flip" else 2 * 6 / 256
    assert found["power"][1] + found["wrong"][1] == pytest.approx(two_sided, abs=error)
    assert found["ceiling_lower"].abs().max() < 0.06


def test_more_of_anything_gives_more_power_and_the_table_holds_together() -> None:
    found = power_analysis(
        layers(14, alike=0.4),
        a="conv4",
        b="conv2",
        ceiling=0.12,
        participants=(12, 6),
        runs=(2, 6),
        conditions=(8, 14),
        simulations=60,
        n_voxels=20,
        explained=0.6,
        rng=np.random.default_rng(3),
    )
    table = found.table
    assert found.pilot == (6, 2, 8)
    assert len(table) == 16
    for what in ("participants", "runs", "conditions"):
        few, many = (part["power"].mean() for _, part in table.groupby(what))
        assert many > few, what
    low, high = compute_wilson(np.rint(table["power"] * 60), 60)
    np.testing.assert_allclose(table[["low", "high"]], np.stack([low, high], axis=1))
    reference = stats.binomtest(round(table["power"][0] * 60), 60).proportion_ci(method="wilson")
    assert (table["low"][0], table["high"][0]) == pytest.approx((reference.low, reference.high))
    ceilings = table.groupby(["runs", "participants", "conditions"])["ceiling_lower"].first()
    assert ceilings[2, 6, 8] == pytest.approx(0.12, abs=0.07)
    best = found.smallest("conv4 > 0")
    assert best is not None
    enough = table[(table["comparison"] == "conv4 > 0") & (table["power"] >= 0.8)]
    assert (
        best["participants"] * best["runs"] * best["conditions"]
        == (enough["participants"] * enough["runs"] * enough["conditions"]).min()
    )
    assert found.smallest("conv4 > conv2", power=1.01) is None


def test_features_are_planted_by_their_rdms_and_a_seed_gives_the_same_table() -> None:
    class Features:
        items, conditions, layers = [f"s{k}" for k in range(8)], [f"s{k}" for k in range(8)], ["a", "b"]

        def __getitem__(self, layer: str) -> Any:
            return np.random.default_rng(self.layers.index(layer)).normal(size=(8, 6))

        def __iter__(self) -> Any:
            return iter(self.layers)

    def table(models: Any) -> pd.DataFrame:
        rng = np.random.default_rng(0)
        return power_analysis(models, a="a", b="b", ceiling=0.0, participants=(4, 6), simulations=8, rng=rng).table

    features: Any = Features()
    pd.testing.assert_frame_equal(table(features), table(compute_rdms(features, units="zscore")))


def test_drawn_conditions_are_scored_against_their_own_part_of_the_models() -> None:
    models = layers(10)
    geometry = embed_rdm(models.dissimilarities[0])
    how = Measurement(n_runs=2, n_voxels=5000, specific=0.0)
    items, vectors = draw_group(
        geometry.gram, signal=50.0, measurement=how, n_participants=2, n_conditions=6, rng=np.random.default_rng(0)
    )
    assert len(set(items)) == 6
    part = models.dissimilarities[0][find_pair_positions(items, 10)]
    assert np.corrcoef(part, vectors[0])[0, 1] > 0.98


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": "conv3"}, "layer: expected one of"),
        ({"b": "conv4"}, "got 'conv4' twice"),
        ({"conditions": (5, 20)}, "expected at most 12 conditions, as the models have, got 20"),
        ({"conditions": (2,)}, "expected conditions of 3 or more"),
        ({"participants": (1, 8)}, "expected participants of 2 or more"),
        ({"runs": (1,)}, "2 runs or more for crossnobis, or 'euclidean', got 1"),
        ({"runs": ()}, "expected runs of 1 or more, got []"),
        ({"ceiling": 0.97}, "at any signal"),
        ({"ceiling": 1.2}, "from 0 to below 1"),
        ({"alpha": 0.0}, "between 0 and 1"),
        ({"specific": 1.0}, "specific, a share, from 0 to below 1"),
        ({"pilot": (8, 4)}, "expected participants, runs and conditions"),
        ({"measure": "sperman"}, "did you mean 'spearman'"),
        ({"test": "z"}, "test: expected one of"),
        ({"dissimilarity": "mahalanobis"}, "dissimilarity: expected one of"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(change: dict[str, Any], message: str) -> None:
    settings: dict[str, Any] = {"a": "conv4", "b": "conv2", "simulations": 2, "participants": (3,), **change}
    with pytest.raises(InputError) as caught:
        power_analysis(layers(), **settings, rng=np.random.default_rng(0))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_models_that_cannot_be_planted_are_named() -> None:
    flat = RDMs(np.ones((1, 6)), pattern_descriptors={"stimulus_id": list("abcd")})
    with pytest.raises(InputError, match="equally far apart"):
        simulate_rdms(flat, ceiling=0.2, rng=np.random.default_rng(0))
    torn = RDMs(np.array([[1.0, 2, 3, 4, 5, np.nan]]), pattern_descriptors={"stimulus_id": list("abcd")})
    with pytest.raises(InputError, match="missing"):
        simulate_rdms(torn, ceiling=0.2, rng=np.random.default_rng(0))
    with pytest.raises(InputError, match="the one model RDM to plant, got 2"):
        simulate_rdms(layers(), ceiling=0.2, rng=np.random.default_rng(0))


def test_the_command_leaves_table_and_figure_and_says_the_smallest_design(
    brainmap_command: Any, tmp_path: Path
) -> None:
    save_rdms(layers(), tmp_path / "models.h5")
    words = [
        "rsa",
        "power",
        tmp_path / "models.h5",
        "--a",
        "conv4",
        "--b",
        "conv2",
        "--participants",
        "4,9",
        "--runs",
        "2",
        "--simulations",
        "20",
        "--ceiling",
        "0.4",
    ]
    answer = brainmap_command(*words, "--out", tmp_path / "power.tsv", "--figure", tmp_path / "power.png")
    assert answer.code == 0, answer.err
    assert "conv4 > 0: .8 is reached with 9 participants, 2 runs of 12 conditions (power" in answer.out, answer.out
    assert "smallest design tried" not in answer.out
    assert (tmp_path / "power.png").read_bytes()[:4] == b"\x89PNG"
    table = pd.read_csv(tmp_path / "power.tsv", sep="\t")
    assert set(json.loads((tmp_path / "power.json").read_text())) >= set(table.columns)
    said = json.loads(brainmap_command(*words, "--json").out)
    assert said["smallest"]["conv4 > 0"]["participants"] == 9
    assert len(said["table"]) == 4
    at = words.index("--runs") + 1
    refused = brainmap_command(*words[:at], "two", *words[at + 1 :])
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "whole numbers separated by commas" in refused.err
    assert brainmap_command(*words, "--out", tmp_path / "power.tsv").code == 2
