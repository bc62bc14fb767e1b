"""Bootstrap scores over participants, conditions or both, to estimate their variance over studies."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pandas as pd

from brainmap.checks import check_choice, check_enough, list_some, refuse_some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.groups import group_pairs
from brainmap.rsa.comparison.measures import find_measure
from brainmap.rsa.inference.exchange import find_units
from brainmap.rsa.inference.resampling import Draw, check_varied, make_sampler, resample
from brainmap.rsa.inference.scores import correct_p
from brainmap.rsa.inference.seeds import average_rows
from brainmap.rsa.rdm.alignment import align_vectors, count_items_of_pairs, list_rdm_names
from brainmap.types import Correction, Floats, Measure, Over, RDMs


def leave_out_absent(data_rdms: RDMs) -> tuple[RDMs, dict[str, list[str]]]:
    """Leave out data RDMs whose pairs are all missing, and return the participants without an RDM of each ROI.

    Raises
    ------
    InputError
        No participant has an RDM.
    """
    absent = np.asarray(np.isnan(np.asarray(data_rdms.dissimilarities, dtype=np.float64)).all(axis=1))
    size = data_rdms.n_rdm
    if not absent.any():
        return data_rdms, {}
    described = data_rdms.rdm_descriptors
    people = [str(p) for p in described.get("participant", range(1, size + 1))]
    rois = [str(roi) for roi in described.get("roi", ["all voxels"] * size)]
    if absent.all():
        raise InputError(f"bootstrap: no participant has an RDM of {list_some(dict.fromkeys(rois), 3)}; leave it out")
    return data_rdms[np.flatnonzero(~absent)], group_pairs((rois[k], people[k]) for k in np.flatnonzero(absent))


def describe_absent(absent: Mapping[str, Sequence[str]]) -> str:
    """Describe in words which participants are left out of which ROIs.

    Examples
    --------
    >>> describe_absent({"HG": ["03"], "belt": ["03", "07"]})
    "participants without an RDM are left out: '03' of 'HG'; '03', '07' of 'belt'"
    """
    return "participants without an RDM are left out: " + "; ".join(
        f"{list_some(people)} of {roi!r}" for roi, people in absent.items()
    )


def warn_of_absent(absent: Mapping[str, Sequence[str]]) -> None:
    """Warn about participants without an RDM, if there are any."""
    if absent:
        warnings.warn(f"bootstrap: {describe_absent(absent)}", BrainmapWarning, stacklevel=3)


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Hold the scores of resampled participants and conditions, their variances, and t tests based on them.

    Attributes
    ----------
    models : tuple of str
    over : {"participants", "conditions", "both"}
        The population to which the tests generalize: other participants, other conditions, or both.
    measure : str
    n_participants, n_conditions : int
    scores : array (n_models,)
        Mean over participants of the original data.
    ceiling : array (2,)
        Lower and upper noise ceiling of the original data.
    samples : array (n_kinds, n, n_models + 2)
        Mean scores in each resample, with the lower and upper ceiling last. With over="both" there are three kinds from
        the same draws: over both, over participants alone, over conditions alone. Resamples with fewer than three
        different conditions are NaN.
    means : array (n_models + 2,)
        Means of `samples`, which are tested as in rsatoolbox.
    variances : array (n_models,)
        Variance of each model's score, corrected for the small number of participants and conditions.
    difference_variances : array (n_models, n_models)
        Variances of the differences between models.
    df : int
        Degrees of freedom of the t tests: the smaller of the resampled numbers, minus one.
    """

    models: tuple[str, ...]
    over: Over
    measure: Measure
    n_participants: int
    n_conditions: int
    scores: Floats
    ceiling: Floats
    samples: Floats
    means: Floats
    variances: Floats
    difference_variances: Floats
    df: int

    @property
    def evaluations(self) -> Floats:
        """Return each model's score in each resample `(n, n_models)`, of the kind that `over` names."""
        return self.samples[0, :, :-2]

    @property
    def noise_ceilings(self) -> Floats:
        """Return the lower and upper noise ceiling of each resample `(n, 2)`; NaN with one participant."""
        return self.samples[0, :, -2:]

    def table(self, correction: Correction = "fdr") -> pd.DataFrame:
        """Test each model's score against 0 (one-sided), with one row per model.

        Columns are model, score (of the original data), mean (of the resamples), standard_error, ci_low and ci_high
        (95 % confidence interval of the mean), t, p, p_corrected, and below_ceiling (lower ceiling minus score). The
        latter is not tested, since the true model may lie below the lower ceiling or above it;
        `brainmap.rsa.residual_structure` tests whether a model lacks structure. p of bures is NaN, since bures is above
        0 for any two RDMs.
        """
        from scipy.stats import t as students

        scores, error = self.means[:-2], np.sqrt(np.maximum(self.variances, 0.0))
        t, p = _compute_t_and_p(scores, self.variances, self.df, two_sided=False)
        if self.measure == "bures":
            t, p = np.full_like(t, np.nan), np.full_like(p, np.nan)
        reach = error * students.ppf(0.975, self.df)
        return pd.DataFrame(
            {
                "model": self.models,
                "score": self.scores,
                "mean": scores,
                "standard_error": error,
                "ci_low": scores - reach,
                "ci_high": scores + reach,
                "t": t,
                "p": p,
                "p_corrected": correct_p(p, correction),
                "below_ceiling": self.ceiling[0] - self.scores,
            }
        )

    def pairs(self, correction: Correction = "fdr", *, among: Sequence[tuple[int, int]] | None = None) -> pd.DataFrame:
        """Test the difference of each pair of models, or of some by their places (two-sided), with one row per pair.

        Columns are model, other, difference, standard_error, t, p, p_corrected.
        """
        every = np.triu_indices(len(self.models), 1)
        a, b = every if among is None else np.array(among, np.intp).reshape(-1, 2).T
        difference, variance = self.means[a] - self.means[b], self.difference_variances[a, b]
        t, p = _compute_t_and_p(difference, variance, self.df, two_sided=True)
        return pd.DataFrame(
            {
                "model": [self.models[k] for k in a],
                "other": [self.models[k] for k in b],
                "difference": difference,
                "standard_error": np.sqrt(np.maximum(variance, 0.0)),
                "t": t,
                "p": p,
                "p_corrected": correct_p(p, correction),
            }
        )


