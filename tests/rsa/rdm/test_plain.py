"""RDMs without rsatoolbox: what comparisons read is what `load_rdms` gives, and nothing slow is imported for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rsatoolbox.rdm import RDMs

from brainmap import rsa
from brainmap.rsa.comparison.ceilings import noise_ceilings
from brainmap.rsa.rdm.alignment import stack_rdms
from brainmap.rsa.rdm.files import PlainRdms, load_plain_rdms, load_rdms, save_rdms

ITEMS = [f"s{k}" for k in range(8)]
SLOW = ("rsatoolbox", "torch", "numba", "scipy.stats", "matplotlib", "nibabel", "zarr", "networkx", "sklearn")


def save(file: Path, seed: int, items: list[str], **described: Any) -> Path:
    """A file with the RDM of some patterns."""
    x = np.random.default_rng(seed).normal(size=(8, 30))
    return rsa.save_rdms(rsa.compute_rdms(x, descriptors={"stimulus_id": items, **described}), file)


def assert_same(one: Any, other: Any) -> None:
    """All that comparisons read is equal."""
    np.testing.assert_array_equal(one.dissimilarities, other.dissimilarities)
    for name in ("n_rdm", "n_cond", "dissimilarity_measure", "descriptors"):
        assert getattr(one, name) == getattr(other, name), name
    for name in ("rdm_descriptors", "pattern_descriptors"):
        mine, theirs = getattr(one, name), getattr(other, name)
        assert set(mine) == set(theirs)
        for key, values in mine.items():
            assert list(map(str, values)) == list(map(str, theirs[key])), key


def test_plain_rdms_hold_what_rsatoolbox_holds(tmp_path: Path) -> None:
    ours = save(tmp_path / "ours.h5", 0, ITEMS, layer="conv1", participant="01")
    theirs = str(tmp_path / "theirs.h5")
    RDMs(np.random.default_rng(1).random((2, 28)), pattern_descriptors={"condition": ITEMS}).save(theirs, "hdf5")
    for file in (ours, Path(theirs)):
        plain = load_plain_rdms(file)
        assert isinstance(plain, PlainRdms)
        assert_same(plain, load_rdms(file))


def test_square_matrices_are_left_to_rsatoolbox(tmp_path: Path) -> None:
    import h5py

    file = tmp_path / "square.h5"
    RDMs(np.ones((1, 3)), pattern_descriptors={"condition": ["a", "b", "c"]}).save(str(file), "hdf5")
    with h5py.File(file, "r+") as held:
        del held["dissimilarities"]
        held["dissimilarities"] = 1.0 - np.eye(3)[None]
    assert isinstance(load_plain_rdms(file), RDMs)


def test_comparisons_and_ceilings_of_plain_rdms_are_those_of_rdms(tmp_path: Path) -> None:
    models = [save(tmp_path / f"m{k}.h5", k, ITEMS, layer=f"conv{k}") for k in range(3)]
    data = [save(tmp_path / f"d{k}.h5", 10 + k, ITEMS[::-1], participant=f"0{k}") for k in range(3)]
    plain, whole = ([stack_rdms([load(f) for f in files]) for files in (models, data)] for load in _LOADERS)
    np.testing.assert_array_equal(rsa.compare_rdms(*plain), rsa.compare_rdms(*whole))
    assert noise_ceilings(plain[1], measure="rho-a").equals(noise_ceilings(whole[1], measure="rho-a"))
    assert isinstance(plain[1], PlainRdms)
    assert_same(plain[1], whole[1])


_LOADERS = (load_plain_rdms, load_rdms)


@pytest.mark.parametrize("control", [False, True])
def test_the_command_that_compares_imports_nothing_slow(tmp_path: Path, control: bool) -> None:
    models, data = save(tmp_path / "m.h5", 0, ITEMS, layer="conv1"), save(tmp_path / "d.h5", 1, ITEMS, participant="01")
    words = ["brainmap", "rsa", "compare", str(models), str(data)]
    if control:
        words += ["--control-for", str(save(tmp_path / "c.h5", 2, ITEMS, name="control")), "--measure", "pearson"]
    code = (
        f"import sys; sys.argv = {words!r}\nfrom brainmap.cli import main\n"
        f"try: main()\nexcept SystemExit: pass\nprint([name for name in {SLOW!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "score" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_rdms_are_selected_and_squared_as_by_rsatoolbox(tmp_path: Path) -> None:
    found = _three_regions(tmp_path)
    theirs, mine = load_rdms(found), load_plain_rdms(found)
    for value in ("b", ["a", "c"], ("c", "a"), np.array(["b"])):
        one, other = theirs.subset("roi", value), mine.subset("roi", value)
        assert np.array_equal(one.get_matrices(), other.get_matrices(), equal_nan=True)
        assert {k: list(v) for k, v in one.rdm_descriptors.items()} == other.rdm_descriptors
        assert {k: list(v) for k, v in one.pattern_descriptors.items()} == other.pattern_descriptors
        assert (one.n_rdm, one.n_cond) == (other.n_rdm, other.n_cond)


def _three_regions(folder: Path) -> Path:
    vectors = np.random.default_rng(0).random((4, 10))
    vectors[1, 3] = np.nan
    rdms = RDMs(
        vectors,
        rdm_descriptors={"roi": ["a", "b", "c", "a"]},
        pattern_descriptors={"stimulus_id": list("vwxyz")},
    )
    return save_rdms(rdms, folder / "r.h5")
