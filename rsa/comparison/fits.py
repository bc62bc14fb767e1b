"""Fit and score models with parameters: the best RDM of a family, a weighted sum, or an interpolation of neighbors.

Parameters are fit to other participants and items than those on which the model is scored.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_enough, check_ranges, list_some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.comparison.ceilings import pool_others
from brainmap.rsa.comparison.measures import compare_vectors, find_measure, whiten_vectors
from brainmap.rsa.rdm.alignment import LABEL_OF, align_vectors, group_by_region, list_groups, split_pairs
from brainmap.types import Floats, Level, Measure, ModelFit, RDMs

KINDS: tuple[ModelFit, ...] = get_args(ModelFit)


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelScores:
    """Hold the cross-validated scores of families of RDMs, and the fitted weights.

    Attributes
    ----------
    scores : DataFrame
        One row per model, ROI and participant: model, kind, roi, participant, score (mean over folds of items).
    weights : DataFrame
        One row per model, ROI and RDM of its family: model, kind, roi, rdm, weight (mean over folds; the weights sum to
        1, for RDMs scaled to the same root mean square), chosen (share of folds in which the weight is not 0).
    """

    scores: pd.DataFrame
    weights: pd.DataFrame


def fit_weights(
    models: NDArray[np.floating],
    data: NDArray[np.floating],
    *,
    kind: ModelFit = "weighted",
    measure: Measure | str = "cosine",
) -> Floats:
    """Fit the weights of a family of RDMs that maximize its score on the data.

    Parameters
    ----------
    models : array (n_rdms, n_pairs)
        The family; for interpolated models in a meaningful order (layers by depth).
    data : array (n_participants, n_pairs)
        Pairs that are NaN in any model are left out; pairs that are NaN in the data are left out for that participant.
    kind : {"fixed", "selected", "weighted", "interpolated"}
        "fixed": the only RDM. "selected": the RDM with the highest mean score. "weighted": a sum with non-negative
        weights. "interpolated": a weighted sum of two consecutive RDMs.
    measure : str
        As in `brainmap.rsa.compare_rdms`. Rank measures have no gradient; for these, weights maximize the correlation
        with the mean ranks of the data. For bures they maximize the cosine with the mean of the data scaled to the same
        trace of the inner products.

    Returns
    -------
    array (n_rdms,)
        Non-negative weights with sum 1.

    Raises
    ------
    InputError
        The kind is unknown, a fixed model has more than one RDM or an interpolated one fewer than two, the numbers of
        pairs differ, or a model RDM has no variance.

    Notes
    -----
    The mean cosine (correlation) of one prediction with several data RDMs is proportional to its cosine with the mean
    of the unit-length data RDMs. The non-negative least-squares fit to that mean maximizes this cosine, so the solution
    is exact. If all RDMs of the family score below 0, all weights of that fit are 0, and the best single RDM is the
    optimum.

    References
    ----------
    Khaligh-Razavi and Kriegeskorte 2014, doi:10.1371/journal.pcbi.1003915; Schütt et al. 2023,
    doi:10.7554/eLife.82566

    Examples
    --------
    >>> models = np.array([[1.0, 0, 0, 1], [0, 1.0, 0, 0], [0, 0, 1.0, 0]])
    >>> fit_weights(models, np.array([[1.0, 2.0, 0.0, 1.0]])).round(3)
    array([0.414, 0.586, 0.   ])
    """
    check_choice(kind, KINDS, "kind")
    measure = find_measure(measure)
    models, data = (np.atleast_2d(np.asarray(x, dtype=np.float64)) for x in (models, data))
    if models.shape[1] != data.shape[1]:
        raise InputError(
            f"fit_weights: expected equal numbers of pairs, got {models.shape[1]} in models and {data.shape[1]} in "
            "data; use the same items"
        )
    check_family(len(models), kind)
    if kind == "fixed":
        return np.ones(1)
    if kind == "selected":
        with warnings.catch_warnings():  # participants without a score are ignored in the choice
            warnings.simplefilter("ignore", BrainmapWarning)
            scores = compare_vectors(models, data, measure=measure)
        scores = scores[:, np.isfinite(scores).any(axis=0)]
        best = np.where(np.isfinite(scores), scores, -1.0).mean(axis=1).argmax() if scores.size else 0
        return np.asarray(np.eye(len(models))[best])
    x, y = _bring_to_one_scale(models, data, measure)
    if kind == "weighted":
        weights = _fit_in_cone(x, y)
    else:
        candidates = []
        for k in range(len(x) - 1):
            weights = np.zeros(len(x))
            weights[k : k + 2] = _fit_in_cone(x[k : k + 2], y)
            candidates.append(weights)
        weights = max(candidates, key=lambda w: _compute_cosine(w @ x, y))
    return np.asarray(weights / weights.sum())


def score_models(
    models: Mapping[str, RDMs],
    data_rdms: RDMs,
    *,
    kind: ModelFit = "weighted",
    measure: Measure | str = "rho-a",
    item_folds: int = 2,
    participant_folds: int | None = None,
    by: Level | None = None,
    rng: np.random.Generator,
) -> ModelScores:
    """Score families of RDMs that are fit and scored on different participants and different items.

    Parameters
    ----------
    models : mapping name -> rsatoolbox RDMs
        One family of RDMs per model, such as the layers of a network.
    data_rdms : rsatoolbox RDMs
        One RDM per participant and ROI (RDM descriptors `participant`, `roi`).
    kind : {"fixed", "selected", "weighted", "interpolated"}
        See `fit_weights`. Fixed models that are compared with others should be scored here, too; generators of the same
        seed give the same folds.
    measure : str
        As in `brainmap.rsa.compare_rdms`.
    item_folds : int
        Number of folds of the items; each fold is scored by a model that was fit to the pairs among all other items. 1
        means no split.
    participant_folds : int, optional
        Number of folds of the participants; the default is leave-one-out, and 1 means no split.
    by : {"condition", "stimulus"}, optional
        The units that are split; by default conditions, if the RDMs have them, so that all tokens of a word are in the
        same fold.
    rng : numpy Generator
        Draws the folds.

    Returns
    -------
    ModelScores

    Raises
    ------
    InputError
        The items or levels differ, a fold has fewer than three items, there are more folds than participants, or
        nothing is held out.

    References
    ----------
    Schütt et al. 2023, doi:10.7554/eLife.82566 (cross-validation over both)

    Examples
    --------
    >>> from brainmap.rsa import compute_rdms, stack_rdms
    >>> rng, items = np.random.default_rng(0), {"stimulus_id": list("abcdefgh")}
    >>> layers = [compute_rdms(rng.normal(size=(8, 9)), descriptors=items) for _ in range(3)]
    >>> data = stack_rdms([layers[1], layers[1], layers[1]])
    >>> found = score_models({"net": stack_rdms(layers)}, data, kind="selected", rng=rng)
    >>> found.scores["score"].round(3).tolist(), found.weights["weight"].tolist()
    ([1.0, 1.0, 1.0], [0.0, 1.0, 0.0])
    """
    check_choice(kind, KINDS, "kind")
    measure = find_measure(measure)
    families = {name: align_vectors(rdms, data_rdms, names=(name, "data")) for name, rdms in models.items()}
    if not families:
        raise InputError("score_models: expected at least one model, got none")
    for family in families.values():
        check_family(len(family), kind)
    items = _split_items(data_rdms, item_folds, by, rng)
    data = np.asarray(data_rdms.dissimilarities, dtype=np.float64)
    people = [str(p) for p in data_rdms.rdm_descriptors.get("participant", range(1, len(data) + 1))]
    fold_of = _split_participants(people, participant_folds, rng)
    if max(fold_of.values()) == 0 and len(items) == 1 and kind != "fixed":
        raise InputError(
            f"score_models: {kind} models are fit, and with one fold of participants and of items nothing "
            "is held out to score them; take item_folds=2 or more"
        )
    scored, weighed = [], []
    for name, family in families.items():
        for roi, where in group_by_region(data_rdms).items():
            part = np.array([fold_of[people[k]] for k in where])
            scores, weights = _cross_validate(family, data[where], part, items, kind, measure)
            scored += [
                {"model": name, "kind": kind, "roi": roi, "participant": people[k], "score": score}
                for k, score in zip(where, scores, strict=True)
            ]
            weighed += [
                {"model": name, "kind": kind, "roi": roi, "rdm": rdm, "weight": w.mean(), "chosen": (w > 0).mean()}
                for rdm, w in zip(_read_names(models[name]), weights.T, strict=True)
            ]
    return ModelScores(scores=pd.DataFrame(scored), weights=pd.DataFrame(weighed))


def _cross_validate(
    family: Floats,
    data: Floats,
    part: NDArray[np.intp],
    items: list[tuple[NDArray[np.intp], NDArray[np.intp]]],
    kind: ModelFit,
    measure: Measure,
) -> tuple[Floats, Floats]:
    """Compute cross-validated scores `(n_participants,)` of a family, and its weights per fold `(n_folds, n_rdms)`."""
    scores, weights = np.full((len(items), len(data)), np.nan), []
    alone = len(set(part.tolist())) == 1
    for k, (train, test) in enumerate(items):
        for fold in dict.fromkeys(part.tolist()):
            tested = part == fold
            trained = tested if alone else ~tested
            fitted = fit_weights(family[:, train], data[np.ix_(trained, train)], kind=kind, measure=measure)
            # as in fit_weights, the weights belong to RDMs with unit root mean square over the training pairs
            prediction = (fitted / compute_rms(family[:, train])) @ family[:, test]
            scores[k, tested] = compare_vectors(prediction, data[np.ix_(tested, test)], measure=measure)[0]
            weights.append(fitted)
    count = np.isfinite(scores).sum(axis=0)
    mean = np.nansum(scores, axis=0) / np.where(count > 0, count, np.nan)
    return mean, np.array(weights)


def _split_items(
    rdms: RDMs, folds: int, by: str | None, rng: np.random.Generator
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return for each fold the pairs among the other items, and the pairs within the fold."""
    known = [level for level, label in LABEL_OF.items() if label in rdms.pattern_descriptors] or ["stimulus"]
    by = check_choice(by, known, "by") if by is not None else "condition" if "condition" in known else "stimulus"
    every = np.arange(rdms.n_cond * (rdms.n_cond - 1) // 2)
    if folds < 2:
        return [(every, every)]
    labels = list_groups(rdms, by)  # type: ignore[arg-type]
    names, member = np.unique(labels, return_inverse=True)
    if len(names) < 3 * folds:
        raise InputError(
            f"score_models: expected at least {3 * folds} groups by {by}, three in each of {folds} folds, got "
            f"{len(names)}; take fewer item_folds" + ("" if by == "stimulus" else " or by='stimulus'")
        )
    parts = np.array_split(rng.permutation(len(names)), folds)
    return [split_pairs(~np.isin(member.reshape(-1), part)) for part in parts]


def _split_participants(people: list[str], folds: int | None, rng: np.random.Generator) -> dict[str, int]:
    names = list(dict.fromkeys(people))
    folds = len(names) if folds is None else folds
    check_ranges(
        "score_models", (f"1 to {len(names)} folds of {len(names)} participants", folds, 1 <= folds <= len(names))
    )
    parts = np.array_split(rng.permutation(len(names)), folds)
    return {names[i]: k for k, part in enumerate(parts) for i in part}


def check_family(n_rdms: int, kind: ModelFit) -> None:
    """Refuse a family with a number of RDMs that does not fit its kind.

    Raises
    ------
    InputError
    """
    if kind == "fixed" and n_rdms != 1:
        raise InputError(f"fixed model: expected one RDM, got {n_rdms}; name each, or choose 'selected' or 'weighted'")
    if kind == "interpolated" and n_rdms < 2:
        raise InputError(f"interpolated model: expected at least 2 RDMs, got {n_rdms}")


def _read_names(rdms: RDMs) -> list[str]:
    """Return the names of the RDMs of a family."""
    for key in ("name", "layer"):
        if key in rdms.rdm_descriptors:
            return [str(name) for name in rdms.rdm_descriptors[key]]
    return [str(k) for k in range(1, rdms.n_rdm + 1)]


def compute_rms(models: Floats) -> Floats:
    """Compute the root mean square of each RDM over its pairs."""
    size = np.sqrt(np.nanmean(models**2, axis=1))
    return np.asarray(np.where(size > 0, size, 1.0))


def _bring_to_one_scale(models: Floats, data: Floats, measure: Measure) -> tuple[Floats, Floats]:
    """Return models `(n_rdms, n)` and pooled data `(n,)` as vectors whose cosine is maximized."""
    pooled = pool_others(data, measure)[0]
    use = ~np.isnan(models).any(axis=0) & ~np.isnan(pooled)
    check_enough(use.sum(), 2, "fit_weights", "pairs of items that models and data have")
    x = models[:, use] / compute_rms(models)[:, None]
    y = pooled[None, use]
    if measure not in ("cosine", "cosine_cov", "bures"):
        x, y = x - x.mean(axis=1, keepdims=True), y - y.mean()
        flat = np.flatnonzero(np.abs(x).max(axis=1) <= 1e-13) + 1
        if len(flat):
            raise InputError(f"fit_weights: model RDM {list_some(flat.tolist())} has no variance; leave it out")
    if measure in ("corr_cov", "cosine_cov"):
        x, y = whiten_vectors(x, use), whiten_vectors(y, use)
    return x, y[0]


def _fit_in_cone(x: Floats, y: Floats) -> Floats:
    """Find the non-negative weights of the rows of x whose sum has the largest cosine with y."""
    from scipy.optimize import nnls

    # QR gives vectors of few dimensions with the same inner products, since there may be many pairs
    small: Floats = np.asarray(np.linalg.qr(np.column_stack([x.T, y]), mode="r"))
    weights = np.asarray(nnls(small[:, :-1], small[:, -1])[0])
    if weights.any():
        return weights
    return np.asarray(np.eye(len(x))[np.argmax([_compute_cosine(row, y) for row in x])])


def _compute_cosine(a: Floats, b: Floats) -> float:
    below = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / below if below > 0 else -1.0