def bootstrap(
    model_rdms: RDMs,
    data_rdms: RDMs,
    *,
    over: Over = "both",
    n: int = 1000,
    measure: Measure | str = "rho-a",
    rng: np.random.Generator,
) -> Bootstrap:
    """Resample participants, conditions or both, and test models against 0 and each other.

    Parameters
    ----------
    model_rdms : rsatoolbox RDMs
        One RDM per model, named by the RDM descriptor layer (with network where layers repeat) or name.
    data_rdms : rsatoolbox RDMs
        One RDM per participant, of one ROI; conditions are matched by label. Where several stimuli share a condition,
        conditions are drawn with all of their stimuli. Participants without an RDM (all pairs are missing) are left
        out, and a `BrainmapWarning` names them.
    over : {"both", "participants", "conditions"}
        The units that are drawn with replacement, to which the result generalizes.
    n : int
        Number of resamples.
    measure : str
        As in `brainmap.rsa.compare_rdms`; bures is allowed over participants only. Pearson, cosine, spearman and rho-a
        are fast. The others, and RDMs with different missing pairs, need a full comparison per resample.
    rng : numpy Generator

    Returns
    -------
    Bootstrap

    Raises
    ------
    InputError
        Fewer than two participants (with an RDM) or fewer than four conditions are to be resampled (three conditions
        leave only one valid resample), RDMs belong to several ROIs or have different items, an RDM has no variance, or
        n is below 2.

    Notes
    -----
    Pairs of a condition with its own copy are left out, as their dissimilarity of 0 is trivial; so are all pairs
    between the stimuli of two copies of a condition. A participant drawn twice is never pooled against itself, and the
    ceilings average over the different participants drawn. Resamples in which a model or RDM is constant score 0, as in
    rsatoolbox, and a `BrainmapWarning` counts them. With over="both" the variance is
    n/(n-1) Vs + k/(k-1) Vc - nk/((n-1)(k-1)) (Vb - Vs - Vc) for n participants and k conditions, where Vs, Vc and Vb
    are the variances over participants, conditions and both. It is limited to at least the first and the second term
    and at most Vb.

    References
    ----------
    Schütt et al. 2023, doi:10.7554/eLife.82566

    Examples
    --------
    >>> from brainmap.rsa import compute_rdms, stack_rdms
    >>> rng = np.random.default_rng(0)
    >>> items, truth = {"stimulus_id": list("abcdefghij")}, rng.normal(size=(10, 40))
    >>> layers = {"conv1": rng.normal(size=(10, 40)), "conv2": truth}
    >>> models = stack_rdms([
    ...     compute_rdms(x, descriptors={**items, "layer": name}) for name, x in layers.items()])
    >>> brains = stack_rdms([
    ...     compute_rdms(truth + rng.normal(size=truth.shape), descriptors=items) for _ in range(8)])
    >>> found = bootstrap(models, brains, n=200, measure="corr", rng=rng)
    >>> found.evaluations.shape, found.df, (found.table()["p"] < 0.05).tolist()
    ((200, 2), 7, [False, True])
    """
    check_choice(over, get_args(Over), "over")
    named = find_measure(measure)
    check_enough(n, 2, "bootstrap", "resamples")
    if named == "bures" and over != "participants":
        raise InputError(
            f"bootstrap over {over}: bures needs every pair of conditions, and a condition that is drawn twice has no "
            "pair with its copy; choose over='participants' or another measure"
        )
    data_rdms, absent = leave_out_absent(data_rdms)
    warn_of_absent(absent)
    models, data = check_rdms(model_rdms, data_rdms, over)
    names = list_rdm_names(model_rdms)
    check_varied(models, names, "bootstrap: models", allow_equal=named == "cosine")
    check_varied(data, range(1, len(data) + 1), "bootstrap: data RDMs", allow_equal=named == "cosine")
    units = find_units(data_rdms)
    return bootstrap_vectors(
        models,
        data,
        measure=named,
        names=names,
        units=units,
        **draw_resamples(len(data), units, over=over, n=n, rng=rng),
    )


