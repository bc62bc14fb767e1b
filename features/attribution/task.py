"""Define the input and output of every attribution method, and compute logits of chosen classes and their gradients.

Choose the classes whose logits are explained.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, SupportsIndex, cast

import numpy as np
import torch
from torch import Tensor, nn

from brainmap.checks import check_choice, check_one_each, check_ranges, list_some
from brainmap.errors import InputError, RunError
from brainmap.features.layers.ear import tap
from brainmap.features.layers.layer import OUTPUT
from brainmap.features.layers.listing import list_layers
from brainmap.features.layers.running import find_broken_module, forward
from brainmap.features.sounds.batches import Sounds
from brainmap.features.sounds.inputs import InputAxes, get_silence
from brainmap.references import first_line

_UNSURE = 1e-6  # the second largest probability of a network that is not sure


@dataclass(frozen=True)
class Classes:
    """Hold classes by name, and their columns among the logits."""

    names: tuple[str, ...]
    columns: list[int]


def check_logits(logits: Tensor) -> None:
    """Raise an `InputError` unless an output is one number per sound and class."""
    if logits.ndim != 2:
        raise InputError(
            f"network: expected logits (n_items, n_classes), got {tuple(logits.shape)}; let it return logits"
        )


def choose_classes(logits: Tensor, classes: str | int | Sequence[str | int], names: Sequence[str] | None) -> Classes:
    """Resolve the classes asked for to names and positions, given logits (n_items, n_classes).

    Raises
    ------
    InputError
        Probabilities instead of logits, a number of names that differs from that of the outputs, or an unknown class.
    """
    check_logits(logits)
    n = logits.shape[1]
    if n > 1 and bool((logits >= 0).all()) and torch.allclose(logits.sum(1), logits.new_ones(len(logits))):
        raise InputError("network gives probabilities, whose gradients vanish where it is sure; give logits")
    if n > 1 and bool((logits <= 0).all()) and _are_log_probabilities(logits):
        raise InputError("network gives log-probabilities of a log-softmax that cannot be taken off; give logits")
    known = [str(i) for i in range(n)] if names is None else [str(name) for name in names]
    check_one_each(known, n, "class_names", "outputs")
    columns = [_find_column(wanted, known) for wanted in _list_classes(classes, known)]
    return Classes(tuple(known[c] for c in columns), columns)


def _are_log_probabilities(logits: Tensor) -> bool:
    """Tell whether values of zero or less are logarithms of probabilities.

    Logits such as (-1100, 0) look like those of a network that is sure of every sound, and count as logits.
    """
    shares = logits.double().exp()
    unsure = shares.topk(2).values[:, 1] > _UNSURE
    return bool(unsure.any()) and torch.allclose(shares.sum(1), shares.new_ones(len(shares)), atol=1e-5)


def _list_classes(classes: str | int | Sequence[str | int], known: Sequence[str]) -> Sequence[str | int]:
    """Return the classes as a sequence; one name or position stands for itself."""
    if isinstance(classes, str):
        return known if classes == "all" else [classes]
    try:
        wanted = list(cast("Sequence[str | int]", classes))
    except TypeError:
        return [cast(int, classes)]
    if not wanted:
        raise InputError("classes: expected 'all' or at least one class, got none")
    return wanted


def _find_column(wanted: object, known: Sequence[str]) -> int:
    if isinstance(wanted, str):
        return known.index(check_choice(wanted, known, "classes"))
    try:
        column = -1 if isinstance(wanted, bool | np.bool_) else operator.index(cast(SupportsIndex, wanted))
    except TypeError:
        column = -1
    if not 0 <= column < len(known):
        raise InputError(
            f"classes: expected names, or numbers from 0 to {len(known) - 1}, got {wanted!r:.80}; there are "
            f"{list_some(known, 24)}"
        )
    return column


SILENCE = "silence"


@dataclass(frozen=True, kw_only=True)
class Found:
    """Hold the attributions of one batch.

    Attributes
    ----------
    maps : Tensor (n, k, c, t) or (n, k, c, h, w)
    delta : Tensor (n, k), optional
        Difference between the sum of the map and the value that it explains.
    fidelity : Tensor (n, k), optional
        R squared of the simple model that approximates the network.
    effects : Tensor (n, k, n_windows, n_bands), optional
        Effect of each window and band, before it is spread over the samples.
    """

    maps: Tensor
    delta: Tensor | None = None
    fidelity: Tensor | None = None
    effects: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Explainer:
    """Represent a method that is prepared for one network and one set of sounds.

    Attributes
    ----------
    passes : int
        How often each sound goes through the network.
    run : callable (batch, targets, rows) -> Found
        Explain a batch; `rows` says which of all items the batch holds.
    windows : ndarray int (n_windows, n_axes, 2), optional [samples]
        Start and end (the first sample after it) of every window along every axis.
    bands : ndarray (n_bands, 2), optional [Hz]
    layer : str, optional
    """

    passes: int
    run: Callable[[Tensor, Tensor, slice], Found]
    windows: np.ndarray[Any, np.dtype[np.intp]] | None = None
    bands: np.ndarray[Any, np.dtype[np.float64]] | None = None
    layer: str | None = None


class Method(Protocol):
    """Describe the settings of a method, which can prepare the method for a task."""

    def begin(self, task: Task) -> Explainer: ...


@dataclass(kw_only=True)
class Task:
    """Describe one call of `attribute` for its method.

    Attributes
    ----------
    model : torch.nn.Module
        The network in eval mode, on `device`.
    sounds : Sounds
    example : Tensor (1, c, t) or (1, c, h, w)
        The first sound.
    targets : Tensor int64 (n_items, n_chosen)
        Positions of the classes that are explained.
    rate : float or None [Hz]
        Samples or frames per second of the input.
    axes : InputAxes or None
        What the axes of the input mean, where the sounds say it.
    rng : numpy.random.Generator
    layer : str or None
    batch_size : int
    device : str
    advance : callable
        It is called with the number of sounds that went through the network.
    """

    model: nn.Module
    sounds: Sounds
    example: Tensor
    targets: Tensor
    rate: float | None
    axes: InputAxes | None
    rng: np.random.Generator
    layer: str | None
    batch_size: int
    device: str
    advance: Callable[[int], None] = field(default=lambda steps: None)

    @property
    def on_pictures(self) -> bool:
        """Tell whether the input is a spectrogram whose axes are known."""
        return self.example.ndim == 4 and self.axes is not None and not self.axes.is_waveform

    @property
    def time_axis(self) -> int:
        """Return the axis of time of the input, counted from the end."""
        return -1 if self.axes is None else self.axes.time_axis

    def convert_to_samples(self, milliseconds: float, what: str) -> int:
        """Convert a duration to samples, at least one.

        Raises
        ------
        InputError
            The rate is not known, or the duration is not valid.
        """
        if self.rate is None:
            raise InputError(f"{what}: the sounds are an array without a rate; give rate= in Hz")
        check_ranges(what, ("more than 0 ms", milliseconds, 0 < milliseconds < np.inf))
        return max(1, round(milliseconds / 1000 * self.rate))

    def get_baseline(self, value: Any, batch: Tensor | None = None) -> Tensor:
        """Bring a baseline, "silence", a number or an array, to the shape of a sound: the first, or one of a batch.

        Raises
        ------
        InputError
        """
        if isinstance(value, str) and value == SILENCE:
            value = get_silence(self.sounds)
        shape = tuple((self.example if batch is None else batch).shape[1:])
        try:
            given = torch.as_tensor(np.asarray(value, np.float32), device=self.device)
            base = given.broadcast_to(shape)
        except (RuntimeError, TypeError, ValueError):
            raise InputError(
                f"baseline: expected {SILENCE!r}, a number or an array of shape {shape}, got {value!r:.60}"
            ) from None
        if not bool(base.isfinite().all()):
            raise InputError("baseline: holds NaN or infinite values")
        return base

    def split_copies(self, copies: int, n: int) -> Iterator[slice]:
        """Split changed copies of n sounds into parts, so that no forward pass takes much more than a batch."""
        size = max(1, self.batch_size // n)
        yield from (slice(start, min(start + size, copies)) for start in range(0, copies, size))

    def compute_scores(self, copies: Tensor, targets: Tensor) -> Tensor:
        """Compute logits (m, n, k) of the targets for changed copies (m, n, c, ...) of n sounds."""
        with torch.no_grad():
            logits = compute_logits(self.model, copies.flatten(0, 1)).reshape(*copies.shape[:2], -1)
        self.advance(copies.shape[0] * copies.shape[1])
        return logits.gather(2, targets.expand(len(copies), -1, -1))

    def compute_gradients(self, batch: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Compute gradients (n, k, c, ...) of the target logits, and these logits (n, k), in one forward pass.

        Raises
        ------
        RunError
            The logits do not depend on the sounds.
        """
        with torch.enable_grad():
            x = batch.detach().clone().requires_grad_()
            chosen = compute_logits(self.model, x).gather(1, targets)
            found = [
                self._differentiate(chosen[:, j], x, last=j + 1 == chosen.shape[1]) for j in range(chosen.shape[1])
            ]
        self.advance(len(batch))
        return torch.stack(found, 1), chosen.detach()

    def _differentiate(self, logits: Tensor, x: Tensor, *, last: bool) -> Tensor:
        gradient = None
        if logits.requires_grad:
            try:  # items are independent in eval mode, so one backward pass serves the batch
                (gradient,) = torch.autograd.grad(logits.sum(), x, retain_graph=not last, allow_unused=True)
            except RuntimeError as error:
                raise RunError(f"attribution: torch cannot differentiate the network: {first_line(error)}") from error
        if gradient is None:
            raise RunError("attribution: no gradient leads from the logits to the sounds; use 'occlusion' or 'lime'")
        return gradient


