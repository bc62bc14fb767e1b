"""Find directions in a layer's channel space that activation maximization can drive."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from brainmap.checks import check_each, check_one_each, list_some
from brainmap.errors import InputError
from brainmap.features.maximization.site import find_site, freeze, read
from brainmap.features.sounds.batches import Sounds, get_labels, iterate_tensors
from brainmap.types import Stage


def condition_direction(
    model: nn.Module,
    sounds: Sounds,
    *,
    layer: str,
    toward: str | Sequence[str],
    away: str | Sequence[str] | None = None,
    conditions: Sequence[str] | None = None,
    stage: Stage = "after",
    device: str = "cpu",
    batch_size: int = 16,
) -> NDArray[np.float64]:
    """Compute the direction in a layer's channel space from one group of sounds to another.

    Parameters
    ----------
    model : torch.nn.Module
        Its mode, `requires_grad` and device are restored afterwards.
    sounds : Sounds, array or tensor (n, c, t) or (n, c, h, w)
    layer : str
        A module's name, or "output".
    toward, away : str or sequence of str
        Conditions; by default `away` is all other conditions.
    conditions : sequence of str, optional
        The condition of each sound, where `sounds` do not carry them.
    stage : {"after", "before"}
        Record before or after the nonlinearity.
    device : str
        Where the network runs, as torch names it.
    batch_size : int
        Number of sounds in one forward pass.

    Returns
    -------
    ndarray (n_units,)
        Mean over sounds of the layer's mean over positions, `toward` minus `away`. It is not scaled.

    Raises
    ------
    InputError
        There is no such layer or condition, or a condition is on both sides.

    References
    ----------
    Kim et al. (2018), Interpretability beyond feature attribution: concept activation vectors, arXiv:1711.11279

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv1d(1, 3, 1), nn.ReLU())
    >>> x = np.array([1.0, 1.0, 2.0], np.float32)[:, None, None] * np.ones((1, 8), np.float32)
    >>> condition_direction(net, x, layer="0", toward="a", conditions=["b", "b", "a"]).shape
    (3,)
    """
    named = list(conditions) if conditions is not None else list(get_labels(sounds)[1])
    check_one_each(named, len(sounds), "conditions", "sounds")
    known = list(dict.fromkeys(named))
    near = [toward] if isinstance(toward, str) else list(toward)
    far = [away] if isinstance(away, str) else list(away or [c for c in known if c not in near])
    check_each((*near, *far), known, "direction: condition")
    if not near or not far or set(near) & set(far):
        raise InputError(
            "direction: expected different conditions to go toward and away from, got "
            f"{list_some(near) or 'none'} and {list_some(far) or 'none'}"
        )
    means = []
    with freeze(model, device) as net, torch.no_grad():
        site = None
        for batch in iterate_tensors(sounds, batch_size, device=device):
            site = site or find_site(net, layer, batch[:1])
            values = site.arrange(read(net, batch, site.before if stage == "before" else site.after)[0])
            means.append(values.flatten(2).mean(2) if values.ndim > 2 else values)
    mean = torch.cat(means).double().cpu().numpy()
    sides = [np.isin(named, side) for side in (near, far)]
    difference: NDArray[np.float64] = mean[sides[0]].mean(0) - mean[sides[1]].mean(0)
    return difference
