"""Define the rules of layer-wise relevance propagation for one layer, and composites of them.

`split_contributions` gives the formulas. Pooling by maximum has a rule of its own, `winner`: all relevance goes to the
input with the maximum.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import get_args

import torch
from torch import Tensor

from brainmap.checks import check_choice, check_ranges, list_some, suggest_word
from brainmap.errors import InputError
from brainmap.types import RuleName

_NO_NEGATIVE = ("gamma", "alpha-beta")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Describe one rule and its parameters; the parameters of other rules are ignored.

    Attributes
    ----------
    name : {"epsilon", "z", "z+", "gamma", "alpha-beta", "flat", "w2", "box", "winner"}
        `split_contributions` gives the formula of each rule.
    epsilon : float
        For "epsilon", "gamma" and "box"; in units of the layer's output before its nonlinearity.
    gamma : float
    alpha, beta : float
        They satisfy alpha - beta = 1.
    low, high : float
        Bounds of the input of a "box" layer.

    Examples
    --------
    >>> Rule(name="gamma", gamma=0.5).name
    'gamma'
    """

    name: RuleName
    epsilon: float = 1e-6
    gamma: float = 0.25
    alpha: float = 2.0
    beta: float = 1.0
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        check_choice(self.name, get_args(RuleName), "rule")
        check_ranges(
            f"rule {self.name}",
            ("an epsilon of 0 or more", self.epsilon, self.epsilon >= 0),
            ("a gamma of 0 or more", self.gamma, self.gamma >= 0),
            ("a beta of 0 or more", self.beta, self.beta >= 0),
            (
                "alpha - beta of 1, without which relevance would grow or vanish from layer to layer",
                self.alpha - self.beta,
                abs(self.alpha - self.beta - 1) <= 1e-9,
            ),
            ("low below high", (self.low, self.high), self.low < self.high),
        )

    def check_input(self, heard: Tensor, layer: str) -> None:
        """Check that the rule is defined for what a layer hears.

        Raises
        ------
        InputError
            It is not: values are negative, or outside of the box.
        """
        if self.name in _NO_NEGATIVE and bool((heard < 0).any()):
            raise InputError(
                f"lrp: {layer} hears negative values (down to {float(heard.min()):.3g}), on which the rule "
                f"{self.name!r} divides by sums that cancel and explodes without a word; give this layer 'epsilon' or "
                "'z+', or 'flat' or 'w2' if it is the first"
            )
        if self.name == "box" and (float(heard.min()) < self.low or float(heard.max()) > self.high):
            raise InputError(
                f"lrp: {layer} hears {float(heard.min()):.3g} to {float(heard.max()):.3g}, outside the box "
                f"{self.low:g} to {self.high:g} of its rule; give the box the range of the input"
            )


@dataclass(frozen=True)
class Part:
    """Group contributions that share relevance among themselves: a sum over pairs of input x weight, and a bias."""

    share: float
    pairs: tuple[tuple[Tensor, Tensor], ...]
    bias: Tensor | None
    epsilon: float = 0.0


def split_contributions(rule: Rule, heard: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Part, ...]:
    """Compute the contributions of a rule in a layer that is linear in `heard`, with its weights and bias.

    A unit j with relevance R_j gives input i a share that is proportional to its contribution c_ij,
    R_ij = R_j c_ij / sum_i c_ij. The rules define the contribution for inputs a, weights w and bias b:

    * `epsilon`: a w, with the sum moved away from zero by epsilon (epsilon 0 is LRP-0, also called z)
    * `z+`: the positive part of a w (alpha 1, beta 0)
    * `gamma`: a (w + gamma max(w, 0)), for inputs that are not negative
    * `alpha-beta`: alpha times the share among positive contributions minus beta times that among negative ones
    * `flat`: 1, whatever the input;  `w2`: w squared;  both for a first layer whose input has no natural zero
    * `box`: a w - low max(w, 0) - high min(w, 0), for an input that stays between low and high

    A bias is a contribution like any other, with the sign that the rule considers; `flat`, `w2` and `box` ignore it.
    """
    up, down = weight.clamp(min=0), weight.clamp(max=0)
    if rule.name in ("epsilon", "z"):
        return (Part(1.0, ((heard, weight),), bias, rule.epsilon if rule.name == "epsilon" else 0.0),)
    if rule.name == "gamma":
        lifted = None if bias is None else bias + rule.gamma * bias.clamp(min=0)
        return (Part(1.0, ((heard, weight + rule.gamma * up),), lifted, rule.epsilon),)
    if rule.name == "flat":
        return (Part(1.0, ((torch.ones_like(heard), torch.ones_like(weight)),), None),)
    if rule.name == "w2":
        return (Part(1.0, ((torch.ones_like(heard), weight.square()),), None),)
    if rule.name == "box":
        low, high = torch.full_like(heard, -rule.low), torch.full_like(heard, -rule.high)
        return (Part(1.0, ((heard, weight), (low, up), (high, down)), None, rule.epsilon),)
    above, below = heard.clamp(min=0), heard.clamp(max=0)
    gains = Part(1.0, ((above, up), (below, down)), None if bias is None else bias.clamp(min=0))
    if rule.name == "z+" or rule.beta == 0:
        return (gains,)
    losses = Part(-rule.beta, ((above, down), (below, up)), None if bias is None else bias.clamp(max=0))
    return (replace(gains, share=rule.alpha), losses)


