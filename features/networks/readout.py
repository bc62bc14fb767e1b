"""Build networks of networks: cut behind a layer and read out there, or several that answer as one.

Cut a network behind a layer and put one linear layer there, so that an encoding model is a network.

Let several networks answer as one: the mean of their outputs, for ascent through an ensemble.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brainmap.checks import check_choice, check_enough, list_some
from brainmap.errors import InputError
from brainmap.features.layers.ear import Ear, attach_ear
from brainmap.features.layers.inputs import keep_real
from brainmap.features.layers.layer import OUTPUT, Layer
from brainmap.features.layers.pooling import pool
from brainmap.features.layers.running import evaluating, forward, get_device, watch_modules
from brainmap.features.layers.selection import find_layer, list_asked
from brainmap.features.sounds.batches import Sounds, iterate_tensors
from brainmap.references import first_line
from brainmap.types import Pooling, Stage

_FED = ("own_lengths", "rate", "frame_rate", "needs_spectrograms", "spectrograms", "sounding_frames")


class _Reached(Exception):
    """End a forward pass behind the layer that is read."""


class _CuttingEar(Ear):
    """Record one layer, and end the forward pass once neither normalization nor nonlinearity can follow."""

    def follow_operation(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        if any(heard.name in self.names and not heard.moving for heard in self.heard):
            raise _Reached
        return super().follow_operation(func, args, kwargs)


class ReadoutNetwork(nn.Module):
    """Run a network up to a layer, pool the layer over time, and weight its units.

    Parameters
    ----------
    network : torch.nn.Module
    found : Layer
        The layer and the roles of its axes.
    readout : torch.nn.Linear
        From the pooled units, less `center`, to the outputs.
    center : Tensor (n_units,)
        Mean of the units, which is subtracted first: units that vary little about a large mean keep their digits.
    names : tuple of str
        Names of the outputs, as the classes of other networks.
    pooling, stage, pool_frequency
        As in `features.extract_activations`.
    removed : tuple of str
        Modules of the network that no longer take part and are gone.
    """

    def __init__(
        self,
        network: nn.Module,
        found: Layer,
        readout: nn.Linear,
        *,
        center: Tensor,
        names: tuple[str, ...],
        pooling: Pooling = "mean",
        stage: Stage = "after",
        pool_frequency: bool = False,
        removed: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.network, self.readout = network, readout
        self.center: Tensor
        self.register_buffer("center", center)
        self.layer, self.classes, self.removed = found, names, removed
        self.pooling, self.stage, self.pool_frequency = pooling, stage, pool_frequency

    def __getattr__(self, name: str) -> Any:
        """Say how sounds are fed as the network itself says it, where it does."""
        if name in _FED:
            return getattr(self._modules["network"], name)
        return super().__getattr__(name)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the names of the outputs, as maps and attributions take them where none are given."""
        return self.classes

    def activations(self, sounds: Tensor) -> Tensor:
        """Compute the layer `(n, units, positions...)`, without padding that the network adds itself."""
        ear = _CuttingEar([self.layer.name], stage=self.stage, gradient=False, cut=False)
        with attach_ear(self.network, ear):
            try:
                self.network(sounds)
                heard = ear.values[self.layer.name]
            except _Reached:
                heard = next(one.tensor for one in ear.heard if one.name == self.layer.name)
            enabled = torch.is_grad_enabled()  # who listens from outside may ask for gradients from a layer on
        torch.set_grad_enabled(enabled)
        return keep_real(self.network, self.layer.arranged(heard, len(sounds)), sounds.shape[2:])

    def pooled(self, sounds: Tensor) -> Tensor:
        """Compute the pooled units of the layer `(n, n_units)`."""
        found, positions = self.activations(sounds), self.layer.positions
        return pool(found, self.pooling, positions=positions, pool_frequency=self.pool_frequency).flatten(1)

    def describe(self) -> dict[str, Any]:
        """Describe what is read in plain values, from which `rebuild_readout` builds the same network."""
        return {
            "layer": asdict(self.layer),
            "pooling": self.pooling,
            "stage": self.stage,
            "pool_frequency": self.pool_frequency,
            "n_units": self.readout.in_features,
            "removed": list(self.removed),
        }

    def forward(self, sounds: Tensor) -> Tensor:
        """Predict responses `(n, n_outputs)` to sounds `(n, c, t)`, or spectrograms `(n, c, h, w)`."""
        units: Tensor = self.readout(self.pooled(sounds) - self.center)
        return units


