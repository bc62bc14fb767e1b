"""Explain logits by what is taken away: occlusion of windows and bands, and LIME over segments.

Explain logits by occlusion: remove a window of time, a band of frequencies or both from a sound.

Explain logits with LIME, a linear model fitted to versions of the sound in which segments are silenced.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from brainmap.checks import check_choice, check_enough
from brainmap.errors import InputError
from brainmap.features.attribution.task import SILENCE, Explainer, Found, Task
from brainmap.types import Bands

Box: TypeAlias = Any  # a tuple of slices; torch's types know no index that begins with ...

_LOWEST_OCTAVE = 125.0  # Hz; all frequencies below form one band


@dataclass(frozen=True, kw_only=True)
class Occlusion:
    """Describe how sounds are occluded.

    The effect of a window is the logit of the whole sound minus that of the occluded one, and is positive where the
    window is evidence for the class. A sample's value in the map is the mean effect of the windows that contain it.
    With bands a map has a channel per band; all channels of a sound are occluded together.

    Parameters
    ----------
    window_ms, step_ms : float [ms]
        Length and step of the windows: by default 50 ms and half a window; the last window is cut where the sound ends.
        Windows of spectrograms hold all bands.
        With a `window_ms` of None, the window is the whole sound, which serves to occlude bands alone.
    window, step : int or tuple (height, width) [samples]
        Length and step in samples or pixels, as arrays (n, c, h, w) require.
    bands : "mel", "octave" or sequence of float [Hz]
        Edges of frequency bands, each of which is removed by itself (a band-stop by FFT) within each window.
        Neighboring bands fade into each other over the quarter of the narrower band at the edge, since sharper filters
        would ring into the silence around a sound; all bands add up to the sound. Of spectrograms, the rows whose
        centers lie in a band are removed. "mel": `n_bands` bands of equal width
        in mel from 0 to half the rate; "octave": octaves from 125 Hz up, and one band below.
    n_bands : int
        Number of bands for "mel".
    baseline : "silence", float or array (c, t) or (c, h, w)
        Value that replaces the occluded part; silence by default, of a spectrogram what its front end gives for it.

    References
    ----------
    Zeiler & Fergus 2014, doi:10.1007/978-3-319-10590-1_53
    """

    window_ms: float | None = 50.0
    step_ms: float | None = None
    window: int | Sequence[int] | None = None
    step: int | Sequence[int] | None = None
    bands: Bands | None = None
    n_bands: int = 12
    baseline: float | ArrayLike | Literal["silence"] = SILENCE

    def begin(self, task: Task) -> Explainer:
        """Prepare the method for one call."""
        lengths = tuple(task.example.shape[2:])
        boxes = self._list_windows(task, lengths)
        edges = None if self.bands is None or task.on_pictures else self._find_band_edges(task, lengths)
        passing = (
            None if edges is None else _compute_band_gains(edges, lengths[-1], _require_rate(task)).to(task.device)
        )
        base = task.get_baseline(self.baseline)
        n_bands = 1 if passing is None else len(passing)
        jobs = list(itertools.product(boxes, range(n_bands)))

        def run(batch: Tensor, targets: Tensor, _: slice) -> Found:
            parts = (batch - base)[None]
            if passing is not None:
                spectrum = torch.fft.rfft(parts) * passing[:, None, None]
                parts = torch.fft.irfft(spectrum, n=lengths[-1])
            whole = task.compute_scores(batch[None], targets)[0]
            lost = []
            for group in task.split_copies(len(jobs), len(batch)):
                copies = batch.expand(len(jobs[group]), *batch.shape).clone()
                for copy, (box, band) in zip(copies, jobs[group], strict=True):
                    inside: Any = (..., *box)
                    copy[inside] -= parts[band][inside]
                lost.append(whole - task.compute_scores(copies, targets))
            effects = torch.cat(lost).movedim(0, 2).reshape(*targets.shape, len(boxes), n_bands)
            return Found(maps=_spread_losses(effects, boxes, lengths), effects=effects)

        windows = np.array([[(s.start, s.stop) for s in box] for box in boxes], dtype=np.intp)
        pairs = None if edges is None else np.stack([edges[:-1], edges[1:]], axis=1)
        return Explainer(passes=1 + len(jobs), run=run, windows=windows, bands=pairs)

    def _list_windows(self, task: Task, lengths: tuple[int, ...]) -> list[Box]:
        """List every window as a slice along every axis; the last axis varies fastest."""
        sizes, steps = self._find_sizes(task, lengths)
        rows = self._list_band_windows(task, lengths)
        spans: list[list[slice]] = []
        for axis, (size, step, length) in enumerate(zip(sizes, steps, lengths, strict=True)):
            if rows is not None and axis != len(lengths) + task.time_axis:
                spans.append(rows)
                continue
            if not 1 <= step <= size:
                raise InputError(
                    f"step: expected 1 to {size} samples for a window of {size}, got {step}; parts of the sound would "
                    "never be occluded"
                )
            if size > length:
                raise InputError(f"window: {size} samples, but the sound has {length}; give a shorter window")
            starts = range(0, length - size + step, step)
            spans.append([slice(start, min(start + size, length)) for start in starts])
        return list(itertools.product(*spans))

    def _find_sizes(self, task: Task, lengths: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        n = len(lengths)
        if self.window is not None:
            sizes = _check_sizes(self.window, n, "window")
        elif self.window_ms is None:
            sizes = lengths
        elif n > 1 and not task.on_pictures:
            raise InputError("window: the input is (c, h, w), which has no ms; give window=(height, width)")
        elif n > 1:
            sizes = along_time(task, lengths, task.convert_to_samples(self.window_ms, "window_ms"))
        else:
            sizes = (task.convert_to_samples(self.window_ms, "window_ms"),)
        if self.step is not None:
            return sizes, _check_sizes(self.step, n, "step")
        if self.step_ms is not None and n == 1:
            return sizes, (task.convert_to_samples(self.step_ms, "step_ms"),)
        if self.step_ms is not None and task.on_pictures:
            return sizes, along_time(task, lengths, task.convert_to_samples(self.step_ms, "step_ms"))
        return sizes, tuple(max(1, size // 2) for size in sizes)

    def _list_band_windows(self, task: Task, lengths: tuple[int, ...]) -> list[slice] | None:
        """List the bands of a spectrogram that are occluded together; None where no bands in Hz are asked for."""
        if self.bands is None or not task.on_pictures or task.axes is None:
            return None
        hertz = task.axes.hertz()
        if hertz is None:
            raise InputError(f"bands: the bands of {task.axes.front_end.kind} have no frequencies; use window=")
        edges = np.searchsorted(hertz, self._band_edges(task.axes.rate / 2))
        rows = [slice(int(low), int(high)) for low, high in itertools.pairwise(edges) if high > low]
        if not rows:
            raise InputError(f"bands: expected bands of {len(hertz)} from {hertz[0]:.4g} Hz, got none in {self.bands}")
        return rows

    def _find_band_edges(self, task: Task, lengths: tuple[int, ...]) -> NDArray[np.float64]:
        if len(lengths) > 1:
            raise InputError("bands: expected waveforms (c, t), got inputs (c, h, w); use window=(height, width)")
        return self._band_edges(_require_rate(task) / 2)

    def _band_edges(self, nyquist: float) -> NDArray[np.float64]:
        """Compute the edges of the bands [Hz], up to half the rate."""
        if isinstance(self.bands, str):
            check_choice(self.bands, ("mel", "octave"), "bands")
            return compute_mel_edges(self.n_bands, nyquist) if self.bands == "mel" else compute_octave_edges(nyquist)
        edges = np.atleast_1d(np.asarray(self.bands, dtype=float))
        if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all() or not edges[0] >= 0:
            raise InputError(f"bands: expected two or more rising edges in Hz, from 0 up, got {self.bands!r:.80}")
        if edges[-1] > nyquist:
            raise InputError(f"bands: {edges[-1]:g} Hz is above half the rate, {nyquist:g} Hz; end there")
        return edges


def along_time(task: Task, lengths: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Return a size along time beside the whole of the other axis."""
    return (size, lengths[1]) if task.time_axis == -2 else (lengths[0], size)


