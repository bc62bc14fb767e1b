"""Find what predicts a region better than the best layer of a network: a control, a feature of speech, acoustics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from brainmap.study.stages.group_maps import SIGNIFICANT
from brainmap.study.stages.wording import join_names
from brainmap.viz.labels import format_decimals


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """Hold the best layer of a network in a region that it predicts significantly, and what has a higher mean r."""

    network: str
    roi: str
    layer: str
    mean: float
    better: Sequence[tuple[str, float]]


def find_better(
    statistics: pd.DataFrame, families: Mapping[str, Sequence[str]], sounds: Sequence[str]
) -> list[Predicted]:
    """Find for each network and region that it predicts what has a higher mean r than the best layer of the network.

    Regions where it was compared with nothing are left out.

    Parameters
    ----------
    statistics : DataFrame
        network, layer, roi, mean, p_corrected of networks, their controls, features of speech, and acoustic models.
    families : mapping of network to the names of its controls
    sounds : sequence of str
        Names in `statistics` of what are no networks, whose layers are features of speech or acoustic models.

    Examples
    --------
    >>> rows = [("a", "x", .5, .01), ("a-untrained", "x", .4, .01), ("speech", "sound-energy", .6, .01)]
    >>> table = pd.DataFrame(rows, columns=["network", "layer", "mean", "p_corrected"]).assign(roi="A1")
    >>> find_better(table, {"a": ["a-untrained"]}, ["speech"])[0].better
    [('sound-energy', 0.6)]
    """
    known = statistics[statistics["mean"].notna()]
    found = []
    for network, controls in families.items():
        names = {name: f"its {name.removeprefix(f'{network}-')} control" for name in controls}
        for roi, here in known.groupby("roi", sort=False):
            mine = here[here["network"] == network]
            others = here[here["network"].isin([*names, *sounds])]
            if not len(others) or not (mine["p_corrected"] <= SIGNIFICANT).any():
                continue
            best = mine.sort_values("mean", ascending=False, kind="stable").iloc[0]
            beside = others[others["mean"] > best["mean"]]
            named = beside["network"].map(names).fillna(beside["layer"])
            ranked = beside["mean"].groupby(named).max().sort_values(ascending=False, kind="stable")
            found.append(
                Predicted(
                    network=network,
                    roi=str(roi),
                    layer=str(best["layer"]),
                    mean=float(best["mean"]),
                    better=[(str(name), float(mean)) for name, mean in ranked.items()],
                )
            )
    return found


def describe_better(found: Sequence[Predicted]) -> Iterator[str]:
    """Say in a sentence for each region what predicts it better than the best layer of a network.

    Examples
    --------
    >>> one = Predicted(network="a", roi="A1", layer="x", mean=0.5, better=[("sound-energy", 0.6)])
    >>> list(describe_better([one]))
    ['In A1, the mean r of sound-energy (.60) is higher than that of the best layer of a (x, .50).']
    """
    for one in found:
        if one.better:
            names = join_names([f"{name} ({format_decimals(mean)})" for name, mean in one.better], 4)
            yield (
                f"In {one.roi}, the mean r of {names} is higher than that of the best layer of {one.network} "
                f"({one.layer}, {format_decimals(one.mean)})."
            )


def count_better(found: Sequence[Predicted]) -> Iterator[tuple[str, str]]:
    """Count for each network the regions where nothing predicts better than its best layer, and name the others.

    Examples
    --------
    >>> one = Predicted(network="a", roi="A1", layer="x", mean=0.5, better=[("sound-energy", 0.6)])
    >>> next(count_better([one]))[0]
    '0 of 1'
    """
    for network in dict.fromkeys(one.network for one in found):
        mine = [one for one in found if one.network == network]
        lost = [f"{one.roi} ({join_names([name for name, _ in one.better], 2)})" for one in mine if one.better]
        said = (
            f"of these regions where the best layer of {network} has a higher mean r than its controls and simple "
            "models of the sounds (no test)"
        )
        yield f"{len(mine) - len(lost)} of {len(mine)}", said + (f"; behind in {join_names(lost, 3)}" if lost else "")
