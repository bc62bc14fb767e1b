"""Measure the frequency tuning of the units of any layer with tones and bands of noise, as in physiology.

Every stimulus lies in the middle of a sound as long as the network's input, with raised-cosine ramps. A unit's response
is taken over the frames whose receptive field lies within the steady part, minus its response to silence. Where no
receptive field is that short (deep layers see nearly the whole sound), it is taken over the frames centered in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brainmap.checks import check_choice, check_literals, check_ranges, list_some
from brainmap.errors import InputError, RunError
from brainmap.features.layers.ear import tap
from brainmap.features.layers.layer import OUTPUT, Layer
from brainmap.features.layers.listing import say_taken_off
from brainmap.features.layers.pooling import pool
from brainmap.features.layers.running import evaluating, forward
from brainmap.features.layers.selection import choose_layers
from brainmap.features.sounds.batches import Sounds
from brainmap.features.sounds.cochlea import convert_from_erb, convert_to_erb
from brainmap.features.sounds.files import RMS_LEVEL
from brainmap.features.sounds.inputs import describe_input, get_waveforms
from brainmap.features.sounds.joining import join_equal_lengths
from brainmap.features.units.filters import HALF_POWER, find_passbands, get_waveform
from brainmap.progress import progress
from brainmap.types import Spacing, Stage, Stimulus, TuningMeasure

_NOTHING = 1e-5  # share of the layer's largest response
_SPREAD = 1e-3  # octaves of tolerance for rounding at the lowest and highest frequency


@dataclass(frozen=True, kw_only=True)
class TuningSettings:
    """Describe how tuning is measured.

    Attributes
    ----------
    stimulus : {"tone", "noise"}
        Pure tones, or Gaussian noise in a band around each frequency.
    lowest_hz, highest_hz : float [Hz]
        Range of the sweep; nothing above 0.95 of half the rate is played.
    spacing : {"octave", "erb"}
        Equal steps in octaves, or in equivalent rectangular bandwidths of human hearing.
    per_step : int
        Number of frequencies per octave, or per ERB.
    levels_db : sequence of float [dB]
        RMS of the steady part relative to `reference_rms`.
    reference_rms : float
        RMS at 0 dB; 0.05 of full scale is the level of `load_sounds`.
    seconds : float, optional [s]
        Length of a stimulus; by default half of the sound.
    ramp_ms : float [ms]
        Ramp on either side, which is part of `seconds`.
    noise_octaves : float [octaves]
        Width of a band of noise.
    repeats : int
        Number of phases of each tone, or samples of each noise; responses are averaged.
    measure : {"mean", "rms", "max"}
        Measure over frames. "rms" suits units before the nonlinearity, whose mean equals that of silence.
    height : float
        Share of the peak at the edges of a band: 0.707 is 3 dB of amplitude, 0.5 half height.

    References
    ----------
    Glasberg & Moore 1990, the ERB: doi:10.1016/0378-5955(90)90170-T
    """

    stimulus: Stimulus = "tone"
    lowest_hz: float = 60.0
    highest_hz: float = 7_600.0
    spacing: Spacing = "octave"
    per_step: int = 12
    levels_db: Sequence[float] = (-20.0, -10.0, 0.0)
    reference_rms: float = RMS_LEVEL
    seconds: float | None = None
    ramp_ms: float = 10.0
    noise_octaves: float = 1 / 3
    repeats: int = 2
    measure: TuningMeasure = "mean"
    height: float = HALF_POWER

    def __post_init__(self) -> None:
        check_literals(
            (self.stimulus, Stimulus, "stimulus"),
            (self.spacing, Spacing, "spacing"),
            (self.measure, TuningMeasure, "measure"),
        )
        check_ranges(
            "tuning",
            (
                "frequencies with 0 < lowest < highest [Hz]",
                (self.lowest_hz, self.highest_hz),
                0 < self.lowest_hz < self.highest_hz,
            ),
            ("at least 1 frequency in each step", self.per_step, self.per_step >= 1),
            ("at least 1 repeat", self.repeats, self.repeats >= 1),
            ("at least 1 level", self.levels_db, len(self.levels_db) > 0),
            ("a reference_rms above 0", self.reference_rms, self.reference_rms > 0),
            ("ramps of 0 ms or more", self.ramp_ms, self.ramp_ms >= 0),
            ("noise of more than 0 and at most 4 octaves", self.noise_octaves, 0 < self.noise_octaves <= 4),
            ("a height between 0 and 1, as a share of the peak", self.height, 0 < self.height < 1),
        )


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Hold the responses of units to sounds of many frequencies.

    Attributes
    ----------
    layers : tuple of str
    frequencies : ndarray (n_frequencies,) [Hz]
    responses : mapping layer -> ndarray float32 (n_units, n_levels, n_frequencies)
        Responses averaged over frames and repeats; silence is not subtracted.
    silence : mapping layer -> ndarray float32 (n_units,)
    frames : mapping layer -> {"inside", "centered", "whole"}
        Whether the receptive fields of the frames, or only their centers, lie within the stimulus; "whole" without
        positions.
    rate : int [Hz]
    settings : TuningSettings
    """

    layers: tuple[str, ...]
    frequencies: NDArray[np.float64] = field(repr=False)
    responses: Mapping[str, NDArray[np.float32]] = field(repr=False)
    silence: Mapping[str, NDArray[np.float32]] = field(repr=False)
    frames: Mapping[str, str]
    rate: int
    settings: TuningSettings

    def curves(self, layer: str, *, level_db: float | None = None) -> NDArray[np.float64]:
        """Return tuning curves `(n_units, n_frequencies)` minus silence, by default at the highest level.

        Raises
        ------
        InputError
            The layer or level was not measured.
        """
        check_choice(layer, self.layers, "tuning: layer")
        levels = list(self.settings.levels_db)
        if level_db is not None and level_db not in levels:
            raise InputError(f"tuning: expected one of the levels {list_some(levels)} dB, got {level_db:g} dB")
        at = int(np.argmax(levels)) if level_db is None else levels.index(level_db)
        return self.responses[layer][:, at].astype(np.float64) - self.silence[layer][:, None]

    @cached_property
    def table(self) -> pd.DataFrame:
        """Build a table with one row per layer, level and unit: see `TUNING_COLUMNS`."""
        return pd.concat(
            [self._select_responses(layer, level) for layer in self.layers for level in self.settings.levels_db],
            ignore_index=True,
        )

    def _select_responses(self, layer: str, level: float) -> pd.DataFrame:
        curves = self.curves(layer, level_db=level)
        every = self.responses[layer] - self.silence[layer][:, None, None]
        nothing = _NOTHING * float(np.abs(every).max())
        dead = np.abs(every).max(axis=(1, 2)) <= nothing
        quiet = curves.max(axis=1) <= nothing
        below = curves.min(axis=1) < -nothing
        table = find_passbands(np.where(quiet[:, None], 0.0, curves), self.frequencies, height=self.settings.height)
        shapes = np.where(below, "suppressed", "unresponsive")
        table["shape"] = np.where(dead, "dead", np.where(quiet, shapes, table["shape"].replace("flat", "untuned")))
        table["peak"] = curves.max(axis=1)
        return table.assign(
            layer=layer,
            unit=np.arange(len(table)),
            level_db=float(level),
            silence=self.silence[layer],
            frames=self.frames[layer],
        )[list(TUNING_COLUMNS)]

    def order(self, layer: str) -> NDArray[np.intp]:
        """Order units of a layer by best frequency at the highest level, low to high; units without one come last."""
        table = self.table[(self.table["layer"] == layer) & (self.table["level_db"] == max(self.settings.levels_db))]
        return np.argsort(table["best_hz"].to_numpy(), kind="stable")


