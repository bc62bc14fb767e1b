"""Studies whose data lie on the cortical surface: regions, searchlight, group maps and the page; what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.spatial import ConvexHull

from brainmap import rsa
from brainmap.errors import InputError
from brainmap.rsa import SurfaceData, surface_searchlight
from brainmap.study.parallel.shares import Unit, list_units
from brainmap.study.run import Context, check_study
from brainmap.study.settings.study import load_study

N = 90  # vertices of a hemisphere
PLACE = 11  # around it the network's geometry is planted
BRAIN = """\
[[brain]]
participants = ["01", "02", "03"]
files = "sub-{participant}/run-{run}_hemi-{hemi}.func.gii"
rois = { image = "aparc_{hemi}.label.gii" }
space = "small"

[rsa]"""


def ball(x: float) -> tuple[np.ndarray, np.ndarray]:
    """Points spread over a sphere of 20 mm, and its triangles."""
    k = np.arange(N) + 0.5
    polar, around = np.arccos(1 - 2 * k / N), np.pi * (1 + 5**0.5) * k
    points = np.c_[np.cos(around) * np.sin(polar), np.sin(around) * np.sin(polar), np.cos(polar)]
    return 20 * points + [x, 0, 0], ConvexHull(points).simplices


def write_surface(folder: Path, sounds: list[str]) -> None:
    """A mesh of two balls, two regions a hemisphere, and three runs of betas of three participants."""
    for hemi, side, x in (("L", "CortexLeft", -30.0), ("R", "CortexRight", 30.0)):
        points, triangles = ball(x)
        meta = nib.gifti.GiftiMetaData({"AnatomicalStructurePrimary": side})
        arrays = [
            nib.gifti.GiftiDataArray(points.astype("f4"), intent="NIFTI_INTENT_POINTSET", meta=meta),
            nib.gifti.GiftiDataArray(triangles.astype("i4"), intent="NIFTI_INTENT_TRIANGLE"),
        ]
        nib.save(nib.GiftiImage(darrays=arrays), folder / f"{hemi}.mid.surf.gii")
    labels = np.repeat([1, 2], N // 2)[:, None].astype("f4")
    names = {"left": {1: "up", 2: "down"}, "right": {1: "up", 2: "down"}}
    rsa.save_surface(SurfaceData(labels, labels, ("aparc",), names), folder / "aparc_{hemi}.label.gii")
    rng = np.random.default_rng(2)
    near = np.linalg.norm(ball(-30)[0] - ball(-30)[0][PLACE], axis=1) < 14
    words = np.repeat(rng.normal(size=(4, N)), 2, axis=0)  # sounds of a word are alike
    for participant in ("01", "02", "03"):
        own = folder / f"sub-{participant}"
        for run in (1, 2, 3):
            order = rng.permutation(len(sounds))
            values = rng.normal(size=(2, N, len(sounds)))
            values[0, near] += 2 * words.T[near]
            values[0, 3] = np.nan
            left, right = values[..., order].astype("f4")
            data = SurfaceData(left, right, tuple(sounds[k] for k in order))
            rsa.save_surface(data, own / f"run-{run}_hemi-{{hemi}}.func.gii")


@pytest.fixture
def surface_study(tiny_study: Any) -> Any:
    """The tiny study with its brains on two small balls."""
    text = tiny_study.file.read_text()
    text = text[: text.index("[[brain]]")] + BRAIN + text[text.index("[rsa]") + len("[rsa]") :]
    text = text.replace("radius_mm = 6.0", 'radius_mm = 18.0\nmesh = "{hemi}.mid.surf.gii"\nmetric = "geodesic"')
    tiny_study.file.write_text(text)
    sounds = pd.read_csv(tiny_study.folder / "stimuli.tsv", sep="\t")["stimulus_id"].tolist()
    write_surface(tiny_study.folder, sounds)
    return tiny_study


@pytest.mark.slow
def test_a_study_on_the_surface_runs_to_its_page(surface_study: Any) -> None:
    study = surface_study
    text = study.file.read_text()
    study.file.write_text(text[: text.index("[explain]")])  # layers are explained alike wherever the patterns lie
    stages = study.run(page=True)
    assert {"sub-01_rois", "sub-01_searchlight", "group_rois", "group_maps", "report"} <= stages
    own = study.out / "sub-01" / "func"
    maps = sorted(p.name for p in own.glob("*statmap.func.gii"))
    assert "sub-01_task-tiny_hemi-L_space-small_desc-nettrainedconv1_stat-spearman_statmap.func.gii" in maps
    assert len(maps) == 2 * 4  # three layers, and counts
    sidecar = own / "sub-01_task-tiny_space-small_desc-nettrainedconv1_stat-spearman_statmap.json"
    assert json.loads(sidecar.read_text())["Layer"] == "conv1"
    # the same numbers from Python
    files = [str(study.folder / "sub-01" / f"run-{run}_hemi-{{hemi}}.func.gii") for run in (1, 2, 3)]
    data = rsa.load_surface_patterns(files, stimuli=study.folder / "stimuli.tsv")
    expected = surface_searchlight(
        data,
        rsa.load_rdms(study.out / "rdms" / "network-net_rdms.h5"),
        radius_mm=18,
        metric="geodesic",
        mesh=str(study.folder / "{hemi}.mid.surf.gii"),
    )
    found = rsa.load_surface(str(own / maps[0].replace("hemi-L", "hemi-{hemi}")))
    name = next(name for name in expected if name.endswith("conv1"))
    np.testing.assert_allclose(found.values[:, 0], expected[name].values[:, 0], rtol=1e-6)
    assert np.isnan(found.left[3, 0])
    group = study.out / "group"
    assert len(list(group.glob("*hemi-R_space-small*stat-mean*.func.gii"))) == 3
    scores = pd.read_csv(group / "scores.tsv", sep="\t")
    assert set(scores["roi"]) == {"left-up", "left-down", "right-up", "right-down"}
    assert (group / "clusters.tsv").is_file()
    page = (study.out / "report.html").read_text()
    assert "Searchlight maps on the cortex" in page
    assert "discs on the cortical surface of 18.0 mm radius (geodesic distance" in page
    assert (study.out / "figures" / "surface-maps.png").stat().st_size > 20_000
    assert study.run(page=True) == set()


@pytest.mark.slow
def test_cifti_files_give_the_numbers_of_gifti(surface_study: Any) -> None:
    study = surface_study
    text = study.file.read_text()
    study.file.write_text(text[: text.index("[explain]")])
    study.run("01")
    wanted = {path.name: pd.read_csv(path, sep="\t") for path in study.out.rglob("sub-*.tsv")}
    own = study.out / "sub-01" / "func" / "sub-01_task-tiny_hemi-{hemi}_space-small_desc-nettrainedconv1_stat-spearman"
    one_map = rsa.load_surface(f"{own}_statmap.func.gii").values
    for participant in ("01", "02", "03"):
        for run in (1, 2, 3):
            name = study.folder / f"sub-{participant}" / f"run-{run}"
            data = rsa.load_surface(f"{name}_hemi-{{hemi}}.func.gii")
            models = [
                nib.cifti2.BrainModelAxis.from_surface(range(N), N, f"CIFTI_STRUCTURE_CORTEX_{side}")
                for side in ("LEFT", "RIGHT")
            ]
            axes = (nib.cifti2.ScalarAxis(data.labels), models[0] + models[1])
            nib.save(nib.Cifti2Image(data.values.T, axes), f"{name}.dscalar.nii")
    study.edit(("run-{run}_hemi-{hemi}.func.gii", "run-{run}.dscalar.nii"))
    assert "sub-01_searchlight" in study.run("01")
    assert len(wanted) >= 2
    for path in study.out.rglob("sub-*.tsv"):
        pd.testing.assert_frame_equal(pd.read_csv(path, sep="\t"), wanted[path.name], obj=path.name)
    np.testing.assert_array_equal(rsa.load_surface(f"{own}_statmap.func.gii").values, one_map)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('mesh = "{hemi}.mid.surf.gii"', 'mesh = "fsaverage5"', "the data have 90 vertices in the left hemisphere"),
        ('mesh = "{hemi}.mid.surf.gii"', "", "a searchlight needs its mesh"),
        ("radius_mm = 18.0", "radius_mm = 1.0", "smaller than the mean edge"),
        ("radius_mm = 18.0", "radius_mm = 9.0", "minimum_voxels = 10"),
        (
            'space = "small"',
            'space = "small"\nnoise = "residuals"',
            "noise = 'residuals' does not go with files on the",
        ),
        ("_hemi-{hemi}.func", "_hemi-L.func", "write {hemi} in their place"),
        ("aparc_{hemi}.label.gii", "aparc_{hemi}.func.gii", "no file"),
        ('metric = "geodesic"', 'metric = "geodesics"', "did you mean 'geodesic'"),
    ],
)
def test_what_does_not_fit_the_surface_is_found_by_the_check(
    surface_study: Any, old: str, new: str, message: str
) -> None:
    surface_study.edit((old, new))
    with pytest.raises(InputError) as error:
        check_study(Context(load_study(surface_study.file))).refuse()
    assert message in str(error.value)


def test_the_check_tells_vertices_and_refuses_a_study_of_both_kinds(surface_study: Any) -> None:
    context = Context(load_study(surface_study.file))
    assert list_units(context) == [Unit("01"), Unit("02"), Unit("03")]  # job arrays share out regions; merge maps discs
    findings = check_study(context)
    assert findings.problems == ()
    assert findings.table.loc[0, ["grid", "voxels", "ROIs", "patterns"]].tolist() == ["90+90", "180", 4, 24]
    volume = BRAIN.replace('"01", "02", "03"', '"04"').replace("_hemi-{hemi}.func.gii", ".nii.gz")
    surface_study.edit(("[rsa]", volume.replace("space =", 'mask = "m.nii"\nspace =')))
    with pytest.raises(InputError, match="got both; make a study of each"):
        load_study(surface_study.file)
