"""Test the faithfulness of maps by deletion and insertion curves, and by agreement with known intervals.

* *Deletion*: parts of the sound are removed in the order of the map, the most important first; with a faithful map the
  score of the class falls soon. *Insertion* puts them back in the same order. Both are compared with random orders.
* *Pointing game*: does the map peak within the marked interval? *IoU*: the overlap of the thresholded map with the
marks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import scipy
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brainmap.checks import check_literals, check_ranges
from brainmap.errors import InputError
from brainmap.features.attribution.task import compute_logits
from brainmap.features.layers.running import evaluating
from brainmap.features.sounds.batches import Sounds, get_labels, iterate_tensors
from brainmap.features.sounds.inputs import get_silence
from brainmap.features.sounds.intervals import mark_above, smooth_maps
from brainmap.features.sounds.joining import join_batches
from brainmap.progress import progress
from brainmap.types import CoverOrder, FaithfulnessScore, Fill

CURVE_COLUMNS = {
    "stimulus_id": "sound",
    "condition": "its word or category",
    "class": "class whose map gave the order",
    "auc": "area under the curve over the share of the sound that was changed",
    "random_auc": "the same in random orders, their mean",
    "gain": "how much better than random: random_auc - auc for deletion, auc - random_auc for insertion",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Curves:
    """Hold deletion or insertion curves.

    Attributes
    ----------
    scores, random : ndarray float32 (n_items, n_chosen, n_windows + 1)
        Probability or logit of the class, in the order of its map, and the mean over random orders.
    fractions : ndarray (n_windows + 1,)
        Share of the sound's windows that is removed (or put back).
    targets : ndarray int (n_items, n_chosen)
    items, conditions : tuple of str
    class_names : tuple of str
    order : {"deletion", "insertion"}
    fill, score : str
    """

    scores: NDArray[np.float32] = field(repr=False)
    random: NDArray[np.float32] = field(repr=False)
    fractions: NDArray[np.float64] = field(repr=False)
    targets: NDArray[np.intp] = field(repr=False)
    items: tuple[str, ...] = field(repr=False)
    conditions: tuple[str, ...] = field(repr=False)
    class_names: tuple[str, ...]
    order: str
    fill: str
    score: str

    @property
    def auc(self) -> NDArray[np.float64]:
        """Compute the area under each curve, (n_items, n_chosen): small is good for deletion, large for insertion."""
        return np.asarray(np.trapezoid(self.scores.astype(float), self.fractions, axis=2))

    @property
    def random_auc(self) -> NDArray[np.float64]:
        """Compute the area under the curves of random orders, (n_items, n_chosen)."""
        return np.asarray(np.trapezoid(self.random.astype(float), self.fractions, axis=2))

    @property
    def gain(self) -> NDArray[np.float64]:
        """Compute the improvement in area over random orders, (n_items, n_chosen); positive is better."""
        return (self.random_auc - self.auc) * (1 if self.order == "deletion" else -1)

    @property
    def table(self) -> pd.DataFrame:
        """Build a table with one row per item and class, and the columns `CURVE_COLUMNS`."""
        n_chosen = self.targets.shape[1]
        return pd.DataFrame(
            {
                "stimulus_id": np.repeat(self.items, n_chosen),
                "condition": np.repeat(self.conditions, n_chosen),
                "class": [self.class_names[c] for c in self.targets.ravel()],
                "auc": self.auc.ravel(),
                "random_auc": self.random_auc.ravel(),
                "gain": self.gain.ravel(),
            }
        )


def deletion_curves(
    model: nn.Module,
    sounds: Sounds,
    maps: Any,
    *,
    targets: NDArray[np.integer[Any]] | None = None,
    class_names: Sequence[str] | None = None,
    order: CoverOrder = "deletion",
    windows: int | tuple[int, int] = 25,
    fill: Fill = "zeros",
    fade: float = 0.0,
    score: FaithfulnessScore = "probability",
    random_orders: int = 4,
    batch_size: int = 8,
    device: str = "cpu",
    rng: np.random.Generator | None = None,
) -> Curves:
    """Measure the score of a class while its sound is removed in the order of its map.

    Parameters
    ----------
    model : torch.nn.Module
    sounds : Sounds, array or Tensor (n_items, c, t) or (n_items, c, h, w)
    maps : ndarray (n_items, n_chosen, t) or (n_items, n_chosen, h, w), Attributions or ClassActivationMaps
        Maps over the samples of the sounds.
    targets : ndarray of int (n_items, n_chosen), optional
        Class of each map; Attributions carry theirs, and class activation maps of all classes need none.
    class_names : sequence of str, optional
        Class names in the order of the network's outputs; by default `model.class_names`, or else positions.
    order : {"deletion", "insertion"}
    windows : int or (int, int)
        Equal spans of the last axis, or rows and columns of a grid for 2-D inputs.
    fill : {"zeros", "noise", "mean"}
        Replacement of a removed part: silence (of a spectrogram, what its front end gives for it), white noise at the
        level of the sound, or the sound averaged over a window.
    fade : float
        Width of the ramps at the edges, as a share of a window, which avoid clicks.
    score : {"probability", "logit"}
    random_orders : int
        Number of random orders of the baseline, the same for all classes of an item.
    batch_size : int
        Changed sounds in one forward pass; small batches stay in the cache of a CPU, where 8 was 2.5 times faster than
        32.
    device : str
    rng : numpy.random.Generator, optional
        Random numbers of orders and noise; by default a generator with seed 0.

    Returns
    -------
    Curves

    Raises
    ------
    InputError
        Maps that do not fit the sounds, targets that do not fit the network, a setting out of its range.

    References
    ----------
    Petsiuk V, Das A, Saenko K (2018), RISE. BMVC. doi:10.48550/arXiv.1806.07421

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(40, 2, bias=False))
    >>> x = np.ones((3, 1, 40), np.float32)
    >>> weight = net[1].weight.detach().numpy()
    >>> found = deletion_curves(net, x, np.tile(weight, (3, 1, 1)), targets=np.tile([0, 1], (3, 1)), score="logit")
    >>> found.scores.shape, bool((found.gain >= 0).all())
    ((3, 2, 26), True)
    """
    check_literals((order, CoverOrder, "order"), (fill, Fill, "fill"), (score, FaithfulnessScore, "score"))
    check_ranges(
        "deletion",
        ("random_orders of 1 or more", random_orders, random_orders >= 1),
        ("a fade from 0 to 1", fade, 0 <= fade <= 1),
    )
    rng = rng or np.random.default_rng(0)
    items, conditions = get_labels(sounds)
    if getattr(sounds, "own_lengths", False):  # several lengths are refused: the windows that are removed would differ
        join_batches(
            [np.asarray(batch.cpu()) for batch in iterate_tensors(sounds, 16)], rate=getattr(sounds, "rate", None)
        )
    courses, wanted = drop_channels(maps, targets)
    removal: _Removal | None = None
    scores, random = [], []
    with evaluating(model, device), torch.no_grad(), progress(order, len(items)) as step:
        for row, sound in enumerate(_iterate_sounds(sounds, device)):
            if removal is None:
                silence = torch.as_tensor(get_silence(sounds), device=sound.device)
                removal = _Removal.of(tuple(sound.shape[1:]), windows, fade, fill, silence)
                _check_fit(courses, wanted, len(items), tuple(sound.shape[1:]))
                n_classes = compute_logits(model, sound[None]).shape[1]
                if not 0 <= wanted.min() <= wanted.max() < n_classes:
                    raise InputError(
                        f"targets: expected classes from 0 to {n_classes - 1}, got {wanted.min()} to {wanted.max()}"
                    )
            chances = [rng.permutation(removal.n_windows) for _ in range(random_orders)]
            ranks = np.stack([*removal.rank_windows(courses[row]), *chances])
            heard = [
                compute_logits(model, batch) for batch in removal.iterate_changed(sound, ranks, order, batch_size, rng)
            ]
            found = torch.cat(heard).softmax(1) if score == "probability" else torch.cat(heard)
            found = found.reshape(len(ranks), removal.n_windows + 1, -1).cpu()
            n_chosen = wanted.shape[1]
            scores.append(np.stack([np.asarray(found[k, :, wanted[row, k]]) for k in range(n_chosen)]))
            random.append(np.asarray(found[n_chosen:].mean(0)[:, wanted[row]].T))
            step.advance()
    assert removal is not None  # there is at least one sound
    named = class_names or getattr(model, "class_names", None) or getattr(maps, "class_names", None)
    known = tuple(str(n) for n in (named if named and len(named) == n_classes else range(n_classes)))
    return Curves(
        scores=np.stack(scores),
        random=np.stack(random),
        fractions=np.linspace(0, 1, removal.n_windows + 1),
        targets=wanted,
        items=items,
        conditions=conditions,
        class_names=known,
        order=order,
        fill=fill,
        score=score,
    )


def drop_channels(
    maps: Any, targets: NDArray[np.integer[Any]] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Return maps without channels `(n_items, n_chosen, ...)`, and the class of each.

    Raises
    ------
    InputError
        Targets are missing, or differ in number.
    """
    courses = np.asarray(maps.courses if hasattr(maps, "courses") else getattr(maps, "maps", maps), dtype=np.float32)
    if courses.ndim not in (3, 4):
        raise InputError(f"maps: expected (n_items, n_classes, t) or (n_items, n_classes, h, w), got {courses.shape}")
    known = targets if targets is not None else getattr(maps, "targets", None)
    if known is None and hasattr(maps, "logits") and maps.logits.shape == courses.shape[:2]:
        known = np.tile(np.arange(courses.shape[1]), (len(courses), 1))
    if known is None:
        raise InputError("targets: an array of maps does not say its classes; give targets (n_items, n_chosen)")
    found = np.asarray(known)
    if found.shape != courses.shape[:2] or not np.issubdtype(found.dtype, np.integer):
        raise InputError(
            f"targets: expected integers of shape {courses.shape[:2]}, got {found.dtype} of shape {found.shape}"
        )
    return courses, found.astype(np.intp)


