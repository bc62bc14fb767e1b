"""Find the level and labels of the items of RDMs, and align several RDMs by label.

One tool sorts the items of an RDM by label, another keeps the order of a table ('b10' comes before 'b9'), so this
module matches items by label. It falls back on positions only where neither side names its items, and then warns.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_enough, list_some, refuse_some, suggest_word
from brainmap.errors import BrainmapWarning, InputError
from brainmap.types import Floats, Level, RDMs

LABEL_OF: dict[str, str] = {"stimulus": "stimulus_id", "condition": "condition"}
LEVELS = {"stimulus": "stimuli", "condition": "conditions", "class": "classes", "unit": "units"}  # and their plurals


def stack_rdms(rdms: Sequence[RDMs], *, descriptor: str | None = None) -> RDMs:
    """Stack RDMs of several calls (participants, networks) into one object, each aligned by label to the first.

    Unlike `rsatoolbox.rdm.concat`, this function never guesses the descriptor to align by and never reorders its
    input. Items are matched by `descriptor` if it is given, else as in `align_vectors`.

    Parameters
    ----------
    rdms : sequence of rsatoolbox RDMs
        RDMs of one level and dissimilarity over the same items, in any order of the items.
    descriptor : str, optional
        The pattern descriptor by which items are matched.

    Returns
    -------
    rsatoolbox.rdm.RDMs

    Raises
    ------
    InputError
        There is nothing to stack, or the RDMs differ in level, dissimilarity or labels.

    Examples
    --------
    >>> from brainmap.rsa import compute_rdms
    >>> x = np.random.default_rng(0).normal(size=(3, 9))
    >>> a = compute_rdms(x, descriptors={"stimulus_id": ["a", "b", "c"], "participant": "01"})
    >>> b = compute_rdms(x[::-1], descriptors={"stimulus_id": ["c", "b", "a"], "participant": "02"})
    >>> both = stack_rdms([a, b])
    >>> both.rdm_descriptors["participant"], bool(np.allclose(*both.dissimilarities))
    (['01', '02'], True)
    """
    if not rdms:
        raise InputError("stack_rdms: expected at least one RDMs object, got none")
    first = rdms[0]
    names = [key for key in first.rdm_descriptors if key != "index"]
    for other in rdms[1:]:
        if other.dissimilarity_measure != first.dissimilarity_measure:
            raise InputError(
                f"stack_rdms: expected one dissimilarity, got {first.dissimilarity_measure!r} and "
                f"{other.dissimilarity_measure!r}"
            )
        names = [key for key in names if key in other.rdm_descriptors]
    found = [_reorder_vectors(one, first, ("these RDMs", "the first"), descriptor) for one in rdms[1:]]
    if any(by_position for _, by_position in found):
        _warn_of_position()
    kind: Any = type(first)
    stacked: RDMs = kind(
        np.concatenate([np.asarray(first.dissimilarities, dtype=np.float64), *(vectors for vectors, _ in found)]),
        dissimilarity_measure=first.dissimilarity_measure,
        descriptors=dict(first.descriptors),
        rdm_descriptors={key: [v for one in rdms for v in one.rdm_descriptors[key]] for key in names},
        pattern_descriptors={k: v for k, v in first.pattern_descriptors.items() if k != "index"},
    )
    return stacked


def find_level(rdms: RDMs) -> str:
    """Return the level of RDMs: their `level` descriptor, else the level that their labels imply."""
    said = rdms.descriptors.get("level", rdms.rdm_descriptors.get("level"))
    if said is not None:
        levels = sorted({str(level) for level in np.atleast_1d(said)})
        if len(levels) > 1:
            raise InputError(
                f"RDMs: expected one level in an object, got {list_some(levels)}; keep each level in an object of its "
                "own"
            )
        return levels[0]
    for level, label in LABEL_OF.items():
        if label in rdms.pattern_descriptors:
            return level
    raise InputError(
        "RDMs: expected a pattern descriptor 'stimulus_id' or 'condition' to align by, got "
        f"{list_some(rdms.pattern_descriptors)}; name the items in pattern_descriptors"
    )


def list_labels(rdms: RDMs) -> list[str]:
    """Return the unique labels of the items, by which RDMs are aligned.

    The labels are `stimulus_id` or `condition`, depending on the level. If the RDMs have neither, they are the only
    pattern descriptor whose values are unique.
    """
    if not _has_level(rdms):
        named = _find_naming(rdms)
        if len(named) == 1:
            return next(iter(named.values()))
    key = LABEL_OF.get(check_choice(find_level(rdms), tuple(LEVELS), "level of the RDMs"), LABEL_OF["stimulus"])
    if key not in rdms.pattern_descriptors:
        raise InputError(f"RDMs: expected a pattern descriptor {key!r}, got {list_some(rdms.pattern_descriptors)}")
    labels = [str(label) for label in rdms.pattern_descriptors[key]]
    twice = {label for label, n in Counter(labels).items() if n > 1}
    refuse_some(sorted(twice), f"RDMs: {key} ", " occur more than once; make labels unique")
    return labels


def _has_level(rdms: RDMs) -> bool:
    """Tell whether RDMs have a `level` descriptor, or unique labels that imply the level."""
    said = rdms.descriptors.get("level", rdms.rdm_descriptors.get("level"))
    return said is not None or any(label in _find_naming(rdms) for label in LABEL_OF.values())


def _find_naming(rdms: RDMs) -> dict[str, list[str]]:
    """Return the pattern descriptors whose values are present and unique, except rsatoolbox's `index`."""
    found = {
        key: [str(value) for value in values]
        for key, values in rdms.pattern_descriptors.items()
        if key != "index" and values is not None and not any(value is None for value in values)
    }
    return {key: labels for key, labels in found.items() if len(labels) == rdms.n_cond == len(set(labels))}


