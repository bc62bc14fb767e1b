"""Encoding models in a study: the preset of natural sounds on simulated brains whose answer is known."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from brainmap.errors import BrainmapWarning, InputError
from brainmap.study.run import Context
from brainmap.study.settings.study import load_study
from brainmap.study.stages.encoding import yield_encoded
from tests.study.encoding_inputs import PLANTED, SMALL, write_study
from tests.study.runs import check_dask, check_shares, copy_study, read, remove_tables, run


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The preset on 40 sounds and 2 participants, run; to be read only."""
    path = write_study(tmp_path_factory.mktemp("natural"), sounds=40, people=2, changes=SMALL)
    text = path.read_text()
    first, second = text.index('[[network]]\nname = "second"'), text.index("[[brain]]")
    path.write_text(text[:first].replace("controls = []", 'controls = ["permuted"]') + text[second:])
    assert {"sub-01_encoding", "sub-02_encoding", "group_encoding"} <= run(path)
    return path


def test_scores_are_those_of_encode_on_the_same_files(small: Path) -> None:
    from brainmap.features.activations.stored import open_activations
    from brainmap.rsa import encode, load_patterns, load_rois

    own = small.parent / "sub-02"
    mask = str(own / "mask.nii.gz")
    rois = load_rois(str(own / "rois.nii.gz"), table=str(small.parent / "rois.tsv"), mask=mask)
    files = [str(own / f"betas_run-{k}.nii.gz") for k in (1, 2, 3)]
    data = load_patterns(files, mask=mask, rois=rois, stimuli=str(small.parent / "stimuli.tsv"))
    acts = open_activations(small.parent / "derivatives" / "brainmap" / "features" / "network-first_features.zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)
        fit = encode(acts, data, targets="roi", folds=4, reliability_floor=0.1)
    table = read(small, "sub-02/func/*desc-rois_encoding.tsv")
    assert list(dict.fromkeys(table["network"])) == ["first", "first-permuted", "acoustics"]
    mine = table[table["network"] == "first"].reset_index(drop=True)
    for column in ("r", "r_corrected", "r2", "reliability", "alpha"):
        np.testing.assert_allclose(mine[column], fit.scores[column], rtol=1e-8, err_msg=column)
    (sidecar,) = (small.parent / "derivatives" / "brainmap").glob("sub-02/func/*desc-rois_encoding.json")
    told = json.loads(sidecar.read_text())["FoldOfItem"]
    assert told == dict(zip(fit.items, fit.folds.fold.tolist(), strict=True))
    assert sorted(set(told.values())) == [0, 1, 2, 3]


def test_voxels_of_regions_alone_have_the_responses_of_those_in_the_whole_mask(small: Path) -> None:
    text = small.read_text()
    normalized = small.with_name("normalized.toml")
    normalized.write_text(text.replace("[[brain]]\n", '[[brain]]\nnormalize = ["zscore-runs"]\n', 1))
    for file in (small, normalized):
        context = Context(load_study(file))
        for one, other in zip(yield_encoded(context), yield_encoded(context, regions_only=True), strict=True):
            np.testing.assert_array_equal(one.responses.values, other.responses.values)
            assert one.responses.targets["roi"].tolist() == other.responses.targets["roi"].tolist()
            assert one.responses.items == other.responses.items
            assert "data" in one.one.__dict__
            assert "data" not in other.one.__dict__, "no voxel outside of the regions is held"
    normalized.unlink()


def test_planted_layers_are_best_and_tested(small: Path) -> None:
    table = read(small, "group/encoding.tsv")
    mine = table[table["network"] == "first"].set_index(["roi", "layer"])
    for roi, planted in PLANTED.items():
        if planted is None:
            assert (mine.loc[roi, "p_corrected"] > 0.05).all()
        else:
            assert mine.loc[roi, "mean"].idxmax() == planted[1]
            assert mine.loc[(roi, planted[1]), "p"] == pytest.approx(1 / 40)
    each = pd.concat([read(small, f"sub-0{k}/func/*desc-rois_encoding.tsv") for k in (1, 2)])
    mean = each.groupby(["network", "layer", "roi"], sort=False)["r"].agg(["mean", "sem"]).reset_index()
    np.testing.assert_allclose(table["mean"], mean["mean"], rtol=1e-10)
    np.testing.assert_allclose(table["standard_error"], mean["sem"], rtol=1e-8)


def test_best_layers_are_means_of_those_of_each_participant(small: Path) -> None:
    from brainmap.rsa.encoding.best_layers import best_encoding_layers
    from brainmap.study.results.context import Context
    from brainmap.study.settings.study import load_study
    from brainmap.study.stages.encoding import yield_encoded

    table = read(small, "group/encoding_best_layers.tsv").set_index(["network", "roi"])
    assert list(dict.fromkeys(table.index.get_level_values("network"))) == ["first", "first-permuted"]
    each = []
    for one in yield_encoded(Context(load_study(small), threads=1)):
        rng = np.random.default_rng(np.random.SeedSequence([0, *b"encoding halves"]))
        fit = one.restore()
        own = replace(fit, spaces=tuple(space for space in fit.spaces if space.network == "first"))
        each.append(best_encoding_layers(own, splits=2, rng=rng).regions.set_index("roi"))
    for roi in PLANTED:
        row = table.loc[("first", roi)]
        assert row["r"] == pytest.approx(np.mean([own.loc[roi, "r"] for own in each]), abs=1e-10)
        places = [own.loc[roi, "position"] for own in each if own.loc[roi, "r"] > 0]
        assert row["n"] == len(places)
        if places:
            assert row["position"] == pytest.approx(np.mean(places), abs=1e-10)
    for roi, planted in PLANTED.items():
        if planted is not None:
            assert table.loc[("first", roi), "layer"] == planted[1]
            assert table.loc[("first", roi), "participants_share"] == 1


def test_differences_are_from_controls_and_baselines_only(small: Path) -> None:
    found, scores = read(small, "group/encoding_differences.tsv"), read(small, "group/encoding.tsv")
    mean = scores.set_index(["network", "layer", "roi"])["mean"]
    assert len(found) == 9 * 2 * 3
    assert set(found["network"]) == {"first"}
    for row in found.itertuples():
        if row.other_network == "first-permuted":
            assert row.layer == row.other_layer
        else:
            assert (row.other_network, row.other_layer) == ("acoustics", "waveform-envelope")
        other = mean[row.other_network, row.other_layer, row.roi]
        assert row.difference == pytest.approx(mean[row.network, row.layer, row.roi] - other, abs=1e-10)


def test_networks_are_compared_by_their_best_layers(small: Path) -> None:
    from brainmap.rsa import encoding_network_test
    from brainmap.study.results.context import Context
    from brainmap.study.settings.study import load_study
    from brainmap.study.stages.encoding import yield_encoded

    found = read(small, "group/encoding_networks.tsv")
    assert found[["network", "other_network"]].drop_duplicates().to_numpy().tolist() == [
        ["first", "first-permuted"],
        ["first", "acoustics"],
    ]
    fits = [one.restore() for one in yield_encoded(Context(load_study(small), threads=1))]
    pairs = [("first", "first-permuted"), ("first", "acoustics")]
    rng = np.random.default_rng(np.random.SeedSequence([0, *b"encoding test"]))
    table = encoding_network_test(fits, pairs=pairs, permutations=39, rng=rng)
    for column in ("r", "other_r", "difference", "p", "p_corrected", "p_unrelated", "p_equal"):
        np.testing.assert_allclose(found[column], table[column], rtol=1e-8, err_msg=column)
    (sidecar,) = (small.parent / "derivatives" / "brainmap" / "group").glob("encoding_networks.json")
    assert sidecar.read_text().count("these sounds only") >= 3  # the test, p and p_corrected
    assert (found["smallest_p_these_sounds"] == 0.5).all()  # two participants
    planted = found[(found["roi"] == "primary") & (found["other_network"] == "acoustics")]
    assert (planted["difference"] > 0.1).all()


def test_positions_and_dimensionality_stand_beside_scores(small: Path) -> None:
    from brainmap.features.activations.stored import open_activations
    from brainmap.rsa import effective_dimensionality

    positions = read(small, "group/encoding_positions.tsv")
    best = read(small, "group/encoding_best_layers.tsv").set_index(["network", "roi"])["position"]
    assert len(positions) == 2 * 3  # networks, pairs of regions
    for row in positions.itertuples():
        expected = best[row.network, row.roi]
        assert row.position == pytest.approx(expected, abs=1e-10, nan_ok=True)
    scores = read(small, "group/encoding.tsv")
    acts = open_activations(small.parent / "derivatives" / "brainmap" / "features" / "network-first_features.zarr")
    size = effective_dimensionality(acts).set_index("layer")["dimensionality"]
    mine = scores[scores["network"] == "first"]
    np.testing.assert_allclose(mine["dimensionality"], size.loc[mine["layer"]], rtol=1e-8)
    assert set(scores["seeds"]) == {1}


@pytest.mark.slow
def test_seeds_of_a_network_are_also_one_network(tmp_path: Path) -> None:
    path = write_study(tmp_path, sounds=40, people=2, changes=SMALL)
    text = path.read_text()
    for name in ("first", "second"):
        text = text.replace(f'name = "{name}"', f'name = "{name}"\nseed_of = "net"')
    path.write_text(text.replace("bootstrap = 0", "bootstrap = 100"))
    run(path)
    table = read(path, "group/encoding.tsv")
    mean = table.set_index(["network", "layer", "roi"])["mean"]
    whole = table[table["network"] == "net"]
    rows = pd.MultiIndex.from_frame(whole[["layer", "roi"]])
    both = np.stack([mean.loc[name].loc[rows] for name in ("first", "second")])
    np.testing.assert_allclose(whole["mean"], both.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(whole["seeds_deviation"], both.std(axis=0, ddof=1), rtol=1e-8)
    assert set(whole["seeds"]) == {2}
    networks = read(path, "group/encoding_networks.tsv")
    assert set(networks["network"]) == {"net"}
    assert "net" in set(read(path, "group/encoding_best_layers.tsv")["network"])
    assert "net" in set(read(path, "group/encoding_agreement.tsv")["network"])
    check_seeds_in_rsa(path)
    from brainmap.study.run import Context
    from brainmap.study.settings.study import load_study
    from brainmap.study.stages.page import read_page_content
    from brainmap.viz.page.content import ReportContent
    from brainmap.viz.page.write import write_report

    content = read_page_content(Context(load_study(path)))
    assert content.networks == {"net": [], "first": [], "second": []}
    whole = ReportContent(
        title="x",
        networks=content.networks,
        encoding=content.encoding,
        scores=content.scores,
        statistics=content.statistics,
        answers=content.answers,
        baselines=content.baselines,
    )
    page = write_report(whole, tmp_path / "report.html").read_text(encoding="utf-8")
    for name in ("net", "first", "second"):
        assert (tmp_path / "figures" / f"encoding-{name}.svg").exists()
    for ending in ("", "-first", "-second"):
        assert (tmp_path / "figures" / f"layer-profile{ending}.svg").exists()
    assert [one for one in content.key_results if "some layer of net is significant" in one[1]]
    assert not [one for one in content.key_results if "some layer of first" in one[1]]
    best = content.answers[content.answers["best"]]
    assert set(best["network"]) == {"net"}
    assert set(best["seed_of"]) == {""}
    assert best["over_acoustic"].notna().all()
    assert "not compared: first" not in page


def check_seeds_in_rsa(path: Path) -> None:
    """The tables of RSA have the mean over seeds in each participant, and compare the whole in place of its seeds."""
    scores = read(path, "group/scores.tsv").set_index(["network", "layer", "roi", "participant"])["score"]
    table = read(path, "group/statistics.tsv")
    whole = table[table["network"] == "net"]
    assert set(whole["seeds"]) == {2}
    assert whole["test"].unique().tolist() == ["sounds relabeled"]
    mean = (scores["first"] + scores["second"]) / 2
    rows = pd.MultiIndex.from_frame(whole[["layer", "roi"]])
    np.testing.assert_allclose(whole["mean"], mean.groupby(["layer", "roi"]).mean().loc[rows])
    found = read(path, "group/differences.tsv")
    layers = found[found["layer"] != "best layer"]
    assert not ((layers["network"] == "first") & (layers["other_network"] == "net")).any()
    best = found[found["layer"] == "best layer"]
    assert set(zip(best["network"], best["other_network"], strict=True)) == {("net", "acoustics")}
    assert set(best["test"]) == {"bootstrap"}
    top = table.groupby(["roi", "network"])["mean"].max().unstack()
    primary = best[best["roi"] == "primary"].iloc[0]
    assert primary["difference"] == pytest.approx(top.loc["primary", "net"] - top.loc["primary", "acoustics"], abs=0.1)
    assert primary["difference"] > 0.1
    halves = read(path, "group/best_layers.tsv")
    assert set(halves["network"]) == {"net", "first", "second"}


def test_a_single_seed_is_refused(small: Path, tmp_path: Path) -> None:
    from brainmap.study.settings.study import load_study

    text = small.read_text().replace('name = "first"', 'name = "first"\nseed_of = "net"')
    (tmp_path / "study.toml").write_text(text)
    with pytest.raises(InputError, match="expected several seeds of 'net', got one"):
        load_study(tmp_path / "study.toml")


def test_agreement_is_the_rank_correlation_of_profiles_within_a_participant(small: Path) -> None:
    from scipy.stats import spearmanr

    scores = read(small, "group/scores.tsv").set_index(["network", "layer", "roi", "participant"])["score"]
    each = pd.concat([read(small, f"sub-0{k}/func/*desc-rois_encoding.tsv") for k in (1, 2)])
    for row in read(small, "group/encoding_agreement.tsv").itertuples():
        mine = each[(each["network"] == row.network) & (each["roi"] == row.roi)]
        rho = [
            spearmanr(own["r"], [scores[row.network, layer, row.roi, who] for layer in own["layer"]]).statistic
            for who, own in mine.groupby("participant")
        ]
        assert (row.layers, row.n) == (9, 2)
        assert row.rho == pytest.approx(np.mean(rho), abs=1e-12)


@pytest.mark.slow
def test_only_what_a_setting_touches_is_computed_again(small: Path, tmp_path: Path) -> None:
    path = copy_study(small, tmp_path)
    folder = path.parent
    assert run(path) == set()
    path.write_text(path.read_text().replace("permutations = 39", "permutations = 19"))
    assert run(path) == {"group_encoding", "report"}
    path.write_text(path.read_text().replace("folds = 4", "folds = 3"))
    assert run(path) == {"sub-01_encoding", "sub-02_encoding", "group_encoding", "report"}
    (killed,) = (folder / "derivatives" / "brainmap").glob("sub-02/func/*desc-rois_encoding.tsv")
    before = killed.read_bytes()
    killed.unlink()
    assert run(path) == {"sub-02_encoding"}
    assert killed.read_bytes() == before


@pytest.mark.slow
def test_bands_are_those_of_encode_bands_and_go_with_their_setting(small: Path, tmp_path: Path) -> None:
    from brainmap.features.activations.stored import open_activations
    from brainmap.rsa import encode_bands, load_patterns, load_rois

    folder = tmp_path / "copy"
    shutil.copytree(small.parent, folder, copy_function=shutil.copy2)
    path, named = folder / "study.toml", 'bands = ["first", "acoustics"]\npermutations = 39'
    path.write_text(path.read_text().replace("permutations = 39", named))
    assert run(path) == {"group_bands", "report"}
    table = read(path, "group/encoding_bands.tsv").set_index(["roi", "band"])
    own, store = folder / "sub-02", folder / "derivatives" / "brainmap" / "features"
    mask = str(own / "mask.nii.gz")
    rois = load_rois(str(own / "rois.nii.gz"), table=str(folder / "rois.tsv"), mask=mask)
    files = [str(own / f"betas_run-{k}.nii.gz") for k in (1, 2, 3)]
    data = load_patterns(files, mask=mask, rois=rois, stimuli=str(folder / "stimuli.tsv"))
    bands = {name: open_activations(store / f"network-{name}_features.zarr") for name in ("first", "acoustics")}
    seed = np.random.default_rng(np.random.SeedSequence([0, *b"encoding"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)
        fit = encode_bands(bands, data, targets="roi", folds=4, rng=seed)
    each = read(path, "sub-02/func/*desc-bands_encoding.tsv")
    for column in ("r", "joint", "unique", "product", "unique_spread"):
        np.testing.assert_allclose(each[column], fit.scores[column], rtol=1e-6, atol=1e-9, err_msg=column)
    both = pd.concat([each, read(path, "sub-01/func/*desc-bands_encoding.tsv")])
    mean = both.groupby(["roi", "band"])[["joint", "unique", "product"]].mean()
    for column in mean:
        np.testing.assert_allclose(table[column], mean.loc[table.index, column], atol=1e-9, err_msg=column)
    path.write_text(path.read_text().replace(named, "permutations = 39"))
    assert run(path) == {"group_bands", "report"}
    assert not list((folder / "derivatives" / "brainmap").rglob("*bands*.tsv"))


def test_tables_of_responses_give_the_scores_of_the_images(small: Path, tmp_path: Path) -> None:
    from brainmap.rsa import load_image, sub_brick_labels

    folder = tmp_path / "copy"
    shutil.copytree(small.parent, folder, copy_function=shutil.copy2)
    names = np.array(["", *PLANTED])
    for own in sorted(folder.glob("sub-*")):
        files = [own / f"betas_run-{k}.nii.gz" for k in (1, 2, 3)]
        called = [list(sub_brick_labels(file)) for file in files]
        cube = [
            np.asarray(load_image(file).dataobj).reshape(-1, 40)[:, [its.index(name) for name in called[0]]].T
            for file, its in zip(files, called, strict=True)
        ]
        np.savez(own / "betas.npz", betas=np.stack(cube, axis=2))
        pd.DataFrame({"stimulus_id": called[0]}).to_csv(own / "items.tsv", sep="\t", index=False)
        regions = names[np.asarray(load_image(own / "rois.nii.gz").dataobj, int).ravel()]
        pd.DataFrame({"roi": regions}).to_csv(own / "voxels.tsv", sep="\t", index=False)
    path = folder / "study.toml"
    text = path.read_text()
    start = text.index('kind = "betas"')
    tables = """kind = "table"
files = "sub-{participant}/betas.npz"
labels = "sub-{participant}/items.tsv"
rois = { table = "sub-{participant}/voxels.tsv" }
"""
    path.write_text(text[:start] + tables + text[text.index('space = "native"', start) :])
    assert {"sub-01_encoding", "sub-02_encoding", "sub-01_rois"} <= run(path)
    for name in ("sub-02/func/*desc-rois_encoding.tsv", "group/encoding.tsv", "group/encoding_agreement.tsv"):
        pd.testing.assert_frame_equal(read(path, name), read(small, name), rtol=1e-8, obj=name)


def test_the_page_shows_profiles_tests_and_agreement(small: Path, tmp_path: Path) -> None:
    from brainmap.study.run import Context
    from brainmap.study.settings.study import load_study
    from brainmap.study.stages.page import read_page_content
    from brainmap.viz.labels import format_decimals
    from brainmap.viz.page.content import ReportContent
    from brainmap.viz.page.write import write_report

    whole = read_page_content(Context(load_study(small)))
    own = whole.encoding
    content = ReportContent(title="x", networks=whole.networks, encoding=own, methods=whole.methods)
    page = write_report(content, tmp_path / "report.html").read_text(encoding="utf-8")
    section = page[page.index('<section><h2 id="encoding">') :].split("</section>")[0]
    assert "the mean response of each region from the units" in section
    assert "within each of 4 test folds" in section
    assert "significant: permutation of sounds (40 stimuli exchanged), refitted each time; family-wise" in section
    assert "(these sounds only), false discovery rate (Benjamini-Hochberg) over 54 tests" in section
    assert "the larger p of two: permutation of sounds" in section.lower()
    assert (
        "Networks against each other, controls and acoustic models, by their best layers (these sounds only)" in section
    )
    assert "Layers against controls and acoustic models (these sounds only)" in section
    assert "the differences are of these sounds only" in page
    assert "Position of the best layers in one region and another" in section
    assert "Encoding models predicted the mean response of each region" in page
    for name in ("encoding-first", "rsa-beside-encoding-first"):
        assert (tmp_path / "figures" / f"{name}.svg").exists()
    scores = read(small, "group/encoding.tsv")
    mine = scores[scores["network"] == "first"]
    heat = re.findall(r'title="([^,]+), ([^:]+): mean [^"]*">([^<]+)</td>', section)
    shown = {(roi, layer): text.rstrip("*") for layer, roi, text in heat}
    assert shown == {(row.roi, row.layer): format_decimals(row.mean) for row in mine.rename_axis(None).itertuples()}
    starred = {(roi, layer) for layer, roi, text in heat if text.endswith("*")}
    assert starred == set(zip(*(mine[mine["p_corrected"] < 0.05][key] for key in ("roi", "layer")), strict=True))
    assert set(own.scores["network"]) == {"first", "first-permuted", "best acoustic model"}


@pytest.mark.slow
def test_voxels_are_averaged_in_regions_that_all_participants_have(
    small: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from brainmap.rsa.images.files import save_image

    path = copy_study(small, tmp_path)
    folder = path.parent
    text = (
        path.read_text()
        .replace('targets = "roi"', 'targets = "voxel"')
        .replace("permutations = 39", "permutations = 9")
    )
    path.write_text(text)
    rois = nib.load(folder / "sub-02" / "rois.nii.gz")
    values = np.asarray(rois.dataobj).copy()
    values[values == 3] = 0
    image = nib.Nifti1Image(values, rois.affine)
    save_image(image, folder / "sub-02" / "rois.nii.gz", space="orig", overwrite=True)
    run(path)
    assert "encoding models of 'lateral' are left out, which some participants lack" in caplog.text
    each = [read(path, f"sub-0{k}/func/*desc-rois_encoding.tsv") for k in (1, 2)]
    sizes = [one[one["layer"] == "conv1"].groupby(["network", "roi"]).size()["first"].to_dict() for one in each]
    assert sizes == [{"anterior": 48, "lateral": 48, "primary": 48}, {"anterior": 48, "primary": 48}]
    keys = ["network", "layer", "roi"]
    mean = sum(one.groupby(keys)["r"].mean() for one in each) / 2
    table = read(path, "group/encoding.tsv")
    assert set(table["roi"]) == {"primary", "anterior"}
    np.testing.assert_allclose(table["mean"], mean.loc[pd.MultiIndex.from_frame(table[keys])], rtol=1e-10)


def copy_without_encoding(small: Path, tmp_path: Path) -> tuple[Path, dict[str, bytes]]:
    """Copy a study, and remove the results of its encoding models, whose content is returned."""
    path = copy_study(small, tmp_path)
    kept = remove_tables(path, "*_encoding.tsv", "group/encoding*.tsv")
    assert len(kept) == 8
    return path, kept


@pytest.mark.slow
def test_shares_of_encoding_models_give_the_same_numbers_and_outlive_a_kill(small: Path, tmp_path: Path) -> None:
    missing = r"6 of 14 chunks are missing \(sub-01 encoding models from 1, "
    path, kept = copy_without_encoding(small, tmp_path)
    check_shares(path, kept, networks=3, others=["sub-02 regions"], missing=missing)


@pytest.mark.slow
def test_dask_workers_give_the_same_numbers(small: Path, tmp_path: Path) -> None:
    check_dask(*copy_without_encoding(small, tmp_path))


def test_too_few_sounds_are_refused_before_anything_is_computed(tiny_study: Any) -> None:
    tiny_study.file.write_text(tiny_study.file.read_text() + "\n[encoding]\nfolds = 4\n")
    with pytest.raises(InputError, match=r"^\[encoding\] expected at least 40 items, got 8; .* few_items = true"):
        tiny_study.run()
    assert not tiny_study.out.exists()


def test_init_writes_a_preset(tmp_path: Path, brainmap_command: Callable[..., Any]) -> None:
    from brainmap.study.settings.study import load_study

    answer = brainmap_command("init", "--preset", "tuckute2023", tmp_path / "s.toml")
    assert answer.code == 0, answer.err
    settings = load_study(tmp_path / "s.toml").settings
    assert settings.encoding is not None
    assert [network.controls for network in settings.network] == [("permuted",), ("permuted",)]
    answer = brainmap_command("init", "--preset", "tuckute2032", tmp_path / "t.toml")
    assert answer.code == 2
    assert not (tmp_path / "t.toml").exists()


@pytest.mark.slow
def test_the_preset_runs_on_165_sounds_of_8_participants(tmp_path: Path) -> None:
    """Its time and memory are those of `benchmarks/presets.py`."""
    path = write_study(tmp_path, sounds=165, people=8, n_samples=8_000, shape=(12, 10, 8))
    run(path)
    table = read(path, "group/encoding.tsv")
    mine = table[table["network"] == "first"].set_index(["roi", "layer"])
    for roi, planted in PLANTED.items():
        if planted is None:
            assert (mine.loc[roi, "p_corrected"] > 0.05).all()
        else:
            assert mine.loc[roi, "mean"].idxmax() == planted[1]
            assert mine.loc[(roi, planted[1]), "p_corrected"] < 0.05