def _check_fit(courses: NDArray[Any], targets: NDArray[Any], n_items: int, shape: tuple[int, ...]) -> None:
    if len(courses) != n_items or courses.shape[2:] != shape:
        raise InputError(
            f"maps: {len(courses)} of shape {courses.shape[2:]} for {n_items} sounds of shape {shape}; "
            "give maps over the samples of the same sounds"
        )
    if not np.isfinite(courses).all():
        raise InputError("maps: found NaN or infinite values")


def _iterate_sounds(sounds: Sounds, device: str) -> Iterator[Tensor]:
    for batch in iterate_tensors(sounds, 16, device=device):
        yield from batch


@dataclass(frozen=True)
class _Removal:
    """Describe how parts of a sound are removed: the window of each sample, and the replacement."""

    shape: tuple[int, ...]
    window_of: NDArray[np.intp]  # (n_samples,)
    n_windows: int
    width: int  # length of a window along the last axis
    ramp: int
    fill: str
    silence: Tensor

    @classmethod
    def of(
        cls, shape: tuple[int, ...], windows: int | tuple[int, int], fade: float, fill: str, silence: Tensor
    ) -> _Removal:
        counts = windows if isinstance(windows, tuple) else (*(1,) * (len(shape) - 1), windows)
        if (
            len(counts) != len(shape)
            or any(not 1 <= n <= length for n, length in zip(counts, shape, strict=True))
            or int(np.prod(counts)) < 2
        ):
            raise InputError(
                "windows: expected two windows or more in all, and at most one for each sample of sounds of shape "
                f"{shape}, got {windows}"
            )
        axes = [np.arange(length) * n // length for n, length in zip(counts, shape, strict=True)]
        window_of = np.ravel_multi_index(np.meshgrid(*axes, indexing="ij"), counts).ravel()
        width = max(1, round(shape[-1] / counts[-1]))
        return cls(shape, window_of, int(np.prod(counts)), width, round(fade * width), fill, silence)

    def rank_windows(self, courses: NDArray[np.float32]) -> NDArray[np.intp]:
        """Rank the windows by each map `(n_chosen, ...)`; 0 is the most important."""
        belongs = np.eye(self.n_windows, dtype=np.float64)[self.window_of]
        means = courses.reshape(len(courses), -1) @ belongs / belongs.sum(0)
        return np.argsort(np.argsort(-means, axis=1, kind="stable"), axis=1)

    def iterate_changed(
        self, sound: Tensor, ranks: NDArray[np.intp], order: str, size: int, rng: np.random.Generator
    ) -> Iterator[Tensor]:
        """Yield all changed sounds, rank by rank and step by step, in batches."""
        other = self._fill_sound(sound, rng)
        rows = [(rank, step) for rank in ranks for step in range(self.n_windows + 1)]
        for begin in range(0, len(rows), size):
            keep = np.stack([(rank >= step) == (order == "deletion") for rank, step in rows[begin : begin + size]])
            kept = keep[:, self.window_of].reshape(-1, 1, *self.shape).astype(np.float32)
            if self.ramp > 1:
                kept = scipy.ndimage.uniform_filter1d(kept, self.ramp, axis=-1, mode="nearest")
            mask = torch.as_tensor(kept, device=sound.device)
            yield sound * mask + other * (1 - mask)

    def _fill_sound(self, sound: Tensor, rng: np.random.Generator) -> Tensor:
        if self.fill == "zeros":
            return self.silence.expand_as(sound)
        if self.fill == "mean":
            averaged = scipy.ndimage.uniform_filter1d(sound.cpu().numpy(), self.width, axis=-1, mode="nearest")
            return torch.as_tensor(averaged, device=sound.device)
        noise = rng.standard_normal(tuple(sound.shape), np.float32)
        return torch.as_tensor(noise, device=sound.device) * sound.square().mean().sqrt()


@dataclass(frozen=True, kw_only=True, eq=False)
class Agreement:
    """Hold the agreement of maps with marked stretches of their sounds.

    Attributes
    ----------
    pointing : ndarray bool (n_items, n_chosen)
        True where the map's maximum lies on a mark.
    iou : ndarray (n_items, n_chosen)
        Intersection over union of the marks and of the map above a share of its maximum.
    mass : ndarray (n_items, n_chosen)
        Share of the map's positive part that lies on marks; NaN where there is no positive part.
    marked : ndarray (n_items,)
        Share of the sound that is marked, which is the chance level of the pointing game and of `mass`.
    """

    pointing: NDArray[np.bool_] = field(repr=False)
    iou: NDArray[np.float64] = field(repr=False)
    mass: NDArray[np.float64] = field(repr=False)
    marked: NDArray[np.float64] = field(repr=False)


def map_agreement(
    maps: Any,
    marks: NDArray[np.bool_],
    *,
    targets: NDArray[np.integer[Any]] | None = None,
    threshold: float = 0.2,
    smooth: int = 1,
    tolerance: int = 0,
) -> Agreement:
    """Compute pointing game, intersection over union and mass of maps against marked samples.

    Parameters
    ----------
    maps : ndarray (n_items, n_chosen, t), Attributions or ClassActivationMaps
    marks : ndarray of bool (n_items, t)
        Marks from `intervals.mark_intervals` or `intervals.mark_voicing`.
    targets : ndarray of int (n_items, n_chosen), optional
        It is accepted for an array of maps, and ignored.
    threshold : float
        Threshold of IoU, as a share of the map's maximum.
    smooth : int [samples]
        Width of the moving average over maps; gradients need one because they fluctuate from sample to sample.
    tolerance : int [samples]
        Largest distance of the maximum from a mark.

    Returns
    -------
    Agreement

    Raises
    ------
    InputError
        Maps and marks that differ in shape; a sound without a mark; a setting out of its range.

    References
    ----------
    Zhang J et al. (2018), Top-down neural attention by excitation backprop. IJCV (the pointing game).
    doi:10.1007/s11263-017-1059-x

    Examples
    --------
    >>> map_agreement(np.array([[[0, 1, 2, 0.0]]]), np.array([[False, False, True, True]])).iou.round(3).tolist()
    [[0.333]]
    """
    placed = np.zeros(np.shape(getattr(maps, "maps", maps))[:2], np.intp) if targets is None else targets
    courses, _ = drop_channels(maps, placed)
    truth = np.asarray(marks, dtype=bool)
    if courses.ndim != 3 or truth.shape != (len(courses), courses.shape[2]):
        raise InputError(f"marks: expected one mark for each sample of the maps {courses.shape}, got {truth.shape}")
    if not truth.any(axis=1).all():
        raise InputError(f"marks: sound {int(np.argmin(truth.any(axis=1)))} has none; leave it out")
    check_ranges(
        "agreement",
        ("a threshold above 0 and at most 1", threshold, 0 < threshold <= 1),
        ("smooth of 1 or more", smooth, smooth >= 1),
        ("a tolerance of 0 or more", tolerance, tolerance >= 0),
    )
    courses = smooth_maps(courses, smooth)
    near = scipy.ndimage.binary_dilation(truth, np.ones((1, 2 * tolerance + 1), bool)) if tolerance else truth
    peak = courses.argmax(axis=2)
    pointing = np.take_along_axis(near, peak, axis=1) & (courses.max(axis=2) > 0)
    high, positive = mark_above(courses, threshold), courses.clip(min=0).astype(float)
    either = (high | truth[:, None]).sum(axis=2)
    total = positive.sum(axis=2)
    on_marks = (positive * truth[:, None]).sum(axis=2)
    return Agreement(
        pointing=pointing,
        iou=(high & truth[:, None]).sum(axis=2) / either,
        marked=truth.mean(axis=1),
        mass=np.divide(on_marks, total, out=np.full_like(total, np.nan), where=total > 0),
    )
