from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brainmap.errors import BrainmapWarning, InputError
from brainmap.features.attribution.cam import class_activation_maps
from brainmap.features.attribution.methods import attribute
from brainmap.features.evaluation.explain import explain
from brainmap.features.evaluation.faithfulness import deletion_curves, map_agreement
from brainmap.features.evaluation.localization import compare_intervals, localize, summarize_localization
from brainmap.features.evaluation.randomization import cascading_randomization, stack_results
from brainmap.features.networks.zoo import build_network
from brainmap.features.sounds.files import sounds_from_array
from brainmap.features.sounds.intervals import find_sounding_intervals, mark_intervals, mark_voicing, plant_sounds
from brainmap.features.sounds.voicing import find_voicing

Array = NDArray[np.float32]
WINDOW = slice(40, 60)  # all that the planted network hears


class Planted(nn.Module):
    """Class 1 is the energy of a known window, class 0 a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        energy = x[:, 0, WINDOW].square().mean(1) * self.weight
        return torch.stack([torch.full_like(energy, 0.5), energy], dim=1)


@pytest.fixture
def sounds() -> Array:
    return np.random.default_rng(0).standard_normal((4, 1, 100)).astype(np.float32)


def true_map(sounds: Array) -> Array:
    maps = np.zeros((len(sounds), 1, 100), np.float32)
    maps[:, 0, WINDOW] = 1 + np.arange(20)
    return maps


ONES = np.ones((4, 1), int)


def test_deletion_by_the_true_map_loses_the_class_at_once_and_insertion_finds_it(sounds: Array) -> None:
    given: dict[str, Any] = {"targets": ONES, "windows": 10, "score": "logit"}
    gone = deletion_curves(Planted(), sounds, true_map(sounds), **given)
    back = deletion_curves(Planted(), sounds, true_map(sounds), order="insertion", **given)
    energy = np.square(sounds[:, 0, WINDOW]).mean(1)
    last, both = np.square(sounds[:, 0, 40:50]).sum(1) / 20, energy
    expected = np.concatenate([both[:, None], last[:, None], np.zeros((4, 9))], axis=1)
    np.testing.assert_allclose(gone.scores[:, 0], expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(back.scores[:, 0], both[:, None] - expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gone.auc[:, 0], (both / 2 + last) / 10, rtol=1e-5)
    assert (gone.gain > 0.2).all()
    assert (back.gain > 0.2).all()
    wrong = deletion_curves(Planted(), sounds, -true_map(sounds), **given)
    assert (wrong.gain < -0.2).all()


def test_random_orders_give_on_average_a_straight_line(sounds: Array) -> None:
    found = deletion_curves(
        Planted(),
        sounds,
        true_map(sounds),
        targets=ONES,
        windows=10,
        score="logit",
        random_orders=400,
        rng=np.random.default_rng(1),
    )
    energy = np.square(sounds[:, 0, WINDOW]).mean(1)
    np.testing.assert_allclose(found.random[:, 0], energy[:, None] * np.linspace(1, 0, 11), atol=0.1)


def test_probability_is_the_softmax_of_the_logits(sounds: Array) -> None:
    found = deletion_curves(Planted(), sounds, true_map(sounds), targets=ONES, windows=10)
    logit = deletion_curves(Planted(), sounds, true_map(sounds), targets=ONES, windows=10, score="logit").scores
    np.testing.assert_allclose(found.scores, 1 / (1 + np.exp(0.5 - logit)), rtol=1e-5)


def test_fills_take_the_place_of_what_is_taken_away(sounds: Array) -> None:
    given: dict[str, Any] = {"targets": ONES, "windows": 10, "score": "logit"}
    noise = deletion_curves(Planted(), sounds, true_map(sounds), fill="noise", **given).scores[:, 0, -1]
    assert (abs(np.log(noise / np.square(sounds).mean((1, 2)))) < 0.8).all()
    mean = deletion_curves(Planted(), sounds, true_map(sounds), fill="mean", **given).scores[:, 0, -1]
    padded = np.pad(sounds[:, 0], ((0, 0), (5, 4)), mode="edge")
    around = np.lib.stride_tricks.sliding_window_view(padded, 10, axis=1).mean(2)
    np.testing.assert_allclose(mean, np.square(around[:, WINDOW]).mean(1), rtol=1e-4)


def test_a_fade_changes_edges_and_not_what_is_whole(sounds: Array) -> None:
    sharp, soft = (
        deletion_curves(Planted(), sounds, true_map(sounds), targets=ONES, windows=5, fade=fade, score="logit").scores
        for fade in (0.0, 0.5)
    )
    np.testing.assert_allclose(sharp[..., [0, -1]], soft[..., [0, -1]], rtol=1e-6)
    assert (soft[..., 1] > sharp[..., 1]).all()


def test_curves_take_attributions_and_maps_of_all_classes() -> None:
    x = np.random.default_rng(0).standard_normal((3, 1, 60)).astype(np.float32)
    net = nn.Sequential(nn.Conv1d(1, 4, 5), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 3))
    names = ["a", "b", "c"]
    found = attribute(net, x, method="input-x-gradient", classes=["c", "a"], class_names=names)
    curves = deletion_curves(net, x, found, windows=6, class_names=names)
    assert curves.targets.tolist() == [[2, 0]] * 3
    assert list(curves.table["class"]) == ["c", "a"] * 3
    cams = class_activation_maps(net, x, class_names=names)
    assert deletion_curves(net, x, cams, windows=6).table["class"].tolist() == names * 3
    by_hand = deletion_curves(net, x, found.courses, targets=found.targets, windows=6)
    np.testing.assert_array_equal(by_hand.scores, curves.scores)


def test_a_grid_of_windows_in_two_dimensions() -> None:
    x = np.random.default_rng(0).standard_normal((2, 1, 4, 30)).astype(np.float32)
    net = nn.Sequential(nn.Flatten(), nn.Linear(120, 2))
    weight = net[1].weight.detach().numpy().reshape(2, 4, 30)
    maps = weight[None] * x
    found = deletion_curves(net, x, maps, targets=np.tile([0, 1], (2, 1)), windows=(4, 30), score="logit")
    order = np.sort((maps).reshape(2, 2, 120), axis=2)[..., ::-1]
    lost = np.concatenate([np.zeros((2, 2, 1)), np.cumsum(order, axis=2)], axis=2)
    start = maps.sum((2, 3))[..., None] + net[1].bias.detach().numpy()[:, None]
    np.testing.assert_allclose(found.scores, start - lost, atol=1e-4)
    assert deletion_curves(net, x, maps, targets=np.tile([0, 1], (2, 1)), windows=5).scores.shape == (2, 2, 6)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"windows": 200}, "at most one for each sample .*got 200"),
        ({"windows": 1}, "two windows or more"),
        ({"fade": 2.0}, "fade from 0 to 1, got 2.0"),
        ({"order": "removal"}, "order: expected one of"),
        ({"fill": "zero"}, "did you mean 'zeros'"),
        ({"targets": np.zeros((4, 2), int)}, "targets"),
        ({"targets": np.full((4, 1), 7)}, "expected classes from 0 to 1, got 7 to 7"),
        ({"targets": None}, "give targets"),
        ({"random_orders": 0}, "random_orders of 1 or more, got 0"),
    ],
)
def test_curves_refuse_what_does_not_fit(given: dict[str, Any], words: str, sounds: Array) -> None:
    net = Planted().train()
    with pytest.raises(InputError, match=words):
        deletion_curves(net, sounds, true_map(sounds), **({"targets": ONES} | given))
    assert net.training


def test_maps_of_other_sounds_are_refused(sounds: Array) -> None:
    with pytest.raises(InputError, match="over the samples of the same sounds"):
        deletion_curves(Planted(), sounds, true_map(sounds)[..., :50], targets=ONES)


def test_the_gradient_points_at_the_planted_window_and_agreement_has_its_closed_form(sounds: Array) -> None:
    table = pd.DataFrame({"stimulus_id": list("0123"), "start_s": 0.4, "end_s": 0.6})
    marks = mark_intervals(table, list("0123"), rate=100, n_samples=100)
    assert marks[:, WINDOW].all()
    assert marks.sum() == 80
    found = map_agreement(attribute(Planted(), sounds, method="saliency", classes=[1]), marks)
    assert found.pointing.all()
    np.testing.assert_allclose(found.mass, 1)
    np.testing.assert_allclose(found.marked, 0.2)
    box = np.zeros((1, 2, 100))
    box[0, 0, 50:90], box[0, 1, 61] = 1, 1
    boxed = map_agreement(box, marks[:1])
    assert boxed.iou[0, 0] == pytest.approx(10 / 50)
    assert boxed.mass[0, 0] == pytest.approx(10 / 40)
    assert boxed.pointing.tolist() == [[True, False]]
    assert map_agreement(box, marks[:1], tolerance=2).pointing.tolist() == [[True, True]]
    nothing = map_agreement(-box, marks[:1])
    assert not nothing.pointing.any()
    assert np.isnan(nothing.mass).all()


def test_marks_follow_voicing_and_refuse_gaps() -> None:
    t = np.arange(8000) / 16_000
    wave = np.where(t < 0.25, np.sin(2 * np.pi * 125 * t), np.random.default_rng(0).standard_normal(8000) * 0.3)
    marks = mark_voicing(find_voicing(wave[None, None].astype(np.float32), rate=16_000))
    assert marks.shape == (1, 8000)
    assert marks[0, 500:3500].all()
    assert marks[0, 4500:].mean() < 0.1
    with pytest.raises(InputError, match="sound 1 has none"):
        map_agreement(np.ones((2, 1, 4)), np.array([[True] * 4, [False] * 4]))
    with pytest.raises(InputError, match="marks: expected one mark"):
        map_agreement(np.ones((2, 1, 4)), np.ones((2, 5), bool))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (
            {"stimulus_id": ["a"], "start": [0], "end_s": [1]},
            "expected a column 'start_s', got .*; did you mean 'start'",
        ),
        ({"stimulus_id": ["b"], "start_s": [0], "end_s": [1]}, "none of 'a'"),
        ({"stimulus_id": ["a"], "start_s": [0.5], "end_s": [0.5]}, "expected 0 <= start < end <= 1 s"),
        ({"stimulus_id": ["a"], "start_s": ["x"], "end_s": [0.5]}, "got nan to 0.5 s"),
        ({"stimulus_id": ["a"], "start_s": [0.5], "end_s": [1.5]}, "end <= 1"),
    ],
)
def test_intervals_must_make_sense(table: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        mark_intervals(pd.DataFrame(table), ["a"], rate=10, n_samples=10)


def trained_like() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Conv1d(1, 6, 5, padding=2),
            nn.BatchNorm1d(6),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(6, 8, 5, padding=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(10),
            nn.Flatten(),
            nn.Linear(80, 4),
        )


def test_drawing_layers_anew_destroys_gradients_and_not_what_only_shows_the_sound() -> None:
    x = np.random.default_rng(0).standard_normal((6, 1, 200)).astype(np.float32)
    net = trained_like().train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    targets = np.zeros(6, int)
    rng = np.random.default_rng(0)
    salient = cascading_randomization(net, x, method="input-x-gradient", targets=targets, rng=rng)
    layered = cascading_randomization(net, x, method="layer-cam", targets=targets, rng=rng, layer="0")
    edges = cascading_randomization(net, x, method=lambda _: np.abs(np.diff(x[:, 0])), rng=rng)
    assert salient.layers == ("8", "4", "0")
    assert np.abs(salient.correlations[-1]).mean() < 0.3
    assert layered.correlations[-1].mean() < 0.9
    np.testing.assert_allclose(edges.correlations, 1)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert net.training
    assert not any(m._forward_hooks for m in net.modules())
    table = stack_results([salient, layered])
    assert table["method"].tolist() == ["input-x-gradient"] * 3 + ["layer-cam"] * 3
    assert (table["low"] <= table["high"]).all()


def test_the_correlation_is_spearmans() -> None:
    from scipy.stats import spearmanr

    x = np.random.default_rng(0).standard_normal((3, 1, 50)).astype(np.float32)
    net = nn.Sequential(nn.Flatten(), nn.Linear(50, 2))
    seen: list[Array] = []

    def weights(network: nn.Module) -> Array:
        seen.append(network[1].weight[0].detach().numpy().round(1) * x[:, 0])
        return seen[-1]

    found = cascading_randomization(net, x, method=weights, rng=np.random.default_rng(0), absolute=True)
    expected = [spearmanr(abs(a), abs(b)).statistic for a, b in zip(*seen, strict=True)]
    np.testing.assert_allclose(found.correlations[0], expected)


def test_constant_maps_are_left_out_with_a_word_and_seeds_repeat() -> None:
    x = np.random.default_rng(0).standard_normal((3, 1, 50)).astype(np.float32)
    net = nn.Sequential(nn.Flatten(), nn.Linear(50, 2))
    with pytest.warns(BrainmapWarning, match="3 of 3 maps are constant"):
        found = cascading_randomization(net, x, method=lambda _: np.zeros((3, 50)), rng=np.random.default_rng(0))
    assert found.table["n"].tolist() == [0]
    one, two = (
        cascading_randomization(net, x, method="saliency", targets=np.zeros(3, int), rng=np.random.default_rng(4))
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.correlations, two.correlations)
    with pytest.raises(InputError, match="needs targets"):
        cascading_randomization(net, x, method="saliency", rng=np.random.default_rng(0))
    with pytest.raises(InputError, match="did you mean 'saliency'"):
        cascading_randomization(net, x, method="salency", targets=np.zeros(3, int), rng=np.random.default_rng(0))
    with pytest.raises(InputError, match="no layer with weights"):
        cascading_randomization(nn.Flatten(), x, method=lambda _: x[:, 0], rng=np.random.default_rng(0))


def test_each_sound_is_explained_for_its_own_class() -> None:
    x = np.random.default_rng(0).standard_normal((5, 1, 200)).astype(np.float32)
    net, targets = trained_like().eval(), np.array([3, 0, 3, 1, 0])
    for method in ("saliency", "grad-cam"):
        found = explain(net, x, method=method, targets=targets)
        whole = (
            attribute(net, x, method=method, classes="all").courses
            if method == "saliency"
            else class_activation_maps(net, x).maps
        )
        np.testing.assert_allclose(found, whole[np.arange(5), targets], atol=1e-6)


class Detector(nn.Module):
    """Two classes: energy high and low, by filters, rectified and averaged over time (a GAP head)."""

    def __init__(self) -> None:
        super().__init__()
        t = np.arange(64)
        filters = np.stack([np.sin(2 * np.pi * f * t / 1000) * np.hanning(64) for f in (100.0, 300.0)])
        self.conv = nn.Conv1d(1, 2, 64, padding=32, bias=False)
        self.conv.weight.data[:] = torch.as_tensor(filters[:, None], dtype=torch.float32)
        self.out = nn.Linear(2, 2, bias=False)
        self.out.weight.data[:] = torch.eye(2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(torch.relu(self.conv(x)).mean(2))
        return out


@pytest.fixture
def tones() -> Any:
    t = np.arange(300) / 1000
    waves = np.zeros((6, 1, 1000), np.float32)
    for row in range(6):
        waves[row, 0, 200:500] = np.sin(2 * np.pi * (100, 300)[row % 2] * t)
    return sounds_from_array(waves, rate=1000, items=[f"s{i}" for i in range(6)], conditions=["low", "high"] * 3)


def test_planted_sounds_are_where_the_table_says(tones: Any) -> None:
    spans = find_sounding_intervals(tones, rate=1000)
    np.testing.assert_allclose(spans[["start_s", "end_s"]], [[0.2, 0.5]] * 6)
    planted, table = plant_sounds(tones, seconds=2.0, rng=np.random.default_rng(0))
    marks = mark_intervals(table, planted.items, rate=1000, n_samples=2000)
    loud = np.square(planted.waveforms[:, 0]).astype(float)
    assert (loud * marks).sum() / loud.sum() > 0.999
    assert len(set(table["start_s"])) == 6
    again, _ = plant_sounds(tones, seconds=2.0, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(again.waveforms, planted.waveforms)
    with pytest.raises(InputError, match=r"got 0\.30 s of"):
        plant_sounds(tones, seconds=0.2, rng=np.random.default_rng(0))


def test_a_network_that_hears_tones_finds_where_they_are(tones: Any) -> None:
    planted, table = plant_sounds(tones, seconds=2.0, rng=np.random.default_rng(0))
    found = localize({"gap": Detector()}, planted, table, class_names=["low", "high"])
    summary = summarize_localization(found).set_index("method")
    assert summary.index.tolist() == ["cam", "grad-cam", "saliency", "whole", "loudness"]
    assert summary["localization_error"][["cam", "grad-cam", "loudness"]].tolist() == [0, 0, 0]
    assert summary["top1_error"]["cam"] == 0
    assert summary["error_ms"]["cam"] < 60
    assert summary["localization_error"]["whole"] == 1
    np.testing.assert_allclose(summary["iou"]["whole"], 0.15)
    heard = found[found["method"] == "cam"]
    assert heard["heard"].tolist() == ["low", "high"] * 3


def test_found_intervals_have_their_closed_form() -> None:
    maps = np.zeros((2, 100))
    maps[0, 20:50], maps[0, 60:65] = 1, 1
    truth = pd.DataFrame({"stimulus_id": ["b", "a"], "start_s": [0.5, 0.3], "end_s": [0.9, 0.6]})
    found = compare_intervals(maps, truth, items=["a", "b"], rate=100, smooth_ms=0)
    assert found["iou"].tolist() == pytest.approx([20 / 40, 0])
    assert found["hit"].tolist() == [True, False]
    assert found["error_ms"].tolist() == pytest.approx([100, 700])
    assert found["center_error_ms"].tolist() == pytest.approx([100, 700])


def test_localization_refuses_what_it_cannot_do(tones: Any) -> None:
    _, table = plant_sounds(tones, seconds=1.0, rng=np.random.default_rng(0))
    given: dict[str, Any] = {"class_names": ["low", "high"]}
    flat = build_network("ch32", n_classes=2, n_samples=2187)
    with pytest.raises(InputError, match="refuses sounds"):
        localize({"flat": flat}, tones, table, **given)
    with pytest.raises(InputError, match="nothing of its rate"):
        localize({"gap": Detector()}, tones.waveforms, table, **given)
    with pytest.raises(InputError, match="conditions 'low', 'high' are none of the classes"):
        localize({"gap": Detector()}, tones, table, class_names=["one", "two"])
    with pytest.raises(InputError, match="more than one interval"):
        localize({"gap": Detector()}, tones, pd.concat([table, table]), **given)
    headless = nn.Sequential(Detector().conv, nn.ReLU(), nn.AdaptiveAvgPool1d(5), nn.Flatten(), nn.Linear(10, 2))
    with pytest.raises(InputError, match="linear layer on the mean or maximum"):
        localize({"flat": headless}, tones, table, **given)
