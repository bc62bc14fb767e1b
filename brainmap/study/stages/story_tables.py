"""Write the tables of encoding models of stories of each participant, from pieces that may be computed elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from brainmap.rsa.encoding.counts import COUNT_COLUMNS, warn_of_counts
from brainmap.rsa.encoding.encode import ENCODING_COLUMNS
from brainmap.rsa.encoding.noise import measure_explainable_variance
from brainmap.rsa.encoding.stories import count_delays
from brainmap.rsa.patterns.table import VOXEL_COLUMNS
from brainmap.study.results.context import Context
from brainmap.study.stages.encoding_pieces import PARTICIPANT, ModelPieces, run_models
from brainmap.study.stages.story_people import StoryPerson, yield_story_people
from brainmap.types import Floats

_COLUMNS = {
    **PARTICIPANT,
    **ENCODING_COLUMNS,
    "explainable_variance": "share of the variance of one repetition that repeats, bias-corrected; n/a without repeats",
}
DELAY_COLUMNS = {
    **PARTICIPANT,
    "network": "network, or a control of it",
    "layer": "layer of the network",
    "roi": "region of interest",
    "delay": "time from a feature to the response [s]",
    "weight": "root mean square of the weights of this delay over units, as a share of the sum over delays; mean over "
    "the targets of the region",
}


def run_stories(context: Context, only: Sequence[str] = ()) -> None:
    """Fit the encoding models of all participants, or of some."""
    run_models(yield_story_people(context, only), _write_scores)


def _write_scores(one: StoryPerson) -> Iterator[Path]:
    context, data = one.context, one.data
    scores, counts, more = ModelPieces(one).join()
    warn_of_counts(counts)
    asked = {"stories": one.asked.model_dump(), "brain": one.person.brain.model_dump()}
    about = {
        "Scans": len(one.responses.items),
        "Stories": list(dict.fromkeys(one.responses.conditions)),
        "RepetitionTime": data.t_r,
        "SliceTimeReference": data.slice_time_ref,
        "Folds": one.folds.n_folds,
        "Alphas": one.settings.alphas.tolist(),
        **context.build_provenance(asked, one.inputs),
    }
    variance = measure_explainable_variance(one.responses.values)
    scores = scores.assign(explainable_variance=np.tile(variance, len(one.spaces)))
    tables = (
        (scores, "stories.tsv", "rois", _COLUMNS),
        (counts, "counts.tsv", "stories", PARTICIPANT | COUNT_COLUMNS),
        (data.counts, "counts.tsv", "voxels", PARTICIPANT | VOXEL_COLUMNS),
        (_tabulate_delays(one, more["delays"]), "stories.tsv", "delays", DELAY_COLUMNS),
    )
    for table, ending, desc, columns in tables:
        table = table.copy()
        table.insert(0, "participant", one.label)
        yield from context.save_person_table(table, one.person, ending, desc=desc, columns=columns, about=about)


def _tabulate_delays(one: StoryPerson, shares: Sequence[Floats]) -> pd.DataFrame:
    """Tabulate how much weight each delay has in the model of each layer and region, fitted to all stories.

    `shares` are `(n_targets, n_delays)` of each layer.
    """
    delays = count_delays(one.asked.delays, one.data.t_r)
    roi = one.responses.targets["roi"].to_numpy()
    rows = [
        (space.network, space.layer, name, delay * one.data.t_r, float(share[roi == name, k].mean()))
        for space, share in zip(one.spaces, shares, strict=True)
        for name in dict.fromkeys(roi)
        for k, delay in enumerate(delays)
    ]
    return pd.DataFrame(rows, columns=list(DELAY_COLUMNS)[1:])
