"""`[study] grid_tolerance`: grids that are taken for one, by check, by run and on workers."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from brainmap import rsa
from brainmap.errors import BrainmapWarning, InputError
from brainmap.study.run import Context, check_study, run_study
from brainmap.study.settings.study import load_study
from brainmap.study.settings.template import TEMPLATE

WIDER = ("[study]\n", "[study]\ngrid_tolerance = 0.05\n")
SHORT = (
    ("[searchlight]\nradius_mm = 6.0\n", ""),
    ("[explain]\nmaximization = { steps = 2, classes = 2, channels = 1, best_layers = 1, judges = 'none' }\n", ""),
)


def shift_mask(study: Any, mm: float = 0.06) -> None:
    """Move the mask of participant 03 by a fiftieth of a voxel."""
    path = study.folder / "sub-03" / "mask.nii.gz"
    image = nib.load(path)
    affine = image.affine.copy()
    affine[0, 3] += mm
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), path)


def problems(study: Any) -> tuple[str, ...]:
    return check_study(Context(load_study(study.file))).problems


@pytest.mark.slow
def test_a_study_says_how_far_grids_may_lie_apart(tiny_study: Any) -> None:
    shift_mask(tiny_study)
    assert any("corners up to 0.06 mm apart" in line for line in problems(tiny_study))
    with pytest.raises(InputError, match="apart"):
        run_study(Context(load_study(tiny_study.file)))
    tiny_study.edit(WIDER, *SHORT)
    found = check_study(Context(load_study(tiny_study.file)))
    assert found.problems == ()
    assert any("less than 0.05 of a voxel apart count as equal" in note for note in found.notes)
    assert {"sub-03_rois", "group_rois"} <= tiny_study.run()
    with pytest.raises(InputError, match="apart"):  # nothing is left in force
        rsa.check_same_grid(nib.load(tiny_study.betas("03", 1)), nib.load(tiny_study.folder / "sub-03/mask.nii.gz"))


def test_the_command_line_comes_before_the_study_file(tiny_study: Any, brainmap_command: Any) -> None:
    shift_mask(tiny_study)
    assert brainmap_command("--grid-tolerance", "0.05", "check", tiny_study.file).code == 0
    tiny_study.edit(WIDER)
    assert brainmap_command("check", tiny_study.file).code == 0
    answer = brainmap_command("--grid-tolerance", "0.01", "check", tiny_study.file)
    assert answer.code == 2
    assert "apart" in answer.err


def test_a_tolerance_of_half_a_voxel_is_refused(tiny_study: Any) -> None:
    tiny_study.edit(("[study]\n", "[study]\ngrid_tolerance = 0.5\n"))
    with pytest.raises(InputError, match=r"\[study\] grid_tolerance: expected a number below 0\.5, got 0\.5"):
        load_study(tiny_study.file)


def test_the_template_shows_the_key_with_its_default() -> None:
    line = next(line for line in TEMPLATE.splitlines() if "grid_tolerance" in line)
    assert tomllib.loads(line.removeprefix("# ")) == {"grid_tolerance": rsa.images.files.GRID_TOLERANCE}


def test_none_leaves_the_tolerance_that_is_in_force() -> None:
    near, far = (nib.Nifti1Image(np.zeros((2, 2, 2), "f4"), np.diag([1.0, 1, 1, 1])) for _ in range(2))
    far.affine[0, 3] = 0.03
    with rsa.grid_tolerance(0.05), rsa.grid_tolerance(None), pytest.warns(BrainmapWarning, match="less than 0.05"):
        rsa.check_same_grid(far, near)


def test_a_mask_that_alone_is_displaced_is_accused_in_one_line(tiny_study: Any) -> None:
    shift_mask(tiny_study, 3.0)
    (line,) = problems(tiny_study)
    assert line.startswith("participant 03: mask: grid ")
    assert "corners up to 3 mm apart; all other images of the participant agree (" in line
    assert "so that mask.nii.gz is out of place" in line


def test_an_image_that_alone_is_displaced_is_accused_itself(tiny_study: Any) -> None:
    path = Path(tiny_study.betas("03", 1))
    image = rsa.load_image(path)
    affine = image.affine.copy()
    affine[0, 3] += 3.0
    labels = rsa.sub_brick_labels(image)
    rsa.save_image(nib.Nifti1Image(np.asarray(image.dataobj), affine), path, labels=labels, overwrite=True)
    (line,) = [line for line in problems(tiny_study) if "apart" in line]
    assert "differs from the mask's grid" in line
    assert path.name in line
