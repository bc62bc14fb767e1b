"""Write the tables of encoding models of each participant, from pieces that may have been computed elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from brainmap.rsa.encoding.counts import COUNT_COLUMNS, warn_of_counts
from brainmap.rsa.encoding.encode import ENCODING_COLUMNS
from brainmap.study.results.context import Context, make_parent
from brainmap.study.results.pieces import clear_pieces
from brainmap.study.stages.encoding import yield_encoded
from brainmap.study.stages.encoding_pieces import ModelPieces

_PARTICIPANT = {"participant": "label of the participant"}


def run_encoding(context: Context, only: Sequence[str] = ()) -> None:
    """Fit the encoding models of all participants, or of some, where the study asks for them."""
    for one in yield_encoded(context, only):
        work = ModelPieces(one)
        context.run_stage(one.stage, one.key, partial(_write_scores, work))
        clear_pieces(work.folder)


def _write_scores(work: ModelPieces) -> Iterator[Path]:
    one, context = work.one, work.one.one.context
    scores, counts = work.join()
    warn_of_counts(counts)
    asked = {"encoding": one.asked.model_dump(), "brain": one.one.person.brain.model_dump()}
    about = {
        "Items": len(one.aligned[1].items),
        "Folds": one.folds.n_folds,
        "Groups": one.folds.by,
        "Alphas": one.settings.alphas.tolist(),
        **context.build_provenance(asked, one.one.inputs),
    }
    for table in (scores, counts):
        table.insert(0, "participant", one.label)
    columns = _PARTICIPANT | ENCODING_COLUMNS
    yield from context.save_table(scores, make_parent(one.path), columns=columns, about=about)
    path = context.build_subject_path(one.one.person, "counts.tsv", desc="encoding")
    yield from context.save_table(counts, path, columns=_PARTICIPANT | COUNT_COLUMNS, about=about)
