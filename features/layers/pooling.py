"""Pool activations over time, and over frequency where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from brainmap.features.layers.layer import FREQUENCY, OTHER
from brainmap.types import Pooling


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
