"""Find the sounds that regions want (stage 4): those that they answered most, and one that they are predicted to want.

For each region that the explained network predicts above chance (p of the maximum null over all layers and regions),
the encoding model of its best layer is climbed; models of other networks, fitted to the other half of the data, judge
the sound. Beside it stand the real sounds with the highest responses, chosen on one half and measured in the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from brainmap.errors import InputError
from brainmap.progress import log
from brainmap.record import content_key
from brainmap.study.results.context import Context
from brainmap.study.stages.explain import (
    Explaining,
    choose_explained,
    digest_maximization,
)
from brainmap.study.stages.networks import Loaded, Version, build_features_path, list_inputs
from brainmap.tables import read_results_table

if TYPE_CHECKING:
    from brainmap.features.evaluation.regions import Encoder, RegionSounds
    from brainmap.study.stages.region_encoders import RegionData

VERSION = 1
STAGE = "explain_regions"
REAL = 3  # real sounds of each region
GATE = 0.05
_FIRST = {
    "region": "region",
    "layer": "layer of the explained network whose encoding model is climbed",
    "r": "encoding score of that layer, mean over participants",
    "p_corrected": "p of that score by the maximum null over all layers and regions",
}
_LAST = {
    "prior": "what held the sound to sounds: a decoder, or the spectrum of the sounds (audio)",
    "wav": "file of the sound",
}
REAL_COLUMNS = {
    "region": "region",
    "stimulus_id": "real sound; rows of a region in order of its response in one half of the data",
    "measured": "its response in the other half [SD over sounds]; n/a where the data cannot be halved",
    "judged": "mean prediction of the judges for it [SD of theirs]",
}


def plan_region_sounds(context: Context, loaded: dict[str, Loaded]) -> list[Explaining]:
    """Plan the sounds of regions, where the study has encoding models and the explained network predicts a region."""
    settings = context.study.settings.explain
    if settings is None or context.study.settings.encoding is None or not settings.maximization.regions:
        return []
    version = choose_explained(context)
    wanted = choose_regions(context, version)
    if not len(wanted) and STAGE not in context.ledger.stages():
        return []
    one = loaded[version.network.name]
    key = content_key(
        VERSION,
        version.name,
        context.ledger.read("group_encoding")["key"],
        sorted((name, other.digest) for name, other in loaded.items()),
        one.sounds.digest,
        settings.maximization.steps,
        settings.maximization.regions,
        digest_maximization(context),
        context.study.settings.study.seed,
    )
    return [Explaining(STAGE, key, lambda: _find_sounds(context, loaded, version, wanted))]


def choose_regions(context: Context, version: Version) -> pd.DataFrame:
    """Choose the regions that a network predicts above chance, each with its best layer: those with the highest r."""
    settings = context.study.settings.explained
    table = read_results_table(context.build_table_path("encoding"))
    mine = table[(table["network"] == version.name) & (table["p_corrected"] <= GATE)]
    best = mine.sort_values("mean", ascending=False, kind="stable").drop_duplicates("roi")
    return best.head(settings.maximization.regions).reset_index(drop=True)


def _find_sounds(context: Context, loaded: dict[str, Loaded], version: Version, wanted: pd.DataFrame) -> Iterator[Path]:
    from brainmap.features.attention.encoders import COLUMNS
    from brainmap.features.evaluation.regions import REGION_COLUMNS
    from brainmap.study.stages.region_encoders import RegionSearch

    search, one = RegionSearch.prepare(context, loaded, version), loaded[version.network.name]
    data = search.data
    rows = [row for row in wanted.to_dict("records") if row["roi"] in data.regions]
    judges = search.judge([str(row["roi"]) for row in rows])
    tables: dict[str, list[pd.DataFrame]] = {"regions": [], "region-sounds": [], "region-maps": []}
    for row in rows:
        roi = str(row["roi"])
        if not judges[roi]:
            continue
        log.info("finding a sound that %s is predicted to want", roi)
        try:
            encoder, found = search.climb(row, judges[roi])
        except InputError as error:
            log.warning("note: no sound is made for %s: %s", roi, error)
            continue
        (wav,) = found.am.save_wav(build_features_path(context, version.name, "regions"), name="predicted")
        yield wav
        about = {"layer": row["layer"], "r": row["mean"], "p_corrected": row["p_corrected"], "prior": found.am.prior}
        tables["regions"].append(found.table.assign(**about, wav=wav.name))
        shown = choose_real_sounds(data, one, found, roi)
        tables["region-sounds"].append(shown)
        tables["region-maps"] += _map_sounds(encoder, one, shown, context.device)
    about = context.build_provenance(
        {
            "maximization": context.study.settings.explain.model_dump()["maximization"],  # type: ignore[union-attr]
            "climbed on": sorted(data.climbed.names),
            "judged on": sorted(data.judging.names),
        },
        list_inputs(context, version),
    )
    described = {"regions": _FIRST | REGION_COLUMNS | _LAST, "region-sounds": REAL_COLUMNS, "region-maps": COLUMNS}
    for name, parts in tables.items():
        if parts:
            table, columns = pd.concat(parts, ignore_index=True), described[name]
            path = build_features_path(context, version.name, f"{name}.tsv")
            yield from context.save_table(table[list(columns)], path, columns=columns, about=about)


def choose_real_sounds(data: RegionData, one: Loaded, found: RegionSounds, roi: str) -> pd.DataFrame:
    """Choose the sounds with the highest response of a region in one half of the data, as `REAL_COLUMNS` describes.

    Where items are conditions, each is represented by the sound for which the judges predict most.
    """
    at = data.regions.index(roi)
    order = np.argsort(-data.climbed.mean[:, at], kind="stable")[:REAL]
    other = data.judging.mean[:, at]
    judged = found.judged_real[:, 0]
    rows = [int(data.rows[k][judged[data.rows[k]].argmax()]) for k in order]
    measured = other[order] / max(float(other.std()), 1e-12) if data.divided else np.full(len(order), np.nan)
    return pd.DataFrame(
        {
            "region": roi,
            "stimulus_id": [one.sounds.items[row] for row in rows],
            "measured": measured,
            "judged": judged[rows],
        }
    )


def _map_sounds(encoder: Encoder, one: Loaded, shown: pd.DataFrame, device: str) -> list[pd.DataFrame]:
    """Map where in the chosen sounds the climbed model reads; none where its layer has no course of time."""
    from brainmap.features.attention.encoders import map_encoder, tabulate_maps
    from brainmap.features.evaluation.regions import pick_regions

    (roi,) = encoder.scores
    try:
        maps = map_encoder(pick_regions(encoder, [roi]), one.sounds, device=device)
    except InputError as error:
        log.info("note: no map of %s over time: %s", roi, error)
        return []
    found = tabulate_maps(maps.take([maps.items.index(str(item)) for item in shown["stimulus_id"]]))
    return [found]
