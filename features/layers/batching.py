"""Choose how many sounds a batch holds, from the sizes of a network's activations."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from brainmap.features.layers.layer import Layer
from brainmap.features.sounds.batches import Sounds
from brainmap.features.sounds.windows import Windows

LARGEST_BYTES = (32 << 20) - 4096

MOST_ITEMS, MOST_WINDOWS = 32, 8


def choose_batch_size(model: nn.Module, layers: Sequence[Layer], sounds: Sounds) -> int:
    """Return the largest number of sounds with which no activation takes 32 MiB or more.

    Parameters
    ----------
    model : torch.nn.Module
        The bytes of a number are those of its weights.
    layers : sequence of Layer
        All layers, as `list_layers` gives them for one sound.
    sounds : Sounds, array or Tensor
        At most 32 of them are a batch, and 8 windows of recordings.

    Returns
    -------
    int
        At least 1, even if one sound alone has a larger activation.

    Examples
    --------
    >>> import torch
    >>> from brainmap.features.layers.listing import list_layers
    >>> net, sounds = nn.Conv1d(1, 32, 3, padding=1), [torch.zeros(1, 1, n) for n in (800, 16_000, 480_000)]
    >>> [choose_batch_size(net, list_layers(net, one), one) for one in sounds]
    [32, 16, 1]
    """
    item_bytes = max((p.element_size() for p in model.parameters()), default=4)
    largest = max((math.prod(layer.shape) for layer in layers), default=1) * item_bytes
    most = MOST_WINDOWS if isinstance(sounds, Windows) else MOST_ITEMS
    return max(1, min(most, LARGEST_BYTES // max(largest, 1)))
