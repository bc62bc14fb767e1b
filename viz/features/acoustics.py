"""Plot one sound through the acoustic models that serve as baselines."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.viz.features.sounds import read_waves
from brainmap.viz.style import INK, SOFT, add_headline, get_colormap, make_axes, with_style

SHORTEST_S = 0.5


def _draw_picture(
    axes: Axes,
    values: NDArray[Any],
    seconds: float,
    title: str,
    *,
    label: str,
    unit: str,
    quantity: str = "sound",
) -> None:
    """Draw values over time with the name of their rows and a color bar of their unit."""
    limit = float(np.abs(values).max())
    low, high = (-limit, limit) if quantity == "signed" else (None, None)
    image = axes.imshow(
        values,
        origin="lower",
        aspect="auto",
        cmap=get_colormap(quantity),
        interpolation="nearest",
        extent=(0, seconds, -0.5, len(values) - 0.5),
        vmin=low,
        vmax=high,
    )
    axes.set(title=title, ylabel=label)
    axes.figure.colorbar(image, ax=axes, label=unit, aspect=18)


def _add_ticks(axes: Axes, centers: NDArray[np.float64], hertz: tuple[int, ...]) -> None:
    at = [float(np.interp(h, centers, np.arange(len(centers)))) for h in hertz]
    axes.set_yticks(at, [f"{h / 1000:g}k" if h >= 1000 else str(h) for h in hertz])


def _draw_modulation(axes: Axes, found: NDArray[np.float32]) -> None:
    """Plot downward sweeps on the left and upward sweeps on the right."""
    from brainmap.features.sounds.cochlea import RATES, SCALES

    both = np.concatenate([found[0, ::-1], found[1]]).T
    image = axes.imshow(both, origin="lower", aspect="auto", cmap=get_colormap("sound"), vmin=0)
    rates = [f"{r:g}" for r in RATES]
    axes.set_xticks(range(len(both[0])), [*rates[::-1], *rates])
    axes.set_yticks(range(len(SCALES)), [f"{s:g}" for s in SCALES])
    axes.axvline(len(RATES) - 0.5, color="white", lw=2)
    axes.set(title="modulation", xlabel="falling  ←  rate [Hz]  →  rising", ylabel="scale [cycles/octave]")
    axes.figure.colorbar(image, ax=axes, label="RMS", aspect=18)


@with_style
def plot_acoustics(wave: Any, *, rate: int, title: str = "") -> Figure:
    """Plot a sound's waveform envelope, mel spectrogram, MFCCs, cochleagram and modulation spectrum.

    Parameters
    ----------
    wave : array (t,) or (1, 1, t)
        The waveform, at least half a second long.
    rate : int [Hz]
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If the input is not one waveform, or is too short.
    """
    from brainmap.features.activations import acoustics
    from brainmap.features.sounds import cochlea

    sound = read_waves(wave, "plot_acoustics")[:1]
    if sound.shape[1] < SHORTEST_S * rate:
        raise InputError(f"plot_acoustics: expected a sound of {SHORTEST_S:g} s or more, got {sound.shape[1]} samples")
    seconds = sound.shape[1] / rate
    figure, ((a, b, c), (d, e, f)) = make_axes((10, 5.2), 2, 3)
    t = np.arange(sound.shape[1]) / rate
    peak = float(np.abs(sound).max()) or 1.0
    a.plot(t, sound[0] / peak, color="#b9c6cd", lw=0.4)
    a.set(xlim=(0, seconds), ylim=(-1.05, 1.05), yticks=[-1, 0, 1], title="waveform", ylabel="amplitude / peak")
    envelope = cochlea.compute_waveform_envelope(sound, rate=rate)[0, 0] / peak
    b.fill_between(np.arange(len(envelope)) / cochlea.ENVELOPE_HZ, envelope, color=INK, lw=0)
    b.set(xlim=(0, seconds), ylim=(0, None), title="waveform-envelope", ylabel="amplitude / peak")
    mel = acoustics.mel_spectrogram(sound, rate=rate)[0]
    _draw_picture(c, mel, seconds, "mel-spectrogram", label="mel band", unit="level [dB]")
    cepstrum = acoustics.mfcc(sound, rate=rate)[0, 1:]
    cepstrum = cepstrum - cepstrum.mean(axis=1, keepdims=True)
    _draw_picture(
        d, cepstrum, seconds, "mfcc, less their mean", label="coefficient", unit="weight [dB]", quantity="signed"
    )
    d.set_yticks([0, 5, 11], ["1", "6", "12"])
    envelopes = cochlea.compute_subband_envelopes(sound, rate=rate)[0]
    _draw_picture(e, envelopes, seconds, "cochleagram", label="center [Hz]", unit="envelope$^{\\,0.3}$")
    _add_ticks(
        e, cochlea.compute_erb_centers(30, rate=rate), (100, 500, 2000) if rate < 12_000 else (100, 500, 2000, 6000)
    )
    _draw_modulation(f, cochlea.compute_modulation_spectrum(sound, rate=rate)[0])
    for axes in (a, b, c, d, e):
        axes.set_xlabel("time [s]", color=SOFT)
    return add_headline(figure, title)
