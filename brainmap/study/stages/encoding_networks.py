"""Compare networks by encoding models: layers with controls and baselines, networks with networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from brainmap.rsa.encoding.group import NETWORK_TEST_COLUMNS, GroupNull
from brainmap.rsa.inference.differences import score_differences
from brainmap.study.results.context import Context
from brainmap.study.stages.inference import make_rng
from brainmap.types import Floats

PARTICIPANTS = {
    "p_these_sounds": "p over participants, uncorrected: of these sounds only, which are taken as fixed",
    "p_these_sounds_corrected": "the same, corrected over all rows of the table",
    "smallest_p_these_sounds": "smallest p that so many participants can reach",
}
_TESTS = ("p", "p_corrected", "p_unrelated", "p_equal", "n", "permutations", "smallest_p")
LAYER_COLUMNS = {
    "network": "network",
    "layer": "layer",
    "other_network": "a control of the network, or the acoustic baselines",
    "other_layer": "the same layer of the control, or an acoustic model",
    "roi": "region of interest",
    "difference": "mean r of the layer less that of the other, over participants",
    "standard_error": "of that difference, over participants",
    **{key: NETWORK_TEST_COLUMNS[key] for key in _TESTS},
    **PARTICIPANTS,
}
NETWORK_COLUMNS = {
    **{key: text for key, text in NETWORK_TEST_COLUMNS.items() if key not in _TESTS},
    "standard_error": "of that difference, over participants",
    **{key: NETWORK_TEST_COLUMNS[key] for key in _TESTS},
    **PARTICIPANTS,
}


def list_pairs(context: Context, rows: Sequence[tuple[str, str]]) -> list[tuple[int, int]]:
    """List the layers of networks that are compared: with the same layer of controls, and with acoustic models."""
    settings, places = context.study.settings, {row: k for k, row in enumerate(rows)}
    baselines = None if settings.baselines is None else settings.baselines.name
    acoustic = [k for (network, _), k in places.items() if network == baselines]
    controls = {network.name: network.controls for network in settings.network}
    controls |= {n.seed_of: n.controls for n in settings.network if n.seed_of}
    found: list[tuple[int, int]] = []
    for (network, layer), k in places.items():
        if network in controls:
            own = (places.get((f"{network}-{control}", layer)) for control in controls[network])
            found += [(k, other) for other in (*own, *acoustic) if other is not None]
    return found


def compare_layers(
    context: Context, null: GroupNull, r: Floats, pairs: Sequence[tuple[int, int]]
) -> tuple[pd.DataFrame, str]:
    """Test layers against their controls and the acoustic models, by permutations; beside it, over participants."""
    table = null.test_layer_pairs(pairs)
    return _add_participants(context, table, r, pairs, null.regions, "encoding differences")


def compare_networks(context: Context, null: GroupNull, pairs: Sequence[tuple[str, str]]) -> tuple[pd.DataFrame, str]:
    """Test networks against each other by their best layers, by permutations; beside it, over participants."""
    places = [(null.networks.index(one), null.networks.index(other)) for one, other in pairs]
    table = null.test_networks(pairs)
    return _add_participants(context, table, null.own, places, null.regions, "encoding networks")


def _add_participants(
    context: Context,
    table: pd.DataFrame,
    scores: Floats,
    pairs: Sequence[tuple[int, int]],
    regions: Sequence[str],
    seed: str,
) -> tuple[pd.DataFrame, str]:
    """Add the test over participants of the same pairs of scores `(n_models, n_regions, n_participants)`."""
    inference, test = context.study.settings.rsa.inference, str(table.attrs["note"])
    table = table.assign(standard_error=np.nan, **dict.fromkeys(PARTICIPANTS, np.nan))
    if scores.shape[-1] < 2:
        return table, test
    beside = score_differences(
        scores,
        test=inference.test,
        correction=inference.correction,
        labels={"model": [str(k) for k in range(len(scores))], "roi": list(regions)},
        pairs=pairs,
        rng=make_rng(context, seed),
    )
    table["standard_error"] = beside["standard_error"].to_numpy()
    for column, name in zip(PARTICIPANTS, ("p", "p_corrected", "smallest_p"), strict=True):
        table[column] = beside[name].to_numpy()
    return table, f"{test}; beside it, {beside.attrs['note']}"
