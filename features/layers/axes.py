"""Find which axis of an activation holds the items, which the units, and which the positions (time; height and width).

Convolutions have units second, `(n, units, time)`; linear layers, normalizations and transformer blocks have them last,
`(n, time, units)`; and some modules keep time first, `(time, n, units)`. Axes are therefore followed from operation to
operation, and the network is run again on other lengths: an axis that changes with the length of the input holds
positions, and one that changes with the number of items holds items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from brainmap.features.layers.layer import FREQUENCY, OTHER, PLACES, TIME, TOKEN

Names = tuple[str, ...]
ITEMS, UNITS, UNKNOWN = "items", "units", "?"

_UNITS_SECOND = frozenset(
    {
        "conv1d",
        "conv2d",
        "conv3d",
        "conv_transpose1d",
        "conv_transpose2d",
        "conv_transpose3d",
        "batch_norm",
        "instance_norm",
        "group_norm",
    }
)
_UNITS_LAST = frozenset({"linear", "lstm", "gru", "rnn_tanh", "rnn_relu"})
_ATTENTIONS = {
    "multi_head_attention_forward": (PLACES, ITEMS, UNITS),  # torch brings its input to this order
    "transformer_encoder_layer_fwd": (ITEMS, PLACES, UNITS),
}
_REDUCTIONS = frozenset(
    {
        "mean",
        "sum",
        "amax",
        "amin",
        "max",
        "min",
        "median",
        "std",
        "var",
        "norm",
        "logsumexp",
        "argmax",
        "prod",
    }
)
_SWAPS = frozenset({"transpose", "swapaxes", "swapdims"})
_MIXING = frozenset({"matmul", "bmm", "baddbmm", "mm", "addmm", "einsum", "reshape", "view", "get", "tensordot"})


class AxisNames:
    """Record the role of every axis of every tensor of one forward pass, operation by operation.

    Parameters
    ----------
    example : Tensor (n, c, t) or (n, c, h, w)
        The input of the network.
    inputs : tuple of str
        What the axes after the second are.
    """

    def __init__(self, example: Tensor, inputs: Names | None = None) -> None:
        # the tensors are kept, so that Python never reuses an id
        self._known: dict[int, tuple[Tensor, Names]] = {}
        self.inputs: Names = (FREQUENCY, TIME)[4 - example.ndim :] if inputs is None else inputs
        self.set(example, (ITEMS, UNITS, *self.inputs))

    def set(self, tensor: Tensor, names: Names | None) -> None:
        if names is not None and len(names) == tensor.ndim:
            self._known[id(tensor)] = (tensor, names)

    def of(self, tensor: Tensor) -> Names | None:
        """Return the roles of a tensor's axes, or None where they are not known."""
        found = self._known.get(id(tensor))
        return None if found is None else found[1]

    def follow(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> None:
        """Record the axes of the result of an operation; of several tensors, those of the first."""
        first = out[0] if isinstance(out, tuple | list) and len(out) else out
        given = args[0] if args else kwargs.get("input")
        if isinstance(given, tuple | list) and given:  # torch.cat([x, y])
            args, given = (*given, *args[1:]), given[0]
        if isinstance(first, Tensor) and isinstance(given, Tensor):
            names = self._find_roles(name, given, args, kwargs, first)
            self._known.pop(id(first), None)  # the entry describes the tensor before it was changed in place
            self.set(first, names)

    def _find_roles(
        self, name: str, given: Tensor, args: Sequence[Any], kwargs: Mapping[str, Any], out: Tensor
    ) -> Names | None:
        known = self._known.get(id(given), (given, None))[1]
        if name in _UNITS_SECOND and out.ndim > 2:
            before = known[2:] if known and len(known) == out.ndim else (PLACES,) * (out.ndim - 2)
            return (known[0] if known else UNKNOWN, UNITS, *(PLACES if k in (ITEMS, UNITS) else k for k in before))
        if name in _UNITS_LAST or (known is None and name == "layer_norm"):
            before = known[:-1] if known else (UNKNOWN,) * (out.ndim - 1)
            return (*(PLACES if one == UNITS else one for one in before), UNITS)
        if known is None and name in _ATTENTIONS:
            return _ATTENTIONS[name]
        if name == "embedding":
            return (*(self.of(given) or (UNKNOWN,) * given.ndim), UNITS)
        if name in _MIXING:
            return None
        if known is None:
            return self._find_same_shape(args, kwargs, out)
        moved = _move_roles(name, known, given, args[1:], kwargs, out)
        return moved if moved is not None else self._find_same_shape(args, kwargs, out)

    def _find_same_shape(self, args: Sequence[Any], kwargs: Mapping[str, Any], out: Tensor) -> Names | None:
        """Find the roles of an input that has the shape of the output, or differs from it only in lengths of axes."""
        inputs = [one for one in (*args, *kwargs.values()) if isinstance(one, Tensor)]
        same = {self.of(one) for one in inputs if one.shape == out.shape}
        found = same or {self.of(one) for one in inputs if one.ndim == out.ndim}
        return _merge_roles([one for one in found if one is not None])


def _merge_roles(found: Sequence[Names]) -> Names | None:
    """Merge the roles of several inputs of one operation; None where they contradict one another.

    Examples
    --------
    >>> _merge_roles([("items", "time", "units"), ("?", "positions", "units")])
    ('items', 'time', 'units')
    """
    if not found or len({len(names) for names in found}) > 1:
        return None
    merged = []
    for roles in zip(*found, strict=True):
        left = set(roles) - {UNKNOWN}
        if left & {TIME, FREQUENCY}:
            left.discard(PLACES)
        if len(left) > 1:
            return None
        merged.append(left.pop() if left else UNKNOWN)
    return tuple(merged)


def _move_roles(
    name: str, known: Names, given: Tensor, rest: Sequence[Any], kwargs: Mapping[str, Any], out: Tensor
) -> Names | None:
    """Return the roles after an operation that moves, adds, joins or drops axes, or None for any other operation."""
    n = len(known)
    if name in _SWAPS:
        pair = [*rest, *kwargs.values()]
        order = list(range(n))
        a, b = (int(k) % n for k in pair[:2])
        order[a], order[b] = b, a
        return tuple(known[k] for k in order)
    if name == "permute":
        dims = rest[0] if rest and isinstance(rest[0], tuple | list) else rest or kwargs.get("dims", ())
        return tuple(known[int(k) % n] for k in dims)
    if name in ("squeeze", "unsqueeze"):
        at = rest[0] if rest else kwargs.get("dim")
        if name == "unsqueeze":
            place = int(at) % (n + 1)  # type: ignore[arg-type]
            return (*known[:place], UNKNOWN, *known[place:])
        gone = range(n) if at is None else [int(k) % n for k in (at if isinstance(at, tuple | list) else (at,))]
        return tuple(one for k, one in enumerate(known) if not (k in gone and given.shape[k] == 1))
    if name == "flatten":
        start, end = (*rest, *kwargs.values(), *(0, -1)[len(rest) + len(kwargs) :])[:2]
        joined = known[int(start) % n : int(end) % n + 1]
        role = joined[0] if len(set(joined)) == 1 else UNITS if ITEMS not in joined else UNKNOWN
        return (*known[: int(start) % n], role, *known[int(end) % n + 1 :])
    if name in _REDUCTIONS and out.ndim < n:
        dim = rest[0] if rest else kwargs.get("dim")
        gone = [int(k) % n for k in (dim if isinstance(dim, tuple | list) else (dim,))] if dim is not None else []
        return tuple(one for k, one in enumerate(known) if k not in gone)
    if name == "getitem" and rest:
        return _index_roles(known, rest[0] if isinstance(rest[0], tuple) else (rest[0],))
    return None


def _index_roles(known: Names, index: Sequence[Any]) -> Names:
    """Return the roles after indexing by slices, numbers, None and `...`; they are empty for any other index.

    Examples
    --------
    >>> _index_roles(("items", "time"), (slice(None), None))
    ('items', '?', 'time')
    """
    if not all(one is None or one is ... or (isinstance(one, slice | int) and one is not True) for one in index):
        return ()
    n_taken = sum(one is not None and one is not ... for one in index)
    left, roles = list(known), []
    for one in index:
        if one is None:
            roles.append(UNKNOWN)
        elif one is ...:
            roles += [left.pop(0) for _ in range(len(known) - n_taken)]
        elif left:
            role = left.pop(0)
            roles += [] if isinstance(one, int) else [role]
    return (*roles, *left)


def name_positions(
    shape: Sequence[int],
    order: Sequence[int],
    names: Names | None,
    probes: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    inputs: Names,
) -> tuple[str, ...]:
    """Name the axes of positions of an activation: time, frequency, token, other, or merely positions.

    An axis that follows one axis of the input is named like it; an axis that follows both, time and frequency, holds
    tokens. An axis that follows none while another one does, heads of an attention for example, is another one; beside
    a convolution over time of a network on waveforms it is the frequency of a spectrogram inside the network.

    Parameters
    ----------
    shape : sequence of int
        Shape of the activation of one item.
    order : sequence of int
        Axes that hold the items, the units and the positions.
    names : tuple of str, optional
        Roles of the axes, where they could be followed.
    probes : sequence of (sequence of int, sequence of int)
        Axes of positions of the input that had another length, and the shape of the activation in that run.
    inputs : tuple of str
        What the axes of positions of the input are.

    Examples
    --------
    >>> name_positions((1, 12, 79), (0, 1, 2), ("items", "units", "time"), [], inputs=("time",))
    ('time',)
    >>> halves = [([0], (3, 20, 8)), ([1], (3, 20, 8))]
    >>> name_positions((1, 40, 8), (0, 2, 1), None, halves, inputs=("frequency", "time"))
    ('token',)
    """
    probes = [(axes, other) for axes, other in probes if len(other) == len(shape)]
    n_axes = len(inputs)
    probed = {axes[0] for axes, _ in probes if len(axes) == 1}
    follows = {k: {a for axes, other in probes if len(axes) == 1 and other[k] != shape[k] for a in axes} for k in order}
    found = []
    for k in order[2:]:
        role = names[k] if names is not None else UNKNOWN
        if len(follows[k]) == 1 and len(probed) == n_axes:
            found.append(inputs[next(iter(follows[k]))])
        elif len(follows[k]) > 1:
            found.append(TOKEN)
        elif role in (TIME, FREQUENCY):
            found.append(role)
        elif any(follows[j] for j in order[2:]):
            spectrogram = n_axes == 1 and len(order) == 4 and k == order[2] and role == PLACES
            found.append(FREQUENCY if spectrogram else OTHER)
        else:
            found.append(TIME if n_axes == 1 and len(order) == 3 and role == PLACES else PLACES)
    return tuple(found)


def order_of(shape: Sequence[int], names: Names | None, probes: Sequence[tuple[int, Sequence[int]]]) -> tuple[int, ...]:
    """Find the order that brings axes to (items, units, positions); it is empty where it is not known.

    Where several axes follow neither the items nor the length of the input, the first of them holds the units, and the
    others are kept as positions of another kind, which are never pooled: one channel of 64 bands, say.

    Parameters
    ----------
    shape : sequence of int
        Shape of the activation of one item.
    names : tuple of str, optional
        Roles of the axes, where they could be followed.
    probes : sequence of (int, sequence of int)
        Number of items that were run at another length of the input, and the shape of the activation in that run.

    Examples
    --------
    >>> order_of((1, 79, 12), None, [(3, (3, 39, 12))])
    (0, 2, 1)
    >>> order_of((1, 12, 79), ("items", "units", "positions"), [])
    (0, 1, 2)
    >>> order_of((1, 8, 8), None, [])
    ()
    >>> order_of((1, 1, 64, 173), None, [(3, (3, 1, 64, 87))])
    (0, 1, 2, 3)
    """
    probes = [(n, other) for n, other in probes if len(other) == len(shape)]
    axes = range(len(shape))
    moving = {k for n, other in probes for k in axes if other[k] != shape[k]}
    if probes:
        scaled = [k for k in axes if shape[k] == 1 and all(other[k] == n for n, other in probes)]
    else:
        roles = names or (UNKNOWN,) * len(shape)
        scaled = [k for role in (ITEMS, UNKNOWN) for k in axes if shape[k] == 1 and roles[k] == role][:1]
    if len(scaled) != 1:
        return ()
    items = scaled[0]
    if len(shape) == 2:
        return (items, 1 - items)
    moving.discard(items)
    said = [k for k in axes if names is not None and names[k] == UNITS and k not in moving and k != items]
    left = [k for k in axes if k != items and k not in moving]
    units = said if len(said) == 1 else left if moving else []
    if not units:
        return ()
    return (items, units[0], *(k for k in axes if k not in (items, units[0])))
