"""A study of stories: planted layers and delays are found, nothing else is, and mistakes are told early."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from html import unescape
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from brainmap.errors import BrainmapWarning, InputError
from tests.study.runs import check_dask, check_shares, copy_study, read, remove_tables, run
from tests.study.story_inputs import PLANTED, SPEECH, write_other_kind, write_study


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four stories of 2 minutes, heard twice by two participants; to be read only."""
    changes = (
        ("permutations = 1000 ", "permutations = 39 "),
        ('controls = ["untrained"]', ""),
        ("hop = 0.5 ", "hop = 1 "),
        ('speech = ["sound-energy"]', f"speech = {SPEECH}\nwords = 'words/{{sound}}.tsv'"),
    )
    path = write_study(tmp_path_factory.mktemp("stories"), stories=4, scans=60, people=2, runs=2, changes=changes)
    assert {"network-first", "network-speech", "sub-02_stories", "group_stories"} <= run(path)
    return path


def test_planted_layers_and_delays_are_found_and_the_deaf_region_is_not_predicted(small: Path) -> None:
    table, delays = read(small, "group/stories.tsv"), read(small, "group/stories_delays.tsv")
    mine = table.set_index(["roi", "layer"])
    for roi, planted in PLANTED.items():
        if planted is None:
            assert (mine.loc[roi, "p_corrected"] > 0.05).all()
            continue
        layer, delay = planted
        assert mine.loc[roi, "mean"].idxmax() == layer
        assert mine.loc[(roi, layer), "mean"] > 0.4
        assert mine.loc[(roi, layer), "p"] == pytest.approx(1 / 40)
        own = delays[(delays["roi"] == roi) & (delays["layer"] == layer)]
        assert own.set_index("delay")["weight"].idxmax() == delay
        assert own["weight"].sum() == pytest.approx(1)


def test_repeats_give_explainable_variance_and_participants_a_ceiling(small: Path) -> None:
    table, ceilings = read(small, "group/stories.tsv"), read(small, "group/stories_ceilings.tsv").set_index("roi")
    first = table[table["layer"] == "conv2"].drop_duplicates("roi").set_index("roi")
    assert first.loc["early", "explainable_variance"] > 0.5 > abs(first.loc["deaf", "explainable_variance"])
    assert first.loc["early", "n_corrected"] == 2
    assert ceilings.loc["early", "lower"] > 0.4 > ceilings.loc["deaf", "lower"]
    assert (ceilings["upper"] > ceilings["lower"]).all()


def test_scores_are_those_of_encode_stories_on_the_same_files(small: Path) -> None:
    from brainmap import rsa
    from brainmap.features.activations.stored import open_activations

    own, names = small.parent / "sub-02", [f"story_{k}" for k in range(4)]
    acts = open_activations(small.parent / "derivatives" / "brainmap" / "features" / "network-first_features.zarr")
    rois = rsa.load_rois(str(own / "rois.nii.gz"), table=str(small.parent / "rois.tsv"))
    data = rsa.load_stories(
        f"{own}/{{sound}}_run-{{run}}_bold.nii.gz", names, mask=str(own / "mask.nii.gz"), rois=rois, targets="roi"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)
        fit = rsa.encode_stories(acts, data.responses, **data.settings, seconds=dict.fromkeys(names, 120.0))
    table = read(small, "sub-02/func/*desc-rois_stories.tsv")
    mine = table[table["network"] == "first"].reset_index(drop=True)
    for column in ("r", "r_corrected", "reliability", "alpha"):
        np.testing.assert_allclose(mine[column], fit.scores[column], rtol=1e-8, err_msg=column)
    labels = np.asarray(nib.load(own / "rois.nii.gz").dataobj)
    course = np.asarray(nib.load(own / "story_1_run-2_bold.nii.gz").dataobj)[labels == 1].mean(axis=0)
    np.testing.assert_allclose(data.responses["story_1"][1][:, 0], course, rtol=1e-5)


