"""Play sounds where they are read: a player for each sound, in notebooks, pages and the gallery."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from brainmap.errors import InputError
from brainmap.viz.features.sounds import get_unit_names, read_waves
from brainmap.viz.style import encode_data_uri

Array = NDArray[np.floating]


def encode_wav(wave: Array, rate: float, *, peak: float = 0.7) -> bytes:
    """Encode a waveform as a 16-bit mono WAV file, its peak scaled to `peak` of full scale; silence stays silence.

    Examples
    --------
    >>> encode_wav(np.zeros(4), 16_000)[:4]
    b'RIFF'
    """
    loud = float(np.abs(wave).max()) if wave.size else 0.0
    level = wave * (peak / loud) if loud > 0 else wave
    out = io.BytesIO()
    soundfile.write(out, (level * 32767).astype(np.int16), round(rate), format="WAV", subtype="PCM_16")
    return out.getvalue()


@dataclass(frozen=True, eq=False, kw_only=True)
class Players:
    """Hold sounds that show themselves as players, one a sound.

    Attributes
    ----------
    labels : tuple of str
    waves : ndarray (n_sounds, n_samples)
    rate : float [Hz]
    title : str
    """

    labels: tuple[str, ...]
    waves: Array = field(repr=False)
    rate: float
    title: str = ""

    def _repr_html_(self) -> str:
        cards = [self._draw_card(label, wave) for label, wave in zip(self.labels, self.waves, strict=True)]
        head = f"<p><strong>{html.escape(self.title)}</strong></p>" if self.title else ""
        return f'{head}<div style="display: flex; flex-wrap: wrap; gap: 12px">{"".join(cards)}</div>'

    def _draw_card(self, label: str, wave: Array) -> str:
        name = html.escape(label, quote=True)
        source = encode_data_uri(encode_wav(wave, self.rate), "audio/wav")
        return (
            f'<figure style="margin: 0"><figcaption>{name}</figcaption>'
            f'<audio controls preload="none" style="width: 220px" aria-label="{name}" src="{source}"></audio></figure>'
        )


def play_sounds(
    sounds: Any,
    *,
    rate: float | None = None,
    items: Sequence[int] | None = None,
    labels: Sequence[str] | None = None,
    title: str = "",
) -> Players:
    """Make a player for each sound, which notebooks and the gallery show.

    The peak of each sound is scaled to the same value, so that loudness tells nothing.

    Parameters
    ----------
    sounds : Sounds, Maximization, Metamers, or array (t,), (n, t) or (n, 1, t)
        Waveforms, or an object with `waveforms` or `patterns`.
    rate : float, optional [Hz]
        Samples per second of an array; objects carry their own.
    items : sequence of int, optional
        Positions of the sounds that are played; default: all.
    labels : sequence of str, optional
        A name for each sound that is played; default: the stimulus ids or units, or `sound 1`, `sound 2`, ...
    title : str

    Returns
    -------
    Players

    Raises
    ------
    InputError
        An array without a rate, patterns that are no waveforms, positions out of range, or another number of labels
        than of sounds.

    Examples
    --------
    >>> play_sounds(np.zeros((2, 1, 100)), rate=8000).labels
    ('sound 1', 'sound 2')
    """
    given = getattr(sounds, "patterns", getattr(sounds, "waveforms", sounds))
    rate = getattr(sounds, "rate", rate) if given is not sounds else rate
    if rate is None:
        raise InputError("play_sounds: expected a rate beside an array, got none; give rate= in Hz")
    waves = read_waves(given, "play_sounds")
    names = list(labels) if labels is not None else _name_sounds(sounds, len(waves))
    chosen = list(range(len(waves))) if items is None else [int(item) for item in items]
    wrong = [item for item in chosen if not 0 <= item < len(waves)]
    if wrong:
        raise InputError(f"play_sounds: expected items from 0 to {len(waves) - 1}, got {wrong[0]}")
    if labels is None:
        names = [names[item] for item in chosen]
    if len(names) != len(chosen):
        raise InputError(f"play_sounds: expected {len(chosen)} labels, one a sound, got {len(names)}")
    return Players(labels=tuple(map(str, names)), waves=waves[chosen], rate=float(rate), title=title)


def _name_sounds(sounds: Any, n: int) -> list[str]:
    """Name sounds by their items or units; sounds of an array are counted."""
    if hasattr(sounds, "units"):
        return list(getattr(sounds, "labels", None) or get_unit_names(sounds))
    items = getattr(sounds, "items", None)
    if items is not None and not callable(items) and len(items) == n:
        return [str(item) for item in items]
    return [f"sound {k + 1}" for k in range(n)]
