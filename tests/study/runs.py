"""Run studies, read their tables, and check that shares of the work give the bytes of a whole run."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from brainmap.errors import BrainmapWarning, InputError

PAGES = ("page_stage._write_page", "stories_page.write_files")


@contextmanager
def without_pages() -> Iterator[None]:
    """Write no page and show no warnings: untrained networks have units that never speak."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore", BrainmapWarning)
        for name in PAGES:
            patch.setattr(f"brainmap.study.stages.{name}", lambda *_, **__: [])
        yield


def run(path: Path, *, page: bool = False) -> set[str]:
    """Run a study, by default without its page, and return the stages that were computed."""
    from brainmap.study.run import Context, run_study
    from brainmap.study.settings.study import load_study

    def closed() -> dict[str, int]:
        found = (path.parent / "derivatives" / "brainmap" / ".brainmap").glob("*.json")
        return {p.stem: p.stat().st_mtime_ns for p in found}

    before = closed()
    if page:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BrainmapWarning)
            run_study(Context(load_study(path), threads=1))
    else:
        with without_pages():
            run_study(Context(load_study(path), threads=1))
    return {stage for stage, then in closed().items() if before.get(stage) != then}


def read(path: Path, name: str) -> pd.DataFrame:
    """Read a table of the results."""
    found = next((path.parent / "derivatives" / "brainmap").glob(name))
    return pd.read_csv(found, sep="\t", na_values="n/a", keep_default_na=False, dtype={"participant": str})


def copy_study(path: Path, tmp_path: Path) -> Path:
    """Copy a study with its results, and return the copy of its file."""
    shutil.copytree(path.parent, tmp_path / "copy", copy_function=shutil.copy2)
    return tmp_path / "copy" / path.name


def remove_tables(path: Path, *patterns: str) -> dict[str, bytes]:
    """Remove tables of results, and return their content by name."""
    out = path.parent / "derivatives" / "brainmap"
    kept = {str(file.relative_to(out)): file.read_bytes() for pattern in patterns for file in out.rglob(pattern)}
    for name in kept:
        (out / name).unlink()
    return kept


def has_results(path: Path, kept: dict[str, bytes]) -> bool:
    """Tell whether tables have the same bytes again, and no piece of the work is left."""
    out = path.parent / "derivatives" / "brainmap"
    return {name: (out / name).read_bytes() for name in kept} == kept and not (out / ".brainmap" / "chunks").exists()


def check_shares(path: Path, kept: dict[str, bytes], *, networks: int, others: Sequence[str], missing: str) -> None:
    """Check that two shares of encoding models give the bytes of the whole run, and that pieces outlive a kill.

    Parameters
    ----------
    path : Path
        A study whose tables `kept` are removed, of two participants.
    networks : int
        Networks, controls and simple features, each of which is a piece of the models and of the permutations.
    others : sequence of str
        Other work of the second participant.
    missing : str
        What merging says where the first share is missing.
    """
    from brainmap.study.parallel.shares import list_units
    from brainmap.study.results.context import Context
    from brainmap.study.run import merge_study, run_chunk
    from brainmap.study.settings.study import load_study

    study, kinds = load_study(path), ("models", "permutations")
    units = [str(unit) for unit in list_units(Context(study)) if unit.participant == "02"]
    numbers = range(1, networks + 1)
    assert units == [*others, *(f"sub-02 encoding {kind} from {k}" for kind in kinds for k in numbers)]
    with without_pages():
        run_chunk(Context(study, threads=2), "2/2")
        chunks = sorted((path.parent / "derivatives" / "brainmap" / ".brainmap" / "chunks").rglob("*.npz"))
        names = [f"{kind}-02/{k - 1:08d}-{k:08d}.npz" for kind in kinds for k in numbers]
        assert [f"{file.parent.name}/{file.name}" for file in chunks] == names
        with pytest.raises(InputError, match=missing):
            merge_study(Context(study, threads=1))
        chunks[1].unlink()
        then = {file: file.stat().st_mtime_ns for file in chunks if file.exists()}
        run_chunk(Context(study, threads=1), "2/2")
        assert {file: file.stat().st_mtime_ns for file in then} == then
        run_chunk(Context(study, threads=1), "1/2")
        merge_study(Context(study, threads=1))
    assert has_results(path, kept)


def check_dask(path: Path, kept: dict[str, bytes]) -> None:
    """Check that Dask workers give the bytes of the run whose tables `kept` are removed."""
    pytest.importorskip("distributed")
    from brainmap.study.results.context import Context
    from brainmap.study.run import run_study
    from brainmap.study.settings.study import load_study

    with without_pages():
        run_study(Context(load_study(path), threads=1, backend="dask"))
    assert has_results(path, kept)
