"""Partition the variance of RDMs into unique and common shares of sets of models."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_literals, list_some
from brainmap.errors import InputError
from brainmap.rsa.comparison.measures import group_by_missing
from brainmap.rsa.comparison.ranks import rank_rows
from brainmap.rsa.rdm.alignment import align_vectors
from brainmap.types import Fit, Floats, RDMs, Validation

MOST_SETS = 4
"""Largest number of sets of a partition; 4 sets give 15 shares."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Partition:
    """Hold the variance of each data RDM that every union of sets explains, and the unique and common shares.

    Attributes
    ----------
    sets : tuple of str
    subsets : tuple of tuples of str
        All non-empty subsets of the sets, sorted by size.
    r2 : array (n_subsets, n_data)
        Explained variance of a regression on all RDMs of those sets.
    shares : array (n_subsets, n_data)
        For one set, the variance that only this set explains. For several sets, the variance that exactly these have in
        common. A negative share means that the sets explain more together than the sum of each (suppression). The
        shares sum to the `r2` of all sets.
    data : DataFrame
        Columns `roi` and `participant` of each data RDM.
    validation : {"participants", "none"}
        Whether weights come from the other participants.
    """

    sets: tuple[str, ...]
    subsets: tuple[tuple[str, ...], ...]
    r2: Floats
    shares: Floats
    data: pd.DataFrame
    validation: Validation

    @property
    def names(self) -> list[str]:
        """Return the name of each share, such as "a only" or "a + b".

        Examples
        --------
        >>> x = np.zeros((3, 1))
        >>> Partition(sets=("a", "b"), subsets=(("a",), ("b",), ("a", "b")), r2=x, shares=x, data=pd.DataFrame(),
        ...           validation="none").names
        ['a only', 'b only', 'a + b']
        """
        return [f"{one[0]} only" if len(one) == 1 < len(self.sets) else " + ".join(one) for one in self.subsets]

    def table(self) -> pd.DataFrame:
        """Return a table with one row per share and data RDM.

        Columns are roi, participant, sets, share, r2 (of the union of those sets), and suppressed_by (see
        `suppression`).
        """
        rows = pd.DataFrame(np.repeat(self.data.to_numpy(), len(self.subsets), axis=0), columns=self.data.columns)
        named = np.tile(np.array(self.names), len(self.data))
        rows = rows.assign(sets=named, share=self.shares.T.ravel(), r2=self.r2.T.ravel())
        return rows.assign(suppressed_by=self._flag_suppressed(rows))

    def suppression(self) -> dict[tuple[str, str], str]:
        """Return the "only" shares `(roi, name)` whose set has negative common shares, and the names of the latter.

        Such an "only" share does not show that its set is related to the data: if a and b share a component that the
        data lack, a regression uses b to remove this component from a, and "b only" is above 0 although b alone
        explains nothing. A common share counts as negative if its mean over participants is more than two standard
        errors below 0 (for one data RDM: if it is below 0).
        """
        found: dict[tuple[str, str], list[str]] = {}
        for roi in dict.fromkeys(self.data["roi"]):
            shares = self.shares[:, (self.data["roi"] == roi).to_numpy()]
            for members, name, row in zip(self.subsets, self.names, shares, strict=True):
                row = row[np.isfinite(row)]
                error = row.std(ddof=1) / np.sqrt(len(row)) if len(row) > 1 else 0.0
                if len(members) > 1 and len(row) and row.mean() + 2 * error < -1e-12:
                    for one in members:
                        found.setdefault((str(roi), f"{one} only"), []).append(name)
        return {key: ", ".join(names) for key, names in found.items()}

    def _flag_suppressed(self, rows: pd.DataFrame) -> list[str]:
        """Return the `suppression` of rows with roi and sets, or "none"."""
        flags = self.suppression()
        return [flags.get((str(roi), name), "none") for roi, name in zip(rows["roi"], rows["sets"], strict=True)]


