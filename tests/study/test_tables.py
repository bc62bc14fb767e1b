"""Studies whose responses are tables: they run to the page with the numbers of the images; what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

from brainmap import rsa
from brainmap.errors import InputError
from brainmap.study.run import Context, check_study
from brainmap.study.settings.study import load_study

PEOPLE = ("01", "02", "03")
BRAIN = """\
[[brain]]
participants = ["01", "02", "03"]
kind = "table"
files = "sub-{participant}/betas.mat"
key = "betas"
labels = "sub-{participant}/items.tsv"
rois = { table = "sub-{participant}/voxels.tsv", names = ["left-a", "right-a", "belt"] }

[rsa]"""


def read_cube(folder: Path, participant: str) -> tuple[np.ndarray, list[str], list[str]]:
    """Read the patterns of the tiny study: items x voxels x runs, the items, and the region of each voxel."""
    (kind,) = {"+tlrc.HEAD" if (folder / f"sub-{participant}" / "mask+tlrc.HEAD").exists() else ".nii.gz"}
    own = folder / f"sub-{participant}"
    mask = np.asarray(rsa.load_image(own / f"mask{kind}").dataobj) > 0
    runs = []
    items: list[str] = []
    for run in (1, 2, 3):
        file = own / f"betas_run-{run}{kind}"
        labels = list(rsa.sub_brick_labels(file))
        items = items or labels
        values = np.asarray(rsa.load_image(file).dataobj)[mask]
        runs.append(values[:, [labels.index(item) for item in items]].T)
    regions = rsa.load_rois(folder / "rois.nii.gz", table=folder / "rois.tsv", minimum_voxels=1)
    names = ["", *regions.names]
    return np.stack(runs, axis=2), items, [names[k] for k in regions.labels[mask]]


def write_mat(path: Path, cube: np.ndarray) -> None:
    savemat(path, {"betas": cube, "t_values": cube / 2})


def write_mat73(path: Path, cube: np.ndarray) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        for name in ("betas", "t_values"):
            file.create_dataset(name, data=cube.T).attrs["MATLAB_class"] = np.bytes_("single")


def write_tables(folder: Path, write: Any) -> None:
    """Write a table, a list of items and a table of voxels of each participant."""
    for participant in PEOPLE:
        own = folder / f"sub-{participant}"
        cube, items, regions = read_cube(folder, participant)
        write(own / "betas.mat", cube)
        pd.DataFrame({"stimulus_id": items}).to_csv(own / "items.tsv", sep="\t", index=False)
        pd.DataFrame({"roi": regions}).to_csv(own / "voxels.tsv", sep="\t", index=False)


def use_tables(study: Any, brain: str = BRAIN) -> None:
    """Make the brains of the study tables."""
    text = study.file.read_text()
    study.file.write_text(text[: text.index("[[brain]]")] + brain + text[text.index("[rsa]") + len("[rsa]") :])


def leave_out(study: Any, *sections: str) -> None:
    """Take sections out of a study file, in which each stands alone before the next blank line."""
    blocks = study.file.read_text().split("\n\n")
    study.file.write_text("\n\n".join(block for block in blocks if not block.startswith(sections)))


@pytest.fixture(scope="module")
def of_images(tiny_inputs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the tiny study without its searchlight."""
    import shutil

    folder = tmp_path_factory.mktemp("images") / "study"
    shutil.copytree(tiny_inputs.folder, folder)
    study = type(tiny_inputs)(folder)
    leave_out(study, "[searchlight]", "[explain]")
    study.run()
    return Path(study.out)


def read_tables(out: Path) -> dict[str, pd.DataFrame]:
    """Read every table of the results, by its name without the space of images."""
    names = {path: re.sub("_space-[A-Za-z0-9]+", "", str(path.relative_to(out))) for path in sorted(out.rglob("*.tsv"))}
    return {name: pd.read_csv(path, sep="\t") for path, name in names.items()}


