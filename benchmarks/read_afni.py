"""Reading a 100-volume 3 mm AFNI bucket: processor time and memory against nibabel's own `get_fdata`.

Usage: python benchmarks/read_afni.py [--volumes 100] [--repeats 5]

The bucket holds scaled shorts, as most of AFNI's programs write. Memory is what Python and numpy allocate at the peak,
as a ratio to the float32 array that is the result.
"""

from __future__ import annotations

import argparse
import tempfile
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from clock import in_turn

from brainmap import rsa
from brainmap.rsa.images.afni import build_brik_attributes, build_grid_attributes, format_head

SHAPE = (61, 73, 61)


def write_bucket(folder: Path, volumes: int, dtype: str) -> Path:
    """A bucket of random numbers, as shorts with a factor each or as floats."""
    rng = np.random.default_rng(0)
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    scale = 3000 if dtype == "i2" else 1
    values = (rng.normal(size=(*SHAPE, volumes)) * scale).astype(dtype)
    attributes = build_grid_attributes(affine, values.shape, view="orig", t_r=None) | build_brik_attributes(values)
    if dtype == "i2":
        del attributes["BRICK_STATS"]
        attributes["BRICK_FLOAT_FACS"] = tuple(np.linspace(1e-4, 2e-4, volumes).tolist())
    (folder / f"{dtype}+orig.BRIK").write_bytes(values.tobytes(order="F"))
    (folder / f"{dtype}+orig.HEAD").write_bytes(format_head(attributes))
    return folder / f"{dtype}+orig.HEAD"


def nibabel_reads(head: Path) -> Any:
    """The whole array as nibabel gives it, in double precision."""
    image: Any = nib.load(head)
    return image.get_fdata()


def peak(work: Callable[[], object]) -> int:
    """The most memory held at once [bytes]."""
    tracemalloc.start()
    kept = work()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    del kept
    return most


def main() -> None:
    """Shorts and floats, in turn: the least time of each side, and our peak."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--volumes", type=int, default=100)
    arguments.add_argument("--repeats", type=int, default=5)
    options = arguments.parse_args()
    array = 4 * np.prod(SHAPE) * options.volumes
    with tempfile.TemporaryDirectory() as folder:
        for dtype, what in (("i2", "scaled shorts"), ("f4", "floats")):
            head = write_bucket(Path(folder), options.volumes, dtype)
            theirs = nibabel_reads(head)
            np.testing.assert_array_equal(rsa.load_image(head).get_fdata(dtype=np.float32), theirs.astype("f4"))
            del theirs
            contenders: dict[str, Callable[[], object]] = {
                "brainmap": partial(rsa.load_image, head),
                "nibabel": partial(nibabel_reads, head),
            }
            ours, nibabels = (min(times) for times in in_turn(contenders, options.repeats).values())
            most = peak(partial(rsa.load_image, head))
            print(
                f"{options.volumes} volumes of {what}: brainmap {ours:.3f} s, nibabel {nibabels:.3f} s, "
                f"ratio {ours / nibabels:.2f} (aim 1.3); peak memory {most / array:.2f} x float32 array (aim 1.1)"
            )


if __name__ == "__main__":
    main()