def readout_network(
    model: nn.Module,
    sounds: Sounds,
    *,
    layer: str,
    weights: NDArray[np.floating],
    mean: NDArray[np.floating],
    sd: NDArray[np.floating],
    intercept: NDArray[np.floating] | float = 0.0,
    names: Sequence[str] | None = None,
    pooling: Pooling = "mean",
    stage: Stage = "after",
    pool_frequency: bool = False,
) -> ReadoutNetwork:
    """Turn an encoding model into a network: what a layer predicts of voxels becomes the output of a plain module.

    The network is copied and cut behind the layer; the layer is pooled and centered on `mean`, and one linear layer
    W = diag(1 / sd) B with the bias `intercept` follows. Every function of `brainmap.features` takes the result: which
    sound drives a voxel, what a prediction rests on, which units it is made of.

    Parameters
    ----------
    model : torch.nn.Module
        It is not changed.
    sounds : Sounds, array or Tensor (n, c, t) or (n, c, h, w)
        Only the first sound is used, to find the axes of the layer.
    layer : str
        The layer from which the features came.
    weights : array (n_units, n_outputs)
        Weights B of z-scored units, as `weights` of `brainmap.rsa.Encoding.weights(layer)`.
    mean, sd : array (n_units,)
        Mean and standard deviation of the units, of the same result; units with sd 0 have no weight.
    intercept : array (n_outputs,)
        Responses at the mean of the units, of the same result.
    names : sequence of str, optional
        Names of the outputs (voxels or regions); by default numbers from 1.
    pooling, stage, pool_frequency
        How the features were extracted, as in `brainmap.features.extract_activations`; "none" keeps time and is
        refused, since weights are of units.

    Returns
    -------
    ReadoutNetwork
        A torch.nn.Module in eval mode on the device of the model, with the modules that ran behind the layer removed.
        `classes` holds the names. `save_checkpoint` with the checkpoint of the model writes it to one file.

    Raises
    ------
    InputError
        There is no such layer, or weights, mean, sd, intercept and names do not fit it.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv1d(1, 2, 5), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).eval()
    >>> voxel = readout_network(
    ...     net, torch.zeros(1, 1, 8), layer="0", weights=np.ones((2, 1)), mean=np.zeros(2), sd=np.ones(2))
    >>> sound = torch.ones(1, 1, 8)
    >>> bool(torch.isclose(voxel(sound), net[:2](sound).mean(2).sum(1, keepdim=True)).all())
    True
    """
    check_choice(pooling, tuple(kind for kind in get_args(Pooling) if kind != "none"), "pooling")
    check_choice(stage, get_args(Stage), "stage")
    found = find_layer(list_asked(model, sounds, layer), layer, "readout_network")
    linear, center = _build_readout(weights, mean, sd, intercept, model=model)
    labels = tuple(str(k + 1) for k in range(linear.out_features)) if names is None else tuple(map(str, names))
    if len(labels) != linear.out_features or len(set(labels)) < len(labels):
        raise InputError(
            f"readout_network: expected {linear.out_features} different names, got {len(labels)}; give one an output"
        )
    own = copy.deepcopy(model).eval()
    how: dict[str, Any] = {"pooling": pooling, "stage": stage, "pool_frequency": pool_frequency}
    cut = ReadoutNetwork(own, found, linear, center=center, names=labels, **how).eval()
    example = next(iterate_tensors(sounds, 1, device=get_device(model)))
    with evaluating(own), torch.no_grad():
        n_units = cut.pooled(example).shape[1]
    if n_units != linear.in_features:
        raise InputError(
            f"readout_network: expected weights of the {n_units} units of {layer!r} (pooled by {pooling}), got "
            f"{linear.in_features}; give the layer and the pooling of the features"
        )
    if layer != OUTPUT:
        _remove_modules_behind(cut, example)
    return cut


