"""Read the sounds of regions: those that they answered most, with maps over them, and predicted ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from brainmap.features.sounds.inputs import get_waveforms
from brainmap.places import resolve_inside
from brainmap.study.results.context import Context
from brainmap.study.settings.study import Network
from brainmap.study.stages.content.explanations import load_network_sounds
from brainmap.study.stages.networks import (
    Version,
    build_features_path,
)
from brainmap.tables import read_results_table
from brainmap.viz.page.listening import RealSound, RegionPanel


def read_region_panels(context: Context, version: Version) -> dict[str, Any]:
    """Read the sounds of regions as fields of the page's content; empty where the study asks for none or has none."""
    import soundfile

    settings, path = context.study.settings, build_features_path(context, version.name, "regions.tsv")
    asked = settings.encoding is not None and settings.explain is not None and settings.explain.maximization.regions
    if not asked or not path.exists():
        return {}
    table, real = (
        read_results_table(build_features_path(context, version.name, f"{what}.tsv"))
        for what in ("regions", "region-sounds")
    )
    drawn = build_features_path(context, version.name, "region-maps.tsv")
    maps = read_results_table(drawn) if drawn.exists() else None
    assert isinstance(version.network, Network)
    heard = get_waveforms(load_network_sounds(context, version.network))
    panels = []
    for row in table.to_dict("records"):
        wav = resolve_inside(build_features_path(context, version.name, "regions"), str(row["wav"]))
        wave, rate = soundfile.read(wav, dtype="float32")
        mine = real[real["region"] == row["region"]]
        panels.append(
            RegionPanel(
                roi=str(row["region"]),
                layer=str(row["layer"]),
                predicted=wave,
                rate=float(rate),
                wav=wav,
                values=row,
                real=[_read_real(one, heard, maps) for one in mine.to_dict("records")],
            )
        )
    return {"listening": panels, "listening_table": table}


def describe_listening(found: dict[str, Any]) -> dict[str, Any]:
    """Tell how many regions have a predicted sound, and whether its judges were fitted on other data."""
    panels = found.get("listening", ())
    other = all(panel.values["judged_on"] == "other data" for panel in panels)
    return {"predicted_regions": len(panels), "judged_on_other_data": other} if panels else {}


def _read_real(row: Mapping[Any, Any], sounds: Any, maps: pd.DataFrame | None) -> RealSound:
    item = str(row["stimulus_id"])
    wave = np.asarray(sounds.take([list(sounds.items).index(item)]).waveforms)[0, 0]
    course: dict[str, Any] = {}
    if maps is not None:
        mine = maps[(maps["region"] == row["region"]) & (maps["stimulus_id"] == item)]
        names = {"seconds": "time", "course": "map_less_mean", "energy": "energy_less_mean"}
        course = {key: mine[column].to_numpy(np.float64) for key, column in names.items()} if len(mine) else {}
    return RealSound(
        name=item,
        wave=wave,
        rate=float(sounds.rate),
        measured=float(row["measured"]),
        judged=float(row["judged"]),
        **course,
    )
