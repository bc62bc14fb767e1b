"""How activation maximization grows its patterns: every choice, with its default."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from brainmap.checks import one_of
from brainmap.errors import InputError
from brainmap.features.layers.ear import Stage

Parameterization = Literal["spectrum", "pixels", "1/f", "decoder"]

Objective = Literal["auto", "channel", "neuron", "layer", "logit", "direction"]
Optimizer = Literal["gradient-rms", "adam"]
Extent = Literal["auto", "receptive-field", "full"]
Decay = Literal["linear", "none"]
Preset = Literal["audio", "source", "generative", "metamer"]


@dataclass(frozen=True, kw_only=True)
class MaximizationSettings:
    """How patterns are grown.

    Parameters
    ----------
    objective : {"auto", "channel", "neuron", "layer", "logit", "direction"}
        Mean of a filter's map; its central position; mean square of the whole layer (deep dream); one output
        unit; the part of the layer's mean over positions that lies along a given direction. "auto": the direction
        where some are given, the logit of a layer that gives one number a unit, else the channel.
    cosine_power : float
        Directions only: multiplies the objective by max(cosine, 0.1) to this power, so that a pattern that drives
        everything is worth less than one that drives the direction alone.
    stage : {"before", "after"}
        Side of the layer's nonlinearity. A silent unit climbs before it until it speaks, a dead one to the end.
    steps, step_size : int, float
        Step size is in units of the free parameters, which start as noise of variance 1.
    optimizer : {"gradient-rms", "adam"}
        Gradient ascent with each unit's gradient divided by its root mean square, or Adam.
    decay : {"linear", "none"}
        Steps that shrink to zero settle on the optimum; steps of one size circle around it.
    parameterization : {"spectrum", "pixels", "1/f", "decoder"}
        Fourier coefficients scaled by the sounds' mean spectrum (without sounds: the long-term average
        spectrum of speech), plain samples, Fourier coefficients scaled by 1/f, or the latent of a decoder
        (chosen by giving one).
    jitter_ms : float [ms]
        The pattern is shifted circularly by up to this much, anew in every step.
    l1, l2, lp, total_variation : float
        Weights of mean |x|, mean x^2, (mean |x|^p)^(1/p) and mean |x[t + 1] - x[t]| that are taken off the
        objective. Under a fixed level, mean x^2 is fixed too.
    lp_power : float
        The p of `lp`, 1 or more; the larger, the more the highest samples count alone.
    latent_l2 : float
        Decoders only: weight of the latent's mean square, times the objective's own size, so that it means the same
        for every unit.
    diversity : float
        Pushes the patterns of one unit's `seeds` apart: weight of the mean cosine between the Gram matrices
        (channel x channel) of their last map up to the layer, times the objective's own size.
    low_hz, high_hz : float, optional [Hz]
        Band limits of the pattern; waveforms only.
    level : "sounds", float or None
        Root mean square that every pattern keeps: the sounds' own (of their loudest stretch of the pattern's
        length; 0.1 without sounds), a number, or free: then it is the sounds' at the start only.
    peak : "auto", float or None
        Patterns that go beyond are scaled down, never clipped. "auto": 1, full scale, for waveforms. None: free.
    extent : {"auto", "receptive-field", "full"}
        Length of the input: the receptive field with room for the jitter on both sides, or the whole input.
        "auto" takes the first for convolutional layers when it is shorter.
    seeds : int
        Starts from different noise; the best one is kept, all are in `by_seed`.
    micro_batch : int
        Patterns that go through the network together (8 on a CPU is about twice as fast as 64).

    References
    ----------
    Olah, Mordvintsev and Schubert (2017), doi:10.23915/distill.00007 (Fourier parameterization, jitter, diversity);
    Mahendran and Vedaldi (2016), doi:10.1007/s11263-016-0911-8 (p-norms and total variation); Nguyen et al. (2016),
    arXiv:1605.09304 (a generative prior)

    Examples
    --------
    >>> MaximizationSettings.source_study().steps
    200
    >>> MaximizationSettings.of("generative", seeds=3).seeds
    3
    """

    objective: Objective = "auto"
    cosine_power: float = 0.0
    stage: Stage = "after"
    steps: int = 200
    step_size: float = 2.0
    optimizer: Optimizer = "gradient-rms"
    decay: Decay = "linear"
    parameterization: Parameterization = "spectrum"
    jitter_ms: float = 25.0
    l1: float = 0.0
    l2: float = 0.0
    lp: float = 0.0
    lp_power: float = 6.0
    total_variation: float = 0.0
    latent_l2: float = 0.0
    diversity: float = 0.0
    low_hz: float | None = None
    high_hz: float | None = None
    level: float | Literal["sounds"] | None = "sounds"
    peak: float | Literal["auto"] | None = "auto"
    extent: Extent = "auto"
    seeds: int = 1
    micro_batch: int = 8

    def __post_init__(self) -> None:
        for name, choices in (
            ("objective", Objective),
            ("stage", Stage),
            ("optimizer", Optimizer),
            ("decay", Decay),
            ("parameterization", Parameterization),
            ("extent", Extent),
        ):
            one_of(getattr(self, name), get_args(choices), f"maximization {name}")
        for name in ("steps", "seeds", "micro_batch"):
            if not getattr(self, name) >= 1:
                raise InputError(f"maximization {name}: found {getattr(self, name)}, wanted 1 or more")
        for name in (
            "jitter_ms",
            "l1",
            "l2",
            "lp",
            "total_variation",
            "latent_l2",
            "diversity",
            "cosine_power",
            "low_hz",
            "high_hz",
        ):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise InputError(f"maximization {name}: found {value}, wanted 0 or more")
        for name, word in (("step_size", None), ("level", "sounds"), ("peak", "auto")):
            value = getattr(self, name)
            number = isinstance(value, int | float) and 0 < value < math.inf
            if not number and value != word and (value is not None or name == "step_size"):
                also = f", or {word!r}" if word else ""
                raise InputError(f"maximization {name}: found {value!r}, wanted a number above 0{also}")
        if not 1 <= self.lp_power < math.inf:
            raise InputError(
                f"maximization lp_power: found {self.lp_power}, wanted 1 or more: below 1 it is no norm, "
                "and its gradient has no bound at silence"
            )
        if self.low_hz is not None and self.high_hz is not None and self.low_hz >= self.high_hz:
            raise InputError(f"maximization: band {self.low_hz} to {self.high_hz} Hz is empty; wanted low_hz < high_hz")
        if self.diversity and self.seeds < 2:
            raise InputError("maximization diversity: needs patterns to push apart; give seeds of 2 or more")

    @classmethod
    def source_study(cls) -> MaximizationSettings:
        """The source study's recipe: samples themselves, step 2, 200 steps, mean of one filter's map,
        nothing else."""
        return cls(parameterization="pixels", decay="none", jitter_ms=0.0, level=None, peak=None, extent="full")

    @classmethod
    def of(cls, preset: Preset, **changes: Any) -> MaximizationSettings:
        """A recipe by its name, with changes.

        "audio" is the default; "source" the source study's; "generative" for the latent of a decoder; "metamer" for
        `match_activation`.

        Raises
        ------
        InputError
            No such recipe, or values that make no sense.
        """
        recipes = {
            "audio": cls(),
            "source": cls.source_study(),
            "generative": cls(parameterization="decoder", optimizer="adam", step_size=0.1, latent_l2=0.1),
            "metamer": cls(optimizer="adam", step_size=0.1, jitter_ms=0.0, level=None, peak=None, extent="full"),
        }
        return replace(recipes[one_of(preset, get_args(Preset), "preset")], **changes)