@pytest.mark.parametrize("kind", ["array", "table", "surface"])
@pytest.mark.slow
def test_arrays_tables_and_surfaces_give_the_scores_of_volumes(small: Path, tmp_path: Path, kind: str) -> None:
    from brainmap.study.check import check_study
    from brainmap.study.results.context import Context
    from brainmap.study.settings.study import load_study

    folder = tmp_path / "copy"
    shutil.copytree(small.parent, folder, copy_function=shutil.copy2)
    old, new = write_other_kind(folder, kind)
    path = folder / "study.toml"
    path.write_text(path.read_text().replace(old, new).replace("# t_r = 2.0", "t_r = 2.0"))
    assert check_study(Context(load_study(path))).problems == ()
    assert run(path) == {"sub-01_stories", "sub-02_stories", "group_stories", "report"}
    wanted, found = (read(one, "group/stories.tsv").sort_values(["layer", "roi"]) for one in (small, path))
    names = found["roi"].str.replace(r"^(left|right)-", "", regex=True)
    found = found.assign(roi=names).sort_values(["layer", "roi"])
    for column in ("mean", "p", "reliability"):
        np.testing.assert_allclose(found[column], wanted[column], rtol=1e-5, err_msg=column)


def copy_without_results(small: Path, tmp_path: Path) -> tuple[Path, dict[str, bytes]]:
    """Copy a study, and remove its tables, whose content is returned."""
    path = copy_study(small, tmp_path)
    kept = remove_tables(path, "*stories*.tsv")
    assert len(kept) == 14
    return path, kept


@pytest.mark.slow
def test_shares_of_stories_give_the_same_numbers_and_outlive_a_kill(small: Path, tmp_path: Path) -> None:
    missing = r"4 of 8 chunks are missing \(sub-01 encoding models from 1, "
    check_shares(*copy_without_results(small, tmp_path), networks=2, others=[], missing=missing)


@pytest.mark.slow
def test_dask_workers_give_the_same_numbers(small: Path, tmp_path: Path) -> None:
    check_dask(*copy_without_results(small, tmp_path))


@pytest.mark.slow
def test_rdms_of_segments_stand_beside_encoding_models_and_go_with_their_setting(small: Path, tmp_path: Path) -> None:
    from brainmap import rsa
    from brainmap.features.activations.stored import open_activations

    path = copy_study(small, tmp_path)
    path.write_text(path.read_text().replace("# segment = 10 ", "segment = 10 "))
    assert run(path, page=True) == {"group_story_rdms", "report"}
    table = read(path, "group/stories_rsa.tsv").set_index(["roi", "layer"])
    for roi, planted in PLANTED.items():
        if planted is None:
            assert (table.loc[roi, "p_corrected"] > 0.05).all()
    assert table.loc["early", "mean"].idxmax() == "conv2"
    assert table.loc["late", "mean"].idxmax() == "conv6"
    assert table.loc[("late", "conv6"), "p_corrected"] <= 0.05  # of the other region 8 minutes of sound are too few
    # by another route: the RDMs of each participant, and scipy's correlation of the pairs between stories
    from scipy.stats import spearmanr

    names, own = [f"story_{k}" for k in range(4)], path.parent
    store = own / "derivatives" / "brainmap" / "features" / "network-first_features.zarr"
    segments = rsa.join_windows(open_activations(store), 10.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)  # units that never speak
        model = rsa.compute_rdms(segments, layers=["conv2"], units="zscore")
    found = []
    for who in ("01", "02"):
        mask, labels = str(own / f"sub-{who}" / "mask.nii.gz"), str(own / f"sub-{who}" / "rois.nii.gz")
        rois = rsa.load_rois(labels, table=str(own / "rois.tsv"))
        data = rsa.load_stories(f"{own}/sub-{who}/{{sound}}_run-{{run}}_bold.nii.gz", names, mask=mask, rois=rois)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BrainmapWarning)  # of the last segments
            brain = rsa.compute_rdms(rsa.story_patterns(segments, data.responses, **data.settings), rois="early")
        order = [
            list(model.pattern_descriptors["stimulus_id"]).index(k) for k in brain.pattern_descriptors["stimulus_id"]
        ]
        x = model.get_matrices()[0][np.ix_(order, order)]
        apart = [a.split("@")[0] != b.split("@")[0] for a in segments.items for b in segments.items]
        there = np.triu(np.isfinite(brain.get_matrices()[0]), 1) & np.reshape(apart, x.shape)[np.ix_(order, order)]
        found.append(spearmanr(x[there], brain.get_matrices()[0][there]).statistic)
    assert table.loc[("early", "conv2"), "mean"] == pytest.approx(np.mean(found), abs=1e-9)
    page = (own / "derivatives" / "brainmap" / "report.html").read_text()
    assert "RDMs of segments of stories" in page
    assert "windows were averaged over segments of 10 s" in page
    assert (own / "derivatives" / "brainmap" / "figures" / "rsa-beside-encoding-first.svg").exists()
    path.write_text(path.read_text().replace("segment = 10 ", "# segment = 10 "))
    assert run(path) == {"group_story_rdms", "report"}
    assert not list((own / "derivatives" / "brainmap").rglob("*stories_rsa*"))


