"""How activation maximization grows its patterns: every choice, with its default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from brainmap.checks import one_of
from brainmap.errors import InputError
from brainmap.features._priors import Parameterization
from brainmap.features.layers import Stage

Objective = Literal["auto", "channel", "neuron", "layer", "logit"]
Optimizer = Literal["gradient-rms", "adam"]
Extent = Literal["auto", "receptive-field", "full"]
Decay = Literal["linear", "none"]


@dataclass(frozen=True, kw_only=True)
class MaximizationSettings:
    """How patterns are grown.

    Parameters
    ----------
    objective : {"auto", "channel", "neuron", "layer", "logit"}
        Mean of a filter's map; its central position; mean square of the whole layer (deep dream); one output
        unit. "auto": the logit of a layer that gives one number a unit, else the channel.
    stage : {"before", "after"}
        Side of the layer's nonlinearity. A silent unit climbs before it until it speaks, a dead one to the end.
    steps, step_size : int, float
        Step size is in units of the free parameters, which start as noise of variance 1.
    optimizer : {"gradient-rms", "adam"}
        Gradient ascent with each unit's gradient divided by its root mean square, or Adam.
    decay : {"linear", "none"}
        Steps that shrink to zero settle on the optimum; steps of one size circle around it.
    parameterization : {"spectrum", "pixels", "1/f"}
        Fourier coefficients scaled by the sounds' mean spectrum (without sounds: the long-term average
        spectrum of speech), plain samples, or Fourier coefficients scaled by 1/f.
    jitter_ms : float [ms]
        The pattern is shifted circularly by up to this much, anew in every step.
    l1, l2, total_variation : float
        Weights of mean |x|, mean x^2 and mean |x[t + 1] - x[t]| that are taken off the objective.
    low_hz, high_hz : float, optional [Hz]
        Band limits of the pattern.
    level : "sounds", float or None
        Root mean square that every pattern keeps: the sounds' own (of their loudest stretch of the pattern's
        length; 0.1 without sounds), a number, or free.
    peak : float, optional
        Patterns that go beyond are scaled down, never clipped. None: free.
    extent : {"auto", "receptive-field", "full"}
        Length of the input: the receptive field with room for the jitter on both sides, or the whole input.
        "auto" takes the first for convolutional layers when it is shorter.
    seeds : int
        Starts from different noise; the best one is kept, all are in `by_seed`.
    micro_batch : int
        Patterns that go through the network together (8 on a CPU is about twice as fast as 64).

    Examples
    --------
    >>> MaximizationSettings.source_study().steps
    200
    """

    objective: Objective = "auto"
    stage: Stage = "after"
    steps: int = 200
    step_size: float = 2.0
    optimizer: Optimizer = "gradient-rms"
    decay: Decay = "linear"
    parameterization: Parameterization = "spectrum"
    jitter_ms: float = 25.0
    l1: float = 0.0
    l2: float = 0.0
    total_variation: float = 0.0
    low_hz: float | None = None
    high_hz: float | None = None
    level: float | Literal["sounds"] | None = "sounds"
    peak: float | None = 1.0
    extent: Extent = "auto"
    seeds: int = 1
    micro_batch: int = 8

    def __post_init__(self) -> None:
        for name, choices in (("objective", Objective), ("stage", Stage), ("optimizer", Optimizer), ("decay", Decay),
                              ("parameterization", Parameterization), ("extent", Extent)):  # fmt: skip
            one_of(getattr(self, name), get_args(choices), f"maximization {name}")
        for name in ("steps", "seeds", "micro_batch"):
            if not getattr(self, name) >= 1:
                raise InputError(f"maximization {name}: found {getattr(self, name)}, wanted 1 or more")
        for name in ("jitter_ms", "l1", "l2", "total_variation", "low_hz", "high_hz"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise InputError(f"maximization {name}: found {value}, wanted 0 or more")
        for name in ("step_size", "level", "peak"):
            value = getattr(self, name)
            if value is not None and value != "sounds" and not (isinstance(value, int | float) and value > 0):
                raise InputError(f"maximization {name}: found {value!r}, wanted a number above 0")
        if self.low_hz is not None and self.high_hz is not None and self.low_hz >= self.high_hz:
            raise InputError(f"maximization: band {self.low_hz} to {self.high_hz} Hz is empty; wanted low_hz < high_hz")

    @classmethod
    def source_study(cls) -> MaximizationSettings:
        """The source study's recipe: samples themselves, step 2, 200 steps, mean of one filter's map,
        nothing else."""
        return cls(parameterization="pixels", decay="none", jitter_ms=0.0, level=None, peak=None, extent="full")
