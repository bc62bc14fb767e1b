"""Windows of stories are joined to segments: means of windows, and RDMs from the features of encoding models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from brainmap import rsa
from brainmap.errors import BrainmapWarning, InputError
from tests.rsa.encoding.test_stories import HOP, T_R, Windows, make_stories, respond


def test_a_segment_is_the_mean_of_the_windows_whose_centers_lie_in_it() -> None:
    rng = np.random.default_rng(0)
    stories = {"fox": rng.normal(size=(45, 3)), "hen": rng.normal(size=(40, 3))}  # 22.5 and 20 s
    acts = Windows(stories)
    found = rsa.join_windows(acts, 5.0)
    assert found.items == (*(f"fox@{k}" for k in (0, 5, 10, 15)), *(f"hen@{k}" for k in (0, 5, 10, 15)))
    assert found.conditions == ("fox",) * 4 + ("hen",) * 4
    assert found.table["onset"].tolist() == [0.0, 5.0, 10.0, 15.0] * 2
    wanted = [x[10 * k : 10 * (k + 1)].mean(axis=0) for x in stories.values() for k in range(4)]
    np.testing.assert_allclose(found["conv1"], wanted)
    same = rsa.join_windows(acts, HOP)
    np.testing.assert_array_equal(same["conv1"], acts["conv1"])


def test_windows_that_overlap_and_end_before_the_story_does_fill_its_last_segment() -> None:
    rng = np.random.default_rng(1)
    acts = Windows({"fox": rng.normal(size=(39, 2))})
    acts.table["duration"] = 0.6  # one every 0.5 s; the last one ends at 19.6 of 20 s
    found = rsa.join_windows(acts, 10.0)
    assert found.items == ("fox@0", "fox@10")
    centers = HOP * np.arange(39) + 0.3
    np.testing.assert_allclose(found["conv1"][1], acts["conv1"][centers >= 10].mean(axis=0))
    assert rsa.join_windows(acts, 9.0).items == ("fox@0", "fox@9"), "the rest is left out"


@pytest.mark.parametrize(
    ("seconds", "change", "message"),
    [
        (0.2, {}, r"expected 0.5 s \(the length of the windows\) or more, got 0.2 s"),
        (30.0, {}, "segments of 30 s of 'fox', but it is shorter"),
        (5.0, {"onset": 11.0}, "of 'fox', but the segment at 0 s has no window"),
    ],
)
def test_what_does_not_fit_is_refused(seconds: float, change: dict[str, float], message: str) -> None:
    acts = Windows({"fox": np.zeros((40, 2))})
    acts.table = acts.table.assign(onset=acts.table["onset"] + change.get("onset", 0.0))
    with pytest.raises(InputError, match=message):
        rsa.join_windows(acts, seconds)


def test_the_features_of_an_encoding_model_give_the_geometry_that_was_planted() -> None:
    rng = np.random.default_rng(2)
    stories = make_stories(rng, n=6, units=12)
    other = make_stories(rng, n=6, units=12)
    responses = respond(stories, rng, delay=2, noise=0.3, voxels=30)
    heard, unrelated = (rsa.join_windows(Windows(one), 10.0) for one in (stories, other))
    with pytest.warns(BrainmapWarning, match="6 of 96 windows have no pattern"):  # the last of each story
        brain = rsa.story_patterns(heard, responses, t_r=T_R, lag=4.0, high_pass=None)
    geometry = rsa.leave_out_pairs_within(rsa.compute_rdms(brain))
    models = rsa.stack_rdms(
        [rsa.compute_rdms(one, descriptors={"network": name}) for name, one in (("a", heard), ("b", unrelated))]
    )
    scores = rsa.compare_rdms(models, geometry, measure="spearman")[:, 0]
    assert scores[0] > 0.4 > abs(scores[1]) + 0.2
    tested = rsa.relabeling_test(models, geometry, measure="spearman", permutations=999, rng=rng)
    assert tested["p"].tolist()[0] < 0.005


def test_the_commands_write_rdms_of_segments(tmp_path: Path, brainmap_command: Any) -> None:
    import nibabel as nib
    import soundfile
    import torch
    from torch import nn

    from brainmap.features.activations.extract import extract_activations
    from brainmap.features.activations.stored import open_activations
    from brainmap.features.sounds.files import load_sounds

    rng, names = np.random.default_rng(3), ("fox", "hen", "owl")
    for name in names:
        soundfile.write(tmp_path / f"{name}.wav", 0.1 * rng.normal(size=1_000 * 60), 1_000)
    table = pd.DataFrame({"stimulus_id": names, "condition": names, "path": [f"{name}.wav" for name in names]})
    table.to_csv(tmp_path / "stories.tsv", sep="\t", index=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)  # by chance, all but one unit may be silent
        net = nn.Sequential(nn.Conv1d(1, 5, 9, stride=8), nn.ReLU())
    sounds = load_sounds(str(tmp_path / "stories.tsv"), rate=1_000, seconds=1.0, level="none")
    extract_activations(net, sounds, layers=["0"], window=1.0, hop=0.5, store=tmp_path / "net.zarr").close()
    nib.save(nib.Nifti1Image(np.ones((4, 1, 1), "f4"), np.eye(4)), tmp_path / "mask.nii.gz")
    for name in names:
        image = nib.Nifti1Image(rng.normal(size=(4, 1, 1, 32)).astype("f4"), np.eye(4))
        image.header.set_zooms((1, 1, 1, 2.0))
        image.header.set_xyzt_units("mm", "sec")
        nib.save(image, tmp_path / f"{name}.nii.gz")
    store = ("--activations", tmp_path / "net.zarr", "--segment", "10")
    answer = brainmap_command("rsa", "rdm", *store, "--out", tmp_path / "layers.h5")
    assert answer.code == 0, answer.err
    answer = brainmap_command(
        *("rsa", "rdm-stories", *store, "--bold", f"{tmp_path}/{{sound}}.nii.gz", "--lag", "4"),
        *("--mask", tmp_path / "mask.nii.gz", "--out", tmp_path / "brain.h5"),
    )
    assert answer.code == 0, answer.err
    assert "1 RDM of 18 windows of 3 stories" in answer.out
    layers, brain = (rsa.load_rdms(tmp_path / f"{name}.h5") for name in ("layers", "brain"))
    wanted = rsa.compute_rdms(rsa.join_windows(open_activations(tmp_path / "net.zarr"), 10.0), units="zscore")
    np.testing.assert_allclose(layers.dissimilarities, wanted.dissimilarities)
    assert set(layers.pattern_descriptors["stimulus_id"]) == set(brain.pattern_descriptors["stimulus_id"])
    assert np.isfinite(rsa.compare_rdms(layers, brain, measure="spearman")).all()
    assert brainmap_command("rsa", "compare", tmp_path / "layers.h5", tmp_path / "brain.h5").code == 0
    wrong = brainmap_command("rsa", "rdm", *store[:3], "10", "--over", "time", "--out", tmp_path / "x.h5")
    assert wrong.code == 2
    assert "--segment: expected --activations of windows of stories without --over" in wrong.err