def partition_variance(
    sets: Mapping[str, RDMs],
    data_rdms: RDMs,
    *,
    fit: Fit = "ols",
    ranks: bool = False,
    validation: Validation = "participants",
) -> Partition:
    """Partition the variance of each data RDM among up to four sets of model RDMs.

    Parameters
    ----------
    sets : mapping name -> rsatoolbox RDMs
        The RDMs of a set (the layers of a network, acoustic models) are predictors together.
    data_rdms : rsatoolbox RDMs
        One RDM per participant and ROI (RDM descriptors `participant`, `roi`), over the same items in any order.
    fit : {"ols", "nnls"}
        Ordinary or non-negative least squares.
    ranks : bool
        Whether all dissimilarities are ranked first (as in Spearman's correlation).
    validation : {"participants", "none"}
        "participants": the weights are fit to the mean RDM of the other participants of that ROI, so that explained
        variance is near or below 0 where there is nothing to explain, and may be tested. "none": the weights are fit
        and scored on the same RDM; then explained variance increases by chance with every RDM of a set.

    Returns
    -------
    Partition
        Pairs that are NaN in a model are left out everywhere; pairs that are NaN in a data RDM only for that RDM.

    Raises
    ------
    InputError
        There are no sets or more than four, the items or levels differ, an RDM has no variance, there are as many
        models as pairs, or participants are unknown or too few for the validation.

    Notes
    -----
    With R(T) the explained variance of the union of the sets T, the share of exactly the sets S is the sum over the
    subsets T of S of (-1)^(|T| + 1) R(T and all sets outside S).

    References
    ----------
    Nimon et al. 2008, doi:10.3758/BRM.40.2.457 (commonality analysis); Groen et al. 2018, doi:10.7554/eLife.32962
    (of RDMs).

    Examples
    --------
    >>> from brainmap.rsa import compute_rdms
    >>> rng, items = np.random.default_rng(0), {"stimulus_id": list("abcdefgh")}
    >>> one, two = (compute_rdms(rng.normal(size=(8, 5)), descriptors=items) for _ in range(2))
    >>> found = partition_variance({"one": one, "two": two}, one, validation="none")
    >>> found.names, bool(np.isclose(found.shares.sum(), 1)), bool(abs(found.shares[1, 0]) < 1e-12)
    (['one only', 'two only', 'one + two'], True, True)
    """
    check_literals((fit, Fit, "fit"), (validation, Validation, "validation"))
    if not 1 <= len(sets) <= MOST_SETS:
        raise InputError(
            f"partition: expected 1 to {MOST_SETS} sets, got {len(sets)} ({list_some(sets)}); put RDMs of one kind "
            "into one set"
        )
    vectors = [align_vectors(rdms, data_rdms, names=(name, "data")) for name, rdms in sets.items()]
    columns = np.repeat(np.arange(len(sets)), [len(v) for v in vectors])
    models, data = np.concatenate(vectors), np.asarray(data_rdms.dissimilarities, dtype=np.float64)
    described = _read_descriptors(data_rdms)
    targets = _average_others(data, described, ranks=ranks) if validation == "participants" else data
    chosen = [c for size in range(1, len(sets) + 1) for c in itertools.combinations(range(len(sets)), size)]
    r2 = np.full((len(chosen), len(data)), np.nan)
    there = np.asarray(~np.isnan(models).any(axis=0))
    for k, (target, own) in enumerate(zip(targets, data, strict=True)):
        # the mean of the others' z-scores (or ranks) keeps its scale, which reflects how much they agree
        training = _reduce_models(models, target, there, ranks=ranks, scale=validation == "none")
        testing = _reduce_models(models, own, there, ranks=ranks, scale=True)
        if training is not None and testing is not None:
            for row, members in enumerate(chosen):
                r2[row, k] = _explain_variance(training, testing, np.flatnonzero(np.isin(columns, members)), fit)
    names = tuple(sets)
    return Partition(
        sets=names,
        subsets=tuple(tuple(names[i] for i in one) for one in chosen),
        r2=r2,
        shares=_compute_shares(r2, chosen, len(sets)),
        data=described,
        validation=validation,
    )


def _read_descriptors(rdms: RDMs) -> pd.DataFrame:
    """Return the ROI and participant of each data RDM."""
    found = rdms.rdm_descriptors
    numbers = [str(k) for k in range(1, rdms.n_rdm + 1)]
    rois = [str(roi) for roi in found.get("roi", ["all voxels"] * rdms.n_rdm)]
    return pd.DataFrame({"roi": rois, "participant": [str(p) for p in found.get("participant", numbers)]})


