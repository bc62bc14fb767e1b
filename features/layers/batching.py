"""Choose how many sounds a batch holds, from the sizes of a network's activations."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from brainmap.features.layers.listing import Layer

LARGEST_BYTES = (32 << 20) - 4096
"""Above 32 MiB, glibc maps memory anew for every tensor and gives it back, which takes longer than many layers."""
MOST_ITEMS = 32


def choose_batch_size(model: nn.Module, layers: Sequence[Layer], *, most: int = MOST_ITEMS) -> int:
    """Return the largest number of sounds, at most `most`, with which no activation takes 32 MiB or more.

    Parameters
    ----------
    model : torch.nn.Module
        The bytes of a number are those of its weights.
    layers : sequence of Layer
        All layers, as `list_layers` gives them for one sound.
    most : int

    Returns
    -------
    int
        At least 1, even if one sound alone has a larger activation.

    Examples
    --------
    >>> import torch
    >>> from brainmap.features.layers.listing import list_layers
    >>> net = nn.Conv1d(1, 32, 3, padding=1)
    >>> [choose_batch_size(net, list_layers(net, torch.zeros(1, 1, n))) for n in (800, 16_000, 480_000)]
    [32, 16, 1]
    """
    item_bytes = max((p.element_size() for p in model.parameters()), default=4)
    largest = max((math.prod(layer.shape) for layer in layers), default=1) * item_bytes
    return max(1, min(most, LARGEST_BYTES // max(largest, 1)))
