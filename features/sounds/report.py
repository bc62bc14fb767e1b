"""Describe sounds: their ids and conditions, and how they were changed on their way into a network.

Read the ids and conditions of sounds from their table.

Report how sounds were changed on their way into a network: cut, padded, skipped, silent or clipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from brainmap.checks import list_some


class LabeledSounds:
    """Give the items and conditions of a table with one row per sound (`stimulus_id`, `condition`)."""

    table: pd.DataFrame

    def __len__(self) -> int:
        return len(self.table)

    @property
    def items(self) -> list[str]:
        """List the stimulus ids."""
        return [str(s) for s in self.table["stimulus_id"]]

    @property
    def conditions(self) -> list[str]:
        """List the word or category of each sound."""
        return [str(c) for c in self.table["condition"]]

    @property
    def class_names(self) -> list[str]:
        """List the conditions in the order in which they first occur."""
        return list(dict.fromkeys(self.conditions))


_CANCELS = 0.1  # RMS of the mean of the channels relative to that of the channels: -20 dB
_OFFSET = 0.2  # mean of the samples relative to their RMS
SILENT = 1e-5  # RMS of full scale: -100 dB
_FULL = 0.99  # share of full scale from which equal samples in a row count as clipped
_IN_A_ROW = 3


@dataclass(frozen=True, kw_only=True)
class SoundReport:
    """List the sounds that were changed or have a problem.

    Attributes
    ----------
    n : int
        Number of sounds inspected.
    seconds : float [s]
        Length to which each sound was brought.
    skipped, others : tuple of str
        Audio files beside the sounds whose format is not read, and files beside them that are no audio.
    cut, padded : tuple of (str, float)
        Ids of sounds that were longer or shorter, and their original length [s].
    antiphase, offset, silent, clipped : tuple of str
        Ids of sounds whose channels cancel in their mean; whose mean is far from 0; that are silent in the part that is
        used; and that have several samples in a row at full scale.
    """

    n: int
    seconds: float
    skipped: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    cut: tuple[tuple[str, float], ...] = ()
    padded: tuple[tuple[str, float], ...] = ()
    antiphase: tuple[str, ...] = ()
    offset: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    clipped: tuple[str, ...] = ()

    @property
    def padding(self) -> float:
        """Return the share of the time of all sounds, as they are heard, that is padding; 0 to 1."""
        missing = sum(self.seconds - seconds for _, seconds in self.padded)
        return missing / (self.n * self.seconds) if self.padded else 0.0

    def lines(self) -> tuple[str, ...]:
        """Write one line for each problem, for a terminal or a page; without problems there are no lines.

        Examples
        --------
        >>> SoundReport(n=8, seconds=1.0, cut=(("yes", 600.0),), silent=("no",)).lines()[0]
        "sounds: 1 of 8 is longer than 1 s and cut to it (the longest lasts 600 s): 'yes'"
        """
        found = [
            self._describe_lengths("longer", "cut", self.cut),
            self._describe_lengths(
                "shorter", f"padded with zeros, {self.padding:.0%} of all that is heard", self.padded
            ),
        ]
        for left_out, what, why in (
            (self.others, "", "no audio and left out"),
            (self.skipped, "audio ", "skipped, because libsndfile does not read this kind; convert to WAV or FLAC"),
        ):
            if left_out:
                count = f"{len(left_out)} {what}{'file is' if len(left_out) == 1 else 'files are'}"
                found.insert(0, f"sounds: {count} {why}: {list_some(left_out, 4)}")
        for ids, what, way in (
            (self.silent, "silent", "look at the files"),
            (self.antiphase, "stereo with channels that cancel in their mean", "keep one channel"),
            (self.offset, "far from zero on average (a DC offset)", "remove the mean"),
            (self.clipped, "clipped at full scale", "record them again, or leave them out"),
        ):
            if ids:
                found.append(f"sounds: {self._count(ids)} {what}: {list_some(ids, 4)}; {way}")
        return tuple(line for line in found if line)

    def _count(self, ids: Sequence[object]) -> str:
        return f"{len(ids)} of {self.n} {'is' if len(ids) == 1 else 'are'}"

    def _describe_lengths(self, than: str, done: str, changed: Sequence[tuple[str, float]]) -> str:
        if not changed:
            return ""
        lengths = [seconds for _, seconds in changed]
        extreme, most = ("longest", max(lengths)) if than == "longer" else ("shortest", min(lengths))
        return (
            f"sounds: {self._count(changed)} {than} than {self.seconds:g} s and {done}"
            f"{' to it' if than == 'longer' else ''} (the {extreme} lasts {most:.4g} s): "
            f"{list_some([name for name, _ in changed], 4)}"
        )


def _is_clipped(channel: NDArray[np.float64]) -> bool:
    """Tell whether several samples in a row stand at full scale."""
    if len(channel) < _IN_A_ROW or np.abs(channel).max() < _FULL:
        return False
    rows = sliding_window_view(channel, _IN_A_ROW)
    full = (rows >= _FULL).all(axis=1) | (rows <= -_FULL).all(axis=1)
    return bool((np.ptp(rows[full], axis=1) < 1e-4).any())


class RecordingLook:
    """Inspect a recording block by block; its attributes are of the whole.

    Examples
    --------
    >>> look = RecordingLook()
    >>> for block in np.split(np.sin(np.arange(400) / 5)[:, None], 4):
    ...     look.add(np.hstack([block, -block]), np.zeros(100))
    >>> look.antiphase, look.silent, look.n_samples
    (True, False, 400)
    """

    def __init__(self) -> None:
        self.n_samples, self.peak, self.clipped = 0, 0.0, False
        self._sum = self._power = self._loud = self._together = 0.0
        self._n_frames, self._n_channels = 0, 1
        self._end = np.empty((0, 1))

    def add(self, channels: NDArray[np.floating], mono: NDArray[np.floating]) -> None:
        """Take the next block: `(n_samples, n_channels)` as it lies in the file, and the mean at the network's rate."""
        if len(channels):
            wave = np.asarray(channels, dtype=np.float64)
            self._n_frames += len(wave)
            self._n_channels = wave.shape[1]
            self._loud += float(np.square(wave).mean(axis=1).sum())
            self._together += float(np.square(wave.mean(axis=1)).sum())
            if not self.clipped:
                joined = wave if not len(self._end) else np.concatenate([self._end, wave])
                self.clipped = any(_is_clipped(channel) for channel in joined.T)
                self._end = wave[1 - _IN_A_ROW :]
        heard = np.asarray(mono, dtype=np.float64)
        self.n_samples += len(heard)
        self._sum += float(heard.sum())
        self._power += float(np.square(heard).sum())
        self.peak = max(self.peak, float(np.abs(heard).max(initial=0.0)))

    @property
    def rms(self) -> float:
        """Return the RMS of the mean of the channels."""
        return float(np.sqrt(self._power / max(self.n_samples, 1)))

    @property
    def antiphase(self) -> bool:
        """Tell whether the channels cancel in their mean."""
        loud, together = (np.sqrt(power / max(self._n_frames, 1)) for power in (self._loud, self._together))
        return bool(self._n_channels > 1 and loud > SILENT and together < _CANCELS * loud)

    @property
    def offset(self) -> bool:
        """Tell whether the mean is far from 0."""
        mean = abs(self._sum / max(self.n_samples, 1))
        return not self.antiphase and self.rms > SILENT and mean > _OFFSET * self.rms

    @property
    def silent(self) -> bool:
        """Tell whether all of it is silent."""
        return self.rms <= SILENT and not self.antiphase


