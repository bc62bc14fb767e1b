"""Build the networks of the zoo: the 1-D raw-waveform CNNs of the source study with their exact parameter counts, and a
2-D counterpart.

Every network is a `torch.nn.Sequential` with named stages: `conv3`, `norm3`, `act3`, `pool3`, ..., `output`.
It takes waveforms `(n, 1, n_samples)` and gives logits `(n, n_classes)`, without a softmax.

`base` was derived from a 2-D network whose 5 x 5 filters and 2 x 2 poolings became 25 and 4 samples long. `base-2d`
reverses this: it takes log-mel spectrograms `(n, 1, 64, n_frames)` with a frame every 125 samples (128 frames per
second at 16 kHz, as `brainmap.features.sounds.spectrogram.log_mel` computes them). It ends in 2 x 4 = 8 positions as
`base` ends in 8 frames, so that both have the same 1,855,056 parameters in the same places.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from brainmap.checks import check_choice, check_literals, check_ranges, list_some, suggest_word
from brainmap.errors import InputError
from brainmap.features.networks.architectures import (
    ARCHITECTURES,
    N_SAMPLES,
    Architecture,
    compute_input_shape,
    network_names,
)
from brainmap.features.sounds.spectrogram import RATE
from brainmap.references import find_function, first_line, is_reference
from brainmap.types import Head, Nonlinearity, Variant

_MODULES: dict[int, dict[str, type[nn.Module]]] = {
    1: {"conv": nn.Conv1d, "norm": nn.BatchNorm1d, "pool": nn.MaxPool1d, "gap": nn.AdaptiveAvgPool1d,
        "gmp": nn.AdaptiveMaxPool1d},
    2: {"conv": nn.Conv2d, "norm": nn.BatchNorm2d, "pool": nn.MaxPool2d, "gap": nn.AdaptiveAvgPool2d,
        "gmp": nn.AdaptiveMaxPool2d},
}  # fmt: skip
NONLINEARITIES: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "elu": nn.ELU, "tanh": nn.Tanh}


def build_network(
    name: str,
    *,
    variant: Variant = "plain",
    n_classes: int = 16,
    activation: Nonlinearity = "relu",
    head: Head = "flatten",
    kernel: int | None = None,
    n_samples: int = N_SAMPLES,
    dropout: float | None = None,
    shape: tuple[int, int] | None = None,
) -> nn.Sequential:
    """Build one network of the zoo, with fresh weights from torch's own random state.

    Parameters
    ----------
    name : str
        `base`, `ch32`, `ch64`, `vgg` or `ch128`; `base-2d` takes spectrograms.
    variant : {"plain", "do", "bn", "do+bn"}
        Dropout before the linear layers, batch normalization after each convolution, both or none.
    n_classes : int
    activation : {"relu", "elu", "tanh"}
    head : {"flatten", "gap", "gmp"}
        How the last map becomes a vector: all frames, or their mean or maximum, as CAM requires (then without hidden
        layers).
    kernel : int, optional [samples]
        Filter length of the long-filter variants, which must be odd where the network pads; for `base-2d`, the side of
        its square filters.
    n_samples : int [samples]
        Length of the input; `base-2d` takes a frame for every 125 samples.
    dropout : float, optional
        Dropout probability, where it differs from the network's own.
    shape : tuple of int, optional
        Bands and frames of the input of `base-2d`, where these are not 64 and `n_samples // 125`.

    Returns
    -------
    torch.nn.Sequential
        Takes float32 `(n, 1, n_samples)`, or `(n, 1, 64, n_samples // 125)`; gives logits `(n, n_classes)`.

    Raises
    ------
    InputError
        An unknown choice, or an input too short for the pooling.

    Examples
    --------
    >>> net = build_network("ch32")
    >>> sum(p.numel() for p in net.parameters())
    94768
    """
    spec = ARCHITECTURES[check_choice(name, network_names(), "network")]
    check_literals((variant, Variant, "variant"), (activation, Nonlinearity, "activation"), (head, Head, "head"))
    size = spec.kernel if kernel is None else kernel
    check_ranges(
        f"network {name}",
        ("n_classes of 1 or more", n_classes, n_classes >= 1),
        ("a kernel of 1 or more", size, size >= 1),
        ("a dropout from 0 to below 1", dropout, 0 <= (dropout or 0) < 1),
        ("an odd kernel, so that padding keeps the length", size, not spec.same or size % 2 == 1),
    )
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    if shape is not None and spec.dims == 1:
        raise InputError(
            f"network {name}: expected waveforms, since it has one dimension, got an input of shape {shape}"
        )
    taken = compute_input_shape(spec, n_samples) if shape is None else shape
    frames = _add_convolutions(stages, spec, size, taken, "bn" in variant, NONLINEARITIES[activation])
    if frames < 1:
        raise InputError(f"network {name}: {n_samples} samples leave no frame after its pooling; give longer sounds")
    probability = (spec.dropout if dropout is None else dropout) if "do" in variant else 0.0
    _add_head(stages, spec, head, frames, n_classes, probability, NONLINEARITIES[activation])
    return nn.Sequential(stages)


def _add_convolutions(
    stages: OrderedDict[str, nn.Module],
    spec: Architecture,
    kernel: int,
    shape: Sequence[int],
    norm: bool,
    act: type[nn.Module],
) -> int:
    """Add the stages and return the number of positions of their last map."""
    made, lengths, width, poolings = _MODULES[spec.dims], list(shape), 1, 0
    for i, channels in enumerate(spec.channels, start=1):
        padding = kernel // 2 if spec.same else 0
        stages[f"conv{i}"] = made["conv"](width, channels, kernel, padding=padding)
        lengths = [length + 2 * padding - kernel + 1 for length in lengths]
        if norm:
            stages[f"norm{i}"] = made["norm"](channels)
        stages[f"act{i}"] = act()
        if i % spec.per_pool == 0 and poolings < spec.pools:
            poolings += 1
            stages[f"pool{poolings}"] = made["pool"](spec.pool, ceil_mode=spec.ceil_mode)
            lengths = [-(-n // spec.pool) if spec.ceil_mode else n // spec.pool for n in lengths]
        width = channels
    return math.prod(max(length, 0) for length in lengths)


def _add_head(
    stages: OrderedDict[str, nn.Module],
    spec: Architecture,
    head: Head,
    frames: int,
    n_classes: int,
    probability: float,
    act: type[nn.Module],
) -> None:
    width = spec.channels[-1] * (frames if head == "flatten" else 1)
    if head != "flatten":
        stages["pool"] = _MODULES[spec.dims][head](1)
    stages["flatten"] = nn.Flatten()
    for i, hidden in enumerate(spec.hidden if head == "flatten" else (), start=1):
        stages[f"fc{i}"] = nn.Linear(width, hidden)
        stages[f"act_fc{i}"] = act()
        if probability:
            stages[f"dropout{i}"] = nn.Dropout(probability)
        width = hidden
    if probability and not (spec.hidden and head == "flatten"):
        stages["dropout"] = nn.Dropout(probability)
    stages["output"] = nn.Linear(width, n_classes)


@dataclass(frozen=True, kw_only=True)
class NetworkDescription:
    """Describe one network as `brainmap networks` prints it."""

    name: str
    variant: str
    parameters: int
    input: tuple[int, ...]  # channels, samples; or channels, mels, frames
    rate: int  # Hz
    layers: tuple[dict[str, object], ...]
    accuracy_in_source_study: str

    def as_dict(self) -> dict[str, object]:
        """Return the description as plain values, for JSON."""
        return asdict(self)


def describe_network(name: str, *, variant: Variant | None = None) -> NetworkDescription:
    """Describe the parameters, input, layers and receptive fields of one network of the zoo.

    `variant` defaults to the one counted in the source study: batch normalization for ch128, plain for the others.

    Parameters
    ----------
    name : str
        A network of the zoo, as `network_names` lists them.
    variant : {"plain", "do", "bn", "do+bn"}, optional
        By default the one counted in the source study: batch normalization for ch128, plain for the others.

    Returns
    -------
    NetworkDescription
        Name, variant, parameters, input, rate and layers, with shapes, strides and receptive fields [samples].

    Examples
    --------
    >>> describe_network("ch128").parameters
    2071184
    """
    from brainmap.features.layers.listing import list_layers

    chosen: Variant = variant or ("bn" if name == "ch128" else "plain")
    model = build_network(name, variant=chosen)
    taken = (1, *compute_input_shape(ARCHITECTURES[name], N_SAMPLES))
    layers = list_layers(model, torch.zeros(1, *taken))
    return NetworkDescription(
        name=name,
        variant=chosen,
        parameters=count_parameters(model),
        input=taken,
        rate=RATE,
        layers=tuple(asdict(layer) for layer in layers),
        accuracy_in_source_study=_say_accuracies(ARCHITECTURES[name]),
    )


def _say_accuracies(spec: Architecture) -> str:
    """Say what each variant reached in the source study, with the dropout that it had."""
    names = {v: v.upper().replace("DO", f"DO({spec.dropout:g})") for v in spec.accuracy}
    return ", ".join(f"{names[v]} {share:.4f}" for v, share in spec.accuracy.items()) or "not reported"


def count_parameters(model: nn.Module) -> int:
    """Count the trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def initialize(model: nn.Module, rng: torch.Generator) -> None:
    """Draw every weight again from `rng`, as torch's own defaults do, so that a seed alone fixes the network."""
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            bound = fan_in**-0.5
            with torch.no_grad():
                module.weight.uniform_(-bound, bound, generator=rng)
                if module.bias is not None:
                    module.bias.uniform_(-bound, bound, generator=rng)


def call_builder(reference: str, *, beside: str | Path = "") -> nn.Module:
    """Call `module:function`, which must return a `torch.nn.Module`; it is found as `find_function` finds it."""
    if not is_reference(reference):
        raise InputError(
            f"architecture: expected one of {list_some(network_names())} or 'module:function', got {reference!r}"
            f"{suggest_word(reference, network_names())}"
        )
    function = find_function(reference, "architecture", beside=beside)
    try:
        model = function()
    except (Exception, SystemExit) as error:  # a user's function may raise anything
        raise InputError(
            f"architecture: {reference} failed ({type(error).__name__}: {first_line(error)}); "
            "name a function that works without arguments"
        ) from None
    if not isinstance(model, nn.Module):
        raise InputError(
            f"architecture: expected {reference} to return a torch.nn.Module, got an object of type "
            f"{type(model).__name__}"
        )
    return model
