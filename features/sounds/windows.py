"""Cut recordings of any length into windows with onsets, and stream them: memory does not grow with the length.

The level is set once for each recording, by one factor for all of its windows. A factor for each window would raise the
noise of a pause to the level of speech.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_ranges, list_some, refuse_some
from brainmap.features.sounds.files import PEAK_LEVEL, RMS_LEVEL, Sounds, hash_sounds
from brainmap.features.sounds.front_ends import FrontEnd
from brainmap.features.sounds.joining import join_batches, join_equal_lengths, pad_batches
from brainmap.features.sounds.reading import read_mono
from brainmap.features.sounds.report import SILENT, LabeledSounds, RecordingLook, SoundReport, count_problems
from brainmap.types import LastWindow, Loudness

WINDOW_COLUMNS = {
    "stimulus_id": "the sound and the onset of the window in it [s]",
    "condition": "condition of the sound",
    "sound": "the sound that the window lies in",
    "onset": "beginning of the window from the beginning of the sound [s]",
    "duration": "length of the sound within the window [s]",
}


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Hold the lengths by which recordings are cut.

    Attributes
    ----------
    rate : int [Hz]
    window, hop : float [s]
        Length of a window, and the time from one onset to the next; onsets are rounded to samples one by one.
    last : {"drop", "pad"}
        "drop" keeps only windows that lie within the sound; "pad" keeps every window that begins within it, filled with
        zeros behind its end.
    """

    rate: int
    window: float
    hop: float
    last: LastWindow = "drop"

    def __post_init__(self) -> None:
        check_choice(self.last, get_args(LastWindow), "last")
        check_ranges("window", ("1 sample to 600 s", self.window, 1 / self.rate <= self.window <= 600))
        check_ranges("hop", ("1 sample to 600 s", self.hop, 1 / self.rate <= self.hop <= 600))

    @property
    def n_samples(self) -> int:
        """Return the length of a window [samples]."""
        return round(self.window * self.rate)

    def start(self, k: int) -> int:
        """Return the onset of window k [samples]."""
        return round(k * self.hop * self.rate)


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Describe a recording after one pass over it.

    Attributes
    ----------
    row : int
        Its row in the table of sounds.
    n_samples : int [samples]
        Length at the network's rate.
    gain : float
        Factor that brings it to its level.
    starts : tuple of int [samples]
        Onsets of its windows.
    silent : tuple of int
        Windows that are silent.
    digest : str
        SHA-256 of its samples at the network's rate.
    look : RecordingLook
    """

    row: int
    n_samples: int
    gain: float
    starts: tuple[int, ...]
    silent: tuple[int, ...]
    digest: str = field(repr=False)
    look: RecordingLook = field(repr=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Windows(LabeledSounds):
    """Hold windows of recordings as labelled sounds; samples are decoded when they are needed, in order.

    Attributes
    ----------
    table : DataFrame
        One row per window, as `WINDOW_COLUMNS` describes: `stimulus_id` (`story@12.5`), `condition`, `sound`, `onset`
        and `duration` [s].
    rate : int [Hz]
    n_samples : int [samples]
        Length of every window.
    """

    table: pd.DataFrame
    rate: int
    n_samples: int
    _cut: Cut = field(repr=False)
    _sounds: Sounds = field(repr=False)
    _recordings: Sequence[Recording] = field(repr=False)
    _places: NDArray[np.intp] = field(repr=False)  # recording and first sample of each window

    @property
    def level(self) -> Loudness:
        """Return the level to which each recording is brought."""
        return self._sounds.level

    @cached_property
    def waveforms(self) -> NDArray[np.float32]:
        """Read all windows at once, float32 `(n, 1, n_samples)`."""
        return join_batches(list(self.iterate_waveforms(256)), rate=self.rate)

    @cached_property
    def padded(self) -> NDArray[np.float32]:
        """Read all windows at once for pictures `(n, 1, n_samples)`: zeros follow the end of shorter ones."""
        return pad_batches(self.iterate_waveforms(256))

    @property
    def front_end(self) -> FrontEnd:
        """Return what the network takes of each window."""
        return self._sounds.front_end

    def batches(self, size: int) -> Iterator[NDArray[np.float32]]:
        """Yield the windows in order as the network takes them, `size` at a time, without keeping them in memory."""
        for waves in self.iterate_waveforms(size):
            yield self.front_end.compute(waves, rate=self.rate)

    def iterate_waveforms(self, size: int) -> Iterator[NDArray[np.float32]]:
        """Yield the waveforms `(size, 1, n_samples)` in order, without keeping them in memory."""
        return join_equal_lengths(self._iterate_windows(), size)

    def take(self, rows: Sequence[int] | NDArray[np.intp] | NDArray[np.bool_]) -> Windows:
        """Select some of the windows, in the order asked for, or those where a mask `(n,)` is true."""
        index = np.asarray(rows)
        if index.dtype != np.bool_:
            index = index.astype(np.intp)
        return replace(self, table=self.table.iloc[index].reset_index(drop=True), _places=self._places[index])

    @cached_property
    def digest(self) -> str:
        """Compute the SHA-256 of ids, rate, level, samples and front end."""
        said = f"{self._cut} {self.level} {self.items} {self._places.tolist()}"
        return hash_sounds(said, self.front_end, (recording.digest.encode() for recording in self._recordings))

    @cached_property
    def report(self) -> WindowReport:
        """Report how the recordings were cut and which windows and recordings have a problem."""
        return _make_report(self._cut, self._sounds, self._recordings)

    def _iterate_windows(self) -> Iterator[NDArray[np.float32]]:
        """Yield the windows `(n_samples,)` in order; a recording is decoded again only where its onsets go back."""
        row = 0
        while row < len(self):
            number = self._places[row, 0]
            end = row + 1
            while (
                end < len(self) and self._places[end, 0] == number and self._places[end, 1] >= self._places[end - 1, 1]
            ):
                end += 1
            recording = self._recordings[number]
            blocks = (mono for _, mono in _iterate_blocks(self._sounds, recording.row))
            for piece in _cut_pieces(blocks, self._places[row:end, 1].tolist(), self.n_samples):
                yield np.pad(piece * np.float32(recording.gain), (0, self.n_samples - len(piece)))
            row = end


@dataclass(frozen=True, kw_only=True)
class WindowReport:
    """Describe how recordings were cut into windows.

    Attributes
    ----------
    cut : Cut
    lengths : mapping of str to float [s]
        Length of each recording.
    n : int
        Number of windows.
    unheard, padded : tuple of (str, float)
        Recordings whose end lies in no window, and those whose last windows are padded, with the time [s] that is left
        out or padded.
    silent : tuple of str
        Ids of silent windows.
    recordings : SoundReport
        Problems of whole recordings.
    """

    cut: Cut
    lengths: dict[str, float]
    n: int
    unheard: tuple[tuple[str, float], ...]
    padded: tuple[tuple[str, float], ...]
    silent: tuple[str, ...]
    recordings: SoundReport

    def lines(self) -> tuple[str, ...]:
        """Write one line for each fact, for a terminal or a page."""
        window, hop, n = self.cut.window, self.cut.hop, len(self.lengths)
        shortest, longest = min(self.lengths.values()), max(self.lengths.values())
        whose = f"1 recording of {shortest:.6g} s gives" if n == 1 else f"{n} recordings of {shortest:.6g} to "
        whose += "" if n == 1 else f"{longest:.6g} s give"
        found = [
            f"sounds: {whose} {self.n} windows of {window:g} s, one every {hop:g} s; the level is set once for each "
            "recording"
        ]
        if hop > window:
            found.append(
                f"sounds: windows of {window:g} s every {hop:g} s leave out the {hop - window:.4g} s between them"
            )
        for ends, what in ((self.unheard, "lies in no whole window and is left out"), (self.padded, "is padded")):
            if ends:
                named = list_some([f"{name} ({seconds:.4g} s)" for name, seconds in ends], 4)
                found.append(
                    f"sounds: the end of {len(ends)} of {n} recording{'s'[: n > 1]} {what}: {named}"
                    + ("; last = 'pad' keeps it, padded with zeros" if ends is self.unheard else " with zeros")
                )
        if self.silent:
            found.append(f"sounds: {len(self.silent)} of {self.n} windows are silent: {list_some(self.silent, 4)}")
        return (*found, *self.recordings.lines())


def cut_windows(
    sounds: Sounds, *, window: float | None = None, hop: float | None = None, last: LastWindow = "drop"
) -> Windows:
    """Cut sounds of any length into windows of one length.

    Every recording is read once, in blocks, to find its length, its level and its problems.

    Parameters
    ----------
    sounds : Sounds
        As `load_sounds` describes them; the length to which they would be cut or padded plays no role.
    window : float, optional [s]
        Length of a window, by default that of `sounds`.
    hop : float, optional [s]
        Time from one onset to the next, by default the length of a window.
    last : {"drop", "pad"}
        "drop" keeps only windows that lie within the sound; "pad" keeps every window that begins within it, filled with
        zeros behind its end.

    Returns
    -------
    Windows
        Item `story@12.5` begins 12.5 s after the beginning of `story`.

    Raises
    ------
    InputError
        A window or hop that is shorter than a sample or not finite; a sound shorter than a window, which has none
        unless it is padded; a file that cannot be read.

    Examples
    --------
    >>> from brainmap.features.sounds.files import sounds_from_array
    >>> tone = sounds_from_array(np.ones((1, 1, 25)), rate=10, items=["tone"])
    >>> cut_windows(tone, window=1.0, hop=0.5).items
    ['tone@0', 'tone@0.5', 'tone@1', 'tone@1.5']
    >>> cut_windows(tone, window=1.0, last="pad").table["duration"].tolist()
    [1.0, 1.0, 0.5]
    """
    length = sounds.n_samples / sounds.rate if window is None else window
    cut = Cut(rate=sounds.rate, window=length, hop=length if hop is None else hop, last=last)
    recordings = [_survey_recording(sounds, row, cut) for row in range(len(sounds))]
    ids, names = sounds.items, sounds.conditions
    short = [f"{ids[one.row]} ({one.n_samples / cut.rate:.4g} s)" for one in recordings if not one.starts]
    refuse_some(
        short,
        f"window: expected at most the length of every sound, got {cut.window:g} s for ",
        "; give a shorter window, or last = 'pad' to fill it with zeros",
        most=4,
    )
    rows = [
        {
            "stimulus_id": f"{ids[one.row]}@{_format_onset(k * cut.hop)}",
            "condition": names[one.row],
            "sound": ids[one.row],
            "onset": start / cut.rate,
            "duration": min(cut.n_samples, one.n_samples - start) / cut.rate,
        }
        for one in recordings
        for k, start in enumerate(one.starts)
    ]
    places = [(number, start) for number, one in enumerate(recordings) for start in one.starts]
    return Windows(
        table=pd.DataFrame(rows),
        rate=cut.rate,
        n_samples=cut.n_samples,
        _cut=cut,
        _sounds=sounds,
        _recordings=recordings,
        _places=np.array(places, dtype=np.intp),
    )


def _format_onset(onset: float) -> str:
    """Write an onset as short as it is exact to the microsecond."""
    return f"{onset:.6f}".rstrip("0").rstrip(".")


def _iterate_blocks(sounds: Sounds, row: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Yield the channels `(n_samples, n_channels)` of a sound and their mean at the network's rate, block by block."""
    if sounds.in_memory is not None:
        yield sounds.in_memory[row].T, sounds.in_memory[row, 0]
    else:
        yield from read_mono(Path(sounds.table["path"].iloc[row]), rate=sounds.rate)


