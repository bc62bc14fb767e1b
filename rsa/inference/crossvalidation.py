"""Bootstrap fitted models, with cross-validation over participants and conditions within every resample."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import numpy as np

from brainmap.checks import check_choice, check_each, check_ranges, list_some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.progress import progress
from brainmap.rsa.comparison.ceilings import pool_others
from brainmap.rsa.comparison.fits import KINDS, check_family, compute_rms, fit_weights
from brainmap.rsa.comparison.measures import find_measure
from brainmap.rsa.inference.bootstrap import (
    Bootstrap,
    check_rdms,
    compute_covariances,
    compute_variances,
    leave_out_absent,
    warn_of_absent,
)
from brainmap.rsa.inference.exchange import find_units
from brainmap.rsa.inference.resampling import Draw, check_varied, compute_ceiling_of_any, expand_draws, score_vectors
from brainmap.rsa.rdm.alignment import align_vectors
from brainmap.types import Floats, Measure, ModelFit, Over, RDMs


@dataclass(frozen=True, eq=False, kw_only=True)
class Fold:
    """Hold the indices of the participants and conditions on which a model is fit and scored."""

    train_people: Draw
    test_people: Draw
    train_conditions: Draw
    test_conditions: Draw


Folding = Callable[[Draw, Draw], Sequence[Fold]]


def bootstrap_models(
    models: Mapping[str, RDMs],
    data_rdms: RDMs,
    *,
    kind: ModelFit | Mapping[str, ModelFit] = "weighted",
    over: Over = "both",
    n: int = 1000,
    measure: Measure | str = "rho-a",
    condition_folds: int = 2,
    participant_folds: int = 2,
    repeats: int = 2,
    rng: np.random.Generator,
) -> Bootstrap:
    """Resample participants, conditions or both, and cross-validate families of RDMs within every resample.

    Parameters
    ----------
    models : mapping name -> rsatoolbox RDMs
        One family of RDMs per model, such as the layers of a network; a fixed model is a family of one.
    data_rdms : rsatoolbox RDMs
        One RDM per participant, of one ROI. Where items are stimuli with a condition, conditions are drawn and split
        with all their stimuli, so that no model is fit and scored on tokens of the same word. Participants without an
        RDM are left out, and a `BrainmapWarning` names them.
    kind : {"weighted", "selected", "interpolated", "fixed"}, or a mapping name -> such a word
        As in `brainmap.rsa.fit_weights`.
    over, n, measure
        As in `brainmap.rsa.bootstrap`.
    condition_folds, participant_folds : int
        Number of folds of the conditions and of the participants of a resample; 1 means no split. Each combination of
        folds is scored by models that were fit to all other conditions and participants.
    repeats : int
        Number of random foldings of each resample. With two or more, the variance is corrected for the variation that
        the choice of folds adds.
    rng : numpy Generator

    Returns
    -------
    Bootstrap
        Its `evaluations` are means over folds and repeats. Its ceilings are cross-validated, too: on the conditions of
        a fold, its participants are compared with the pooled others (lower) and with all pooled (upper).

    Raises
    ------
    InputError
        `brainmap.rsa.bootstrap` refuses the data, a model is fit without held-out data, there are too few participants
        or conditions for the folds, or the measure is bures.

    Notes
    -----
    Copies of a participant or condition are always in the same fold. Resamples with fewer than `participant_folds`
    different participants or fewer than three different conditions per fold do not count. If participants are not
    split, the lower ceiling is leave-one-out. An RDM that is constant over the pairs of the training data has weight 0;
    a constant prediction scores 0. Every fold needs a fit: 1000 resamples of a few families take minutes. With few
    resamples the corrected variance may be negative; then p is NaN, and a `BrainmapWarning` is issued.

    References
    ----------
    Schütt et al. 2023, doi:10.7554/eLife.82566

    Examples
    --------
    >>> from brainmap.rsa import compute_rdms, stack_rdms
    >>> rng, items = np.random.default_rng(0), {"stimulus_id": list("abcdefghijkl")}
    >>> layers = [compute_rdms(rng.normal(size=(12, 3)), descriptors=items) for _ in range(3)]
    >>> data = [compute_rdms(rng.normal(size=(12, 3)), descriptors=items) for _ in range(4)]
    >>> for one in data:
    ...     one.dissimilarities = layers[1].dissimilarities + 0.2 * one.dissimilarities
    >>> found = bootstrap_models({"net": stack_rdms(layers)}, stack_rdms(data), kind="selected", over="participants",
    ...                          n=10, repeats=1, rng=rng)
    >>> found.models, bool(found.table()["p"][0] < 0.05)
    (('net',), True)
    """
    check_choice(over, get_args(Over), "over")
    named = find_measure(measure)
    if named == "bures":
        raise InputError("bootstrap_models: bures needs every pair of conditions; choose another measure")
    check_ranges("bootstrap_models", ("n of at least 2", n, n >= 2), ("repeats of at least 1", repeats, repeats >= 1))
    if not models:
        raise InputError("bootstrap_models: expected at least one model, got none")
    kinds: dict[str, ModelFit] = {name: kind[name] if isinstance(kind, Mapping) else kind for name in models}
    check_each(kinds.values(), KINDS, "kind")
    data_rdms, absent = leave_out_absent(data_rdms)
    warn_of_absent(absent)
    families = {name: align_vectors(rdms, data_rdms, names=(name, "data")) for name, rdms in models.items()}
    for name, family in families.items():
        check_family(len(family), kinds[name])
        check_varied(family, range(1, len(family) + 1), f"bootstrap_models: {name}", allow_equal=named == "cosine")
    _, data = check_rdms(next(iter(models.values())), data_rdms, over)
    check_varied(data, range(1, len(data) + 1), "bootstrap_models: data RDMs", allow_equal=named == "cosine")
    units = find_units(data_rdms)
    members = [np.flatnonzero(units == unit) for unit in range(int(units.max()) + 1)]
    sizes = len(data), len(members)
    _check_folds(sizes, (participant_folds, condition_folds), set(kinds.values()))
    drawn = [
        rng.integers(0, size, size=(n, size)) if over in (what, "both") else None
        for size, what in zip(sizes, ("participants", "conditions"), strict=True)
    ]
    return bootstrap_fits(
        {name: (kinds[name], family) for name, family in families.items()},
        data,
        measure=named,
        members=members,
        participants=drawn[0],
        conditions=drawn[1],
        folding=partial(draw_folds, n_people=participant_folds, n_conditions=condition_folds, rng=rng),
        repeats=repeats,
        least=(participant_folds, max(3, 3 * condition_folds)),
    )


def bootstrap_fits(
    families: Mapping[str, tuple[ModelFit, Floats]],
    data: Floats,
    *,
    measure: Measure,
    members: Sequence[Draw],
    participants: Draw | None,
    conditions: Draw | None,
    folding: Folding,
    repeats: int,
    least: tuple[int, int],
) -> Bootstrap:
    """Bootstrap fitted models on condensed vectors, with given draws and with the folds that `folding` draws.

    `members` holds the items of each condition; `least` holds the numbers of different participants and conditions
    that a resample needs.
    """
    everyone, everything = np.arange(len(data)), np.arange(len(members))
    twofold = participants is not None and conditions is not None
    drawn = participants if participants is not None else conditions
    assert drawn is not None
    score = _Scorer(families, data, measure, members)
    found = np.full((3 if twofold else 1, len(drawn), repeats, len(families) + 2), np.nan)
    with progress("cross-validated bootstrap", len(drawn)) as step:
        for b in range(len(drawn)):
            people = everyone if participants is None else participants[b]
            items = everything if conditions is None else conditions[b]
            if len(np.unique(people)) >= least[0] and len(np.unique(items)) >= least[1]:
                kinds = [(people, items), (people, everything), (everyone, items)] if twofold else [(people, items)]
                for k in range(repeats):
                    for at, (who, what) in enumerate(kinds):
                        found[at, b, k] = score(who, what, folding(who, what))
            step.advance()
    used = np.isfinite(found[0, :, :, :-2]).all(axis=(1, 2))
    if used.sum() < 2:
        raise InputError(
            f"bootstrap_models: expected at least 2 resamples with {least[0]} different participants and {least[1]} "
            f"conditions, got {used.sum()} of {len(used)}; take fewer folds"
        )
    as_is = [score(everyone, everything, folding(everyone, everything)) for _ in range(max(repeats, 10))]
    whole = np.mean(as_is, axis=0)
    if score.n_flat:
        warnings.warn(
            f"bootstrap_models: {score.n_flat} scores of a fold are 0, because a prediction or a participant's RDM is "
            "constant there; more conditions make that rare",
            BrainmapWarning,
            stacklevel=3,
        )
    over: Over = "both" if twofold else "participants" if conditions is None else "conditions"
    sizes = {"participants": (len(data),), "conditions": (len(members),), "both": (len(data), len(members))}[over]
    variances, differences = compute_variances(compute_covariances(found[:, used]), sizes)
    if (variances <= 0).any() or (differences[np.triu_indices(len(families), 1)] <= 0).any():
        warnings.warn(
            "bootstrap_models: a variance is not above 0 after the correction for the choice of folds, so that there "
            "is no p; take more resamples or repeats",
            BrainmapWarning,
            stacklevel=3,
        )
    samples = found.mean(axis=2)
    return Bootstrap(
        models=tuple(families),
        over=over,
        measure=measure,
        n_participants=len(data),
        n_conditions=len(members),
        scores=whole[:-2],
        ceiling=whole[-2:],
        samples=samples,
        means=samples[:, used].mean(axis=(0, 1)),
        variances=variances,
        difference_variances=differences,
        df=min(sizes) - 1,
    )


def draw_folds(
    people: Draw, conditions: Draw, n_people: int, n_conditions: int, rng: np.random.Generator
) -> list[Fold]:
    """Combine each fold of the participants with each fold of the conditions, split anew for each participant fold.

    Examples
    --------
    >>> fold = draw_folds(np.array([0, 0, 1]), np.arange(6), 2, 2, np.random.default_rng(0))[0]
    >>> fold.test_people.size, fold.test_conditions.size
    (1, 3)
    """

    def split_draw(drawn: Draw, n: int) -> list[tuple[Draw, Draw]]:
        different = np.unique(drawn)
        if n == 1:
            return [(different, different)]
        return [(np.setdiff1d(different, part), part) for part in np.array_split(rng.permutation(different), n)]

    return [
        Fold(train_people=a, test_people=b, train_conditions=c, test_conditions=d)
        for a, b in split_draw(people, n_people)
        for c, d in split_draw(conditions, n_conditions)
    ]


class _Scorer:
    """Compute mean scores of every family over the folds of a resample, with the lower and upper ceiling last."""

    def __init__(
        self, families: Mapping[str, tuple[ModelFit, Floats]], data: Floats, measure: Measure, members: Sequence[Draw]
    ) -> None:
        self.families, self.data, self.measure, self.members = families, data, measure, members
        self.n_flat = 0

    def __call__(self, people: Draw, conditions: Draw, folds: Sequence[Fold]) -> Floats:
        return np.asarray(np.mean([self._fold(people, conditions, fold) for fold in folds], axis=0))

    def _fold(self, people: Draw, conditions: Draw, fold: Fold) -> Floats:
        trained, tested = (people[np.isin(people, part)] for part in (fold.train_people, fold.test_people))
        items = [self._find_items(conditions, part) for part in (fold.train_conditions, fold.test_conditions)]
        to_fit, to_score = (expand_draws(self.data, chosen, self.measure) for chosen in items)
        found = []
        for kind, family in self.families.values():
            train, test = (expand_draws(family, chosen, self.measure) for chosen in items)
            found.append(
                self._score_prediction(
                    _fit_weights(train, to_fit[trained], kind, self.measure) @ test, to_score[tested]
                )
            )
        return np.array([*found, *self._compute_ceiling(people, to_score, fold)])

    def _find_items(self, conditions: Draw, part: Draw) -> Draw:
        """Return the items of the conditions of a fold, repeated as often as the conditions were drawn."""
        return np.concatenate([self.members[k] for k in conditions[np.isin(conditions, part)]])

    def _score_prediction(self, prediction: Floats, data: Floats) -> float:
        scores = score_vectors(prediction[None], data, self.measure)[0]
        enough = np.isfinite(data).sum(axis=1) > 1
        self.n_flat += int((np.isnan(scores) & enough).sum())
        scores = np.where(np.isnan(scores) & enough, 0.0, scores)
        return float(np.nanmean(scores)) if enough.any() else float("nan")

    def _compute_ceiling(self, people: Draw, to_score: Floats, fold: Fold) -> tuple[float, float]:
        tested = people[np.isin(people, fold.test_people)]
        if np.array_equal(fold.train_people, fold.test_people):
            if len(self.data) == 1:
                return float("nan"), float("nan")
            return compute_ceiling_of_any(to_score, self.measure, np.bincount(people, minlength=len(self.data)))
        rest = people[np.isin(people, fold.train_people)]
        lower, upper = (pool_others(to_score[rows], self.measure)[0] for rows in (rest, people))
        return self._score_prediction(lower, to_score[tested]), self._score_prediction(upper, to_score[tested])


def _fit_weights(train: Floats, data: Floats, kind: ModelFit, measure: Measure) -> Floats:
    """Fit weights for the unscaled RDMs; those that are constant over the training pairs have weight 0."""
    if kind == "fixed":
        return np.ones(1)
    least, most = np.nanmin(train, axis=1), np.nanmax(train, axis=1)
    varied = most > least if measure not in ("cosine", "cosine_cov") else most > 0
    result = np.zeros(len(train))
    if varied.sum() < 2:
        result[varied] = 1.0
        return result
    fitted = fit_weights(train[varied], data, kind=kind, measure=measure)
    result[varied] = fitted / compute_rms(train[varied])
    return result


def _check_folds(sizes: tuple[int, int], folds: tuple[int, int], kinds: set[Any]) -> None:
    for what, size, n, each in zip(("participants", "conditions"), sizes, folds, (1, 3), strict=True):
        if not 1 <= n <= max(size // each, 1):
            raise InputError(f"bootstrap_models: expected 1 to {max(size // each, 1)} folds of {size} {what}, got {n}")
    if folds == (1, 1) and kinds != {"fixed"}:
        raise InputError(
            f"bootstrap_models: {list_some(sorted(kinds))} models are fit, and with one fold of participants "
            "and of conditions nothing is held out to score them; take condition_folds=2"
        )