def draw_resamples(
    n_participants: int, units: Draw, *, over: Over, n: int, rng: np.random.Generator
) -> dict[str, Draw | None]:
    """Draw the participants and conditions of every resample; None for what is not resampled."""
    sizes = {"participants": n_participants, "conditions": int(units.max()) + 1}
    return {
        what: rng.integers(0, size, size=(n, size)) if over in (what, "both") else None for what, size in sizes.items()
    }


def bootstrap_vectors(
    models: Floats,
    data: Floats,
    *,
    measure: Measure,
    participants: Draw | None = None,
    conditions: Draw | None = None,
    names: tuple[str, ...] | None = None,
    units: Draw | None = None,
) -> Bootstrap:
    """Bootstrap condensed vectors `(n_models, n_pairs)` and `(n_participants, n_pairs)` with given draws.

    `participants` `(n, n_participants)` and `conditions` `(n, n_conditions)` hold the indices drawn in each
    resample; leave one out to resample only the other. `units` `(n_items,)` holds the condition of each item, where
    conditions have several items.

    Examples
    --------
    >>> x = np.random.default_rng(0).random((4, 10))
    >>> found = bootstrap_vectors(x[:1], x[1:], measure="pearson", participants=np.array([[0, 1, 2], [0, 0, 1]]))
    >>> found.over, bool(found.evaluations[0, 0] == found.scores[0])
    ('participants', True)
    """
    over: Over = (
        "both"
        if participants is not None and conditions is not None
        else ("participants" if conditions is None else "conditions")
    )
    samples, n_flat = resample(
        models, data, measure=measure, participants=participants, conditions=conditions, units=units
    )
    whole = make_sampler(models, data, measure, units)(None)
    everyone = np.ones(len(data), dtype=np.intp)
    ceiling = whole.ceiling(everyone) if len(data) > 1 else (np.nan, np.nan)
    n_conditions = count_items_of_pairs(data.shape[1]) if units is None else int(units.max()) + 1
    return summarize_samples(
        samples,
        np.nanmean(whole.scores, axis=1),
        ceiling,
        over=over,
        measure=measure,
        n_flat=n_flat,
        sizes=(len(data), n_conditions),
        names=names or tuple(f"model {k + 1}" for k in range(len(models))),
    )


def summarize_samples(
    samples: Floats,
    scores: Floats,
    ceiling: tuple[float, float],
    *,
    over: Over,
    measure: Measure,
    n_flat: int,
    sizes: tuple[int, int],
    names: tuple[str, ...],
) -> Bootstrap:
    """Build a `Bootstrap` from the resampled scores of `resample`, for `sizes` participants and conditions."""
    used = np.asarray(np.isfinite(samples[0, :, :-2]).all(axis=1))
    if used.sum() < 2:
        raise InputError(
            "bootstrap: expected at least 2 resamples with three different conditions that all participants share, "
            f"got {used.sum()} of {len(used)}; take more conditions, or over='participants'"
        )
    if n_flat:
        warnings.warn(
            f"bootstrap: in {n_flat} of {len(used)} resamples a model or a participant's RDM is constant "
            "and scores 0; more conditions make that rare",
            BrainmapWarning,
            stacklevel=4,
        )
    drawn = {"participants": sizes[:1], "conditions": sizes[1:], "both": sizes}[over]
    variances, differences = compute_variances(compute_covariances(samples[:, used, None]), drawn)
    return Bootstrap(
        models=names,
        over=over,
        measure=measure,
        n_participants=sizes[0],
        n_conditions=sizes[1],
        scores=scores,
        ceiling=np.array(ceiling),
        samples=samples,
        means=samples[:, used].mean(axis=(0, 1)),
        variances=variances,
        difference_variances=differences,
        df=min(drawn) - 1,
    )


