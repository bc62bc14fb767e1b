"""Compare hypotheses of the study file with regions, beside networks."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from brainmap.errors import InputError
from brainmap.study.settings.hypotheses import check_hypothesis_names
from tests.conftest import N_SAMPLES, RATE, RUNS, SHAPE, TinyStudy, affine, write_checkpoint

KINDS = ("speech", "music", "animal", "tool")
SOUNDS = [f"{kind}{k}" for kind in KINDS for k in range(5)]
PEOPLE = ("01", "02", "03", "04", "05", "06")
STUDY = """\
schema = 1

[study]
name = "kinds"
out = "out"
seed = 0
simulated = true

[stimuli]
table = "stimuli.tsv"

[[network]]
name = "net"
checkpoint = "net.safetensors"
layers = ["conv1", "output"]

[[hypothesis]]
name = "kind"
category = "kind"

[[hypothesis]]
name = "emotion"
features = ["valence", "arousal"]

[[hypothesis]]
name = "ratings"
rdm = "ratings.csv"

[[brain]]
participants = ["01", "02", "03", "04", "05", "06"]
files = "sub-{participant}/betas_run-{run}.nii.gz"
mask = "mask.nii.gz"
rois = { image = "rois.nii.gz", table = "rois.tsv" }
space = "MNI152Lin"

[rsa]
measure = "rho-a"
inference = { splits = 4, bootstrap = 100, permutations = 999 }

[searchlight]
radius_mm = 4.0
measure = "rho-a"
minimum_voxels = 5
ceilings = false
"""


def write_ratings(folder: Path, seed: int) -> None:
    """A matrix of dissimilarities as listeners give them, in an order of its own and with one more sound."""
    rng = np.random.default_rng(seed)
    labels = list(rng.permutation([*SOUNDS, "spare"]))
    values = rng.random((len(labels), len(labels)))
    values = values + values.T
    np.fill_diagonal(values, 0)
    pd.DataFrame(values, index=labels, columns=labels).to_csv(folder / "ratings.csv")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose region `kinds` has the geometry of categories, `sounds` another shared one, and `noise` none."""
    import soundfile

    from brainmap.rsa.images.files import save_image

    folder = tmp_path_factory.mktemp("kinds")
    (folder / "sounds").mkdir()
    rng = np.random.default_rng(5)
    for name in SOUNDS:
        soundfile.write(folder / "sounds" / f"{name}.wav", 0.1 * rng.normal(size=N_SAMPLES).clip(-3, 3), RATE)
    kinds = [name.rstrip("0123456789") for name in SOUNDS]
    table = pd.DataFrame({"stimulus_id": SOUNDS, "condition": SOUNDS, "kind": kinds})
    table["path"] = [f"sounds/{name}.wav" for name in SOUNDS]
    table["valence"], table["arousal"] = rng.normal(size=(2, len(SOUNDS))).round(3)
    table.to_csv(folder / "stimuli.tsv", sep="\t", index=False)
    write_checkpoint(folder / "net.safetensors")
    write_ratings(folder, 1)
    labels = np.zeros(SHAPE, np.int16)
    labels[:2], labels[2:4], labels[4:] = 1, 2, 3
    save_image(nib.Nifti1Image(labels, affine()), folder / "rois.nii.gz", space="MNI")
    save_image(nib.Nifti1Image(np.ones(SHAPE, np.uint8), affine()), folder / "mask.nii.gz", space="MNI")
    pd.DataFrame({"index": [1, 2, 3], "name": ["kinds", "sounds", "noise"]}).to_csv(
        folder / "rois.tsv", sep="\t", index=False
    )
    signal = np.zeros((*SHAPE, len(SOUNDS)))
    member = rng.integers(len(KINDS), size=(2, *SHAPE[1:]))  # each voxel answers one category
    for k, kind in enumerate(kinds):
        signal[:2, ..., k] = 1.5 * (member == KINDS.index(kind))
    signal[2:4] = rng.normal(size=(2, *SHAPE[1:], len(SOUNDS)))
    for label in PEOPLE:
        (folder / f"sub-{label}").mkdir()
        own = np.random.default_rng([9, int(label)])
        for run in RUNS:
            order = own.permutation(len(SOUNDS))
            values = (signal + own.normal(size=signal.shape))[..., order].astype(np.float32)
            path = folder / f"sub-{label}" / f"betas_run-{run}.nii.gz"
            save_image(nib.Nifti1Image(values, affine()), path, labels=[SOUNDS[k] for k in order], space="MNI")
    (folder / "study.toml").write_text(STUDY)
    return folder


