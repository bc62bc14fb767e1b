"""Pool activations over time, and over frequency where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from brainmap.features.layers.inputs import keep_real
from brainmap.features.layers.layer import FREQUENCY, OTHER, Layer
from brainmap.types import Pooling


def pool_layer(
    model: nn.Module,
    layer: Layer,
    activation: Tensor,
    batch: Tensor,
    *,
    pooling: Pooling,
    pool_frequency: bool = False,
) -> Tensor:
    """Pool what a network gave in a layer for a batch, without the padding that the network adds itself.

    Parameters
    ----------
    model : torch.nn.Module
    layer : Layer
    activation : Tensor
        In the order of the network's own axes.
    batch : Tensor (n, c, t) or (n, c, h, w)
        What the network was given.
    pooling : {"mean", "max", "rms", "none", "flatten"}
    pool_frequency : bool
        As `pool` takes it.

    Raises
    ------
    InputError
        It is not known which axis holds the units, and pooling needs it.
    """
    if pooling in ("none", "flatten") and not layer.order and len(activation) == len(batch):
        return activation if pooling == "none" else activation.flatten(1)  # the axes stay, whatever their roles are
    arranged = keep_real(model, layer.arranged(activation, len(batch)), batch.shape[2:])
    return pool(arranged, pooling, positions=layer.positions, pool_frequency=pool_frequency)


def pool(
    activation: Tensor, pooling: Pooling, *, positions: Sequence[str] = (), pool_frequency: bool = False
) -> Tensor:
    """Pool `(n, c, t)` or `(n, c, h, w)` over time; `(n, units)` has no positions and stays unchanged.

    Parameters
    ----------
    activation : Tensor (n, units, ...)
    pooling : {"mean", "max", "rms", "none", "flatten"}
    positions : sequence of str
        What the axes after the units are, as `Layer.positions` says; axes without a name are all pooled.
    pool_frequency : bool
        Pool over frequency, too; otherwise each unit and band is one column of the result.

    Returns
    -------
    Tensor (n, n_columns), or the activation itself with pooling "none"

    Examples
    --------
    >>> import torch
    >>> pool(torch.tensor([[[3.0, -4.0]]]), "rms").tolist()
    [[3.535533905029297]]
    >>> pool(torch.ones(1, 2, 3, 4), "mean", positions=("frequency", "time")).shape
    torch.Size([1, 6])
    """
    if activation.ndim == 2 or pooling == "none":
        return activation
    n = activation.ndim - 2
    names = tuple(positions) if len(positions) == n else ("",) * n
    kept = {OTHER} if pool_frequency else {OTHER, FREQUENCY}
    axes = [2 + k for k, name in enumerate(names) if name not in kept]
    if pooling == "flatten" or not axes:
        return activation.flatten(1)
    match pooling:
        case "max":
            pooled = activation.amax(axes)
        case "rms":
            pooled = activation.square().mean(axes).sqrt()
        case _:
            pooled = activation.mean(axes)
    return pooled.flatten(1)
