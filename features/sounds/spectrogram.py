"""Compute spectrograms for 2-D networks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from brainmap.errors import InputError

RATE = 16_000
MELS = 64
HOP = 125  # samples between the frames of a spectrogram

_FLOOR = 1e-6  # power; 16-bit audio is silent below it


def log_mel(
    waveforms: NDArray[np.floating],
    *,
    rate: int = RATE,
    n_mels: int = MELS,
    hop: int = HOP,
    window: int = 512,
) -> NDArray[np.float32]:
    """Compute log-mel spectrograms, as `build_network("base-2d")` takes them.

    Parameters
    ----------
    waveforms : ndarray (n, 1, n_samples)
    rate : int [Hz]
    n_mels : int
        Number of bands, evenly spaced in mel from 0 to half the rate; the lowest comes first.
    hop, window : int [samples]
        Step between frames, and the length of a Hann window; frame i is centered at sample i * hop.

    Returns
    -------
    ndarray float32 (n, 1, n_mels, n_samples // hop)
        Natural logarithm of the power in each band.

    Raises
    ------
    InputError
        Another shape, or sounds shorter than a window.

    Examples
    --------
    >>> log_mel(np.zeros((2, 1, 16_000), np.float32)).shape
    (2, 1, 64, 128)
    """
    import librosa

    sounds = np.asarray(waveforms, dtype=np.float32)
    if sounds.ndim != 3 or sounds.shape[1] != 1 or sounds.shape[2] < window:
        raise InputError(f"log_mel: expected sounds (n, 1, n_samples) of {window} samples or more, got {sounds.shape}")
    spectra = librosa.stft(sounds, n_fft=window, hop_length=hop, center=True)[..., : sounds.shape[2] // hop]
    bands = librosa.filters.mel(sr=rate, n_fft=window, n_mels=n_mels)
    return np.asarray(np.log(bands @ np.square(np.abs(spectra)) + _FLOOR), dtype=np.float32)
