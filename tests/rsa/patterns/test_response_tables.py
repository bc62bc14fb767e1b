"""Response tables hold the same patterns as images, whatever the file, the axes and the order of the items."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

from brainmap.errors import InputError
from brainmap.rsa import load_patterns, load_response_table, load_rois, load_voxel_rois, voxel_report

ITEMS = ["cat", "dog", "tree", "bird"]
REGIONS = ["A1", "A1", "", "belt", "belt", "A1"]


def _responses() -> np.ndarray:
    """Make 4 items x 6 voxels x 3 repetitions; voxel 4 is constant in the second repetition, voxel 2 holds a NaN."""
    values = np.random.default_rng(0).normal(size=(4, 6, 3)).astype("f4").astype(float)
    values[:, 4, 1] = 0.5
    values[1, 2, 0] = np.nan
    return values


def _write_npy(path: Path, values: np.ndarray) -> Path:
    np.save(path.with_suffix(".npy"), values)
    return path.with_suffix(".npy")


def _write_npz(path: Path, values: np.ndarray) -> Path:
    np.savez_compressed(path.with_suffix(".npz"), betas=values, names=np.array(ITEMS), n=np.array(4))
    return path.with_suffix(".npz")


def _write_mat(path: Path, values: np.ndarray) -> Path:
    names = np.array(ITEMS, object)
    savemat(path.with_suffix(".mat"), {"betas": values, "names": names, "n": 4.0}, do_compression=True)
    return path.with_suffix(".mat")


def _write_mat73(path: Path, values: np.ndarray) -> Path:
    """Write what MATLAB's `save -v7.3` writes: a header of 512 bytes, reversed axes, cells as references."""
    file = path.with_suffix(".mat")
    with h5py.File(file, "w", userblock_size=512) as out:
        out.create_dataset("betas", data=values.T).attrs["MATLAB_class"] = np.bytes_("double")
        cell = out.create_dataset("#refs#/a", data=np.array([[99], [97]], "u2"))
        cell.attrs["MATLAB_class"] = np.bytes_("char")
        names = out.create_dataset("names", data=np.array([[cell.ref]], h5py.ref_dtype))
        names.attrs["MATLAB_class"] = np.bytes_("cell")
    with file.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return file


def _write_hdf5(path: Path, values: np.ndarray) -> Path:
    with h5py.File(path.with_suffix(".h5"), "w") as out:
        out["study/betas"] = values
    return path.with_suffix(".h5")


def _write_netcdf(path: Path, values: np.ndarray) -> Path:
    """Write what NetCDF-4 writes: dimensions as scales, and a number for missing values."""
    with h5py.File(path.with_suffix(".nc"), "w") as out:
        stored = out.create_dataset("betas", data=np.nan_to_num(values, nan=-999.0))
        stored.attrs["_FillValue"] = -999.0
        for axis, name in enumerate(("item", "voxel", "repetition")):
            out[name] = np.arange(values.shape[axis], dtype=float)
            out[name].make_scale(name)
            stored.dims[axis].attach_scale(out[name])
    return path.with_suffix(".nc")


WRITERS = [_write_npy, _write_npz, _write_mat, _write_mat73, _write_hdf5, _write_netcdf]
Writer = Callable[[Path, np.ndarray], Path]


def _as_images(values: np.ndarray) -> tuple[list[nib.Nifti1Image], nib.Nifti1Image, Any]:
    """Return the runs, the mask and the regions of the same patterns as images."""
    grid = (3, 2, 1)
    runs = [nib.Nifti1Image(values[..., k].T.reshape(*grid, 4).astype("f4"), np.eye(4)) for k in range(3)]
    mask = nib.Nifti1Image(np.ones(grid, "f4"), np.eye(4))
    numbers = np.array([{"A1": 1, "belt": 2, "": 0}[name] for name in REGIONS], "i2").reshape(grid)
    table = pd.DataFrame({"index": [1, 2], "name": ["A1", "belt"]})
    return runs, mask, load_rois(nib.Nifti1Image(numbers, np.eye(4)), table=table, minimum_voxels=1)