def average_models(found: Bootstrap, places: Sequence[Sequence[int]], names: Sequence[str]) -> Bootstrap:
    """Return the bootstrap of means over models, by the places of those of each mean, in the same resamples."""
    return summarize_samples(
        np.concatenate([average_rows(found.samples[..., :-2], places, axis=-1), found.samples[..., -2:]], axis=-1),
        average_rows(found.scores, places),
        (float(found.ceiling[0]), float(found.ceiling[1])),
        over=found.over,
        measure=found.measure,
        n_flat=0,  # the bootstrap of the models has counted them
        sizes=(found.n_participants, found.n_conditions),
        names=tuple(names),
    )


def check_rdms(model_rdms: RDMs, data_rdms: RDMs, over: Over) -> tuple[Floats, Floats]:
    """Check that RDMs can be resampled, and return their aligned vectors."""
    models = align_vectors(model_rdms, data_rdms, names=("models", "data"))
    data = np.asarray(data_rdms.dissimilarities, dtype=np.float64)
    rois = sorted({str(value) for value in data_rdms.rdm_descriptors.get("roi", ())})
    if len(rois) > 1:
        raise InputError(
            f"bootstrap: expected RDMs of one ROI, got {len(rois)} ROIs ({list_some(rois, 3)}); take one with "
            ".subset('roi', name)"
        )
    people = [str(p) for p in data_rdms.rdm_descriptors.get("participant", range(len(data)))]
    refuse_some(
        sorted({p for p in people if people.count(p) > 1}),
        "bootstrap: expected one RDM per participant, got more of ",
        "; pool them first",
    )
    if over != "conditions" and len(data) < 2:
        raise InputError(
            f"bootstrap over {over}: expected at least 2 "
            f"participants{f' with an RDM of {rois[0]!r}' if rois else ''}, got {len(data)}; choose "
            "over='conditions', or brainmap.rsa.permutation_test"
        )
    n_conditions = data_rdms.n_cond if over == "participants" else int(find_units(data_rdms).max()) + 1
    if n_conditions < (3 if over == "participants" else 4):
        least = 3 if over == "participants" else 4
        raise InputError(f"bootstrap over {over}: expected at least {least} conditions, got {n_conditions}")
    return models, data


def compute_covariances(samples: Floats) -> Floats:
    """Compute covariances `(n_kinds, n_columns, n_columns)` over resamples of `(n_kinds, n, n_repeats, n_columns)`.

    The mean over r = `n_repeats` foldings of a resample still varies with the foldings. The covariance V of the mean
    of r foldings and the covariance V1 of a single folding give that of the mean over infinitely many foldings,
    (r V - V1) / (r - 1) (Schütt et al. 2023).
    """
    n_repeats = samples.shape[2]

    def covariance(x: Floats) -> Floats:
        centered = x - x.mean(axis=1, keepdims=True)
        return np.asarray(centered.transpose(0, 2, 1) @ centered / (x.shape[1] - 1))

    of_mean = covariance(samples.mean(axis=2))
    if n_repeats == 1:
        return of_mean
    of_one: Floats = np.mean([covariance(samples[:, :, k]) for k in range(n_repeats)], axis=0)
    return np.asarray((n_repeats * of_mean - of_one) / (n_repeats - 1))


def compute_variances(covariance: Floats, sizes: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Compute the corrected variances of models and of differences between models."""
    own = np.einsum("kii->ki", covariance)
    differences = own[:, :, None] + own[:, None, :] - 2 * covariance
    return _correct_variances(own[:, :-2], *sizes), _correct_variances(differences[:, :-2, :-2], *sizes)


def _correct_variances(variances: Floats, n: int, k: int | None = None) -> Floats:
    """Correct for n; combine the variances of three bootstraps, since that over both n and k counts noise twice."""
    if k is None:
        return np.asarray(variances[0] * (n / (n - 1)))
    both, people, items = variances
    first, second = n / (n - 1) * people, k / (k - 1) * items
    whole = first + second - n * k / ((n - 1) * (k - 1)) * (both - people - items)
    return np.asarray(np.minimum(np.maximum(np.maximum(whole, first), second), both))


def _compute_t_and_p(difference: Floats, variance: Floats, df: int, *, two_sided: bool) -> tuple[Floats, Floats]:
    from scipy.stats import t

    # with a variance of 0 or less t is NaN, except that a difference of exactly 0 has t = 0
    value = np.where(difference == 0, 0.0, difference / np.sqrt(np.where(variance > 0, variance, np.nan)))
    return value, np.asarray(2 * t.sf(np.abs(value), df) if two_sided else t.sf(value, df))
