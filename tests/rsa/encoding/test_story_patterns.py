"""Patterns of windows of stories: means of scans, planted geometry, and no geometry of time alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from brainmap import rsa
from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.encoding.scans import zscore
from tests.rsa.encoding.test_stories import smooth

Array = NDArray[Any]
T_R, WINDOW, SCANS, LAG = 2.0, 10.0, 65, 6.0
STORIES = ("fox", "hen", "owl", "ram")


class Windows:
    """Features of windows that do not overlap, of two layers."""

    network, layers = "net", ("conv1", "conv2")

    def __init__(self, layers: dict[str, Array], *, hop: float = WINDOW, window: float = WINDOW) -> None:
        n = len(layers["conv1"]) // len(STORIES)
        rows = [(story, hop * k, window) for story in STORIES for k in range(n)]
        self.table = pd.DataFrame(rows, columns=["sound", "onset", "duration"])
        self.items = tuple(f"{story}@{onset:g}" for story, onset, _ in rows)
        self.conditions = tuple(self.table["sound"])
        self._layers = layers

    def __getitem__(self, layer: str) -> Array:
        return self._layers[layer]

    def __iter__(self) -> Any:
        return iter(self.layers)


def make_windows(rng: np.random.Generator, n: int = 12) -> Windows:
    return Windows({name: rng.normal(size=(n * len(STORIES), 30)) for name in Windows.layers})


def respond(acts: Windows, layer: str, rng: np.random.Generator, *, noise: float, voxels: int = 40) -> dict[str, Array]:
    """Responses that hold each window's pattern, `LAG` later, in slow noise."""
    weights, found = rng.normal(size=(30, voxels)), {}
    for story in STORIES:
        x = acts[layer][acts.table["sound"] == story] @ weights
        place = np.floor((np.arange(SCANS) * T_R - LAG) / WINDOW).astype(int)
        signal = np.where((place >= 0)[:, None] & (place < len(x))[:, None], x[np.clip(place, 0, len(x) - 1)], 0.0)
        found[story] = signal / signal.std() + noise * smooth(rng, SCANS, voxels, 9)
    return found


def test_patterns_are_means_of_the_scans_that_follow_a_window() -> None:
    rng = np.random.default_rng(0)
    acts = make_windows(rng)
    bold = {story: [rng.normal(size=(SCANS, 3)) for _ in range(2)] for story in STORIES}
    bold["ram"] = [one[:60] for one in bold["ram"]]  # 120 s, as the sound: the response to its end is not measured
    with pytest.warns(
        BrainmapWarning, match=r"1 of 48 windows have no pattern \(NaN\), because what follows them by 6 s"
    ):
        data = rsa.story_patterns(acts, bold, t_r=T_R, lag=LAG, high_pass=None, participant="03")
    table = pd.DataFrame({name: data.obs_descriptors[name] for name in ("stimulus_id", "condition", "run")})
    assert len(table) == 96
    wanted = zscore(bold["hen"][1])[13:18].mean(axis=0)  # 20 to 30 s of sound: scans at 26 to 34 s
    row = table[(table["stimulus_id"] == "hen@20") & (table["run"] == "2")].index[0]
    np.testing.assert_allclose(data.measurements[row], wanted)
    lost = table[np.isnan(data.measurements).any(axis=1)]
    assert lost["stimulus_id"].tolist() == ["ram@110"] * 2


