"""Describe a waveform as a page draws it: its envelope and its spectrogram."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainmap.viz.features.sounds import compute_log_spectrogram, find_envelope

BINS = 800
"""Points of a curve on the page; longer ones are drawn as the lowest and highest value of each point."""
_BANDS = 96


def describe_envelope(wave: NDArray[np.floating[Any]], rate: int) -> dict[str, Any]:
    """Describe a waveform `(n_samples,)` by its length [s], peak, and lowest and highest value of each point."""
    low, high = find_envelope(wave, BINS)
    return {
        "seconds": wave.size / rate,
        "rate": rate,
        "low": low.astype(np.float32),
        "high": high.astype(np.float32),
        "peak": float(np.abs(wave).max()),
    }


def describe_wave(wave: NDArray[np.floating[Any]], rate: int) -> dict[str, Any]:
    """Describe a waveform `(n_samples,)` by its envelope and its spectrogram on a logarithmic axis of frequency."""
    picture, hertz = compute_log_spectrogram(wave, rate=rate, bands=_BANDS)
    return {
        **describe_envelope(wave, rate),
        "picture": shade(picture),
        "hertz": hertz,
        "what": "loudness, from 50 dB below the loudest point up to it",
    }


def shade(picture: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Scale a picture to 0 (its lowest percent) to 255 (its largest value)."""
    least, most = float(np.nanquantile(picture, 0.01)), float(np.nanmax(picture))
    scaled = np.clip((picture - least) / max(most - least, 1e-12), 0, 1) * 255
    return np.asarray(scaled.round(), dtype=np.uint8)
