"""Train a decoder that activation maximization uses as its generative prior: a variational autoencoder of sounds.

The encoder receives a log-mel spectrogram and the pitch; the decoder is
`brainmap.features.maximization.decoder.SpeechDecoder`. The loss compares log-mel spectrograms and fine magnitudes at
three resolutions and the pitch of voiced frames, and adds the divergence of the latent from the standard normal. Only
the decoder is kept. The same seed gives the same weights on one machine.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from brainmap.checks import check_enough, check_ranges
from brainmap.errors import InputError
from brainmap.features.maximization.decoder import (
    HIGHEST_PITCH,
    LOWEST_PITCH,
    DecoderDescription,
    SpeechDecoder,
    convert_to_mel,
    generate_pulses,
    save_decoder,
)
from brainmap.features.sounds.files import Sounds, load_sounds, read_lists
from brainmap.progress import progress
from brainmap.record import atomic, content_key

RESOLUTIONS = ((256, 24), (512, 40), (1024, 64))  # window [samples at 16 kHz], mel bands
_SAVED_EVERY = 100  # steps
QUIET = 1e-3  # amplitude added before the logarithm


@dataclass(frozen=True, kw_only=True)
class DecoderTraining:
    """Describe how a decoder is trained.

    Attributes
    ----------
    steps, batch_size : int
    learning_rate : float
        Highest learning rate of a one-cycle schedule.
    divergence : float
        Weight of the divergence from the standard normal, for each dimension of the latent.
    pitch, magnitude : float
        Weights of the error of the pitch [octaves] and of the fine magnitudes.
    seed : int
    """

    steps: int = 3000
    batch_size: int = 16
    learning_rate: float = 2e-3
    divergence: float = 0.004
    pitch: float = 1.0
    magnitude: float = 0.5
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

    def __init__(self, about: DecoderDescription, settings: DecoderTraining) -> None:
        self.settings, self.about = settings, about
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.decoder = SpeechDecoder(about)
            self.encoder = Encoder(about.bands, about.n_latent, about.n_samples // (about.window // 4) + 1)
        with torch.no_grad():
            self.decoder.last.bias.fill_(-2.0)  # type: ignore[union-attr]  # it begins soft
        finer = about.window / 512  # windows of the resolutions are those at 16 kHz
        self.ears = [Ear(round(window * finer), bands, about.rate) for window, bands in RESOLUTIONS]
        self.front = Ear(about.window, about.bands, about.rate)
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


def iterate_rows(n: int, settings: DecoderTraining) -> Iterator[NDArray[np.intp]]:
    """Yield the rows of every step's batch; each epoch has a new order."""
    rng, done = np.random.default_rng(settings.seed), 0
    while done < settings.steps:
        order = rng.permutation(n)
        for at in range(0, n - settings.batch_size + 1, settings.batch_size):
            if done < settings.steps:
                yield order[at : at + settings.batch_size]
            done += 1


