"""The examples of the command reference run as they stand, one after the other, in the folder of the demo."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainmap.study import demo as demos
from tests.docs import folders
from tests.docs.blocks import EXAMPLES, join_lines
from tests.docs.shell import Shell

pytestmark = pytest.mark.slow
ELSEWHERE = {
    "demo": "the wheel's demo runs in .ci/run",
    "explore": "it serves until it is stopped; its own tests ask it",
    "rsa encode-stories": "the demo has no stories; docs/encoding.md runs it",
    "rsa rdm-stories": "the demo has no stories; its own tests run it",
}


def load_small_mask() -> nib.Nifti1Image:
    """The voxels of the demo's brain that lie near its regions, which is a sixth of them."""
    from scipy.ndimage import binary_dilation

    whole = demos.load_demo_mask()
    near = binary_dilation(np.any(list(demos.build_demo_regions(whole).values()), axis=0))
    return nib.Nifti1Image(np.asarray(whole.dataobj) * near, whole.affine)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the examples are typed: the quick demo, one participant of it as BOLD too."""
    folder = tmp_path_factory.mktemp("examples") / "demo-study"
    mask = load_small_mask()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demos, "load_demo_mask", lambda: mask)
        demos.write_demo(folder, replace(demos.DemoSettings.quick(), bold=True))
    folders.write_network(folder)
    folders.write_classes(folder / "speech_commands")
    return folder


def test_the_examples_of_all_commands_run_one_after_the_other(demo: Path, shell: Shell) -> None:
    ran = [example for name, example in EXAMPLES.items() if name not in ELSEWHERE]
    wrong = shell.run([line for example in ran for line in join_lines(example["run"])], demo)
    assert not wrong, "\n".join(wrong)
    named = {word for example in ran for word in re.findall(r"(?:--out|--figure|--wav) '?([\w.-]+)'?", example["run"])}
    files = {file for file in named if "{" not in file and "$" not in file}
    assert [file for file in sorted(files) if not any(demo.glob(f"{file}*"))] == []
