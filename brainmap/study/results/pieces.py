"""Split the work on a participant into pieces, which threads, clusters and job arrays share and a killed run keeps.

A piece is some of the spheres of a participant's searchlight, or some of the encoding models. Its arrays lie in their
own file, with the key of their inputs, until the results are written. The numbers do not depend on which process
computed a piece, or with how many others.
"""

from __future__ import annotations

import contextlib
import shutil
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import count_threads
from brainmap.errors import RunError
from brainmap.progress import log
from brainmap.record import atomic, content_key
from brainmap.rsa.searchlights.volume import SearchlightPlan


@dataclass(frozen=True)
class Piece:
    """Identify the spheres start .. stop - 1 of a participant's searchlight, as `cut_pieces` cuts it, or other work.

    Attributes
    ----------
    folder : Path
        Folder of the participant's pieces.
    key : str
        Key of everything that the scores depend on.
    what : str
        What is counted: spheres, encoding models, or permutations of them.
    """

    participant: str
    start: int
    stop: int
    folder: Path
    key: str
    what: str = "spheres"

    @property
    def job(self) -> str:
        """Return the part of the study to which the piece belongs, for messages."""
        return "searchlight" if self.what == "spheres" else "encoding"

    @property
    def file(self) -> Path:
        """Return the file of its scores, which is kept until all pieces exist."""
        return self.folder / f"{self.start:08d}-{self.stop:08d}.npz"

    @property
    def size(self) -> int:
        """Return the number of spheres."""
        return self.stop - self.start

    def __str__(self) -> str:
        return f"sub-{self.participant} {self.what} {self.start + 1}-{self.stop}"


class Ready(Protocol):
    """Compute pieces of work whose data are loaded."""

    def compute_arrays(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """Compute one piece."""


class Work(Protocol):
    """Describe the work on a participant that is split into pieces."""

    def prepare(self) -> Ready:
        """Load the data."""

    def to_send(self) -> Any:
        """Return a copy without loaded data, for another process."""


@dataclass(frozen=True, eq=False)
class Scored:
    """Hold the content of a piece's file.

    Attributes
    ----------
    arrays : dict of str to ndarray
        For spheres: `voxels` (n_spheres,), the voxel of the mask at the center of each; `scores` (n_models, n_spheres);
        and `counts` (n_spheres,), the number of voxels in each.
    key : str
    share : str
        Share of a job array that computed it, as `3/20`; empty elsewhere.
    """

    arrays: Mapping[str, NDArray[Any]]
    key: str = ""
    share: str = ""


def save_piece(piece: Piece, scored: Scored, *, share: str = "") -> Path:
    """Write a piece's scores atomically."""
    digest = content_key(replace(scored, key=piece.key, share=share))
    held: dict[str, Any] = {**scored.arrays, "key": np.array(piece.key), "share": np.array(share)}
    with atomic(piece.file) as beside:
        np.savez(beside, **held, digest=np.array(digest))
    return piece.file


def read_piece(file: Path) -> Scored | None:
    """Read a file of scores; return None where there is none, or it is damaged."""
    try:
        with file.open("rb") as raw, np.load(raw, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files if name not in ("key", "share", "digest")}
            scored = Scored(arrays, str(found["key"]), str(found["share"]))
            return scored if str(found["digest"]) == content_key(scored) else None
    except _FAILURES:
        return None


_FAILURES = (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, IndexError, RuntimeError, MemoryError,
             OverflowError, SyntaxError, struct.error, zlib.error, tokenize.TokenError, zipfile.BadZipFile)  # fmt: skip
"""What numpy raises on a damaged archive."""


def list_lacking(pieces: Sequence[Piece]) -> list[Piece]:
    """List the pieces without scores, or with scores of other inputs."""
    found = [(piece, read_piece(piece.file)) for piece in pieces]
    stale = [piece for piece, held in found if held is not None and held.key != piece.key]
    if stale:
        log.info(
            "%s: %d chunks were computed from other inputs (%s), and are computed again",
            stale[0].job,
            len(stale),
            stale[0].file,
        )
    return [piece for piece, held in found if held is None or held.key != piece.key]


def join_scores(pieces: Sequence[Piece]) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Join scores `(n_models, n_voxels)` and voxel counts of all pieces, in the order of the mask's voxels."""
    held = read_pieces(pieces)
    order = np.argsort(np.concatenate([one["voxels"] for one in held]))
    scores = np.concatenate([one["scores"] for one in held], axis=1)
    return scores[:, order], np.concatenate([one["counts"] for one in held])[order]


def read_pieces(pieces: Sequence[Piece]) -> list[Mapping[str, NDArray[Any]]]:
    """Read the arrays of all pieces.

    Raises
    ------
    RunError
        Some are not there any more.
    """
    held = [one.arrays for one in (read_piece(piece.file) for piece in pieces) if one is not None]
    if len(held) < len(pieces):
        raise RunError(
            f"{pieces[0].job}: {len(pieces) - len(held)} of {len(pieces)} pieces were taken away meanwhile, by "
            "another run of this study in the same folder; run it again when that is done"
        )
    return held


def clear_pieces(folder: Path) -> None:
    """Remove the pieces of a participant whose maps are written."""
    if folder.is_dir():
        shutil.rmtree(folder)
        with contextlib.suppress(OSError):  # the folder may hold other participants' pieces
            folder.parent.rmdir()


def compute_here(
    pieces: Sequence[Piece], plan: Callable[[], SearchlightPlan], *, threads: int | None, share: str = ""
) -> None:
    """Compute the missing pieces of one participant on threads of this process."""
    wanted = list_lacking(pieces)
    if not wanted:
        return
    ready, by_span = plan(), {(piece.start, piece.stop): piece for piece in wanted}
    done = sum(piece.size for piece in pieces) - sum(piece.size for piece in wanted)
    for (start, stop), scores, counts in ready.compute_pieces(list(by_span), threads=threads, done=done):
        arrays: dict[str, NDArray[Any]] = {"voxels": ready.order[start:stop], "scores": scores, "counts": counts}
        save_piece(by_span[start, stop], Scored(arrays), share=share)


def compute_side_by_side(
    pieces: Sequence[Piece], prepare: Callable[[], Ready], *, threads: int | None, share: str = ""
) -> None:
    """Compute the missing pieces of one participant on threads of this process, a piece a thread."""
    wanted = list_lacking(pieces)
    if not wanted:
        return
    ready = prepare()

    def compute(piece: Piece) -> None:
        save_piece(piece, Scored(ready.compute_arrays(piece.start, piece.stop)), share=share)

    count = min(count_threads(threads, "--jobs"), len(wanted))
    if count == 1:
        for piece in wanted:
            compute(piece)
        return
    with ThreadPoolExecutor(count) as pool:
        for _ in pool.map(compute, wanted):
            pass
