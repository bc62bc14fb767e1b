"""Compute acoustic models as features, which serve as baselines for every claim about a network.

* `waveform-envelope`: Hilbert envelope of the sound at 200 Hz.
* `mel-spectrogram`: 64 mel bands in dB every 10 ms (librosa), at most 80 dB below the loudest of the sound.
* `mfcc`: 13 cepstral coefficients of this mel spectrogram (librosa).
* `cochleagram`: 30 half-cosine filters spaced evenly in ERB numbers, envelopes to the power 0.3 at 200 Hz
  (McDermott & Simoncelli 2011).
* `modulation`: spectrotemporal modulation, 2 to 64 Hz by 0 to 4 cycles an octave, upward and downward, averaged over
  time and frequency (Chi, Ru & Shamma 2005).

Where a sound is multiplied by g, the waveform envelope is multiplied by g, the cochleagram and modulation by g^0.3, and
the mel spectrogram rises by 20 log10(g) dB; of the MFCC only the first coefficient changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brainmap.checks import check_choice, check_each
from brainmap.errors import InputError
from brainmap.features.activations.extract import extract_activations
from brainmap.features.activations.stored import Activations
from brainmap.features.sounds import cochlea
from brainmap.features.sounds.batches import Sounds
from brainmap.features.sounds.inputs import resolve_rate
from brainmap.types import AcousticPooling

Waves = NDArray[np.float32]

NAME = "acoustics"
N_MELS, N_MFCC, RANGE_DB = 64, 13, 80.0
SHORTEST_S = 0.1
_VERSION = 1  # raised when the meaning of the numbers changes


def mel_spectrogram(waves: Waves, *, rate: int) -> Waves:
    """Compute 64 mel bands [dB] every 10 ms from windows of about 64 ms, `(n, 64, n_frames)`."""
    from librosa import power_to_db
    from librosa.feature import melspectrogram

    size = 2 ** round(np.log2(0.064 * rate))
    power = melspectrogram(y=waves, sr=rate, n_fft=size, hop_length=round(0.01 * rate), n_mels=N_MELS)
    return np.stack([power_to_db(one, top_db=RANGE_DB) for one in power]).astype(np.float32)


def mfcc(waves: Waves, *, rate: int) -> Waves:
    """Compute the first 13 cepstral coefficients of `mel_spectrogram`, `(n, 13, n_frames)`."""
    from librosa.feature import mfcc as cepstrum

    return np.asarray(cepstrum(S=mel_spectrogram(waves, rate=rate), n_mfcc=N_MFCC), dtype=np.float32)


def _flatten_modulation(waves: Waves, *, rate: int) -> Waves:
    return cochlea.compute_modulation_spectrum(waves, rate=rate).reshape(len(waves), -1)


MODELS: dict[str, Callable[..., Waves]] = {
    "waveform-envelope": cochlea.compute_waveform_envelope,
    "mel-spectrogram": mel_spectrogram,
    "mfcc": mfcc,
    "cochleagram": cochlea.compute_subband_envelopes,
    "modulation": _flatten_modulation,
}


class _Part(nn.Module):
    """Wrap one acoustic model as a module, so that it can stand as a layer."""

    def __init__(self, name: str, rate: int) -> None:
        super().__init__()
        self.name, self.rate = name, rate

    def extra_repr(self) -> str:
        return f"{self.name!r}, rate={self.rate}, version={_VERSION}"  # it enters the key of the stored features

    def forward(self, x: Tensor) -> Tensor:
        waves = np.ascontiguousarray(x[:, 0].detach().cpu().numpy(), dtype=np.float32)
        return torch.from_numpy(np.ascontiguousarray(MODELS[self.name](waves, rate=self.rate))).to(x.device)


class AcousticModels(nn.Module):
    """Combine acoustic models into one network of which they are the layers, for every function that takes a network.

    Parameters
    ----------
    models : "all" or sequence of str
        Keys of `MODELS`.
    rate : int [Hz]
        Sampling rate of the sounds.

    Raises
    ------
    InputError
        An unknown model, none, or one named twice; in `forward`, sounds that are no waveforms or shorter than 100 ms.

    Examples
    --------
    >>> net = AcousticModels(["waveform-envelope", "modulation"], rate=8000)
    >>> [tuple(part(torch.zeros(2, 1, 8000)).shape) for part in net.children()]
    [(2, 1, 200), (2, 72)]
    """

    def __init__(self, models: str | Sequence[str] = "all", *, rate: int) -> None:
        super().__init__()
        self.models = resolve_models(models)
        self.rate = int(rate)
        for name in self.models:
            self.add_module(name, _Part(name, self.rate))

    def forward(self, x: Tensor) -> Tensor:
        """Concatenate the flattened output of all models, `(n, n_units)`.

        Raises
        ------
        InputError
            These are no waveforms of one channel, or they are too short.
        """
        if x.ndim != 3 or x.shape[1] != 1:
            raise InputError(f"acoustics: expected waveforms (1, t), got sounds of shape {tuple(x.shape[1:])}")
        if x.shape[2] < SHORTEST_S * self.rate:
            raise InputError(
                f"acoustics: expected sounds of {SHORTEST_S * self.rate:g} samples or more, got {x.shape[2]}"
            )
        return torch.cat([part(x).flatten(1) for part in self.children()], dim=1)


def resolve_models(models: str | Sequence[str]) -> tuple[str, ...]:
    """Resolve "all", a name or a sequence of names to the names of acoustic models.

    Raises
    ------
    InputError
        An unknown one, none, or one named twice.
    """
    named = tuple(MODELS) if models == "all" else (models,) if isinstance(models, str) else tuple(models)
    check_each(named, tuple(MODELS), "acoustic model")
    if not named or len(set(named)) < len(named):
        raise InputError(f"acoustic models: expected one or more names, each once, got {list(named)}")
    return named


def acoustic_features(
    sounds: Sounds,
    *,
    models: str | Sequence[str] = "all",
    rate: int | None = None,
    pooling: AcousticPooling = "flatten",
    store: str | Path | None = None,
    batch_size: int = 16,
) -> Activations:
    """Compute acoustic models of sounds in the form of a network's activations.

    Parameters
    ----------
    sounds : Sounds, array or Tensor (n_items, 1, t)
    models : "all" or sequence of str
        Keys of `MODELS`; the docstring of the module describes them.
    rate : int, optional [Hz]
        Sampling rate; it must be given for an array, and `Sounds` carry theirs.
    pooling : {"flatten", "mean", "none"}
        "flatten" keeps time and makes a unit of each band and frame; "mean" averages over time; "none" keeps
        `(bands, frames)`. `modulation` has no time axis.
    store : path, optional
        A zarr folder, as in `extract_activations`.
    batch_size : int

    Returns
    -------
    Activations
        The layers are the models; the network is called "acoustics".

    Raises
    ------
    InputError
        An unknown model; no rate; the mean of a waveform envelope, a single number; sounds that are no waveforms.

    References
    ----------
    McDermott JH, Simoncelli EP (2011): doi:10.1016/j.neuron.2011.06.032; Chi T, Ru P, Shamma SA (2005):
    doi:10.1121/1.1945807

    Examples
    --------
    >>> found = acoustic_features(np.random.default_rng(0).standard_normal((3, 1, 8000)), models=["mfcc"], rate=8000)
    >>> found["mfcc"].shape
    (3, 1313)
    """
    names = resolve_models(models)
    check_choice(pooling, ("flatten", "mean", "none"), "pooling")
    rate = resolve_rate(sounds, rate, "acoustics")
    if pooling == "mean" and "waveform-envelope" in names:
        raise InputError(
            "acoustics: the mean of a waveform envelope is one number, of which no geometry can be made; "
            "leave the model out, or keep time with pooling='flatten'"
        )
    network = AcousticModels(names, rate=rate)
    return extract_activations(
        network, sounds, layers=list(names), pooling=pooling, store=store, batch_size=batch_size, network=NAME
    )
