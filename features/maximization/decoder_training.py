"""Train the decoder that activation maximization uses as its generative prior: a variational autoencoder of the words.

    python -m brainmap.features.maximization.decoder_training corpus data/networks/decoder.safetensors

This takes about 20 minutes on one core.

The encoder receives a log-mel spectrogram and the pitch; the decoder is
`brainmap.features.maximization.decoder.SpeechDecoder`. The loss compares log-mel spectrograms and fine magnitudes at
three resolutions and the pitch of voiced frames, and adds the divergence of the latent from the standard normal. Only
the decoder is kept. The same seed gives the same weights on one machine.
"""

from __future__ import annotations

import argparse
import copy
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from brainmap.features.maximization.decoder import (
    HIGHEST_PITCH,
    LOWEST_PITCH,
    DecoderDescription,
    SpeechDecoder,
    convert_to_mel,
    generate_pulses,
    save_decoder,
)
from brainmap.features.sounds.files import Sounds, load_sounds
from brainmap.progress import progress

RESOLUTIONS = ((256, 24), (512, 40), (1024, 64))  # window [samples], mel bands
QUIET = 1e-3  # amplitude added before the logarithm


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Describe how the decoder is trained."""

    steps: int = 3000
    batch_size: int = 16
    learning_rate: float = 2e-3
    divergence: float = 0.004  # weight of the divergence, per latent dimension
    pitch: float = 1.0  # weight of the error of the pitch [octaves]
    magnitude: float = 0.5  # weight of the fine magnitudes
    seed: int = 0


class Encoder(nn.Module):
    """Encode log-mel spectrogram and pitch `(n, bands + 2, frames)` to mean and log variance of the latent."""

    def __init__(self, bands: int, n_latent: int, frames: int) -> None:
        super().__init__()
        widths = (bands + 2, 96, 96, 96)
        self.layers = nn.ModuleList(nn.Conv1d(a, b, 5, stride=2, padding=2) for a, b in pairwise(widths))
        self.last = nn.Linear(widths[-1] * -(-frames // 8), 2 * n_latent)

    def forward(self, heard: Tensor) -> tuple[Tensor, Tensor]:
        for layer in self.layers:
            heard = functional.elu(layer(heard))
        mean, spread = self.last(heard.flatten(1)).chunk(2, dim=1)
        return mean, spread.clamp(-8, 4)


class Ear(nn.Module):
    """Compute magnitudes of the transform at one resolution, and their logarithm in mel bands."""

    hann: Tensor
    mel: Tensor

    def __init__(self, window: int, bands: int, rate: int) -> None:
        super().__init__()
        self.window = window
        self.register_buffer("hann", torch.hann_window(window))
        place = (
            convert_to_mel(np.linspace(0, rate / 2, window // 2 + 1)) / convert_to_mel(np.array(rate / 2)) * (bands + 1)
        )
        weights = np.maximum(0.0, 1 - np.abs(place[None] - np.arange(1, bands + 1)[:, None]))
        weights /= np.maximum(weights.sum(1, keepdims=True), 1e-9)
        self.register_buffer("mel", torch.as_tensor(weights, dtype=torch.float32))

    def forward(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        found = torch.stft(waves, self.window, self.window // 4, window=self.hann, return_complex=True)
        power = found.real.square() + found.imag.square()
        scale = self.hann.square().sum()  # white noise of variance 1 has power 1
        level = (self.mel @ power / scale).add(QUIET**2).log() / 2
        return level, (power / scale).add(1e-10).sqrt()


def find_pitch(waves: NDArray[np.float32], about: DecoderDescription) -> tuple[Tensor, Tensor]:
    """Find pitch [Hz] and voicing (0 or 1) in every frame `(n, frames)`, by normalized autocorrelation.

    The pitch of unvoiced frames is interpolated linearly between their voiced neighbors.
    """
    frames, size = about.n_samples // about.hop + 1, 2 * about.window
    lags = np.arange(int(about.rate / HIGHEST_PITCH), int(about.rate / LOWEST_PITCH) + 1)
    overlap = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(size), 2 * size)) ** 2)[lags]
    overlap /= np.sum(np.hanning(size) ** 2)
    pitch = np.full((len(waves), frames), 150.0, np.float32)
    voiced = np.zeros((len(waves), frames), np.float32)
    for row, wave in enumerate(waves):
        padded = np.pad(wave.astype(np.float64), (size // 2, size))
        cut = np.lib.stride_tricks.sliding_window_view(padded, size)[:: about.hop][:frames] * np.hanning(size)
        cut = cut - cut.mean(1, keepdims=True)
        lagged = np.fft.irfft(np.abs(np.fft.rfft(cut, 2 * size)) ** 2)
        energy = lagged[:, 0]
        peaks = lagged[:, lags] / np.maximum(energy, 1e-9)[:, None] / overlap
        best = peaks.max(1)
        # the shortest lag that is nearly as good as the best, because multiples of a period are nearly as good too
        top = (
            (peaks[:, 1:-1] >= peaks[:, :-2])
            & (peaks[:, 1:-1] >= peaks[:, 2:])
            & (peaks[:, 1:-1] > 0.85 * best[:, None])
        )
        found = about.rate / lags[top.argmax(1) + 1]
        spoken = (best > 0.6) & (energy > 1e-2 * energy.max()) & top.any(1)
        if spoken.any():
            where = np.flatnonzero(spoken)
            pitch[row] = np.interp(np.arange(frames), where, _smooth_by_median(found[where]))
            voiced[row] = spoken
    return torch.from_numpy(pitch), torch.from_numpy(voiced)


def _smooth_by_median(values: NDArray[np.float64], size: int = 5) -> NDArray[np.float64]:
    padded = np.pad(values, size // 2, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, size), axis=1)


class Autoencoder:
    """Combine encoder, decoder and the losses between input and output."""

    def __init__(self, about: DecoderDescription, settings: Settings) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.about = settings, about
        self.decoder = SpeechDecoder(about)
        with torch.no_grad():
            self.decoder.last.bias.fill_(-2.0)  # type: ignore[union-attr]  # it begins soft
        self.ears = [Ear(window, bands, about.rate) for window, bands in RESOLUTIONS]
        self.front = Ear(about.window, about.bands, about.rate)
        self.encoder = Encoder(about.bands, about.n_latent, about.n_samples // (about.window // 4) + 1)
        self.parameters = [*self.encoder.parameters(), *self.decoder.parameters()]

    def build_input(self, waves: Tensor, pitch: Tensor, voiced: Tensor) -> Tensor:
        """Build the input of the encoder."""
        level, _ = self.front(waves)
        tone = (pitch / LOWEST_PITCH).log2() / 3 - 0.5
        extra = functional.interpolate(torch.stack([tone, voiced], 1), size=level.shape[-1])
        return torch.cat([level / 3 + 1, extra], 1)

    def compute_losses(
        self, waves: Tensor, pitch: Tensor, voiced: Tensor, rng: torch.Generator | None
    ) -> dict[str, Tensor]:
        """Compute every part of the loss; without `rng` the latent is its mean."""
        mean, spread = self.encoder(self.build_input(waves, pitch, voiced))
        latent = mean
        if rng is not None:
            latent = mean + (spread / 2).exp() * torch.randn(mean.shape, generator=rng)
        voice, noise, tone = self.decoder.frames_of(latent)
        with torch.no_grad():  # use the sound's own pulses, since otherwise no harmonic could be compared
            pulses = self.decoder._transform(generate_pulses(self.decoder.stretched(pitch), self.about.rate))
        made = self.decoder.sound(pulses, voice, noise)[:, 0]
        level, magnitude = torch.zeros(()), torch.zeros(())
        for ear in self.ears:
            (level_in, fine_in), (level_out, fine_out) = ear(waves), ear(made)
            level = level + (level_in - level_out).abs().mean() / len(self.ears)
            magnitude = magnitude + (fine_in - fine_out).abs().mean() / fine_in.mean() / len(self.ears)
        octaves = ((tone / pitch).log2().abs() * voiced).sum() / voiced.sum().clamp_min(1)
        divergence = (mean.square() + spread.exp() - 1 - spread).sum(1).mean() / 2
        return {"level": level, "magnitude": magnitude, "pitch": octaves, "divergence": divergence}

    def sum_losses(self, parts: dict[str, Tensor]) -> Tensor:
        """Sum the parts of the loss with their weights."""
        s = self.settings
        return (
            parts["level"]
            + s.magnitude * parts["magnitude"]
            + s.pitch * parts["pitch"]
            + s.divergence * parts["divergence"]
        )


def iterate_rows(n: int, settings: Settings) -> Iterator[NDArray[np.intp]]:
    """Yield the rows of every step's batch; each epoch has a new order."""
    rng, done = np.random.default_rng(settings.seed), 0
    while done < settings.steps:
        order = rng.permutation(n)
        for at in range(0, n - settings.batch_size + 1, settings.batch_size):
            if done < settings.steps:
                yield order[at : at + settings.batch_size]
            done += 1


