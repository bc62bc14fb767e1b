"""Jitter of activation maximization: each step shifts every pattern in time by a random number of samples.

A pattern that drives a unit at every shift does not lean on where the steps of strided layers happen to fall
(Mordvintsev et al. 2015).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def measure_jitter(jitter_ms: float, rate: float | None, *, flat: bool, time_axis: int) -> tuple[int, tuple[str, ...]]:
    """Return the largest shift [samples or frames], and why there is none where one was asked for.

    Parameters
    ----------
    jitter_ms : float [ms]
    rate : float, optional [1 / s]
        Samples or frames a second along the last axis; 16,000 for waveforms where it is not given.
    flat : bool
        Whether patterns are waveforms.
    time_axis : int
        The axis of time; only the last one is shifted.

    Examples
    --------
    >>> measure_jitter(25.0, 16_000, flat=True, time_axis=-1)
    (400, ())
    >>> measure_jitter(25.0, None, flat=False, time_axis=-1)[0]
    0
    """
    if not jitter_ms:
        return 0, ()
    notes: list[str] = []
    if not flat and rate is None:
        notes.append("no jitter: rate= (frames a second along the last axis) was not given, so ms mean nothing")
    if time_axis != -1:
        notes.append("no jitter: time is not the last axis of the input")
    return 0 if notes else round((rate or 16_000) * jitter_ms / 1000), tuple(notes)


def limit_jitter(jitter: int, length: int) -> tuple[int, tuple[str, ...]]:
    """Cut a shift to half of the pattern where it would go around it, and say so.

    Examples
    --------
    >>> limit_jitter(400, 300)
    (150, ("jitter cut from 400 samples to half of the pattern's 300",))
    """
    if jitter < length:
        return jitter, ()
    return length // 2, (f"jitter cut from {jitter} samples to half of the pattern's {length}",)


def draw_shifts(rng: np.random.Generator, jitter: int, steps: int) -> NDArray[np.int64]:
    """Draw the shift of each step, uniform from -jitter to jitter."""
    return rng.integers(-jitter, jitter + 1, steps)


def roll_patterns(patterns: Tensor, shifts: NDArray[np.integer], *, axis: int = -1) -> Tensor:
    """Roll every pattern circularly along its axis of time by its own number of samples."""
    if not np.any(shifts):
        return patterns
    return torch.stack([p.roll(int(s), axis) for p, s in zip(patterns, shifts, strict=True)])
