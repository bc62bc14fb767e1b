"""Define a generative prior for activation maximization, a decoder of speech, and choose among the priors.

Define a generative prior for activation maximization: a small decoder from a latent vector to a spoken sound. The
decoder is a source-filter model: the network gives the spectral envelopes of a voice and of a noise, and the pitch,
frame by frame; they filter pulses and noise. A pattern can contain only sounds that the decoder can produce.

Choose what holds maximizing patterns to sounds: nothing, the spectrum of the sounds, or a decoder of speech.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from brainmap.checks import check_choice, check_file
from brainmap.errors import InputError
from brainmap.features.maximization.settings import MaximizationSettings
from brainmap.record import atomic
from brainmap.types import PatternPrior, Preset

LOWEST_PITCH, HIGHEST_PITCH = 60.0, 420.0  # Hz
HIGHEST_HARMONIC = 7000.0  # Hz; at most half the rate
FLOOR = 1e-5  # lowest amplitude of an envelope


@dataclass(frozen=True, kw_only=True)
class DecoderDescription:
    """Describe how a decoder was built and trained; its file contains this description.

    Attributes
    ----------
    n_latent : int
        Dimensions of the latent vector, which is standard normal in training.
    rate, n_samples : int [Hz], int [samples]
    width : int
        Number of channels of its layers.
    bands : int
        Number of points of a spectral envelope, evenly spaced on the mel scale.
    window, hop : int [samples]
    training : dict
        Settings and performance of the training, as plain values.
    """

    n_latent: int = 64
    rate: int = 16_000
    n_samples: int = 16_000
    width: int = 96
    bands: int = 40
    window: int = 512
    hop: int = 160
    training: dict[str, object] | None = None


class SpeechDecoder(nn.Module):
    """Decode latent vectors `(n, n_latent)` to sounds `(n, 1, n_samples)`.

    Parameters
    ----------
    about : DecoderDescription, optional

    Notes
    -----
    The phase of the pulses follows the pitch but passes no gradient to it, because over thousands of samples that
    gradient is chaotic. The noise is always the same, so that a latent vector determines one sound.

    References
    ----------
    Engel et al. (2020), arXiv:2001.04643; Kingma and Welling (2014), arXiv:1312.6114

    Examples
    --------
    >>> decoder = SpeechDecoder(DecoderDescription(n_samples=3200))
    >>> decoder(torch.zeros(2, 64)).shape
    torch.Size([2, 1, 3200])
    """

    spread: Tensor
    hiss: Tensor
    hann: Tensor

    def __init__(self, about: DecoderDescription | None = None) -> None:
        super().__init__()
        self.about = about = about or DecoderDescription()
        width, self.frames = about.width, about.n_samples // about.hop + 1
        self.latent_shape = (about.n_latent,)
        self.start = -(-self.frames // 4)
        self.first = nn.Linear(about.n_latent, width * self.start)
        self.layers = nn.ModuleList(nn.Conv1d(width, width, 5, padding=2) for _ in range(3))
        self.last = nn.Conv1d(width, 2 * about.bands + 1, 5, padding=2)
        self.register_buffer("hann", torch.hann_window(about.window), persistent=False)
        self.register_buffer("spread", _compute_band_weights(about), persistent=False)
        noise = np.random.default_rng(0).standard_normal(about.n_samples, dtype=np.float32)
        self.register_buffer("hiss", self._transform(torch.from_numpy(noise)[None]), persistent=False)

    def forward(self, latent: Tensor) -> Tensor:
        """Decode latent vectors `(n, n_latent)` to sounds `(n, 1, n_samples)`."""
        voice, noise, pitch = self.frames_of(latent)
        with torch.no_grad():
            pulses = self._transform(generate_pulses(self.stretched(pitch), self.about.rate))
        return self.sound(pulses, voice, noise)

    def frames_of(self, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the envelopes `(n, bins, frames)` of voice and noise, and the pitch `(n, frames)` [Hz]."""
        hidden = functional.elu(self.first(latent).unflatten(1, (self.about.width, self.start)))
        for i, layer in enumerate(self.layers):
            if i:
                hidden = functional.interpolate(hidden, scale_factor=2, mode="linear")
            hidden = functional.elu(layer(hidden))
        out = self.last(hidden)[..., : self.frames]
        voice, noise, tone = out.split([self.about.bands, self.about.bands, 1], dim=1)
        pitch = LOWEST_PITCH * (HIGHEST_PITCH / LOWEST_PITCH) ** tone[:, 0].sigmoid()
        return self._compute_amplitude(voice), self._compute_amplitude(noise), pitch

    def sound(self, pulses: Tensor, voice: Tensor, noise: Tensor) -> Tensor:
        """Filter the spectrogram of the pulses and the noise by their envelopes, `(n, 1, n_samples)`."""
        spectrogram = pulses * voice + self.hiss * noise
        wave = torch.istft(
            spectrogram, self.about.window, self.about.hop, window=self.hann, length=self.about.n_samples
        )
        return wave[:, None]

    def stretched(self, frames: Tensor) -> Tensor:
        """Interpolate values per frame `(n, frames)` to values per sample `(n, n_samples)`."""
        length = (frames.shape[-1] - 1) * self.about.hop + 1
        samples = functional.interpolate(frames[:, None], size=length, mode="linear", align_corners=True)[:, 0]
        return functional.pad(samples, (0, max(0, self.about.n_samples - length)), mode="replicate")[
            :, : self.about.n_samples
        ]

    def _transform(self, waves: Tensor) -> Tensor:
        return torch.stft(waves, self.about.window, self.about.hop, window=self.hann, return_complex=True)

    def _compute_amplitude(self, bands: Tensor) -> Tensor:
        return FLOOR + 2 * (self.spread @ bands).sigmoid() ** math.log(10)


