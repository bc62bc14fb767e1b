"""Write the description of the results folder as a data set, and the table of the slugs in its file names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from brainmap import __version__
from brainmap.names import slug
from brainmap.record import content_key, write_json
from brainmap.rsa.rdm.files import read_rdm_descriptors
from brainmap.study.results.context import Context
from brainmap.study.settings.hypotheses import Hypotheses
from brainmap.study.stages.ceilings import CEILINGS
from brainmap.study.stages.group_maps import list_contrasts, name_difference
from brainmap.study.stages.networks import build_rdm_path, yield_versions

BIDS_VERSION = "1.10.0"

MAPS_COLUMNS = {
    "entity": "part of a file's name: desc or stat",
    "slug": "what stands there",
    "network": "network, where the slug names one",
    "control": "trained, untrained or permuted; baseline for acoustic models, hypothesis for hypotheses",
    "layer": "layer of the network, where the slug names one",
    "meaning": "what a file with this slug holds",
}
STATS = {
    "mean": "mean score over participants",
    "t": "t of the mean over participants",
    "pfwe": "p, corrected over voxels and layers of the network (family-wise, as the sidecar says)",
    "thresholded": "mean where that p is .05 or less",
    "tfce": "threshold-free cluster enhancement of t",
    "mass": "mass of the cluster of t that a voxel is in, 0 outside clusters",
    "bestlayer": "number of the layer with the highest mean where any is significant; its sidecar names the layers",
    "voxels": "voxels in the sphere around each voxel",
}


def run_description(context: Context) -> None:
    """Write `dataset_description.json` once for a study."""
    about = context.study.settings.study
    out, folder = context.study.out.resolve(), context.study.folder
    content: dict[str, Any] = {
        "Name": f"{about.name}: brainmap" + (" (simulated data)" if about.simulated else ""),
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "SourceDatasets": [{"URL": Path(os.path.relpath(folder, out)).as_posix()}],
        "Study": about.name,
        "StudyFile": Path(os.path.relpath(context.study.path, out)).as_posix(),
        "Simulated": about.simulated,
    }

    def write() -> Iterator[Path]:
        made = context.ledger.provenance(parameters={}, inputs={})["GeneratedBy"]
        yield write_json(context.study.out / "dataset_description.json", {**content, "GeneratedBy": [made]})

    context.run_stage("description", content_key(content, __version__), write)


def run_maps_table(context: Context) -> None:
    """Write `maps.tsv`, which explains each slug in the names of maps."""
    table = tabulate_maps(context)
    about = context.ledger.provenance(parameters={}, inputs={})
    path = context.study.out / "maps.tsv"
    key = content_key(MAPS_COLUMNS, table.to_csv())
    context.run_stage("maps", key, lambda: context.save_table(table, path, columns=MAPS_COLUMNS, about=about))


def tabulate_maps(context: Context) -> pd.DataFrame:
    """Build a table with one row per `desc-` and `stat-` in the names of maps."""
    rows = []
    for version in yield_versions(context):
        without = "hypothesis" if isinstance(version.network, Hypotheses) else "baseline"
        control = version.state or without
        layers = [str(layer) for layer in read_rdm_descriptors(build_rdm_path(context, version))["layer"]]
        for layer in layers:
            said = f"RDM of {layer} of {version.name}, compared with the brain's"
            rows.append(("desc", version.slug(layer), version.network.name, control, layer, said))
        for pair in list_contrasts(context, layers) if not version.control else []:
            one, other = pair
            said = f"score of {one} less that of {other}, of {version.name}"
            both = f"{one} - {other}"
            rows.append(("desc", name_difference(version, pair), version.network.name, control, both, said))
        if not version.control:
            rows.append(("desc", version.slug(""), version.network.name, control, "", f"all layers of {version.name}"))
    rows.append(("desc", "searchlight", "", "", "", "the searchlight itself, for all networks"))
    settings = context.study.settings.searchlight
    if settings is not None:
        rows.append(("stat", slug(settings.measure), "", "", "", f"score of a participant: {settings.measure}"))
    rows += [("stat", name, "", "", "", meaning) for name, meaning in {**STATS, **CEILINGS}.items()]
    return pd.DataFrame(rows, columns=list(MAPS_COLUMNS)).replace("", None)