@pytest.fixture(scope="module")
def results(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> TinyStudy:
    """The study, run with its page; not to be changed."""
    folder = tmp_path_factory.mktemp("run") / "study"
    shutil.copytree(inputs, folder)
    TinyStudy(folder).run(page=True)
    return TinyStudy(folder)


@pytest.fixture
def study(inputs: Path, tmp_path: Path) -> TinyStudy:
    """A copy of the inputs that a test may change."""
    shutil.copytree(inputs, tmp_path / "study")
    return TinyStudy(tmp_path / "study")


def read(study: TinyStudy, name: str) -> pd.DataFrame:
    return pd.read_csv(next(study.out.rglob(f"{name}.tsv")), sep="\t", na_values="n/a", dtype={"participant": str})


def check(study: TinyStudy) -> tuple[str, str]:
    """The problems and notes of a check, one a line."""
    from brainmap.study.check import check_study
    from brainmap.study.results.context import Context
    from brainmap.study.settings.study import load_study

    found = check_study(Context(load_study(study.file)))
    return "\n".join(found.problems), "\n".join(found.notes)


@pytest.mark.slow
def test_a_planted_category_is_found_where_it_is_and_nowhere_else(results: TinyStudy) -> None:
    statistics = read(results, "statistics")
    ours = statistics[statistics["network"] == "hypotheses"].set_index(["roi", "layer"])
    planted = ours.loc[("kinds", "kind")]
    assert planted["p_corrected"] <= 0.01
    here = statistics[statistics["roi"] == "kinds"]
    assert here.loc[here["mean"].idxmax(), "layer"] == "kind"
    assert here.loc[here["layer"] != "kind", "p_corrected"].min() > 0.05
    ceiling = read(results, "ceilings").set_index("roi").loc["kinds"]
    assert 0.9 * ceiling["lower"] < planted["mean"] < ceiling["upper"] + 0.05
    assert ceiling["lower"] > 0.3
    assert ours.drop(index="kinds", level="roi")["p_corrected"].min() > 0.05
    differences = read(results, "differences")
    best = differences[(differences["roi"] == "kinds") & (differences["layer"] == "best layer")]
    row = best[best["other_network"] == "hypotheses"].iloc[0]
    assert (row["network"], row["difference"] < 0, row["p_corrected"] < 0.05) == ("net", True, True)
    peak = read(results, "clusters")
    peak = peak[(peak["network"] == "hypotheses") & (peak["layer"] == "kind")]
    assert set(peak["peak_roi"]) == {"kinds"}
    assert not len(read(results, "clusters").query("network == 'hypotheses' and layer != 'kind'"))


@pytest.mark.slow
def test_scores_are_those_of_rsatoolbox_on_the_same_files(results: TinyStudy) -> None:
    from rsatoolbox.rdm import RDMs, compare, load_rdm

    hypotheses = load_rdm(str(results.out / "rdms" / "network-hypotheses_rdms.h5"))
    brain = load_rdm(str(next(results.out.glob("sub-03/func/*_desc-rois_rdms.h5"))))
    assert list(hypotheses.pattern_descriptors["stimulus_id"]) == list(brain.pattern_descriptors["stimulus_id"])
    ratings = pd.read_csv(results.folder / "ratings.csv", index_col=0).loc[SOUNDS, SOUNDS].to_numpy()
    table = pd.read_csv(results.folder / "stimuli.tsv", sep="\t")
    valence = table[["valence", "arousal"]].to_numpy()
    valence = (valence - valence.mean(axis=0)) / valence.std(axis=0)
    i, j = np.triu_indices(len(SOUNDS), 1)
    by_hand = np.stack(
        [
            table["kind"].to_numpy()[i] != table["kind"].to_numpy()[j],
            ((valence[i] - valence[j]) ** 2).mean(axis=1),
            ratings[i, j],
        ]
    ).astype(float)
    np.testing.assert_allclose(hypotheses.dissimilarities, by_hand, rtol=1e-12)
    expected = compare(RDMs(by_hand), RDMs(brain.dissimilarities), method="rho-a")
    scores = read(results, "scores").query("network == 'hypotheses' and participant == '03'")
    found = scores.pivot(index="layer", columns="roi", values="score").loc[["kind", "emotion", "ratings"]]
    np.testing.assert_allclose(found[list(brain.rdm_descriptors["roi"])].to_numpy(), expected, atol=1e-10)


@pytest.mark.slow
def test_the_page_says_what_hypotheses_are_and_draws_them(results: TinyStudy) -> None:
    page = (results.out / "report.html").read_text()
    assert 'id="hypotheses"' in page
    assert (results.out / "figures" / "hypotheses.png").exists()
    assert "kind (0 within and 1 between the categories of the column" in page
    assert "the RDM of the file ratings.csv, matched by label" in page
    assert "Less best hypothesis" in page
    assert "1 further items, which are left out" in page
    maps = read(results, "maps")
    assert maps.query("layer == 'kind'")["control"].tolist() == ["hypothesis"]
    assert list(results.out.glob("sub-01/func/*desc-hypotheseskind_stat-rhoa_statmap.nii.gz"))


@pytest.mark.slow
def test_the_explorer_shows_hypotheses_beside_layers(results: TinyStudy) -> None:
    from brainmap.explore.commands import run_command
    from brainmap.explore.sources import open_source

    source = open_source(study=str(results.file))
    found: Any = run_command(source, "voxel", {"mm": "-9,0,0"})
    kinds = [(row["kind"], row["layer"]) for row in found["rows"]]
    assert kinds == [
        *[("network", layer) for layer in ("conv1", "output")],
        *[("hypothesis", name) for name in ("kind", "emotion", "ratings")],
    ]
    assert max(found["rows"], key=lambda row: row["mean"])["layer"] == "kind"
    rdms: Any = run_command(source, "rdms", {"region": "kinds", "network": "hypotheses", "layer": "kind"})
    same = np.array([[a[:-1] == b[:-1] for b in rdms["labels"]] for a in rdms["labels"]])
    np.testing.assert_array_equal(np.array(rdms["layer"]) == 0, same)


@pytest.mark.slow
def test_a_rerun_computes_nothing_and_another_matrix_everything_that_depends_on_it(
    results: TinyStudy, tmp_path: Path
) -> None:
    shutil.copytree(results.folder, tmp_path / "study", copy_function=shutil.copy2)
    again = TinyStudy(tmp_path / "study")
    before = again.files()
    assert again.run(page=True) == set()
    assert again.files() == before
    then = read(again, "scores").set_index(["participant", "network", "layer", "roi"])["score"]
    write_ratings(again.folder, 2)
    computed = again.run()
    assert {"hypotheses", "sub-01_rois", "sub-01_searchlight", "group_rois", "group_maps"} <= computed
    assert not any(stage.startswith("network-") for stage in computed)
    now = read(again, "scores").set_index(["participant", "network", "layer", "roi"])["score"]
    changed = (then != now).groupby("layer").mean()
    assert changed["ratings"] == 1
    assert changed.drop("ratings").max() == 0
    shutil.rmtree(again.out)
    shutil.copyfile(results.folder / "ratings.csv", again.folder / "ratings.csv")
    again.run(page=True)
    fresh = again.files()
    same = {name for name in before if not name.startswith(".brainmap/") and fresh.get(name) == before[name]}
    assert {name for name in before if name.endswith((".h5", ".nii.gz", ".tsv"))} <= same


def test_a_study_without_hypotheses_has_the_keys_that_it_had(tiny_inputs: TinyStudy) -> None:
    from brainmap.study.settings.study import load_study

    assert "hypothesis" not in load_study(tiny_inputs.file).settings.dump()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('category = "kind"', 'categry = "kind"', "unknown key 'categry'.*did you mean 'category'"),
        ('category = "kind"', 'category = "knid"', "column of the table of sounds: .*got 'knid'; did you mean 'kind'"),
        ('category = "kind"', 'category = "kind"\nphonetic = true', "got 'category', 'phonetic'; make a"),
        ('name = "kind"\ncategory = "kind"', 'name = "kind"', "kind: expected one of 'category', .*got none"),
        ('category = "kind"', 'category = "stimulus_id"', "expected more than one category, and some that items share"),
        ('category = "kind"', 'category = "flat"', "got one category for all 20 items in 'flat'"),
        ('category = "kind"', 'category = "gaps"', "value of 'gaps' for every sound, got none for 'speech0'"),
        ('category = "kind"', "phonetic = true", "no pronunciation of 'animal0'.*phonetic = 'phonemes'"),
        ('category = "kind"', 'features = ["kind"]', "expected numbers in the column 'kind', got 'speech'"),
        ('category = "kind"', 'features = ["one"]', "got the constant column 'one'"),
        ('category = "kind"', 'category = "kind"\ndissimilarity = "cosine"', "dissimilarity goes with features"),
        ('name = "emotion"', 'name = "kind"', "hypothesis 'kind', 'kind'|hypothesis 'kind': named more than once"),
        ('rdm = "ratings.csv"', 'rdm = "rating.csv"', "ratings: rdm: .*rating.csv"),
        ("inference = { splits = 4, bootstrap = 100, permutations = 999 }", 'control_for = ["knid"]', "mean 'kind'"),
        (
            'name = "kind"',
            'name = "net"',
            r"\[\[hypothesis\]\] name: 'net' is taken by the \[\[network\]\] 'net'; choose",
        ),
        ('name = "net"', 'name = "hypotheses"', "network 'hypotheses'.*named more than once"),
    ],
)
def test_mistakes_are_said_before_anything_is_computed(study: TinyStudy, old: str, new: str, words: str) -> None:
    table = pd.read_csv(study.folder / "stimuli.tsv", sep="\t", dtype=str)
    table["flat"], table["one"], table["gaps"] = "a", "1", [""] + ["a", "b"] * 9 + ["b"]
    table.to_csv(study.folder / "stimuli.tsv", sep="\t", index=False)
    text = study.file.read_text()
    assert old in text
    study.file.write_text(text.replace(old, new, 1))
    try:
        found = check(study)[0]
    except InputError as error:
        found = str(error)
    assert re.search(words, found), found
    assert not study.out.exists()


