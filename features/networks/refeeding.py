"""Bring sounds to the rate, length, level and input of another network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import soxr
from numpy.typing import NDArray

from brainmap.features.networks.description import Checkpoint
from brainmap.features.sounds.files import Sounds, fit_length, set_level, sounds_from_array, trim_sound


def feed_waveforms(
    waveforms: NDArray[np.floating],
    checkpoint: Checkpoint,
    *,
    rate: int,
    items: Sequence[str] | None = None,
    conditions: Sequence[str] | None = None,
) -> Sounds:
    """Bring waveforms in memory to the rate, length, level and input of a network, as files of them would be.

    Parameters
    ----------
    waveforms : ndarray (n, 1, t)
    checkpoint : Checkpoint
        How the network is fed.
    rate : int [Hz]
        Rate of the waveforms.
    items, conditions : sequence of str, optional

    Raises
    ------
    InputError
        The waveforms have another shape or are not finite, or the front end is code of another.

    Examples
    --------
    >>> fed = feed_waveforms(np.ones((1, 1, 100)), Checkpoint(architecture="ch32", n_samples=150), rate=8_000)
    >>> fed.rate, fed.waveforms.shape
    (16000, (1, 1, 150))
    """
    checkpoint.check_own()
    given = sounds_from_array(waveforms, rate=rate, items=items, conditions=conditions)
    fed = []
    for sound in given.waveforms[:, 0]:
        mono = sound
        if rate != checkpoint.rate:
            mono = soxr.resample(sound, rate, checkpoint.rate, quality="HQ").astype(np.float32)
        n_samples = checkpoint.n_samples or len(mono)
        kept = set_level(trim_sound(mono, n_samples, align=checkpoint.align), checkpoint.level)
        fed.append(kept if checkpoint.own_lengths else fit_length(kept, n_samples, align=checkpoint.align))
    data = np.stack(fed)[:, None]
    return replace(
        given,
        rate=checkpoint.rate,
        n_samples=data.shape[2],
        front_end=checkpoint.front_end,
        own_lengths=checkpoint.own_lengths,
        _given=data,
    )


def takes_sounds(checkpoint: Checkpoint, sounds: Sounds) -> bool:
    """Tell whether a network takes sounds as they are.

    Examples
    --------
    >>> takes_sounds(Checkpoint(architecture="ch32"), sounds_from_array(np.zeros((1, 1, 8)), rate=16_000))
    False
    """
    longest = checkpoint.n_samples in (0, sounds.n_samples)
    length = longest if checkpoint.own_lengths else checkpoint.n_samples == sounds.n_samples
    return length and (checkpoint.rate, checkpoint.front_end, checkpoint.level) == (
        sounds.rate,
        sounds.front_end,
        sounds.level,
    )


def refeed_sounds(sounds: Sounds, checkpoint: Checkpoint) -> Sounds:
    """Read the same sounds as another network takes them: from their files, or from waveforms in memory.

    Parameters
    ----------
    sounds : Sounds
    checkpoint : Checkpoint
        How the other network is fed.

    Returns
    -------
    Sounds
        The sounds themselves, where the network takes them as they are.

    Examples
    --------
    >>> sounds = sounds_from_array(np.ones((1, 1, 8)), rate=16_000)
    >>> refeed_sounds(sounds, Checkpoint(architecture="ch32", n_samples=12)).waveforms.shape
    (1, 1, 12)
    """
    if takes_sounds(checkpoint, sounds):
        return sounds
    if sounds.in_memory is not None:
        named = {"items": sounds.items, "conditions": sounds.conditions}
        return feed_waveforms(sounds.in_memory, checkpoint, rate=sounds.rate, **named)
    other = sounds.fed(rate=checkpoint.rate, n_samples=checkpoint.n_samples or None, level=checkpoint.level)
    return replace(other, align=checkpoint.align, front_end=checkpoint.front_end, own_lengths=checkpoint.own_lengths)
