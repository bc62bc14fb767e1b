"""Partial and semi-partial comparison: what a model RDM shares with the brain beyond what control RDMs explain.

Every measure is a cosine of some vectors (centered dissimilarities, ranks, signs of differences), so controls are
removed in terms of inner products alone, in the same way for all.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import one_of, some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.alignment import aligned_vectors
from brainmap.rsa.compare import Measure, by_missing, measure_named, rank_rows
from brainmap.rsa.dissimilarity import Floats

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs

Kind = Literal["partial", "semi-partial"]
WITHOUT_PARTS = ("corr_cov", "cosine_cov", "bures")


def compare_rdms_partial(
    model_rdms: RDMs,
    data_rdms: RDMs,
    control_rdms: RDMs,
    *,
    measure: Measure | str = "rho-a",
    kind: Kind = "partial",
) -> Floats:
    """Similarity of each model RDM with each data RDM after the control RDMs are removed.

    Parameters
    ----------
    model_rdms, data_rdms, control_rdms : rsatoolbox RDMs
        Of the same level and over the same items, in any order. All controls are removed at once. Controls with an RDM
        descriptor `participant` are removed from that participant's data (and from models where they meet these) alone;
        those whose participant is "" from everybody's.
    measure : {"rho-a", "spearman", "tau-a", "tau-b", "pearson", "cosine"}
        Ranks for spearman and rho-a; signs of differences of pairs for tau (Kendall's partial tau, for any number of
        controls); cosine removes controls by a regression through the origin.
    kind : {"partial", "semi-partial"}
        partial: controls are removed from model and data. semi-partial: from the model only; its square (pearson)
        is the explained variance that is the model's alone.

    Returns
    -------
    array (n_models, n_data)
        Pairs that are NaN in a control are left out everywhere, pairs that are NaN in a model or data RDM for that
        comparison. NaN where controls leave nothing of a model or data RDM, which a `BrainmapWarning` counts.

    Raises
    ------
    InputError
        RDMs of other levels or items, a control without variance, as many controls as pairs, a whitened measure, data
        of a participant without controls.

    Notes
    -----
    rho-a and tau-a are means over random orders of tied dissimilarities, of model and data. Ties of controls
    are kept as they are: broken at random a category control would be removed in part only. Without ties rho-a equals
    spearman, and tau-a tau-b. A partial tau need not be 0 where model and data are independent given
    the control (Korn 1984): prefer rho-a.

    References
    ----------
    Kendall 1942, doi:10.1093/biomet/32.3-4.277; Korn 1984, doi:10.1080/00031305.1984.10482878

    Examples
    --------
    >>> from brainmap.rsa import compute_rdms
    >>> rng, items = np.random.default_rng(0), {"stimulus_id": list("abcdefgh")}
    >>> model, control = (compute_rdms(rng.normal(size=(8, 5)), descriptors=items) for _ in range(2))
    >>> compare_rdms_partial(model, model, control, measure="pearson").round(6)
    array([[1.]])
    """
    models = aligned_vectors(model_rdms, data_rdms, names=("models", "data"))
    controls = aligned_controls(control_rdms, data_rdms)
    data = np.asarray(data_rdms.dissimilarities, dtype=np.float64)
    return compare_vectors_partial(models, data, controls, measure=measure, kind=kind)


def aligned_controls(control_rdms: RDMs, data_rdms: RDMs) -> Floats:
    """Controls in the data's order of items: `(n_controls, n_pairs)`, or `(n_data, n_controls, n_pairs)`, each its own.

    Raises
    ------
    InputError
        Controls of participants, and data that do not say whose they are, or that are of somebody who lacks controls.
    """
    vectors = aligned_vectors(control_rdms, data_rdms, names=("controls", "data"))
    if "participant" not in control_rdms.rdm_descriptors:
        return vectors
    if "participant" not in data_rdms.rdm_descriptors:
        raise InputError("partial comparison: controls are of participants, and the data do not say whose they are; "
                         "give them an RDM descriptor 'participant'")  # fmt: skip
    owner = np.array([str(who) for who in control_rdms.rdm_descriptors["participant"]])
    people = [str(who) for who in data_rdms.rdm_descriptors["participant"]]
    chosen = {who: np.flatnonzero((owner == who) | (owner == "")) for who in dict.fromkeys(people)}
    most = max(map(len, chosen.values()))
    lacking = [who for who, rows in chosen.items() if len(rows) < most or not (owner[rows] == who).any()]
    if lacking:
        raise InputError(f"partial comparison: participants {some(lacking)} lack controls that others have; give "
                         "everybody the same ones")  # fmt: skip
    return np.stack([vectors[chosen[who]] for who in people])


def compare_vectors_partial(
    models: NDArray[np.floating],
    data: NDArray[np.floating],
    controls: NDArray[np.floating],
    *,
    measure: Measure | str = "rho-a",
    kind: Kind = "partial",
) -> Floats:
    """`compare_rdms_partial` on condensed vectors `(n, n_pairs)` in one order of pairs.

    Controls `(n_data, n_controls, n_pairs)` are each data RDM's own.

    Examples
    --------
    >>> x, y, z = np.random.default_rng(0).normal(size=(3, 1, 30))
    >>> both = compare_vectors_partial(x + z, y + z, z, measure="pearson")
    >>> bool(np.isclose(both, compare_vectors_partial(x, y, z, measure="pearson")).all())
    True
    """
    measure = measure_named(measure)
    one_of(kind, get_args(Kind), "kind")
    if measure in WITHOUT_PARTS:
        raise InputError(f"partial comparison: {measure} has no partial form, as what controls leave is no RDM whose "
                         "noise or geometry is known; choose 'pearson', 'cosine', or a rank measure")
    models, data, controls = (np.atleast_2d(np.asarray(x, dtype=np.float64)) for x in (models, data, controls))
    if len({x.shape[-1] for x in (models, data, controls)}) > 1:
        raise InputError(f"partial comparison: found {models.shape[1]}, {data.shape[1]} and {controls.shape[-1]} "
                         "pairs in models, data and controls, wanted equal numbers; use the same items")
    if not controls.shape[-2]:
        raise InputError("partial comparison: found no control RDMs, wanted at least one")
    if controls.ndim == 3:
        each = zip(data, controls, strict=True)
        result = np.concatenate([_all_partial(models, one[None], own, measure, kind) for one, own in each], axis=1)
    else:
        result = _all_partial(models, data, controls, measure, kind)
    undefined = int(np.isnan(result).sum())
    if undefined:
        warnings.warn(f"partial comparison: {measure} is not defined for {undefined} of {result.size} comparisons "
                      "(nothing is left of a model or data RDM); they are NaN", BrainmapWarning, stacklevel=2)
    return result


def _all_partial(models: Floats, data: Floats, controls: Floats, measure: Measure, kind: Kind) -> Floats:
    """Every model with every data RDM, by the pairs that both and the controls have."""
    there = ~np.isnan(controls).any(axis=0)
    result = np.full((len(models), len(data)), np.nan)
    for rows, in_models in by_missing(models):
        for columns, in_data in by_missing(data):
            use = in_models & in_data & there
            if use.sum() <= len(controls) + 1 and (in_models & in_data).sum() > 1:
                raise InputError(f"partial comparison: found {len(controls)} controls for {use.sum()} pairs of items, "
                                 "wanted fewer; take fewer controls or more items")
            if use.any():
                sides = (models[np.ix_(rows, use)], data[np.ix_(columns, use)], controls[:, use])
                result[np.ix_(rows, columns)] = _partial(*sides, measure, kind)
    return result


def partial_ceilings(data_rdms: RDMs, control_rdms: RDMs, *, measure: Measure | str = "rho-a") -> pd.DataFrame:
    """The noise ceiling of a partial comparison: each participant against the pooled others, controls removed.

    Returns
    -------
    DataFrame
        roi, lower, upper, n (participants), approximate: as `brainmap.rsa.noise_ceilings`, whose pool it takes. The
        upper bound is approximate: the best pool after removal of controls is not exactly that of before.

    Raises
    ------
    InputError
        Fewer than two participants, or what `compare_rdms_partial` refuses.

    Notes
    -----
    Where participants have controls of their own (an RDM descriptor `participant`), the order of their trials say, each
    one's controls are removed from its RDM, on the measure's scale, before RDMs are pooled: a pool of raw RDMs would
    hold what the others' controls explain, and a bound would rise or fall with their orders. A participant is then
    compared with that pool less its own controls, as a model is. With the same controls for all, the pool is that of
    `brainmap.rsa.noise_ceilings`.
    """
    from brainmap.rsa.ceiling import pools

    controls, named_measure = aligned_controls(control_rdms, data_rdms), measure_named(measure)
    named = [str(roi) for roi in data_rdms.rdm_descriptors.get("roi", ["all voxels"] * data_rdms.n_rdm)]
    vectors = np.asarray(data_rdms.dissimilarities, dtype=np.float64)
    rows = []
    for roi in dict.fromkeys(named):
        mine = np.array([name == roi for name in named])
        x, own = vectors[mine], controls if controls.ndim == 2 else controls[mine]
        left = x if own.ndim == 2 else np.stack([_rest(a, b, named_measure) for a, b in zip(x, own, strict=True)])
        pooled, others = pools(left, named_measure)
        upper = compare_vectors_partial(pooled, x, own, measure=measure)
        lower = [compare_vectors_partial(others[k], x[k], own if own.ndim == 2 else own[k], measure=measure)[0, 0]
                 for k in range(len(x))]
        rows.append({"roi": roi, "lower": np.nanmean(lower), "upper": np.nanmean(upper), "n": len(x),
                     "approximate": True})
    return pd.DataFrame(rows)


def _rest(row: Floats, controls: Floats, measure: Measure) -> Floats:
    """What controls leave of one RDM, on the scale of the measure (ranks for tau); missing pairs stay missing."""
    use = ~np.isnan(row) & ~np.isnan(controls).any(axis=0)
    scale: Measure = "spearman" if measure in ("tau-a", "tau-b") else measure
    own, removed = _vectors(row[None, use], scale)[0], _vectors(controls[:, use], scale)
    rest = np.full(row.shape, np.nan)
    rest[use] = own - removed.T @ np.linalg.lstsq(removed.T, own, rcond=1e-10)[0]
    return rest


def _partial(models: Floats, data: Floats, controls: Floats, measure: Measure, kind: Kind) -> Floats:
    """From inner products among models, data and controls without missing pairs."""
    if measure in ("tau-a", "tau-b"):
        from brainmap.rsa._kendall import kendall

        def products(a: Floats, b: Floats) -> Floats:
            return np.asarray(kendall(a, b, variant=measure))

        own_models, own_data = (np.ones(len(x)) for x in (models, data))
        varied = [np.ptp(x, axis=1) > 0 for x in (models, data, controls)]
    else:
        models, data, controls = (_vectors(x, measure) for x in (models, data, controls))

        def products(a: Floats, b: Floats) -> Floats:
            return np.asarray(a @ b.T)

        own_models, own_data = (np.einsum("ip,ip->i", x, x) for x in (models, data))
        varied = [own_models > 0, own_data > 0, np.einsum("ip,ip->i", controls, controls) > 0]
        if measure == "rho-a":  # as if ties were broken: the variance of untied ranks
            n = float(models.shape[1])
            own_models, own_data = (np.full(len(x), (n**3 - n) / 12.0) for x in (models, data))
    if not varied[2].all():
        which = (np.flatnonzero(~varied[2]) + 1).tolist()
        raise InputError(f"partial comparison: control RDM {some(which)} has no variance; leave it out")
    with_models, with_data = products(models, controls), products(data, controls)
    inverse = np.linalg.pinv(products(controls, controls), rcond=1e-10, hermitian=True)
    left = products(models, data) - with_models @ inverse @ with_data.T
    of_models = own_models - np.einsum("ic,cd,id->i", with_models, inverse, with_models)
    of_data = own_data - np.einsum("ic,cd,id->i", with_data, inverse, with_data)
    # what rounding leaves of an RDM that the controls explain whole is not a rest
    of_models = np.where(varied[0] & (of_models > 1e-10 * own_models), of_models, np.nan)
    of_data = np.where(varied[1] & (of_data > 1e-10 * own_data), of_data, np.nan)
    if kind == "semi-partial":
        of_data = np.where(varied[1], own_data, np.nan)
    return np.asarray(left / np.sqrt(np.outer(of_models, of_data)))


def _vectors(rows: Floats, measure: Measure) -> Floats:
    """Vectors whose inner products the measure is made of; a row without variance is 0."""
    x = rank_rows(rows) if measure in ("spearman", "rho-a") else rows
    if measure == "cosine":
        return x
    centered: Floats = x - x.mean(axis=1, keepdims=True)
    centered[np.abs(centered).max(axis=1) <= 1e-13 * np.abs(x).max(axis=1)] = 0.0
    return centered