def test_the_planted_layer_has_the_geometry_between_stories(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    acts = make_windows(rng)
    bold = respond(acts, "conv2", rng, noise=0.5)
    data = rsa.story_patterns(acts, bold, t_r=T_R, lag=LAG)
    brain = rsa.leave_out_pairs_within(rsa.compute_rdms(data))
    layers = rsa.compute_rdms(acts)
    scores = rsa.compare_rdms(layers, brain, measure="spearman")[:, 0]
    assert scores[1] > 0.3 > abs(scores[0]) + 0.15
    with pytest.warns(BrainmapWarning, match="8 of 48 windows have no pattern"):
        late = rsa.story_patterns(acts, bold, t_r=T_R, lag=LAG + 20)  # of other windows
    wrong = rsa.compare_rdms(layers, rsa.leave_out_pairs_within(rsa.compute_rdms(late)), measure="spearman")
    assert abs(wrong[1, 0]) < 0.15
    tested = rsa.relabeling_test(layers, brain, measure="spearman", permutations=300, rng=rng)
    assert tested["p"].tolist()[1] == 1 / (24 * 12)  # 4 stories exchanged, 12 rotations alike in all
    assert "4 whole stories exchanged, their 12 windows rotated alike in all" in tested.attrs["note"]
    rsa.save_rdms(brain, tmp_path / "brain.h5")
    again = rsa.relabeling_test(layers, rsa.load_rdms(tmp_path / "brain.h5"), measure="spearman", permutations=300)
    assert again["p"].tolist() == tested["p"].tolist()
    twice = {story: [x, x + 0.5 * rng.normal(size=x.shape)] for story, x in bold.items()}
    crossed = rsa.compute_rdms(rsa.story_patterns(acts, twice, t_r=T_R, lag=LAG), dissimilarity="crossnobis")
    assert rsa.compare_rdms(layers, rsa.leave_out_pairs_within(crossed), measure="spearman")[1, 0] > 0.3


def simulate_slow_noise(seed: int, high_pass: float | None) -> tuple[Any, Any]:
    """RDMs of two unrelated layers whose features change slowly, as those of speech do, and of slow noise."""
    rng = np.random.default_rng(seed)
    slow = {name: np.concatenate([smooth(rng, 12, 30, 3) for _ in STORIES]) for name in Windows.layers}
    acts, bold = Windows(slow), {story: smooth(rng, SCANS, 40, 12) for story in STORIES}
    return rsa.compute_rdms(acts), rsa.compute_rdms(
        rsa.story_patterns(acts, bold, t_r=T_R, lag=LAG, high_pass=high_pass)
    )


@pytest.mark.slow
@pytest.mark.parametrize("high_pass", [None, 120.0])
def test_relabelings_of_windows_keep_their_level_on_slow_noise(high_pass: float | None) -> None:
    p, free = [], []
    for seed in range(400):
        layers, brain = simulate_slow_noise(seed, high_pass)
        between = rsa.leave_out_pairs_within(brain)
        given: dict[str, Any] = {"measure": "spearman", "permutations": 300}
        p.append(rsa.relabeling_test(layers, between, **given)["p"].tolist())
        del between.pattern_descriptors["onset"]  # windows as tokens without an order
        free.append(
            rsa.relabeling_test(layers, between, **{**given, "permutations": 99}, rng=np.random.default_rng(seed))["p"]
        )
    rate = np.mean(np.array(p) <= 0.05, axis=1)  # layers of one simulation share its brain
    assert rate.mean() <= 0.05 + 2 * rate.std(ddof=1) / np.sqrt(400)
    if high_pass is None:
        assert np.mean(np.array(free) <= 0.05) > 0.1  # why windows are rotated, and keep their neighbors


def test_windows_of_one_story_are_alike_in_time_and_those_of_different_stories_are_not() -> None:
    scores: dict[str, list[float]] = {"within": [], "between": []}
    for seed in range(24):
        layers, brain = simulate_slow_noise(seed, None)
        between = rsa.leave_out_pairs_within(brain)
        within = brain.copy()
        within.dissimilarities[np.isfinite(between.dissimilarities)] = np.nan
        for which, one in (("within", within), ("between", between)):
            scores[which].append(float(rsa.compare_rdms(layers, one, measure="spearman").mean()))
    assert np.mean(scores["within"]) > 0.3  # where nothing is related
    assert abs(np.mean(scores["between"])) < 3 * np.std(scores["between"]) / np.sqrt(24)


@pytest.mark.parametrize(
    ("given", "asked", "message"),
    [
        ({"hop": 5.0}, {}, "windows that do not overlap, got some of 'fox' that share 5 s"),
        ({"window": 1.0}, {}, r"windows of 2 s \(the time between scans\) or more, got 1 s in 'fox'"),
        ({}, {"lag": 500.0}, "expected scans 500 s after the windows, got none; take a shorter lag"),
    ],
)
def test_windows_that_do_not_fit_are_refused(given: dict[str, float], asked: dict[str, Any], message: str) -> None:
    rng = np.random.default_rng(2)
    acts = Windows({name: rng.normal(size=(48, 4)) for name in Windows.layers}, **given)
    bold = {story: rng.normal(size=(SCANS, 3)) for story in STORIES}
    with pytest.raises(InputError, match=message):
        rsa.story_patterns(acts, bold, t_r=T_R, **asked)


def test_pairs_are_left_out_by_a_descriptor_that_items_have() -> None:
    rdms = rsa.compute_rdms(make_windows(np.random.default_rng(3)))
    found = rsa.leave_out_pairs_within(rdms)
    assert np.isnan(found.dissimilarities[0]).sum() == 4 * 12 * 11 // 2
    assert not np.isnan(rdms.dissimilarities).any()
    with pytest.raises(InputError, match="expected items with 'speaker'"):
        rsa.leave_out_pairs_within(rdms, by="speaker")


def test_the_command_writes_the_rdms_of_the_library(tmp_path: Path, brainmap_command: Any) -> None:
    import soundfile
    import torch
    from torch import nn

    from brainmap.features.activations.extract import extract_activations
    from brainmap.features.activations.stored import open_activations
    from brainmap.features.sounds.files import load_sounds

    rng = np.random.default_rng(4)
    for story in STORIES:
        soundfile.write(tmp_path / f"{story}.wav", 0.1 * rng.normal(size=1_000 * 120), 1_000)
    files = {"stimulus_id": STORIES, "condition": STORIES, "path": [f"{name}.wav" for name in STORIES]}
    pd.DataFrame(files).to_csv(tmp_path / "stories.tsv", sep="\t", index=False)
    with torch.random.fork_rng():
        net = nn.Sequential(nn.Conv1d(1, 3, 9, stride=8), nn.ReLU())
    sounds = load_sounds(str(tmp_path / "stories.tsv"), rate=1_000, seconds=1.0, level="none")
    extract_activations(net, sounds, layers=["0"], window=10.0, hop=10.0, store=tmp_path / "net.zarr").close()
    mask = nib.Nifti1Image(np.ones((4, 1, 1), "f4"), np.eye(4))
    nib.save(mask, tmp_path / "mask.nii.gz")
    for story in STORIES:
        image = nib.Nifti1Image(rng.normal(size=(4, 1, 1, SCANS)).astype("f4"), np.eye(4))
        image.header.set_zooms((1, 1, 1, T_R))
        image.header.set_xyzt_units("mm", "sec")
        nib.save(image, tmp_path / f"{story}.nii.gz")
    given = (
        *("rsa", "rdm-stories", "--activations", tmp_path / "net.zarr", "--bold", f"{tmp_path}/{{sound}}.nii.gz"),
        *("--mask", tmp_path / "mask.nii.gz", "--lag", "6", "--out", tmp_path / "brain.h5"),
    )
    answer = brainmap_command(*given)
    assert answer.code == 0, answer.err
    assert "1 RDM of 48 windows of 4 stories, pairs between stories, correlation" in answer.out
    data = rsa.load_stories(f"{tmp_path}/{{sound}}.nii.gz", STORIES, mask=str(tmp_path / "mask.nii.gz"))
    acts = open_activations(tmp_path / "net.zarr")
    wanted = rsa.leave_out_pairs_within(
        rsa.compute_rdms(rsa.story_patterns(acts, data.responses, **data.settings, lag=6.0))
    )
    np.testing.assert_allclose(rsa.load_rdms(tmp_path / "brain.h5").dissimilarities, wanted.dissimilarities)
    assert np.isfinite(rsa.compare_rdms(rsa.compute_rdms(acts), wanted, measure="spearman")).all()
    again = brainmap_command(*given, "--silence=-3,0", "--overwrite")
    assert again.code == 2
    assert "--silence: expected seconds from 0, got -3,0" in again.err
