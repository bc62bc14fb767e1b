"""Keep the values of many maps on disk, so that a click reads one place of all of them."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from brainmap.progress import progress
from brainmap.rsa.images.files import check_same_grid
from brainmap.rsa.surface.data import SurfaceData, check_same_mesh
from brainmap.study.stages.brains import load_map


@dataclass(frozen=True, eq=False)
class MapStack:
    """Hold the values of maps at all places that one of the first maps scores.

    Attributes
    ----------
    numbers : ndarray int32 (n_places,)
        Row of each voxel (in C order) or vertex (the left hemisphere first); -1 where no participant has a score.
    n_maps, n_rows : int
    file : file
        Values `(n_maps, n_rows)` of float32. The file has no name, and goes with the process.
    """

    numbers: NDArray[np.int32]
    n_maps: int
    n_rows: int
    file: IO[bytes]

    @classmethod
    def read(cls, paths: Sequence[Path], *, deciding: int) -> MapStack:
        """Read maps on one grid or mesh; the first ones, `deciding` of them, decide which places are kept.

        Raises
        ------
        InputError
            A map is not there, or lies on another grid or mesh.
        """
        first = load_map(paths[0])
        with progress("reading maps", len(paths) + deciding) as step:
            scored = np.zeros(flatten_map(first).shape, bool)
            for path in paths[:deciding]:
                scored |= np.isfinite(read_values(path, first))
                step.advance()
            file = tempfile.TemporaryFile()  # noqa: SIM115  it is read as long as the explorer runs
            try:
                for path in paths:
                    file.write(read_values(path, first)[scored].tobytes())
                    step.advance()
                file.flush()
            except BaseException:
                file.close()
                raise
        numbers = np.full(scored.shape, -1, np.int32)
        n_rows = int(np.count_nonzero(scored))
        numbers[scored] = np.arange(n_rows, dtype=np.int32)
        found = cls(numbers, len(paths), n_rows, file)
        weakref.finalize(found, file.close)
        return found

    def at(self, row: int) -> NDArray[np.float32]:
        """Return the value of each map in a row `(n_maps,)`."""
        values = np.memmap(self.file, np.float32, "r", shape=(self.n_maps, self.n_rows))
        return np.array(values[:, row])


def flatten_map(image: Any) -> NDArray[np.float32]:
    """Return the values of an image or of data on the surface as a row `(n_places,)`."""
    if isinstance(image, SurfaceData):
        return image.values[:, 0]
    return np.asarray(image.dataobj, dtype=np.float32).reshape(-1)


def read_values(path: Path, like: Any) -> NDArray[np.float32]:
    """Read a map that must lie on the grid or mesh of another one, as a row `(n_places,)`."""
    image = load_map(path)
    if isinstance(like, SurfaceData):
        check_same_mesh(image, like)
    else:
        check_same_grid(image, like, what=path.name, wanted="the first map")
    return flatten_map(image)
