"""Maps of participants, and maps on the cortex: what is told of a place equals what the study wrote."""

from __future__ import annotations

import gzip
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from brainmap import rsa
from brainmap.errors import InputError
from brainmap.explore.commands import run_command
from brainmap.explore.cortex import load_shown_mesh
from brainmap.explore.maps import Maps, MapStack
from brainmap.explore.sources import Source, open_source
from tests.conftest import TinyStudy

LAYERS = ("conv1", "conv3", "output")
PEOPLE = ("01", "02", "03")


@pytest.fixture(scope="module")
def native(native_results: TinyStudy) -> Source:
    return open_source(study=str(native_results.file))


@pytest.fixture(scope="module")
def surface(surface_results: TinyStudy) -> Source:
    return open_source(study=str(surface_results.file))


def ask(source: Source, command: str, **given: str) -> dict[str, Any]:
    found = run_command(source, command, given)
    assert isinstance(found, dict)
    return found


def own_map(study: TinyStudy, participant: str, layer: str, hemi: str = "") -> str:
    where = f"{hemi}_space-small" if hemi else "space-native"
    ending = "func.gii" if hemi else "nii.gz"
    slug = f"desc-nettrained{layer}_stat-spearman_statmap"
    return str(study.out / f"sub-{participant}/func/sub-{participant}_task-tiny_{where}_{slug}.{ending}")


@pytest.mark.parametrize(
    ("space", "own", "background", "said"),
    [
        ("MNI152NLin6Asym", "", "template", ""),
        ("TLRC", "", "mask", "in the space 'TLRC' (Talairach), whose brain is smaller than the MNI152 template"),
        ("TT_N27", "native", "scored", "Coordinates are Talairach coordinates."),
        ("MNI_ANAT", "", "mask", "'MNI_ANAT', which by its name is not that of MNI152"),
        ("native", "", "mask", ""),
    ],
)
def test_mni152_lies_behind_maps_in_its_space_alone_and_other_spaces_are_told(
    space: str, own: str, background: str, said: str
) -> None:
    person: Any = SimpleNamespace(label="01", brain=SimpleNamespace(space=own or space, on_surface=False))
    context: Any = None
    maps = Maps(context, [person], None, [])
    first = nib.Nifti1Image(np.where(np.arange(24).reshape(2, 3, 4) < 5, np.nan, 1.0).astype("f4"), np.eye(4))
    maps.__dict__.update(space=space, why_none="", mapped=[], rois=None, first=first)
    found = maps.describe()
    assert found["background"] == background
    assert (found["ground"] == "") if not said else (said in found["ground"])
    if background == "scored":
        ground = nib.Nifti1Image.from_bytes(gzip.decompress(maps.read_background()))
        assert np.array_equal(ground.get_fdata() > 0, np.isfinite(first.get_fdata()))


@pytest.mark.slow
def test_participants_without_a_common_space_have_maps_of_their_own(native: Source, native_results: TinyStudy) -> None:
    group = ask(native, "brain")
    assert "choose a participant" in group["why"]
    assert group["people"] == list(PEOPLE)
    own = ask(native, "brain", person="02")
    assert (own["why"], own["surface"], own["background"]) == ("", False, "mask")
    assert own["maps"] == [{"network": "net", "layer": layer} for layer in LAYERS]
    found = ask(native, "voxel", mm="-3,0,-3", person="02")
    for row, layer in zip(found["rows"], LAYERS, strict=True):
        image: Any = nib.load(own_map(native_results, "02", layer))
        assert row["mean"] == pytest.approx(float(np.asarray(image.dataobj)[2, 3, 2]), abs=1e-6)
        assert (row["n"], row["error"], row["p"]) == (1, None, None)
    assert found["region"] == "belt"
    assert found["notes"] == ["No noise ceilings here: they are of the group."]
    body, _ = run_command(native, "brainmap", {"network": "net", "layer": "conv3", "stat": "score", "person": "02"})
    assert isinstance(body, bytes)
    shown = nib.Nifti1Image.from_bytes(gzip.decompress(body)).get_fdata()
    wanted: Any = nib.load(own_map(native_results, "02", "conv3"))
    assert np.allclose(shown, np.nan_to_num(np.asarray(wanted.dataobj)), atol=1e-6)
    ground, _ = run_command(native, "background", {"person": "02"})
    assert isinstance(ground, bytes)
    assert (nib.Nifti1Image.from_bytes(gzip.decompress(ground)).get_fdata() > 0).sum() == 6 * 7 * 4  # the mask
    region = ask(native, "region", region="belt", person="02")
    assert [row["n"] for row in region["rows"]] == [1, 1, 1]
    rdms = ask(native, "rdms", region="belt", network="net", layer="conv1", person="02")
    assert rdms["participants"] == 1
    for given in ({"mm": "-3,0,-3"}, {"mm": "-3,0,-3", "person": "04"}):
        with pytest.raises(InputError):
            run_command(native, "voxel", given)


