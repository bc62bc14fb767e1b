"""brainmap rsa ceiling: images of the lower and upper noise ceiling, as the library gives them."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from brainmap import rsa


@pytest.fixture
def asked(tiny_inputs, tmp_path):
    own = tiny_inputs.folder / "sub-{participant}"
    runs = [part for run in (1, 2, 3) for part in ("--betas", own / f"betas_run-{run}+tlrc.HEAD")]
    people = ("--participant", "01", "--participant", "02")
    return [
        "rsa",
        "ceiling",
        *runs,
        *people,
        "--mask",
        own / "mask+tlrc.HEAD",
        "--radius",
        6,
        "--jobs",
        1,
        "--stimuli",
        tiny_inputs.folder / "stimuli.tsv",
        "--out",
        tmp_path / "ceilings.nii.gz",
    ]


@pytest.mark.parametrize("more", [(), ("--dissimilarity", "crossnobis", "--noise-per", "sphere", "--measure", "tau-a")])
def test_ceilings_are_those_of_the_library(asked, more, tiny_inputs, tmp_path, brainmap_command):
    answer = brainmap_command(*asked, *more, "--counts", tmp_path / "counts.nii.gz")
    assert answer.code == 0, answer.err
    assert "2 participants, ceilings at" in answer.out
    assert ("the upper ceiling may be too low" in answer.out) == bool(more)
    data, masks = {}, {}
    for who in ("01", "02"):
        own = tiny_inputs.folder / f"sub-{who}"
        masks[who] = own / "mask+tlrc.HEAD"
        files = [own / f"betas_run-{run}+tlrc.HEAD" for run in (1, 2, 3)]
        data[who] = rsa.load_patterns(files, mask=masks[who], stimuli=tiny_inputs.folder / "stimuli.tsv")
    how = {"dissimilarity": "crossnobis", "measure": "tau-a", "noise": "runs"} if more else {}
    wanted = rsa.ceiling_maps(data, mask=masks, radius_mm=6.0, **how)
    assert rsa.sub_brick_labels(tmp_path / "ceilings.nii.gz") == ["lower", "upper"]
    found = np.asarray(nib.load(tmp_path / "ceilings.nii.gz").dataobj)
    np.testing.assert_array_equal(found[..., 0], np.asarray(wanted.lower.dataobj))
    np.testing.assert_array_equal(found[..., 1], np.asarray(wanted.upper.dataobj))
    counts = np.asarray(nib.load(tmp_path / "counts.nii.gz").dataobj)
    np.testing.assert_array_equal(counts[..., 1], np.asarray(wanted.voxel_count.dataobj))


def test_mistakes_are_one_line(asked, tmp_path, brainmap_command):
    for change, said in (
        ({"02": "01"}, "--participant: expected each label once, got '01'"),
        ({"02": "07"}, "07"),
        ({"ceilings.nii.gz": "ceilings.txt"}, "expected a name that ends in .nii.gz or .nii"),
    ):
        ((old, new),) = change.items()
        last = str(asked[-1]).replace(old, new) if old.endswith(".gz") else asked[-1]
        answer = brainmap_command(*(new if word == old else word for word in asked[:-1]), last)
        assert answer.code == 2
        assert said in answer.err
        assert "Traceback" not in answer.err
    answer = brainmap_command(*[str(word).replace("{participant}", "01") for word in asked])
    assert answer.code == 2
    assert "put it where names differ" in answer.err
    answer = brainmap_command(*asked[:9], *asked[11:])
    assert "expected at least 2 participants, got 1" in answer.err
    answer = brainmap_command(*asked, "--shrinkage", "eye")
    assert "give --noise-per sphere too" in answer.err