def test_items_that_a_matrix_lacks_are_named(study: TinyStudy) -> None:
    table = pd.read_csv(study.folder / "ratings.csv", index_col=0).drop(index="tool3", columns="tool3")
    table.to_csv(study.folder / "ratings.csv")
    problems, _ = check(study)
    assert "[[hypothesis]] ratings: rdm: expected the labels of all 20 items of the study, got no 'tool3'" in problems


def test_ties_are_noted_where_a_measure_favors_them(study: TinyStudy) -> None:
    assert "Nili" not in check(study)[1]
    study.edit(('radius_mm = 4.0\nmeasure = "rho-a"', 'radius_mm = 4.0\nmeasure = "spearman"'))
    notes = check(study)[1]
    assert "[[hypothesis]] kind: it has 2 different dissimilarities, and [searchlight] measure = 'spearman'" in notes
    assert notes.count("Nili") == 1


def test_conditions_as_items_take_means_of_features_and_one_category_each(study: TinyStudy) -> None:
    from brainmap.study.results.context import Context
    from brainmap.study.settings.study import load_study
    from brainmap.study.stages.hypotheses import compute_hypotheses

    table = pd.read_csv(study.folder / "stimuli.tsv", sep="\t", dtype=str)
    table["condition"] = [f"{name[:-1]}{int(name[-1]) // 3}" for name in table["stimulus_id"]]
    table["odd"] = ["x", "y"] * 10
    table.to_csv(study.folder / "stimuli.tsv", sep="\t", index=False)
    study.edit(
        ("[rsa]\n", '[rsa]\nitems = "condition"\n'), ('\n[[hypothesis]]\nname = "ratings"\nrdm = "ratings.csv"\n', "")
    )
    context = Context(load_study(study.file))
    asked = context.study.settings.hypotheses
    assert asked is not None
    rdms = compute_hypotheses(context, asked)
    items = list(dict.fromkeys(table["condition"]))
    assert list(rdms.pattern_descriptors["condition"]) == items
    means = (
        table.astype({"valence": float, "arousal": float})
        .groupby("condition")[["valence", "arousal"]]
        .mean()
        .loc[items]
    )
    values = ((means - means.mean()) / means.std(ddof=0)).to_numpy()
    i, j = np.triu_indices(len(items), 1)
    np.testing.assert_allclose(rdms.dissimilarities[1], ((values[i] - values[j]) ** 2).mean(axis=1), rtol=1e-12)
    study.edit(('category = "kind"', 'category = "odd"'))
    with pytest.raises(InputError, match="expected one category of 'speech0', got 'x' and 'y'"):
        compute_hypotheses(Context(load_study(study.file)), load_study(study.file).settings.hypotheses)  # type: ignore[arg-type]


