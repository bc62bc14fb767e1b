"""Make what a class is heard by audible: recordings in which all that does not count is attenuated.

Bring relevance from the samples of a sound to moments and frequencies, and let it be heard. A sound is the sum of the
grains of its short-time Fourier transform. Where a map is a product of the samples and a gradient, as input times
gradient, integrated gradients, and LRP by the rules epsilon and z give it, its share of each grain follows exactly:
the inverse transform is one more linear layer in front of the network (Vielhaben et al. 2024).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_ranges
from brainmap.errors import InputError
from brainmap.features.attribution.results import Attributions
from brainmap.features.attribution.time_frequency import attenuate, make_mask
from brainmap.features.sounds.inputs import describe_input, get_waveforms, read_padded


def hear_relevance(
    sounds: Any, found: Attributions, *, floor_db: float = -30.0
) -> tuple[NDArray[np.float32], tuple[tuple[str, str], ...]]:
    """Attenuate in each sound the moments and frequencies that are no evidence for a class.

    Gains follow the relevance: over time and frequency for networks on spectrograms, for occlusion with bands, and for
    maps that are products of samples and gradients; over time alone for other maps of waveforms.

    Parameters
    ----------
    sounds : Sounds
        The sounds of the attributions, as `features.load_sounds` returns them.
    found : Attributions
    floor_db : float [dB]
        Gain where nothing speaks for the class.

    Returns
    -------
    waveforms : ndarray float32 (n, 1, t)
        One for each map, in the order of items and classes, at the level of the sounds; zeros follow the end of sounds
        that keep their own lengths.
    names : tuple of (str, str)
        Item and class of each.

    Raises
    ------
    InputError
        The sounds are not those of the maps; a map is nowhere positive, or its bands have no frequencies.
    """
    check_ranges("floor_db", ("decibels from -120 to 0", floor_db, -120 < floor_db <= 0))
    axes = describe_input(sounds)
    if axes is None or list(sounds.items) != list(found.items):
        raise InputError("relevance: expected the sounds of the maps, as features.load_sounds returns them, got others")
    waves, rate = read_padded(get_waveforms(sounds))[:, 0], axes.rate
    made, names = [], []
    for row, item in enumerate(found.items):
        for at, name in enumerate(found.names(row)):
            values, hertz = _arrange_map(found, axes, row, at)
            try:
                mask = make_mask(waves[row], values, rate=rate, hertz=hertz, by_grain=found.products, floor_db=floor_db)
            except InputError as error:
                raise InputError(f"{error} (item {item!r}, class {name!r})") from None
            made.append(attenuate(waves[row], mask, rate=rate))
            names.append((str(item), str(name)))
    return np.stack(made)[:, None], tuple(names)


def _arrange_map(
    found: Attributions, axes: Any, row: int, at: int
) -> tuple[NDArray[np.floating], NDArray[np.floating] | None]:
    """Return a map (t,) or (n_bands, n_frames), and the frequency of each band."""
    values = found.maps[row, at]
    if not axes.is_waveform:
        return axes.picture(values), axes.hertz()
    if found.bands is not None and len(found.bands) == len(values) > 1:
        return values, found.bands.mean(axis=1)
    return values.sum(axis=0), None
