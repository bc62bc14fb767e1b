"""Describe one layer of a network. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from brainmap.checks import check_each, list_some
from brainmap.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

OUTPUT = "output"
"""The name of the layer that gives the logits."""
TIME, FREQUENCY, TOKEN, OTHER, PLACES = "time", "frequency", "token", "other", "positions"
"""What positions are; other is, say, heads, and positions what is not known."""


@dataclass(frozen=True)
class Layer:
    """Describe one layer of a network.

    Attributes
    ----------
    name : str
        Dotted name of the convolution or linear module; "output" stands for the logits, the output of the network.
    kind : str
        Class of that module; a parametrized module (weight norm, say) has the name of the class that it parametrizes.
    shape : tuple of int
        Shape of one item: `(channels, frames)`, `(channels, height, width)` or `(units,)`, whatever the order of the
        network's own axes; where that order is not known, the shape in the network.
    receptive_field : int [samples], or a tuple (height, width)
        Extent of the input that a unit sees, including parts outside its ends; None where the receptive field of an
        operation is not known.
    stride : int [samples], or a tuple
        Step between frames; 0 where units have no position because they see everything.
    center : float [samples], or a tuple
        Center of the first frame; frame i lies at `center + i * stride`.
    parameters : int
        Number of trainable parameters, including those of the normalization and the nonlinearity.
    order : tuple of int
        The axes of the network's own tensor (items included) that are the items, the units and the positions; empty
        where that is not known.
    classes : tuple of str
        Names of the class of the module and of its base classes.
    without : str
        For the output, the name of the softmax, log_softmax or sigmoid that is taken off; otherwise empty.
    positions : tuple of str
        What the axes after the units are: "time", "frequency", "token" (positions in time and frequency in one row),
        "other" (heads of an attention, say), or merely "positions" where that is not known.
    whole : tuple of bool
        For each axis of the input, whether a unit sees all of it, also where frames have positions, as behind an
        attention; empty where that is not known.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    receptive_field: int | tuple[int, ...] | None
    stride: int | tuple[int, ...] | None
    center: float | tuple[float, ...] | None
    parameters: int
    order: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()
    without: str = ""
    positions: tuple[str, ...] = ()
    whole: tuple[bool, ...] = ()

    @property
    def is_convolution(self) -> bool:
        """Tell whether the module is a convolution of torch or derived from one."""
        return "_ConvNd" in self.classes

    def along(self, axis: int = -1) -> tuple[int | None, int | None, float | None]:
        """Return the size, stride and center of the receptive field along one axis of the input [samples or frames]."""
        fields: Any = (self.receptive_field, self.stride, self.center)
        size, stride, center = (one[axis] if isinstance(one, tuple) else one for one in fields)
        return size, stride, center

    def arranged(self, activation: Tensor, n_items: int) -> Tensor:
        """Arrange a tensor of the network as (items, units, positions), without copying it.

        Raises
        ------
        InputError
            The roles of the axes are not known.
        """
        if len(self.order) == activation.ndim and activation.shape[self.order[0]] == n_items:
            return activation if self.order == tuple(range(activation.ndim)) else activation.permute(self.order)
        raise self.report_unknown_axes(activation.shape, n_items)

    def report_unknown_axes(self, shape: Sequence[int], n_items: int) -> InputError:
        """Make the error for a layer of which it is not known where the units are."""
        return InputError(
            f"layer {self.name!r} ({self.kind}) gives {tuple(shape)} for {n_items} item{'s' * (n_items > 1)}, and "
            "which of these axes holds its units is not known; name a layer inside it, or say which where activations "
            "are extracted: units_axis (in a study, [network] units_axis; on the command line, --units-axis)"
        )

    def with_units(self, axis: int) -> Layer:
        """Return the layer with its units on an axis of the network's own tensor.

        Axes whose roles are known keep them, and the axis that held the units is kept beside them. Of a layer without
        known axes the items are on the first one, and the positions in time on the only other one.

        Raises
        ------
        InputError
            No such axis; it holds the items or time; or several others are left, and it is not known which one holds
            time.
        """
        n = len(self.shape) + 1
        where = f"units_axis: expected an axis of units, got {axis} for layer {self.name!r} ({self.kind})"
        if not -n <= axis < n:
            raise InputError(f"{where}, which has {n} axes; give 1 to {n - 1}, or -1 for the last")
        axis %= n
        roles = dict(zip(self.order[2:], self.positions, strict=False)) if self.order else {}
        items = self.order[0] if self.order else 0
        if axis == items:
            raise InputError(f"{where}, which holds the items; give another")
        if roles.get(axis) in (TIME, TOKEN):
            raise InputError(f"{where}, which holds time, since its length follows that of the sound; give another")
        others = [k for k in range(n) if k not in (axis, items)]
        if not self.order and len(others) > 1:
            raise InputError(
                f"{where}, of whose axes {list_some(others)} it is not known which holds time, so that frequency might "
                "be averaged; name a layer inside it, or take pooling 'flatten'"
            )
        lengths = dict(zip(self.order[1:] or range(1, n), self.shape, strict=True))
        return replace(
            self,
            shape=tuple(lengths[k] for k in (axis, *others)),
            order=(items, axis, *others),
            positions=tuple(roles.get(k, OTHER if self.order else TIME) for k in others),
        )

    def describe_axes(self) -> str:
        """Say which of the network's own axes hold what.

        Examples
        --------
        >>> Layer("a", "GRU", (48, 21), None, None, None, 0, order=(0, 2, 1), positions=("time",)).describe_axes()
        "layer 'a' (GRU): units on axis 2 (48), time on axis 1 (21)"
        """
        named = zip(self.order[1:], self.shape, ("units", *self.positions), strict=False)
        return f"layer {self.name!r} ({self.kind}): " + ", ".join(f"{w} on axis {k} ({n})" for k, n, w in named)


def restore_layer(stored: Mapping[str, Any]) -> Layer:
    """Return the layer whose fields were stored as plain values, in which tuples are lists."""
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()}
    return Layer(**fields)


def place_units(layers: Sequence[Layer], axis: int | Mapping[str, int] | None) -> dict[str, Layer]:
    """Apply the axis of the units that the caller gave to the layers."""
    found = {one.name: one for one in layers}
    if axis is None:
        return found
    if isinstance(axis, int):
        return {name: one if one.order else one.with_units(axis) for name, one in found.items()}
    check_each(axis, list(found), "units_axis: layer")
    return {name: one.with_units(axis[name]) if name in axis else one for name, one in found.items()}
