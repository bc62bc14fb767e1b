"""Patterns, maps and attributions as features of RDMs: right spaces, right alignment, levels kept apart."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from brainmap import rsa
from brainmap.errors import BrainmapWarning, InputError
from brainmap.features.attribution.results import Attributions
from brainmap.features.representations.features import map_features, pattern_features, pattern_reliability
from brainmap.types import FeatureSet

RATE = 8000
TONES = (110.0, 440.0, 560.0, 3500.0)


def tones(rng, *, phase=True):
    t = np.arange(4000) / RATE
    shift = rng.uniform(0, 2 * np.pi, len(TONES)) if phase else np.zeros(len(TONES))
    return np.stack([np.sin(2 * np.pi * f * t + p) for f, p in zip(TONES, shift, strict=True)])[:, None]


def patterns_of(sounds, layer="output"):
    labels = tuple("abcd"[: len(sounds)])
    return SimpleNamespace(layer=layer, labels=labels, patterns=np.asarray(sounds, np.float32), rate=RATE)


def maps_of(maps, conditions, names=("one", "two")):
    items = tuple(f"s{i}" for i in range(len(maps)))
    return SimpleNamespace(
        maps=np.asarray(maps, np.float32),
        items=items,
        conditions=tuple(conditions),
        class_names=names,
        layer="conv8",
        method="cam",
        logits=np.asarray(maps).reshape(len(maps), len(maps[0]), -1).sum(axis=-1),
    )


def test_each_tone_lights_the_band_around_it():
    found = pattern_features(patterns_of(tones(np.random.default_rng(0))))
    assert isinstance(found, FeatureSet)
    peaks = found.axis[found["output"].argmax(axis=1)]
    np.testing.assert_allclose(peaks, TONES, atol=50)
    np.testing.assert_allclose(found["output"].max(axis=1), 1)


def test_spectra_do_not_care_for_phase_or_level_where_waveforms_do():
    rng = np.random.default_rng(1)
    sounds = np.stack([tones(rng) + 0.02 * rng.normal(size=(4, 1, 4000)) for _ in range(2)])
    assert pattern_reliability(sounds, RATE) > 0.99
    assert abs(pattern_reliability(sounds, RATE, space="waveform")) < 0.9
    loud, soft = (pattern_features(patterns_of(scale * sounds[0]))["output"] for scale in (1, 0.01))
    np.testing.assert_allclose(loud, soft, atol=1e-3)


def test_reliability_is_the_correlation_of_rdms():
    rng = np.random.default_rng(2)
    seeds = rng.normal(size=(3, 5, 1, 4000))
    rdms = [
        pdist(
            pattern_features(SimpleNamespace(layer="output", labels=tuple("abcde"), patterns=one, rate=RATE))["output"],
            "correlation",
        )
        for one in seeds
    ]
    wanted = np.mean([np.corrcoef(rdms[i], rdms[j])[0, 1] for i, j in ((0, 1), (0, 2), (1, 2))])
    assert pattern_reliability(seeds, RATE) == pytest.approx(wanted, abs=1e-9)
    assert np.isnan(pattern_reliability(seeds[:1], RATE))


def test_waveform_space_warns_that_phase_is_free():
    with pytest.warns(BrainmapWarning, match="spectrum"):
        found = pattern_features(patterns_of(tones(np.random.default_rng(0))), space="waveform")
    assert found["output"].shape == (4, 4000)


def test_image_like_patterns_are_compared_by_their_fourier_amplitude():
    x = np.random.default_rng(3).normal(size=(4, 1, 6, 8))
    found, moved = (pattern_features(patterns_of(p))["output"] for p in (x, np.roll(x, (2, 3), axis=(2, 3))))
    np.testing.assert_allclose(found, moved, rtol=1e-5)


def test_too_few_or_silent_patterns_are_refused():
    x = tones(np.random.default_rng(0))
    with pytest.raises(InputError, match="expected at least 3 patterns for an RDM, got 2 of output"):
        pattern_features(patterns_of(x[:2]))
    with pytest.raises(InputError, match=r"b.*silent"):
        pattern_features(patterns_of(x * np.array([1, 0, 1, 1])[:, None, None]))


def test_rdms_of_classes_meet_those_of_words_only_when_that_is_said():
    classes = pattern_features(patterns_of(tones(np.random.default_rng(0))))
    words = rsa.compute_rdms(
        np.random.default_rng(1).normal(size=(4, 9)), items="condition", descriptors={"condition": list("abcd")}
    )
    with pytest.raises(InputError, match=r"4 classes.*4 conditions"):
        rsa.compare_rdms(rsa.compute_rdms(classes), words)
    assert rsa.compute_rdms(classes).descriptors["level"] == "class"
    units = pattern_features(patterns_of(classes["output"][:, None], "conv1"))
    assert rsa.compute_rdms(units).descriptors["level"] == "unit"
    said = rsa.compute_rdms(classes, items="condition")
    assert np.isfinite(rsa.compare_rdms(said, words, measure="spearman")).all()


def test_the_map_of_the_true_class_is_taken():
    maps = np.arange(4 * 2 * 80, dtype=float).reshape(4, 2, 80)
    cams = maps_of(maps, ["one", "two", "two", "one"])
    found = map_features(cams, rate=1000, align="none")["conv8"]
    np.testing.assert_allclose(found[1], maps[1, 1].reshape(8, 10).mean(axis=1))
    np.testing.assert_allclose(found[0], maps[0, 0].reshape(8, 10).mean(axis=1))
    assert map_features(cams, rate=1000, align="none", classes="all")["conv8"].shape == (4, 16)
    np.testing.assert_allclose(
        map_features(cams, rate=1000, align="none", classes="two")["conv8"][0], maps[0, 1].reshape(8, 10).mean(axis=1)
    )


def test_maps_that_explain_another_class_do_not_pass_for_the_true_one():
    maps = np.random.default_rng(0).normal(size=(3, 1, 1, 60))
    found = maps_of(maps, ["one", "two", "one"])
    found.targets, found.logits, found.layer = np.array([[0], [0], [0]]), np.array([[1.0, 0]] * 3), None
    with pytest.raises(InputError, match="'s1' has no map of class 'two', only of 'one'"):
        map_features(found, rate=1000, align="none")
    predicted = map_features(found, rate=1000, align="none", classes="predicted")
    assert predicted.layers == ("cam",)
    np.testing.assert_allclose(predicted["cam"], maps.reshape(3, 6, 10).mean(axis=2), atol=1e-6)


def test_the_same_course_after_another_onset_is_the_same_once_aligned():
    course = np.sin(np.arange(300) / 20)
    onsets = [0, 100, 250]
    maps, sounds = np.zeros((3, 1, 600)), np.zeros((3, 1, 600))
    for row, at in enumerate(onsets):
        maps[row, 0, at : at + 300] = course
        sounds[row, 0, at : at + 300] = 1.0
    cams = maps_of(maps, ["one"] * 3, names=("one",))
    found = map_features(cams, rate=1000, sounds=sounds)
    np.testing.assert_allclose(found["conv8"][1], found["conv8"][0], atol=1e-6)
    np.testing.assert_allclose(found["conv8"][2], found["conv8"][0], atol=1e-6)
    assert found.axis[0] == pytest.approx(0.005)
    assert "35 steps" in found.notes[0]
    loose = map_features(cams, rate=1000, align="none")["conv8"]
    assert not np.allclose(loose[1], loose[0])


def test_attributions_with_channels_are_summed_over_them():
    maps = np.random.default_rng(0).normal(size=(3, 1, 2, 50))
    cams = maps_of(maps, ["one"] * 3, names=("one",))
    found = map_features(cams, rate=1000, sounds=np.ones((3, 1, 50)))["conv8"]
    np.testing.assert_allclose(found, maps.sum(axis=2).reshape(3, 5, 10).mean(axis=2), rtol=1e-6)


def test_attributions_are_named_by_their_method_even_where_they_have_a_layer():
    cams = maps_of(np.ones((3, 1, 50)), ["one"] * 3, names=("one",))
    found = Attributions(
        maps=np.random.default_rng(0).normal(size=(3, 1, 1, 50)).astype(np.float32),
        items=cams.items,
        conditions=cams.conditions,
        class_names=("one",),
        targets=np.zeros((3, 1), np.intp),
        method="guided-grad-cam",
        layer="conv8",
        logits=np.zeros((3, 1), np.float32),
    )
    assert map_features(found, rate=1000, align="none").layers == ("guided-grad-cam",)
    assert map_features(cams, rate=1000, align="none").layers == ("conv8",)


def test_permuting_items_permutes_features():
    rng = np.random.default_rng(0)
    maps, sounds = rng.normal(size=(5, 2, 200)), rng.normal(size=(5, 1, 200))
    words = np.array(["one", "two", "one", "two", "one"])
    order = np.array([3, 0, 4, 2, 1])
    straight = map_features(maps_of(maps, words), rate=1000, sounds=sounds)["conv8"]
    turned = map_features(maps_of(maps[order], words[order]), rate=1000, sounds=sounds[order])["conv8"]
    np.testing.assert_array_equal(turned, straight[order])


def test_what_cannot_be_aligned_or_named_is_refused_in_one_line():
    maps = np.ones((3, 2, 100))
    with pytest.raises(InputError, match="'three' are none of the classes"):
        map_features(maps_of(maps, ["one", "two", "three"]), rate=1000, align="none")
    with pytest.raises(InputError, match="give sounds="):
        map_features(maps_of(maps, ["one"] * 3), rate=1000)
    with pytest.raises(InputError, match="'s1' are silent"):
        map_features(maps_of(maps, ["one"] * 3), rate=1000, sounds=np.array([1.0, 0, 1])[:, None, None] * maps[:, :1])
    late = np.zeros((3, 1, 100))
    late[:, 0, 95:] = 1
    with pytest.raises(InputError, match="'s0', which begins 1 before it"):
        map_features(maps_of(maps, ["one"] * 3), rate=1000, sounds=late)
    with pytest.raises(InputError, match="expected 3 steps of"):
        map_features(maps_of(maps, ["one"] * 3), rate=1000, align="none", step_ms=50)
