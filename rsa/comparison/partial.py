"""Compute partial and semi-partial similarities of model and data RDMs, controlling for other RDMs.

Model and data are each regressed on columns computed from the controls, and the residuals are correlated. Ranks need
splines: the rank of one variable is not a linear function of the rank of another, so that a linear regression leaves a
part that both share with the control, and a partial rank correlation or partial tau is not 0 even if model and data
share nothing else.
"""

from __future__ import annotations

import warnings
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice, refuse_some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.comparison.measures import find_measure, group_by_missing
from brainmap.rsa.comparison.ranks import rank_rows
from brainmap.rsa.comparison.splines import (
    PARTIAL,
    build_spline_columns,
    choose_form,
    count_columns,
    count_items_needed,
    has_enough_pairs,
    name_partial,
)
from brainmap.rsa.rdm.alignment import align_vectors, count_items_of_pairs, group_by_region
from brainmap.types import Floats, Measure, PartialKind, RDMs, SplineForm

NO_BOUNDS = {"lower": np.nan, "upper": np.nan}


def compare_rdms_partial(
    model_rdms: RDMs,
    data_rdms: RDMs,
    control_rdms: RDMs,
    *,
    measure: Measure | str = "rho-a",
    kind: PartialKind = "partial",
) -> Floats:
    """Compute the similarity of each model RDM to each data RDM after the control RDMs are regressed out.

    Parameters
    ----------
    model_rdms, data_rdms, control_rdms : rsatoolbox RDMs
        RDMs of the same level and over the same items, in any order. All controls are removed together. Controls with
        an RDM descriptor `participant` are removed only from that participant's data (and from the models in
        comparisons with these data); controls whose participant is "" are removed for all participants.
    measure : {"rho-a", "spearman", "pearson"}
        rho-a and spearman are the same here, a spline partial correlation: ranks of model and data are regressed on a
        cubic spline of the ranks of one control (6 columns), or on the values of two controls and the products of their
        splines (18 columns, up to 66 from 29 items on), and the residuals are correlated. With three or more controls,
        values replace the ranks and are regressed on a sum of splines of the controls (5 columns each, plus a
        constant), and a `BrainmapWarning` is issued. pearson regresses values linearly on any number of controls.
    kind : {"partial", "semi-partial"}
        "partial": controls are removed from model and data. "semi-partial": controls are removed from the model only;
        the square (for pearson) is the variance that only the model explains.

    Returns
    -------
    array (n_models, n_data)
        Pairs that are NaN in a control are left out everywhere; pairs that are NaN in a model or data RDM are left out
        for that comparison. The result is NaN where the residuals are 0 or too few pairs are left, which a
        `BrainmapWarning` counts.

    Raises
    ------
    InputError
        The RDMs differ in level or items, a control has no variance, there are fewer than 12 items or fewer than ten
        pairs per column of a spline regression, a linear regression has as many columns as pairs, the measure has no
        partial form, or a participant of the data has no controls.

    Notes
    -----
    Splines remove any smooth relation to a control. A sum of splines does not remove interactions of the controls, and
    a linear regression does not remove nonlinear relations: where model and data both depend on a control nonlinearly
    (a root, a saturation), a part remains, and a linear partial correlation is not 0. In simulations where model and
    data share only the controls, the rate of false positives was .03 to .08 with splines of one control (12 to 48
    items), .04 to .09 with those of two (24 to 96 items), and up to 1.00 with a linear regression. A partial tau is
    refused because it is not 0 in this case even for normal variables (Korn 1984), and a partial cosine because the
    residuals of two RDMs with positive means still have a positive cosine.

    References
    ----------
    Korn 1984, doi:10.1080/00031305.1984.10482878; Li and Shepherd 2010, doi:10.1198/jasa.2010.tm09386 (partial
    association of ranks)

    Examples
    --------
    >>> from brainmap.rsa import compute_rdms
    >>> rng, items = np.random.default_rng(0), {"stimulus_id": list("abcdefghijkl")}
    >>> model, control = (compute_rdms(rng.normal(size=(12, 5)), descriptors=items) for _ in range(2))
    >>> compare_rdms_partial(model, model, control).round(6)
    array([[1.]])
    """
    models = align_vectors(model_rdms, data_rdms, names=("models", "data"))
    controls = align_controls(control_rdms, data_rdms)
    data = np.asarray(data_rdms.dissimilarities, dtype=np.float64)
    return compare_vectors_partial(models, data, controls, measure=measure, kind=kind)