def relabel(hypotheses: dict[str, Any], words: list[str], tokens: list[str], brains: np.ndarray) -> pd.DataFrame:
    """Relabel hypotheses and a layer against the RDMs of participants, as a study does."""
    from rsatoolbox.rdm import RDMs

    from brainmap.study.stages.inference import _relabel_models

    items = {"stimulus_id": [f"{a}_{b}" for a, b in zip(words, tokens, strict=True)], "condition": words}
    layer = np.random.default_rng(3).random(brains.shape[1])
    names = {"network": ["net", *["hypotheses"] * len(hypotheses)], "layer": ["conv1", *hypotheses]}
    how: dict[str, Any] = {"descriptors": {"level": "stimulus"}, "pattern_descriptors": items}
    models = RDMs(np.stack([layer, *hypotheses.values()]), rdm_descriptors=names, **how)
    roi = {"roi": ["A1"] * len(brains), "participant": [str(k) for k in range(len(brains))]}
    inference = SimpleNamespace(permutations=199)
    rsa = SimpleNamespace(measure="rho-a", inference=inference)
    settings = SimpleNamespace(rsa=rsa, network=(), study=SimpleNamespace(seed=0))
    context: Any = SimpleNamespace(study=SimpleNamespace(settings=settings))
    return _relabel_models(context, models, RDMs(brains, rdm_descriptors=roi, **how))


