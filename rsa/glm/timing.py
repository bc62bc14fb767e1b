"""Acquisition times of volumes: TR, slice-time reference, sparse sampling and gaps, from headers and sidecars."""

from __future__ import annotations

import glob
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainmap.checks import check_ranges
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.images.volumes import ImageInfo
from brainmap.types import Floats

_ENDING = re.compile(
    r"(\.(func|shape)\.gii|\.(dtseries|dscalar)\.nii|\.niml\.dset|(\+(orig|acpc|tlrc))?(\.(nii|HEAD|BRIK))?(\.gz|\.bz2)?)$"
)
_SLOWEST = 60.0  # [s]; a longer TR must be in milliseconds


@dataclass(frozen=True, eq=False)
class Timing:
    """Hold the acquisition times of the volumes of a run.

    Attributes
    ----------
    frame_times : ndarray (n_volumes,) [s]
        Time of each volume from the acquisition of the first one; events at that moment have onset 0.
    t_r : float [s]
        Time from one volume to the next where there is no gap.
    starts : ndarray (n_volumes,) of bool
        Volumes that do not directly follow another: the first, and those after a pause.
    said : str
        The source of the times, in words.
    """

    frame_times: Floats
    t_r: float
    starts: NDArray[np.bool_]
    said: str

    @property
    def seconds(self) -> float:
        """Duration from the start of the run to the end of its last volume [s]."""
        return float(self.frame_times[-1] + self.t_r)

    @property
    def regular(self) -> bool:
        """Tell whether all volumes are equally spaced."""
        steps = np.diff(self.frame_times)
        return bool(np.ptp(steps) < 1e-3 * steps.min())

    @property
    def pairs(self) -> int:
        """Number of volumes that directly follow another; autocorrelation is estimated from these pairs."""
        return int((~self.starts).sum())


def read_timing(
    info: ImageInfo,
    *,
    name: str,
    t_r: float | None = None,
    slice_time_ref: float | None = None,
    frame_times: ArrayLike | None = None,
) -> Timing:
    """Determine the acquisition times of the volumes of an image.

    Parameters
    ----------
    info : ImageInfo
        The image's header.
    name : str
        The name of the image in messages.
    t_r : float [s], optional
        Repetition time. By default it comes from the sidecar (RepetitionTime) or the header, which must agree.
    slice_time_ref : float from 0 to 1 [TR], optional
        Moment within a volume that its values represent. By default it is StartTime of the sidecar, as fMRIPrep writes
        it; half a TR if slice timing was corrected to an unknown reference; else 0.
    frame_times : array_like (n_volumes,) [s], optional
        Time of every volume, for sparse sampling. By default it is VolumeTiming of the sidecar, or even steps of TR.

    Raises
    ------
    InputError
        If the TR is missing, contradictory or in milliseconds, or if the times do not increase or do not match the
        volumes.
    """
    n = info.shape[3] if len(info.shape) > 3 else 1
    if n < 3:
        raise InputError(f"{name}: expected a time series (x, y, z, t), got {n} volume(s)")
    beside = merge_sidecars(find_sidecars(info.path))
    check_ranges(
        "slice_time_ref",
        ("0 (start of a volume) to 1 (its end)", slice_time_ref, slice_time_ref is None or 0 <= slice_time_ref <= 1),
    )
    if frame_times is None and "VolumeTiming" in beside and t_r is None:
        frame_times = beside["VolumeTiming"]
    if frame_times is not None:
        return _check_times(frame_times, n, name)
    step, source = _choose_repetition_time(info, beside, name, t_r)
    reference, why = _choose_reference(beside, step, name, slice_time_ref)
    starts = np.zeros(n, bool)
    starts[0] = True
    said = f"TR {step:g} s ({source}), volumes at {reference:g} s ({why})"
    if float(beside.get("DelayTime") or 0) > 0:
        starts[:] = True
        said += f", a pause of {float(beside['DelayTime']):g} s between volumes (sidecar)"
    times = np.asarray(reference + step * np.arange(n), np.float64)
    return Timing(times, step, starts, said)