@pytest.mark.slow
def test_a_vertex_shows_the_scores_of_the_maps(surface: Source, surface_results: TinyStudy) -> None:
    about = ask(surface, "brain")
    assert (about["why"], about["surface"], about["space"]) == ("", True, "small")
    for side, first in (("left", 0), ("right", 90)):
        found = ask(surface, "vertex", vertex=f"{side}:11")
        assert found["region"] == f"{side}-up"
        for row, layer in zip(found["rows"], LAYERS, strict=True):
            maps = [
                rsa.load_surface(own_map(surface_results, p, layer, "hemi-{hemi}")).values[first + 11, 0]
                for p in PEOPLE
            ]
            assert row["mean"] == pytest.approx(np.mean(maps), abs=1e-6)
            assert row["error"] == pytest.approx(np.std(maps, ddof=1) / np.sqrt(3), abs=1e-6)
            group = surface_results.out / f"group/task-tiny_hemi-{{hemi}}_space-small_desc-nettrained{layer}_stat-"
            p = rsa.load_surface(f"{group}pfwe_statmap.func.gii").values[first + 11, 0]
            assert row["p"] == pytest.approx(float(p), abs=1e-6)
            shown = ask(surface, "brainmap", network="net", layer=layer, stat="mean")["values"]
            assert shown[first + 11] == pytest.approx(np.mean(maps), abs=1e-5)
    assert ask(surface, "vertex", vertex="left:3")["rows"] == []  # it has no data
    assert len(ask(surface, "vertex", vertex="left:11", person="01")["rows"]) == 3
    for name, place in about["places"].items():
        assert ask(surface, "vertex", vertex=place)["region"] == name


@pytest.mark.slow
def test_the_mesh_is_that_of_the_study(surface: Source, surface_results: TinyStudy) -> None:
    found = ask(surface, "mesh")
    mesh = rsa.load_mesh(str(surface_results.folder / "{hemi}.mid.surf.gii"))
    assert np.allclose(found["points"], mesh.points, atol=1e-4)
    assert np.array_equal(found["triangles"], mesh.triangles)
    for vertex in ("left:90", "middle:1", "right:-1", "left"):
        with pytest.raises(InputError, match="expected left:0 to left:89 or right:0 to right:89"):
            run_command(surface, "vertex", {"vertex": vertex})
    with pytest.raises(InputError, match="choose a vertex"):
        run_command(surface, "voxel", {"mm": "0,0,0"})


def test_fsaverage_is_shown_inflated_with_its_sulci() -> None:
    mesh, gyri = load_shown_mesh("fsaverage5")
    folded = rsa.load_mesh("fsaverage5")
    assert mesh.sizes == folded.sizes == (10_242, 10_242)
    assert np.array_equal(mesh.triangles, folded.triangles)
    assert gyri is not None
    assert 0.4 < gyri.mean() < 0.7


def test_maps_on_another_grid_are_refused(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("one.nii.gz", "two.nii.gz", "three.nii.gz")]
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    values[0, 0, 0] = np.nan
    for path, change in zip(paths, (0, 1, 0), strict=True):
        affine = np.diag([3.0, 3.0, 3.0, 1.0])
        affine[0, 3] = change
        nib.save(nib.Nifti1Image(values, affine), path)
    stack = MapStack.read([paths[0], paths[2]], deciding=1)
    assert stack.numbers[:3].tolist() == [-1, 0, 1]
    assert stack.at(int(stack.numbers[23])).tolist() == [23, 23]
    with pytest.raises(InputError, match=r"two\.nii\.gz"):
        MapStack.read(paths, deciding=1)