def align_controls(control_rdms: RDMs, data_rdms: RDMs) -> Floats:
    """Align controls with the items of the data.

    The result is `(n_controls, n_pairs)`, or `(n_data, n_controls, n_pairs)` if each data RDM has its own controls.

    Raises
    ------
    InputError
        The controls belong to participants, but the data have no participants, or a participant without controls.
    """
    vectors = align_vectors(control_rdms, data_rdms, names=("controls", "data"))
    if "participant" not in control_rdms.rdm_descriptors:
        return vectors
    if "participant" not in data_rdms.rdm_descriptors:
        raise InputError(
            "partial comparison: the controls belong to participants, but the data do not say whose they are; give "
            "them an RDM descriptor 'participant'"
        )
    owner = np.array([str(who) for who in control_rdms.rdm_descriptors["participant"]])
    people = [str(who) for who in data_rdms.rdm_descriptors["participant"]]
    chosen = {who: np.flatnonzero((owner == who) | (owner == "")) for who in dict.fromkeys(people)}
    most = max(map(len, chosen.values()))
    refuse_some(
        [who for who, rows in chosen.items() if len(rows) < most or not (owner[rows] == who).any()],
        "partial comparison: participants ",
        " lack controls that others have; give all participants the same ones",
    )
    return np.stack([vectors[chosen[who]] for who in people])


def compare_vectors_partial(
    models: NDArray[np.floating],
    data: NDArray[np.floating],
    controls: NDArray[np.floating],
    *,
    measure: Measure | str = "rho-a",
    kind: PartialKind = "partial",
) -> Floats:
    """Compute partial similarities of condensed vectors `(n, n_pairs)` with the same order of pairs.

    Parameters
    ----------
    models : array (n_models, n_pairs)
    data : array (n_data, n_pairs)
    controls : array (n_controls, n_pairs) or (n_data, n_controls, n_pairs)
        Common controls, or those of each data RDM.
    measure, kind
        As in `brainmap.rsa.compare_rdms_partial`.

    Returns
    -------
    array (n_models, n_data)

    Raises
    ------
    InputError
        The numbers of pairs differ, there is no control, or there are too few pairs for the controls.

    Examples
    --------
    >>> x, y, z = np.random.default_rng(0).normal(size=(3, 1, 30))
    >>> both = compare_vectors_partial(x + z, y + z, z, measure="pearson")
    >>> bool(np.isclose(both, compare_vectors_partial(x, y, z, measure="pearson")).all())
    True
    """
    measure = get_partial_measure(measure)
    check_choice(kind, get_args(PartialKind), "kind")
    models, data, controls = (np.atleast_2d(np.asarray(x, dtype=np.float64)) for x in (models, data, controls))
    if len({x.shape[-1] for x in (models, data, controls)}) > 1:
        raise InputError(
            f"partial comparison: expected equal numbers of pairs, got {models.shape[1]}, {data.shape[1]} and "
            f"{controls.shape[-1]} in models, data and controls; use the same items"
        )
    n_controls = controls.shape[-2]
    if not n_controls:
        raise InputError("partial comparison: expected at least one control RDM, got none")
    form = choose_form(measure, n_controls)
    sides = zip(data[:, None], controls, strict=True) if controls.ndim == 3 else [(data, controls)]
    found = [_compare_all(models, some_data, own, form, kind) for some_data, own in sides]
    result, enough = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
    if not enough.any():
        raise InputError(_describe_lack(data, controls, measure))
    if form == "additive":
        warnings.warn(describe_switch(measure, n_controls), BrainmapWarning, stacklevel=2)
    undefined, few = int((np.isnan(result) & enough).sum()), int((~enough).sum())
    if undefined or few:
        why = [f"{undefined} (nothing is left of a model or data RDM)"] if undefined else []
        why += [f"{few} (missing pairs leave too few for the controls)"] if few else []
        warnings.warn(
            f"partial comparison: a {name_partial(measure, n_controls)} is not defined for "
            f"{' and '.join(why)} of {result.size} comparisons; they are NaN",
            BrainmapWarning,
            stacklevel=2,
        )
    return result


