"""Write the tables of encoding models of stories of each participant, from pieces that may be computed elsewhere.

Test encoding models of stories over the group: scores, best layers, controls, delays, and ceilings.

Compare RDMs of segments of stories with those of layers, from the features and responses of encoding models.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from brainmap.rsa.encoding.counts import COUNT_COLUMNS, warn_of_counts
from brainmap.rsa.encoding.encode import ENCODING_COLUMNS
from brainmap.rsa.encoding.noise import measure_explainable_variance
from brainmap.rsa.encoding.stories import count_delays
from brainmap.rsa.patterns.table import VOXEL_COLUMNS
from brainmap.study.results.context import Context, make_parent
from brainmap.study.results.pieces import clear_pieces
from brainmap.study.stages.encoding_pieces import (
    PARTICIPANT,
    ModelPieces,
)
from brainmap.study.stages.story_people import StoryPerson, yield_story_people
from brainmap.types import Floats

if TYPE_CHECKING:
    pass

_COLUMNS = {
    **PARTICIPANT,
    **ENCODING_COLUMNS,
    "explainable_variance": "share of the variance of one repetition that repeats, bias-corrected; n/a without repeats",
}
_COUNTS = PARTICIPANT | COUNT_COLUMNS
_VOXELS = PARTICIPANT | VOXEL_COLUMNS
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
    for one in yield_story_people(context, only):
        work = ModelPieces(one)
        context.run_stage(one.stage, one.key, partial(_write_scores, one, work))
        clear_pieces(work.folder)


def _write_scores(one: StoryPerson, work: ModelPieces) -> Iterator[Path]:
    context, data = one.context, one.data
    scores, counts, more = work.join()
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
        (scores, make_parent(one.path), _COLUMNS),
        (counts, context.build_subject_path(one.person, "counts.tsv", desc="stories"), _COUNTS),
        (data.counts, context.build_subject_path(one.person, "counts.tsv", desc="voxels"), _VOXELS),
        (_tabulate_delays(one, more["delays"]), one.delay_path, DELAY_COLUMNS),
    )
    for table, path, columns in tables:
        table = table.copy()
        table.insert(0, "participant", one.label)
        yield from context.save_table(table, path, columns=columns, about=about)


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


log = logging.getLogger("brainmap")