@pytest.mark.slow
def test_seeds_of_a_network_are_also_one_network(small: Path, tmp_path: Path) -> None:
    path = copy_study(small, tmp_path)
    text = path.read_text().replace('name = "first"', 'name = "first"\nseed_of = "net"')
    start, stop = text.index("[[network]]"), text.index("[[brain]]")
    second = (
        text[start:stop].replace('name = "first"', 'name = "second"').replace('pooling = "mean"', 'pooling = "max"')
    )
    path.write_text(text[:stop] + second + text[stop:])
    assert {"network-second", "sub-02_stories", "group_stories"} <= run(path, page=True)
    table = read(path, "group/stories.tsv")
    mean = table.set_index(["network", "layer", "roi"])["mean"]
    both = np.stack([mean["first"], mean["second"]])
    np.testing.assert_allclose(mean["net"], both.mean(axis=0), rtol=1e-10)
    whole = table[table["network"] == "net"]
    assert set(whole["seeds"]) == {2}
    np.testing.assert_allclose(whole["seeds_deviation"], both.std(axis=0, ddof=1), rtol=1e-8)
    delays = read(path, "group/stories_delays.tsv").set_index(["network", "layer", "roi", "delay"])["weight"]
    np.testing.assert_allclose(delays["net"], (delays["first"] + delays["second"]) / 2)
    assert "net" in set(read(path, "group/stories_best_layers.tsv")["network"])
    differences = read(path, "group/stories_differences.tsv")
    assert {"first", "second", "net"} == set(differences["network"])
    page = (path.parent / "derivatives" / "brainmap" / "report.html").read_text()
    assert "regions that some layer of net predicts" in page
    assert "regions that some layer of first predicts" not in page