def get_partial_measure(measure: str) -> Measure:
    """Return the measure with that name, if it has a partial form that is 0 under the null hypothesis.

    Raises
    ------
    InputError
        The measure has no such form.

    Examples
    --------
    >>> get_partial_measure("corr")
    'pearson'
    """
    named = find_measure(measure)
    if named not in PARTIAL:
        raise InputError(
            f"partial comparison: {named} has no partial form that is 0 where model and data share the "
            "controls only; choose 'rho-a' (a spline partial correlation of ranks) or 'pearson'"
        )
    return named


def describe_switch(measure: Measure, n_controls: int) -> str:
    """Return the message for rank measures with too many controls for a regression of ranks."""
    return (
        f"partial comparison: {n_controls} controls are too many for ranks ({measure} takes two at most); values are "
        "correlated (Pearson) after the sum of a spline of each control is removed, interactions of controls stay"
    )


def _compare_all(
    models: Floats, data: Floats, controls: Floats, form: SplineForm, kind: PartialKind
) -> tuple[Floats, NDArray[np.bool_]]:
    """Compare every model with every data RDM over their common pairs, and flag where these are enough."""
    there = ~np.isnan(controls).any(axis=0)
    result = np.full((len(models), len(data)), np.nan)
    enough = np.zeros(result.shape, dtype=bool)
    for rows, in_models in group_by_missing(models):
        for columns, in_data in group_by_missing(data):
            use = in_models & in_data & there
            removed = _build_columns(controls, use, form)
            if removed is not None:
                at = np.ix_(rows, columns)
                x, y = models[np.ix_(rows, use)], data[np.ix_(columns, use)]
                if form == "ranks":
                    x, y = rank_rows(x), rank_rows(y)
                result[at] = compute_rest(x, removed) @ compute_rest(y, None if kind == "semi-partial" else removed).T
                enough[at] = True
    return result, enough


def _build_columns(controls: Floats, use: NDArray[np.bool_], form: SplineForm) -> Floats | None:
    """Return the columns of the regression over some pairs; None if there are too few pairs."""
    if use.sum() <= len(controls) + 1:
        return None
    columns = build_spline_columns(controls[:, use], form)
    return columns if has_enough_pairs(columns, _count_items(use), form) else None


def _count_items(use: NDArray[np.bool_]) -> int:
    """Count the items of the used pairs; if the pairs are not those of an RDM, derive it from their number."""
    n = count_items_of_pairs(len(use))
    if n * (n - 1) // 2 != len(use):
        return int((1 + np.sqrt(1 + 8 * use.sum())) / 2)
    i, j = np.triu_indices(n, 1)
    return len(np.union1d(i[use], j[use]))


def compute_rest(rows: Floats, removed: Floats | None) -> Floats:
    """Compute unit-length residuals of rows on the columns (on the mean, without columns); NaN where they are 0."""
    x: Floats = rows - rows.mean(axis=1, keepdims=True)
    own = np.linalg.norm(x, axis=1)
    rest = x if removed is None else x - (x @ removed) @ removed.T
    length = np.linalg.norm(rest, axis=1)
    # rounding errors of a constant RDM, or of one that the controls explain completely, count as 0
    there = (own > 1e-13 * np.linalg.norm(rows, axis=1)) & (length > 1e-5 * own)
    return np.asarray(rest / np.where(there, length, np.nan)[:, None])


def _describe_lack(data: Floats, controls: Floats, measure: Measure) -> str:
    """Return the message for controls that cannot be removed from any RDM."""
    n_controls = controls.shape[-2]
    form, each = choose_form(measure, n_controls), ~np.isnan(data)
    each = each & ~np.isnan(controls).any(axis=-2)
    use = each[each.sum(axis=1).argmax()]
    many = "s" if n_controls > 1 else ""
    got = f"got {n_controls} control{many} for {use.sum()} pairs of {_count_items(use)} items"
    if form == "linear":
        return f"partial comparison: expected fewer controls, {got}; take fewer, or more items"
    name, columns = name_partial(measure, n_controls), count_columns(form, n_controls)
    return (
        f"partial comparison: expected at least {count_items_needed(measure, n_controls)} items, {got}: a "
        f"{name} takes {columns} columns, one in ten pairs at most; "
        "take more items, fewer controls, or measure 'pearson', which removes straight lines only"
    )


