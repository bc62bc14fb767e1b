"""Answer the question of a study for each region and network: the best layer, and what it must be ahead of.

The best layer is the one with the highest score on all sounds, as in every figure. Its score there is too high, because
it was chosen by it, so that the score of a network is that of choosing a layer on one half of the sounds, on the other
half; how often halves choose the best layer tells how sure it is. Whether the network is ahead of its controls, of the
acoustic models and of other networks is told by the tests of best layers, which choose the layers of both again
(`brainmap.rsa.inference.differences`), so that no layer is chosen and tested on the same data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from brainmap.rsa.inference.best_layers import BEST
from brainmap.rsa.inference.scores import correct_p
from brainmap.study.stages.group_maps import SIGNIFICANT
from brainmap.types import Correction

Tables = Mapping[str, pd.DataFrame | None]
ACOUSTIC = "acoustic"
"""The name of the acoustic models in the columns of comparisons."""


def tabulate_answers(
    tables: Tables,
    families: Mapping[str, Sequence[str]],
    others: Mapping[str, str] | None = None,
    *,
    seed_of: Mapping[str, str] | None = None,
) -> pd.DataFrame | None:
    """Build a table with a row for each region and network; None without tested scores.

    Parameters
    ----------
    tables : mapping of name to DataFrame
        The group's tables `statistics`, and where they exist `best_layers`, `differences` and `ceilings`.
    families : mapping of network to the names of its controls
    others : mapping of str to str, optional
        Names of the acoustic models and of the hypotheses in the tables, and what they are in columns.
    seed_of : mapping of str to str, optional
        The network of which a network is one of several seeds. It is compared in place of its seeds, and a seed is the
        best of no region.

    Returns
    -------
    DataFrame
        roi, network, layer (with the highest score on all sounds), layer_score (that score), score (of the layers that
        were chosen on other sounds than they are scored on, where held_out, and else `layer_score`), held_out, chosen
        (the layer that halves of the sounds choose most often) and chosen_share (how often), ceiling_lower,
        ceiling_upper, of_ceiling (score over the lower ceiling, where that is above 0), explains (some layer of the
        network is significant in the region), best (highest score of the networks that explain it), over_<what> and
        p_<what> (difference to the best layer of a control, of the acoustic models, of the hypotheses, and of the best
        network of the region, with its corrected p); for each of `others` model_<what>, score_<what>,
        explains_<what> (the best acoustic model or hypothesis on all sounds, its mean, and whether one is significant);
        seed_of, where there are seeds.
    """
    statistics = tables["statistics"]
    if statistics is None or not len(statistics):
        return None
    found, seed_of = _Found(tables), seed_of or {}
    rows = []
    for roi in dict.fromkeys(statistics["roi"].astype(str)):
        here = [one for network in families if (one := found.describe(network, roi)) is not None]
        whole = [one for one in here if one["network"] not in seed_of]
        able = [one for one in whole if one["explains"] and np.isfinite(one["score"])]
        best = max(able, key=lambda one: one["score"]) if able else None
        for one in here:
            one["best"] = one is best
            if seed_of:
                one["seed_of"] = seed_of.get(one["network"], "")
            for control in families[one["network"]]:
                one |= found.compare(one["network"], control, roi, control.removeprefix(f"{one['network']}-"))
            for name, what in (others or {}).items():
                one |= found.compare(one["network"], name, roi, what) | found.name_best(name, roi, what)
            if best is not None and one is not best:
                one |= found.compare(one["network"], best["network"], roi, "best")
        rows += here
    return pd.DataFrame(rows)


class _Found:
    """Look rows up in the group's tables."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        statistics = tables["statistics"]
        assert statistics is not None
        self.statistics = statistics
        layers = statistics.groupby("network")["layer"].nunique()
        self.single = {
            str(name): str(self._pick(statistics, network=name)["layer"].iloc[0]) for name in layers[layers == 1].index
        }

    @staticmethod
    def _pick(table: pd.DataFrame | None, **wanted: Any) -> pd.DataFrame:
        if table is None:
            return pd.DataFrame()
        mine = np.ones(len(table), dtype=bool)
        for column, value in wanted.items():
            mine &= (table[column].astype(str) == str(value)).to_numpy()
        return table[mine]

    def describe(self, network: str, roi: str) -> dict[str, Any] | None:
        """Describe the best layer of a network in a region; None where the network has no score there."""
        mine = self._pick(self.statistics, network=network, roi=roi)
        mine = mine[mine["mean"].notna()] if len(mine) else mine
        if not len(mine):
            return None
        chosen = self._pick(self.tables.get("best_layers"), network=network, roi=roi)
        top = mine.iloc[int(mine["mean"].to_numpy(dtype=float).argmax())]
        halves: dict[Any, Any] = chosen.iloc[0].to_dict() if len(chosen) else {}
        score = float(halves.get("score", top["mean"]))
        bounds = self._pick(self.tables.get("ceilings"), roi=roi)
        lower, upper = (float(bounds[side].iloc[0]) if len(bounds) else np.nan for side in ("lower", "upper"))
        return {
            "roi": roi,
            "network": network,
            "layer": str(top["layer"]),
            "layer_score": float(top["mean"]),
            "score": score,
            "held_out": bool(len(chosen)),
            "chosen": str(halves.get("layer", "")),
            "chosen_share": float(halves.get("chosen_share", np.nan)),
            "ceiling_lower": lower,
            "ceiling_upper": upper,
            "of_ceiling": score / lower if lower > 0 else np.nan,
            "explains": bool((mine["p_corrected"] <= SIGNIFICANT).any()) if "p_corrected" in mine else False,
        }

    def name_best(self, network: str, roi: str, what: str) -> dict[str, Any]:
        """Name the model that has the highest score in a region, as an acoustic model or a hypothesis."""
        one = self.describe(network, roi) or {"layer": "", "layer_score": np.nan, "explains": False}
        return {f"model_{what}": one["layer"], f"score_{what}": one["layer_score"], f"explains_{what}": one["explains"]}

    def compare(self, one: str, other: str, roi: str, what: str) -> dict[str, float]:
        """Return the difference between the best layers of two networks in a region, and its corrected p."""
        table = self.tables.get("differences")
        for sign, first, second in ((1.0, one, other), (-1.0, other, one)):
            for layer, than in ((BEST, BEST), (self.single.get(first), self.single.get(second))):
                if layer is None or than is None:
                    continue
                wanted = {"network": first, "layer": layer, "other_network": second, "other_layer": than, "roi": roi}
                row = self._pick(table, **wanted)
                if len(row):
                    p = float(row["p_corrected"].iloc[0])
                    return {f"over_{what}": sign * float(row["difference"].iloc[0]), f"p_{what}": p}
        return {f"over_{what}": np.nan, f"p_{what}": np.nan}


