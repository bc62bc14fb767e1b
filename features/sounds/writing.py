"""Write sounds as WAV files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brainmap.names import file_name
from brainmap.record import atomic


def write_sounds(
    sounds: NDArray[np.floating],
    folder: str | Path,
    names: Sequence[Sequence[str]],
    *,
    rate: int,
    seconds: float | None = None,
) -> list[Path]:
    """Write sounds `(n, 1, t)` within full scale as 16-bit WAV; shorter sounds repeat for `seconds`.

    `brainmap.names.file_name` turns `names` into file names.
    """
    import soundfile

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    repeats = -(-round((seconds or 0) * rate) // max(sounds.shape[-1], 1)) or 1
    paths = [folder / f"{file_name(*name)}.wav" for name in names]
    for path, sound in zip(paths, sounds, strict=True):
        with atomic(path) as beside:
            soundfile.write(beside, np.tile(sound[0], repeats), rate, subtype="PCM_16", format="WAV")
    return paths
