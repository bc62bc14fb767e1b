"""Estimate the power of designs to detect a layer in a region, or a difference between two layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_ranges, list_some
from brainmap.errors import InputError
from brainmap.progress import Progress, progress
from brainmap.rsa.comparison.measures import compare_vectors, find_measure
from brainmap.rsa.inference.scores import TESTS
from brainmap.rsa.rdm.alignment import find_pair_positions, list_rdm_names
from brainmap.rsa.simulation.choice import convert_models, locate_items
from brainmap.rsa.simulation.rates import tabulate_rates
from brainmap.rsa.simulation.rdms import (
    Geometry,
    Measurement,
    compute_geometry,
    compute_lower_ceilings,
    draw_group,
    find_signal_of_ceiling,
)
from brainmap.types import FeatureSet, Floats, Measure, RDMs, SearchlightDissimilarity, Test

WANTED = 0.8
"""The power that a study is usually planned for."""

POWER_COLUMNS = {
    "comparison": "what is tested: the planted layer against 0, or against the other layer",
    "participants": "participants",
    "runs": "runs, each with every condition once",
    "conditions": "conditions, drawn anew for each simulated study when they are not all",
    "power": "share of simulated studies with p at most alpha and the planted layer ahead",
    "low": "lower end of the 95 % interval of power (Wilson), over simulations",
    "high": "upper end of that interval",
    "wrong": "share of simulated studies with p at most alpha and the other layer ahead",
    "effect": "mean score, or mean difference of scores, over studies [units of the measure]",
    "d": "that mean in standard deviations over participants (Cohen's d)",
    "ceiling_lower": "mean lower noise ceiling of the simulated studies [units of the measure]",
    "smallest_p": "smallest p that so many participants can reach",
}
"""Descriptions of the columns of `PowerAnalysis.table`, for the sidecar."""


@dataclass(frozen=True, eq=False)
class PowerAnalysis:
    """Hold the rates at which simulated studies of each design detect the planted layer.

    Attributes
    ----------
    table : DataFrame
        One row per comparison and design; `POWER_COLUMNS` describes the columns.
    planted, rival : str
        The layer whose geometry was planted, and the layer with which it is compared ("" for none).
    ceiling : float
        Expected lower noise ceiling of the pilot design.
    pilot : tuple of int
        Participants, runs and conditions of the design at which the ceiling was set.
    signal : float [noise variances]
        The signal that gives this ceiling, as in `brainmap.rsa.simulate_participant`.
    lost : float
        Share of the planted RDM that is not Euclidean (see `brainmap.rsa.simulation.rdms.embed_rdm`).
    measure, test : str
    alpha : float
    simulations : int
    items : tuple of str
        The items of all designs, where they were given; empty where each simulation draws its own.
    """

    table: pd.DataFrame
    planted: str
    rival: str
    ceiling: float
    pilot: tuple[int, int, int]
    signal: float
    lost: float
    measure: str
    test: str
    alpha: float
    simulations: int
    items: tuple[str, ...] = ()

    @property
    def comparisons(self) -> tuple[str, ...]:
        """Return the names of the comparisons."""
        return tuple(dict.fromkeys(self.table["comparison"]))

    def smallest(self, comparison: str, *, power: float = WANTED) -> dict[str, Any] | None:
        """Return the row of the design with the fewest trials that reaches a power; None if there is none.

        The number of trials is participants x runs x conditions; among designs with equally many trials, the one with
        fewer participants is chosen.
        """
        rows = self.table[self.table["comparison"] == check_choice(comparison, self.comparisons, "comparison")]
        rows = rows[rows["power"] >= power]
        if rows.empty:
            return None
        trials = rows["participants"] * rows["runs"] * rows["conditions"]
        best = rows.assign(trials=trials).sort_values(["trials", "participants"], kind="stable").iloc[:1]
        (found,) = best[rows.columns].to_dict(orient="records")
        return {str(key): value for key, value in found.items()}


def power_analysis(
    models: RDMs | FeatureSet,
    *,
    a: str,
    b: str | None = None,
    ceiling: float = 0.3,
    participants: Sequence[int] = (8, 12, 20, 30),
    runs: Sequence[int] = (4,),
    conditions: Sequence[int] | None = None,
    items: Sequence[str] | None = None,
    pilot: tuple[int, int, int] | None = None,
    simulations: int = 500,
    measure: Measure | str = "rho-a",
    test: Test = "signed-rank",
    alpha: float = 0.05,
    dissimilarity: SearchlightDissimilarity = "crossnobis",
    n_voxels: int = 100,
    specific: float = 0.3,
    explained: float = 1.0,
    variation: float = 0.5,
    rng: np.random.Generator,
) -> PowerAnalysis:
    """Simulate studies of a region with the geometry of layer `a`, and count how often a test detects it.

    Parameters
    ----------
    models : rsatoolbox RDMs, or a feature set
        RDMs of layers; for a feature set, correlation distances of z-scored units.
    a, b : str
        The planted layer, which is tested against 0 (one-sided), and a layer with which it is compared (two-sided, over
        participants' differences).
    ceiling : float
        Expected lower noise ceiling in the pilot design; all designs have the signal that gives it. With 0 no signal is
        planted, and the power is the rate of false positives.
    participants, runs, conditions : sequences of int
        Designs are all combinations of these. By default all conditions of the models are used; a smaller number is
        drawn anew for each study.
    items : sequence of str, optional
        Labels of the items that all studies have, such as those of `brainmap.rsa.choose_items`; not together with
        `conditions`. The signal remains that of the pilot, whose items are drawn at random from all of the models, and
        so do the geometries that `a` does not explain: both are unrelated to the choice.
    pilot : (participants, runs, conditions), optional
        The design whose ceiling is known from earlier data; the default is the first value of each.
    simulations : int
        Number of studies per design.
    measure : str
        As in `brainmap.rsa.compare_rdms`.
    test : {"signed-rank", "t", "sign-flip"}
        As in `brainmap.rsa.score_statistics`.
    alpha : float
        Level of a single test. Use a smaller one if the study will correct for many layers and regions.
    dissimilarity, n_voxels, specific, explained, variation
        As in `brainmap.rsa.simulation.rdms.Measurement`.
    rng : numpy Generator

    Returns
    -------
    PowerAnalysis

    Raises
    ------
    InputError
        Layers or items are unknown, items occur twice, there are more conditions than the models have, fewer than 2
        participants or 3 conditions, the ceiling cannot be reached, or settings are out of range.

    Notes
    -----
    With the default of `explained`, participants share only the geometry of `a`. Real regions contain more structure,
    so that layers are harder to distinguish there. Designs with fewer participants use the first ones of the same
    simulated studies, so that curves over participants are smooth and their points are not independent. Every run adds
    a repetition of the same quality: more runs increase the ceiling, more participants hardly do.

    References
    ----------
    Wilson 1927, doi:10.1080/01621459.1927.10502953 (interval)

    Examples
    --------
    >>> from brainmap.rsa import compute_rdms, stack_rdms
    >>> rng, items = np.random.default_rng(0), {"stimulus_id": list("abcdefghijkl")}
    >>> layers = stack_rdms([compute_rdms(rng.normal(size=(12, 9)), descriptors={**items, "layer": name})
    ...                      for name in ("conv2", "conv4")])
    >>> found = power_analysis(layers, a="conv4", b="conv2", participants=(6, 12), simulations=20, rng=rng)
    >>> found.table[["comparison", "participants"]].values.tolist()
    [['conv4 > 0', 6], ['conv4 > 0', 12], ['conv4 > conv2', 6], ['conv4 > conv2', 12]]
    """
    rdms = convert_models(models)
    names = list_rdm_names(rdms)
    chosen = [names.index(check_choice(name, names, "layer")) for name in ((a,) if b is None else (a, b))]
    if a == b:
        raise InputError(f"power_analysis: expected two different layers to compare, got {a!r} twice")
    named = find_measure(measure)
    check_choice(test, TESTS, "test")
    if items is not None and conditions is not None:
        raise InputError("power_analysis: expected items or conditions, got both; the items given are the conditions")
    among = None if items is None else locate_items(rdms, items)
    every = (rdms.n_cond if among is None else len(among),)
    designs = _check_designs(participants, runs, every if conditions is None else conditions, rdms.n_cond)
    check_ranges(
        "power_analysis",
        ("1 simulation or more", simulations, simulations >= 1),
        ("an alpha between 0 and 1", alpha, 0 < alpha < 1),
    )
    at = _choose_pilot(pilot, designs, rdms.n_cond)
    how = {
        k: Measurement(
            n_runs=k,
            n_voxels=n_voxels,
            dissimilarity=dissimilarity,
            specific=specific,
            explained=explained,
            variation=variation,
        )
        for k in {at[1], *designs[1]}
    }
    vectors = np.asarray(rdms.dissimilarities, dtype=np.float64)[chosen]
    if not np.isfinite(vectors).all():
        raise InputError(
            f"power_analysis: the RDMs of {list_some([a, b] if b else [a])} have missing pairs; leave out the items "
            "that lack them"
        )
    geometry = compute_geometry(rdms, chosen[0], dissimilarity=dissimilarity)
    signal = find_signal_of_ceiling(
        geometry, ceiling, measure=named, n_participants=at[0], measurement=how[at[1]], n_conditions=at[2], rng=rng
    )
    parts = []
    pairs = list(product(designs[1], designs[2]))
    with progress("power", total=len(pairs) * simulations) as step:
        for (n_runs, n_conditions), own in zip(pairs, rng.spawn(len(pairs)), strict=True):
            scores, lower = simulate_scores(
                vectors,
                geometry,
                signal=signal,
                measurement=how[n_runs],
                n_conditions=n_conditions if among is None else among,
                participants=designs[0],
                simulations=simulations,
                measure=named,
                rng=own,
                step=step,
            )
            part = tabulate_rates(
                scores, names=(a, b), participants=designs[0], test=test, alpha=alpha, measure=named, rng=own
            )
            parts.append(
                part.assign(
                    runs=n_runs, conditions=n_conditions, ceiling_lower=[lower[n] for n in part["participants"]]
                )
            )
    table = pd.concat(parts)
    table = table.iloc[np.argsort(table["comparison"] != f"{a} > 0", kind="stable")].reset_index(drop=True)
    return PowerAnalysis(
        table=table[list(POWER_COLUMNS)],
        planted=a,
        rival=b or "",
        ceiling=ceiling,
        pilot=at,
        signal=signal,
        lost=geometry.lost,
        measure=named,
        test=test,
        alpha=alpha,
        simulations=simulations,
        items=() if items is None else tuple(map(str, items)),
    )


def simulate_scores(
    models: Floats,
    geometry: Geometry,
    *,
    signal: float,
    measurement: Measurement,
    n_conditions: int | NDArray[np.intp],
    participants: Sequence[int],
    simulations: int,
    measure: Measure,
    rng: np.random.Generator,
    step: Progress | None = None,
) -> tuple[Floats, dict[int, float]]:
    """Simulate studies with the most participants, and return scores and the lower ceilings for each number of them.

    `n_conditions` may also be the items themselves, as in `draw_group`.

    Returns
    -------
    scores : array (n_models, simulations, n_most)
    ceilings : dict of participants to float
        Means over all studies.
    """
    most, n_items = max(participants), len(geometry.gram)
    scores = np.empty((len(models), simulations, most))
    lower = np.empty((simulations, len(participants)))
    for k in range(simulations):
        items, data = draw_group(
            geometry.gram,
            signal=signal,
            measurement=measurement,
            n_participants=most,
            n_conditions=n_conditions,
            rng=rng,
        )
        scores[:, k] = compare_vectors(models[:, find_pair_positions(items, n_items)], data, measure=measure)
        lower[k] = compute_lower_ceilings(data, participants, measure)
        if step is not None:
            step.advance()
    return scores, dict(zip(participants, lower.mean(axis=0).tolist(), strict=True))


def _check_designs(
    participants: Sequence[int], runs: Sequence[int], conditions: Sequence[int], n_items: int
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Check the design settings, and return the sorted unique values of each."""
    found = []
    for what, numbers, least in (("participants", participants, 2), ("runs", runs, 1), ("conditions", conditions, 3)):
        if not numbers or min(numbers) < least:
            raise InputError(f"power_analysis: expected {what} of {least} or more, got {list(numbers)}")
        found.append(tuple(sorted(set(map(int, numbers)))))
    if max(found[2]) > n_items:
        raise InputError(
            f"power_analysis: expected at most {n_items} conditions, as the models have, got {max(found[2])}"
        )
    return found[0], found[1], found[2]


def _choose_pilot(
    pilot: tuple[int, int, int] | None, designs: tuple[tuple[int, ...], ...], n_items: int
) -> tuple[int, int, int]:
    at = tuple(pilot) if pilot is not None else tuple(numbers[0] for numbers in designs)
    if len(at) != 3:
        raise InputError(f"power_analysis: expected participants, runs and conditions as the pilot, got {at}")
    _check_designs([at[0]], [at[1]], [at[2]], n_items)
    return at[0], at[1], at[2]
