"""Describe what a network takes: waveforms, log-mel spectrograms, cochleagrams, or what a user's function gives.

A front end is written in one line, as `log-mel,mels=40,hop_ms=10,window_ms=25` on the command line, or as a table,
`input = { kind = "log-mel", mels = 40, hop_ms = 10 }`, in a study file. A user's own is `module:function`: the function
takes float32 waveforms `(n, 1, n_samples)` and the rate [Hz], and returns an array `(n, c, h, w)` or `(n, c, t)`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from brainmap.checks import check_choice, check_literals, check_ranges, list_some, suggest_word
from brainmap.errors import InputError
from brainmap.features.sounds.spectrogram import HOP, MELS, RATE, WINDOW, compute_mel_centers, cut_frames, log_mel
from brainmap.record import file_digest
from brainmap.references import find_function, first_line, is_reference
from brainmap.types import FrontEndKind, InputLayout, MelScaling

SETTINGS: dict[str, tuple[str, ...]] = {
    "waveform": (),
    "log-mel": ("mels", "hop_ms", "window_ms", "fft", "fmin", "fmax", "scaling", "frames", "layout"),
    "cochleagram": ("bands", "frames", "layout"),
}
"""The settings of each kind of front end."""
COCHLEAGRAM_HZ = 200  # frames per second
_WHOLE = ("mels", "bands", "fft", "frames")


@dataclass(frozen=True, kw_only=True)
class FrontEnd:
    """Describe how waveforms become the input of a network; the defaults of "log-mel" are those of `base-2d`.

    Attributes
    ----------
    kind : str
        "waveform", "log-mel", "cochleagram" or `module:function`.
    mels : int
        Number of mel bands, as `brainmap.features.sounds.spectrogram.log_mel` computes them.
    bands : int
        Number of filters of a cochleagram, evenly spaced in ERB numbers; its frames are 5 ms apart.
    hop_ms, window_ms : float [ms]
        Step between the frames of a log-mel spectrogram, and its window, both rounded to whole samples.
    fft : int, optional [samples]
        Length of the Fourier transform; by default the window.
    fmin, fmax : float [Hz]
        Edges of the lowest and the highest mel band; by default 0 and half the rate.
    scaling : {"log", "log10", "db", "power", "amplitude"}
    frames : int, optional
        Number of frames; by default n_samples // hop. A centered transform has one frame more, which `frames` can
        ask for.
    layout : {"bands-frames", "frames-bands", "bands-as-channels"}
        Axes of one item: `(1, bands, frames)`, `(1, frames, bands)` or, for 1-D networks, `(bands, frames)`.

    Examples
    --------
    >>> read_front_end("log-mel,mels=40,hop_ms=10,window_ms=25").shape(16_000, rate=16_000)
    (1, 40, 100)
    """

    kind: str = "waveform"
    mels: int = MELS
    bands: int = 30
    hop_ms: float = 1000 * HOP / RATE
    window_ms: float = 1000 * WINDOW / RATE
    fft: int | None = None
    fmin: float = 0.0
    fmax: float | None = None
    scaling: MelScaling = "log"
    frames: int | None = None
    layout: InputLayout = "bands-frames"

    def __post_init__(self) -> None:
        if not is_reference(self.kind):
            check_choice(self.kind, [*get_args(FrontEndKind), "module:function"], "input")
        check_literals((self.scaling, MelScaling, "input: scaling"), (self.layout, InputLayout, "input: layout"))
        whole = {name: getattr(self, name) for name in _WHOLE}
        check_ranges(
            "input",
            *((f"a whole number from 1 as {name}", repr(n), n is None or _is_count(n)) for name, n in whole.items()),
            ("hop_ms above 0 and below 10,000 ms", self.hop_ms, 0 < self.hop_ms < 10_000),
            ("window_ms above 0 and below 10,000 ms", self.window_ms, 0 < self.window_ms < 10_000),
        )

    @property
    def is_waveform(self) -> bool:
        """Tell whether the network takes waveforms as they are."""
        return self.kind == "waveform"

    @property
    def is_code(self) -> bool:
        """Tell whether the front end is a user's function."""
        return is_reference(self.kind)

    @property
    def time_axis(self) -> int:
        """Return the axis of the network's input that holds time: the last one, or the one before."""
        return -2 if self.layout == "frames-bands" and self.kind in SETTINGS else -1

    def settings(self) -> dict[str, Any]:
        """List the kind and the settings that differ from the defaults, as plain values."""
        taken = SETTINGS.get(self.kind, ())
        plain = {f.name: f.default for f in fields(self)}
        return {"kind": self.kind} | {k: getattr(self, k) for k in taken if getattr(self, k) != plain[k]}

    def describe(self) -> str:
        """Write the front end in one line, as options take it.

        Examples
        --------
        >>> read_front_end({"kind": "log-mel", "mels": 40, "fmax": 7600}).describe()
        'log-mel,mels=40,fmax=7600.0'
        """
        kind, *rest = self.settings().items()
        return ",".join([kind[1], *(f"{key}={value}" for key, value in rest)])

    def key(self) -> str:
        """Describe the front end for the key of results; of a user's function, the content of its module too."""
        source = getattr(sys.modules.get(self.kind.partition(":")[0]), "__file__", None) if self.is_code else None
        return f"{self.describe()} {file_digest(source) if source else ''}".strip()

    def hop(self, rate: int) -> int:
        """Compute the step between frames [samples]."""
        return rate // COCHLEAGRAM_HZ if self.kind == "cochleagram" else max(1, round(self.hop_ms * rate / 1000))

    def window(self, rate: int) -> int:
        """Compute the length of the window of a log-mel spectrogram [samples]."""
        return max(1, round(self.window_ms * rate / 1000))

    def frame_rate(self, rate: int, *, n_samples: int, n_frames: int) -> float:
        """Compute frames per second; those of a user's function are taken to divide the sound evenly."""
        if self.kind == "log-mel":
            return rate / self.hop(rate)
        return float(COCHLEAGRAM_HZ) if self.kind == "cochleagram" else n_frames * rate / n_samples

    def hertz(self, rate: int) -> NDArray[np.float64] | None:
        """Compute the center of each band [Hz], lowest first; None for waveforms and for a user's function."""
        if self.kind == "log-mel":
            return compute_mel_centers(rate=rate, n_mels=self.mels, fmin=self.fmin, fmax=self.fmax)
        if self.kind == "cochleagram":
            from brainmap.features.sounds.cochlea import compute_erb_centers

            return compute_erb_centers(self.bands, rate=rate)
        return None

    def shape(self, n_samples: int, *, rate: int) -> tuple[int, ...]:
        """Compute the shape of one item, `(c, h, w)` or `(c, t)`; a user's function is called with silence."""
        if self.is_waveform:
            return (1, n_samples)
        if self.is_code:
            return self.compute(np.zeros((1, 1, n_samples), np.float32), rate=rate).shape[1:]
        if self.kind == "cochleagram":
            frames, bands = self.frames or -(-n_samples * COCHLEAGRAM_HZ // rate), self.bands
        else:
            frames, bands = self.frames or n_samples // self.hop(rate), self.mels
        shapes = {"bands-frames": (1, bands, frames), "frames-bands": (1, frames, bands)}
        return shapes.get(self.layout, (bands, frames))

    def compute(self, waveforms: NDArray[np.floating], *, rate: int) -> NDArray[np.float32]:
        """Compute the input of a network out of waveforms `(n, 1, n_samples)`.

        Parameters
        ----------
        waveforms : ndarray (n, 1, n_samples)
        rate : int [Hz]

        Returns
        -------
        ndarray float32 (n, c, h, w) or (n, c, t)

        Raises
        ------
        InputError
            Sounds shorter than a window, more frames than there are, or a user's function that fails or gives another
            number of items or other axes.
        """
        sounds = np.asarray(waveforms, dtype=np.float32)
        if self.is_waveform:
            return sounds
        if self.is_code:
            return _call_function(self.kind, sounds, rate)
        if self.kind == "cochleagram":
            from brainmap.features.sounds.cochlea import compute_subband_envelopes

            found = compute_subband_envelopes(sounds[:, 0], rate=rate, n_filters=self.bands)[:, None]
            found = np.asarray(cut_frames(found, self.frames or found.shape[3]), dtype=np.float32)
        else:
            found = log_mel(
                sounds,
                rate=rate,
                n_mels=self.mels,
                hop=self.hop(rate),
                window=self.window(rate),
                fft=self.fft,
                fmin=self.fmin,
                fmax=self.fmax,
                scaling=self.scaling,
                frames=self.frames,
            )
        return self._arrange_values(found)

    def _arrange_values(self, found: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.layout == "frames-bands":
            return np.ascontiguousarray(found.swapaxes(2, 3))
        return np.ascontiguousarray(found[:, 0] if self.layout == "bands-as-channels" else found)

    def picture(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """Arrange the values of one item `(c, h, w)` or `(c, t)` as a picture `(bands, frames)`, summed over channels.

        Examples
        --------
        >>> read_front_end("log-mel,layout=frames-bands").picture(np.zeros((1, 128, 64))).shape
        (64, 128)
        """
        if values.ndim == 2:
            return values
        flat: NDArray[np.floating] = values.sum(axis=0)
        return flat.T if self.time_axis == -2 else flat


def _is_count(value: Any) -> bool:
    """Tell whether a setting is a whole number from 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _call_function(reference: str, sounds: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Call a user's front end, and check what it gives."""
    function = find_function(reference, "input")
    try:
        given = function(sounds.copy(), rate)
        found = np.asarray(given.detach().cpu() if hasattr(given, "detach") else given, dtype=np.float32)
    except (Exception, SystemExit) as error:  # a user's function may raise anything
        raise InputError(
            f"input: {reference} failed ({type(error).__name__}: {first_line(error)}) on waveforms of shape "
            f"{sounds.shape} at {rate} Hz; name a function (waveforms, rate) -> array (n, c, h, w) or (n, c, t)"
        ) from None
    if found.ndim not in (3, 4) or len(found) != len(sounds) or 0 in found.shape:
        raise InputError(
            f"input: expected {reference} to return ({len(sounds)}, c, h, w) or ({len(sounds)}, c, t), got shape "
            f"{found.shape}"
        )
    return found


WAVEFORM = FrontEnd()


def read_front_end(value: str | Mapping[str, Any] | FrontEnd | None) -> FrontEnd:
    """Read a front end from one line, a table, or nothing, which means waveforms.

    Parameters
    ----------
    value : str, mapping, FrontEnd or None
        `kind`, or `kind,setting=value,...`, or a mapping with `kind` and settings.

    Returns
    -------
    FrontEnd

    Raises
    ------
    InputError
        An unknown kind or setting, or a value of another type.

    Examples
    --------
    >>> read_front_end("log-mel,mels=40,scaling=db") == read_front_end({"kind": "log-mel", "mels": 40, "scaling": "db"})
    True
    """
    if value is None or isinstance(value, FrontEnd):
        return value or WAVEFORM
    given = _split_text(value) if isinstance(value, str) else dict(value)
    kind = given.pop("kind", None)
    if not isinstance(kind, str):
        raise InputError(f"input: expected a kind, one of {list_some(SETTINGS)} or 'module:function', got {value!r}")
    if not is_reference(kind):
        check_choice(kind, [*SETTINGS, "module:function"], "input")
    known = SETTINGS.get(kind, ())
    for name in given:
        if name not in known:
            takes = f"it takes {list_some(known, 12)}" if known else "it takes none"
            raise InputError(f"input: {kind} has no setting {name!r}{suggest_word(name, known)}; {takes}")
    return FrontEnd(kind=kind, **{name: _check_type(name, one) for name, one in given.items()})


def _split_text(text: str) -> dict[str, Any]:
    kind, *rest = (part.strip() for part in text.split(","))
    pairs = [part.partition("=") for part in rest]
    wrong = [name for name, equals, value in pairs if not equals or not value or not name]
    if wrong or not kind:
        raise InputError(f"input: expected a kind and settings, as in log-mel,mels=40,hop_ms=10, got {text!r}")
    return {"kind": kind} | {name.strip(): value.strip() for name, _, value in pairs}


def _check_type(name: str, value: Any) -> Any:
    if name in ("scaling", "layout"):
        return str(value)
    number = cast(Any, int if name in _WHOLE else float)
    try:
        return number(value) if isinstance(value, str) or number is float else value
    except (TypeError, ValueError):
        kind = "whole number" if number is int else "number"
        raise InputError(f"input: expected a {kind} as {name}, got {value!r}") from None