TUNING_COLUMNS = {
    "layer": "layer of the network",
    "unit": "unit of the layer, from 0",
    "level_db": "level of the stimuli [dB] against the reference RMS",
    "best_hz": "frequency of the stimulus with the largest response [Hz]",
    "peak": "that response beyond silence, as the layer gives it",
    "low_hz": "lower edge of the band around it [Hz]; the lowest frequency played if the band has none",
    "high_hz": "upper edge of the band [Hz]; the highest frequency played if the band has none",
    "bandwidth_hz": "distance of the edges [Hz]",
    "octaves": "distance of the edges [octaves]",
    "q": "best_hz over bandwidth_hz",
    "bands": "how many separate bands respond that much",
    "shape": "band-pass, low-pass or high-pass (the sweep holds one edge only), untuned (it holds neither), suppressed "
    "(no stimulus drives it above silence, some below), unresponsive (at this level), dead (at no level)",
    "silence": "response to silence, as the layer gives it",
    "frames": "frames averaged: with their receptive field inside the stimulus, centered in it, or whole (units "
    "without position)",
}


def measure_tuning(
    model: nn.Module,
    sounds: Sounds,
    *,
    layers: str | Sequence[str] = "all",
    settings: TuningSettings | None = None,
    stage: Stage = "after",
    rate: int | None = None,
    batch_size: int = 16,
    rng: np.random.Generator | None = None,
    device: str = "cpu",
) -> Tuning:
    """Play tones or bands of noise to a network and measure the frequency tuning of its units.

    Parameters
    ----------
    model : torch.nn.Module
        It runs in eval mode; afterwards each module is back in the mode that it had.
    sounds : Sounds, array or Tensor (n, 1, t)
        Only their length and rate are used.
    layers : str or sequence of str
        Layers as in `extract_activations`; all are measured in one pass.
    settings : TuningSettings, optional
    stage : {"after", "before"}
        Record before or after the nonlinearity.
    rate : int, optional [Hz]
        Rate of sounds that do not carry theirs.
    batch_size : int
    rng : numpy.random.Generator, optional
        Random numbers of the noise; by default a generator with seed 0. Tones use none.
    device : str

    Returns
    -------
    Tuning

    Raises
    ------
    InputError
        An unknown layer; inputs that are not waveforms of one channel; stimuli that do not fit into the sound.
    RunError
        A response is not finite.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv1d(1, 2, 3, bias=False), nn.ReLU())
    >>> _ = net[0].weight.data.copy_(torch.tensor([[[1.0, 1.0, 1.0]], [[-1.0, 2.0, -1.0]]]))
    >>> quick = TuningSettings(lowest_hz=200, highest_hz=3800, per_step=4, levels_db=[0])
    >>> measure_tuning(net, np.zeros((1, 1, 800)), rate=8000, settings=quick).table["shape"].tolist()
    ['low-pass', 'high-pass']
    """
    chosen = settings or TuningSettings()
    axes = describe_input(sounds)
    example, rate = get_waveform(get_waveforms(sounds), rate, "tuning")
    sweep = _Sweep(chosen, example.shape[2], rate, rng or np.random.default_rng(0))
    with evaluating(model, device), torch.no_grad():
        placed = {one.name: one for one in choose_layers(model, sounds, layers)[1]}
        names = tuple(placed)
        if OUTPUT in names:
            say_taken_off(placed[OUTPUT])
        windows = {name: _choose_frames(layer, sweep) for name, layer in placed.items()}
        found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
        with tap(model, names, stage=stage) as heard, progress(f"tuning by {chosen.stimulus}s", len(sweep)) as step:
            for batch in sweep.batches(batch_size):
                taken = batch if axes is None else axes.front_end.compute(batch, rate=rate)
                forward(model, torch.as_tensor(taken, device=device))
                for name in names:
                    rows = _measure_responses(
                        placed[name].arranged(heard[name], len(batch)), windows[name][0], chosen.measure
                    )
                    if not np.isfinite(rows).all():
                        raise RunError(f"tuning: layer {name!r} is not finite for a {chosen.stimulus}; see its weights")
                    found[name].append(rows)
                step.advance(len(batch))
    joined = {name: np.concatenate(rows) for name, rows in found.items()}
    shape = (chosen.repeats, len(chosen.levels_db), len(sweep.frequencies))
    return Tuning(
        layers=names,
        frequencies=sweep.frequencies,
        responses={n: r[1:].reshape(*shape, -1).mean(axis=0).transpose(2, 0, 1) for n, r in joined.items()},
        silence={n: r[0] for n, r in joined.items()},
        frames={name: window[1] for name, window in windows.items()},
        rate=rate,
        settings=chosen,
    )