def rebuild_readout(network: nn.Module, stored: Mapping[str, Any], names: tuple[str, ...]) -> ReadoutNetwork:
    """Build a readout network with fresh weights from what `describe` of one said.

    Parameters
    ----------
    network : torch.nn.Module
        The whole network of which it was cut, freshly built; modules that were removed are taken out of it.
    stored : mapping
    names : tuple of str
        Names of the outputs.

    Raises
    ------
    InputError
        The description does not fit the network.
    """
    try:
        layer: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in stored["layer"].items()
        }
        for path in stored["removed"]:
            parent, _, name = path.rpartition(".")
            del network.get_submodule(parent)._modules[name]
        linear = nn.Linear(int(stored["n_units"]), len(names))
        return ReadoutNetwork(
            network,
            Layer(**layer),
            linear,
            center=torch.zeros(linear.in_features),
            names=names,
            pooling=cast(Pooling, check_choice(stored["pooling"], get_args(Pooling), "pooling")),
            stage=cast(Stage, check_choice(stored["stage"], get_args(Stage), "stage")),
            pool_frequency=bool(stored["pool_frequency"]),
            removed=tuple(stored["removed"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"checkpoint: what it says of the layer that is read does not fit its network ({first_line(error)}); write "
            "it again with save_checkpoint"
        ) from None


def _build_readout(
    weights: NDArray[np.floating],
    mean: NDArray[np.floating],
    sd: NDArray[np.floating],
    intercept: NDArray[np.floating] | float,
    *,
    model: nn.Module,
) -> tuple[nn.Linear, Tensor]:
    """Build the linear layer and the center of its units, in the precision and on the device of the model."""
    b = np.asarray(weights, np.float64)
    middle, spread = np.asarray(mean, np.float64), np.asarray(sd, np.float64)
    if b.ndim != 2 or middle.shape != (len(b),) or spread.shape != (len(b),) or (spread < 0).any():
        raise InputError(
            "readout_network: expected weights (n_units, n_outputs) with mean and sd (n_units,), got shapes "
            f"{b.shape}, {middle.shape} and {spread.shape}; take them of one result of Encoding.weights"
        )
    offset = np.broadcast_to(np.asarray(intercept, np.float64), (b.shape[1],))
    w = np.where(spread[:, None] > 0, b / np.where(spread > 0, spread, 1.0)[:, None], 0.0)
    if not (np.isfinite(w).all() and np.isfinite(offset).all() and np.isfinite(middle).all()):
        raise InputError("readout_network: expected finite weights, got NaN or infinity; leave those outputs out")
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(1))
    linear = nn.Linear(*b.shape).to(device=like.device, dtype=like.dtype)
    center = torch.as_tensor(middle).to(linear.weight)
    rounded = center.double().cpu().numpy() - middle  # the bias makes up for digits that the precision does not hold
    with torch.no_grad():
        linear.weight.copy_(torch.as_tensor(w.T.copy()))
        linear.bias.copy_(torch.as_tensor(offset + rounded @ w))
    return linear, center


def _remove_modules_behind(cut: ReadoutNetwork, example: Tensor) -> None:
    """Remove modules that take no part any more; all stay where the network does not run without them."""
    used = _list_used(cut, example)
    removed: list[tuple[nn.Module, str, nn.Module]] = []
    paths: list[str] = []

    def prune(module: nn.Module, prefix: str) -> None:
        for name, child in list(module.named_children()):
            path = f"{prefix}.{name}"
            if any(one == path or one.startswith(f"{path}.") for one in used):
                prune(child, path)
            elif not isinstance(module, nn.ModuleList):  # whose other modules would move up
                removed.append((module, name, child))
                paths.append(path.removeprefix("network."))
                del module._modules[name]

    with torch.no_grad(), evaluating(cut):
        before = cut(example)
        order = {id(module): list(module._modules) for module in cut.modules()}
        prune(cut.network, "network")
        try:
            same = torch.equal(cut(example), before)
        except Exception:  # a network may reach for a module by name, whether it calls it or not
            same = False
    if same:
        cut.removed = tuple(paths)
    else:
        for module, name, child in removed:
            module._modules[name] = child
            module._modules = {key: module._modules[key] for key in order[id(module)] if key in module._modules}


def _list_used(cut: ReadoutNetwork, example: Tensor) -> tuple[str, ...]:
    """List the modules that begin to run in a forward pass, whatever they give."""
    begun: dict[str, None] = {}
    modules = dict(cut.named_modules())
    with watch_modules(modules, before=lambda name, *_: begun.setdefault(name)), torch.no_grad(), evaluating(cut):
        forward(cut, example.clone())
    return tuple(begun)


class Ensemble(nn.Module):
    """Average the outputs of networks that take the same input, in the order of the first one's classes.

    Outputs are averaged as they are: give networks that return logits, or predictions of the same regions.

    Parameters
    ----------
    members : sequence of torch.nn.Module
    class_names : sequence of sequence of str, optional
        Names of the outputs of each member, by which they are matched; without them outputs are matched by place.

    Raises
    ------
    InputError
        Fewer than two networks, or names that differ.

    Examples
    --------
    >>> first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    >>> both = Ensemble([first, second], class_names=[("a", "b"), ("b", "a")])
    >>> x = torch.ones(1, 2)
    >>> bool(torch.allclose(both(x), (first(x) + second(x).flip(1)) / 2))
    True
    """

    def __init__(self, members: Sequence[nn.Module], class_names: Sequence[Sequence[str]] | None = None) -> None:
        super().__init__()
        check_enough(len(members), 2, "ensemble", "networks")
        self.members = nn.ModuleList(members)
        names = [tuple(map(str, one)) for one in class_names or []]
        if class_names is not None and len(names) != len(members):
            raise InputError(f"ensemble: expected names of {len(members)} networks, got {len(names)}")
        for at, other in enumerate(names[1:], start=1):
            apart = sorted(set(names[0]) ^ set(other))
            if apart or len(other) != len(names[0]):
                raise InputError(
                    f"ensemble: expected networks of the same classes, got {list_some(apart, 6)} in one of the first "
                    f"and number {at + 1} only; leave that network out"
                )
        self.orders = [[other.index(name) for name in names[0]] for other in names] if names else []
        self.classes: tuple[str, ...] = names[0] if names else ()

    def forward(self, sounds: Tensor) -> Tensor:
        """Compute the mean output (n, n_outputs).

        Raises
        ------
        InputError
            The outputs differ in shape.
        """
        found = [member(sounds) for member in self.members]
        if self.orders:
            found = [out[:, order] for out, order in zip(found, self.orders, strict=True)]
        shapes = {tuple(out.shape) for out in found}
        if len(shapes) > 1:
            raise InputError(f"ensemble: expected outputs of one shape, got {list_some(sorted(shapes))}")
        return torch.stack(found).mean(0)