@dataclass(frozen=True, kw_only=True)
class Composite:
    """Assign a rule to each layer.

    Attributes
    ----------
    convolution, dense : Rule
    first : Rule, optional
        Rule of layers that receive the input itself, whatever their kind; by default the rule of their kind.
    pooling : Rule
        Rule of averages and sums, including the sum at the end of a residual branch.
    maximum : Rule
        Rule of pooling by maximum: "winner", or another rule by which all inputs of a window share.
    layers : mapping of str to Rule
        Names or globs of modules, which take precedence over all of the above; the first that fits counts.
    """

    convolution: Rule
    dense: Rule
    first: Rule | None = None
    pooling: Rule = Rule(name="epsilon")
    maximum: Rule = Rule(name="winner")
    layers: Mapping[str, Rule] = field(default_factory=lambda: MappingProxyType({}))

    def rule(self, layer: str, kind: str, *, first: bool = False) -> Rule:
        """Return the rule of a layer of a kind: "convolution", "dense", "pooling" or "maximum".

        Raises
        ------
        InputError
            "winner" for a layer that is not a pooling by maximum.
        """
        named = next((r for glob, r in self.layers.items() if fnmatch.fnmatchcase(layer, glob)), None)
        by_kind: Rule = getattr(self, kind)
        weighted = kind in ("convolution", "dense")
        found = named or (self.first if first and weighted and self.first else by_kind)
        if found.name == "winner" and kind != "maximum":
            raise InputError(
                f"lrp: the rule 'winner' is for pooling by maximum, and {layer!r} is none; give it 'epsilon' or 'z+'"
            )
        return found

    def check_layers(self, known: list[str]) -> None:
        """Check that every name and glob fits a module.

        Raises
        ------
        InputError
            One fits none.
        """
        for glob in self.layers:
            if not fnmatch.filter(known, glob):
                raise InputError(
                    f"rules: nothing fits {glob!r}{suggest_word(glob, known)}; the network has {list_some(known, 24)}"
                )


_EPSILON, _PLUS, _FLAT, _W2 = Rule(name="epsilon"), Rule(name="z+"), Rule(name="flat"), Rule(name="w2")
_ZERO, _GAMMA, _ALPHA_BETA = Rule(name="z"), Rule(name="gamma"), Rule(name="alpha-beta")

COMPOSITES: Mapping[str, Composite] = MappingProxyType(
    {
        "epsilon-plus": Composite(convolution=_PLUS, dense=_EPSILON, first=_W2, pooling=_PLUS),
        "epsilon-plus-flat": Composite(convolution=_PLUS, dense=_EPSILON, first=_FLAT, pooling=_PLUS),
        "epsilon-gamma-box": Composite(convolution=_GAMMA, dense=_EPSILON, first=Rule(name="box")),
        "epsilon-alpha2-beta1-flat": Composite(convolution=_ALPHA_BETA, dense=_EPSILON, first=_FLAT),
        "epsilon": Composite(convolution=_EPSILON, dense=_EPSILON),
        "z": Composite(convolution=_ZERO, dense=_ZERO, pooling=_ZERO),
    }
)


def make_composite(rules: str | Composite | Mapping[str, str | Rule]) -> Composite:
    """Return a composite, given its name, itself, or rules of layers by name; other layers take "epsilon-plus".

    Examples
    --------
    >>> make_composite({"conv1": "flat"}).rule("conv1", "convolution").name
    'flat'
    >>> make_composite({"conv1": "flat"}).rule("conv2", "convolution").name
    'z+'
    """
    if isinstance(rules, Composite):
        return rules
    if isinstance(rules, str):
        return COMPOSITES[check_choice(rules, list(COMPOSITES), "rules")]
    layers = {glob: r if isinstance(r, Rule) else Rule(name=r) for glob, r in rules.items()}  # type: ignore[arg-type]
    return replace(COMPOSITES["epsilon-plus"], layers=MappingProxyType(layers))
