"""Choose the items of the next experiment that tell two layers apart with the fewest participants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_ranges, list_some, refuse_some, suggest_word
from brainmap.errors import InputError
from brainmap.rsa.rdm.alignment import list_labels, list_rdm_names
from brainmap.rsa.simulation.subsets import (
    LEAST,
    Indices,
    Moments,
    build_terms,
    compute_d,
    compute_unlikeness,
    draw_items,
    measure_items,
    search_items,
    share_items,
)
from brainmap.types import Balance, FeatureSet, Floats, RDMs

CHOICE_COLUMNS = {
    "choice": "how items were chosen: by d, at random (mean over draws), or for the least correlated RDMs",
    "d": "min(sd_a, sd_b) (1 - r) / sqrt(1 - r + g), by which the items were chosen",
    "low": "smallest d over starts of the search, or over random draws",
    "high": "largest d over starts of the search, or over random draws",
    "r": "Pearson correlation of the two RDMs over the pairs of these items",
    "sd_a": "standard deviation of the dissimilarities of layer a, divided by that over all candidates",
    "sd_b": "standard deviation of the dissimilarities of layer b, divided by that over all candidates",
    "g": "variance that noise of pairs with a common item adds; 1 - r if noise were independent",
    "participants": "expected number of participants divided by that of a random choice, (d of random / d)^2",
}
"""Descriptions of the columns of `ChosenItems.table`, for the sidecar."""

_Found: TypeAlias = tuple[Sequence[Indices], Sequence[Indices]]  # items to be described, all that were found


@dataclass(frozen=True, eq=False)
class ChosenItems:
    """Hold the items that tell two layers apart, and what the choice gains.

    Attributes
    ----------
    items : tuple of str
        Labels of the chosen items, in the order of the RDMs.
    conditions : tuple of str
        The condition of each; empty where the RDMs have none.
    a, b : str
        The layers.
    balance : {"condition", "none"}
    n_candidates : int
    table : DataFrame
        One row for each way of choosing (by d, at random, the least correlated RDMs); `CHOICE_COLUMNS` describes the
        columns.
    starts : array (n_starts,)
        The d at which the search ended from each start.
    """

    items: tuple[str, ...]
    conditions: tuple[str, ...]
    a: str
    b: str
    balance: Balance
    n_candidates: int
    table: pd.DataFrame
    starts: Floats

    def describe(self) -> str:
        """Describe what the choice is good for and what it is not, one sentence a line."""
        chosen = self.table.set_index("choice").loc["by d"]
        kind = "a balanced random choice" if self.balance == "condition" else "a random choice"
        same = int(np.isclose(self.starts, self.starts.max(), rtol=1e-6).sum())
        return "\n".join(
            (
                f"{len(self.items)} of {self.n_candidates} items tell {self.a} from {self.b} with about "
                f"{chosen['participants']:.2f} times the participants that {kind} needs (first order in the signal; "
                "`brainmap rsa power --items` simulates it).",
                f"{same} of {len(self.starts)} starts of the search end at this d; they range from "
                f"{self.starts.min():.3f} to {self.starts.max():.3f}.",
                f"The choice is specific to {self.a} and {self.b} as they are in these RDMs: for other layers, or the "
                "same layers of another network, it promises no advantage.",
                "The gain is that of an equal signal; at an equal noise ceiling, a choice that is not balanced over "
                "conditions gains nothing over a balanced one.",
                "Chosen sounds are no sample of sounds, so that no test may resample them; write in the study file:",
                "[stimuli]",
                "selected = true",
                "[rsa]",
                'inference = { over = "participants" }',
            )
        )


def choose_items(
    rdms: RDMs | FeatureSet,
    *,
    a: str,
    b: str,
    n: int = 32,
    balance: Balance = "condition",
    n_starts: int = 10,
    n_random: int = 200,
    rng: np.random.Generator,
) -> ChosenItems:
    """Choose the candidate items that tell two layers apart with the fewest participants.

    Parameters
    ----------
    rdms : rsatoolbox RDMs, or a feature set
        RDMs of layers over all candidates; for a feature set, correlation distances of z-scored units.
    a, b : str
        The two layers; with several networks, the network and the layer as in `list_rdm_names`.
    n : int
        Number of items to choose.
    balance : {"condition", "none"}
        Whether every condition has the same number of chosen items.
    n_starts : int
        Number of searches, each of which begins with other random items; the best result is kept.
    n_random : int
        Number of random choices (balanced in the same way) for the comparison.
    rng : numpy Generator

    Returns
    -------
    ChosenItems

    Raises
    ------
    InputError
        Layers are unknown or the same, `n` is below 4 or not below the number of candidates, conditions cannot be
        balanced, or RDMs have missing pairs or do not vary.

    Notes
    -----
    Let a participant's RDM be y = s A + e over the P pairs of the n chosen items, with the signal s, the true RDM A and
    noise e of standard deviation t in every pair. Let w = z(A) - z(B) be the difference of the standardized RDMs, and r
    their correlation. The difference corr(y, A) - corr(y, B) is to first order in s proportional to y . w, whose mean
    is s sd(A) P (1 - r). Its variance depends on the covariance of e. Noise of squared distances correlates by 1 / 4 if
    two pairs share an item, and not otherwise (Diedrichsen et al. 2016), so that the variance is t^2 P (1 - r + g) with

        g = (sum over items i of (sum over j of w_ij)^2) / (4 P).

    Hence Cohen's d over participants is (s sqrt(P) / t) sd(A) (1 - r) / sqrt(1 - r + g), and the number of participants
    that a test needs is proportional to 1 / d^2. The same holds with sd(B) where B is the truth. As the truth is
    unknown, the criterion is

        d = min(sd(A), sd(B)) (1 - r) / sqrt(1 - r + g),

    with standard deviations in units of those over all candidates. If the noise of all pairs were independent, g would
    be 1 - r, and d = sd(A) sqrt((1 - r) / 2). The least correlated RDMs are a bad criterion: they have a small spread
    that noise covers, and differ most by items that are far from all others in one layer (a large g).

    The search adds the best item one by one (greedy), then exchanges a chosen item for another one (of the same
    condition where choices are balanced) as long as d grows.

    The formula leaves out that noise grows with the signal, that participants differ, and that measures use ranks:
    `power_analysis(..., items=found.items)` simulates all of these.

    References
    ----------
    Diedrichsen, Provost and Zareamoghaddam 2016, https://arxiv.org/abs/1607.01371 (covariance of distances)

    Examples
    --------
    >>> from brainmap.rsa import compute_rdms, stack_rdms
    >>> rng = np.random.default_rng(0)
    >>> items = {"stimulus_id": [f"s{k:02d}" for k in range(24)], "condition": list("abcdef") * 4}
    >>> layers = stack_rdms([compute_rdms(rng.normal(size=(24, 9)), descriptors={**items, "layer": name})
    ...                      for name in ("conv2", "conv4")])
    >>> found = choose_items(layers, a="conv4", b="conv2", n=12, rng=rng)
    >>> sorted(found.conditions) == sorted("abcdef" * 2)
    True
    """
    models = convert_models(rdms)
    names = list_rdm_names(models)
    which = [names.index(check_choice(name, names, "layer")) for name in (a, b)]
    if a == b:
        raise InputError(f"choose_items: expected two different layers to tell apart, got {a!r} twice; name another")
    check_choice(balance, get_args(Balance), "balance")
    _check_counts(n, models.n_cond, n_starts, n_random)
    labels, conditions = list_labels(models), [str(c) for c in models.pattern_descriptors.get("condition", ())]
    groups = share_items(n, conditions, models.n_cond, balance)
    terms = build_terms(np.asarray(models.dissimilarities, dtype=np.float64)[which], models.n_cond, (a, b))
    by_d = [search_items(terms, groups, compute_d, own) for own in rng.spawn(n_starts)]
    random = [draw_items(groups, own) for own in rng.spawn(n_random)]
    starts = np.array([float(compute_d(measure_items(terms, items))) for items in by_d])
    best = by_d[int(starts.argmax())]
    choices: dict[str, _Found] = {"by d": ([best], by_d), "random": (random, random)}
    alone = share_items(n, conditions, models.n_cond, "none")
    for name, own_groups in {"least correlated": groups, "least correlated, not balanced": alone}.items():
        if name == "least correlated" or balance != "none":
            unlike = [search_items(terms, own_groups, compute_unlikeness, own) for own in rng.spawn(n_starts)]
            choices[name] = ([min(unlike, key=lambda items: float(measure_items(terms, items).r))], unlike)
    return ChosenItems(
        items=tuple(labels[k] for k in best),
        conditions=tuple(conditions[k] for k in best) if conditions else (),
        a=a,
        b=b,
        balance=balance,
        n_candidates=models.n_cond,
        table=_tabulate_choices(terms, choices),
        starts=starts,
    )


def convert_models(models: RDMs | FeatureSet) -> RDMs:
    """Return RDMs of layers; those of a feature set are correlation distances of z-scored units."""
    from brainmap.rsa.rdm.compute import compute_rdms

    return compute_rdms(models, units="zscore") if isinstance(models, FeatureSet) else models


def locate_items(rdms: RDMs, items: Sequence[str]) -> NDArray[np.intp]:
    """Return the sorted positions of items in RDMs.

    Raises
    ------
    InputError
        An item is unknown or occurs twice.
    """
    labels, wanted = list_labels(rdms), [str(item) for item in items]
    refuse_some(
        sorted({item for item in wanted if wanted.count(item) > 1}),
        "items: expected each item once, got ",
        " more than once; remove the copies",
    )
    unknown = [item for item in wanted if item not in set(labels)]
    if unknown:
        raise InputError(
            f"items: expected items of the models ({list_some(labels)}), got {list_some(unknown)}"
            f"{suggest_word(unknown[0], labels)}; choose items and simulate studies with the same RDMs"
        )
    return np.array(sorted(labels.index(item) for item in wanted), dtype=np.intp)


def _check_counts(n: int, n_candidates: int, n_starts: int, n_random: int) -> None:
    check_ranges(
        "choose_items",
        (
            f"n from {LEAST} to {n_candidates - 1}, fewer than the {n_candidates} candidates (choose fewer items, or "
            "compute RDMs of more candidates)",
            n,
            LEAST <= n < n_candidates,
        ),
        ("n_starts of 1 or more", n_starts, n_starts >= 1),
        ("n_random of 1 or more", n_random, n_random >= 1),
    )


def _tabulate_choices(
    terms: Floats, choices: Mapping[str, tuple[Sequence[Indices], Sequence[Indices]]]
) -> pd.DataFrame:
    """Tabulate the mean moments of the items of each choice, and the range of d over all that were found."""
    rows = []
    for name, (kept, every) in choices.items():
        moments = [measure_items(terms, items) for items in kept]
        ds = [float(compute_d(measure_items(terms, items))) for items in every]
        mean = {key: float(np.mean([getattr(one, key) for one in moments])) for key in Moments._fields}
        d = float(np.mean([compute_d(one) for one in moments]))
        rows.append({"choice": name, "d": d, "low": min(ds), "high": max(ds), **mean})
    table = pd.DataFrame(rows)
    usual = float(table.loc[table["choice"] == "random", "d"].iloc[0])
    with np.errstate(divide="ignore"):
        table["participants"] = (usual / table["d"]) ** 2
    return table[list(CHOICE_COLUMNS)]