def look_at(channels: NDArray[np.floating], kept: NDArray[np.floating]) -> RecordingLook:
    """Inspect a sound `(n_samples, n_channels)` as it lies in its file, and the part of it that the network receives.

    Examples
    --------
    >>> wave = np.sin(np.arange(400) / 5)[:, None]
    >>> look_at(np.hstack([wave, -wave]), np.zeros(400)).antiphase
    True
    """
    look = RecordingLook()
    look.add(channels, kept)
    return look


def count_problems(
    looks: Iterable[tuple[str, float, RecordingLook]],
    *,
    seconds: float,
    tolerance: float,
    skipped: Sequence[str] = (),
    others: Sequence[str] = (),
) -> SoundReport:
    """Count the problems of sounds `(id, length [s], look)`; lengths within `tolerance` [s] count as equal."""
    listed = list(looks)
    return SoundReport(
        n=len(listed),
        seconds=seconds,
        skipped=tuple(skipped),
        others=tuple(others),
        cut=tuple((name, length) for name, length, _ in listed if length > seconds + tolerance),
        padded=tuple((name, length) for name, length, _ in listed if length < seconds - tolerance),
        **{
            what: tuple(name for name, _, look in listed if getattr(look, what))
            for what in ("antiphase", "offset", "silent", "clipped")
        },
    )