class _Sweep:
    """Generate silence, then all stimuli, nested as repeats, levels and frequencies."""

    def __init__(self, settings: TuningSettings, n_samples: int, rate: int, rng: np.random.Generator) -> None:
        self.settings, self.n_samples, self.rate, self.rng = settings, n_samples, rate, rng
        seconds = n_samples / rate / 2 if settings.seconds is None else settings.seconds
        self.length, self.ramp = round(seconds * rate), round(settings.ramp_ms / 1000 * rate)
        self.start = (n_samples - self.length) // 2
        if not 2 * self.ramp < self.length <= n_samples:
            raise InputError(
                f"tuning: expected stimuli longer than both ramps ({settings.ramp_ms:g} ms each) and at most "
                f"{n_samples / rate:g} s, got {seconds:g} s"
            )
        self.frequencies = list_sweep_frequencies(settings, rate)
        if self.frequencies[0] * seconds < 2:
            raise InputError(
                f"tuning: expected two periods or more of the lowest frequency in {seconds:g} s, got "
                f"{self.frequencies[0] * seconds:.1f} of {self.frequencies[0]:g} Hz; begin at {2 / seconds:.0f} Hz"
            )

    def __len__(self) -> int:
        return 1 + self.settings.repeats * len(self.settings.levels_db) * len(self.frequencies)

    def batches(self, size: int) -> Iterator[NDArray[np.float32]]:
        """Yield waveforms `(size, 1, n_samples)`."""
        return join_equal_lengths(self._iterate_waves(), size)

    def _iterate_waves(self) -> Iterator[NDArray[np.float32]]:
        yield np.zeros(self.n_samples, np.float32)
        gate = self._make_gate()
        for repeat in range(self.settings.repeats):
            units = [
                self._make_stimulus(hertz, repeat) for hertz in self.frequencies
            ]  # of RMS 1; all levels share them
            for level in self.settings.levels_db:
                for unit in units:
                    scale = self.settings.reference_rms * 10 ** (level / 20)
                    stimulus = (scale * gate * unit).astype(np.float32)
                    yield np.pad(stimulus, (self.start, self.n_samples - self.start - self.length))

    def _make_gate(self) -> NDArray[np.float64]:
        gate = np.ones(self.length)
        rise = np.sin(np.pi / 2 * (np.arange(self.ramp) + 0.5) / max(self.ramp, 1)) ** 2
        gate[: self.ramp], gate[self.length - self.ramp :] = rise, rise[::-1]
        return gate

    def _make_stimulus(self, hertz: float, repeat: int) -> NDArray[np.float64]:
        if self.settings.stimulus == "tone":
            phase = np.pi / 2 * repeat / self.settings.repeats
            return np.asarray(np.sqrt(2) * np.sin(2 * np.pi * hertz * np.arange(self.length) / self.rate + phase))
        low, high = hertz * 2.0 ** (np.array([-0.5, 0.5]) * self.settings.noise_octaves)
        bins = np.fft.rfftfreq(self.length, 1 / self.rate)
        band = (bins >= low) & (bins <= high)
        if not band.any():
            raise InputError(
                f"tuning: a noise of {self.length / self.rate:g} s has nothing between {low:.1f} and {high:.1f} Hz; "
                "make the band wider, the stimulus longer or the lowest frequency higher"
            )
        spectrum = np.zeros(len(bins), np.complex128)
        spectrum[band] = self.rng.normal(size=band.sum()) + 1j * self.rng.normal(size=band.sum())
        noise = np.fft.irfft(spectrum, self.length)
        return np.asarray(noise / np.sqrt(np.mean(noise**2)))


