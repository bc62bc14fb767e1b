"""Compute maps of one class for every sound, and tell whether a network understands the sounds at all.

Compute one map of one class for every sound, by any method of attribution or class activation mapping.

Tell whether a network understands the sounds, and what is likely wrong where it does not. Where a network calls fewer
than three of four sounds by their condition, the likely causes are tried: silent files, class names in another order,
another rate, and another level. A network that has learned words at several speeds knows some of them at half the rate
too, so chance alone does not tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from brainmap.checks import check_choice
from brainmap.errors import InputError
from brainmap.features.attribution.cam import class_activation_maps
from brainmap.features.attribution.results import find_own_class
from brainmap.features.attribution.task import check_logits, compute_logits
from brainmap.features.layers.layer import OUTPUT
from brainmap.features.layers.running import evaluating
from brainmap.features.sounds.batches import Sounds, SoundSource, get_labels, iterate_tensors
from brainmap.types import MapMethod


def select_sounds(sounds: Sounds, rows: NDArray[np.intp]) -> Sounds:
    """Select some of the sounds."""
    if isinstance(sounds, SoundSource):
        if not hasattr(sounds, "take"):
            raise InputError(f"sounds: {type(sounds).__name__} cannot give some of its sounds; give an array or Sounds")
        some_of: Sounds = sounds.take(rows)
        return some_of
    return sounds[torch.as_tensor(rows)] if isinstance(sounds, torch.Tensor) else sounds[rows]


def compute_all_logits(
    model: nn.Module, sounds: Sounds, *, batch_size: int = 32, device: str = "cpu"
) -> NDArray[np.float32]:
    """Compute logits `(n_items, n_classes)` of every sound, without a softmax."""
    with evaluating(model, device), torch.no_grad():
        found = []
        for batch in iterate_tensors(sounds, batch_size, device=device):
            found.append(compute_logits(model, batch).cpu())
            check_logits(found[-1])
    return np.asarray(torch.cat(found).numpy(), dtype=np.float32)


def compute_logits_by_shortcuts(
    model: nn.Module, sounds: Sounds, *, batch_size: int = 4, device: str = "cpu"
) -> NDArray[np.float32]:
    """Compute logits `(n_items, n_classes)` of every sound, faster, and equal to `compute_all_logits` but for rounding.

    Normalizations are merged into their convolutions, as in an ascent. Few sounds go through the network together,
    because memory for large maps is cleared by the system whenever it is allocated: a batch of 32 took twice as long.
    A network whose operations cannot be followed is run as it is.
    """
    from brainmap.features.maximization.site import Site, find_site, read

    site: Site | None = None
    found: list[NDArray[np.float32]] = []
    try:
        with evaluating(model, device), torch.no_grad():
            for batch in iterate_tensors(sounds, batch_size, device=device):
                site = site or find_site(model, OUTPUT, batch[:1])
                found.append(site.arrange(read(model, batch, site.after, fast=site.fast)[0]).float().cpu().numpy())
    except InputError:
        found = []
    if any(one.ndim != 2 for one in found) or not found:
        return compute_all_logits(model, sounds, batch_size=batch_size, device=device)
    return np.concatenate(found)


def choose_targets(
    classes: str, logits: NDArray[np.float32], sounds: Sounds, class_names: Sequence[str] | None
) -> NDArray[np.intp]:
    """Choose the class that is explained for every sound, "predicted" or "true", as a position `(n_items,)`.

    Raises
    ------
    InputError
        The word is neither of the two, or a condition is not a class.
    """
    check_choice(classes, ("predicted", "true"), "classes")
    if classes == "predicted":
        return np.asarray(logits.argmax(axis=1), dtype=np.intp)
    if class_names is None:
        raise InputError("classes: 'true' needs class_names, in the order of the network's outputs")
    return find_own_class(get_labels(sounds)[1], class_names)


def explain(
    model: nn.Module,
    sounds: Sounds,
    *,
    method: str,
    targets: NDArray[np.integer[Any]],
    layer: str | None = None,
    batch_size: int = 8,
    device: str = "cpu",
    **settings: Any,
) -> NDArray[np.float32]:
    """Compute the map of one class per sound, `(n_items, t)` or `(n_items, h, w)`, summed over channels.

    Parameters
    ----------
    model : torch.nn.Module
    sounds : Sounds, array or Tensor (n_items, c, t) or (n_items, c, h, w)
    method : str
        A method of `class_activation_maps` or of `attribute`.
    targets : ndarray of int (n_items,)
        Class of each sound.
    layer : str, optional
        Layer of class activation maps and guided Grad-CAM, by default the last convolution.
    batch_size : int
    device : str
    **settings
        Settings of the method of attribution, including `rate` and `rng`.

    Raises
    ------
    InputError
        An unknown method, targets that do not fit, or input that the method refuses.
    """
    check_choice(method, get_args(MapMethod), "method")
    items, _ = get_labels(sounds)
    if np.shape(targets) != (len(items),):
        raise InputError(
            f"targets: expected one class for each of {len(items)} sounds, got an array of shape {np.shape(targets)}"
        )
    maps: NDArray[np.float32] = np.empty(0, np.float32)
    for target in np.unique(targets):
        rows = np.flatnonzero(targets == target)
        some_of = select_sounds(sounds, rows)
        from brainmap.features.attribution.methods import METHODS, attribute

        if method in METHODS:
            found = attribute(
                model,
                some_of,
                method=method,
                classes=[int(target)],
                batch_size=batch_size,
                device=device,
                layer=layer if method == "guided-grad-cam" else None,
                **settings,
            ).courses[:, 0]
        else:
            found = class_activation_maps(
                model,
                some_of,
                method=method,  # type: ignore[arg-type]
                layer=layer or "last-conv",
                classes=[int(target)],
                batch_size=batch_size,
                device=device,
            ).maps[:, 0]
        if not maps.size:
            maps = np.empty((len(items), *found.shape[1:]), np.float32)
        maps[rows] = found
    return maps