def generate_pulses(pitch: Tensor, rate: float) -> Tensor:
    """Generate a band-limited pulse per period, with a spectrum as high as that of white noise of variance 1.

    Parameters
    ----------
    pitch : Tensor (n, t) [Hz]
    rate : float [Hz]

    Returns
    -------
    Tensor (n, t)
        Sum of all harmonics up to 7 kHz and below half the rate.

    Examples
    --------
    >>> pulses = generate_pulses(torch.full((1, 1600), 100.0), 16_000)
    >>> spectrum = torch.fft.rfft(pulses).abs()[0]  # bins of 10 Hz
    >>> bool(spectrum[10::10][:69].min() > 100 * spectrum[5::10].max())
    True
    """
    highest = min(HIGHEST_HARMONIC, 0.45 * rate)
    harmonics = (highest / pitch).floor()
    # the phase of a late sample is thousands of radians, for which float32 is not precise enough
    phase = torch.remainder(pitch.double().cumsum(1) / rate + 0.5, 1.0).sub(0.5).mul(2 * math.pi).to(pitch.dtype)
    half = (phase / 2).sin()
    near = half.abs() < 1e-4
    kernel = ((harmonics + 0.5) * phase).sin() / torch.where(near, torch.ones_like(half), half)
    total = torch.where(near, 2 * harmonics + 1, kernel) / 2 - 0.5
    return total * (4 * pitch / rate).sqrt()


