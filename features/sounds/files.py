"""Load sounds: any audio file becomes mono float32 at the network's rate, length and level."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import (
    MISSING,
    check_choice,
    check_file,
    check_literals,
    check_one_each,
    check_ranges,
    list_some,
    refuse_some,
    suggest_word,
)
from brainmap.errors import InputError
from brainmap.features.sounds.containers import NOT_READ, READ, is_sound
from brainmap.features.sounds.front_ends import WAVEFORM, FrontEnd
from brainmap.features.sounds.joining import join_batches, join_equal_lengths, pad_batches
from brainmap.features.sounds.reading import check_sound, read_channels, read_sound
from brainmap.features.sounds.report import LabeledSounds, RecordingLook, SoundReport, count_problems, look_at
from brainmap.names import sound_names
from brainmap.tables import check_columns
from brainmap.types import Align, AnyPart, Loudness

RMS_LEVEL = 0.05  # of full scale (-26 dB): speech keeps its peaks below 1
PEAK_LEVEL = 0.5  # of full scale (-6 dB)
TABLES = (".tsv", ".txt", ".csv")
LISTS = {"validation": "validation_list.txt", "testing": "testing_list.txt"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Sounds(LabeledSounds):
    """Hold sounds in the form that a network takes; the files are read when the samples are needed.

    Attributes
    ----------
    table : DataFrame
        One row per sound: `stimulus_id` (unique), `condition`, `path` (absolute); further columns are kept.
    rate : int [Hz]
    n_samples : int [samples]
        Length of every sound after padding with zeros or trimming.
    level : {"rms", "peak", "none"}
        "rms" scales each sound to an RMS of 0.05 of full scale, "peak" to a largest sample of 0.5. The level is set
        after trimming, so that only what the network receives counts, and before padding, so that added silence does
        not count.
    align : {"start", "center"}
        Position of a sound that is shorter than `n_samples`.
    skipped, others : tuple of str
        Audio files in the class folders whose format is not read, and files there that are no audio.
    front_end : FrontEnd
        What the network takes of each sound; by default the waveform.
    own_lengths : bool
        True: sounds shorter than `n_samples` are not padded, and a batch holds sounds of one length only.
    """

    table: pd.DataFrame
    rate: int
    n_samples: int
    level: Loudness = "rms"
    align: Align = "start"
    skipped: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    front_end: FrontEnd = WAVEFORM
    own_lengths: bool = False
    _given: NDArray[np.float32] | None = field(default=None, repr=False)

    @property
    def in_memory(self) -> NDArray[np.float32] | None:
        """Return the waveforms `(n, 1, n_samples)` of sounds that were given as an array; None for files."""
        return self._given

    @cached_property
    def waveforms(self) -> NDArray[np.float32]:
        """Read all sounds at once, float32 `(n, 1, n_samples)`.

        Raises
        ------
        InputError
            Sounds that keep their own lengths have several.
        """
        if self._given is not None:
            return self._given
        parts = list(self.iterate_waveforms(256))
        return join_batches(parts, rate=self.rate) if parts else np.empty((0, 1, self.n_samples), np.float32)

    @cached_property
    def padded(self) -> NDArray[np.float32]:
        """Read all sounds at once for pictures `(n, 1, n_samples)`: zeros follow those that keep their own lengths."""
        return pad_batches(self.iterate_waveforms(256)) if self.own_lengths else self.waveforms

    def batches(self, size: int) -> Iterator[NDArray[np.float32]]:
        """Yield the sounds in order as the network takes them, `size` at a time, without keeping them in memory."""
        for waves in self.iterate_waveforms(size):
            yield self.front_end.compute(waves, rate=self.rate)

    def iterate_waveforms(self, size: int) -> Iterator[NDArray[np.float32]]:
        """Yield the waveforms `(size, 1, n_samples)` in order, without keeping them in memory."""
        known = self._given if self._given is not None else self.__dict__.get("waveforms")
        if known is None and self.own_lengths:
            yield from join_equal_lengths((self._prepare_sound(Path(p)) for p in self.table["path"]), size)
            return
        for start in range(0, len(self), size):
            if known is not None:
                yield known[start : start + size]
            else:
                paths = self.table["path"].iloc[start : start + size]
                yield np.stack([self._prepare_sound(Path(p)) for p in paths])[:, None]

    def without_padding(self) -> Sounds:
        """Return the sounds with their own lengths, for a network that takes no padding."""
        return self if self.own_lengths or self._given is not None else replace(self, own_lengths=True)

    def take(self, rows: Sequence[int] | NDArray[np.intp] | NDArray[np.bool_]) -> Sounds:
        """Select some of the sounds, in the order asked for, or those where a mask `(n,)` is true."""
        known = self._given if self._given is not None else self.__dict__.get("waveforms")
        index = np.asarray(rows)
        if index.dtype != np.bool_:
            index = index.astype(np.intp)
        return replace(
            self, table=self.table.iloc[index].reset_index(drop=True), _given=None if known is None else known[index]
        )

    def fed(self, *, rate: int | None = None, n_samples: int | None = None, level: Loudness | None = None) -> Sounds:
        """Return the same files as a network of another rate, length or level takes them."""
        return replace(
            self, rate=rate or self.rate, n_samples=n_samples or self.n_samples, level=level or self.level, _given=None
        )

    @cached_property
    def digest(self) -> str:
        """Compute the SHA-256 of ids, rate, samples and front end, on which every result from these sounds depends."""
        samples = (batch.tobytes() for batch in self.iterate_waveforms(64))
        return hash_sounds(f"{self.rate} {self.n_samples} {self.items}", self.front_end, samples)

    @cached_property
    def report(self) -> SoundReport:
        """Report which sounds are cut, padded, silent and so on, after reading every file."""

        def looks() -> Iterator[tuple[str, float, RecordingLook]]:
            for row, item in enumerate(self.items):
                if self._given is not None:
                    yield item, self.n_samples / self.rate, look_at(self._given[row].T, self._given[row, 0])
                    continue
                channels, rate = read_channels(Path(self.table["path"].iloc[row]))
                wanted = max(1, round(self.n_samples * rate / self.rate))
                kept = trim_sound(channels.mean(axis=1), wanted, align=self.align)
                yield item, len(channels) / rate, look_at(channels, kept)

        found = count_problems(
            looks(),
            seconds=self.n_samples / self.rate,
            tolerance=1 / self.rate,
            skipped=self.skipped,
            others=self.others,
        )
        return replace(found, padded=()) if self.own_lengths else found

    def _prepare_sound(self, path: Path) -> NDArray[np.float32]:
        kept = trim_sound(read_sound(path, rate=self.rate), self.n_samples, align=self.align)
        leveled = set_level(kept, self.level)
        return leveled if self.own_lengths else fit_length(leveled, self.n_samples, align=self.align)


def hash_sounds(said: str, front_end: FrontEnd, contents: Iterable[bytes]) -> str:
    """Compute the SHA-256 of what is said of sounds, of what the network takes of them, and of their contents."""
    sha = hashlib.sha256(said.encode())
    if not front_end.is_waveform:
        sha.update(front_end.key().encode())
    for content in contents:
        sha.update(content)
    return sha.hexdigest()


def load_sounds(
    source: str | Path | Sequence[str | Path] | pd.DataFrame,
    *,
    rate: int = 16_000,
    seconds: float | None = 1.0,
    level: Loudness = "rms",
    align: Align = "start",
    part: AnyPart = "all",
    front_end: FrontEnd = WAVEFORM,
    own_lengths: bool = False,
) -> Sounds:
    """Find sounds and describe how to read them.

    Parameters
    ----------
    source : path, list of paths or DataFrame
        A table (`stimuli.tsv` or a DataFrame: `stimulus_id`, `condition`, `path` relative to the table), a folder with
        one folder per class (as in Speech Commands), or audio files.
    rate : int [Hz]
    seconds : float [s], optional
        Sounds are padded with zeros or trimmed to this length; None means the length of the longest one.
    level : {"rms", "peak", "none"}
    align : {"start", "center"}
    part : {"all", "training", "validation", "testing"}
        Part of a class-folder data set, as its `validation_list.txt` and `testing_list.txt` define it.
    front_end : FrontEnd
        What the network takes of each sound (`brainmap.features.sounds.front_ends`); by default the waveform.
    own_lengths : bool
        True for networks that take no padding: shorter sounds keep their own lengths.

    Returns
    -------
    Sounds
        Files are opened to check their headers; samples are read when they are used.

    Raises
    ------
    InputError
        There are no sounds; a file is missing, unreadable or cut short; a table lacks a column or has empty cells; an
        id occurs twice; a rate or length is not valid.
    """
    check_literals((level, Loudness, "level"), (align, Align, "align"))
    check_ranges(
        "sounds",
        ("a rate from 1,000 to 192,000 Hz (the zoo was trained at 16,000 Hz)", rate, 1_000 <= rate <= 192_000),
        (
            "seconds of at least one sample and at most 600 s",
            seconds,
            seconds is None or 1 / max(rate, 1) <= seconds <= 600,
        ),
    )
    table = _find_table(source, part)
    lengths = [check_sound(Path(path)) for path in table["path"]]
    skipped, others = _list_unread_files(source)
    return Sounds(
        table=table,
        rate=rate,
        n_samples=_find_common_length(lengths, rate, seconds, own_lengths),
        level=level,
        align=align,
        front_end=front_end,
        own_lengths=own_lengths,
        skipped=skipped,
        others=others,
    )


def _find_common_length(lengths: Sequence[tuple[int, int]], rate: int, seconds: float | None, own_lengths: bool) -> int:
    """Find the length of sounds [samples] at a rate, given the rate and frames of each file.

    Without `seconds` it is that of the longest sound; a sound that keeps its own length is never longer than that.
    """
    longest = max(-(-n_frames * rate // own) for own, n_frames in lengths)
    if seconds is None:
        if longest > 600 * rate:
            raise InputError(
                f"sounds: expected at most 600 s, got {longest / rate:.4g} s; give the seconds to keep, or cut the file"
            )
        return longest
    return min(longest, round(seconds * rate)) if own_lengths else round(seconds * rate)


def sounds_from_array(
    waveforms: NDArray[np.floating],
    *,
    rate: int,
    items: Sequence[str] | None = None,
    conditions: Sequence[str] | None = None,
) -> Sounds:
    """Wrap waveforms `(n, 1, n_samples)` that are ready for the network; level and length are not changed."""
    data = np.ascontiguousarray(waveforms, dtype=np.float32)
    if data.ndim != 3 or data.shape[1] != 1 or 0 in data.shape:
        raise InputError(f"sounds: expected an array (n, 1, n_samples), got {data.shape}")
    if not np.isfinite(data).all():
        raise InputError("sounds: the array holds NaN or infinite samples")
    names = [f"sound{i:04d}" for i in range(len(data))] if items is None else list(items)
    named = {"stimulus_id": names, "condition": names if conditions is None else list(conditions)}
    for column, values in named.items():
        check_one_each(values, len(data), f"sounds: {column}", "sounds")
    _check_cells(pd.DataFrame(named), "the array")
    table = pd.DataFrame(named | {"path": ""})
    return Sounds(table=table, rate=rate, n_samples=data.shape[2], level="none", _given=data)


def set_level(sound: NDArray[np.float32], level: Loudness) -> NDArray[np.float32]:
    """Scale a sound `(n_samples,)` to the level; silence stays silence."""
    if level == "none":
        return sound
    size = float(np.sqrt(np.mean(sound**2))) if level == "rms" else float(np.abs(sound).max())
    goal = RMS_LEVEL if level == "rms" else PEAK_LEVEL
    return sound * np.float32(goal / size) if size > 0 else sound


def fit_length(sound: NDArray[np.float32], n_samples: int, *, align: Align = "start") -> NDArray[np.float32]:
    """Pad a sound with zeros or trim it to `n_samples`; "center" pads and trims both ends alike.

    Examples
    --------
    >>> fit_length(np.ones(2, np.float32), 5, align="center")
    array([0., 1., 1., 0., 0.], dtype=float32)
    """
    sound = trim_sound(sound, n_samples, align=align)
    spare = n_samples - len(sound)
    before = spare // 2 if align == "center" else 0
    return np.pad(sound, (before, spare - before))


def trim_sound(sound: NDArray[np.float32], n_samples: int, *, align: Align = "start") -> NDArray[np.float32]:
    """Return the first `n_samples` of a longer sound, or with "center" those in its middle."""
    spare = n_samples - len(sound)
    before = spare // 2 if align == "center" else 0
    return sound if spare >= 0 else sound[-before if before else 0 :][:n_samples]


def _find_table(source: str | Path | Sequence[str | Path] | pd.DataFrame, part: str) -> pd.DataFrame:
    if isinstance(source, pd.DataFrame):
        return _check_table(source, Path(), "the table", typed=True)
    if not isinstance(source, str | Path):
        return _list_files([Path(p) for p in source])
    path = Path(source)
    if path.is_dir():
        return _read_folder(path, part)
    check_file(path, "sounds")
    if path.suffix.lower() not in TABLES or is_sound(path):
        try:
            check_sound(path)
        except InputError as error:
            raise InputError(f"{error}; a table of sounds ends in {', '.join(TABLES)}") from None
        return _list_files([path])
    separator = "," if path.suffix.lower() == ".csv" else "\t"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a row with more cells than the header
            table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, index_col=False)
            check_columns(path, "sounds", separator)
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"sounds: {path} cannot be read as a table: {str(error).strip().splitlines()[0]}") from None
    return _check_table(table, path.parent, str(path), typed=True)


def _check_table(table: pd.DataFrame, folder: Path, name: str, *, typed: bool = False) -> pd.DataFrame:
    for column in ("stimulus_id", "condition", "path"):
        if column not in table:
            hint = suggest_word(column, [str(c) for c in table.columns])
            if table.shape[1] == 1 and any(mark in str(table.columns[0]) for mark in ",;"):
                hint = "; it has commas or semicolons between columns: write tabs, or name it .csv (commas)"
            raise InputError(
                f"sounds: {name}: expected a column {column!r}, got {list_some(map(str, table.columns))}{hint}"
            )
    if table.empty:
        raise InputError(f"sounds: {name} has no rows")
    _check_cells(table, name, typed=typed)
    found = table.reset_index(drop=True)
    found["path"] = [str((folder / str(p)).absolute()) for p in found["path"]]
    return found


def _check_cells(table: pd.DataFrame, name: str, *, typed: bool = False) -> None:
    """Refuse empty cells and repeated ids; a name like `NaN` counts as empty only in a table typed by hand."""
    for column in ("stimulus_id", "condition", "path"):
        if column not in table:
            continue
        cells = table[column]
        empty = np.flatnonzero(cells.isna() | cells.astype(str).str.strip().isin(MISSING if typed else {"", "n/a"}))
        if len(empty):
            raise InputError(f"sounds: {name} has an empty {column} in row {list_some((empty + 1).tolist())}")
    ids = table["stimulus_id"].astype(str)
    if ids.duplicated().any():
        raise InputError(
            f"sounds: {name} has stimulus_id {list_some(ids[ids.duplicated()].unique())} more than once; ids must be "
            "unique"
        )


def _list_files(paths: list[Path]) -> pd.DataFrame:
    if not paths:
        raise InputError("sounds: the list of files is empty")
    names = [p.stem for p in paths]
    if len(set(names)) < len(names):  # one name in several folders: ids as for class folders
        called = sound_names([str(p.absolute()) for p in paths])
        names = [called[str(p.absolute())] for p in paths]
    return _check_table(
        pd.DataFrame({"stimulus_id": names, "condition": names, "path": [str(p) for p in paths]}),
        Path(),
        "the list of files",
    )


def _read_folder(folder: Path, part: str) -> pd.DataFrame:
    check_choice(part, ("all", "training", "validation", "testing"), "part")
    if part == "all" and (folder / "stimuli.tsv").is_file():
        return _find_table(folder / "stimuli.tsv", part)
    files = [path for path, kind in _walk_class_folders(folder) if kind == "sound"]
    if not files:
        raise InputError(
            f"sounds: expected {folder}/<class>/<sound>.wav (or .flac, .mp3, .ogg, ...) or a stimuli.tsv, got a folder "
            "without class folders that hold sounds"
        )
    names = [p.relative_to(folder).as_posix() for p in files]
    table = pd.DataFrame(
        {
            "stimulus_id": [Path(n).with_suffix("").as_posix() for n in names],
            "condition": [p.parent.name for p in files],
            "path": [str(p) for p in files],
        }
    )
    if part == "all":
        return _check_table(table, Path(), str(folder))
    listed = read_lists(folder)
    if not listed:
        raise InputError(f"sounds: {folder} has no {' or '.join(LISTS.values())}; ask for part='all'")
    chosen = [listed.get(n, "training") == part for n in names]
    return _check_table(table[chosen].reset_index(drop=True), Path(), f"{folder} ({part})")


def _walk_class_folders(folder: Path) -> Iterator[tuple[Path, Literal["sound", "unread", "other"]]]:
    """Yield the files in the class folders of a data set, with their kind: by ending, otherwise by content."""
    for path in sorted(folder.glob("*/*")):
        if path.name.startswith(".") or path.parent.name.startswith(("_", ".")) or not path.is_file():
            continue
        ending = path.suffix.lower()
        if ending in READ or is_sound(path):
            yield path, "sound"
        else:
            yield path, "unread" if ending in NOT_READ else "other"


def _list_unread_files(source: object) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """List, as `<class>/<file>`, the unread sounds and the other files in the class folders of a data set."""
    if not isinstance(source, str | Path) or not Path(source).is_dir() or (Path(source) / "stimuli.tsv").is_file():
        return (), ()
    found = [(path.relative_to(source).as_posix(), kind) for path, kind in _walk_class_folders(Path(source))]
    return tuple(path for path, kind in found if kind == "unread"), tuple(
        path for path, kind in found if kind == "other"
    )


def read_lists(folder: Path) -> dict[str, str]:
    """Read which part each listed file of a data set belongs to; the result is empty where the data set has no lists.

    Raises
    ------
    InputError
        A file that is in both lists.
    """
    parts: dict[str, str] = {}
    for part, name in LISTS.items():
        path = folder / name
        if not path.is_file():
            continue
        listed = {line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()}
        both = sorted(listed & parts.keys())
        refuse_some(both, "sounds: ", f" in both {' and '.join(LISTS.values())} of {folder}", most=3)
        parts |= dict.fromkeys(listed, part)
    return parts
