"""Evaluate weakly supervised localization in time: maps of a network that learned words must locate them.

As in the paper on class activation mapping, a map is thresholded at 20 % of its maximum and its longest unbroken
stretch is the estimate; it is correct where its overlap with the true interval (IoU) is at least one half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import nn

from brainmap.checks import check_one_each, check_ranges
from brainmap.errors import InputError
from brainmap.features.evaluation.explain import choose_targets, compute_all_logits, explain
from brainmap.features.sounds.batches import Sounds, get_labels, iterate_tensors
from brainmap.features.sounds.inputs import compute_time_courses, describe_input, get_waveforms
from brainmap.features.sounds.intervals import check_intervals, find_longest_stretch, mark_above, smooth_maps

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


def compare_intervals(
    maps: NDArray[np.floating[Any]],
    boundaries: pd.DataFrame,
    *,
    items: Sequence[str],
    rate: float,
    threshold: float = 0.2,
    smooth_ms: float = 50.0,
) -> pd.DataFrame:
    """Compare the intervals in which maps locate their sounds with the true ones.

    Parameters
    ----------
    maps : ndarray (n_items, t)
    boundaries : DataFrame
        `stimulus_id`, `start_s`, `end_s`, one row per sound.
    items : sequence of str
    rate : float [Hz]
    threshold : float
        Threshold as a share of the map's maximum.
    smooth_ms : float [ms]
        Moving average over each map, without which a map that fluctuates from sample to sample has no long stretches.

    Returns
    -------
    DataFrame
        One row per sound, with the columns `COLUMNS`; a map without positive values gives the empty interval at 0.

    Raises
    ------
    InputError
        Maps fit neither items nor length, a sound has more than one interval, or a setting is out of its range.

    References
    ----------
    Zhou B et al. (2016), doi:10.1109/CVPR.2016.319

    Examples
    --------
    >>> truth = pd.DataFrame({"stimulus_id": ["a"], "start_s": [0.2], "end_s": [0.6]})
    >>> maps = np.array([[0, 0, 1, 2, 0, 1.0, 0, 0, 0, 0]])
    >>> found = compare_intervals(maps, truth, items=["a"], rate=10, smooth_ms=0)
    >>> float(found["iou"][0].round(3)), found["error_ms"].round(6).tolist()
    (0.5, [100.0])
    """
    if np.ndim(maps) != 2 or len(maps) != len(items):
        raise InputError(
            f"localization: expected maps ({len(items)}, t), one course for each sound, got {np.shape(maps)}"
        )
    check_ranges(
        "localization",
        ("a threshold above 0 and at most 1", threshold, 0 < threshold <= 1),
        ("smooth_ms of 0 or more", smooth_ms, smooth_ms >= 0),
    )
    truth = check_intervals(boundaries, items, seconds=maps.shape[1] / rate)
    twice = truth["stimulus_id"][truth["stimulus_id"].duplicated()]
    if len(twice):
        raise InputError(f"localization: {twice.iloc[0]!r} has more than one interval; give one a sound")
    truth = truth.set_index(truth["stimulus_id"].astype(str)).loc[list(items)]
    high = mark_above(smooth_maps(maps, max(1, round(smooth_ms * rate / 1000))), threshold)
    spans = np.array([find_longest_stretch(row) for row in high]) / rate
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
    """Locate the word in each sound by the maps of networks, with several methods side by side.

    Two baselines that do not use a network are included: the whole clip, and the loudness of the sound.

    Parameters
    ----------
    models : mapping of str to torch.nn.Module
        Networks by name, for example with global average and global maximum pooling.
    sounds : Sounds or array (n_items, 1, t)
    boundaries : DataFrame
        `stimulus_id`, `start_s`, `end_s`, one row per sound.
    methods : sequence of str
        Methods of `class_activation_maps` or `attribute`.
    rate : float, optional [Hz]
        Rate of sounds that do not carry theirs.
    class_names : sequence of str, optional
        Class names in the order of the networks' outputs.
    classes : {"true", "predicted"}
        Class whose map is used: that of the spoken word, or the predicted one.
    layer : str, optional
        Layer of class activation maps, by default the last convolution.
    threshold, smooth_ms
        Settings of `compare_intervals`.
    batch_size : int
    device : str

    Returns
    -------
    DataFrame
        One row per network, method and sound, with the columns `COLUMNS`.

    Raises
    ------
    InputError
        No rate, boundaries without a row for a sound, or input that a method refuses (CAM without a pooled head).

    References
    ----------
    Zhou B et al. (2016), doi:10.1109/CVPR.2016.319
    """
    known_rate = getattr(sounds, "rate", None) if rate is None else rate
    if known_rate is None:
        raise InputError("localization: an array says nothing of its rate; give rate= [Hz]")
    items, conditions = get_labels(sounds)
    place: dict[str, Any] = {"items": items, "rate": known_rate, "threshold": threshold, "smooth_ms": smooth_ms}
    parts = []
    for name, model in models.items():
        logits = compute_all_logits(model, sounds, batch_size=max(batch_size, 32), device=device)
        heard = logits.argmax(axis=1)
        asked = choose_targets(classes, logits, sounds, class_names)
        known = list(class_names or range(logits.shape[1]))
        check_one_each(known, logits.shape[1], "class_names", "outputs")
        said = choose_targets("true", logits, sounds, class_names) if set(conditions) <= set(map(str, known)) else asked
        about = {"heard": [str(known[k]) for k in heard], "correct": heard == said, "network": name}
        for method in methods:
            maps = explain(
                model, sounds, method=method, targets=asked, layer=layer, batch_size=batch_size, device=device
            )
            courses = compute_time_courses(maps, describe_input(sounds))
            parts.append(compare_intervals(courses, boundaries, **place).assign(method=method, **about))
    parts += [_compute_baseline(sounds, boundaries, kind, place) for kind in BASELINES]
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def _compute_baseline(sounds: Sounds, boundaries: pd.DataFrame, kind: str, place: Mapping[str, Any]) -> pd.DataFrame:
    power = np.concatenate([batch.square().mean(1).numpy() for batch in iterate_tensors(get_waveforms(sounds), 64)])
    found = compare_intervals(np.ones_like(power) if kind == "whole" else power, boundaries, **place)
    return found.assign(method=kind, network="none", heard="", correct=True)


def summarize_localization(table: pd.DataFrame) -> pd.DataFrame:
    """Summarize errors by network and method, given the table of `localize`; the columns are `SUMMARY`."""
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