def _check_times(frame_times: ArrayLike, n: int, name: str) -> Timing:
    try:
        times = np.asarray(frame_times, float)
    except (TypeError, ValueError):
        times = np.array(np.nan)
    if times.shape != (n,) or not np.isfinite(times).all():
        raise InputError(
            f"{name}: expected {n} frame times, one number per volume, in seconds, got shape {times.shape}"
        )
    steps = np.diff(times)
    if (steps <= 0).any():
        at = int(np.flatnonzero(steps <= 0)[0])
        raise InputError(
            f"{name}: expected frame times that increase, got {times[at]:g} s for volume {at} and {times[at + 1]:g} s "
            "for the next"
        )
    t_r = float(steps.min())
    starts = np.concatenate([[True], steps > 1.5 * t_r])
    gaps = int(starts[1:].sum())
    return Timing(times, t_r, starts, f"frame times as given, {t_r:g} s apart" + (f", {gaps} gaps" if gaps else ""))


def _choose_repetition_time(
    info: ImageInfo, beside: Mapping[str, Any], name: str, given: float | None
) -> tuple[float, str]:
    found = {"header": info.t_r, "sidecar": beside.get("RepetitionTime")}
    known = {source: float(value) for source, value in found.items() if isinstance(value, int | float) and value > 0}
    slow = {source: value for source, value in known.items() if value > _SLOWEST}
    if given is not None:
        if not 0 < given <= _SLOWEST:
            raise InputError(f"t_r: expected more than 0 and at most {_SLOWEST:g} seconds, got {given:g}")
        for source, value in known.items():
            if abs(value - given) > 1e-3 * given:
                warnings.warn(
                    f"{name}: the given t_r = {given:g} s is used, but the {source} says {value:g} s",
                    BrainmapWarning,
                    stacklevel=6,
                )
        return float(given), "given"
    if slow:
        source, value = next(iter(slow.items()))
        hint = f"are these milliseconds? then give {_say_where(value / 1000)}"
        raise InputError(f"{name}: the {source} gives a TR of {value:g} s; {hint}")
    if not known:
        raise InputError(
            f"{name}: neither the header (or its unit of time) nor a sidecar gives a TR; give it in seconds, "
            + _say_where(2.0)
        )
    if len(known) == 2 and abs(known["header"] - known["sidecar"]) > 1e-3 * known["sidecar"]:
        raise InputError(
            f"{name}: the header gives a TR of {known['header']:g} s, the sidecar {known['sidecar']:g} s; say which "
            f"is right, {_say_where(known['sidecar'])}"
        )
    return known.get("sidecar", known.get("header", 0.0)), " and ".join(known)


def _say_where(t_r: float) -> str:
    """Say where a TR is given: as an option, for BOLD with events in a study, and for stories."""
    return f"t_r = {t_r:g} (in a study glm = {{ t_r = {t_r:g} }}; for stories t_r = {t_r:g} in [stories])"


def _choose_reference(beside: Mapping[str, Any], t_r: float, name: str, given: float | None) -> tuple[float, str]:
    """Return the moment within a volume that its values represent [s], and the source of this choice."""
    start = beside.get("StartTime")
    if given is not None:
        return given * t_r, "as given"
    if isinstance(start, int | float):
        return float(start), "StartTime of the sidecar"
    if beside.get("SliceTimingCorrected") is True:
        warnings.warn(
            f"{name}: slice timing was corrected to a moment that the sidecar does not give; the middle of a volume "
            "is assumed (slice_time_ref=0.5)",
            BrainmapWarning,
            stacklevel=6,
        )
        return 0.5 * t_r, "middle of a volume"
    return 0.0, "start of a volume"


def find_sidecars(path: Path | None) -> list[Path]:
    """Return the JSON sidecars of an image, the most general first, inherited from its folder and those above."""
    if path is None:
        return []
    stem = _ENDING.sub("", path.name, count=1)
    own, parts = path.with_name(f"{stem}.json"), stem.split("_")
    found: list[Path] = []
    for folder in reversed(path.resolve().parents[:4] if len(parts) > 1 else []):
        beside = sorted(folder.glob(f"*_{glob.escape(parts[-1])}.json"), key=lambda file: len(file.name))
        found += [file for file in beside if set(file.stem.split("_")) < set(parts)]
    return [*found, own] if own.is_file() else found


def merge_sidecars(paths: Sequence[Path]) -> dict[str, Any]:
    """Merge JSON files; later files override earlier ones.

    Raises
    ------
    InputError
        If a file is not a JSON object.
    """
    said: dict[str, Any] = {}
    for path in paths:
        try:
            said |= dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise InputError(
                f"{path}: expected JSON in a sidecar, an object with keys, got something else ({error})"
            ) from None
    return said