def _compute_band_weights(about: DecoderDescription) -> Tensor:
    """Compute the weights (bins, bands) of the linear interpolation from bands of an envelope to bins."""
    hertz = np.linspace(0, about.rate / 2, about.window // 2 + 1)
    place = convert_to_mel(hertz) / convert_to_mel(np.array(about.rate / 2)) * (about.bands - 1)
    weights = np.maximum(0.0, 1 - np.abs(place[:, None] - np.arange(about.bands)))
    return torch.as_tensor(weights, dtype=torch.float32)


def convert_to_mel(hertz: np.ndarray) -> np.ndarray:
    """Convert frequencies [Hz] to the mel scale."""
    return 2595 * np.log10(1 + hertz / 700)


def save_decoder(decoder: SpeechDecoder, path: str | Path) -> Path:
    """Write a decoder and its description as one safetensors file, with weights in float16."""
    path = Path(path)
    weights = {name: value.detach().cpu().half().contiguous() for name, value in decoder.state_dict().items()}
    metadata = {"brainmap-decoder": json.dumps(asdict(decoder.about), sort_keys=True)}
    with atomic(path) as beside:
        beside.write_bytes(safetensors.torch.save(weights, metadata=metadata))
    return path


def list_decoder_words(decoder: SpeechDecoder) -> frozenset[str]:
    """List the words that a decoder was trained to say; those of the included words where its file does not tell.

    Examples
    --------
    >>> "zero" in list_decoder_words(load_decoder())
    True
    """
    said = (decoder.about.training or {}).get("words")
    if isinstance(said, list | tuple):
        return frozenset(str(word).lower() for word in said)
    from brainmap.data import folder
    from brainmap.tables import read_table

    return frozenset(str(word).lower() for word in read_table(folder() / "words" / "stimuli.tsv", "words")["condition"])


def load_decoder(path: str | Path | None = None) -> SpeechDecoder:
    """Load a decoder in eval mode; by default the one included in brainmap, trained on its spoken words.

    Parameters
    ----------
    path : path, optional
        A file of `train_decoder`.

    Returns
    -------
    SpeechDecoder

    Raises
    ------
    InputError
        The file does not exist, or holds no decoder.

    Examples
    --------
    >>> load_decoder().latent_shape
    (64,)
    """
    if path is None:
        from brainmap.data import folder

        path = folder() / "networks" / "decoder.safetensors"
    path = check_file(path, "decoder")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("brainmap-decoder")
        if text is None:
            raise InputError(
                f"decoder: {path} is no decoder of brainmap; give a torch module that takes latents and gives sounds"
            )
        decoder = SpeechDecoder(DecoderDescription(**json.loads(text)))
        weights = {name: value.float() for name, value in safetensors.torch.load_file(path).items()}
        decoder.load_state_dict(weights)
    except (safetensors.SafetensorError, OSError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        said = str(error).strip().splitlines()[0]
        raise InputError(f"decoder: {path} cannot be read ({said}); copy it again") from None
    return decoder.eval()


RECIPES: dict[PatternPrior, Preset] = {"audio": "audio", "decoder": "generative", "none": "source"}
_SPEECH = 0.5  # share of the classes that a decoder must be able to say


@dataclass(frozen=True, kw_only=True)
class ChosenPrior:
    """Hold a prior of maximizing patterns, and its decoder where it has one."""

    prior: PatternPrior
    decoder: nn.Module | None = None

    def settings(self, **changes: Any) -> MaximizationSettings:
        """Return the recipe that goes with the prior, with changes."""
        return MaximizationSettings.of(RECIPES[self.prior], **changes)


AUDIO = ChosenPrior(prior="audio")


def choose_priors(
    prior: PatternPrior | None,
    *,
    decoder: str | Path | None = None,
    class_names: Sequence[str] = (),
    rate: int,
    n_samples: int,
    on_waveforms: bool = True,
) -> tuple[ChosenPrior, ...]:
    """Choose the priors of class patterns: one that is asked for, or the one that suits the network.

    A network that knows mainly words that the included decoder can say, at its rate and length, gets patterns by the
    decoder, and beside them patterns without it; every other network gets the audio prior alone.

    Parameters
    ----------
    prior : {"audio", "decoder", "none"}, optional
        "audio" is noise with the spectrum of the sounds, whose envelopes are optimized (`NoiseVocoder`), "none" the
        source study's recipe of plain samples.
    decoder : path, optional
        A file of a decoder in place of the included one; "words" is the included one. It asks for the prior "decoder".
    class_names : sequence of str
    rate, n_samples : int [Hz], int [samples]
        Input of the network.
    on_waveforms : bool
        Whether the network takes waveforms.

    Returns
    -------
    tuple of ChosenPrior
        The first is the main one.

    Raises
    ------
    InputError
        A decoder with another prior, or one whose sounds the network does not take.

    Examples
    --------
    >>> [one.prior for one in choose_priors(None, class_names=["zero", "six"], rate=16_000, n_samples=16_000)]
    ['decoder', 'audio']
    >>> [one.prior for one in choose_priors(None, class_names=["rain", "wind"], rate=16_000, n_samples=16_000)]
    ['audio']
    """
    if prior is not None:
        check_choice(prior, get_args(PatternPrior), "prior")
    if decoder is not None and prior not in (None, "decoder"):
        raise InputError(f"prior: {prior!r} takes no decoder; leave the decoder out, or say prior = 'decoder'")
    if prior is None and decoder is None:
        included = load_decoder() if on_waveforms and class_names else None
        if included is None or not _fits(included, class_names, rate, n_samples):
            return (AUDIO,)
        return ChosenPrior(prior="decoder", decoder=included), AUDIO
    if prior in ("audio", "none"):
        return (ChosenPrior(prior=prior),)
    found = load_decoder(None if decoder in (None, "words") else decoder)
    if not on_waveforms:
        raise InputError("prior: expected a network on waveforms for a decoder, got one on spectrograms; take 'audio'")
    if (found.about.rate, found.about.n_samples) != (rate, n_samples):
        raise InputError(
            f"decoder: gives {found.about.n_samples} samples at {found.about.rate} Hz, shape (1, "
            f"{found.about.n_samples}); the network takes {n_samples} at {rate} Hz, shape (1, {n_samples}); give a "
            "decoder of that rate and length, or prior = 'audio'"
        )
    return (ChosenPrior(prior="decoder", decoder=found),)


def _fits(decoder: SpeechDecoder, class_names: Sequence[str], rate: int, n_samples: int) -> bool:
    words = list_decoder_words(decoder)
    known = sum(str(name).lower() in words for name in class_names)
    same = (decoder.about.rate, decoder.about.n_samples) == (rate, n_samples)
    return same and known >= 2 and known >= _SPEECH * len(class_names)


def describe_priors(priors: Sequence[ChosenPrior]) -> str:
    """Say in a line which priors are taken, where there are several.

    Examples
    --------
    >>> describe_priors([ChosenPrior(prior="decoder"), ChosenPrior(prior="audio")])
    'patterns by the decoder prior, and beside them by the audio prior'
    """
    main, *others = [f"the {one.prior} prior" for one in priors]
    return f"patterns by {main}" + (f", and beside them by {', '.join(others)}" if others else "")
