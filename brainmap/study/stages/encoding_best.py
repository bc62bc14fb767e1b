"""Choose the best layer of each region by encoding models, on halves of the sounds, and average over participants."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from brainmap.errors import InputError
from brainmap.rsa.encoding.best_layers import best_encoding_layers
from brainmap.rsa.encoding.encode import Encoding
from brainmap.study.results.context import Context
from brainmap.study.stages.inference import make_rng

log = logging.getLogger("brainmap")
BEST_COLUMNS = {
    "network": "network, or a control of it",
    "roi": "region of interest",
    "layer": "layer that is best in most participants; of equals, the earlier one",
    "participants_share": "share of participants in which it is the best",
    "r": "r of the layers that were chosen on one half of the sounds, on the other half: median over splits, mean over "
    "participants",
    "standard_error": "of that mean, over participants",
    "position": "place of the chosen layers, from 0 (first) to 1 (last), mean over splits and participants",
    "position_standard_error": "of that mean, over participants",
    "n": "participants with r above 0, whose positions are averaged",
    "splits": "splits into halves",
}


def choose_best_layers(
    context: Context, fits: Sequence[Encoding], networks: Sequence[str], *, splits: int
) -> pd.DataFrame | None:
    """Choose the best layers of networks within each participant, and average; None where sounds are too few to halve.

    Networks of one layer are left out.
    """
    counts = pd.Series([space.network for space in fits[0].spaces]).value_counts()
    wanted = [name for name in networks if counts.get(name, 0) > 1]
    if not wanted:
        return None
    found = []
    for fit in fits:
        mine = replace(fit, spaces=tuple(space for space in fit.spaces if space.network in wanted))
        try:
            best = best_encoding_layers(mine, splits=splits, rng=make_rng(context, "encoding halves"))
        except InputError as error:
            log.warning("group: best layers of encoding models are not chosen: %s", error)
            return None
        found.append(best.regions)
    return pd.DataFrame(
        [
            {"network": network, "roi": roi, **_average(rows, _list_layers(fits[0], str(network)))}
            for (network, roi), rows in pd.concat(found, ignore_index=True).groupby(["network", "roi"], sort=False)
        ]
    )


def _list_layers(fit: Encoding, network: str) -> list[str]:
    return [space.layer for space in fit.spaces if space.network == network]


def _average(rows: pd.DataFrame, layers: Sequence[str]) -> dict[str, object]:
    """Average the best layers of a network in a region over participants."""
    votes = [int((rows["layer"] == layer).sum()) for layer in layers]
    return {
        "layer": layers[int(np.argmax(votes))],
        "participants_share": max(votes) / len(rows),
        "r": rows["r"].mean(),
        "standard_error": rows["r"].sem(),
        "position": rows["position"].mean(),
        "position_standard_error": rows["position"].sem(),
        "n": int(rows["position"].notna().sum()),
        "splits": int(rows["splits"].iloc[0]),
    }
