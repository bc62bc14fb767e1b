"""Split a study into N shares for a job array, and merge the computed regions and searchlight pieces."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias, TypeVar

from brainmap.checks import list_some
from brainmap.errors import InputError
from brainmap.progress import log
from brainmap.study.parallel.dask import compute_on_dask
from brainmap.study.results.context import Context
from brainmap.study.results.pieces import Piece, compute_here, compute_side_by_side, read_piece
from brainmap.study.stages.bands import BANDS, BandPieces, has_bands
from brainmap.study.stages.encoding import EncodedPerson, yield_encoded
from brainmap.study.stages.encoding_pieces import MODELS, ORDERS, Modeled, ModelPieces, OrderPieces, count_pieces
from brainmap.study.stages.group_encoding import is_group_encoded
from brainmap.study.stages.group_stories import are_group_stories_done
from brainmap.study.stages.participants import Person, build_chunk_folder, cut_spans, yield_people
from brainmap.study.stages.story_people import StoryPerson, yield_story_people

T = TypeVar("T")
EncodingWork: TypeAlias = ModelPieces | OrderPieces | BandPieces
_MOST = 12  # largest number of lines in a list that is shown


class Unit(NamedTuple):
    """Identify a unit of work: a participant's regions, or the piece that begins at `start` of what is counted."""

    participant: str
    start: int | None = None
    what: str = "spheres"

    def __str__(self) -> str:
        return f"sub-{self.participant} " + ("regions" if self.start is None else f"{self.what} from {self.start + 1}")

    @classmethod
    def of(cls, piece: Piece) -> Unit:
        """Return the unit of a piece."""
        return cls(piece.participant, piece.start, piece.what)