def _match_labels(
    rdms: RDMs, target: RDMs, names: tuple[str, str], descriptor: str | None
) -> tuple[list[str], list[str]] | None:
    """Return the labels of the items on both sides; None where neither side names its items."""
    if descriptor is not None:
        return _read_naming(descriptor, rdms, names[0]), _read_naming(descriptor, target, names[1])
    if _has_level(rdms) and _has_level(target):
        return list_labels(rdms), list_labels(target)
    one, other = _find_naming(rdms), _find_naming(target)
    both = [key for key in one if key in other]
    orders = {key: [one[key].index(x) if x in one[key] else -1 for x in other[key]] for key in both}
    if both and all(order == orders[both[0]] for order in orders.values()):
        return one[both[0]], other[both[0]]
    if both:
        raise InputError(
            f"RDMs: the descriptors {list_some(both)} name the items of both sides and order them differently; choose "
            "the one to align by: descriptor="
        )
    known = [[key for key in side.pattern_descriptors if key != "index"] for side in (rdms, target)]
    if any(known):
        told = [f"the {who} have {list_some(keys) if keys else 'none'}" for who, keys in zip(names, known, strict=True)]
        raise InputError(
            f"RDMs: no pattern descriptor that is unique names the items of both sides ({', '.join(told)}); give both "
            "the same one, or pass descriptor='index' to align by position"
        )
    return None


def _read_naming(descriptor: str, rdms: RDMs, who: str) -> list[str]:
    if descriptor == "index":
        return _read_positions(rdms)
    if descriptor not in rdms.pattern_descriptors:
        known = [str(key) for key in rdms.pattern_descriptors]
        raise InputError(
            f"descriptor: the {who} have no {descriptor!r}, but "
            f"{list_some(known) or 'none'}{suggest_word(descriptor, known)}"
        )
    named = _find_naming(rdms)
    if descriptor not in named:
        raise InputError(
            f"descriptor: the values of {descriptor!r} of the {who} are not unique, or some are missing; name another "
            "descriptor"
        )
    return named[descriptor]


def _read_positions(rdms: RDMs) -> list[str]:
    """Return rsatoolbox's `index` of the items, which an item keeps when others are left out; else their positions."""
    return [str(value) for value in rdms.pattern_descriptors.get("index", range(rdms.n_cond))]


def list_groups(rdms: RDMs, by: Level) -> list[str]:
    """Return the stimulus or condition of each item; items without such labels count as one stimulus each.

    Raises
    ------
    InputError
        `by` is "condition", and the RDMs have no conditions.
    """
    if LABEL_OF[by] in rdms.pattern_descriptors:
        return [str(label) for label in rdms.pattern_descriptors[LABEL_OF[by]]]
    if by == "condition":
        raise InputError(
            f"by='condition': expected {LABEL_OF[by]!r} labels, got only "
            f"{list_some(rdms.pattern_descriptors) or 'none'}; choose by='stimulus'"
        )
    return [str(k) for k in range(rdms.n_cond)]


def check_items(rdms: RDMs, what: str, least: int = 3) -> None:
    """Refuse RDMs with fewer items than `least`.

    Raises
    ------
    InputError
    """
    check_enough(rdms.n_cond, least, what, "items in RDMs", "; a geometry of fewer has no shape")


