"""Front ends: what a network takes, equal to librosa's own, and refused where it says nothing sensible."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from brainmap.errors import InputError
from brainmap.features.sounds.files import sounds_from_array
from brainmap.features.sounds.front_ends import WAVEFORM, read_front_end
from brainmap.features.sounds.spectrogram import compute_mel_centers, compute_power, log_mel, scale_power

RATE = 8_000


@pytest.fixture(scope="module")
def waves() -> np.ndarray:
    time = np.arange(RATE) / RATE
    rng = np.random.default_rng(0)
    chirps = [np.sin(2 * np.pi * (low * time + 400 * time**2)) for low in (200, 900)]
    return (0.2 * np.stack(chirps)[:, None] + 0.01 * rng.standard_normal((2, 1, RATE))).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "sizes", "edges"),
    [
        ((1, 1, 16_000), (16_000, 512, 512, 125, 64), (0, None)),
        ((3, 1, 60_001), (16_000, 512, 400, 160, 80), (20, 7_600)),
        ((2, 1, 4_000), (8_000, 512, 401, 100, 20), (1_200, 3_000)),
        ((2, 1, 1_001), (22_050, 1_001, 1_001, 250, 13), (50, 900)),
    ],
)
def test_log_mel_is_made_without_librosa_and_equals_it_to_the_last_bit(shape: Any, sizes: Any, edges: Any) -> None:
    import librosa

    rate, fft, window, hop, n_mels = sizes
    sounds = 0.05 * np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    gains = librosa.filters.mel(sr=rate, n_fft=fft, n_mels=n_mels, fmin=edges[0], fmax=edges[1])
    spectra = librosa.stft(sounds, n_fft=fft, hop_length=hop, win_length=window)
    wanted = gains @ np.square(np.abs(spectra))[..., : shape[2] // hop]
    given: dict[str, Any] = {"rate": rate, "n_mels": n_mels, "fmin": edges[0], "fmax": edges[1]}
    found = log_mel(sounds, hop=hop, window=window, fft=fft, scaling="power", **given)
    assert np.array_equal(found, wanted)
    centers = librosa.mel_frequencies(n_mels=n_mels + 2, fmin=edges[0], fmax=edges[1] or rate / 2)[1:-1]
    assert np.array_equal(compute_mel_centers(**given), centers)


def test_log_mel_compiles_nothing() -> None:
    """A first call of librosa compiles for half a minute."""
    code = (
        "import sys, numpy as np\nfrom brainmap.features.sounds.spectrogram import log_mel\n"
        "log_mel(np.ones((1, 1, 16_000)))\nprint([name for name in ('librosa', 'numba') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_log_mel_is_librosas(waves: np.ndarray) -> None:
    import librosa

    given = read_front_end("log-mel,mels=20,hop_ms=10,window_ms=25,fft=256,fmin=50,fmax=3500,scaling=db,frames=101")
    found = given.compute(waves, rate=RATE)
    theirs = librosa.feature.melspectrogram(
        y=waves[:, 0], sr=RATE, n_fft=256, win_length=200, hop_length=80, n_mels=20, fmin=50, fmax=3500
    )
    assert found.shape == (2, 1, 20, 101) == (2, *given.shape(RATE, rate=RATE))
    np.testing.assert_allclose(found[:, 0], 10 * np.log10(np.maximum(theirs, 1e-10)), atol=1e-3)


@pytest.mark.parametrize("scaling", ["log", "log10", "db", "power", "amplitude"])
def test_power_comes_back_from_every_scaling(scaling: str) -> None:
    power = np.geomspace(1e-4, 1e3, 50)
    np.testing.assert_allclose(compute_power(scale_power(power, scaling), scaling), power, rtol=2e-4)


@pytest.mark.parametrize("text", ["log-mel,mels=30", "cochleagram,bands=12"])
def test_bands_have_their_frequencies_and_frames_their_times(text: str) -> None:
    given = read_front_end(text)
    hertz = given.hertz(RATE)
    assert hertz is not None
    time = np.arange(RATE) / RATE
    for tone in (500.0, 1500.0):
        one = given.compute(0.1 * np.sin(2 * np.pi * tone * time)[None, None], rate=RATE)[0, 0]
        best = int(one.mean(axis=1).argmax())
        assert abs(best - int(np.abs(hertz - tone).argmin())) <= 1
    click = np.zeros((1, 1, RATE), np.float32)
    click[0, 0, RATE // 2] = 1
    one = given.compute(click, rate=RATE)[0, 0]
    per_second = given.frame_rate(RATE, n_samples=RATE, n_frames=one.shape[1])
    assert one.sum(axis=0).argmax() / per_second == pytest.approx(0.5, abs=1.5 / per_second)


def test_layouts_hold_the_same_numbers(waves: np.ndarray) -> None:
    plain, turned, channels = (
        read_front_end(f"log-mel,mels=20,layout={layout}")
        for layout in ("bands-frames", "frames-bands", "bands-as-channels")
    )
    picture = plain.compute(waves, rate=RATE)
    np.testing.assert_array_equal(turned.compute(waves, rate=RATE).swapaxes(2, 3), picture)
    np.testing.assert_array_equal(channels.compute(waves, rate=RATE), picture[:, 0])
    for given in (plain, turned, channels):
        found = given.compute(waves, rate=RATE)
        assert given.shape(RATE, rate=RATE) == found.shape[1:]
        assert found.shape[given.time_axis] == picture.shape[-1]
        np.testing.assert_array_equal(given.picture(found[0]), picture[0, 0])


def test_a_line_and_a_table_say_the_same_and_come_back() -> None:
    for text in ("waveform", "log-mel", "log-mel,mels=40,fmax=3000.0,scaling=db", "cochleagram,bands=20", "np:abs"):
        given = read_front_end(text)
        assert given.describe() == text
        assert read_front_end(given.settings()) == given
    assert read_front_end(None) == WAVEFORM


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("logmel", "expected .*log-mel.*got 'logmel'; did you mean 'log-mel'"),
        ("log-mel,mel=40", "no setting 'mel'; did you mean 'mels'"),
        ("log-mel,mels", "expected a kind and settings"),
        ("log-mel,mels=four", "expected a whole number as mels, got 'four'"),
        ("log-mel,mels=0", "expected a whole number from 1 as mels, got 0"),
        ("log-mel,hop_ms=0", "expected hop_ms above 0 and below 10,000 ms, got 0.0"),
        ("waveform,mels=3", "waveform has no setting 'mels'; it takes none"),
        ("log-mel,scaling=dB", "scaling: expected .* got 'dB'"),
        ({"mels": 3}, "expected a kind"),
    ],
)
def test_senseless_front_ends_are_refused(value: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_front_end(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("log-mel,fmax=5000", "4000 Hz, half the rate"),
        ("log-mel,mels=200,window_ms=16", "that hold none of a transform"),
        ("log-mel,frames=500", "expected at most 130 frames.*got frames 500"),
        ("log-mel,window_ms=2000", "of 16000 samples or more"),
    ],
)
def test_settings_that_the_sounds_do_not_allow_are_refused(text: str, said: str, waves: np.ndarray) -> None:
    with pytest.raises(InputError, match=said):
        read_front_end(text).compute(waves, rate=RATE)


def test_a_users_function_is_called_with_waveforms_and_rate(
    tmp_path, monkeypatch: pytest.MonkeyPatch, waves: np.ndarray
) -> None:
    (tmp_path / "own_ears.py").write_text(
        "import torch\n"
        "def frames(waves, rate):\n"
        "    return torch.as_tensor(waves).unfold(2, rate // 100, rate // 100).square().mean(-1)\n"
        "def one(waves, rate):\n    return waves[:1]\n"
        "def broken(waves, rate):\n    raise SystemExit('no')\n"
    )
    monkeypatch.chdir(tmp_path)
    given = read_front_end("own_ears:frames")
    np.testing.assert_allclose(
        given.compute(waves, rate=RATE)[:, 0], np.square(waves[:, 0]).reshape(2, 100, 80).mean(2), rtol=1e-5
    )
    before = given.key()
    (tmp_path / "own_ears.py").write_text("def frames(waves, rate):\n    return waves\n")
    assert given.key() != before  # results depend on the code
    with pytest.raises(InputError, match=r"expected own_ears:one to return \(2, c, h, w\) .* got shape \(1, 1, 8000\)"):
        read_front_end("own_ears:one").compute(waves, rate=RATE)
    with pytest.raises(InputError, match="own_ears:broken failed \\(SystemExit: no\\)"):
        read_front_end("own_ears:broken").compute(waves, rate=RATE)


def test_sounds_with_a_front_end_keep_their_waveforms_and_have_a_digest_of_their_own(waves: np.ndarray) -> None:
    from dataclasses import replace

    plain = sounds_from_array(waves, rate=RATE)
    heard = replace(plain, front_end=read_front_end("log-mel,mels=20"))
    np.testing.assert_array_equal(heard.waveforms, waves)
    np.testing.assert_array_equal(
        np.concatenate(list(heard.batches(1))), read_front_end("log-mel,mels=20").compute(waves, rate=RATE)
    )
    assert len({plain.digest, heard.digest, replace(plain, front_end=read_front_end("log-mel,mels=21")).digest}) == 3
    assert plain.take([1]).front_end is WAVEFORM
    assert heard.take([1]).front_end == heard.front_end