def _average_others(data: Floats, described: pd.DataFrame, *, ranks: bool) -> Floats:
    """Compute for each data RDM the mean z-scored RDM of the other participants of its ROI."""
    twice = described.duplicated()
    if twice.any():
        raise InputError(
            f"partition: expected one RDM of {described['roi'][twice].iloc[0]!r} per participant, got several of "
            f"participant {described['participant'][twice].iloc[0]!r}; name each in the RDM descriptors"
        )
    scaled = np.full(data.shape, np.nan)
    for rows, use in group_by_missing(data):
        if use.sum() > 1:
            scaled[np.ix_(rows, use)] = _zscore_rows(data[np.ix_(rows, use)], ranks=ranks)
    result = np.full(data.shape, np.nan)
    for roi, members in described.groupby("roi", sort=False).indices.items():
        if len(members) < 2:
            raise InputError(
                "partition: expected at least 2 participants, so that weights come from the others, got one in "
                f"{roi!r}; or take validation='none'"
            )
        weight = ~np.isnan(scaled[members])
        filled = np.where(weight, scaled[members], 0.0)
        count = weight.sum(axis=0) - weight
        result[members] = np.where(count > 0, (filled.sum(axis=0) - filled) / np.maximum(count, 1), np.nan)
    return result


def _zscore_rows(rows: Floats, *, ranks: bool = False, scale: bool = True) -> Floats:
    """Center rows and scale them to unit standard deviation; constant rows become NaN."""
    x = rank_rows(rows) if ranks else rows
    centered = x - x.mean(axis=1, keepdims=True)
    spread = np.sqrt((centered**2).mean(axis=1, keepdims=True))
    spread = np.where(spread > 1e-13 * np.abs(x).max(axis=1, keepdims=True), spread, np.nan)
    return np.asarray(centered / spread if scale else centered)


def _reduce_models(
    models: Floats, target: Floats, there: NDArray[np.bool_], *, ranks: bool, scale: bool
) -> Floats | None:
    """Reduce models and target to few rows with the same inner products, for an equivalent but smaller regression.

    Return None if the target is missing or has no variance.
    """
    use = there & ~np.isnan(target)
    if use.sum() <= len(models) + 1:
        if use.any():
            raise InputError(
                f"partition: expected fewer model RDMs than pairs of items, got {len(models)} for {use.sum()} pairs, "
                "which would explain any RDM; take fewer models or more items"
            )
        return None
    x = _zscore_rows(models[:, use], ranks=ranks)
    if np.isnan(x).any():
        which = np.flatnonzero(np.isnan(x).any(axis=1)) + 1
        raise InputError(
            f"partition: model RDM {list_some(which.tolist())} (counted through all sets) has no variance; leave it out"
        )
    y = _zscore_rows(target[None, use], ranks=ranks and scale, scale=scale)
    if np.isnan(y).any():
        return None
    # scaled per pair, so that training and testing with different numbers of pairs have the same scale
    return np.asarray(np.linalg.qr(np.concatenate([x, y]).T / np.sqrt(use.sum()), mode="r"))


def _explain_variance(training: Floats, testing: Floats, columns: NDArray[np.intp], fit: Fit) -> float:
    """Compute the explained variance of the test data with weights from the training data."""
    from scipy.optimize import nnls

    x, y = training[:, columns], training[:, -1]
    weights = nnls(x, y)[0] if fit == "nnls" else np.linalg.lstsq(x, y, rcond=1e-10)[0]
    residual = testing[:, -1] - testing[:, columns] @ weights
    return float(1.0 - residual @ residual / (testing[:, -1] @ testing[:, -1]))


def _compute_shares(r2: Floats, chosen: Sequence[tuple[int, ...]], n_sets: int) -> Floats:
    """Compute the shares by inclusion-exclusion over the explained variance of all unions.

    The share of exactly the sets S is the sum over subsets T of S of (-1)^(|T| + 1) R(T and all sets outside S).
    """
    of = {frozenset(one): row for one, row in zip(chosen, r2, strict=True)}
    of[frozenset()] = np.zeros(r2.shape[1])
    shares = np.zeros(r2.shape)
    for k, one in enumerate(chosen):
        outside = frozenset(range(n_sets)) - frozenset(one)
        for size in range(len(one) + 1):
            for part in itertools.combinations(one, size):
                shares[k] += (-1) ** (size + 1) * of[outside | frozenset(part)]
    return shares
