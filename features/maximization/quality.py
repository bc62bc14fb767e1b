"""Measure the quality of maximizing patterns: against real sounds, as sounds, and under small changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainmap.errors import InputError
from brainmap.features.maximization.plan import compute_loudest_level
from brainmap.features.maximization.task import Task, iterate_batches, iterate_sounds
from brainmap.features.sounds.writing import write_sounds
from brainmap.types import Stage

Objective = Callable[[NDArray[np.float32]], NDArray[np.float64]]

SHIFT_MS = 25.0
HIGH_HZ = 4000.0


def simulate_playback(patterns: NDArray[np.floating], level: float | None, peak: float = 1.0) -> NDArray[np.float32]:
    """Simulate 16-bit playback of patterns: scale them to `level` (RMS), scale them down to `peak`, and quantize them.

    Examples
    --------
    >>> simulate_playback(np.array([[3.0, -4.0]]), level=None).tolist()
    [[0.75, -1.0]]
    """
    axes = tuple(range(1, patterns.ndim))
    heard = np.asarray(patterns, dtype=np.float64)
    if level is not None:
        power = np.mean(heard**2, axis=axes, keepdims=True)
        heard = heard * (level / np.sqrt(np.maximum(power, 1e-24)))
    heard = heard / np.maximum(np.abs(heard).max(axis=axes, keepdims=True) / peak, 1.0)
    playback: NDArray[np.float32] = (np.clip(np.round(heard * 32768), -32768, 32767) / 32768).astype(np.float32)
    return playback


def save_waveforms(
    patterns: NDArray[np.floating],
    folder: str | Path,
    names: Sequence[Sequence[str]],
    *,
    rate: int,
    seconds: float | None = None,
) -> list[Path]:
    """Write sounds `(n, 1, t)` as 16-bit WAV within full scale; shorter sounds repeat for `seconds`.

    `brainmap.names.file_name` turns `names` into file names.
    """
    if patterns.ndim != 3 or patterns.shape[1] != 1:
        raise InputError(f"save_wav: expected patterns (n_units, 1, t), got {patterns.shape}")
    return write_sounds(simulate_playback(patterns, None), folder, names, rate=rate, seconds=seconds)


def compute_spectral_moments(waveforms: NDArray[np.floating], rate: float) -> dict[str, NDArray[np.float64]]:
    """Compute the center, width and high-frequency share of power spectra.

    Parameters
    ----------
    waveforms : ndarray (n, c, t)
    rate : float [Hz]

    Returns
    -------
    dict of ndarray (n,)
        `centroid_hz` is the mean frequency weighted by power, `bandwidth_hz` its standard deviation, and `above_4khz`
        the share of the power above 4 kHz. They are NaN for silence.

    Examples
    --------
    >>> tone = np.sin(2 * np.pi * 1000 * np.arange(1600) / 16_000)[None, None]
    >>> {name: round(float(value[0])) for name, value in compute_spectral_moments(tone, 16_000).items()}
    {'centroid_hz': 1000, 'bandwidth_hz': 0, 'above_4khz': 0}
    """
    power = (np.abs(np.fft.rfft(np.asarray(waveforms, dtype=np.float64))) ** 2).sum(axis=1)
    frequency = np.fft.rfftfreq(waveforms.shape[-1], 1 / rate)
    total = power.sum(axis=1, keepdims=True)
    share = np.divide(power, total, out=np.full_like(power, np.nan), where=total > 0)
    centroid = share @ frequency
    variance = share @ frequency**2 - centroid**2
    return {
        "centroid_hz": centroid,
        "bandwidth_hz": np.sqrt(np.maximum(variance, 0.0)),
        "above_4khz": share[:, frequency > HIGH_HZ].sum(axis=1) + 0.0 * centroid,
    }


def measure_retention(
    patterns: NDArray[np.float32], objective: Objective, rate: float
) -> dict[str, NDArray[np.float64]]:
    """Compute the share of the objective that remains after a shift of 25 ms (mean of both directions) and at -6 dB.

    Silence fills the shifted pattern. NaN where the objective is not positive, or the pattern is no longer than the
    shift.
    """
    kept = objective(patterns)
    samples = round(rate * SHIFT_MS / 1000)
    softer = objective(patterns * np.float32(10 ** (-6 / 20)))
    moved = np.full(kept.shape, np.nan)
    if samples < patterns.shape[-1]:
        silence = np.zeros_like(patterns[..., :samples])
        later = np.concatenate([silence, patterns[..., :-samples]], axis=-1)
        earlier = np.concatenate([patterns[..., samples:], silence], axis=-1)
        moved = (objective(later) + objective(earlier)) / 2
    whole = np.where(kept > 0, kept, np.nan)
    return {"kept_after_25ms": moved / whole, "kept_at_minus_6db": softer / whole}


def measure_seed_agreement(by_seed: NDArray[np.floating]) -> dict[str, NDArray[np.float64]]:
    """Measure the similarity of patterns of one unit that started from different noise.

    Parameters
    ----------
    by_seed : ndarray (n_seeds, n_units, c, t) or (n_seeds, n_units, c, h, w)

    Returns
    -------
    dict of ndarray (n_units,)
        `seed_correlation` is the mean over pairs of seeds of the highest circular cross-correlation of the patterns
        along their last axis;
        `seed_spectrum_correlation` is the correlation of their amplitude spectra. They are NaN for a single seed.
    """
    n_seeds, n_units = by_seed.shape[:2]
    by_seed = by_seed.reshape(n_seeds, n_units, -1, by_seed.shape[-1])  # rows of a picture count as channels
    names = ("seed_correlation", "seed_spectrum_correlation")
    if n_seeds < 2:
        return {name: np.full(n_units, np.nan) for name in names}
    centered = by_seed - by_seed.mean(axis=-1, keepdims=True)
    transform = np.fft.rfft(centered, axis=-1)
    norm = np.sqrt((centered**2).sum(axis=(2, -1)))
    pairs = [(i, j) for i in range(n_seeds) for j in range(i)]
    wave, spectrum = [], []
    for i, j in pairs:
        lags = np.fft.irfft((transform[i] * transform[j].conj()).sum(axis=1), n=by_seed.shape[-1], axis=-1)
        wave.append(lags.max(axis=-1) / np.maximum(norm[i] * norm[j], 1e-30))
        left, right = (np.abs(transform[k]).reshape(n_units, -1) for k in (i, j))
        spectrum.append(
            [
                float(np.corrcoef(a, b)[0, 1]) if a.std() and b.std() else np.nan
                for a, b in zip(left, right, strict=True)
            ]
        )
    return dict(zip(names, (np.mean(wave, axis=0), np.mean(spectrum, axis=0)), strict=True))


def compute_scores(task: Task, patterns: NDArray[np.float32] | Tensor, dead: set[int]) -> NDArray[np.float64]:
    """Compute the objective of pattern i for unit i, without jitter, (n_units,)."""
    found = np.empty(len(task.units))
    with torch.no_grad():
        for stage in get_args(Stage):
            rows = [i for i, u in enumerate(task.units) if ("before" if u in dead else task.settings.stage) == stage]
            for i in range(0, len(rows), task.settings.micro_batch):
                some_rows = rows[i : i + task.settings.micro_batch]
                units = torch.tensor([task.units[r] for r in some_rows], device=task.device)
                batch = torch.as_tensor(patterns[some_rows], device=task.device)
                found[some_rows] = task.score(batch, units, stage).double().cpu().numpy()
    return found


def _score_best_clips(
    task: Task, waveforms: NDArray[np.float32], dead: set[int], frames: tuple[int, ...]
) -> NDArray[np.float64]:
    """Find the highest objective of any sound, or any of its stretches as long as the pattern, (n_units,)."""
    units = list(task.units)
    best = np.full(len(units), -np.inf)
    for stage in get_args(Stage):
        mine = [i for i, u in enumerate(units) if ("before" if u in dead else task.settings.stage) == stage]
        if not mine:
            continue
        with torch.no_grad():
            for batch in iterate_sounds(task, waveforms):
                reached = task.score_best_stretch(task.compute_values(batch, stage), frames).double().cpu().numpy()
                best[mine] = np.maximum(best[mine], reached.max(axis=0)[[units[i] for i in mine]])
    return best


def measure_quality(
    task: Task,
    by_seed: NDArray[np.float32],
    chosen: NDArray[np.integer],
    waveforms: NDArray[np.float32] | None,
    dead: set[int],
    *,
    random: NDArray[np.float32] | None = None,
) -> pd.DataFrame:
    """Measure quality in one row per unit, also of the best `random` patterns; see `Maximization`."""
    patterns = by_seed[chosen, np.arange(len(task.units))]
    level = task.level
    if level is None and waveforms is not None:
        level = compute_loudest_level(waveforms, task.prior.shape)
    heard = simulate_playback(patterns, level) if patterns.ndim == 3 else patterns
    objective = compute_scores(task, heard, dead)
    table: dict[str, Any] = {
        "unit": task.units,
        "stage": ["before" if u in dead else task.settings.stage for u in task.units],
    }
    table |= {
        "dead": [u in dead for u in task.units],
        "objective": objective,
        "best_clip": np.nan,
        "gain": np.nan,
    }
    if waveforms is not None:
        with torch.no_grad():
            frames = tuple(task.compute_values(torch.as_tensor(heard[:1], device=task.device), "after").shape[2:])
        best = _score_best_clips(task, waveforms, dead, frames)
        table["best_clip"] = best
        table["gain"] = np.where(best > 0, objective / np.where(best > 0, best, 1.0), np.nan)
    if random is not None:
        table["best_random"] = compute_scores(
            task, simulate_playback(random, level) if random.ndim == 3 else random, dead
        )
    if patterns.ndim == 3:
        table |= compute_spectral_moments(heard, task.rate)
        real = compute_spectral_moments(waveforms, task.rate) if waveforms is not None else {}
        table |= {f"sounds_{name}": float(np.nanmean(values)) for name, values in real.items()}
    table["confidence"] = _compute_confidence(task, heard)
    if patterns.ndim == 3:
        table |= measure_retention(heard, lambda changed: compute_scores(task, changed, dead), task.rate)
    table |= measure_seed_agreement(by_seed)
    return pd.DataFrame(table)


def _compute_confidence(task: Task, heard: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute the softmax probability of each pattern's own class; NaN where the units are not classes."""
    if not (task.site.head and task.settings.objective == "logit"):
        return np.full(len(heard), np.nan)
    with torch.no_grad():
        logits = torch.cat([task.compute_values(batch, "after") for batch in iterate_batches(task, heard)]).double()
    chosen = logits.softmax(1).cpu().numpy()
    return chosen[np.arange(len(heard)), list(task.units)]
