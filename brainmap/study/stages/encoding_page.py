"""Read what the page of a study shows of encoding models from the results on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from brainmap.study.results.context import Context
from brainmap.study.results.tables import read_results_table
from brainmap.study.stages.comparisons import add_seeds, list_seeds
from brainmap.study.stages.encoding import build_encoding_path
from brainmap.viz.page.content import EncodingContent

_TABLES = {
    "statistics": "encoding",
    "best_layers": "encoding_best_layers",
    "positions": "encoding_positions",
    "networks": "encoding_networks",
    "differences": "encoding_differences",
    "agreement": "encoding_agreement",
    "bands": "encoding_bands",
}
_ROW = ["network", "layer", "roi"]


def read_encoding_content(context: Context) -> EncodingContent | None:
    """Read the tables of encoding models; None where the study asks for none."""
    asked, paths = context.study.settings.encoding, {k: context.build_table_path(v) for k, v in _TABLES.items()}
    if asked is None or not paths["statistics"].exists():
        return None
    files = [build_encoding_path(context, person) for person in context.study.participants()]
    each = pd.concat([read_results_table(file) for file in files], ignore_index=True)
    statistics = read_results_table(paths["statistics"])
    mean = each.groupby([*_ROW, "participant"], sort=False, as_index=False)[["r"]].mean().rename(columns={"r": "score"})
    seeds = list_seeds(context.study.settings)
    mean = add_seeds(mean, seeds)
    mean = mean[mean["roi"].isin(statistics["roi"])]
    tables = {key: read_results_table(path) for key, path in paths.items() if path.exists()}
    notes = {key: read_test(path.with_suffix(".json")) for key, path in paths.items() if path.exists()}
    scores = add_seeds(read_results_table(context.build_table_path("scores")), seeds)
    differences = tables.get("differences")
    return EncodingContent(
        scores=select_best_baselines(context, mean),
        statistics=statistics,
        similarity=scores.groupby(_ROW, sort=False, as_index=False)[["score"]].mean(),
        best_layers=tables.get("best_layers"),
        positions=tables.get("positions"),
        networks=None if (networks := tables.get("networks")) is None else networks.sort_values("p", kind="stable"),
        differences=None if differences is None else differences.sort_values("p", kind="stable"),
        agreement=tables.get("agreement"),
        bands=tables.get("bands"),
        tested=notes["statistics"].split("; beside it")[0],
        notes={key: f"{said[0].upper()}{said[1:]}." for key, said in notes.items() if said},
        targets=asked.targets,
        groups=asked.groups,
        folds=asked.folds,
        measure=context.study.settings.rsa.score,
    )


def read_test(path: Path) -> str:
    """Read from a sidecar how a table was tested."""
    return str(json.loads(path.read_text(encoding="utf-8")).get("Test", ""))


def select_best_baselines(context: Context, scores: pd.DataFrame) -> pd.DataFrame:
    """Select the scores of all networks, and of baselines those that are best in a region, which layers must exceed."""
    baselines = context.study.settings.baselines
    is_baseline = scores["network"] == (baselines.name if baselines else None)
    found = scores[is_baseline]
    if not len(found):
        return scores
    mean = found.groupby(["roi", "layer"], sort=False)["score"].mean()
    best = {str(roi): layer for roi, layer in mean.groupby("roi", sort=False).idxmax()}
    shown = found[found["layer"] == found["roi"].map(best)].assign(network="best acoustic model")
    return pd.concat([scores[~is_baseline], shown])