def list_sweep_frequencies(settings: TuningSettings, rate: int) -> NDArray[np.float64]:
    """List the frequencies of a sweep [Hz], from the lowest up, below 0.95 of half the rate.

    Raises
    ------
    InputError
        No frequency fits.

    Examples
    --------
    >>> list_sweep_frequencies(TuningSettings(lowest_hz=500, highest_hz=2000, per_step=2), 16_000).round().tolist()
    [500.0, 707.0, 1000.0, 1414.0, 2000.0]
    """
    reach = 2 ** (settings.noise_octaves / 2) if settings.stimulus == "noise" else 1.0  # upper edge over center
    high = min(settings.highest_hz, 0.95 * rate / 2 / reach)
    if high <= settings.lowest_hz:
        raise InputError(f"tuning: no frequency from {settings.lowest_hz:g} Hz up fits the rate {rate} Hz")
    if settings.spacing == "octave":
        steps = int((np.log2(high / settings.lowest_hz) + _SPREAD) * settings.per_step) + 1
        return np.asarray(settings.lowest_hz * 2.0 ** (np.arange(steps) / settings.per_step))
    first, last = convert_to_erb(np.array([settings.lowest_hz, high]))
    numbers = np.arange(first, last + _SPREAD, 1 / settings.per_step)
    return convert_from_erb(numbers)


def _choose_frames(layer: Layer, sweep: _Sweep) -> tuple[slice, str]:
    """Choose the frames of a layer over which responses are taken, and name the choice."""
    size, stride, center = layer.receptive_field, layer.stride, layer.center
    if len(layer.shape) < 2 or not stride or not isinstance(stride, int):
        return slice(None), "whole"
    if not (isinstance(size, int) and isinstance(center, int | float)):
        return slice(None), "whole"
    centers = center + np.arange(layer.shape[1]) * stride
    half = (size - 1) / 2
    low, high = sweep.start + sweep.ramp, sweep.start + sweep.length - sweep.ramp - 1
    inside = np.flatnonzero((centers - half >= low) & (centers + half <= high))
    said = "inside"
    if not len(inside):
        inside, said = np.flatnonzero((centers >= low) & (centers <= high)), "centered"
    if not len(inside):
        inside = np.array([np.abs(centers - (low + high) / 2).argmin()])
    return slice(int(inside[0]), int(inside[-1]) + 1), said


def _measure_responses(value: Tensor, frames: slice, measure: TuningMeasure) -> NDArray[np.float32]:
    """Compute responses of a batch `(n, n_units)` over the frames."""
    if value.ndim > 2:
        value = pool(value[:, :, frames].flatten(2), measure)
    return value.float().cpu().numpy()


def describe_tuning(tuning: Tuning) -> dict[str, object]:
    """Return the settings of a measurement as plain values, for a sidecar."""
    return {**asdict(tuning.settings), "rate": tuning.rate, "frames": dict(tuning.frames)}