@pytest.mark.slow
def test_bands_are_those_of_encode_story_bands_and_the_planted_one_is_preferred(small: Path, tmp_path: Path) -> None:
    from brainmap import rsa
    from brainmap.features.activations.stored import open_activations

    path = copy_study(small, tmp_path)
    folder = path.parent
    path.write_text(path.read_text().replace("block = 20 ", 'bands = ["first:conv2", "speech"]\nblock = 20 '))
    assert run(path) == {"group_bands", "report"}
    table = read(path, "group/stories_bands.tsv").set_index(["roi", "band"])
    assert table.loc["early", "preferred"].to_dict() == {"first:conv2": True, "speech": False}
    assert table.loc["lexical", "preferred"].to_dict() == {"first:conv2": False, "speech": True}
    assert not table.loc["deaf", "preferred"].any()
    assert table.loc[("early", "first:conv2"), "p_joint"] == pytest.approx(1 / 40)
    for roi in PLANTED:
        assert table.loc[roi, "product"].sum() == pytest.approx(table.loc[roi, "joint"].iloc[0], abs=1e-6)
    own, store = folder / "sub-02", folder / "derivatives" / "brainmap" / "features"
    bands = {name: open_activations(store / f"network-{name}_features.zarr") for name in ("first", "speech")}
    rois = rsa.load_rois(str(own / "rois.nii.gz"), table=str(folder / "rois.tsv"))
    names = [f"story_{k}" for k in range(4)]
    pattern = f"{own}/{{sound}}_run-{{run}}_bold.nii.gz"
    data = rsa.load_stories(pattern, names, mask=str(own / "mask.nii.gz"), rois=rois, targets="roi")
    each = read(path, "sub-02/func/*desc-bands_stories.tsv").set_index(["band", "roi"])
    seconds = dict.fromkeys(names, 120.0)
    fit = rsa.encode_story_bands(
        {"first": _OneLayer(bands["first"], "conv2"), "speech": bands["speech"]},
        data.responses, **data.settings, seconds=seconds, seeds=(0, 1, 2),
    )  # fmt: skip
    wanted = fit.scores.assign(band=fit.scores["band"].replace("first", "first:conv2")).set_index(["band", "roi"])
    for column in ("r", "joint", "unique", "product", "unique_spread"):
        np.testing.assert_allclose(each[column], wanted.loc[each.index, column], rtol=1e-6, err_msg=column)


class _OneLayer:
    """A feature set of one layer."""

    def __init__(self, acts: Any, layer: str) -> None:
        self.table, self.items, self.conditions = acts.table, acts.items, acts.conditions
        self.layers, self._acts = (layer,), acts

    def __getitem__(self, layer: str) -> Any:
        return self._acts[layer]

    def __iter__(self) -> Any:
        return iter(self.layers)


@pytest.mark.slow
def test_only_what_a_setting_touches_is_computed_again(small: Path, tmp_path: Path) -> None:
    path = copy_study(small, tmp_path)
    assert run(path) == set()
    path.write_text(path.read_text().replace("permutations = 39", "permutations = 19"))
    assert run(path) == {"group_stories", "report"}
    path.write_text(path.read_text().replace("trim = [0, 0]", "trim = [2, 0]"))
    assert run(path) == {"sub-01_stories", "sub-02_stories", "group_stories", "report"}


