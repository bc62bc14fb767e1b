"""Encoding models of stories: planted delays, no leak over boundaries or between neighboring scans."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from brainmap import rsa
from brainmap.errors import InputError
from brainmap.rsa.encoding.fits import EncodingSettings, fit_folds
from brainmap.rsa.encoding.folds import Folds
from brainmap.rsa.encoding.noise import measure_explainable_variance
from brainmap.rsa.encoding.responses import FeatureSpace
from brainmap.rsa.encoding.scans import delay_features, lanczos_weights, sample_scans, zscore
from brainmap.rsa.encoding.scores import score_fold
from brainmap.rsa.encoding.stories import count_delays
from brainmap.rsa.encoding.story_ceilings import compare_listeners

pytestmark = pytest.mark.filterwarnings("ignore:encoding. (there are no repetitions|the (largest|smallest) alpha)")
Array = NDArray[Any]
T_R, HOP, SCANS = 2.0, 0.5, 80


class Windows:
    """Features of windows, as `extract_activations(..., window=, hop=)` returns them."""

    network = "net"

    def __init__(self, stories: dict[str, Array], *, layer: str = "conv1") -> None:
        rows = [(name, HOP * k, HOP) for name, x in stories.items() for k in range(len(x))]
        self.table = pd.DataFrame(rows, columns=["sound", "onset", "duration"])
        self.items = tuple(f"{sound}@{onset:g}" for sound, onset, _ in rows)
        self.conditions = tuple(self.table["sound"])
        self.layers = (layer,)
        self._x = np.concatenate(list(stories.values()))

    def __getitem__(self, layer: str) -> Array:
        return self._x

    def __iter__(self) -> Any:
        return iter(self.layers)


def smooth(rng: np.random.Generator, n: int, columns: int, width: int) -> Array:
    """Autocorrelated noise."""
    kernel = np.hanning(width + 2)[1:-1]
    x = rng.normal(size=(n + width, columns))
    return np.stack([np.convolve(x[:, k], kernel, "valid")[:n] for k in range(columns)], axis=1)


def make_stories(rng: np.random.Generator, n: int = 5, units: int = 4) -> dict[str, Array]:
    steps = int(SCANS * T_R / HOP)
    return {f"story{k}": smooth(rng, steps, units, 9) for k in range(n)}


def respond(stories: dict[str, Array], rng: np.random.Generator, *, delay: int, noise: float, voxels: int = 6) -> Any:
    """Responses to the features `delay` scans before."""
    weights = rng.normal(size=(next(iter(stories.values())).shape[1], voxels))
    found = {}
    for name, x in stories.items():
        ends = HOP * np.arange(1, len(x) + 1)
        at_scans = zscore(sample_scans(x, ends, np.arange(SCANS) * T_R))
        signal = delay_features(at_scans, [delay]) @ weights
        found[name] = signal / signal.std() + noise * rng.normal(size=(SCANS, voxels))
    return found


def test_lanczos_weights_are_the_published_ones() -> None:
    times, scans = np.arange(0.25, 30, 0.31), np.arange(0, 30, 2.0)
    found = lanczos_weights(times, scans)
    for i, scan in enumerate(scans):
        for j, time in enumerate(times):
            x = (scan - time) / 2.0
            published = 3 * np.sin(np.pi * x) * np.sin(np.pi * x / 3) / (np.pi**2 * x**2) if x else 1.0
            assert found[i, j] == pytest.approx(published if abs(x) <= 3 else 0.0, abs=1e-10)


def test_lanczos_keeps_slow_changes_and_removes_those_between_scans() -> None:
    times, scans = np.arange(0, 200, 0.1), np.arange(0, 200, 2.0)
    inside = slice(5, -5)
    slow, fast = (np.sin(2 * np.pi * times / period)[:, None] for period in (20.0, 2.3))
    np.testing.assert_allclose(
        sample_scans(slow, times, scans)[inside, 0], np.sin(2 * np.pi * scans / 20.0)[inside], atol=0.02
    )
    assert np.abs(sample_scans(fast, times, scans)[inside]).max() < 0.15
    np.testing.assert_allclose(sample_scans(np.ones((len(times), 1)), times, scans), 1.0, rtol=1e-12)


def test_means_of_scans_are_those_of_the_samples_since_the_scan_before() -> None:
    x, times = np.arange(1.0, 9.0)[:, None], np.arange(1.0, 9.0)
    found = sample_scans(x, times, np.array([2.0, 4.0, 6.0, 8.0]), "mean")
    assert found[:, 0].tolist() == [1.5, 3.5, 5.5, 7.5]


@pytest.mark.parametrize(("t_r", "last"), [(2.0, 8.0), (1.5, 9.0), (1.0, 8.0), (0.8, 8.0), (0.37, 8.14)])
def test_default_delays_are_all_multiples_of_the_tr_up_to_8_s_or_more(t_r: float, last: float) -> None:
    found = count_delays(None, t_r)
    assert found == tuple(range(1, len(found) + 1))
    assert found[-1] * t_r == pytest.approx(last)


def test_a_planted_layer_predicts_new_stories_and_its_delay_is_found() -> None:
    rng = np.random.default_rng(0)
    stories = make_stories(rng)
    responses = respond(stories, rng, delay=2, noise=1.0)
    scores = {
        delay: rsa.encode_stories(Windows(stories), responses, t_r=T_R, delays=[delay], high_pass=None)
        .scores["r"]
        .mean()
        for delay in (2.0, 4.0, 6.0, 8.0)
    }
    assert max(scores, key=lambda delay: scores[delay]) == 4.0  # two scans
    fit = rsa.encode_stories(Windows(stories), responses, t_r=T_R)
    assert fit.folds.by == "story"
    assert fit.folds.n_folds == 5
    assert fit.scores["r"].min() > 0.5
    assert fit.spaces[0].shape == (5 * SCANS, 4 * 4)  # 2, 4, 6 and 8 s


def test_noise_is_predicted_by_shuffled_folds_and_not_by_whole_stories() -> None:
    rng = np.random.default_rng(1)
    stories = {name: smooth(rng, int(SCANS * T_R / HOP), 30, 60) for name in ("a", "b", "c", "d")}
    responses = {name: smooth(rng, SCANS, 40, 15) for name in stories}
    fit = rsa.encode_stories(Windows(stories), responses, t_r=T_R, high_pass=None)
    assert abs(fit.scores["r"].mean()) < 0.06
    y, space = fit.responses.mean, fit.spaces[0]
    assert isinstance(space, FeatureSpace)
    shuffled = Folds(rng.permutation(len(y)) % 4, np.arange(len(y)), "scan")
    settings = EncodingSettings(alphas=np.logspace(-1, 6, 8))
    predicted = fit_folds(space, y, shuffled, settings).predicted
    leaked = np.mean([score_fold(predicted[test], y[test])[0].mean() for _, test in map(shuffled.split, range(4))])
    assert leaked > 0.3


def test_nothing_passes_from_one_story_to_the_next() -> None:
    rng = np.random.default_rng(2)
    stories = make_stories(rng, n=3, units=1)
    spiked = {name: x.copy() for name, x in stories.items()}
    spiked["story0"][-1] += 50.0  # at the end of a story, within the delays of the next one
    responses = respond(stories, rng, delay=1, noise=1.0)
    one, other = (rsa.encode_stories(Windows(x), responses, t_r=T_R).spaces[0].array for x in (stories, spiked))
    np.testing.assert_array_equal(one[SCANS:], other[SCANS:])
    assert not np.array_equal(one[:SCANS], other[:SCANS])
    assert (one[SCANS, :] == 0).all()  # nothing was heard before the first scan of a story


def test_drifts_and_confounds_are_removed_inside_each_story() -> None:
    rng = np.random.default_rng(3)
    stories = make_stories(rng)
    clean = respond(stories, rng, delay=2, noise=0.5)
    motion = {name: rng.normal(size=(SCANS, 2)).cumsum(axis=0) for name in stories}
    trend = np.linspace(0, 30, SCANS)[:, None]
    dirty = {name: y + trend + 5 * motion[name] @ rng.normal(size=(2, y.shape[1])) for name, y in clean.items()}
    bad, good = (
        rsa.encode_stories(Windows(stories), dirty, t_r=T_R, confounds=confounds).scores["r"].mean()
        for confounds in (None, motion)
    )
    assert good > 0.5 > bad


def test_repetitions_give_the_reliability_of_their_mean() -> None:
    rng = np.random.default_rng(4)
    stories = make_stories(rng)
    signal = respond(stories, rng, delay=2, noise=0.0)
    twice = {name: [y + rng.normal(size=y.shape) for _ in range(2)] for name, y in signal.items()}
    twice["story4"] = twice["story4"][:1]  # heard once
    fit = rsa.encode_stories(Windows(stories), twice, t_r=T_R, high_pass=None)
    once = 1 / (1 + 1)
    assert fit.scores["reliability"].mean() == pytest.approx(1.8 * once / (1 + 0.8 * once), abs=0.08)
    assert fit.scores["r_corrected"].mean() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"t_r": 1.5},
            r"expected 106.7 scans of 1.5 s for 'story0' \(160 s of sound\), got 80 .* no silence would make them fit; "
            "was the scan .* 2 s, at which",
        ),
        (
            {"t_r": 2.2},
            r"expected 72.7 scans of 2.2 s .* got 80 \(176 s\); if silence was scanned .*: \[0, 16\] would fit",
        ),
        (
            {"silence": (10.0, 4.0)},
            r"got 80 \(160 s\); is silence = \[10, 4\] too long\? Without it they fit; or was the scan",
        ),
        ({"delays": [3.0]}, r"delays: expected multiples of the time between scans \(2 s\), got '?3 s"),
        ({"delays": [2.0, 170.0]}, r"longer than the delays \(85 scans\), got 80"),
        ({"trim": (40, 37)}, r"longer than the delays \(4 scans\), got 3 scans after trimming"),
        ({"folds": 6}, "expected 2 to 5 folds of whole stories, got 6"),
        ({"layers": "conv9"}, "layer of net: expected .*conv1.*, got 'conv9'"),
        ({"sampling": "lanzcos"}, "did you mean 'lanczos'"),
        ({"targets": pd.DataFrame({"roi": ["a"], "voxel": [0]})}, "expected 1 targets in every story"),
        ({"confounds": {f"story{k}": np.zeros((3, 1)) for k in range(5)}}, "expected 1 confound arrays of 80 scans"),
        ({"confounds": {"story0": np.zeros((80, 1))}}, "confounds: expected those of each story, got only one side of"),
        ({"seconds": {"stroy0": 160.0}}, "seconds: expected lengths of the stories, got one of 'stroy0'"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    rng = np.random.default_rng(5)
    stories = make_stories(rng)
    given: dict[str, Any] = {"t_r": T_R} | change
    with pytest.raises(InputError, match=message):
        rsa.encode_stories(Windows(stories), respond(stories, rng, delay=1, noise=1.0), **given)


def test_stories_that_one_side_lacks_whole_sounds_and_gaps_are_refused() -> None:
    rng = np.random.default_rng(6)
    stories = make_stories(rng)
    responses = respond(stories, rng, delay=1, noise=1.0)
    few = {name: responses[name] for name in ("story0", "story1")}
    with pytest.raises(InputError, match=r"'story2', .* only in the features"):
        rsa.encode_stories(Windows(stories), few, t_r=T_R)
    with pytest.raises(InputError, match="expected 3 stories or more"):
        rsa.encode_stories(Windows({name: stories[name] for name in few}), few, t_r=T_R)
    whole = Windows(stories)
    whole.table["duration"] = np.nan
    with pytest.raises(InputError, match=r"expected features of windows of net .* \(--window, --hop\)"):
        rsa.encode_stories(whole, responses, t_r=T_R)
    gap = Windows(stories)
    gap.table.loc[20:30, "onset"] = 10.0
    with pytest.raises(InputError, match="expected windows at least every 2 s in 'story0'"):
        rsa.encode_stories(gap, responses, t_r=T_R)
    responses["story3"][4, 0] = np.nan
    with pytest.raises(InputError, match="got NaN or infinity"):
        rsa.encode_stories(Windows(stories), responses, t_r=T_R)


def test_explainable_variance_is_the_bias_corrected_one_of_complete_repeats() -> None:
    rng = np.random.default_rng(8)
    y = np.stack([zscore(x) for x in rng.normal(size=(300, 5)) + rng.normal(size=(4, 300, 5)) * [0.2, 0.5, 1, 2, 9]])
    ev = y.mean(axis=0).var(axis=0)  # of unit variances
    np.testing.assert_allclose(measure_explainable_variance(y), ev - (1 - ev) / 3, rtol=1e-10)
    noise = rng.normal(size=(2, 40, 4000))
    assert measure_explainable_variance(noise).mean() == pytest.approx(0, abs=0.01)  # where ev is a half
    once = np.concatenate([y[:2], np.full((1, 300, 5), np.nan)])
    np.testing.assert_array_equal(measure_explainable_variance(once), measure_explainable_variance(y[:2]))
    assert np.isnan(measure_explainable_variance(y[:1])).all()


def test_ceilings_between_participants_are_correlations_with_the_others_within_stories() -> None:
    rng = np.random.default_rng(9)
    stories = make_stories(rng, n=3)
    signal = respond(stories, rng, delay=2, noise=0.0, voxels=4)
    targets = pd.DataFrame({"roi": ["a", "a", "b", "b"], "voxel": pd.array(range(4), dtype="Int64")})
    fits = []
    for who in ("01", "02", "03"):
        bold = {name: y + rng.normal(size=y.shape) * [1, 1, 30, 30] for name, y in signal.items()}
        fits.append(
            rsa.encode_stories(Windows(stories), bold, t_r=T_R, high_pass=None, targets=targets, participant=who)
        )
    found = rsa.story_ceilings(fits).set_index("roi")
    y = np.stack([fit.responses.mean.reshape(3, SCANS, 2, 2).mean(axis=3) for fit in fits])  # who, story, scan, roi
    lower = [
        np.corrcoef(y[who, story, :, 0], np.delete(y, who, 0)[:, story, :, 0].mean(axis=0))[0, 1]
        for who in range(3)
        for story in range(3)
    ]
    assert found.loc["a", "lower"] == pytest.approx(np.mean(lower), abs=1e-12)
    each = compare_listeners(fits)
    assert each["participant"].tolist() == ["01", "01", "02", "02", "03", "03"]
    np.testing.assert_allclose(each.loc[each["roi"] == "a", "agreement"], np.reshape(lower, (3, 3)).mean(axis=1))
    assert found.loc["a", "upper"] > found.loc["a", "lower"] > 0.3
    assert abs(found.loc["b", "lower"]) < 0.2
    with pytest.raises(InputError, match="expected at least 2 participants, got 1"):
        rsa.story_ceilings(fits[:1])


def test_silence_before_the_sound_moves_the_scans() -> None:
    rng = np.random.default_rng(10)
    stories = make_stories(rng)
    responses = respond(stories, rng, delay=2, noise=0.5)
    around = {
        name: np.concatenate([rng.normal(size=(3, 6)), y, rng.normal(size=(2, 6))]) for name, y in responses.items()
    }
    with pytest.raises(
        InputError,
        match=r"expected 80.0 scans of 2 s .* got 85 \(170 s\); if silence was .*: \[0, 10\] would fit, or",
    ):
        rsa.encode_stories(Windows(stories), around, t_r=T_R)
    plain, moved, wrong = (
        rsa.encode_stories(Windows(stories), given, t_r=T_R, high_pass=None, delays=[4.0], silence=silence, trim=trim)
        for given, silence, trim in ((responses, (0, 0), (0, 0)), (around, (6, 4), (3, 2)), (around, (0, 10), (3, 2)))
    )
    # one scan more has sound around it, and so other z-scores
    np.testing.assert_allclose(moved.spaces[0].array, plain.spaces[0].array, atol=0.1)
    assert moved.scores["r"].mean() > 0.6 > wrong.scores["r"].mean()
    half = rsa.encode_stories(Windows(stories), responses, t_r=T_R, slice_time_ref=0.5)
    assert not np.allclose(half.spaces[0].array[:, :4], plain.spaces[0].array)