@pytest.mark.parametrize("write", WRITERS)
def test_every_format_gives_the_patterns_of_the_images(tmp_path: Path, write: Writer) -> None:
    values = _responses()
    images, mask, rois = _as_images(values)
    wanted = load_patterns(images, mask=mask, conditions=ITEMS, rois=rois, participant="01")
    found = load_response_table(
        write(tmp_path / "x", values), items=ITEMS, voxels=pd.DataFrame({"roi": REGIONS}), participant="01"
    )
    assert np.array_equal(found.measurements, wanted.measurements)
    for of in ("obs_descriptors", "channel_descriptors"):
        mine, its = getattr(found, of), getattr(wanted, of)
        assert {key: list(mine[key]) for key in ("stimulus_id", "condition", "run", "voxel", "roi") if key in mine} == {
            key: list(value) for key, value in its.items()
        }
    assert found.descriptors["voxel_counts"] == wanted.descriptors["voxel_counts"]
    report = voxel_report(found).set_index("roi")
    assert report.loc["mask", ["voxels", "dropped_nan", "dropped_constant", "kept"]].tolist() == [6, 1, 1, 4]


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (2, 0, 1)])
def test_axes_are_found_by_their_lengths(tmp_path: Path, order: tuple[int, ...]) -> None:
    values = np.nan_to_num(_responses())
    file = _write_npy(tmp_path / "x", values.transpose(order))
    data = load_response_table(file, items=ITEMS, voxels=pd.DataFrame({"roi": REGIONS}))
    voxel = data.channel_descriptors["voxel"]
    assert np.array_equal(data.measurements[4:8], values[:, voxel, 1])


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_an_empty_line_of_a_voxel_table_of_one_column_is_a_voxel_outside_all_regions(tmp_path: Path, end: str) -> None:
    regions = ["", "A1", "", "belt", "A1", ""]
    values = np.nan_to_num(_responses())
    file, voxels = _write_npy(tmp_path / "x", values), tmp_path / "voxels.tsv"
    voxels.write_bytes("".join(f"{line}{end}" for line in ["roi", *regions]).encode())
    found = load_response_table(file, items=ITEMS, voxels=voxels)
    wanted = load_response_table(file, items=ITEMS, voxels=pd.DataFrame({"roi": regions}))
    assert found.channel_descriptors["roi"].tolist() == wanted.channel_descriptors["roi"].tolist()
    assert found.descriptors["voxel_counts"] == wanted.descriptors["voxel_counts"]
    pd.DataFrame({"roi": regions}).to_csv(voxels, sep="\t", index=False)  # pandas writes such a cell as ""
    assert load_voxel_rois(voxels).labels.tolist() == load_voxel_rois(pd.DataFrame({"roi": regions})).labels.tolist()


def test_empty_lines_at_the_end_of_a_list_of_items_are_no_items(tmp_path: Path) -> None:
    file, items = _write_npy(tmp_path / "x", np.nan_to_num(_responses())[..., 0]), tmp_path / "items.tsv"
    items.write_text("stimulus_id\n" + "\n".join(ITEMS) + "\n\n\n")
    found = load_response_table(file, items=items)
    assert found.obs_descriptors["stimulus_id"].tolist() == ITEMS
    items.write_text("stimulus_id\n" + "\n\n".join(ITEMS))  # an empty line between two is an item without a name
    _refused(file, "expected 7 items.*got an array of 4 x 6", items=items)