def compute_mel_edges(n_bands: int, highest: float) -> NDArray[np.float64]:
    """Compute the edges [Hz] of bands of equal width in mel, 2595 log10(1 + f / 700), from 0 to `highest`.

    Examples
    --------
    >>> compute_mel_edges(4, 8000.0).round().tolist()
    [0.0, 614.0, 1768.0, 3934.0, 8000.0]
    """
    check_enough(n_bands, 1, "n_bands", "band")
    mel = np.linspace(0, np.log10(1 + highest / 700), n_bands + 1)
    return np.append(700 * (10 ** mel[:-1] - 1), highest)


def compute_octave_edges(highest: float) -> NDArray[np.float64]:
    """Compute the edges [Hz] of octaves from 125 Hz to `highest`, and of the band below.

    Examples
    --------
    >>> compute_octave_edges(8000.0).tolist()
    [0.0, 125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0]
    """
    octaves = _LOWEST_OCTAVE * 2.0 ** np.arange(32)
    return np.concatenate([[0.0], octaves[octaves < highest], [highest]])


def _require_rate(task: Task) -> float:
    if task.rate is None:
        raise InputError("bands: the sounds are an array without a rate; give rate= in Hz")
    return task.rate


def _compute_band_gains(edges: NDArray[np.float64], length: int, rate: float) -> Tensor:
    """Compute the gain of each band at each frequency, (n_bands, n_frequencies), 0 to 1."""
    hertz = np.fft.rfftfreq(length, 1 / rate)
    widths = np.diff(edges)
    fade = np.minimum(np.append(widths, widths[-1]), np.append(widths[0], widths)) / 4
    above = (1 + np.sin(np.pi / 2 * np.clip((hertz - edges[:, None]) / fade[:, None], -1, 1))) / 2
    above[edges <= 0] = 1  # no band lies below
    above[edges >= rate / 2] = 0
    inside = above[:-1] - above[1:]
    if not (inside > 0.5).any(1).all():
        low, high = edges[int((inside > 0.5).any(1).argmin()) :][:2]
        raise InputError(
            f"bands: {low:g} to {high:g} Hz holds no frequency of a sound of {length} samples, "
            f"{rate / length:g} Hz apart; give wider bands"
        )
    return torch.as_tensor(inside, dtype=torch.float32)


def _spread_losses(effects: Tensor, boxes: Sequence[Box], lengths: Sequence[int]) -> Tensor:
    """Compute the mean effect (n, k, n_bands, ...) of the windows that contain each sample; 0 where none does."""
    total = effects.new_zeros(*effects.shape[:2], effects.shape[3], *lengths)
    count = effects.new_zeros(*lengths)
    for window, box in enumerate(boxes):
        inside: Any = (..., *box)
        total[inside] += effects[:, :, window].reshape(*total.shape[:3], *(1,) * len(lengths))
        count[box] += 1
    return total / count.clamp_min(1)


def _check_sizes(value: Any, n: int, what: str) -> tuple[int, ...]:
    listed = tuple(value) if isinstance(value, Sequence | np.ndarray) else (value,) * n
    if len(listed) != n or not all(isinstance(v, int | np.integer) and v >= 1 for v in listed):
        raise InputError(f"{what}: expected {n} whole number{'s'[: n > 1]} of samples, at least 1, got {value!r}")
    return tuple(int(v) for v in listed)
