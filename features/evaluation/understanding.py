"""Tell whether a network understands the sounds, and what is likely wrong where it does not.

Where a network calls fewer than three of four sounds by their condition, the likely causes are tried: silent files,
class names in another order, another rate, and another level. A network that has learned words at several speeds knows
some of them at half the rate too, so chance alone does not tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from brainmap.checks import list_some
from brainmap.errors import InputError
from brainmap.features.evaluation.explain import compute_all_logits
from brainmap.features.layers.running import evaluating, get_device
from brainmap.features.networks.calls import Calls, count_calls, describe_other_order, is_better
from brainmap.features.sounds.batches import Sounds, get_labels, iterate_tensors
from brainmap.features.sounds.files import Sounds as LabelledSounds
from brainmap.types import Loudness

_RATES = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)  # Hz

_MOST = 48  # sounds that are given to the network again at another rate or level

_FEW = 0.75  # share of correct sounds below which causes are tried


def check_understanding(
    network: str,
    model: nn.Module,
    sounds: Sounds,
    class_names: Sequence[str],
    *,
    logits: NDArray[np.floating] | None = None,
    device: str = "cpu",
) -> tuple[Calls, NDArray[np.floating]]:
    """Count the sounds that a network calls by their condition, and name likely causes where these are few.

    Parameters
    ----------
    network : str
        Its name.
    model : torch.nn.Module
    sounds : Sounds, array or Tensor (n_items, c, t) or (n_items, c, h, w)
    class_names : sequence of str
        Names in the order of the outputs.
    logits : ndarray (n_items, n_classes), optional
        The network's logits, where they are known.
    device : str

    Returns
    -------
    calls : Calls
    logits : ndarray (n_items, n_classes)

    Raises
    ------
    InputError
        The network does not have one output for each class name.
    """
    found = compute_all_logits(model, sounds, device=device) if logits is None else logits
    if found.ndim != 2 or found.shape[1] != len(class_names):
        raise InputError(
            f"network {network}: expected one output for each of {len(class_names)} class names, got outputs of shape "
            f"{found.shape[1:]} for a sound; give as many names as there are outputs"
        )
    _, conditions = get_labels(sounds)
    calls = count_calls(network, found, conditions, class_names)
    if calls.near_chance or calls.right < _FEW * calls.n:
        causes = list(_find_causes(model, sounds, class_names, found, device))
        calls = replace(calls, causes=tuple(causes))
    return calls, found


def _find_causes(
    model: nn.Module, sounds: Sounds, class_names: Sequence[str], logits: NDArray[np.floating], device: str
) -> Iterator[str]:
    """Yield a clause for each likely cause that a trial confirms."""
    items, conditions = get_labels(sounds)
    silent = sounds.report.silent if isinstance(sounds, LabelledSounds) else ()
    if silent:
        yield f"{len(silent)} of {len(items)} sounds are silent ({list_some(silent, 4)}): look at the files"
    order = describe_other_order(logits, conditions, class_names, rng=np.random.default_rng(0))
    if order:
        yield order
    elif isinstance(sounds, LabelledSounds) and sounds.in_memory is None and 2 * len(silent) < len(items):
        yield from _try_other_feeding(model, sounds, class_names, device)


def _try_other_feeding(
    model: nn.Module, sounds: LabelledSounds, class_names: Sequence[str], device: str
) -> Iterator[str]:
    """Yield the rate or the level at which the network knows more sounds, if there is one, corrected for the trials."""
    names = list(class_names)
    known = np.flatnonzero([one in names for one in sounds.conditions])
    few = sounds.take(known[np.unique(np.linspace(0, len(known) - 1, min(_MOST, len(known))).round().astype(int))])
    true = np.array([names.index(one) for one in few.conditions])
    rates = [rate for rate in _RATES if rate != sounds.rate]
    levels = [level for level in get_args(Loudness) if level != sounds.level]
    ways = [
        *((f"a rate of {rate} Hz", f"rate, {sounds.rate} Hz, of the network or of the files is") for rate in rates),
        *((f"the level {level!r}", f"level, {sounds.level!r}, is") for level in levels),
    ]
    other = [*(_feed_at_rate(model, few, rate) for rate in rates), *(few.fed(level=level) for level in levels)]
    right = [compute_all_logits(model, one, device=device).argmax(axis=1) == true for one in (few, *other)]
    best = int(np.argmax([one.sum() for one in right[1:]]))
    if is_better(right[0], right[1 + best], trials=len(other)):
        how, what = ways[best]
        yield f"with {how} it would call {right[1 + best].sum()} of {len(true)}: the {what} likely wrong"


def _feed_at_rate(model: nn.Module, sounds: LabelledSounds, rate: int) -> LabelledSounds:
    """Feed sounds at another rate: as long in seconds where the network takes that, otherwise as long in samples."""
    as_long = sounds.fed(rate=rate, n_samples=round(sounds.n_samples / sounds.rate * rate))
    with evaluating(model), torch.no_grad():
        try:
            model(next(iterate_tensors(as_long.take([0]), 1, device=get_device(model))))
        except Exception:  # a network of others may fail in any way
            return sounds.fed(rate=rate)
    return as_long