def simulate(rng: np.random.Generator, patterns: np.ndarray) -> np.ndarray:
    """RDMs of six participants who share the geometry of patterns (n_items, n_voxels)."""
    from scipy.spatial.distance import pdist

    return np.stack([pdist(patterns + 0.3 * rng.normal(size=patterns.shape)) ** 2 for _ in range(6)])


def differ(values: list[str]) -> np.ndarray:
    codes = np.array(values)
    i, j = np.triu_indices(len(codes), 1)
    return np.asarray(codes[i] != codes[j], dtype=float)


@pytest.mark.slow
@pytest.mark.parametrize("tell_words_apart", [False, True])
def test_p_of_hypotheses_keeps_its_level_whatever_is_exchanged(tell_words_apart: bool) -> None:
    """Words have two tokens. The hypothesis of words needs single sounds; that of kinds of words whole conditions."""
    words, tokens = [f"w{k // 2}" for k in range(24)], [f"t{k % 2}" for k in range(24)]
    kinds = [f"k{k // 12}" for k in range(24)]
    rng = np.random.default_rng(2)
    found: dict[str, list[float]] = {"word": [], "kind": []}
    for _ in range(200):
        patterns = rng.normal(size=(24, 40))
        if tell_words_apart:
            patterns = np.repeat(rng.normal(size=(12, 40)), 2, axis=0) + 0.5 * patterns
        table = relabel({"word": differ(words), "kind": differ(kinds)}, words, tokens, simulate(rng, patterns))
        assert table.attrs["single"] == ["word"]
        p = table.set_index("model")["p"]
        found["word"].append(p["word"])
        found["kind"].append(p["kind"])
    rates = {name: float(np.mean(np.array(p) <= 0.05)) for name, p in found.items()}
    assert rates["kind"] <= 0.09, rates  # 200 simulations: .05 + 2.6 standard errors
    if tell_words_apart:
        assert rates["word"] > 0.95, rates
    else:
        assert 0.01 <= rates["word"] <= 0.09, rates


