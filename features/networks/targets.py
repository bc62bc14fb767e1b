"""Read what is to be explained or maximized: a class, a unit, a channel, a direction, or the prediction of a region.

| written as | means |
|---|---|
| `output:zero`, `output:3` | the logit of a class, by its name or number |
| `conv3:12` | channel 12 of a convolution, its mean over positions |
| `conv3:12:max` | the same channel where it is most active |
| `fc1:7` | a unit of a layer without positions |
| `conv3:dog-cat` | the direction from the mean of the sounds of one condition to that of another, mean over positions |
| `roi:left-pSTG` | the prediction of a region, of a network that `readout_network` made |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from brainmap.checks import check_choice, check_one_each, list_some, suggest_word
from brainmap.errors import InputError
from brainmap.features.layers.layer import OUTPUT
from brainmap.features.layers.selection import find_layer, list_asked
from brainmap.features.networks.readout import ReadoutNetwork, readout_network
from brainmap.features.sounds.batches import Sounds, get_labels

ROI = "roi"
_POOLINGS = ("mean", "max")
Direct = Callable[[str, str, str], NDArray[np.floating]]


@dataclass(frozen=True)
class Target:
    """Hold one target as it was written, and its parts."""

    text: str
    layer: str
    unit: str
    pooling: Literal["mean", "max"] = "mean"


@dataclass(frozen=True)
class Targets:
    """Hold a network among whose outputs the targets are.

    Attributes
    ----------
    model : torch.nn.Module
        The network itself, or a copy that ends behind the layer of the targets.
    class_names : tuple of str
        Names of all of its outputs.
    chosen : tuple of str
        Names of the outputs that are the targets.
    prefix : str
        What the names of the network's layers begin with in `model`.
    """

    model: nn.Module
    class_names: tuple[str, ...]
    chosen: tuple[str, ...]
    prefix: str = ""

    def name_layer(self, layer: str) -> str:
        """Return the name of a layer of the network in `model`; kinds and places stay as they are."""
        known = dict(self.model.named_modules())
        return self.prefix + layer if self.prefix and self.prefix + layer in known else layer


def is_readout(model: nn.Module) -> bool:
    """Tell whether a network predicts regions, voxels or units, and no classes."""
    return isinstance(model, ReadoutNetwork)


def read_target(text: str) -> Target:
    """Read one target.

    Raises
    ------
    InputError
        It is not written as the table of the module says.

    Examples
    --------
    >>> read_target("conv3:12:max")
    Target(text='conv3:12:max', layer='conv3', unit='12', pooling='max')
    """
    layer, colon, rest = text.strip().partition(":")
    unit, _, pooling = rest.rpartition(":") if rest.rpartition(":")[2] in _POOLINGS else (rest, "", "mean")
    if not (layer and colon and unit):
        raise InputError(
            f"target: expected LAYER:UNIT as in conv3:12, output:zero, conv3:dog-cat or roi:left-pSTG, got {text!r}"
        )
    return Target(text.strip(), layer, unit, "max" if pooling == "max" else "mean")


def find_targets(
    model: nn.Module,
    sounds: Sounds,
    targets: str | Sequence[str],
    *,
    class_names: Sequence[str] | None = None,
    direct: Direct | None = None,
) -> Targets:
    """Find targets in a network, and make them the outputs of a network that every method explains.

    Parameters
    ----------
    model : torch.nn.Module
        It is not changed.
    sounds : Sounds, array or Tensor
        The first one is used to find the axes of the layer; directions are those of all.
    targets : str or sequence of str
        Targets of one layer, as the table of the module says.
    class_names : sequence of str, optional
        Names of the outputs of the network.
    direct : callable, optional
        Gives the direction (n_units,) of a layer from the condition `away` to the condition `toward`, as
        `condition_direction` does; it is called with the layer, `toward` and `away`.

    Returns
    -------
    Targets

    Raises
    ------
    InputError
        There is no such layer, unit, class, condition or region, by nearest name; targets of several layers.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv1d(1, 2, 5), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    >>> found = find_targets(net, np.ones((1, 1, 8), np.float32), "0:1")
    >>> found.class_names, found.chosen, found.name_layer("0")
    (('0:1',), ('0:1',), 'network.0')
    """
    asked = [read_target(text) for text in ([targets] if isinstance(targets, str) else targets)]
    layers = list(dict.fromkeys(one.layer for one in asked))
    if len(layers) != 1:
        raise InputError(
            f"target: expected targets of one layer, got {list_some(layers) or 'none'}; ask for each alone"
        )
    if len({one.text for one in asked}) < len(asked):
        raise InputError(f"target: expected different targets, got {list_some(one.text for one in asked)}")
    (layer,) = layers
    if layer in (OUTPUT, ROI):
        return _find_outputs(model, sounds, asked, class_names)
    poolings = {one.pooling for one in asked}
    if len(poolings) > 1:
        raise InputError("target: expected all targets as means or all as maxima, got both; ask for each alone")
    found = find_layer(list_asked(model, sounds, layer), layer, "target")
    weights = np.stack([_weigh_units(one, found.shape[0], sounds, direct) for one in asked], axis=1)
    names = tuple(one.text for one in asked)
    made = readout_network(
        model,
        sounds,
        layer=layer,
        weights=weights,
        mean=np.zeros(len(weights)),
        sd=np.ones(len(weights)),
        names=names,
        pooling=poolings.pop(),
        pool_frequency=True,
    )
    return Targets(made, names, names, "network.")


def _find_outputs(
    model: nn.Module, sounds: Sounds, asked: Sequence[Target], class_names: Sequence[str] | None
) -> Targets:
    """Find classes or regions among the outputs of a network."""
    if any(one.pooling == "max" for one in asked):
        raise InputError(f"target: {list_some(one.text for one in asked)} has no positions; leave :max out")
    if asked[0].layer == ROI and not isinstance(model, ReadoutNetwork):
        raise InputError(
            f"target: expected a network that predicts regions for {asked[0].text!r}, got one without an "
            "encoding model; fit one with rsa.encode (brainmap rsa encode), and make it a network with "
            "features.readout_network"
        )
    given = class_names or getattr(model, "classes", None) or getattr(model, "class_names", None)
    (n,) = find_layer(list_asked(model, sounds, OUTPUT), OUTPUT, "target").shape[:1]
    known = tuple(str(k) for k in range(n)) if given is None else tuple(map(str, given))
    check_one_each(known, n, "class names", "outputs")
    chosen = []
    for one in asked:
        name = one.unit
        if name not in known and name.isdigit() and int(name) < n:
            name = known[int(name)]
        chosen.append(check_choice(name, known, f"target: {'region' if one.layer == ROI else 'class'}"))
    return Targets(model, known, tuple(chosen))


def _weigh_units(one: Target, n_units: int, sounds: Sounds, direct: Direct | None) -> NDArray[np.float64]:
    """Return the weight of every unit (n_units,) in a target."""
    if one.unit.isdigit():
        if int(one.unit) >= n_units:
            raise InputError(
                f"target: no unit {one.unit} in layer {one.layer!r}; it has {n_units} units, 0 to {n_units - 1}"
            )
        unit: NDArray[np.float64] = np.eye(n_units)[int(one.unit)]
        return unit
    conditions = list(dict.fromkeys(get_labels(sounds)[1]))
    places = [k for k, letter in enumerate(one.unit) if letter == "-"]
    pairs = [(one.unit[:k], one.unit[k + 1 :]) for k in places]
    found = [pair for pair in pairs if all(name in conditions for name in pair)]
    if direct is None or not found:
        names = pairs[0] if pairs else (one.unit,)
        wrong = next((name for name in names if name not in conditions), one.unit)
        raise InputError(
            f"target: {one.text!r} is neither a unit, 0 to {n_units - 1}, nor two conditions of the sounds parted by a "
            f"minus{suggest_word(wrong, conditions)}; there are {list_some(conditions, 24)}"
        )
    vector = np.asarray(direct(one.layer, *found[0]), dtype=np.float64)
    return vector / np.linalg.norm(vector)
