"""Compute group maps, which test where a model's score is above 0 over participants and where two models differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, cast

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_each, check_enough, count_threads, list_some
from brainmap.errors import InputError
from brainmap.rsa.group.adjacency import Neighbors
from brainmap.rsa.group.clusters import CLUSTER_COLUMNS as CLUSTER_COLUMNS, build_cluster_table
from brainmap.rsa.group.enhancement import Enhancement, compute_cluster_threshold
from brainmap.rsa.group.places import Places, read_places
from brainmap.rsa.inference.scores import correct_p as corrected_p, describe_fdr_reach
from brainmap.rsa.inference.sign_flips import SignFlip, sign_flip_test
from brainmap.types import Floats, GroupCorrection, UpperAlternative

Image = nib.Nifti1Image | str | Path
Maps = Sequence[Any] | Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]]
Contrasts = Literal["all-pairs"] | Sequence[tuple[str, str]]

CORRECTIONS = ("max-t", "cluster-mass", "tfce", "fdr")
ENHANCED = {"tfce": "tfce", "cluster-mass": "mass"}
"""Names of the enhanced statistics: the column of the cluster table, and the name of the map on disk."""


@dataclass(frozen=True, eq=False)
class GroupResult:
    """Hold the results of a group test of maps.

    Result maps have the type of the input (float32 images, surface data or arrays), and are NaN where not tested.

    `mean`, `statistic`, `p`, `p_corrected`, `enhanced` and `thresholded` follow the input: one map for a list of
    maps, else a mapping of model to map.

    Attributes
    ----------
    names : tuple of str
        The models; ("map",) for a list of maps; "a - b" in `differences`.
    mean, statistic, p, p_corrected : map or dict of str to map
        Mean and t over participants, uncorrected p of t, and p corrected over all places and models.
    enhanced : map or dict of str to map, optional
        TFCE, or the mass of the cluster of each place (0 outside clusters).
    best : map
        The index in `names`, from 1, of the model with the highest mean (the largest absolute mean, if two-sided) where
        any model is significant.
    clusters : DataFrame
        One row per cluster of significant places; `CLUSTER_COLUMNS` describes the columns.
    threshold : float
        The corrected p at or below which a place is significant.
    critical : float
        The t, TFCE or cluster mass that a significant place reaches; NaN for fdr.
    cluster_t : float
        The cluster-forming threshold of t (cluster mass only, else NaN).
    n_participants, n_voxels, n_excluded : int
        Numbers of participants, of tested places (voxels, vertices or others), and of excluded places, which have a
        value in some participants or models but not in all.
    n_flips : int
    enumerated : bool
        Whether all 2^n sign patterns were used.
    smallest_p : float
        The smallest p that is possible; with very few participants nothing can be significant.
    reach : str
        The reason in words why fdr finds nothing (`describe_fdr_reach`); empty if there is none.
    differences : GroupResult, optional
        The two-sided tests of the contrasts, corrected as a separate family.
    """

    names: tuple[str, ...]
    mean: Any
    statistic: Any
    p: Any
    p_corrected: Any
    enhanced: Any
    best: Any
    clusters: pd.DataFrame
    threshold: float
    critical: float
    cluster_t: float
    n_participants: int
    n_voxels: int
    n_excluded: int
    n_flips: int
    enumerated: bool
    smallest_p: float
    reach: str = ""
    differences: GroupResult | None = None

    @property
    def thresholded(self) -> Any:
        """Return the means of significant places, NaN elsewhere."""
        if isinstance(self.mean, dict):
            return {n: threshold_map(m, self.p_corrected[n], threshold=self.threshold) for n, m in self.mean.items()}
        return threshold_map(self.mean, self.p_corrected, threshold=self.threshold)


def threshold_map(values: Any, p: Any, *, threshold: float = 0.05) -> Any:
    """Keep the values of a map where p is at or below the threshold, and set the others to NaN.

    Parameters
    ----------
    values, p : image or path, SurfaceData, or array (n_places,)
        Two maps of the same places.
    threshold : float

    Returns
    -------
    image, SurfaceData or array
        Of the type of `values`.

    Raises
    ------
    InputError
        The maps have different places, or the threshold is not a valid p.

    Examples
    --------
    >>> threshold_map(np.array([0.2, 0.1, 0.3]), np.array([0.01, 0.2, np.nan])).tolist()
    [0.20000000298023224, nan, nan]
    """
    _check_p(threshold, "threshold_map")
    places = read_places(values)
    kept, level = places.read(values, "threshold_map: values"), places.read(p, "threshold_map: p")
    with np.errstate(invalid="ignore"):
        return places.build(np.where(level <= np.float32(threshold), kept, np.nan))


def group_test(
    maps_by_participant: Maps,
    *,
    test: Literal["sign-flip"] = "sign-flip",
    correction: GroupCorrection = "max-t",
    contrasts: Contrasts | None = None,
    permutations: int = 5000,
    alternative: UpperAlternative = "greater",
    mask: Any = None,
    threshold: float = 0.05,
    cluster_p: float = 0.001,
    neighbors: Any = None,
    rois: Any = None,
    peak_distance: float | None = None,
    rng: np.random.Generator | None = None,
    threads: int | None = None,
) -> GroupResult:
    """Test participants' maps against 0, and models against each other.

    Under the null hypothesis of the maps, participants' scores are symmetric about 0 at every place and for every
    model, so that the sign of a participant's whole brain may be flipped. Under the null hypothesis of the contrasts,
    the same holds for participants' paired differences. Family-wise p are corrected over all models (all contrasts) and
    places together. Max-t supports inference about single places; TFCE and cluster mass only about clusters. The
    stimuli are treated as fixed: the result does not generalize to other stimuli.

    Parameters
    ----------
    maps_by_participant : list of maps, mapping of model to such a list, or list of SearchlightMaps
        One map per participant, all with the same places: images or paths on one grid; `SurfaceData` or `.gii` paths
        of one mesh; or arrays (n_places,). Several models are corrected together.
    test : "sign-flip"
        See `brainmap.rsa.inference.sign_flips.sign_flip_test`.
    correction : {"max-t", "cluster-mass", "tfce", "fdr"}
        Family-wise correction by the largest t, cluster mass or TFCE; or Benjamini-Hochberg over the same tests, which
        with few participants finds many places or none (`reach`).
    contrasts : "all-pairs" or list of (model, model), optional
        Differences to test in addition, two-sided: the first model minus the second ("all-pairs": each model minus each
        one before it).
    permutations : int
        All 2^n sign patterns are used if there are at most this many; else this many are drawn.
    alternative : {"greater", "two-sided"}
        The alternative for the maps: "greater" for scores, "two-sided" if the maps already are differences.
    mask : image or path, SurfaceData, or array, optional
        Only places where the mask is not 0 are tested.
    threshold : float
        Corrected p at or below which a place is significant, for `best`, `thresholded` and `clusters`.
    cluster_p : float
        Cluster-forming threshold for cluster mass, as an uncorrected p of t (half of it per side, if two-sided).
    neighbors : {6, 18, 26}, mesh, edges (n_edges, 2), sparse matrix or Neighbors
        The adjacency of places. Volumes: the number of neighbors of a voxel, by default 6 (faces); FSL uses 26.
        Surfaces: "fsaverage5" or any mesh that `load_mesh` reads; vertices are then weighted by their area. Arrays:
        edges.
    rois : image or path, mapping of name to mask, or Rois, optional
        Regions by which clusters are labeled.
    peak_distance : float, optional [mm]
        Further local maxima of clusters are listed if they are at least this far from higher ones.
    rng : numpy.random.Generator, optional
        Used only when sign patterns are drawn.
    threads : int, optional
        Number of threads for TFCE and cluster mass; all cores by default.

    Returns
    -------
    GroupResult

    Raises
    ------
    InputError
        Grids or meshes differ (nothing is resampled), models differ between participants, there are fewer than two
        participants, no place has a value in all participants, or a contrast names an unknown model.

    References
    ----------
    Nichols and Holmes 2002, doi:10.1002/hbm.1058 (max-t); Bullmore et al. 1999, doi:10.1109/42.750253 (cluster mass);
    Smith and Nichols 2009, doi:10.1016/j.neuroimage.2008.03.061 (TFCE)

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> maps = [nib.Nifti1Image(rng.normal(0.1, 0.1, (4, 4, 4)), np.eye(4)) for _ in range(8)]
    >>> result = group_test(maps)
    >>> result.n_flips, result.statistic.shape, list(result.clusters.columns[:2])
    (256, (4, 4, 4), ['model', 'cluster'])
    >>> two = group_test({"conv2": maps, "conv4": maps[::-1]}, correction="tfce", contrasts=[("conv4", "conv2")])
    >>> two.differences.names
    ('conv4 - conv2',)
    """
    check_choice(test, ("sign-flip",), "group_test test")
    check_choice(correction, CORRECTIONS, "group_test correction")
    _check_p(threshold, "group_test")
    threads = count_threads(threads, "group_test")
    single, by_model = _sort_by_model(maps_by_participant)
    if neighbors is None and not isinstance(maps_by_participant, Mapping):  # maps of a surface searchlight have a mesh
        neighbors = getattr(next(iter(maps_by_participant), None), "mesh", None)
    names = tuple(by_model)
    pairs = _pair_models(contrasts, names)
    places, scores, tested, n_excluded = _stack_maps(by_model, mask)
    whole = np.flatnonzero(tested)
    family = _Family(
        places=places,
        tested=whole,
        n_excluded=n_excluded,
        correction=correction,
        threshold=threshold,
        neighbors=places.build_neighbors(neighbors).within(tested),
        cluster_p=cluster_p,
        rois=None if rois is None else places.regions(rois),
        peak_distance=peak_distance,
    )
    compute_cluster_threshold(
        cluster_p, scores.shape[1], two_sided=True
    )  # report a mistake before the long computation
    flips: Any = {"permutations": permutations, "rng": rng, "threads": threads}
    differences = None
    if pairs:
        between = np.stack([scores[a] - scores[b] for a, b in pairs])
        titles = tuple(f"{names[a]} - {names[b]}" for a, b in pairs)
        differences = family.test(between, titles, alternative="two-sided", **flips)
    return family.test(scores, names, alternative=alternative, single=single, differences=differences, **flips)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Family:
    """Hold the settings that the tests of models and of their differences share."""

    places: Places
    tested: NDArray[np.intp]
    n_excluded: int
    correction: GroupCorrection
    threshold: float
    neighbors: Neighbors
    cluster_p: float
    rois: Any
    peak_distance: float | None

    def build(self, values: NDArray[Any]) -> Any:
        """Build a map from the values at the tested places."""
        volume = np.full(int(np.prod(self.places.shape)), np.nan, dtype=np.float32)
        volume[self.tested] = values
        return self.places.build(volume)

    def test(
        self,
        scores: Floats,
        names: tuple[str, ...],
        *,
        alternative: UpperAlternative,
        single: bool = False,
        differences: GroupResult | None = None,
        **flips: Any,
    ) -> GroupResult:
        """Test maps `(n_maps, n_participants, n_tested)` that are corrected together."""
        n_maps, n, n_tested = scores.shape
        kind = self.correction if self.correction in ENHANCED else None
        enhancement = kind and Enhancement(kind=cast(Any, kind), neighbors=self.neighbors, cluster_p=self.cluster_p)
        flat = scores.transpose(1, 0, 2).reshape(n, -1)
        found = sign_flip_test(flat, alternative=alternative, enhancement=enhancement or None, **flips)
        rows = {"mean": scores.mean(axis=1)} | self._tabulate_rows(found, n_maps)
        significant = rows["p_corrected"] <= self.threshold
        told = {ENHANCED[kind]: rows["enhanced"]} if kind else {}
        clusters = build_cluster_table(
            {"mean": rows["mean"], "statistic": rows["statistic"], **told, "p_corrected": rows["p_corrected"]},
            significant,
            names=names,
            tested=self.tested,
            places=self.places,
            neighbors=self.neighbors,
            rois=self.rois,
            peak_distance=self.peak_distance,
        )
        two_sided = alternative == "two-sided"
        highest = (np.abs(rows["mean"]) if two_sided else rows["mean"]).argmax(axis=0)
        maps: dict[str, Any] = {
            key: self.build(values[0]) if single else dict(zip(names, map(self.build, values), strict=True))
            for key, values in rows.items()
        }
        mass = self.correction == "cluster-mass"
        smallest = found.smallest_p * (2 if two_sided and found.enumerated else 1)
        return GroupResult(
            names=names,
            **{"enhanced": None, **maps},
            best=self.build(np.where(significant.any(axis=0), highest + 1.0, np.nan)),
            clusters=clusters,
            threshold=self.threshold,
            critical=found.critical(self.threshold) if self.correction != "fdr" else float("nan"),
            cluster_t=compute_cluster_threshold(self.cluster_p, n, two_sided=two_sided) if mass else float("nan"),
            n_participants=n,
            n_voxels=n_tested,
            n_excluded=self.n_excluded,
            n_flips=found.n_flips,
            enumerated=found.enumerated,
            smallest_p=smallest,
            reach=describe_fdr_reach(found.p, smallest, alpha=self.threshold) if self.correction == "fdr" else "",
            differences=differences,
        )

    def _tabulate_rows(self, found: SignFlip, n_maps: int) -> dict[str, Floats]:
        """Return the results with one row per map."""
        corrected = corrected_p(found.p, "fdr") if self.correction == "fdr" else found.p_corrected
        rows = {"statistic": found.statistic, "p": found.p, "p_corrected": corrected}
        if found.enhanced is not None:
            rows["enhanced"] = found.enhanced
        return {key: values.reshape(n_maps, -1) for key, values in rows.items()}


def _check_p(threshold: float, what: str) -> None:
    if not 0 < threshold < 1:
        raise InputError(f"{what}: expected a threshold between 0 and 1 (a p), got {threshold}")


def _pair_models(contrasts: Contrasts | None, names: tuple[str, ...]) -> list[tuple[int, int]]:
    """Return the indices in `names` of the models of each contrast."""
    if contrasts is None:
        return []
    if isinstance(contrasts, str):
        check_choice(contrasts, ("all-pairs",), "group_test contrasts")
        return [(b, a) for a, b in combinations(range(len(names)), 2)]
    found = []
    for given in contrasts:
        if isinstance(given, str) or len(given) != 2 or given[0] == given[1]:
            raise InputError(f"group_test contrasts: expected two models, as ('conv4', 'conv2'), got {given!r}")
        check_each(given, names, "group_test contrasts")
        found.append((names.index(given[0]), names.index(given[1])))
    if len(set(map(frozenset, found))) < len(found):
        raise InputError(
            "group_test contrasts: the same two models are compared twice; name each pair once, in one order"
        )
    return found


def _sort_by_model(given: Maps) -> tuple[bool, dict[str, list[Any]]]:
    """Return the maps of each model over participants, and whether there is only one unnamed model."""
    if isinstance(given, Mapping):
        if any(isinstance(one, str | Path) or not isinstance(one, Sequence) for one in given.values()):
            raise InputError("group_test: expected a list of participants' maps, got the maps of one participant")
        by_model = {str(name): list(images) for name, images in given.items()}
        counts = {name: len(images) for name, images in by_model.items()}
        if not by_model:
            raise InputError("group_test: expected at least one model, got none")
        if len(set(counts.values())) > 1:
            raise InputError(f"group_test: models have maps of different numbers of participants: {counts}")
        return False, by_model
    listed = list(given)
    named = [one for one in listed if isinstance(one, Mapping)]
    if not named:
        return True, {"map": listed}
    if len(named) < len(listed):
        raise InputError("group_test: expected one kind of input, got images among mappings of model to image")
    names = list(named[0])
    for k, maps in enumerate(named, 1):
        if set(maps) != set(names):
            raise InputError(
                f"group_test: expected the models of the first participant, {list_some(names)}, got {list_some(maps)} "
                f"of participant {k} of the list; use the same models for all"
            )
    return False, {name: [maps[name] for maps in named] for name in names}


def _stack_maps(by_model: Mapping[str, Sequence[Any]], mask: Any) -> tuple[Places, Floats, NDArray[np.bool_], int]:
    """Stack the maps of all participants.

    The values are the space of the maps, the scores `(n_models, n_participants, n_tested)`, a mask of the places that
    have a value in all participants, and the number of places that lack one in some.
    """
    n = len(next(iter(by_model.values())))
    check_enough(n, 2, "group_test", "participants with maps (5 or more can reach p < .05)")
    places: Places | None = None
    values = []
    for name, maps in by_model.items():
        for k, given in enumerate(maps, 1):
            places = places or read_places(given)
            what = f"group_test: map {k}" + ("" if len(by_model) == 1 else f" of {name!r}")
            values.append(places.read(given, what))
    assert places is not None  # there are two participants or more
    present = [np.isfinite(one) & (one != 0) for one in values]
    asked = np.logical_or.reduce(present) if mask is None else places.read(mask, "group_test: mask") != 0
    tested = asked & np.logical_and.reduce(present)
    if not tested.any():
        raise InputError("group_test: no voxel has a value in every participant; are the maps in one space?")
    scores = np.stack([one[tested] for one in values]).astype(np.float64).reshape(len(by_model), n, -1)
    return places, scores, tested, int((asked & ~tested).sum())