def test_a_hypothesis_that_single_sounds_test_changes_no_number_of_the_others() -> None:
    words, tokens = [f"w{k // 2}" for k in range(12)], [f"t{k % 2}" for k in range(12)]
    rng = np.random.default_rng(0)
    brains = simulate(rng, rng.normal(size=(12, 30)))
    kinds = {"kind": differ([f"k{k // 6}" for k in range(12)])}
    alone = relabel(kinds, words, tokens, brains)
    both = relabel({"word": differ(words), **kinds}, words, tokens, brains)
    assert both["model"].tolist() == ["conv1", "word", "kind"]
    pd.testing.assert_frame_equal(both.drop(index=1).reset_index(drop=True), alone)
    assert "single" not in alone.attrs
    assert "corrected apart from other models" in both.attrs["note"]


@pytest.mark.slow
def test_a_hypothesis_can_be_controlled_for(study: TinyStudy) -> None:
    study.edit(
        ('measure = "rho-a"\ninference', 'measure = "rho-a"\ncontrol_for = ["kind"]\ninference'),
        (", bootstrap = 100, permutations = 999", ""),
    )
    study.file.write_text(study.file.read_text().partition("[searchlight]")[0])
    study.run()
    scores = read(study, "scores")
    assert set(scores[scores["network"] == "hypotheses"]["layer"]) == {"emotion", "ratings"}
    assert read(study, "ceilings").set_index("roi")["lower"]["kinds"] < 0.15


@pytest.mark.parametrize(
    ("name", "taken_by"),
    [
        ("net", "the [[network]] 'net'"),
        ("net-untrained", "the untrained control of the [[network]] 'net'"),
        ("mfcc", "the acoustic model 'mfcc' of [baselines]"),
        ("acoustics", "[baselines] name = 'acoustics'"),
        ("noise-only", "'noise-only', a model of the design"),
        ("nets", "seed_of of the [[network]] 'net'"),
    ],
)
def test_a_hypothesis_has_no_name_of_another_model(name: str, taken_by: str) -> None:
    network = SimpleNamespace(name="net", controls=("untrained",), seed_of="nets")
    baselines = SimpleNamespace(name="acoustics", models=("mfcc",))
    check_hypothesis_names(["net2", "kind"], [network], baselines, ["noise-only"])
    with pytest.raises(ValueError, match=re.escape(f"{name!r} is taken by {taken_by}; choose another name")):
        check_hypothesis_names(["kind", name], [network], baselines, ["noise-only"])
