"""A decoder is trained on any sounds, goes on after it was stopped, says what it heard, and is a prior."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from brainmap.errors import InputError
from brainmap.features.maximization import decoder_training
from brainmap.features.maximization.decoder import choose_priors, list_decoder_words, load_decoder
from brainmap.features.maximization.decoder_training import DecoderTraining, describe_decoder, train_decoder
from brainmap.features.maximization.maximize import MaximizationSettings, maximize_activation
from brainmap.features.sounds.files import Sounds, sounds_from_array

FEW = DecoderTraining(steps=9, batch_size=4)


@pytest.fixture(scope="module")
def sounds() -> Sounds:
    rng = np.random.default_rng(0)
    time = np.arange(1_600) / 16_000
    waves = [
        0.1 * np.sin(2 * np.pi * f * time) * (1 + rng.standard_normal(1_600) / 9) for f in np.linspace(90, 300, 12)
    ]
    return sounds_from_array(np.stack(waves)[:, None], rate=16_000, conditions=["low"] * 6 + ["high"] * 6)


def test_a_stopped_training_goes_on_to_the_same_weights(sounds, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(decoder_training, "_SAVED_EVERY", 2)
    whole = train_decoder(sounds, sounds.take([0, 7]), tmp_path / "whole.safetensors", settings=FEW)
    calls = 0
    plain = decoder_training.Autoencoder.sum_losses

    def stopping(self, parts):
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        return plain(self, parts)

    monkeypatch.setattr(decoder_training.Autoencoder, "sum_losses", stopping)
    out = tmp_path / "stopped.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train_decoder(sounds, sounds.take([0, 7]), out, settings=FEW)
    assert (tmp_path / "stopped.resume.pt").exists()
    assert not out.exists()
    with pytest.raises(InputError, match="other settings or sounds"):
        train_decoder(sounds.take(range(8)), sounds.take([0]), out, settings=FEW)
    again = train_decoder(sounds, sounds.take([0, 7]), out, settings=FEW)
    assert calls == 6 + (9 - 4)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert not (tmp_path / "stopped.resume.pt").exists()
    with pytest.raises(InputError, match="exists"):
        train_decoder(sounds, sounds.take([0]), out, settings=FEW)


def test_the_file_says_what_it_heard_and_is_a_prior(sounds, tmp_path) -> None:
    out = tmp_path / "d.safetensors"
    train_decoder(sounds, sounds.take([0]), out, settings=FEW, note="tones, made here")
    decoder = load_decoder(out)
    about = decoder.about.training
    assert about is not None
    assert (about["words"], about["note"], about["n_training"]) == (["high", "low"], "tones, made here", 12)
    assert list_decoder_words(decoder) == {"low", "high"}
    (chosen,) = choose_priors(None, decoder=out, rate=16_000, n_samples=1_600)
    net = nn.Sequential(nn.Conv1d(1, 4, 9), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2))
    settings = MaximizationSettings.of("generative", steps=2, draws=4)
    am = maximize_activation(net, settings=settings, sounds=sounds, decoder=chosen.decoder)
    assert (am.prior, am.patterns.shape) == ("decoder", (2, 1, 1_600))


def test_training_lowers_the_loss(sounds, tmp_path) -> None:
    settings = [DecoderTraining(steps=steps, batch_size=6) for steps in (1, 30)]
    losses = []
    for row, one in enumerate(settings):
        decoder = train_decoder(sounds, sounds, tmp_path / f"{row}.safetensors", settings=one)
        assert decoder.about.training is not None
        losses.append(decoder.about.training["held_out"]["level"])
    assert losses[1] < 0.8 * losses[0]


def test_what_cannot_be_trained_is_refused(sounds, tmp_path) -> None:
    with pytest.raises(InputError, match="at least 16 sounds"):
        train_decoder(sounds, sounds, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="8,000 to 48,000 Hz"):
        describe_decoder(4_000, 4_000)
    assert (describe_decoder(44_100, 44_100).window, describe_decoder(16_000, 16_000).window) == (1_024, 512)