def train(sounds: Sounds, held_out: Sounds, settings: Settings) -> SpeechDecoder:
    """Train on `sounds`; the loss on the `held_out` voices becomes part of the description."""
    about = DecoderDescription(rate=sounds.rate, n_samples=sounds.n_samples)
    both = Autoencoder(about, settings)
    waves = torch.from_numpy(sounds.waveforms[:, 0])
    pitch, voiced = find_pitch(sounds.waveforms[:, 0], about)
    optimizer = torch.optim.Adam(both.parameters, lr=settings.learning_rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps + 1, pct_start=0.05
    )
    rng = torch.Generator().manual_seed(settings.seed)
    with progress("training the decoder", settings.steps, every=30) as bar:
        for rows in iterate_rows(len(sounds), settings):
            parts = both.compute_losses(waves[rows], pitch[rows], voiced[rows], rng)
            loss = both.sum_losses(parts)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(both.parameters, 5.0)
            optimizer.step()
            schedule.step()
            bar.advance(note=", ".join(f"{name} {float(v.detach()):.3f}" for name, v in parts.items()))
    with torch.no_grad():
        tested = held_out.waveforms[:, 0]
        parts = both.compute_losses(torch.from_numpy(tested), *find_pitch(tested, about), None)
    history = {
        **vars(settings),
        "n_training": len(sounds),
        "n_held_out": len(held_out),
        "held_out": {name: round(float(v), 4) for name, v in parts.items()},
        "torch": torch.__version__,
    }
    decoder = copy.deepcopy(both.decoder)
    decoder.about = replace(about, training=history)
    return decoder.eval()


def main() -> None:
    """Train on the training part of a corpus of spoken words, and write the decoder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    settings = Settings(steps=arguments.steps, seed=arguments.seed)
    training = load_sounds(arguments.corpus, part="training")
    testing = load_sounds(arguments.corpus, part="testing")
    save_decoder(train(training, testing, settings), arguments.out)


if __name__ == "__main__":
    main()
