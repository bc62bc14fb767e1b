"""Write the tables of encoding models of each participant, from pieces that may have been computed elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from brainmap.rsa.encoding.counts import COUNT_COLUMNS, warn_of_participants
from brainmap.rsa.encoding.encode import ENCODING_COLUMNS
from brainmap.study.results.context import Context, make_parent
from brainmap.study.results.pieces import clear_pieces
from brainmap.study.results.tables import read_results_table
from brainmap.study.stages.encoding import EncodedPerson, yield_encoded
from brainmap.study.stages.encoding_pieces import ModelPieces

_PARTICIPANT = {"participant": "label of the participant"}


def run_encoding(context: Context, only: Sequence[str] = ()) -> None:
    """Fit the encoding models of all participants, or of some, where the study asks for them."""
    for one in yield_encoded(context, only):
        work = ModelPieces(one)
        context.run_stage(one.stage, one.key, partial(_write_scores, one, work))
        clear_pieces(work.folder)
    if only:  # the stage of the group warns of all participants
        warn_of_participants(read_counts(list(yield_encoded(context, only))))


def read_counts(people: Sequence[EncodedPerson]) -> dict[str, pd.DataFrame]:
    """Read what has no score in each participant, by their labels."""
    return {one.label: read_results_table(_build_counts_path(one)) for one in people}


def _build_counts_path(one: EncodedPerson) -> Path:
    return one.one.context.build_subject_path(one.one.person, "counts.tsv", desc="encoding")


def _write_scores(one: EncodedPerson, work: ModelPieces) -> Iterator[Path]:
    context = one.context
    scores, counts, _ = work.join()
    asked = {"encoding": one.asked.model_dump(), "brain": one.one.person.brain.model_dump()}
    about = {
        "Items": len(one.responses.items),
        "Folds": one.folds.n_folds,
        "Groups": one.folds.by,
        "Alphas": one.settings.alphas.tolist(),
        **context.build_provenance(asked, one.one.inputs),
    }
    for table in (scores, counts):
        table.insert(0, "participant", one.label)
    columns = _PARTICIPANT | ENCODING_COLUMNS
    yield from context.save_table(scores, make_parent(one.path), columns=columns, about=about)
    path = _build_counts_path(one)
    yield from context.save_table(counts, path, columns=_PARTICIPANT | COUNT_COLUMNS, about=about)
