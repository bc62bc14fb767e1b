"""Hold the maps that explain classes: class activation maps, and attributions to samples. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_choice, list_some, suggest_word
from brainmap.errors import InputError


@dataclass(frozen=True)
class ClassActivationMaps:
    """Hold the class activation maps of a set of sounds.

    Attributes
    ----------
    maps : ndarray float32 (n_items, n_classes, t) or (n_items, n_classes, h, w)
        Signed maps over the samples of the sound, or over the frames of the layer where they were not upsampled.
    items, conditions : tuple of str
    class_names : tuple of str
        Names along the second axis.
    method, layer : str
    logits : ndarray float32 (n_items, n_classes)
    positions : tuple of str
        What the axes after the classes are: "time", "frequency", "token", ...; over a layer, time is the last of them.
    """

    maps: NDArray[np.float32] = field(repr=False)
    items: tuple[str, ...] = field(repr=False)
    conditions: tuple[str, ...] = field(repr=False)
    class_names: tuple[str, ...]
    method: str
    layer: str
    logits: NDArray[np.float32] = field(repr=False)
    positions: tuple[str, ...] = ()

    def take(self, rows: Sequence[int]) -> ClassActivationMaps:
        """Select the maps of some of the sounds."""
        index = np.asarray(rows, dtype=np.intp)
        items, conditions = (tuple(names[k] for k in index) for names in (self.items, self.conditions))
        return replace(self, maps=self.maps[index], items=items, conditions=conditions, logits=self.logits[index])

    def of(self, class_name: str) -> NDArray[np.float32]:
        """Return the maps of one class, `(n_items, t)`.

        Raises
        ------
        InputError
            There is no such class.
        """
        return self.maps[:, self.class_names.index(check_choice(class_name, self.class_names, "class"))]


@dataclass(frozen=True, kw_only=True)
class Attributions:
    """Hold the attributions of a set of sounds by one method.

    Attributes
    ----------
    maps : ndarray float32 (n_items, n_chosen, c, t) or (n_items, n_chosen, c, h, w)
        In the shape of the sounds; n_chosen is 1 for "predicted" and "true". Occlusion and LIME treat the channels of a
        sound as one: for occlusion c is the number of bands (1 without bands), and LIME repeats its values.
    items, conditions : tuple of str
    class_names : tuple of str
        Names of all outputs of the network.
    targets : ndarray int (n_items, n_chosen)
        Class that each map explains, as a position in `class_names`.
    method : str
    layer : str or None
        Layer of guided Grad-CAM.
    logits : ndarray float32 (n_items, n_classes)
    rate : float or None [Hz]
    delta : ndarray float32 (n_items, n_chosen) or None
        Integrated gradients: sum of the map minus the difference of the logits of sound and baseline. LRP: sum of the
        map and of the relevance absorbed by biases, minus the logit.
    fidelity : ndarray float32 (n_items, n_chosen) or None
        LIME: weighted R squared of the linear model.
    effects : ndarray float32 (n_items, n_chosen, n_windows, n_bands) or None
        Occlusion and LIME: one value per window and band.
    windows : ndarray int (n_windows, n_axes, 2) or None [samples]
        Start and end (the first sample after it) along every axis of the sound.
    bands : ndarray (n_bands, 2) or None [Hz]
    products : bool
        Whether maps are products of the samples and a gradient, which have an exact share of each moment and frequency.
    """

    maps: NDArray[np.float32] = field(repr=False)
    items: tuple[str, ...] = field(repr=False)
    conditions: tuple[str, ...] = field(repr=False)
    class_names: tuple[str, ...]
    targets: NDArray[np.intp] = field(repr=False)
    method: str
    layer: str | None = None
    logits: NDArray[np.float32] = field(repr=False)
    rate: float | None = None
    delta: NDArray[np.float32] | None = field(default=None, repr=False)
    fidelity: NDArray[np.float32] | None = field(default=None, repr=False)
    effects: NDArray[np.float32] | None = field(default=None, repr=False)
    windows: NDArray[np.intp] | None = field(default=None, repr=False)
    bands: NDArray[np.float64] | None = field(default=None, repr=False)
    products: bool = False

    @property
    def courses(self) -> NDArray[np.float32]:
        """Sum the maps over channels (or bands), (n_items, n_chosen, t) or (n_items, n_chosen, h, w)."""
        return np.asarray(self.maps.sum(axis=2))

    def names(self, item: int) -> tuple[str, ...]:
        """List the classes that the maps of an item explain."""
        return tuple(self.class_names[c] for c in self.targets[item])

    def of(self, class_name: str) -> NDArray[np.float32]:
        """Return the maps of one class for all items, (n_items, c, t) or (n_items, c, h, w).

        Raises
        ------
        InputError
            There is no such class, or it was not explained for every item.
        """
        wanted = self.class_names.index(check_choice(class_name, self.class_names, "class"))
        return select_maps(self, self.maps, np.full(len(self.maps), wanted))


def find_own_class(conditions: Sequence[str], class_names: Sequence[str]) -> NDArray[np.intp]:
    """Find the class of every item by its condition, as a place in the names.

    Raises
    ------
    InputError
        A condition is not a class.

    Examples
    --------
    >>> find_own_class(["dog", "cat", "dog"], ["cat", "dog"]).tolist()
    [1, 0, 1]
    """
    known = [str(name) for name in class_names]
    absent = list(dict.fromkeys(str(c) for c in conditions if str(c) not in known))
    if absent:
        hint = suggest_word(absent[0], known)
        raise InputError(
            f"classes: conditions {list_some(absent)} are none of the classes {list_some(known, 24)}{hint}; give "
            "sounds or maps of these classes, name one class, or take classes='predicted'"
        )
    return np.array([known.index(str(c)) for c in conditions], dtype=np.intp)


def select_maps(
    found: ClassActivationMaps | Attributions, values: NDArray[np.floating], wanted: NDArray[np.intp]
) -> NDArray[Any]:
    """Select the map of one class for each item.

    Parameters
    ----------
    found : ClassActivationMaps or Attributions
        It says which classes the maps of each item explain: its `targets`, or all of its classes.
    values : ndarray (n_items, n_chosen, ...)
        The maps, or what was computed of them.
    wanted : ndarray of int (n_items,)
        The class of each item, as its place in `class_names`.

    Returns
    -------
    ndarray (n_items, ...)

    Raises
    ------
    InputError
        An item whose class was not explained.
    """
    names, rows = list(found.class_names), np.arange(len(values))
    explained = getattr(found, "targets", None)
    if explained is None:
        explained = np.tile(np.arange(len(names)), (len(values), 1))
    hit = explained == wanted[:, None]
    missing = np.flatnonzero(~hit.any(axis=1))
    if len(missing):
        item = missing[0]
        raise InputError(
            f"maps: {found.items[item]!r} has no map of class {names[wanted[item]]!r}, only of "
            f"{list_some([names[k] for k in explained[item]])}; explain that class too (classes='true', or 'all')"
        )
    return np.asarray(values[rows, hit.argmax(axis=1)])