def group_by_region(rdms: RDMs) -> dict[str, NDArray[np.intp]]:
    """Return the rows of each region's RDMs; without regions, they are all of one, of all voxels."""
    rois = [str(roi) for roi in rdms.rdm_descriptors.get("roi", ["all voxels"] * rdms.n_rdm)]
    return {roi: np.flatnonzero([one == roi for one in rois]) for roi in dict.fromkeys(rois)}


def list_rdm_names(rdms: RDMs) -> tuple[str, ...]:
    """Return the names of the models.

    A name is the layer (`layer@seconds` for RDMs over time), preceded by the network where layers repeat. RDMs without
    layers have their `name` descriptor or a number.
    """
    described = {key: [str(v) for v in values] for key, values in rdms.rdm_descriptors.items()}
    if "time" in described and "layer" in described:
        times = rdms.rdm_descriptors["time"]
        described["layer"] = [f"{layer}@{float(t):g}" for layer, t in zip(described["layer"], times, strict=True)]
    choices = [described.get("layer"), described.get("name")]
    if "network" in described and "layer" in described:
        choices.insert(1, [f"{a} {b}" for a, b in zip(described["network"], described["layer"], strict=True)])
    for names in choices:
        if names is not None and len(set(names)) == len(names):
            return tuple(names)
    if any(names is not None for names in choices):
        repeated = next(names for names in choices if names is not None)
        twice = sorted({name for name in repeated if repeated.count(name) > 1})
        raise InputError(f"models: {list_some(twice)} occur twice; give each a unique layer or name")
    return tuple(f"model {k + 1}" for k in range(rdms.n_rdm))


def align_vectors(
    rdms: RDMs, target: RDMs, *, names: tuple[str, str] = ("data", "models"), descriptor: str | None = None
) -> Floats:
    """Return the dissimilarities `(n_rdms, n_pairs)` of `rdms` with the items in the order of `target`.

    Items are matched by `descriptor` if it is given; else by `stimulus_id` or `condition`, depending on the level; else
    by a descriptor with unique values that both sides share. Where neither side names its items, they are matched by
    rsatoolbox's `index`, and a `BrainmapWarning` is issued.

    Raises
    ------
    InputError
        The levels or items differ, no descriptor names the items of both sides, or several descriptors disagree.
    """
    vectors, by_position = _reorder_vectors(rdms, target, names, descriptor)
    if by_position:
        _warn_of_position()
    return vectors


def _warn_of_position() -> None:
    warnings.warn(
        "RDMs: neither side names its items, so they are matched by position; name them in "
        "pattern_descriptors to be safe",
        BrainmapWarning,
        stacklevel=3,
    )


def _reorder_vectors(
    rdms: RDMs, target: RDMs, names: tuple[str, str], descriptor: str | None = None
) -> tuple[Floats, bool]:
    """Return the vectors in the order of `target`, and whether the items are matched by position alone."""
    if descriptor is None and _has_level(rdms) and _has_level(target):
        levels = find_level(rdms), find_level(target)
        if levels[0] != levels[1]:
            sizes = [
                f"{who} over {one.n_cond} {LEVELS.get(level, level)}"
                for who, one, level in zip(names, (rdms, target), levels, strict=True)
            ]
            raise InputError(f"RDMs: expected one level, got {', '.join(sizes)}; compute both with the same items=")
    matched = _match_labels(rdms, target, names, descriptor)
    have, want = matched or (_read_positions(rdms), _read_positions(target))
    if set(have) != set(want):
        more, less = [x for x in have if x not in set(want)], [x for x in want if x not in set(have)]
        told = [f"only in {who}: {list_some(x)}" for who, x in zip(names, (more, less), strict=True) if x]
        raise InputError(
            f"RDMs: the items of the two sides differ; {'; '.join(told)}; use the same items on both sides"
        )
    vectors = np.asarray(rdms.dissimilarities, dtype=np.float64)
    if have != want:
        place = {label: k for k, label in enumerate(have)}
        vectors = vectors[:, find_pair_positions(np.array([place[label] for label in want]), len(have))]
    return vectors, matched is None


def count_items_of_pairs(n_pairs: int) -> int:
    """Return how many items have so many pairs, rounded where no number of items has.

    Examples
    --------
    >>> count_items_of_pairs(6)
    4
    """
    return round((1 + math.sqrt(1 + 8 * n_pairs)) / 2)


