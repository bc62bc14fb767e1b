"""Change who speaks: the length of the vocal tract, the pitch and the tempo of a word, each without the others.

A word that is played faster has higher formants, a higher pitch and a shorter duration all at once, as no two people
differ. Here the spectral envelope (smoothed in the cepstrum) moves along frequency while the harmonics stay, and pieces
of a waveform are joined where they are most similar (WSOLA), so that durations change while pitch and formants stay.

References
----------
Verhelst W, Roelands M (1993). An overlap-add technique based on waveform similarity (WSOLA) for high quality time-scale
modification of speech. ICASSP, doi:10.1109/ICASSP.1993.319366
Jaitly N, Hinton GE (2013). Vocal tract length perturbation (VTLP) improves speech recognition. ICML Workshop on Deep
Learning for Audio, Speech and Language.
"""

from __future__ import annotations

import numpy as np
import scipy
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

_FRAME, _HOP = 0.032, 0.008  # s, of the spectra whose envelope moves

_LIFTER = 0.002  # s: what varies faster along frequency than by 1 / 500 Hz is harmonics

_PIECE, _REACH = 0.030, 0.0065  # s, of the pieces that are joined; a period of 77 Hz is in reach on either side

_LARGEST = 6.0  # largest change of an envelope, in natural logarithms of amplitude (52 dB)


def play_faster(sound: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Resample a sound, so that pitch and formants rise by `factor` and its length falls by it."""
    if len(sound) < 3:
        return sound
    places = np.arange(0, len(sound) - 1, factor)
    return np.asarray(np.interp(places, np.arange(len(sound)), sound), dtype=np.float32)


def move_formants(sound: NDArray[np.float32], factor: float, *, rate: int) -> NDArray[np.float32]:
    """Multiply the frequencies of the formants by `factor`, as a vocal tract does that is `1 / factor` times as long.

    Parameters
    ----------
    sound : ndarray, shape (n_samples,)
    factor : float
    rate : int [Hz]

    Returns
    -------
    ndarray, shape (n_samples,)
        The sound; its pitch and its duration are as before.
    """
    hop = round(_HOP * rate)
    size = hop * round(_FRAME / _HOP)
    padded = np.concatenate([np.zeros(size, np.float32), sound, np.zeros(size + hop, np.float32)])
    window = np.sqrt(np.hanning(size + 1)[:-1]).astype(np.float32)
    frames = sliding_window_view(padded, size)[::hop] * window
    width = 2 * scipy.fft.next_fast_len(-(-size // 2), real=True)
    spectra = scipy.fft.rfft(frames, width, axis=1)
    levels = np.log(np.abs(spectra) + np.float32(1e-7))
    cepstra = scipy.fft.irfft(levels, axis=1)
    kept = round(_LIFTER * rate)
    cepstra[:, kept : cepstra.shape[1] - kept + 1] = 0
    envelopes = scipy.fft.rfft(cepstra, axis=1).real
    n_bins = envelopes.shape[1]
    places = np.minimum(np.arange(n_bins) / factor, n_bins - 1)
    below = np.minimum(places.astype(int), n_bins - 2)
    share = (places - below).astype(np.float32)
    moved = envelopes[:, below] * (1 - share) + envelopes[:, below + 1] * share
    spectra *= np.exp(np.clip(moved - envelopes, -_LARGEST, _LARGEST))
    heard = scipy.fft.irfft(spectra, width, axis=1)[:, :size].astype(np.float32) * window
    out = np.zeros(len(padded), np.float32)
    for k in range(size // hop):  # frames that do not overlap are added in one step
        part = heard[k :: size // hop]
        out[k * hop : k * hop + part.size] += part.reshape(-1)
    return out[size : size + len(sound)] * np.float32(2 * hop / size)


def change_tempo(sound: NDArray[np.float32], factors: NDArray[np.floating], *, rate: int) -> NDArray[np.float32]:
    """Change durations, and neither pitch nor formants.

    Parameters
    ----------
    sound : ndarray, shape (n_samples,)
    factors : ndarray, shape (n_places,)
        How many times as long the sound is at places evenly spaced along it; linear in between.
    rate : int [Hz]

    Returns
    -------
    ndarray, shape (n_samples_changed,)
        The sound, about mean(factors) times as long; as it is where it is shorter than two pieces of 30 ms.
    """
    hop = round(_PIECE * rate / 2)
    size, reach = 2 * hop, round(_REACH * rate)
    if len(sound) < 2 * size:
        return sound
    grid = np.arange(0, len(sound), hop)
    lengths = np.interp(grid / len(sound), np.linspace(0, 1, len(factors)), factors) * hop
    ends = np.concatenate([[0.0], np.cumsum(lengths)])
    n_pieces = max(2, round(ends[-1] / hop))
    wanted = np.interp(np.arange(n_pieces) * hop, ends, np.append(grid, grid[-1] + hop)).astype(int)
    ahead, behind = hop + reach, size + reach + hop
    padded = np.concatenate([np.zeros(ahead, np.float32), sound, np.zeros(behind, np.float32)])
    power = np.concatenate([[0.0], np.cumsum(padded.astype(np.float64) ** 2)])
    last = len(padded) - size - hop
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    out = np.zeros((n_pieces + 1) * hop, np.float32)
    at = reach  # where the piece is taken from, in `padded`; the first begins half a piece before the sound
    for k, place in enumerate(wanted):
        if k:
            low = min(place + ahead - hop - reach, last - 2 * reach)
            follows = padded[at + hop : at + size]  # what came after the piece before
            similar = np.correlate(padded[low : low + 2 * reach + hop], follows, "valid")
            energy = power[low + hop : low + hop + len(similar)] - power[low : low + len(similar)]
            at = low + int(np.argmax(similar / np.sqrt(energy + 1e-9)))
        out[k * hop : k * hop + size] += window * padded[at : at + size]
    return out[hop:]


def change_voice(
    sound: NDArray[np.float32],
    *,
    rate: int,
    formants: float = 1.0,
    pitch: float = 1.0,
    durations: NDArray[np.floating] | None = None,
) -> NDArray[np.float32]:
    """Let another voice say a word: formants, pitch and durations are multiplied, each without the others.

    Parameters
    ----------
    sound : ndarray, shape (n_samples,)
    rate : int [Hz]
    formants, pitch : float
        Factors of the frequencies of the formants and of the fundamental.
    durations : ndarray, shape (n_places,), optional
        Factors of the durations at places evenly spaced along the word; by default 1.

    Returns
    -------
    ndarray, shape (n_samples_changed,)
    """
    factors = np.ones(1) if durations is None else np.asarray(durations)
    higher = play_faster(sound, pitch)
    moved = move_formants(higher, formants / pitch, rate=rate)
    return change_tempo(moved, factors * pitch, rate=rate)