def split_sounds(source: str | Path, *, rate: int, seconds: float, seed: int = 0) -> tuple[Sounds, Sounds]:
    """Split a folder or table of sounds into those for training and those that are held out.

    The lists of a data set decide (`testing_list.txt`, as in Speech Commands); without them every tenth sound is held
    out at random.

    Raises
    ------
    InputError
        Fewer than 20 sounds.
    """
    folder = Path(source)
    if folder.is_dir() and read_lists(folder):
        parts = [load_sounds(folder, rate=rate, seconds=seconds, part=part) for part in ("training", "testing")]
        return parts[0], parts[1]
    every = load_sounds(source, rate=rate, seconds=seconds)
    check_enough(len(every), 20, "decoder", "sounds to train on", "; give more sounds")
    order = np.random.default_rng(seed).permutation(len(every))
    held = np.sort(order[: len(every) // 10])
    return every.take(np.setdiff1d(order, held)), every.take(held)


def describe_decoder(rate: int, n_samples: int) -> DecoderDescription:
    """Describe a decoder of sounds of a rate and a length; its windows last 32 ms, its frames 10 ms.

    Raises
    ------
    InputError
        A rate below 8 kHz or above 48 kHz, or less than a tenth of a second.
    """
    check_ranges(
        "decoder",
        ("a rate from 8,000 to 48,000 Hz", rate, 8_000 <= rate <= 48_000),
        ("sounds of 0.1 s or more", f"{n_samples} samples", n_samples >= rate / 10),
    )
    window = 2 ** round(np.log2(0.032 * rate))
    return DecoderDescription(rate=rate, n_samples=n_samples, window=int(window), hop=round(0.01 * rate))


def train_decoder(
    sounds: Sounds,
    held_out: Sounds,
    out: str | Path,
    *,
    settings: DecoderTraining | None = None,
    note: str = "",
    overwrite: bool = False,
) -> SpeechDecoder:
    """Train a decoder on sounds, and write it; the same call continues a training that was stopped.

    The same seed gives the same weights on one machine, whether or not the training was stopped.

    Parameters
    ----------
    sounds : Sounds
        Waveforms of one rate and length; their conditions are the words that the decoder can say.
    held_out : Sounds
        Others, on which the loss is measured at the end.
    out : path
        A .safetensors file, with a description of what the decoder was trained on.
    settings : DecoderTraining, optional
    note : str
        Words about the sounds that stand in the file: their origin and licence.
    overwrite : bool

    Returns
    -------
    SpeechDecoder
        In eval mode.

    Raises
    ------
    InputError
        The file exists; sounds of two rates or lengths; fewer sounds than a batch; a stopped training with other
        settings or sounds.
    """
    settings, out = settings or DecoderTraining(), Path(out)
    if out.exists() and not overwrite:
        raise InputError(f"decoder: {out} exists; say overwrite (--overwrite), or name another file")
    if (sounds.rate, sounds.n_samples) != (held_out.rate, held_out.n_samples):
        raise InputError("decoder: expected sounds of one rate and length, got two; load both alike")
    check_enough(len(sounds), settings.batch_size, "decoder", "sounds, a batch", "; give more sounds")
    about = describe_decoder(sounds.rate, sounds.n_samples)
    key = content_key(asdict(settings), sounds.digest, asdict(about), torch.__version__)
    run = _Run(Autoencoder(about, settings), settings, out.with_suffix(".resume.pt"), key)
    run.train(sounds)
    both = run.both
    with torch.no_grad():
        tested = held_out.waveforms[:, 0]
        parts = both.compute_losses(torch.from_numpy(tested), *find_pitch(tested, about), None)
    decoder = copy.deepcopy(both.decoder)
    history = {
        **asdict(settings),
        "words": sorted(set(sounds.conditions)),
        "note": note,
        "sounds": sounds.digest,
        "n_training": len(sounds),
        "n_held_out": len(held_out),
        "held_out": {name: round(float(v), 4) for name, v in parts.items()},
        "torch": torch.__version__,
    }
    decoder.about = replace(about, training=history)
    save_decoder(decoder, out)
    run.state_path.unlink(missing_ok=True)
    return decoder.eval()


class _Run:
    """Run one training, whose state is saved every hundred steps, so that an interruption costs little."""

    def __init__(self, both: Autoencoder, settings: DecoderTraining, state_path: Path, key: str) -> None:
        self.both, self.settings, self.state_path, self.key = both, settings, state_path, key
        self.optimizer = torch.optim.Adam(both.parameters, lr=settings.learning_rate, betas=(0.9, 0.98))
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, settings.learning_rate, total_steps=settings.steps + 1, pct_start=0.05
        )
        self.rng, self.step = torch.Generator().manual_seed(settings.seed), 0

    def train(self, sounds: Sounds) -> None:
        """Train from the state that was saved on, or from the beginning."""
        self._load()
        waves = torch.from_numpy(sounds.waveforms[:, 0])
        pitch, voiced = find_pitch(sounds.waveforms[:, 0], self.both.about)
        with progress("training the decoder", self.settings.steps, every=30) as bar:
            bar.advance(self.step)
            for step, rows in enumerate(iterate_rows(len(sounds), self.settings)):
                if step < self.step:
                    continue
                parts = self.both.compute_losses(waves[rows], pitch[rows], voiced[rows], self.rng)
                self.optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(self.both.sum_losses(parts))
                torch.nn.utils.clip_grad_norm_(self.both.parameters, 5.0)
                self.optimizer.step()
                self.schedule.step()
                self.step = step + 1
                if not self.step % _SAVED_EVERY:
                    self._save()
                bar.advance(note=", ".join(f"{name} {float(v.detach()):.3f}" for name, v in parts.items()))

    def _save(self) -> None:
        state = {
            "key": self.key,
            "step": self.step,
            "decoder": self.both.decoder.state_dict(),
            "encoder": self.both.encoder.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "rng": self.rng.get_state(),
        }
        with atomic(self.state_path) as beside:
            torch.save(state, beside)

    def _load(self) -> None:
        if not self.state_path.exists():
            return
        try:
            state = torch.load(self.state_path, weights_only=True)
            key = state["key"]
        except Exception as error:
            raise InputError(
                f"decoder: {self.state_path} cannot be read ({type(error).__name__}); remove it to begin anew"
            ) from None
        if key != self.key:
            raise InputError(
                f"decoder: {self.state_path} belongs to a training with other settings or sounds; remove it to begin "
                "anew"
            )
        self.both.decoder.load_state_dict(state["decoder"])
        self.both.encoder.load_state_dict(state["encoder"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.rng.set_state(state["rng"])
        self.step = int(state["step"])