@pytest.mark.parametrize("write", [write_mat, write_mat73])
def test_tables_give_every_number_of_the_images(of_images: Path, tiny_study: Any, write: Any) -> None:
    write_tables(tiny_study.folder, write)
    use_tables(tiny_study)
    leave_out(tiny_study, "[searchlight]", "[explain]")
    stages = tiny_study.run()
    assert {"sub-01_rois", "group_rois"} <= stages
    wanted, found = read_tables(of_images), read_tables(tiny_study.out)
    assert set(wanted) == set(found)
    assert len(wanted) > 10
    for name, table in wanted.items():
        if name.endswith("counts.tsv"):  # the voxels outside the mask are in no table
            table = table.assign(voxels=table["voxels"] - table["outside_mask"], outside_mask=0)
        pd.testing.assert_frame_equal(found[name], table, rtol=1e-6, atol=1e-9, obj=name)


@pytest.fixture
def table_study(tiny_study: Any) -> Any:
    """The tiny study with tables as .mat files, ready to run."""
    write_tables(tiny_study.folder, write_mat)
    use_tables(tiny_study)
    leave_out(tiny_study, "[searchlight]", "[explain]")
    return tiny_study


def list_problems(study: Any) -> str:
    return "\n".join(check_study(Context(load_study(study.file))).problems)


def test_a_study_of_tables_has_a_page(table_study: Any) -> None:
    table_study.run(page=True)
    page = (table_study.out / "report.html").read_text()
    assert "right-a" in page
    table = check_study(Context(load_study(table_study.file))).table
    assert table["voxels"].tolist() == ["168"] * 3
    assert table["grid"].tolist() == ["table"] * 3


def test_one_file_may_hold_all_participants(table_study: Any, of_images: Path) -> None:
    folder = table_study.folder
    order = read_cube(folder, "01")[1]
    cubes, rows = [], []
    for participant in PEOPLE:
        cube, items, regions = read_cube(folder, participant)
        cubes.append(cube[[items.index(item) for item in order]])
        rows.append(pd.DataFrame({"participant": f"sub-{participant}", "region": regions}))
    np.save(folder / "all.npy", np.concatenate(cubes, axis=1).transpose(2, 1, 0))
    pd.concat(rows).to_csv(folder / "voxels.tsv", sep="\t", index=False)
    table_study.edit(
        ("sub-{participant}/betas.mat", "all.npy"), ('key = "betas"\n', ""), ("sub-{participant}/voxels", "voxels")
    ).edit(("sub-{participant}/items", "sub-01/items"))
    table_study.run()
    wanted, found = read_tables(of_images), read_tables(table_study.out)
    for name in ("group/scores.tsv", "sub-03/func/sub-03_task-tiny_desc-rois_scores.tsv"):
        pd.testing.assert_frame_equal(found[name], wanted[name], rtol=1e-6, atol=1e-9)


def test_another_array_of_the_file_is_computed_anew(table_study: Any) -> None:
    assert table_study.run()
    assert not table_study.run()
    table_study.edit(('key = "betas"', 'key = "t_values"'))
    assert {"sub-01_rois", "sub-02_rois", "sub-03_rois"} <= table_study.run()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('key = "betas"', 'key = "betas"\nmask = "mask.nii.gz"', "mask does not go with kind = 'table'"),
        ('labels = "sub-{participant}/items.tsv"\n', "", "lacks the key 'labels', which kind = 'table' needs"),
        ("{ table =", '{ image = "rois.nii.gz", table =', "rois.image does not go with kind = 'table'"),
        ('kind = "table"\n', 'mask = "mask.nii.gz"\n', "key: expected kind = 'table' beside it, got 'betas'"),
        ('kind = "table"\nfiles', "files", "key: expected kind = 'table'"),
        ("[rsa]", "[searchlight]\nradius_mm = 6.0\n\n[rsa]", "('From a matrix to maps' in the guide to betas)"),
        ('key = "betas"', 'key = "betas"\nnoise = "residuals"', "noise = 'residuals' does not go with"),
        ('key = "betas"', 'axes = ["voxel"]', "'voxels'"),
    ],
)
def test_a_study_file_that_does_not_fit_tables_is_refused(table_study: Any, old: str, new: str, said: str) -> None:
    table_study.edit((old, new))
    with pytest.raises(InputError, match=re.escape(said)):
        load_study(table_study.file)