def compute_logits(model: nn.Module, batch: Tensor) -> Tensor:
    """Compute the logits of a batch, without a softmax at the end of the network."""
    with tap(model, OUTPUT) as heard:
        forward(model, batch.clone())  # a network may change its input in place
        return heard[OUTPUT]


def find_not_finite(model: nn.Module, sound: Tensor, target: int) -> str:
    """Find the first module whose activations, or else the last whose gradients, are not finite for `(1, c, ...)`.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(12, 2)).eval()
    >>> _ = net[0].weight.data.fill_(float("nan"))
    >>> find_not_finite(net, torch.zeros(1, 1, 8), 0)
    "activations of '0'"
    """
    broken = find_broken_module(model, sound)
    if broken is not None:
        return f"activations of {broken!r}"
    names = [layer.name for layer in list_layers(model, sound) if layer.name != OUTPUT]
    with torch.enable_grad(), tap(model, [*names, OUTPUT], gradient=True) as heard:
        x = sound.detach().clone().requires_grad_()
        forward(model, x.clone())
        logit = heard[OUTPUT][0, target]
        kept = [heard[name] for name in names]
        found = torch.autograd.grad(logit, kept, allow_unused=True) if kept else ()
    for name, gradient in zip(reversed(names), reversed(found), strict=True):
        if gradient is not None and not bool(gradient.isfinite().all()):
            return f"gradient at {name!r}"
    return "gradient at the sound"
