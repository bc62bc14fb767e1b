"""Partial and semi-partial comparison: what a model RDM shares with the brain beyond what control RDMs explain.

Model and data are each regressed on columns made of the controls, and what is left of them is correlated. Ranks need
splines there: a rank is no linear function of another one's, so that a straight line leaves what both share with the
control, and a partial rank correlation or a partial tau of model and data that share nothing else is not 0.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import one_of, some
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.comparison.measures import Measure, by_missing, measure_named
from brainmap.rsa.comparison.ranks import rank_rows
from brainmap.rsa.comparison.splines import (
    PARTIAL,
    Form,
    allowed,
    columns_of,
    form_of,
    items_needed,
    n_columns,
    partial_name,
)
from brainmap.rsa.rdm.alignment import aligned_vectors
from brainmap.rsa.rdm.dissimilarity import Floats

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs

Kind = Literal["partial", "semi-partial"]


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
    measure : {"rho-a", "spearman", "pearson"}
        rho-a and spearman are the same here, a spline partial correlation: ranks of model and data are regressed on a
        cubic spline of the ranks of one control (6 columns), or on the values of two controls and the products of their
        splines (18 columns), and what is left is correlated. Ranks of three or more controls are refused: values are
        taken instead of ranks, regressed on the sum of a spline of each control (5 columns each, and one), which a
        `BrainmapWarning` says. pearson removes straight lines from values, whatever the number of controls.
    kind : {"partial", "semi-partial"}
        partial: controls are removed from model and data. semi-partial: from the model only; its square (pearson)
        is the explained variance that is the model's alone.

    Returns
    -------
    array (n_models, n_data)
        Pairs that are NaN in a control are left out everywhere, pairs that are NaN in a model or data RDM for that
        comparison. NaN where controls leave nothing of a model or data RDM, or where it lacks so many pairs that too
        few are left, which a `BrainmapWarning` counts.

    Raises
    ------
    InputError
        RDMs of other levels or items, a control without variance, fewer than 12 items or than ten pairs a column of a
        spline, as many straight lines as pairs, a measure without a partial form, data of a participant without
        controls.

    Notes
    -----
    Splines take what a control explains along any smooth curve; a sum of splines takes no interaction of the controls,
    and straight lines take no curve: where model and data both follow a control in a curve (a root, a saturation), part
    of it stays and a linear partial correlation is not 0. In simulations where model and data share nothing but the
    control, splines gave .03 to .08 false positives at 12 to 48 items and straight lines up to 1.00. A partial tau is
    refused, as it is not 0 there even for normal variables (Korn 1984); a cosine, as what the controls leave of two
    RDMs that are positive on average still points in one direction.

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
        raise InputError(
            "partial comparison: controls are of participants, and the data do not say whose they are; "
            "give them an RDM descriptor 'participant'"
        )
    owner = np.array([str(who) for who in control_rdms.rdm_descriptors["participant"]])
    people = [str(who) for who in data_rdms.rdm_descriptors["participant"]]
    chosen = {who: np.flatnonzero((owner == who) | (owner == "")) for who in dict.fromkeys(people)}
    most = max(map(len, chosen.values()))
    lacking = [who for who, rows in chosen.items() if len(rows) < most or not (owner[rows] == who).any()]
    if lacking:
        raise InputError(
            f"partial comparison: participants {some(lacking)} lack controls that others have; give "
            "everybody the same ones"
        )
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
    measure = partial_measure(measure)
    one_of(kind, get_args(Kind), "kind")
    models, data, controls = (np.atleast_2d(np.asarray(x, dtype=np.float64)) for x in (models, data, controls))
    if len({x.shape[-1] for x in (models, data, controls)}) > 1:
        raise InputError(
            f"partial comparison: found {models.shape[1]}, {data.shape[1]} and {controls.shape[-1]} "
            "pairs in models, data and controls, wanted equal numbers; use the same items"
        )
    n_controls = controls.shape[-2]
    if not n_controls:
        raise InputError("partial comparison: found no control RDMs, wanted at least one")
    form = form_of(measure, n_controls)
    sides = zip(data[:, None], controls, strict=True) if controls.ndim == 3 else [(data, controls)]
    found = [_all_partial(models, some_data, own, form, kind) for some_data, own in sides]
    result, enough = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
    if not enough.any():
        raise InputError(_too_few(data, controls, measure))
    if form == "additive":
        warnings.warn(told_of_switch(measure, n_controls), BrainmapWarning, stacklevel=2)
    undefined, few = int((np.isnan(result) & enough).sum()), int((~enough).sum())
    if undefined or few:
        why = [f"{undefined} (nothing is left of a model or data RDM)"] if undefined else []
        why += [f"{few} (missing pairs leave too few for the controls)"] if few else []
        warnings.warn(
            f"partial comparison: a {partial_name(measure, n_controls)} is not defined for "
            f"{' and '.join(why)} of {result.size} comparisons; they are NaN",
            BrainmapWarning,
            stacklevel=2,
        )
    return result


def partial_measure(measure: str) -> Measure:
    """The measure of that name, if it has a partial form whose null is 0.

    Raises
    ------
    InputError

    Examples
    --------
    >>> partial_measure("corr")
    'pearson'
    """
    named = measure_named(measure)
    if named not in PARTIAL:
        raise InputError(
            f"partial comparison: {named} has no partial form that is 0 where model and data share the "
            "controls only; choose 'rho-a' (a spline partial correlation of ranks) or 'pearson'"
        )
    return named


def told_of_switch(measure: Measure, n_controls: int) -> str:
    """What is said where ranks are asked for and there are too many controls for them."""
    return (
        f"partial comparison: {n_controls} controls are too many for ranks ({measure} takes two at most); values are "
        "correlated (Pearson) after the sum of a spline of each control is removed, interactions of controls stay"
    )


def _all_partial(
    models: Floats, data: Floats, controls: Floats, form: Form, kind: Kind
) -> tuple[Floats, NDArray[np.bool_]]:
    """Every model with every data RDM, by the pairs that both and the controls have, and where these are enough."""
    there = ~np.isnan(controls).any(axis=0)
    result = np.full((len(models), len(data)), np.nan)
    enough = np.zeros(result.shape, dtype=bool)
    for rows, in_models in by_missing(models):
        for columns, in_data in by_missing(data):
            use = in_models & in_data & there
            removed = _removed(controls, use, form)
            if removed is not None:
                at = np.ix_(rows, columns)
                x, y = models[np.ix_(rows, use)], data[np.ix_(columns, use)]
                if form == "ranks":
                    x, y = rank_rows(x), rank_rows(y)
                result[at] = rest_of(x, removed) @ rest_of(y, None if kind == "semi-partial" else removed).T
                enough[at] = True
    return result, enough


def _removed(controls: Floats, use: NDArray[np.bool_], form: Form) -> Floats | None:
    """The columns of the regression over some pairs; None where these are too few for them."""
    if use.sum() <= len(controls) + 1:
        return None
    columns = columns_of(controls[:, use], form)
    return columns if allowed(columns, _n_items(use), form) else None


def _n_items(use: NDArray[np.bool_]) -> int:
    """Items that some pairs hold, where all pairs are those of an RDM; else items that would make as many."""
    n = round((1 + np.sqrt(1 + 8 * len(use))) / 2)
    if n * (n - 1) // 2 != len(use):
        return int((1 + np.sqrt(1 + 8 * use.sum())) / 2)
    i, j = np.triu_indices(n, 1)
    return len(np.union1d(i[use], j[use]))


def rest_of(rows: Floats, removed: Floats | None) -> Floats:
    """What the columns (the mean, without any) leave of rows, of unit length; NaN where that is nothing."""
    x: Floats = rows - rows.mean(axis=1, keepdims=True)
    own = np.linalg.norm(x, axis=1)
    rest = x if removed is None else x - (x @ removed) @ removed.T
    length = np.linalg.norm(rest, axis=1)
    # what rounding leaves of a constant, or of an RDM that the controls explain whole, is not a rest
    there = (own > 1e-13 * np.linalg.norm(rows, axis=1)) & (length > 1e-5 * own)
    return np.asarray(rest / np.where(there, length, np.nan)[:, None])


def _too_few(data: Floats, controls: Floats, measure: Measure) -> str:
    """Why the controls can be removed from no RDM, and the way out."""
    n_controls = controls.shape[-2]
    form, each = form_of(measure, n_controls), ~np.isnan(data)
    each = each & ~np.isnan(controls).any(axis=-2)
    use = each[each.sum(axis=1).argmax()]
    many = "s" if n_controls > 1 else ""
    found = f"found {n_controls} control{many} for {use.sum()} pairs of {_n_items(use)} items"
    if form == "linear":
        return f"partial comparison: {found}, wanted fewer controls; take fewer, or more items"
    return (
        f"partial comparison: {found}, wanted at least {items_needed(measure, n_controls)} items: a "
        f"{partial_name(measure, n_controls)} takes {n_columns(form, n_controls)} columns, one in ten pairs at most; "
        "take more items, fewer controls, or measure 'pearson', which removes straight lines only"
    )


def rests(data: Floats, controls: Floats, measure: Measure) -> tuple[Floats, list[Floats | None]]:
    """What controls leave of each RDM `(n_data, n_pairs)`, of unit length, and the columns of each one's regression.

    Controls `(n_controls, n_pairs)` are everybody's, `(n_data, n_controls, n_pairs)` each data RDM's own. An RDM is NaN
    where its pairs are missing, and its columns are over the others.

    Raises
    ------
    InputError
        Pairs too few for the controls in every RDM.
    """
    form = form_of(measure, controls.shape[-2])
    result: Floats = np.full(data.shape, np.nan)
    columns: list[Floats | None] = []
    for k, row in enumerate(data):
        own = controls if controls.ndim == 2 else controls[k]
        use = ~np.isnan(row) & ~np.isnan(own).any(axis=0)
        removed = _removed(own, use, form)
        if removed is not None:
            x = row[None, use]
            result[k, use] = rest_of(rank_rows(x) if form == "ranks" else x, removed)[0]
        columns.append(removed)
    if all(one is None for one in columns):
        raise InputError(_too_few(data, controls, measure))
    return result, columns


def partial_ceilings(data_rdms: RDMs, control_rdms: RDMs, *, measure: Measure | str = "rho-a") -> pd.DataFrame:
    """The noise ceiling of a partial comparison: what controls leave of each participant against the others' mean.

    Returns
    -------
    DataFrame
        roi, lower, upper, n (participants), approximate: as `brainmap.rsa.noise_ceilings`. The upper bound is
        approximate: no model needs to leave exactly the mean of what the participants' RDMs leave.

    Raises
    ------
    InputError
        Fewer than two participants, or what `compare_rdms_partial` refuses.

    Notes
    -----
    Controls are removed from each RDM as `compare_rdms_partial` does (ranks less their spline; each participant's own
    controls, where these have an RDM descriptor `participant`), and what is left is brought to unit length and averaged
    over all participants, or over the others. The mean is compared with each participant after that one's controls are
    removed from it, as from a model; with the same controls for all that changes nothing.
    """
    from brainmap.rsa.comparison.ceilings import pools

    named, controls = partial_measure(measure), aligned_controls(control_rdms, data_rdms)
    vectors = np.asarray(data_rdms.dissimilarities, dtype=np.float64)
    of_roi = [str(roi) for roi in data_rdms.rdm_descriptors.get("roi", ["all voxels"] * data_rdms.n_rdm)]
    rows = []
    for roi in dict.fromkeys(of_roi):
        mine = np.array([name == roi for name in of_roi])
        if mine.sum() < 2:
            raise InputError(
                f"partial_ceilings: found one participant in {roi!r}, wanted at least 2; a ceiling says "
                "how well participants agree"
            )
        left, columns = rests(vectors[mine], controls if controls.ndim == 2 else controls[mine], named)
        pooled, others = pools(left, "pearson")
        upper, lower = (
            [_with_pool(x, pool, removed) for x, pool, removed in zip(left, each, columns, strict=True)]
            for each in ([pooled] * len(left), others)
        )
        rows.append(
            {"roi": roi, "lower": np.nanmean(lower), "upper": np.nanmean(upper), "n": len(left), "approximate": True}
        )
    return pd.DataFrame(rows)


def _with_pool(rest: Floats, pool: Floats, removed: Floats | None) -> float:
    """What controls leave of a participant's RDM with a pool of RDMs' rests, from which they are removed too."""
    there = ~np.isnan(rest)
    if removed is None or not there.any():
        return np.nan
    both = ~np.isnan(pool[there])  # pairs that no other participant has are in no pool
    again = np.linalg.qr(removed[both])[0]
    return float(rest_of(pool[None, there][:, both], again)[0] @ rest_of(rest[None, there][:, both], again)[0])
