"""Make sounds out of log-mel spectrograms: the power between the bands is fitted, and phases are guessed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.features.sounds.inputs import InputAxes
from brainmap.features.sounds.spectrogram import compute_mel_filters, compute_power


def check_invertible(axes: InputAxes | None, shape: tuple[int, ...]) -> None:
    """Refuse inputs `(c, h, w)` of which no sound can be made.

    Raises
    ------
    InputError
        The input is no whole log-mel spectrogram.
    """
    kind = "an array" if axes is None else axes.front_end.kind
    if axes is None or axes.front_end.kind != "log-mel":
        raise InputError(f"save_wav: expected waveforms or log-mel spectrograms, got {kind}; leave WAV files out")
    bands = shape[-2] if axes.time_axis == -1 else shape[-1]
    if len(shape) == 3 and (shape[0] != 1 or bands != axes.front_end.mels):
        raise InputError(
            f"save_wav: expected {axes.front_end.mels} mel bands, got patterns of shape {shape}, a part of them; leave "
            "WAV files out, or take extent = 'full'"
        )


def invert_pictures(pictures: NDArray[np.floating], axes: InputAxes, *, iterations: int = 32) -> NDArray[np.float32]:
    """Compute waveforms `(n, 1, t)` out of log-mel spectrograms `(n, 1, h, w)`.

    The power of each frequency is the nonnegative least-squares solution for the bands; phases come from the fast
    Griffin-Lim algorithm, whose start is fixed. Sounds are scaled down where they exceed full scale.

    Parameters
    ----------
    pictures : ndarray (n, 1, h, w)
    axes : InputAxes
    iterations : int
        Of the Griffin-Lim algorithm.

    Raises
    ------
    InputError
        The pictures are no whole log-mel spectrograms.

    References
    ----------
    Perraudin N, Balazs P, Sondergaard PL (2013): doi:10.1109/WASPAA.2013.6701851
    """
    import librosa

    check_invertible(axes, pictures.shape[1:])
    taken, rate = axes.front_end, axes.rate
    size = taken.fft or taken.window(rate)
    filters = compute_mel_filters(rate=rate, n_mels=taken.mels, fft=size, fmin=taken.fmin, fmax=taken.fmax)
    waves = []
    for one in pictures:
        power = compute_power(axes.picture(one), taken.scaling)
        spectrum = librosa.util.nnls(filters, power.astype(np.float32))
        wave = librosa.griffinlim(
            np.sqrt(spectrum),
            n_iter=iterations,
            hop_length=taken.hop(rate),
            win_length=taken.window(rate),
            n_fft=size,
            random_state=0,
        )
        waves.append(wave / max(1.0, float(np.abs(wave).max())))
    return np.stack(waves)[:, None].astype(np.float32)