def test_regions_of_images_still_need_an_image(tiny_study: Any) -> None:
    tiny_study.edit(('image = "rois.nii.gz", table', "table"))
    with pytest.raises(InputError, match="expected one of image, masks and centers, got none of them"):
        load_study(tiny_study.file)


def test_check_names_what_is_wrong_with_a_table(table_study: Any) -> None:
    own = table_study.folder / "sub-02"
    cube, items, regions = read_cube(table_study.folder, "02")
    assert list_problems(table_study) == ""
    write_mat(own / "betas.mat", cube[..., :2])
    assert "'02': expected 3 repetitions, as other participants have, got 2" in list_problems(table_study)
    write_mat(own / "betas.mat", cube[1:])
    assert "expected 8 items and 168 voxels" in list_problems(table_study)
    assert "got an array of 7 x 168 x 3" in list_problems(table_study)
    lost = cube.copy()
    lost[:, :, 2] = np.nan
    write_mat(own / "betas.mat", lost)
    assert "for any item in repetition 3" in list_problems(table_study)
    write_mat(own / "betas.mat", cube)
    pd.DataFrame({"stimulus_id": ["cow", *items[1:]]}).to_csv(own / "items.tsv", sep="\t", index=False)
    assert "'cow'" in list_problems(table_study)
    pd.DataFrame({"stimulus_id": [items[1], *items[1:]]}).to_csv(own / "items.tsv", sep="\t", index=False)
    assert f"participant 02: {own}/betas.mat betas: expected each item once" in list_problems(table_study)
    pd.DataFrame({"stimulus_id": items}).to_csv(own / "items.tsv", sep="\t", index=False)
    pd.DataFrame({"roi": regions[1:]}).to_csv(own / "voxels.tsv", sep="\t", index=False)
    assert "8 items and 167 voxels" in list_problems(table_study)
    table_study.edit(('key = "betas"\n', ""))
    assert "betas (8 x 168 x 3), t_values (8 x 168 x 3); name one as key" in list_problems(table_study)


def test_voxels_of_tables_are_screened_and_repetitions_may_be_files(table_study: Any, of_images: Path) -> None:
    for participant in PEOPLE:
        own = table_study.folder / f"sub-{participant}"
        cube, _, _ = read_cube(table_study.folder, participant)
        for k in (1, 2, 3):
            np.save(own / f"betas_run-{k}.npy", cube[..., k - 1])
    table_study.edit(("betas.mat", "betas_run-{run}.npy"), ('key = "betas"\n', ""))
    table_study.run()
    wanted, found = read_tables(of_images), read_tables(table_study.out)
    pd.testing.assert_frame_equal(found["group/scores.tsv"], wanted["group/scores.tsv"], rtol=1e-6, atol=1e-9)
    table_study.edit(("[rsa]", "screen = { reliability = 0.2 }\n\n[rsa]"))
    table_study.run()
    counts = read_tables(table_study.out)["sub-01/func/sub-01_task-tiny_desc-voxels_counts.tsv"]
    assert (counts["dropped_unreliable"] > 0).all()


def test_check_names_the_runs_that_a_column_of_the_table_tells_and_counts_many(table_study: Any) -> None:
    own = table_study.folder
    for participant in PEOPLE:
        cube, items, _ = read_cube(own, participant)
        write_mat(own / f"sub-{participant}" / "betas.mat", np.concatenate([cube[..., k] for k in range(3)]))
        rows = pd.DataFrame({"stimulus_id": items * 3, "run": np.repeat(["r1", "r2", "r10"], len(items))})
        rows.to_csv(own / f"sub-{participant}" / "items.tsv", sep="\t", index=False)
    many = read_cube(own, "03")[1]
    (own / "sub-03" / "items.tsv").unlink()
    pd.DataFrame({"stimulus_id": many * 15, "run": np.repeat(np.arange(1, 16), len(many))}).to_csv(
        own / "sub-03" / "items.tsv", sep="\t", index=False
    )
    cube = read_cube(own, "03")[0]
    write_mat(own / "sub-03" / "betas.mat", np.concatenate([cube[..., k % 3] + k for k in range(15)]))
    table = check_study(Context(load_study(table_study.file))).table
    assert table["runs"].tolist() == ["r1, r2, r10", "r1, r2, r10", "15: 1, 2 ... 15"]
