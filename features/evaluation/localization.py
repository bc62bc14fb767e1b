"""Weakly supervised localization in time: a network that learned words, not where they are, is asked where they are.

As in the class activation mapping paper, a map is thresholded at 20 % of its maximum and its longest unbroken stretch
is the guess; it counts as right where it and the true interval overlap by at least half (IoU).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import nn

from brainmap.errors import InputError
from brainmap.features.evaluation.explain import all_logits, explain, targets_of
from brainmap.features.sounds.batches import Sounds, labels, tensors
from brainmap.features.sounds.intervals import above, check_intervals, longest_stretch, smoothed

COLUMNS = {
    "network": "network",
    "method": "method of the map; whole and loudness know nothing of the network",
    "stimulus_id": "sound",
    "start_s": "true start [s]",
    "end_s": "true end [s]",
    "found_start_s": "start of the longest stretch above the threshold [s]",
    "found_end_s": "its end [s]",
    "iou": "intersection over union of both",
    "hit": "whether iou is at least .5",
    "error_ms": "mean distance of start and end from the true ones [ms]",
    "center_error_ms": "distance of the centers [ms]",
    "heard": "class of the largest logit",
    "correct": "whether that is the class asked for",
}
SUMMARY = {
    "network": "network",
    "method": "method of the map; whole and loudness know nothing of the network",
    "localization_error": "share of sounds with iou below .5",
    "top1_error": "share of sounds with iou below .5 or a wrong word; none for a baseline",
    "iou": "mean intersection over union",
    "error_ms": "median distance of start and end from the true ones [ms]",
    "center_error_ms": "median distance of the centers [ms]",
    "n": "sounds",
}
BASELINES = ("whole", "loudness")


def found_intervals(
    maps: NDArray[np.floating[Any]],
    boundaries: pd.DataFrame,
    *,
    items: Sequence[str],
    rate: float,
    threshold: float = 0.2,
    smooth_ms: float = 50.0,
) -> pd.DataFrame:
    """Where maps say their sounds are, beside where they are.

    Parameters
    ----------
    maps : ndarray (n_items, t)
    boundaries : DataFrame
        `stimulus_id`, `start_s`, `end_s`, one row a sound.
    items : sequence of str
    rate : float [Hz]
    threshold : float
        Share of the map's maximum.
    smooth_ms : float [ms]
        Moving average over each map first, so that a map that jumps from sample to sample has stretches at all.

    Returns
    -------
    DataFrame
        A row a sound, columns as in `COLUMNS`; a map that is nowhere positive finds the empty interval at 0.

    Raises
    ------
    InputError
        Maps that fit neither items nor length, more than one interval a sound, a setting out of its range.

    References
    ----------
    Zhou B et al. (2016), doi:10.1109/CVPR.2016.319

    Examples
    --------
    >>> truth = pd.DataFrame({"stimulus_id": ["a"], "start_s": [0.2], "end_s": [0.6]})
    >>> found = found_intervals(np.array([[0, 0, 1, 2, 0, 1.0, 0, 0, 0, 0]]), truth, items=["a"], rate=10, smooth_ms=0)
    >>> float(found["iou"][0].round(3)), found["error_ms"].round(6).tolist()
    (0.5, [100.0])
    """
    if np.ndim(maps) != 2 or len(maps) != len(items):
        raise InputError(f"localization: maps of shape {np.shape(maps)}, wanted ({len(items)}, t), one course a sound")
    if not 0 < threshold <= 1 or smooth_ms < 0:
        raise InputError(f"localization: threshold {threshold}, smooth_ms {smooth_ms}; wanted 0 to 1, and at least 0")
    truth = check_intervals(boundaries, items, seconds=maps.shape[1] / rate)
    twice = truth["stimulus_id"][truth["stimulus_id"].duplicated()]
    if len(twice):
        raise InputError(f"localization: {twice.iloc[0]!r} has more than one interval; give one a sound")
    truth = truth.set_index(truth["stimulus_id"].astype(str)).loc[list(items)]
    high = above(smoothed(maps, max(1, round(smooth_ms * rate / 1000))), threshold)
    spans = np.array([longest_stretch(row) for row in high]) / rate
    start, end = truth["start_s"].to_numpy(), truth["end_s"].to_numpy()
    common = (np.minimum(end, spans[:, 1]) - np.maximum(start, spans[:, 0])).clip(min=0)
    either = (end - start) + (spans[:, 1] - spans[:, 0]) - common
    iou = common / either
    off = np.abs(spans - np.stack([start, end], axis=1))
    return pd.DataFrame(
        {
            "stimulus_id": list(items),
            "start_s": start,
            "end_s": end,
            "found_start_s": spans[:, 0],
            "found_end_s": spans[:, 1],
            "iou": iou,
            "hit": iou >= 0.5 - 1e-9,
            "error_ms": 1000 * off.mean(axis=1),
            "center_error_ms": 1000 * np.abs(spans.mean(axis=1) - (start + end) / 2),
        }
    )


def localize(
    models: Mapping[str, nn.Module],
    sounds: Sounds,
    boundaries: pd.DataFrame,
    *,
    methods: Sequence[str] = ("cam", "grad-cam", "saliency"),
    rate: float | None = None,
    class_names: Sequence[str] | None = None,
    classes: str = "true",
    layer: str | None = None,
    threshold: float = 0.2,
    smooth_ms: float = 50.0,
    batch_size: int = 8,
    device: str = "cpu",
) -> pd.DataFrame:
    """Where networks place the word in each sound, by several methods side by side.

    Two baselines that know nothing of a network stand beside them: the whole clip, and the sound's own loudness.

    Parameters
    ----------
    models : mapping of str to torch.nn.Module
        Networks by name; those with global average and global maximum pooling can be told apart here.
    sounds : Sounds or array (n_items, 1, t)
    boundaries : DataFrame
        `stimulus_id`, `start_s`, `end_s`, one row a sound.
    methods : sequence of str
        Of `class_activation_maps` or `attribute`.
    rate : float, optional [Hz]
        Of sounds that do not say theirs.
    class_names : sequence of str, optional
        In the order of the networks' outputs.
    classes : {"true", "predicted"}
        Whose map: of the word that was said, or of the one that was heard.
    layer : str, optional
        Of class activation maps, by default the last convolution.
    threshold, smooth_ms
        As in `found_intervals`.
    batch_size : int
    device : str

    Returns
    -------
    DataFrame
        A row a network, method and sound; columns as `COLUMNS`.

    Raises
    ------
    InputError
        No rate, boundaries that miss a sound, and what a method refuses (CAM without a pooled head).

    References
    ----------
    Zhou B et al. (2016), doi:10.1109/CVPR.2016.319
    """
    known_rate = getattr(sounds, "rate", None) if rate is None else rate
    if known_rate is None:
        raise InputError("localization: an array says nothing of its rate; give rate= [Hz]")
    items, conditions = labels(sounds)
    place: dict[str, Any] = {"items": items, "rate": known_rate, "threshold": threshold, "smooth_ms": smooth_ms}
    parts = []
    for name, model in models.items():
        logits = all_logits(model, sounds, batch_size=max(batch_size, 32), device=device)
        heard = logits.argmax(axis=1)
        asked = targets_of(classes, logits, sounds, class_names)
        known = list(class_names or range(logits.shape[1]))
        if len(known) != logits.shape[1]:
            raise InputError(f"class_names: found {len(known)}, wanted one for each of the {logits.shape[1]} outputs")
        said = targets_of("true", logits, sounds, class_names) if set(conditions) <= set(map(str, known)) else asked
        about = {"heard": [str(known[k]) for k in heard], "correct": heard == said, "network": name}
        for method in methods:
            maps = explain(
                model, sounds, method=method, targets=asked, layer=layer, batch_size=batch_size, device=device
            )
            parts.append(found_intervals(maps, boundaries, **place).assign(method=method, **about))
    parts += [_baseline(sounds, boundaries, kind, place) for kind in BASELINES]
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def _baseline(sounds: Sounds, boundaries: pd.DataFrame, kind: str, place: Mapping[str, Any]) -> pd.DataFrame:
    power = np.concatenate([batch.square().mean(1).numpy() for batch in tensors(sounds, 64)])
    found = found_intervals(np.ones_like(power) if kind == "whole" else power, boundaries, **place)
    return found.assign(method=kind, network="none", heard="", correct=True)


def localization_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Errors by network and method from the table of `localize`; columns as `SUMMARY`."""
    rows = []
    for (network, method), part in table.groupby(["network", "method"], sort=False):
        right = part["hit"] & part["correct"].astype(bool)
        rows.append(
            {
                "network": network,
                "method": method,
                "localization_error": 1 - float(part["hit"].mean()),
                "top1_error": np.nan if method in BASELINES else 1 - float(right.mean()),
                "iou": float(part["iou"].mean()),
                "error_ms": float(part["error_ms"].median()),
                "center_error_ms": float(part["center_error_ms"].median()),
                "n": len(part),
            }
        )
    return pd.DataFrame(rows)
