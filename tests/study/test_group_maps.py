"""Group maps of a study: the correction it asks for, layers against layers, their files and their place on the page."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from brainmap import rsa

PLAIN = "radius_mm = 6.0\n"
TFCE = 'radius_mm = 6.0\ngroup = { correction = "tfce", neighbors = 26, differences = [["conv3", "conv1"]] }\n'


def maps_of(study: Any, desc: str, stat: str) -> Any:
    (path,) = (study.out / "group").glob(f"*_desc-{desc}_stat-{stat}_statmap.nii.gz")
    return np.asarray(rsa.load_image(path).dataobj), json.loads(
        path.with_name(path.name.replace(".nii.gz", ".json")).read_text()
    )


@pytest.mark.slow
def test_tfce_and_differences_are_what_the_library_gives_and_end_on_the_page(finished: Any) -> None:
    finished.edit((PLAIN, TFCE))
    assert finished.run(page=True) == {"maps", "group_maps", "report"}
    lists = {
        layer: [
            next(finished.out.glob(f"sub-{who}/func/*_desc-nettrained{layer}_stat-spearman_statmap.nii.gz"))
            for who in ("01", "02", "03")
        ]
        for layer in ("conv1", "conv3", "output")
    }
    wanted = rsa.group_test(
        lists, correction="tfce", neighbors=26, contrasts=[("conv3", "conv1")], rois=finished.folder / "rois.nii.gz"
    )
    for layer in lists:
        for stat, images in (("tfce", wanted.enhanced), ("pfwe", wanted.p_corrected), ("mean", wanted.mean)):
            found, about = maps_of(finished, f"nettrained{layer}", stat)
            np.testing.assert_allclose(found, np.asarray(images[layer].dataobj), rtol=1e-6)
            assert (about["Correction"], about["SignFlips"], about["SmallestP"]) == ("tfce", 8, 0.125)
    found, about = maps_of(finished, "nettrainedconv3minusconv1", "tfce")
    np.testing.assert_allclose(found, np.asarray(wanted.differences.enhanced["conv3 - conv1"].dataobj), rtol=1e-6)
    assert about["Layer"] == "conv3 - conv1"
    assert np.isnan(maps_of(finished, "nettrainedconv1", "thresholded")[0]).all()  # 8 flips: nothing under .05
    slugs = pd.read_csv(finished.out / "maps.tsv", sep="\t")["slug"].tolist()
    assert {"nettrainedconv3minusconv1", "tfce", "thresholded"} <= set(slugs)
    clusters = pd.read_csv(finished.out / "group" / "clusters.tsv", sep="\t")
    assert {"tfce", "peak_roi", "rois"} <= set(clusters.columns)
    assert (finished.out / "group" / "difference_clusters.tsv").exists()
    page = (finished.out / "report.html").read_text()
    assert "Where layers differ" in page
    assert "Significant nowhere: conv3 \N{MINUS SIGN} conv1" in page
    assert "threshold-free cluster enhancement" in page
    assert finished.run(page=True) == set()
    finished.edit((TFCE, PLAIN))
    finished.run()
    left = {path.name for path in (finished.out / "group").iterdir()}
    assert not any("minus" in name or "tfce" in name or "difference_clusters" in name for name in left)


def test_few_participants_are_told_that_nothing_can_be_significant(
    finished: Any, caplog: pytest.LogCaptureFixture
) -> None:
    finished.edit((PLAIN, 'radius_mm = 6.0\ngroup = { correction = "cluster-mass", cluster_p = 0.05 }\n'))
    finished.run()
    (line,) = [r.getMessage() for r in caplog.records if "nothing can be significant" in r.getMessage()]
    assert "with 3 participants no p is under 0.125" in line
    assert maps_of(finished, "nettrainedconv3", "mass")[0].shape == maps_of(finished, "nettrainedconv3", "t")[0].shape


@pytest.mark.parametrize(
    ("group", "said"),
    [
        ('{ differences = [["conv3", "conv11"]] }', "'conv11' is no layer of a network"),
        ('{ differences = [["conv3", "conv3"]] }', "expected pairs of two layers"),
        ('{ differences = [["conv3", "conv1"], ["conv1", "conv3"]] }', "each pair once"),
        ('{ correction = "tcfe" }', "did you mean 'tfce'"),
        ("{ neighbors = 8 }", "expected 6, 18 or 26"),
        ("{ cluster_p = 0.7 }", "cluster_p: expected a number below 0.5"),
    ],
)
def test_a_group_test_that_cannot_be_is_refused_by_check(
    tiny_study: Any, lines_of: Callable[..., tuple[int, list[str], list[str]]], group: str, said: str
) -> None:
    tiny_study.edit((PLAIN, f"{PLAIN}group = {group}\n"))
    code, _, errors = lines_of("check", tiny_study.file)
    assert code == 2
    assert any(said in line for line in errors), errors


def test_the_page_draws_differences_that_are_significant_and_names_the_others(tmp_path: Any) -> None:
    from nibabel import Nifti1Image

    from brainmap.viz.page.content import NetworkMaps, ReportContent
    from brainmap.viz.page.write import write_report

    affine = np.array([[6.0, 0, 0, -60], [0, 6, 0, -80], [0, 0, 6, -40], [0, 0, 0, 1]])
    values = np.zeros((20, 22, 18), np.float32)
    values[3:5, 9:12, 7:9], values[15:17, 9:12, 7:9] = 0.2, -0.3
    p = np.where(values != 0, 0.01, 1).astype(np.float32)
    image = Nifti1Image(values, affine)
    maps = NetworkMaps(
        means={"conv2": Nifti1Image(np.abs(values), affine)},
        differences={"conv4 - conv2": image, "conv4 - conv3": image},
        p_differences={"conv4 - conv2": Nifti1Image(p, affine), "conv4 - conv3": Nifti1Image(p * 0 + 1, affine)},
    )
    content = ReportContent(
        title="two layers",
        map_measure="spearman",
        maps={"net": maps},
        difference_clusters=pd.DataFrame({"layer": ["conv4 - conv2"], "x": [-42.0], "peak_roi": ["A1"], "p": [0.01]}),
    )
    page = write_report(content, tmp_path / "page.html").read_text()
    (drawn,) = (tmp_path / "figures").glob("difference-*.png")
    assert "conv2" in drawn.name
    assert drawn.stat().st_size > 10_000
    assert "Significant nowhere: conv4 \N{MINUS SIGN} conv3." in page
    assert "Clusters of the differences" in page
