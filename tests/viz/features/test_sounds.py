"""Sounds as pictures: frequencies where they belong, each word colored by its own class."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from brainmap.errors import InputError
from brainmap.features.attribution.results import find_own_class
from brainmap.viz import plot_cam, plot_maximization, plot_sound
from brainmap.viz.features.attention import average_attention, plot_target_attention
from brainmap.viz.features.sounds import average_in_bins, compute_log_spectrogram, transform_frames

RATE = 16_000
T = np.arange(RATE) / RATE


@pytest.mark.parametrize("hertz", [125.0, 500.0, 3000.0])
def test_a_tone_lies_at_its_frequency_and_is_the_loudest(hertz: Any) -> None:
    loud, axis = compute_log_spectrogram(np.sin(2 * np.pi * hertz * T), rate=RATE)
    middle = loud[:, loud.shape[1] // 2]
    assert abs(np.log2(axis[middle.argmax()] / hertz)) < 0.12
    assert middle.max() == pytest.approx(1, abs=0.02)
    assert np.allclose(np.diff(np.log(axis)), np.diff(np.log(axis))[0])


def test_a_later_sound_is_drawn_later() -> None:
    loud, _ = compute_log_spectrogram(np.where(T > 0.75, np.sin(2 * np.pi * 800 * T), 0.0), rate=RATE)
    assert loud.max(axis=0).argmax() / loud.shape[1] > 0.73


@pytest.mark.parametrize("n", [16, 20, 100, 805, 16_000])
def test_frames_are_transformed_as_scipy_does(n: int) -> None:
    wave, size = np.random.default_rng(n).standard_normal(n), min(512, 2 ** int(np.log2(n)))
    scipys = ShortTimeFFT(hann(size, sym=False), hop=size // 4, fs=16_000, mfft=2048)
    np.testing.assert_allclose(np.abs(transform_frames(wave)), np.abs(scipys.stft(wave)), atol=1e-12)


def test_silence_is_drawn_without_a_warning() -> None:
    assert plot_sound(np.zeros(RATE), rate=RATE).axes


def test_means_in_bins_keep_the_mean() -> None:
    course = np.random.default_rng(0).normal(size=(3, 1200))
    binned = average_in_bins(course, 24)
    assert binned.shape == (3, 24)
    np.testing.assert_allclose(binned.mean(axis=-1), course.mean(axis=-1))


def words(maps: Any, conditions: Any, names: Any) -> Any:
    waves = np.random.default_rng(1).normal(size=(len(conditions), 1, maps.shape[-1]))
    sounds = SimpleNamespace(waveforms=waves, rate=RATE, items=list("abcdef")[: len(conditions)], conditions=conditions)
    return sounds, SimpleNamespace(maps=maps, class_names=names)


def test_classes_are_found_by_name_not_by_position() -> None:
    sounds, cams = words(np.zeros((3, 2, 480)), ["dog", "bed", "dog"], ["bed", "dog"])
    assert find_own_class(sounds.conditions, cams.class_names).tolist() == [1, 0, 1]
    with pytest.raises(InputError, match="conditions 'cow' are none of the classes"):
        plot_cam(*words(np.zeros((1, 2, 480)), ["cow"], ["bed", "dog"]))


def test_attention_averages_the_sounds_of_a_word_and_leaves_unspoken_words_empty() -> None:
    maps = np.random.default_rng(2).normal(size=(3, 3, 480))
    mean = average_attention(*words(maps, ["dog", "bed", "dog"], ["bed", "cat", "dog"]), bins=24)
    np.testing.assert_allclose(mean[2], average_in_bins(maps[[0, 2]].mean(axis=0), 24), atol=1e-6)
    np.testing.assert_allclose(mean[0], average_in_bins(maps[1], 24), atol=1e-6)
    assert np.isnan(mean[1]).all()


def test_orange_speaks_for_the_word_and_blue_against_it() -> None:
    maps = np.zeros((2, 2, 480))
    maps[0, 1, :240], maps[0, 1, 240:] = 1.0, -1.0  # the first is a "dog", heard early
    figure = plot_cam(*words(maps, ["dog", "bed"], ["bed", "dog"]))
    red, _, blue, _ = np.asarray(figure.axes[0].collections[0].get_facecolor()).T
    assert (red[:70] > blue[:70]).all()
    assert (red[-70:] < blue[-70:]).all()


def test_target_attention_shows_time_within_each_cell() -> None:
    maps = np.zeros((2, 2, 480))
    maps[1, 0, :20] = 1.0  # hearing "dog", the class "bed" peaks at once
    figure = plot_target_attention(*words(maps, ["bed", "dog"], ["bed", "dog"]), bins=24)
    picture = np.asarray(figure.axes[0].images[0].get_array())
    assert picture.shape == (2, 48)
    assert np.argwhere(picture).tolist() == [[1, 0]]


def test_every_unit_gets_its_pattern_and_name() -> None:
    am = SimpleNamespace(patterns=np.random.default_rng(0).normal(size=(3, 1, 565)), units=[4, 7, 9], rate=RATE)
    figure = plot_maximization(am)
    assert [name for axes in figure.axes if (name := axes.get_title(loc="left"))] == ["4", "7", "9"]
    with pytest.raises(InputError, match="expected one for each of 3 patterns, got 2"):
        plot_maximization(am, labels=["a", "b"])
    with pytest.raises(InputError, match="expected"):
        plot_sound(np.zeros((2, 3, 4, 5)), rate=RATE)
