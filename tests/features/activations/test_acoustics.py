"""Acoustic models against librosa, closed forms and sounds whose modulation is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from brainmap import features, rsa
from brainmap.errors import InputError
from brainmap.features.activations.acoustics import MODELS
from brainmap.features.sounds import cochlea
from brainmap.features.sounds.files import sounds_from_array

Array = NDArray[Any]
RATE = 16_000
T = np.arange(RATE) / RATE
DOWN, UP = 0, 1


@pytest.fixture(scope="module")
def noises() -> Array:
    """Five sounds of different color and course, `(n, 1, t)`."""
    rng = np.random.default_rng(0)
    spectra = np.fft.rfft(rng.standard_normal((5, 8000))) * np.arange(1, 4002) ** np.linspace(-1, 0.3, 5)[:, None]
    waves = np.fft.irfft(spectra) * np.hanning(8000) ** np.linspace(0.3, 2, 5)[:, None]
    return np.asarray(0.1 * waves / waves.std(axis=1, keepdims=True), dtype=np.float32)[:, None]


def modulation(wave: Array) -> Array:
    found: Array = cochlea.compute_modulation_spectrum(wave[None].astype(np.float32), rate=RATE)[0]
    return found


@pytest.mark.parametrize("rate", [4.0, 16.0, 64.0])
@pytest.mark.parametrize("carrier", ["tone", "noise"])
def test_amplitude_modulation_is_found_at_its_rate(rate: float, carrier: str) -> None:
    wave = np.sin(2 * np.pi * 1000 * T) if carrier == "tone" else np.random.default_rng(0).standard_normal(RATE)
    found = modulation((1 + np.sin(2 * np.pi * rate * T)) * wave)
    assert cochlea.RATES[found.sum(axis=(0, 2)).argmax()] == rate
    if carrier == "noise":  # the same course at all frequencies
        assert found[:, cochlea.RATES.index(rate)].sum(axis=0).argmax() == 0
    np.testing.assert_allclose(found[DOWN].sum(), found[UP].sum(), rtol=0.15)


@pytest.mark.parametrize(("rate", "scale", "direction"), [(8, 1, DOWN), (8, 1, UP), (4, 0.5, DOWN), (16, 0.25, UP)])
def test_a_moving_ripple_is_found_at_its_rate_scale_and_direction(rate: float, scale: float, direction: int) -> None:
    rng = np.random.default_rng(0)
    sign = 1 if direction == DOWN else -1
    wave = np.zeros(RATE)
    for hertz in 100 * 2 ** np.arange(0, 6, 1 / 30):
        drift = np.sin(2 * np.pi * (sign * rate * T + scale * np.log2(hertz / 100)))
        wave += (1 + 0.9 * drift) * np.sin(2 * np.pi * hertz * T + rng.uniform(0, 2 * np.pi))
    found = modulation(wave)
    best = np.unravel_index(found.argmax(), found.shape)
    assert (int(best[0]), cochlea.RATES[best[1]], cochlea.SCALES[best[2]]) == (direction, rate, scale)
    assert found[direction].sum() > 1.3 * found[1 - direction].sum()


def test_erb_numbers_are_those_of_glasberg_and_moore() -> None:
    hertz = np.array([50.0, 500.0, 4000.0])
    np.testing.assert_allclose(cochlea.convert_from_erb(cochlea.convert_to_erb(hertz)), hertz)
    np.testing.assert_allclose(
        cochlea.convert_to_erb(hertz), 21.4 * np.log10(1 + 0.00437 * hertz), rtol=5e-3
    )  # rounded
    width = np.gradient(cochlea.convert_from_erb(np.arange(3, 30, 0.01)), 0.01)  # one number is one bandwidth
    at = cochlea.convert_from_erb(np.arange(3, 30, 0.01))
    np.testing.assert_allclose(width[1:-1], 24.7 * (4.37 * at[1:-1] / 1000 + 1), rtol=1e-3)


def test_filters_pass_their_centers_and_all_energy_between_the_ends() -> None:
    centers = cochlea.compute_erb_centers(30, rate=RATE)
    spacing = np.diff(cochlea.convert_to_erb(centers))
    np.testing.assert_allclose(spacing, spacing[0])
    gains = cochlea.compute_filter_gains(centers, RATE, rate=RATE, width=float(spacing[0]))
    np.testing.assert_allclose(gains.argmax(axis=1), centers, atol=1)
    inside = slice(int(np.ceil(centers[0])), int(centers[-1]))
    np.testing.assert_allclose(np.square(gains).sum(axis=0)[inside], 1, rtol=1e-5)


def test_a_tone_is_loudest_in_its_channel_with_its_envelope() -> None:
    centers = cochlea.compute_erb_centers(30, rate=RATE)
    course = np.where(T < 0.5, 0.2, 1.0)
    found = cochlea.compute_subband_envelopes((course * np.sin(2 * np.pi * centers[12] * T))[None], rate=RATE)[0]
    assert found.shape == (30, 200)
    assert (found[:, 20:80].argmax(axis=0) == 12).all()
    np.testing.assert_allclose(found[12, 20:80], 0.2**0.3, rtol=0.02)
    np.testing.assert_allclose(found[12, 120:180], 1, rtol=0.02)


def test_envelope_of_a_modulated_tone_is_its_modulator() -> None:
    course = 1 + 0.5 * np.sin(2 * np.pi * 5 * T)
    found = cochlea.compute_waveform_envelope((course * np.sin(2 * np.pi * 2000 * T))[None], rate=RATE)[0, 0]
    np.testing.assert_allclose(found[10:-10], course[:: RATE // 200][10:-10], rtol=0.02)


def test_mel_and_mfcc_are_librosas(noises: Array) -> None:
    librosa = pytest.importorskip("librosa")
    found = features.acoustic_features(noises, models=["mel-spectrogram", "mfcc"], rate=RATE, pooling="none")
    for k, wave in enumerate(noises[:, 0]):
        given = {"y": wave, "sr": RATE, "n_fft": 1024, "hop_length": 160, "n_mels": 64}
        power = librosa.feature.melspectrogram(**given)
        np.testing.assert_allclose(found["mel-spectrogram"][k], librosa.power_to_db(power), rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(found["mfcc"][k], librosa.feature.mfcc(n_mfcc=13, **given), rtol=1e-3, atol=1e-2)


def test_gain_does_what_the_module_says(noises: Array) -> None:
    soft, loud = (features.acoustic_features(g * noises, rate=RATE, pooling="none") for g in (1.0, 4.0))
    np.testing.assert_allclose(loud["waveform-envelope"][:], 4 * soft["waveform-envelope"][:], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(loud["cochleagram"][:], 4**0.3 * soft["cochleagram"][:], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(loud["modulation"][:], 4**0.3 * soft["modulation"][:], rtol=1e-3)
    louder = loud["mel-spectrogram"][:] - soft["mel-spectrogram"][:]
    np.testing.assert_allclose(louder, 20 * np.log10(4), atol=1e-3)
    np.testing.assert_allclose(loud["mfcc"][:, 1:], soft["mfcc"][:, 1:], atol=0.01)


def test_each_model_is_a_layer_that_rsa_takes(noises: Array, tmp_path: Path) -> None:
    sounds = sounds_from_array(noises, rate=RATE, items=list("abcde"), conditions=list("uvwxy"))
    found = features.acoustic_features(sounds, store=tmp_path / "a.zarr")
    assert found.layers == tuple(MODELS)
    assert found.conditions == tuple("uvwxy")
    assert {name: found[name].shape for name in found} == {
        "waveform-envelope": (5, 100),
        "mel-spectrogram": (5, 64 * 51),
        "mfcc": (5, 13 * 51),
        "cochleagram": (5, 30 * 100),
        "modulation": (5, 72),
    }
    rdms = rsa.compute_rdms(found, dissimilarity="correlation")
    assert list(rdms.rdm_descriptors["layer"]) == list(MODELS)
    again = features.open_activations(tmp_path / "a.zarr")
    np.testing.assert_array_equal(again["mfcc"][:], found["mfcc"][:])


@pytest.mark.slow
def test_items_do_not_meet(noises: Array) -> None:
    whole = features.acoustic_features(noises, rate=RATE)
    alone = features.acoustic_features(noises[[3, 1]], rate=RATE, batch_size=1)
    for model in whole:
        np.testing.assert_allclose(alone[model][:], whole[model][:][[3, 1]], rtol=1e-4, atol=1e-4)


def test_time_can_be_averaged_out(noises: Array) -> None:
    models = ["cochleagram", "modulation"]
    mean = features.acoustic_features(noises, models=models, rate=RATE, pooling="mean")
    kept = features.acoustic_features(noises, models=models, rate=RATE, pooling="none")
    np.testing.assert_allclose(mean["cochleagram"][:], kept["cochleagram"][:].mean(axis=2), rtol=1e-5)
    np.testing.assert_array_equal(mean["modulation"][:], kept["modulation"][:])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"models": ["mffc"]}, "did you mean 'mfcc'"),
        ({"models": []}, "expected one or more names"),
        ({"models": ["mfcc", "mfcc"]}, "each once"),
        ({"rate": None}, "give rate="),
        ({"pooling": "mean"}, "the mean of a waveform envelope is one number"),
        ({"pooling": "max"}, "expected one of 'flatten'"),
    ],
)
def test_mistakes_get_one_line(noises: Array, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        features.acoustic_features(noises, **{"rate": RATE, **given})
    assert "\n" not in str(caught.value)


def test_what_is_no_waveform_is_refused(noises: Array) -> None:
    with pytest.raises(InputError, match="expected waveforms"):
        features.acoustic_features(torch.zeros(2, 2, 4000), rate=RATE)
    with pytest.raises(InputError, match="expected sounds of 1600 samples or more"):
        features.acoustic_features(noises[..., :1000], models=["mfcc"], rate=RATE)
    with pytest.raises(InputError, match="one cycle of the slowest rate"):
        features.acoustic_features(noises[..., :2000], models=["modulation"], rate=RATE)


@pytest.mark.slow
def test_the_command_leaves_a_store_and_a_picture(
    noises: Array, tmp_path: Path, brainmap_command: Callable[..., Any]
) -> None:
    import soundfile

    for k, wave in enumerate(noises[:3, 0]):
        (tmp_path / "sounds" / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "sounds" / "ab"[k % 2] / f"{k}.wav", wave, RATE)
    base = ("features", "acoustics", "--sounds", tmp_path / "sounds", "--out", tmp_path / "a.zarr")
    done = brainmap_command(*base, "--models", "cochleagram,modulation", "--figure", tmp_path / "a.png")
    assert done.code == 0, done.err
    assert features.open_activations(tmp_path / "a.zarr").layers == ("cochleagram", "modulation")
    assert (tmp_path / "a.png").stat().st_size > 20_000
    assert brainmap_command(*base).code == 2
    wrong = brainmap_command(*base[:-1], tmp_path / "b.zarr", "--models", "gammatone")
    assert wrong.code == 2
    assert "expected one of 'all', 'waveform-envelope'" in wrong.err


@pytest.mark.slow
def test_a_study_compares_acoustic_models_as_one_more_network(tiny_study: Any) -> None:
    import pandas as pd

    baselines = '\n[baselines]\nmodels = ["mfcc", "cochleagram"]\n\n[rsa]\n'
    tiny_study.edit(("\n[rsa]\n", baselines), ("[searchlight]\nradius_mm = 6.0\n", ""))
    tiny_study.run(page=True)
    scores = pd.read_csv(tiny_study.out / "group" / "scores.tsv", sep="\t")
    found = scores[scores["network"] == "acoustics"]
    assert sorted(found["layer"].unique()) == ["cochleagram", "mfcc"]
    assert len(found) == 2 * 3 * 3  # models, regions, participants
    rdms = rsa.load_rdms(tiny_study.out / "rdms" / "network-acoustics_rdms.h5")
    sounds = features.load_sounds(tiny_study.folder / "stimuli.tsv", seconds=0.15)
    alone = rsa.compute_rdms(features.acoustic_features(sounds, models=["mfcc", "cochleagram"]), units="zscore")
    np.testing.assert_allclose(rdms.dissimilarities, alone.dissimilarities, rtol=1e-5)
    page = (tiny_study.out / "report.html").read_text()
    assert "served as baselines: mfcc, cochleagram" in page
    assert "The blue band is what acoustic models reach" in page
    assert '<th scope="col" class="n">Less acoustic models</th>' in page
    assert tiny_study.run() == set()
    tiny_study.edit(('"mfcc", "cochleagram"', '"mfcc"'))
    assert "network-acoustics" in tiny_study.run()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ('models = ["mffc"]', "did you mean 'mfcc'"),
        ("models = []", r"\[baselines\] models: expected a list of 1 or more entries"),
        ('models = ["mfcc", "mfcc"]', "expected each model once"),
        ('models = ["mfcc"]\nname = "net"', "network 'net': named more than once"),
        ('models = ["modulation"]', "one cycle of the slowest rate"),
    ],
)
def test_baselines_are_checked_before_anything_is_computed(tiny_study: Any, section: str, message: str) -> None:
    from brainmap.study.run import Context, check_study
    from brainmap.study.settings.study import load_study

    tiny_study.edit(("\n[rsa]\n", f"\n[baselines]\n{section}\n\n[rsa]\n"))
    with pytest.raises(InputError, match=message):
        check_study(Context(load_study(tiny_study.file))).refuse()


def test_the_study_file_knows_the_models_that_there_are() -> None:
    from brainmap.study.settings.study import StudySettings
    from brainmap.study.settings.template import TEMPLATE

    allowed = StudySettings.model_json_schema()["$defs"]["Baselines"]["properties"]["models"]["items"]["enum"]
    assert tuple(allowed) == tuple(MODELS)
    assert all(f'"{model}"' in TEMPLATE for model in MODELS)
