"""The decoder of speech: its source, its file, and what it can and cannot say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from brainmap.errors import InputError
from brainmap.features.maximization.decoder import (
    DecoderDescription,
    SpeechDecoder,
    generate_pulses,
    load_decoder,
    save_decoder,
)

SMALL = DecoderDescription(n_latent=5, n_samples=3200, width=8, bands=12)


def small() -> SpeechDecoder:
    torch.manual_seed(0)
    return SpeechDecoder(SMALL).eval()


def test_pulses_are_the_sum_of_all_harmonics() -> None:
    rate, hertz = 16_000, 125.0
    found = generate_pulses(torch.full((1, 3200), hertz), rate)[0].numpy()
    t = np.arange(1, 3201) / rate
    wanted = sum(np.cos(2 * np.pi * k * hertz * t) for k in range(1, int(7000 // hertz) + 1))
    np.testing.assert_allclose(found, wanted * np.sqrt(4 * hertz / rate), atol=2e-2)


def test_gliding_pitch_is_heard_where_it_is() -> None:
    pitch = torch.linspace(100, 200, 16_000)[None]
    pulses = generate_pulses(pitch, 16_000)[0].numpy()
    for at in (2000, 8000, 14_000):
        piece = pulses[at - 800 : at + 800]
        lags = np.correlate(piece, piece, "full")[1600 - 1 + 60 : 1600 - 1 + 240]
        assert 16_000 / (60 + lags.argmax()) == pytest.approx(float(pitch[0, at]), rel=0.05)


def test_latent_is_one_sound_and_has_a_gradient() -> None:
    decoder, latent = small(), torch.randn(3, 5, requires_grad=True)
    sounds = decoder(latent)
    assert sounds.shape == (3, 1, 3200)
    torch.testing.assert_close(decoder(latent), sounds)
    torch.testing.assert_close(decoder(latent[1:2]), sounds[1:2], atol=1e-3, rtol=1e-3)
    (gradient,) = torch.autograd.grad(sounds.square().sum(), latent)
    assert gradient.isfinite().all()
    assert (gradient != 0).any(1).all()


def test_decoder_comes_back_from_its_file(tmp_path: Path) -> None:
    decoder, latent = small(), torch.zeros(1, 5)
    again = load_decoder(save_decoder(decoder, tmp_path / "d.safetensors"))
    assert again.about == SMALL
    for one, other in zip(again.frames_of(latent), decoder.frames_of(latent), strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=5e-3)  # weights in float16


def test_what_is_no_decoder_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    other.write_bytes(safetensors.torch.save({"weight": torch.zeros(2)}))
    with pytest.raises(InputError, match="is no decoder of brainmap"):
        load_decoder(other)
    other.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="copy it again"):
        load_decoder(other)
    with pytest.raises(InputError, match="no file"):
        load_decoder(tmp_path / "none.safetensors")
    metadata = {"brainmap-decoder": '{"n_latent": 7}'}
    other.write_bytes(safetensors.torch.save({"weight": torch.zeros(2)}, metadata=metadata))
    with pytest.raises(InputError, match="cannot be read") as caught:
        load_decoder(other)
    assert "\n" not in str(caught.value)


def test_shipped_decoder_speaks(tmp_path: Path) -> None:
    decoder = load_decoder()
    with torch.no_grad():
        sounds = decoder(torch.randn(8, *decoder.latent_shape, generator=torch.Generator().manual_seed(0)))[:, 0]
        pitch = decoder.frames_of(torch.zeros(1, 64))[2]
    assert ((pitch > 60) & (pitch < 300)).all()
    power = sounds.double().numpy() ** 2
    spectrum = np.abs(np.fft.rfft(sounds.double().numpy())) ** 2
    frequency = np.fft.rfftfreq(16_000, 1 / 16_000)
    assert 200 < (spectrum.sum(0) @ frequency) / spectrum.sum() < 1500  # speech, not hiss
    assert power[:, 12_000:].mean() < 0.1 * power[:, :8000].mean()  # words begin, and end
