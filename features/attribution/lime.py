"""Explain logits with LIME, a linear model fitted to versions of the sound in which segments are silenced."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from brainmap.checks import check_ranges
from brainmap.errors import InputError
from brainmap.features.attribution.task import SILENCE, Explainer, Found, Task


@dataclass(frozen=True, kw_only=True)
class Lime:
    """Describe how the linear model is fitted.

    The value of a segment is its weight in a ridge regression of the logit on which segments are present. Versions near
    the whole sound have more weight: exp(-d^2 / kernel_width^2), where d is the cosine distance of the vectors of
    present segments. `fidelity` is the weighted R squared. The same segments are silenced in every item.

    Parameters
    ----------
    segments : int, optional
        Number of time segments of equal length: by default 20, and 10 of a spectrogram.
    frequency_segments : int, optional
        Number of segments of a spectrogram along frequency, which are crossed with those of time: by default 5, and 1
        of an array (c, h, w). Waveforms have none.
    boundaries_ms : sequence of float, optional [ms]
        Boundaries between segments, within the sound, instead of equal lengths.
    samples : int
        Number of versions of a sound: the whole one, and others in which each segment is silenced with probability 1/2.
    kernel_width : float
    alpha : float
        Penalty on the squared weights; the intercept is not penalized.
    baseline : "silence", float or array (c, t) or (c, h, w)
        Value that replaces a silenced segment.

    References
    ----------
    Ribeiro, Singh & Guestrin 2016, doi:10.1145/2939672.2939778
    """

    segments: int | None = None
    frequency_segments: int | None = None
    boundaries_ms: Sequence[float] | None = None
    samples: int = 500
    kernel_width: float = 0.25
    alpha: float = 1.0
    baseline: float | ArrayLike | Literal["silence"] = SILENCE

    def __post_init__(self) -> None:
        check_ranges(
            "lime",
            ("a kernel_width above 0", self.kernel_width, 0 < self.kernel_width < np.inf),
            ("an alpha of 0 or more", self.alpha, 0 <= self.alpha < np.inf),
        )

    def begin(self, task: Task) -> Explainer:
        """Prepare the method for one call."""
        lengths = tuple(task.example.shape[2:])
        time_axis = len(lengths) + task.time_axis
        edges = [
            self._place_segments(task, n) if axis == time_axis else self._place_bands(task, n)
            for axis, n in enumerate(lengths)
        ]
        counts = [len(one) - 1 for one in edges]
        n_segments = int(np.prod(counts))
        if self.samples < n_segments + 2:
            raise InputError(
                f"samples: expected at least {n_segments + 2} for {n_segments} segments, got {self.samples}; take ten "
                "times as many as segments"
            )
        heard = np.ones((self.samples, n_segments), np.float32)
        heard[1:] = task.rng.random((self.samples - 1, n_segments)) < 0.5
        base = task.get_baseline(self.baseline)
        places = [np.repeat(np.arange(count), np.diff(one)) for count, one in zip(counts, edges, strict=True)]
        at = np.arange(n_segments).reshape(counts)[np.ix_(*places)]  # the segment of every sample

        def run(batch: Tensor, targets: Tensor, _: slice) -> Found:
            scores = []
            for group in task.split_copies(self.samples, len(batch)):
                keep = torch.as_tensor(heard[group][:, at], device=batch.device)[:, None, None]
                scores.append(task.compute_scores(base + keep * (batch - base), targets))
            weights, fidelity = fit_linear(
                torch.as_tensor(heard), torch.cat(scores).cpu(), kernel_width=self.kernel_width, alpha=self.alpha
            )
            maps = weights[..., at][:, :, None]
            return Found(
                maps=maps.expand(*targets.shape, *batch.shape[1:]), fidelity=fidelity, effects=weights[..., None]
            )

        spans = [list(itertools.pairwise(one.tolist())) for one in edges]
        windows = np.array(list(itertools.product(*spans)), dtype=np.intp)
        return Explainer(passes=self.samples, run=run, windows=windows)

    def _place_bands(self, task: Task, length: int) -> NDArray[np.intp]:
        """Compute the edges of segments along frequency."""
        count = self.frequency_segments or (5 if task.on_pictures else 1)
        check_ranges("frequency_segments", (f"1 to {length}, the bands of the input", count, 1 <= count <= length))
        return np.linspace(0, length, count + 1).round().astype(np.intp)

    def _place_segments(self, task: Task, length: int) -> NDArray[np.intp]:
        if self.boundaries_ms is not None:
            between = [task.convert_to_samples(ms, "boundaries_ms") for ms in self.boundaries_ms]
            edges = np.array([0, *between, length], dtype=np.intp)
            if not (np.diff(edges) > 0).all():
                end = length / (task.rate or 1) * 1000
                raise InputError(
                    f"boundaries_ms: expected rising times between 0 and {end:g} ms, got {list(self.boundaries_ms)}"
                )
            return edges
        count = self.segments if self.segments is not None else 10 if task.on_pictures else 20
        check_ranges("segments", (f"1 to {length}, the samples of a sound", count, 1 <= count <= length))
        return np.linspace(0, length, count + 1).round().astype(np.intp)


def fit_linear(heard: Tensor, scores: Tensor, *, kernel_width: float, alpha: float) -> tuple[Tensor, Tensor]:
    """Fit a weighted ridge regression of scores on which segments are present.

    Minimize sum_i v_i (score_i - x_i w - b)^2 + alpha |w|^2, v_i = exp(-d_i^2 / kernel_width^2).

    Parameters
    ----------
    heard : Tensor (n_samples, n_segments)
        1 where a segment is present, 0 where it is silenced.
    scores : Tensor (n_samples, ...)
    kernel_width, alpha : float
        Settings of `Lime`.

    Returns
    -------
    weights, fidelity : Tensor (..., n_segments) and (...)
        Fidelity is NaN where the scores do not vary.

    Examples
    --------
    >>> heard = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    >>> [part.tolist() for part in fit_linear(heard, 2 * heard[:, 0] - heard[:, 1], kernel_width=0.5, alpha=0)]
    [[2.0, -1.0], 1.0]
    """
    x, y = heard.double(), scores.double().reshape(len(scores), -1)
    distance = 1 - x.mean(1).sqrt()  # cosine distance to the vector of ones
    pi = torch.exp(-((distance / kernel_width) ** 2))[:, None]
    x, y = x - (pi * x).sum(0) / pi.sum(), y - (pi * y).sum(0) / pi.sum()
    gram = x.T @ (pi * x) + alpha * torch.eye(x.shape[1], dtype=x.dtype)
    try:
        weights = torch.linalg.solve(gram, x.T @ (pi * y))
    except RuntimeError:  # torch.linalg.LinAlgError
        raise InputError("alpha: 0 leaves the weights open with these samples; give more samples or alpha=1") from None
    rest = (pi * (y - x @ weights) ** 2).sum(0)
    fidelity = 1 - rest / (pi * y**2).sum(0)
    shape = scores.shape[1:]
    return weights.T.reshape(*shape, -1).float(), fidelity.reshape(shape).float()