@pytest.mark.slow
def test_the_page_shows_stories_with_delays_and_names_no_sounds(small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(small.parent, folder, copy_function=shutil.copy2)
    (folder / "derivatives" / "brainmap" / ".brainmap" / "report.json").unlink()
    assert run(folder / "study.toml", page=True) == {"report"}
    page = (folder / "derivatives" / "brainmap" / "report.html").read_text()
    words = re.sub(r"<[^>]+>|data:[^\"]+", " ", page)
    assert "while 4 stories (8 min, 240 scans of 2 s) are heard" in " ".join(words.split())
    assert "blocks of at least 20 s within stories" in " ".join(words.split())
    assert 'alt="Weights of first by delay; the mean over layers is highest at ' in page
    about = dict(re.findall(r"<dt>(\w[\w ]+)</dt><dd>(.*?)</dd>", page))
    assert about["Participants"] == "2: 01 and 02"
    assert about["Stories"] == "4 of 8.0 min together, heard in 8 runs by each participant"
    assert about["Scans"] == "240 of all stories heard once, 2 s from scan to scan"
    assert "Runs" not in about
    assert {"Date", "Networks", "Features of speech", "Regions"} <= set(about)
    cautions = re.search(r'<aside class="cautions".*?</aside>', page, re.S)
    assert cautions is not None
    assert "There are few participants (2)" in cautions[0]
    assert "first has no control network" in cautions[0]
    assert "There is no acoustic model" not in cautions[0], "sound-energy is one"
    heat = re.search(r'<table class="heat">.*?</table>', page, re.S)
    assert heat is not None
    assert re.findall(r'class="reference"><th scope="row">([\w-]+)<', heat[0]) == list(SPEECH)
    assert "takes the stories as fixed (these stories only)" in words
    assert "takes the sounds as fixed" not in words
    assert "Participants, the least typical first" in words
    assert "correlation of a participant's time course with the mean of the others'" in unescape(words)
    assert "RDM" not in words[words.index("One by one") : words.index("Voxels used and left out")]
    assert "ρ is the rank correlation" not in words, "no figure here has it"
    assert "It is the size of the weights without their sign" in words
    noticed = (folder / "derivatives" / "brainmap" / ".brainmap").glob("*.warnings")
    said = {line for file in noticed for line in file.read_text().splitlines()}
    assert said <= {unescape(line) for line in re.findall(r"<li>(.*?)</li>", page)}
    assert "dissimilarity" not in words
    differences = read(small, "group/stories_differences.tsv")
    assert set(differences["other_layer"]) == set(SPEECH)
    assert set(differences["network"]) == {"first"}


def test_participants_of_stories_have_a_table_and_an_outlier_is_named_at_the_top(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from brainmap.study.results.context import Context
    from brainmap.study.settings.study import load_study
    from brainmap.study.stages.content import people as of_people
    from brainmap.study.stages.stories_page import read_story_content

    monkeypatch.setattr(of_people, "find_outliers", lambda values: [k == 0 for k in range(len(values))])
    content = read_story_content(Context(load_study(small)))
    people, each = content.people, read(small, "group/stories_participants.tsv").astype({"participant": str})
    assert people is not None
    assert content.persons is not None
    assert sorted(people["participant"]) == ["01", "02"]
    ceilings = read(small, "group/stories_ceilings.tsv").set_index("roi")["lower"]
    means = each.groupby("roi", sort=False)["agreement"].mean()
    np.testing.assert_allclose(means, ceilings[means.index], rtol=1e-10)
    who = people.loc[people["outlier"], "participant"].item()
    (said,) = [line for line in content.cautions if "looks wrong" in line]
    assert said.startswith(f"Participant {who} looks wrong: its time courses agree with those of the others by .")
    assert "Look at which file is of which story in its data" in said
    scores = read(small, "sub-02/func/*desc-rois_stories.tsv")
    mine = scores[(scores["network"] == "first") & (scores["roi"] == "late")].set_index("layer")["r"]
    (person,) = [one for one in content.persons.persons if one.label == "02"]
    shown = person.regions.set_index("roi").loc["late"]
    assert (shown["layer"], shown["r"]) == (mine.idxmax(), pytest.approx(mine.max()))
    assert shown["kept"] == 24


def test_sidecars_of_stories_say_that_stories_are_taken_as_fixed(small: Path) -> None:
    said = {
        file.stem: json.loads(file.read_text()) for file in (small.parent / "derivatives/brainmap/group").glob("*.json")
    }
    assert "takes the stories as fixed (these stories only)" in said["stories"]["Test"]
    assert "one half of the stories" in said["stories_best_layers"]["r"]["Description"]
    words = ("sounds as fixed", "these sounds only", "half of the sounds")
    assert not [name for name, one in said.items() for text in words if text in json.dumps(one)]


def test_the_page_says_that_delays_lie_where_no_response_is_high(small: Path, tmp_path: Path) -> None:
    from brainmap.study.results.context import Context
    from brainmap.study.settings.study import load_study
    from brainmap.study.stages.stories_page import read_story_content

    path = copy_study(small, tmp_path)
    text = path.read_text()
    assert not [line for line in read_story_content(Context(load_study(path))).cautions if "elay" in line]
    path.write_text(text.replace("block = 20 ", "delays = [2]\nblock = 20 "))
    (said,) = [line for line in read_story_content(Context(load_study(path))).cautions if "elay" in line]
    assert said.startswith("The delays end 2 s after a sound, before the hemodynamic response to it is highest")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[stories]\n", "", r"lacks the section \[stories\]"),
        (
            'kind = "stories"',
            'kind = "betas"',
            r"\[stories\] expected kind = 'stories' in each \[\[brain\]\], got 'betas'",
        ),
        ("{sound}_run", "bold_run", r"files: expected names with \{sound\}"),
        ("[stories]", "[rsa]\n[stories]", r"\[rsa\] does not go with \[stories\]"),
        ('pooling = "mean"', 'pooling = "mean"\nunits = "zscore"', r"units is of RDMs"),
        ('space = "native"', 'labels = "sub-brick"', "labels does not go with kind = 'stories'"),
        ("_bold.nii.gz", "_bold.npy", "mask does not go with files of arrays, whose rois.table has a row per voxel"),
        ('mask = "sub-{participant}/mask.nii.gz"', "", "lacks the key 'mask', which layout = 'files' needs"),
        ("_bold.nii.gz", "_bold.func.gii", r"files: expected a name with \{hemi\}"),
        ('space = "native"', 'key = "x"', r"key is of files of arrays \(.npy, .mat, ...\), got files = "),
        (
            "block = 20 ",
            "bands = ['first', 'speach']\nblock = 20 ",
            r"bands: expected .*, got 'speach'; did you mean 'sp",
        ),
        ("block = 20 ", "bands = ['first']\nblock = 20 ", "bands: expected two or more that differ, got 'first'"),
        ("block = 20 ", "block = 10 ", "block: expected a number of 20.0 or more, got 10"),
        ("block = 20 ", "segment = 0\nblock = 20 ", "segment: expected a number above 0"),
        ("block = 20 ", "lag = 60\nblock = 20 ", r"\[stories\] lag: expected 0 to 32 s, after which .* over, got 60 s"),
        ("block = 20 ", "delays = [2, 4000]\nblock = 20 ", r"\[stories\] delays: expected 0 to 32 s, .*, got 4000 s"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    small: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    from brainmap.study.settings.study import load_study

    text = small.read_text()
    assert old in text
    path = tmp_path / "study.toml"
    if old == "[stories]\n":
        text = text[: text.index(old)]
    path.write_text(text.replace(old, new))
    with pytest.raises(InputError, match=message):
        load_study(path)


def test_check_names_what_is_wrong_with_stories_before_anything_runs(small: Path, tmp_path: Path) -> None:
    from brainmap.study.check import check_study
    from brainmap.study.results.context import Context
    from brainmap.study.settings.study import load_study

    good = check_study(Context(load_study(small)))
    assert good.problems == ()
    assert "first: 480 windows of 0.6 s, one every 1 s, of 4 stories" in good.notes
    assert good.table["scans"].tolist() == [240, 240]
    folder = tmp_path / "copy"
    shutil.copytree(small.parent, folder, ignore=shutil.ignore_patterns("derivatives"))
    text = small.read_text().replace("block = 20 ", "delays = [2, 20]\nsegment = 10\nlag = 0\nblock = 20 ")
    (folder / "late.toml").write_text(text)
    said = check_study(Context(load_study(folder / "late.toml")))
    assert said.problems == ()
    assert any(note.startswith("[stories] A lag of 0 s lies outside of the 2 to 10 s") for note in said.notes)
    assert any(note.startswith("[stories] Delays reach to 20 s after a sound, beyond") for note in said.notes)
    image = nib.load(folder / "sub-01" / "story_2_run-1_bold.nii.gz")
    nib.save(image.slicer[..., :40], folder / "sub-01" / "story_2_run-1_bold.nii.gz")
    for file in folder.glob("sub-02/story_3_*"):
        file.unlink()
    (folder / "words" / "story_1.tsv").write_text("onset\tduration\n121\t0.1\n")
    path = folder / "study.toml"
    text = path.read_text()
    path.write_text(text.replace("block = 20 ", "bands = ['first:conv1', 'speech']\nblock = 20 "))
    assert "bands: layer of first: expected one of 'conv2', 'conv6', got 'conv1'" in "\n".join(
        check_study(Context(load_study(path))).problems
    )
    for seconds in ("0.3", "200", "1"):
        path.write_text(text.replace("# segment = 10 ", f"segment = {seconds} "))
        long = "\n".join(check_study(Context(load_study(path))).problems)
        wanted = (
            "0.6 s (a window of first) to 120 s (the shortest story)" if seconds != "1" else "the time between scans"
        )
        assert f"[stories] segment: expected {wanted}" in long
    path.write_text(text.replace("hop = 1 ", "window = 0.1\nhop = 1 "))
    text = path.read_text()
    path.write_text(
        text.replace("hop = 1 ", "hop = 3 ").replace('space = "native"', 'confounds = "sub-{participant}/{sound}.1D"')
    )
    long = "\n".join(check_study(Context(load_study(path))).problems)
    assert "[stories] hop: expected at most the time between scans (2 s), got 3 s" in long
    path.write_text(path.read_text().replace("hop = 3 ", "hop = 1 "))
    lost = "\n".join(check_study(Context(load_study(path))).problems)
    assert re.search(r"participant 01: confounds: .*sub-01/story_0.1D", lost)
    path.write_text(text)
    problems = "\n".join(check_study(Context(load_study(path))).problems)
    assert (
        "participant 01: stories: expected 60.0 scans of 2 s for 'story_2' (120 s of sound), got 40 (80 s)" in problems
    )
    assert re.search(r"participant 02: expected a file .*story_3_run-\{run\}_bold.nii.gz", problems)
    assert "[network] first: the network refuses a window of 0.1 s" in problems
    assert "story_1.tsv: expected words within the 120 s of the sound, got 'word' at 121 s" in problems
    sound = sorted(folder.rglob("*.wav"))[1]
    sound.write_bytes(b"RIFF")
    broken = "\n".join(check_study(Context(load_study(path))).problems)
    assert sound.name in broken


def test_masks_of_some_participants_that_are_out_of_place_are_accused_in_one_line(small: Path, tmp_path: Path) -> None:
    from brainmap.study.check import check_study
    from brainmap.study.results.context import Context
    from brainmap.study.settings.study import load_study

    folder = tmp_path / "copy"
    shutil.copytree(small.parent, folder, ignore=shutil.ignore_patterns("derivatives"))
    shutil.copytree(folder / "sub-01", folder / "sub-03")
    path = folder / "study.toml"
    text = path.read_text()
    assert 'participants = ["01", "02"]' in text
    text = text.replace('participants = ["01", "02"]', 'participants = ["01", "02", "03"]')
    path.write_text(text.replace("mask.nii", "m_{participant}.nii"))
    for who in ("01", "02", "03"):
        image = nib.load(folder / f"sub-{who}" / "mask.nii.gz")
        affine = image.affine.copy()
        affine[:3, 3] += 0.0 if who == "02" else 1.0
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), folder / f"sub-{who}" / f"m_{who}.nii.gz")
    (said,) = [line for line in check_study(Context(load_study(path))).problems if "grid" in line]
    assert said.startswith("participants 01, 03: mask: grid (8, 4, 3) differs from the data's grid"), said
    assert "(8 of data and 1 of regions), so that m_{participant}.nii.gz is out of place" in said


@pytest.mark.slow
def test_the_preset_runs_ten_stories_of_300_scans(tmp_path: Path) -> None:
    """Its time and memory are those of `benchmarks/presets.py`."""
    path = write_study(
        tmp_path,
        stories=10,
        scans=300,
        people=3,
        changes=(('layers = ["conv2", "conv6"]', 'layers = ["conv2", "conv4"]'),),
    )
    run(path, page=True)
    table = read(path, "group/stories.tsv")
    mine = table[table["network"] == "first"].set_index(["roi", "layer"])
    assert mine.loc["early", "mean"].idxmax() == "conv2"
    assert mine.loc[("early", "conv2"), "p_corrected"] <= 0.002
    assert (mine.loc["deaf", "p_corrected"] > 0.05).all()
    assert table["explainable_variance"].isna().all()  # heard once: the ceiling between participants stands for it
    assert read(path, "group/stories_ceilings.tsv").set_index("roi").loc["early", "lower"] > 0.2