def compute_rests(data: Floats, controls: Floats, measure: Measure) -> tuple[Floats, list[Floats | None]]:
    """Compute unit-length residuals of each RDM `(n_data, n_pairs)` on the controls, and return the regression columns.

    Controls are common, `(n_controls, n_pairs)`, or separate for each data RDM, `(n_data, n_controls, n_pairs)`. The
    residuals of missing pairs are NaN, and the columns cover the other pairs.

    Raises
    ------
    InputError
        All RDMs have too few pairs for the controls.
    """
    form = choose_form(measure, controls.shape[-2])
    result: Floats = np.full(data.shape, np.nan)
    columns: list[Floats | None] = []
    for k, row in enumerate(data):
        own = controls if controls.ndim == 2 else controls[k]
        use = ~np.isnan(row) & ~np.isnan(own).any(axis=0)
        removed = _build_columns(own, use, form)
        if removed is not None:
            x = row[None, use]
            result[k, use] = compute_rest(rank_rows(x) if form == "ranks" else x, removed)[0]
        columns.append(removed)
    if all(one is None for one in columns):
        raise InputError(_describe_lack(data, controls, measure))
    return result, columns


def partial_ceilings(data_rdms: RDMs, control_rdms: RDMs, *, measure: Measure | str = "rho-a") -> pd.DataFrame:
    """Compute the noise ceiling of a partial comparison, from the residuals of the participants' RDMs.

    Parameters
    ----------
    data_rdms, control_rdms : rsatoolbox RDMs
        RDMs of the participants, and those that are removed, as for `compare_rdms_partial`.
    measure : str
        A measure of `compare_rdms_partial`; take that of the scores.

    Returns
    -------
    DataFrame
        roi, lower, upper, n (participants of whom controls leave something), approximate: as
        `brainmap.rsa.noise_ceilings`. The upper bound is approximate: no model needs to leave exactly the mean of what
        the participants' RDMs leave. Bounds of an ROI where fewer than two participants have an RDM are NaN.

    Raises
    ------
    InputError
        There are fewer than two participants, or `compare_rdms_partial` refuses the RDMs.

    Notes
    -----
    Controls are removed from each RDM as in `compare_rdms_partial` (with each participant's own controls, if they have
    an RDM descriptor `participant`). The residuals are scaled to unit length and averaged over all participants
    (upper), or over the other participants (lower). Each participant's controls are also removed from the mean before
    it is compared with that participant, as from a model; this changes nothing if the controls are common.
    """
    from brainmap.rsa.comparison.ceilings import pool_others

    named, controls = get_partial_measure(measure), align_controls(control_rdms, data_rdms)
    vectors = np.asarray(data_rdms.dissimilarities, dtype=np.float64)
    rows = []
    for roi, mine in group_by_region(data_rdms).items():
        if len(mine) < 2:
            raise InputError(
                f"partial_ceilings: expected at least 2 participants, got one in {roi!r}; a ceiling says how well "
                "participants agree"
            )
        if np.isnan(vectors[mine]).all():
            rows.append({"roi": roi, **NO_BOUNDS, "n": 0, "approximate": True})
            continue
        left, columns = compute_rests(vectors[mine], controls if controls.ndim == 2 else controls[mine], named)
        pooled, others = pool_others(left, "pearson")
        upper, lower = (
            np.array(
                [_compare_with_pool(x, pool, removed) for x, pool, removed in zip(left, each, columns, strict=True)]
            )
            for each in ([pooled] * len(left), others)
        )
        there = np.isfinite(lower)
        bounds = {"lower": lower[there].mean(), "upper": upper[there].mean()} if there.any() else NO_BOUNDS
        rows.append({"roi": roi, **bounds, "n": int(there.sum()), "approximate": True})
    return pd.DataFrame(rows)


def _compare_with_pool(rest: Floats, pool: Floats, removed: Floats | None) -> float:
    """Compare a participant's residual with a mean of residuals, from which the participant's controls are removed."""
    there = ~np.isnan(rest)
    both = ~np.isnan(pool[there])  # pairs that no other participant has are in no pool
    if removed is None or not both.any():
        return np.nan
    again = np.linalg.qr(removed[both])[0]
    return float(
        compute_rest(pool[None, there][:, both], again)[0] @ compute_rest(rest[None, there][:, both], again)[0]
    )