@dataclass(frozen=True)
class Share:
    """Identify the `place`-th (from 1) of `of` shares.

    Examples
    --------
    >>> share = Share.parse("2/3")
    >>> share.place, share.of, list(share.take(range(10)))
    (2, 3, [3, 4, 5])
    """

    place: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Share:
        """Read `i/N`.

        Raises
        ------
        InputError
            The text is anything else, or i is not within 1 .. N.
        """
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise InputError(f"--chunk: expected i/N with i from 1 to N, got {text!r}; write it as in 3/20")
        return cls(int(found[1]), int(found[2]))

    def take(self, things: Sequence[T]) -> Sequence[T]:
        """Select this share of a sequence; neighbors stay together, and the sizes of shares differ by one at most."""
        return things[(self.place - 1) * len(things) // self.of : self.place * len(things) // self.of]

    def __str__(self) -> str:
        return f"{self.place}/{self.of}"


def list_units(context: Context) -> list[Unit]:
    """List all units of work of the participants, in an order that is the same in every share."""
    settings, found = context.study.settings, []
    for person in context.study.participants():
        modeled: Modeled | None = None
        if settings.stories is not None:
            modeled = StoryPerson(context, person, settings.stories)
        else:
            found.append(Unit(person.label))
            modeled = None if settings.encoding is None else EncodedPerson(context, person, settings.encoding)
        if settings.searchlight is not None:
            found += [Unit(person.label, start) for start, _ in cut_spans(person)]
        for what, count in count_pieces(modeled).items() if modeled is not None else ():
            found += [Unit(person.label, k, what) for k in range(count)]
        if modeled is not None and modeled.asked.bands:
            found.append(Unit(person.label, 0, BANDS))
    return found


def compute_share(context: Context, units: Sequence[Unit], share: Share) -> None:
    """Compute some units of a study whose networks and betas exist; no other process computes these units."""
    work = []
    for one in _yield_mapped(context, [unit.participant for unit in units]):
        if Unit(one.person.label) in units:
            one.score_rois()
        if not one.mapped:
            pieces = [piece for piece in one.pieces if Unit.of(piece) in units]
            if context.backend == "dask":
                work.append((one, pieces))
            else:
                compute_here(pieces, lambda one=one: one.plan, threads=context.threads, share=str(share))  # type: ignore[misc]
    if work:
        compute_on_dask(context, work, share=str(share))
    _encode_share(context, units, share)
    log.info("chunk %s is done; when all are: brainmap merge %s", share, _shorten_path(context.study.path))


def _yield_mapped(context: Context, only: Sequence[str]) -> Iterator[Person]:
    """Yield participants whose regions and searchlights are computed; a study of stories has none."""
    if context.study.settings.stories is None:
        yield from yield_people(context, only)


def _encode_share(context: Context, units: Sequence[Unit], share: Share) -> None:
    """Compute the pieces of encoding models among some units."""
    mine = list(dict.fromkeys(unit.participant for unit in units if unit.what in (MODELS, ORDERS, BANDS)))
    for modeled in yield_modeled(context, mine) if mine else ():
        for work in _list_encoding_work(context, modeled):
            pieces = [piece for piece in work.pieces if Unit.of(piece) in units]
            if context.backend == "dask":
                compute_on_dask(context, [(work, pieces)], share=str(share))
            else:
                compute_side_by_side(pieces, work.prepare, threads=context.threads, share=str(share))


def yield_modeled(context: Context, only: Sequence[str]) -> Iterator[Modeled]:
    """Yield the participants whose encoding models are fitted, to stories or to sounds; of all, or of some."""
    stories = context.study.settings.stories is not None
    yield from yield_story_people(context, only) if stories else yield_encoded(context, only)


def _list_encoding_work(context: Context, one: Modeled) -> list[EncodingWork]:
    """List the work on the encoding models of a participant that is not done."""
    models: list[EncodingWork] = [] if one.done else [ModelPieces(one)]
    stories = context.study.settings.stories is not None
    over = are_group_stories_done(context) if stories else is_group_encoded(context)
    bands = [] if not one.asked.bands or (over and has_bands(context, one.kind)) else [BandPieces(one)]
    return [*models, *([] if over else [OrderPieces(one)]), *bands]


def refuse_incomplete(context: Context) -> None:
    """Refuse to merge incomplete results, or results of another study.

    Raises
    ------
    InputError
        Shares are missing, with the commands that compute them; or files have other inputs, by name.
    """
    units = list_units(context)
    settings = context.study.settings
    modeled: list[Modeled] = []
    people: dict[str, Person] = {}
    if settings.stories is not None:
        modeled += yield_story_people(context)
    else:
        people |= {one.person.label: one for one in yield_people(context, missing="left out")}
        modeled += [
            EncodedPerson(context, one.person, settings.encoding) for one in people.values() if settings.encoding
        ]
    foreign, missing, shares = _find_units(context, units, people, modeled)
    if foreign:
        again = {unit: _write_command(context, shares, units, [unit])[0] for _, _, unit in foreign if unit is not None}
        raise InputError(
            "\n".join(
                f"merge: {_shorten_path(file)} {why}; remove it{f', and: {again[unit]}' if unit is not None else ''}"
                for file, why, unit in foreign[:_MOST]
            )
        )
    if missing:
        lines = _write_command(context, shares, units, missing)
        more = [f"  and {len(lines) - _MOST} more commands"] if len(lines) > _MOST else []
        raise InputError(
            "\n".join(
                [
                    f"merge: {len(missing)} of {len(units)} chunks are missing ({list_some(map(str, missing), 3)}); "
                    "make them and merge again:".replace("'", ""),
                    *(f"  {line}" for line in lines[:_MOST]),
                    *more,
                ]
            )
        )


def _find_units(
    context: Context, units: Sequence[Unit], people: Mapping[str, Person], modeled: Sequence[Modeled]
) -> tuple[list[tuple[Path, str, Unit | None]], list[Unit], Counter[int]]:
    """Find files of other studies, missing units, and the numbers of shares in which the others were computed."""
    pieces = {piece.file: piece for one in people.values() if not one.mapped for piece in one.pieces}
    done = {Unit(p.person.label, start) for p in people.values() if p.mapped for start, _ in cut_spans(p.person)}
    done |= {Unit(label) for label, one in people.items() if one.scored}
    foreign: list[tuple[Path, str, Unit | None]] = []
    shares: Counter[int] = Counter()
    mapped = {one.folder for one in people.values() if one.mapped}  # pieces left in these folders are removed
    for person in modeled:
        todo = _list_encoding_work(context, person)
        pieces |= {piece.file: piece for work in todo for piece in work.pieces}
        every: list[EncodingWork] = [ModelPieces(person), OrderPieces(person)]
        every += [BandPieces(person)] if person.asked.bands else []
        over = [work for work in every if work not in todo]
        mapped |= {work.folder for work in over}
        done |= {Unit.of(piece) for work in over for piece in work.pieces}
    for file in sorted(build_chunk_folder(context).rglob("*.npz")):
        piece, held = pieces.get(file), read_piece(file)
        if file.name.startswith(".") or file.parent in mapped:
            continue
        if piece is None:
            foreign.append((file, "does not belong to this study", None))
        elif held is not None and held.key != piece.key:
            unit = Unit.of(piece)
            foreign.append((file, "belongs to another study, or to this one before its inputs changed", unit))
        elif held is not None:
            done.add(Unit.of(piece))
            shares.update([int(held.share.split("/")[1])] if held.share else [])
    return foreign, [unit for unit in units if unit not in done], shares


def _write_command(context: Context, shares: Counter[int], units: Sequence[Unit], wanted: Sequence[Unit]) -> list[str]:
    """Write the commands that compute some units, in the numbers of shares of the others."""
    of = shares.most_common(1)[0][0] if shares else 1
    every = [Share(place, of) for place in range(1, of + 1)]
    return [
        f"brainmap run {_shorten_path(context.study.path)} --chunk {one}"
        for one in every
        if set(one.take(units)) & set(wanted)
    ]


def _shorten_path(path: Path) -> str:
    return Path(os.path.relpath(path)).as_posix()