def find_pair_positions(order: NDArray[np.integer], n_items: int) -> NDArray[np.intp]:
    """Return the positions of the pairs of the items `order` in a condensed vector over `n_items` items.

    Examples
    --------
    >>> find_pair_positions(np.array([2, 0]), 3)
    array([1])
    """
    a, b = np.triu_indices(len(order), 1)
    i, j = np.minimum(order[a], order[b]), np.maximum(order[a], order[b])
    return np.asarray(i * (2 * n_items - i - 1) // 2 + j - i - 1, dtype=np.intp)


def split_pairs(inside: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the positions of the pairs within a part of the items, and of those within the rest.

    Examples
    --------
    >>> split_pairs(np.array([True, True, False, False]))
    (array([0]), array([5]))
    """
    one, other = np.flatnonzero(inside), np.flatnonzero(~inside)
    return find_pair_positions(one, len(inside)), find_pair_positions(other, len(inside))


def sort_items(rdms: RDMs, order: Sequence[str]) -> RDMs:
    """Return RDMs with their items in a given order, such as that of a table of stimuli.

    rsatoolbox compares RDMs by position and does not look at labels, so that files that are read together hold their
    items in one order.

    Parameters
    ----------
    rdms : RDMs
    order : sequence of str
        Labels as `list_labels` returns them (`stimulus_id` or `condition`), in the wanted order; others have no effect.

    Returns
    -------
    RDMs

    Raises
    ------
    InputError
        An item is not in `order`.

    Examples
    --------
    >>> from brainmap.rsa import compute_rdms
    >>> x = np.array([[0.0, 1.0], [2.0, 5.0], [7.0, 7.0]])
    >>> rdms = compute_rdms(x, dissimilarity="euclidean", descriptors={"stimulus_id": ["a", "b", "c"]})
    >>> sorted_rdms = sort_items(rdms, ["c", "b", "a"])
    >>> rdms.dissimilarities.tolist(), sorted_rdms.dissimilarities.tolist()
    ([[10.0, 42.5, 14.5]], [[14.5, 42.5, 10.0]])
    >>> list_labels(sorted_rdms)
    ['c', 'b', 'a']
    """
    own, place = list_labels(rdms), {label: k for k, label in enumerate(dict.fromkeys(order))}
    unknown = [label for label in own if label not in place]
    refuse_some(unknown, "RDMs: expected items in the order given, got also ", "; name all of them")
    rows = sorted(range(len(own)), key=lambda k: place[own[k]])
    kind: Any = type(rdms)
    found: RDMs = kind(
        np.asarray(rdms.dissimilarities)[:, find_pair_positions(np.array(rows), len(own))],
        dissimilarity_measure=rdms.dissimilarity_measure,
        descriptors=dict(rdms.descriptors),
        rdm_descriptors=dict(rdms.rdm_descriptors),
        pattern_descriptors={
            key: [values[k] for k in rows] for key, values in rdms.pattern_descriptors.items() if key != "index"
        },
    )
    return found


def leave_out_pairs_within(rdms: RDMs, by: str = "condition") -> RDMs:
    """Return RDMs in which pairs of items of one condition are missing (NaN), as windows of one story.

    Comparisons leave out such pairs. Windows of one story that are near in time resemble each other in a brain and in a
    network; pairs of windows of different stories do not do so for that reason.

    Parameters
    ----------
    rdms : RDMs
    by : str
        Pattern descriptor that tells what items belong together.

    Returns
    -------
    RDMs

    Raises
    ------
    InputError
        Items have no such descriptor, or all belong together.

    Examples
    --------
    >>> from brainmap.rsa import compute_rdms
    >>> names = {"stimulus_id": ["a1", "a2", "b1"], "condition": ["a", "a", "b"]}
    >>> rdms = compute_rdms(np.random.default_rng(0).normal(size=(3, 9)), descriptors=names)
    >>> np.isnan(leave_out_pairs_within(rdms).dissimilarities[0]).tolist()
    [True, False, False]
    """
    if by not in rdms.pattern_descriptors:
        raise InputError(f"RDMs: expected items with {by!r}, got {sorted(rdms.pattern_descriptors)}; name one of these")
    own = np.asarray([str(name) for name in rdms.pattern_descriptors[by]])
    first, second = np.triu_indices(len(own), 1)
    within = own[first] == own[second]
    if within.all():
        raise InputError(f"RDMs: expected items of several groups by {by!r}, got one; no pair would be left")
    found = rdms.copy()
    found.dissimilarities = np.where(within, np.nan, found.dissimilarities)
    return found