def test_items_are_matched_by_id(tmp_path: Path) -> None:
    values = np.nan_to_num(_responses())
    order = [2, 0, 3, 1]
    one = load_response_table(_write_npy(tmp_path / "a", values), items=ITEMS, voxels=pd.DataFrame({"roi": REGIONS}))
    other = load_response_table(
        _write_npy(tmp_path / "b", values[order]),
        items=[ITEMS[k] for k in order],
        voxels=pd.DataFrame({"roi": REGIONS}),
        stimuli=dict.fromkeys(ITEMS, "x") | {"cat": "animal"},
    )
    for data in (one, other):
        names, runs = (np.asarray(data.obs_descriptors[key]) for key in ("stimulus_id", "run"))
        found = data.measurements[(names == "bird") & (runs == "3")]
        assert np.array_equal(found, values[3:, data.channel_descriptors["voxel"], 2])
    conditions = np.asarray(other.obs_descriptors["condition"])[
        np.asarray(other.obs_descriptors["stimulus_id"]) == "cat"
    ]
    assert conditions.tolist() == ["animal"] * 3


def test_runs_may_be_rows_or_files(tmp_path: Path) -> None:
    values = np.nan_to_num(_responses())
    cube = load_response_table(_write_npy(tmp_path / "x", values), items=ITEMS, voxels=pd.DataFrame({"roi": REGIONS}))
    long = _write_npy(tmp_path / "long", np.concatenate([values[..., k] for k in range(3)]))
    rows = pd.DataFrame({"stimulus_id": ITEMS * 3, "run": np.repeat(["1", "2", "3"], 4)})
    files = [_write_npy(tmp_path / f"run-{k}", values[..., k]) for k in range(3)]
    for data in (load_response_table(long, items=rows), load_response_table(files, items=[ITEMS] * 3)):
        assert np.array_equal(data.measurements, cube.measurements)
        assert list(data.obs_descriptors["run"]) == list(cube.obs_descriptors["run"])


def test_one_matrix_may_hold_all_participants(tmp_path: Path) -> None:
    values = np.nan_to_num(_responses())
    file = _write_npy(tmp_path / "all", values)
    voxels = pd.DataFrame({"participant": ["sub-01", "02", "01", "02", "02", "01"], "roi": REGIONS})
    data = load_response_table(file, items=ITEMS, voxels=voxels, participant="01")
    assert data.channel_descriptors["voxel"].tolist() == [0, 2, 5]
    assert np.array_equal(data.measurements[:4], values[:, [0, 2, 5], 0])
    assert load_voxel_rois(voxels, participant="02").sizes == {"belt": 2, "A1": 1}
    with pytest.raises(InputError, match=r"got those of 2 .*say whose to take"):
        load_response_table(file, items=ITEMS, voxels=voxels)
    with pytest.raises(InputError, match="participant: expected"):
        load_response_table(file, items=ITEMS, voxels=voxels, participant="03")


def _refused(file: Path, match: str, items: Any = ITEMS, **given: Any) -> None:
    with pytest.raises(InputError, match=match):
        load_response_table(file, items=items, **given)


def test_lengths_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    values = np.nan_to_num(_responses())
    flat, square = _write_npy(tmp_path / "x", values[..., 0]), _write_npy(tmp_path / "y", values[:, :4, 0])
    _refused(flat, "expected 5 items.*got an array of 4 x 6", items=[*ITEMS, "cow"])
    _refused(flat, "4 items and 7 voxels.*got an array of 4 x 6", voxels=pd.DataFrame({"roi": ["A1"] * 7}))
    _refused(square, "fit more than one axis of 4 x 4; say .*items,voxels or voxels,items")
    found = load_response_table(square, items=ITEMS, axes=["voxels", "items"])
    kept = found.channel_descriptors["voxel"]
    assert np.array_equal(found.measurements, values[:, :4, 0].T[:, kept])
    _refused(_write_npy(tmp_path / "z", values), "fit more than one axis of 4 x 6 x 3.*or give a voxel table")
    _refused(flat, "axes that name 'items', 'voxels' once each", axes=["items", "items"])
    _refused(flat, "expected 4 items.*4 x 6 \\(voxels x items\\)", axes=["voxels", "items"])


