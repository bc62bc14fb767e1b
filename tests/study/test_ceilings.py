"""Ceilings of spheres in a study: images of the group where patterns share a grid, and a reason where they do not."""

from __future__ import annotations

import json
import logging
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from brainmap.rsa import ceiling_maps, load_patterns
from brainmap.study.run import Context
from brainmap.study.settings.study import load_study
from brainmap.study.stages import participants
from brainmap.study.stages.brains import collect_pattern_arguments
from brainmap.study.stages.ceilings import run_ceiling_maps
from brainmap.study.stages.page import read_page_content


def values(study: Any, pattern: str) -> Any:
    (path,) = study.out.glob(pattern)
    return np.asarray(nib.load(path).dataobj)


def test_ceilings_are_images_of_the_group_and_bound_the_mean_of_every_layer(tiny_results: Any) -> None:
    lower, upper = (
        values(tiny_results, f"group/*desc-searchlight_stat-{s}ceiling_statmap.nii.gz") for s in ("lower", "upper")
    )
    there = np.isfinite(lower)
    assert there.any()
    np.testing.assert_array_equal(there, np.isfinite(upper))
    assert (lower[there] <= upper[there] + 1e-6).all()
    means = list(tiny_results.out.glob("group/*trained*_stat-mean_statmap.nii.gz"))
    assert len(means) == 3
    for path in means:
        mean = np.asarray(nib.load(path).dataobj)
        both = there & np.isfinite(mean)
        assert both.any()
        assert (mean[both] <= upper[both] + 1e-5).all()  # no model's mean rank correlation can be higher
    (sidecar,) = tiny_results.out.glob("group/*stat-lowerceiling_statmap.json")
    said = json.loads(sidecar.read_text(encoding="utf-8"))
    assert (said["Measure"], said["Participants"], said["Approximate"]) == ("spearman", 3, False)
    named = pd.read_csv(tiny_results.out / "maps.tsv", sep="\t")
    assert {"lowerceiling", "upperceiling"} <= set(named.slug)
    methods = read_page_content(Context(load_study(tiny_results.file))).methods
    assert f"its lower bound reaches {np.nanmax(lower):.2f}, its upper bound {np.nanmax(upper):.2f}" in methods


def test_ceilings_are_those_of_the_patterns_with_masks_that_differ(tiny_study: Any) -> None:
    path = tiny_study.folder / "sub-03" / "mask.nii.gz"
    mask = nib.load(path)
    inside = np.asarray(mask.dataobj).copy()
    lost = tuple(np.argwhere(inside)[0])
    inside[lost] = 0
    nib.save(nib.Nifti1Image(inside, mask.affine), path)
    tiny_study.run()
    found = values(tiny_study, "group/*desc-searchlight_stat-lowerceiling_statmap.nii.gz")
    whole = np.ones(inside.shape, dtype=bool)
    whole[..., -1] = False
    data = {
        person.label: load_patterns(**collect_pattern_arguments(person), stimuli=stimuli(tiny_study))
        for person in load_study(tiny_study.file).participants()
    }
    number = np.cumsum(whole.ravel()) - 1
    mine = np.flatnonzero((whole & (inside != 0)).ravel())
    one = data["03"]
    one.channel_descriptors["voxel"] = number[mine[np.asarray(one.channel_descriptors["voxel"], int)]]
    shared = nib.Nifti1Image(whole.astype(np.uint8), mask.affine)
    maps = ceiling_maps(data, mask=shared, radius_mm=6.0, items="stimulus")
    np.testing.assert_array_equal(found, np.asarray(maps.lower.dataobj))
    assert maps.participants.min() == 2


def test_patterns_that_were_compared_are_not_read_again_for_ceilings(
    tiny_study: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    load = participants.load_normalized_patterns

    def noted(person: Any, *given: Any) -> Any:
        read.append(person.label)
        return load(person, *given)

    monkeypatch.setattr(participants, "load_normalized_patterns", noted)
    tiny_study.run()
    assert read == ["01", "02", "03"]
    wanted = values(tiny_study, "group/*desc-searchlight_stat-upperceiling_statmap.nii.gz")
    context = Context(load_study(tiny_study.file), overwrite=True)
    with monkeypatch.context() as scarce:
        scarce.setattr(participants, "find_available_memory", lambda: 0)
        participants.run_participants(context, hold=True)
    assert context.ranks == {}  # which take more than there is; patterns are there already
    assert list(context.held) == ["01", "02", "03"]
    context.held.clear()
    monkeypatch.setattr(participants, "MOST_HELD", 0)  # there is no room for any
    participants.run_participants(context, hold=True)
    assert context.held == context.ranks == {}
    run_ceiling_maps(context)
    assert read == ["01", "02", "03"] * 4
    np.testing.assert_array_equal(values(tiny_study, "group/*stat-upperceiling_statmap.nii.gz"), wanted)


def stimuli(study: Any) -> dict[str, str]:
    table = pd.read_csv(study.folder / "stimuli.tsv", sep="\t", dtype=str, keep_default_na=False)
    return dict(zip(table.stimulus_id, table.condition, strict=True))


def test_native_patterns_have_no_ceilings_of_spheres_and_it_is_said(
    tiny_study: Any, caplog: pytest.LogCaptureFixture
) -> None:
    tiny_study.edit(("MNI152Lin", "native"))
    with caplog.at_level(logging.INFO, logger="brainmap"):
        computed = tiny_study.run()
    assert "group_ceilings" not in computed
    (line,) = [r.getMessage() for r in caplog.records if "ceiling maps" in r.getMessage()]
    assert "native space, where no voxel of one is a voxel of another" in line
    assert not list(tiny_study.out.glob("group/*ceiling_statmap*"))
