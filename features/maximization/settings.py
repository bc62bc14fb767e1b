"""Define the settings of activation maximization, with their defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from brainmap.checks import check_choice, check_literals, check_ranges
from brainmap.errors import InputError
from brainmap.types import Decay, Extent, Objective, Optimizer, Parameterization, Preset, Stage

_NOT_NEGATIVE = (
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
)


@dataclass(frozen=True, kw_only=True)
class MaximizationSettings:
    """Hold the settings that determine how patterns are optimized.

    Parameters
    ----------
    objective : {"auto", "channel", "neuron", "layer", "logit", "direction"}
        "channel" is the mean of a filter's map; "neuron" its central position; "layer" the mean square of the whole
        layer (deep dream); "logit" one output unit; "direction" the component of the layer's mean over positions along
        a given direction. "auto" is the direction where some are given, the logit of a layer with one number per unit,
        else the channel.
    cosine_power : float
        For directions: the objective is multiplied by max(cosine, 0.1) to this power, so that a pattern that drives all
        units scores lower than one that drives the direction alone.
    stage : {"before", "after"}
        Side of the layer's nonlinearity. A silent unit is optimized before it until it becomes active, and a dead unit
        to the end.
    steps : int
        Number of steps of the ascent.
    step_size : float
        The step size is in units of the free parameters, which start as noise of variance 1.
    optimizer : {"gradient-rms", "adam"}
        Gradient ascent with the gradient of each unit divided by its root mean square, or Adam.
    decay : {"linear", "none"}
        Steps that shrink to zero converge to the optimum; steps of constant size oscillate around it.
    parameterization : {"auto", "spectrum", "noise-vocoder", "pixels", "1/f", "decoder"}
        Fourier coefficients scaled by the mean spectrum of the sounds (without sounds: the long-term average spectrum
        of speech); envelopes of bands of noise with this spectrum, which is drawn anew in every step; plain samples;
        Fourier coefficients scaled by 1/f; or the latent of a decoder (chosen by giving one). "auto" is the
        noise vocoder for layers of one number per unit, such as classes, on waveforms of a quarter of a second or
        more, whose units hear a whole sound, else the spectrum. The channels of pictures (c, h, w) then correlate as
        those of the pictures that are given.
    jitter_ms : float [ms]
        The pattern is shifted circularly by up to this much, at random in every step.
    l1, l2, lp : float
        Weights of mean |x|, mean x^2 and (mean |x|^p)^(1/p), which are subtracted from the objective. Under a fixed
        level, mean x^2 is fixed too.
    lp_power : float
        Exponent p of `lp`, 1 or more; the larger it is, the more the highest samples dominate.
    total_variation : float
        Weight of mean |x[t + 1] - x[t]|, which is subtracted too.
    latent_l2 : float
        For decoders: weight of the latent's mean square, relative to the size of the objective, so that it means the
        same for every unit.
    diversity : float
        Weight that drives the patterns of one unit's `seeds` apart: it multiplies the mean cosine between the Gram
        matrices (channel x channel) of their last map up to the layer, relative to the size of the objective.
    low_hz, high_hz : float, optional [Hz]
        Band limits of the pattern, for waveforms only.
    level : "sounds", float or None
        Root mean square of every pattern: that of the sounds (of their loudest stretch as long as the pattern; 0.1
        without sounds), a number, or None. With None the level is free, and only the start has that of the sounds.
    peak : "auto", float or None
        Patterns beyond it are scaled down, never clipped. "auto" is 1, full scale, for waveforms; None sets no limit.
    extent : {"auto", "receptive-field", "full"}
        Length of the input: the receptive field with room for the jitter on both sides, or the whole input. "auto"
        takes the former for convolutional layers when it is shorter.
    seeds : int
        Number of starts from different noise; the best one is kept, and all are in `by_seed`.
    draws : int
        Number of random patterns of the prior of which the best one of each unit is kept beside the result, for layers
        of one number for each unit: what the prior reaches without ascent. With a decoder the ascent begins at the best
        ones, because many latents lie where a class has no gradient.
    micro_batch : int
        Number of patterns that go through the network together (8 on a CPU is about twice as fast as 64).
    compiled : bool
        Pool with compiled kernels, which give the same patterns up to twice as fast, and whose compiler takes half a
        second and 100 MB. False pays for a few patterns alone.

    References
    ----------
    Olah, Mordvintsev and Schubert (2017), doi:10.23915/distill.00007 (Fourier parameterization, decorrelated color,
    jitter, diversity);
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
    parameterization: Parameterization = "auto"
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
    draws: int = 0
    micro_batch: int = 8
    compiled: bool = True

    def __post_init__(self) -> None:
        check_literals(
            (self.objective, Objective, "maximization objective"),
            (self.stage, Stage, "maximization stage"),
            (self.optimizer, Optimizer, "maximization optimizer"),
            (self.decay, Decay, "maximization decay"),
            (self.parameterization, Parameterization, "maximization parameterization"),
            (self.extent, Extent, "maximization extent"),
        )
        counts = {name: getattr(self, name) for name in ("steps", "seeds", "micro_batch")}
        weights = {name: getattr(self, name) for name in _NOT_NEGATIVE}
        check_ranges(
            "maximization",
            *((f"{name} of 1 or more", n, n >= 1) for name, n in counts.items()),
            ("draws of 0 or more", self.draws, self.draws >= 0),
            *((f"{name} of 0 or more", w, w is None or 0 <= w < math.inf) for name, w in weights.items()),
        )
        for name, word in (("step_size", None), ("level", "sounds"), ("peak", "auto")):
            value = getattr(self, name)
            number = isinstance(value, int | float) and 0 < value < math.inf
            if not number and value != word and (value is not None or name == "step_size"):
                also = f", or {word!r}" if word else ""
                raise InputError(f"maximization: expected {name} above 0{also}, got {value!r}")
        check_ranges(
            "maximization",
            (
                "lp_power of 1 or more (below 1 it is no norm, and its gradient has no bound at silence)",
                self.lp_power,
                1 <= self.lp_power < math.inf,
            ),
            (
                "low_hz < high_hz",
                (self.low_hz, self.high_hz),
                self.low_hz is None or self.high_hz is None or self.low_hz < self.high_hz,
            ),
            ("2 seeds or more with diversity", self.seeds, not self.diversity or self.seeds >= 2),
        )

    @classmethod
    def source_study(cls) -> MaximizationSettings:
        """Return the source study's recipe: plain samples, step 2, 200 steps, mean of one filter's map, no more."""
        return cls(parameterization="pixels", decay="none", jitter_ms=0.0, level=None, peak=None, extent="full")

    @classmethod
    def of(cls, preset: Preset, **changes: Any) -> MaximizationSettings:
        """Return a recipe by its name, with changes.

        "audio" is the default; "source" is that of the source study; "generative" is for the latent of a decoder;
        "metamer" is for `match_activation`.

        Raises
        ------
        InputError
            There is no such recipe, or a value is not valid.
        """
        recipes = {
            "audio": cls(),
            "source": cls.source_study(),
            "generative": cls(parameterization="decoder", optimizer="adam", step_size=0.1, latent_l2=0.1),
            "metamer": cls(
                parameterization="spectrum",
                optimizer="adam",
                step_size=0.1,
                jitter_ms=0.0,
                level=None,
                peak=None,
                extent="full",
            ),
        }
        return replace(recipes[check_choice(preset, get_args(Preset), "preset")], **changes)