def test_items_twice_or_without_response_are_refused(tmp_path: Path) -> None:
    values = np.nan_to_num(_responses())
    voxels = pd.DataFrame({"roi": REGIONS})
    flat = _write_npy(tmp_path / "x", values[..., 0])
    _refused(flat, r"'cat' more than once \(rows 1, 4\)", items=["cat", "dog", "tree", "cat"])
    _refused(flat, "'cow'", items=["cat", "dog", "tree", "cow"], stimuli=dict.fromkeys(ITEMS, "x"))
    lost = values.copy()
    lost[:, :, 2] = np.nan
    third = _write_npy(tmp_path / "third", lost)
    _refused(third, "for any item in repetition 3", voxels=voxels)
    kept = load_response_table(third, items=ITEMS, voxels=voxels, missing="nan")
    assert np.isnan(kept.measurements[8:]).all()
    assert np.isfinite(kept.measurements[:8]).all()
    lost = values.copy()
    lost[1, :, 2] = np.nan
    _refused(_write_npy(tmp_path / "one", lost), "for 'dog' in run 3", voxels=voxels)


def test_objects_and_several_arrays_are_refused(tmp_path: Path) -> None:
    values = np.nan_to_num(_responses())[..., 0]
    pickled = tmp_path / "pickled.npy"
    np.save(pickled, np.array([[1, "a"], [None, 2]], object), allow_pickle=True)
    _refused(pickled, "Python objects, which are never loaded")
    two = tmp_path / "two.npz"
    np.savez(two, betas=values, t=values + 1)
    _refused(two, r"got 2: betas \(4 x 6\), t \(4 x 6\); name one as key")
    _refused(two, "did you mean 'betas'", key="beta")
    assert np.array_equal(load_response_table(two, items=ITEMS, key="t").measurements[:, 0], values[:, 0] + 1)
    cells = tmp_path / "cells.mat"
    savemat(cells, {"betas": np.array([values[0], values[1, :3]], object)})
    _refused(cells, r"betas \(1 x 2, a cell array\)")
    _refused(_write_mat73(tmp_path / "seven", values), "numbers on two or three axes.*a cell array", key="names")
    wave = tmp_path / "wave.npy"
    np.save(wave, values + 1j)
    _refused(wave, "complex128, no real numbers")
    _refused(_write_npy(tmp_path / "x", values), "a .npy file holds one array", key="betas")


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    values = np.nan_to_num(_responses())
    for write in WRITERS:
        file = write(tmp_path / write.__name__, values)
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) * 2 // 3])
        with pytest.raises(InputError):
            load_response_table(file, items=ITEMS, voxels=pd.DataFrame({"roi": REGIONS}))
    classic = tmp_path / "old.nc"
    classic.write_bytes(b"CDF\x01" + bytes(40))
    _refused(classic, "classic NetCDF")


def test_a_header_that_promises_more_than_the_file_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    huge = tmp_path / "huge.npy"
    with huge.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (4, 10**12)})
    _refused(huge, "expected 3200000000.* bytes, as its header says")
    empty = tmp_path / "never.h5"
    with h5py.File(empty, "w") as out:
        out.create_dataset("betas", shape=(4, 10**12), dtype="f8", chunks=(4, 1000))
    _refused(empty, "its values were never written")


def test_voxel_tables_are_checked() -> None:
    with pytest.raises(InputError, match="got both"):
        load_voxel_rois(pd.DataFrame({"roi": ["a"], "region": ["b"]}))
    with pytest.raises(InputError, match="got no region"):
        load_voxel_rois(pd.DataFrame({"x": [1.0]}))
    with pytest.raises(InputError, match="at least 2 voxels, got 1"):
        load_voxel_rois(pd.DataFrame({"roi": ["a", "b", "b"]}), minimum_voxels=2)
    sides = pd.DataFrame({"region": ["left-A1", "right-A1", "belt", ""]})
    pooled = load_voxel_rois(sides, hemispheres="pooled", names=["A1"])
    assert (pooled.sizes, pooled.labels.tolist(), pooled.n_columns) == ({"A1": 2}, [1, 1, 0, 0], 4)
    json.dumps(pooled.sizes)