def _cut_pieces(
    blocks: Iterator[NDArray[np.float32]], starts: Iterable[int], n_samples: int
) -> Iterator[NDArray[np.float32]]:
    """Yield the samples from each start on, at most `n_samples`, until a start lies behind the end; starts ascend."""
    held, first = np.empty(0, np.float32), 0
    for start in starts:
        while first + len(held) < start + n_samples:
            block = next(blocks, None)
            if block is None:
                break
            gone = min(start - first, len(held))
            held, first = np.concatenate([held[gone:], block]), first + gone
        if start >= first + len(held):
            return
        yield held[start - first : start - first + n_samples]


def _survey_recording(sounds: Sounds, row: int, cut: Cut) -> Recording:
    """Read a recording once: its length, level and digest, the onsets of its windows, and its problems."""
    look, sha = RecordingLook(), hashlib.sha256()

    def read_blocks() -> Iterator[NDArray[np.float32]]:
        for channels, mono in _iterate_blocks(sounds, row):
            look.add(channels, mono)
            sha.update(np.ascontiguousarray(mono).tobytes())
            yield mono

    blocks = read_blocks()
    starts, silent = [], []
    onsets = (cut.start(k) for k in count())
    for k, piece in enumerate(_cut_pieces(blocks, onsets, cut.n_samples)):
        if len(piece) < cut.n_samples and cut.last == "drop":
            break
        starts.append(cut.start(k))
        if np.sqrt(np.mean(np.square(piece, dtype=np.float64))) <= SILENT:
            silent.append(k)
    for _ in blocks:  # what lies behind the last window
        pass
    size = {"rms": look.rms, "peak": look.peak, "none": 0.0}[sounds.level]
    goal = RMS_LEVEL if sounds.level == "rms" else PEAK_LEVEL
    return Recording(
        row=row,
        n_samples=look.n_samples,
        gain=goal / size if size > 0 else 1.0,
        starts=tuple(starts),
        silent=tuple(silent),
        digest=sha.hexdigest(),
        look=look,
    )


def _make_report(cut: Cut, sounds: Sounds, recordings: Sequence[Recording]) -> WindowReport:
    ids = sounds.items
    unheard: list[tuple[str, float]] = []
    padded: list[tuple[str, float]] = []
    for one in recordings:
        end = one.starts[-1] + cut.n_samples
        if end != one.n_samples:
            (padded if end > one.n_samples else unheard).append((ids[one.row], abs(end - one.n_samples) / cut.rate))
    looks = [(ids[one.row], cut.window, one.look) for one in recordings]
    return WindowReport(
        cut=cut,
        lengths={ids[one.row]: one.n_samples / cut.rate for one in recordings},
        n=sum(len(one.starts) for one in recordings),
        unheard=tuple(unheard),
        padded=tuple(padded),
        silent=tuple(f"{ids[one.row]}@{_format_onset(k * cut.hop)}" for one in recordings for k in one.silent),
        recordings=count_problems(
            looks, seconds=cut.window, tolerance=1 / cut.rate, skipped=sounds.skipped, others=sounds.others
        ),
    )
