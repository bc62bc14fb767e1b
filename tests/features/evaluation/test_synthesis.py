"""Sounds that are synthesized to be controversial are more so than random ones, and hold what their table says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from brainmap.errors import InputError
from brainmap.features.evaluation.controversial import compare_networks, pick_controversial, save_stimuli
from brainmap.features.evaluation.judges import Judge
from brainmap.features.evaluation.synthesis import synthesize_controversial
from brainmap.features.maximization.decoder import DecoderDescription, SpeechDecoder
from brainmap.features.networks.description import Checkpoint
from brainmap.features.sounds.files import load_sounds, sounds_from_array

RATE, N, DRAWS = 16_000, 1_600, 24


class Balance(nn.Module):
    """Logits that are planted in a sound: is it louder in its first half, or in its second."""

    def __init__(self, sign: float) -> None:
        super().__init__()
        self.sign = nn.Parameter(torch.tensor(sign))

    def forward(self, sounds: Tensor) -> Tensor:
        first = sounds[:, 0, : N // 2].square().mean(1) / sounds[:, 0].square().mean(1)
        return torch.stack([self.sign * (first - 1), torch.zeros_like(first)], 1)


def judge(name: str, sign: float, classes: tuple[str, ...] = ("up", "down")) -> Judge:
    return Judge(name=name, model=Balance(sign), checkpoint=Checkpoint(architecture="", classes=classes, n_samples=N))


@pytest.fixture(scope="module")
def decoder() -> SpeechDecoder:
    torch.manual_seed(0)
    about = DecoderDescription(n_latent=8, n_samples=N, width=8, bands=8, window=256, hop=80)
    made = SpeechDecoder(about).eval()
    with torch.no_grad():  # so that latents change when a sound is loud
        made.first.weight *= 6
    return made


def test_an_ascent_makes_random_sounds_more_controversial(decoder: SpeechDecoder, tmp_path) -> None:
    one, other = judge("one", 3.0), judge("other", -3.0)
    found, sounds = synthesize_controversial(
        one, other, decoder, n=3, draws=DRAWS, steps=20, raters=[judge("third", 1.0)], rng=np.random.default_rng(1)
    )
    rng = np.random.default_rng(1)
    latents = np.stack([rng.standard_normal(decoder.latent_shape, dtype=np.float32) for _ in range(DRAWS)])
    with torch.no_grad():
        drawn = sounds_from_array(decoder(torch.as_tensor(latents)).numpy(), rate=RATE)
    random = pick_controversial(one, other, drawn, n=3)
    assert found.table["controversy"].min() > random.table["controversy"].min()
    assert found.table["controversy"].max() > 1.05 * random.table["controversy"].max()
    assert set(found.table["origin"]) == {"synthesized"}
    again = compare_networks(one, other, sounds.take(found.rows))
    np.testing.assert_allclose(found.table["controversy"], again["controversy"], atol=1e-6)
    assert (found.table["worst"] <= found.table["controversy"] + 1e-9).all()
    with torch.no_grad():
        top = judge("third", 1.0).model(torch.as_tensor(sounds.take(found.rows).waveforms)).softmax(1).amax(1)
    np.testing.assert_allclose(found.table["natural"], top, atol=1e-3)  # is heard at its own level

    path = save_stimuli(found, sounds, tmp_path / "made", about={})
    kept = load_sounds(path, seconds=N / RATE, level="none")
    np.testing.assert_allclose(kept.waveforms, sounds.take(found.rows).waveforms, atol=1 / 32_768)


def test_the_worst_case_is_that_of_shifts_and_a_lower_level(decoder: SpeechDecoder) -> None:
    one, other = judge("one", 3.0), judge("other", -3.0)
    found, sounds = synthesize_controversial(one, other, decoder, n=2, draws=DRAWS, steps=2)
    waves = sounds.take(found.rows).waveforms
    wanted = found.table["controversy"].to_numpy().copy()
    for by in (-160, -80, 80, 160):
        moved = np.roll(waves, by, axis=2)
        if by > 0:
            moved[..., :by] = 0
        else:
            moved[..., by:] = 0
        with torch.no_grad():
            p, q = (j.model(torch.as_tensor(moved)).double().softmax(1).numpy() for j in (one, other))
        for row, (a, b) in enumerate(zip(found.table["one"], found.table["other"], strict=True)):
            x, y = ("up", "down").index(a), ("up", "down").index(b)
            wanted[row] = min(wanted[row], p[row, x] - p[row, y], q[row, y] - q[row, x])
    np.testing.assert_allclose(found.table["worst"], wanted, atol=1e-6)  # the level does not matter to these networks


def test_networks_on_other_sounds_than_the_decoder_makes_are_refused(decoder: SpeechDecoder) -> None:
    one, other = judge("one", 3.0), judge("other", -3.0)
    slow = replace(other, checkpoint=replace(other.checkpoint, rate=8_000))
    with pytest.raises(InputError, match=r"expected networks on waveforms of 1600 samples at 16000 Hz.*'other'"):
        synthesize_controversial(one, slow, decoder, n=1, draws=4, steps=1)
    with pytest.raises(InputError, match="networks of the same classes"):
        synthesize_controversial(one, judge("new", -3.0, ("up", "left")), decoder, n=1, draws=4, steps=1)
