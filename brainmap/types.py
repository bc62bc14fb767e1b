"""What passes between rooms that do not import each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class FeatureSet(Protocol):
    """Features of the same items in several layers, as `features.extract_activations` gives them.

    `items` are the stimulus ids and `conditions` the word or category of each, both of length n_items;
    indexing with a layer name gives an array-like `(n_items, n_units)` (or `(n_items, ...)` when time is kept),
    read only when sliced.
    """

    @property
    def items(self) -> Sequence[str]: ...

    @property
    def conditions(self) -> Sequence[str]: ...

    @property
    def layers(self) -> Sequence[str]: ...

    def __getitem__(self, layer: str) -> NDArray[np.floating]: ...

    def __iter__(self) -> Iterator[str]: ...


@runtime_checkable
class TimedFeatureSet(FeatureSet, Protocol):
    """Features that keep time: the last axis of a layer `(n_items, ..., n_frames)` is time where `frame_times` says so.

    `frame_times(layer)` is the center of each frame [s] from the beginning of the sound, or None for a layer without
    time.
    """

    def frame_times(self, layer: str) -> NDArray[np.floating] | None: ...