def is_ahead(row: Mapping[Any, Any], what: str) -> bool:
    """Tell whether the network of a row is significantly ahead of a control, the acoustic models or the best network.

    Examples
    --------
    >>> [is_ahead({"over_untrained": 0.1, "p_untrained": p}, "untrained") for p in (0.01, 0.2, float("nan"))]
    [True, False, False]
    """
    return bool(row[f"over_{what}"] > 0 and row[f"p_{what}"] <= SIGNIFICANT)


def list_rivals(
    table: pd.DataFrame | None, statistics: pd.DataFrame, network: str, correction: Correction = "fdr"
) -> dict[str, list[str]]:
    """List for each region where some layer is significant the best layer, then the layers not told apart from it.

    A layer is told apart where some other layer of the network is significantly ahead of it, corrected over all pairs
    of layers of the network in all regions, so that no layer is chosen as the best and tested on the same data. Without
    tests of pairs, a region has its best layer alone.

    Parameters
    ----------
    table : DataFrame, optional
        Tests of all pairs of layers: network, layer, other_network, other_layer, roi, difference, p.
    statistics : DataFrame
        network, layer, roi, mean, p_corrected.
    network : str
    correction : {"fdr", "bonferroni", "max-t", "none"}
        "max-t" becomes "bonferroni", which controls the same error rate.

    Examples
    --------
    >>> pair = {"network": "n", "layer": "a", "other_network": "n", "other_layer": "b", "roi": "A1", "difference": 0.1}
    >>> scores = pd.DataFrame({"network": "n", "layer": ["a", "b"], "roi": "A1", "mean": [0.3, 0.2]})
    >>> scores["p_corrected"] = 0.01
    >>> [list_rivals(pd.DataFrame([{**pair, "p": p}]), scores, "n") for p in (0.01, 0.6)]
    [{'A1': ['a']}, {'A1': ['a', 'b']}]
    """
    mine = statistics[statistics["network"] == network]
    behind: set[tuple[str, str]] = set()
    tested = False
    if table is not None and len(table):
        own = table[(table["network"] == network) & (table["other_network"] == network) & (table["layer"] != BEST)]
        tested = len(own) > 0
        told = own[correct_p(own["p"], "bonferroni" if correction == "max-t" else correction) <= SIGNIFICANT]
        loser = told["other_layer"].where(told["difference"] > 0, told["layer"])
        behind = set(zip(told["roi"].astype(str), loser.astype(str), strict=True))
    found = {}
    for roi, here in mine.groupby("roi", sort=False):
        if not (here["p_corrected"] <= SIGNIFICANT).any():
            continue
        ranked = here.sort_values("mean", ascending=False, kind="stable")["layer"].astype(str).tolist()
        others = [layer for layer in ranked[1:] if tested and (str(roi), layer) not in behind]
        found[str(roi)] = [ranked[0], *others]
    return found


KeyResult = tuple[str, str]
