"""`[rsa] control_for`: acoustic models are partialled out of the scores and ceilings of regions."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rsatoolbox.rdm.rdms import RDMs

from brainmap import rsa
from brainmap.errors import InputError
from brainmap.study.run import Context, check_study
from brainmap.study.settings.study import load_study
from brainmap.study.stages.controls import check_pairs
from tests.conftest import sound_ids

BASELINES = '\n[baselines]\nmodels = ["mfcc", "cochleagram"]\n\n[rsa]\n'
PEARSON = ('measure = "rho-a"', 'measure = "pearson"')


@pytest.mark.slow
def test_scores_and_ceilings_are_partial_and_a_control_is_no_longer_compared(tiny_study: Any) -> None:
    controlled = BASELINES + 'control_for = ["mfcc"]\n'
    silent = (
        "[explain]\nmaximization = { steps = 2, classes = 2, channels = 1, best_layers = 1, judges = 'none' }\n",
        "",
    )
    tiny_study.edit(("\n[rsa]\n", controlled), PEARSON, ("[searchlight]\nradius_mm = 6.0\n", ""), silent)
    tiny_study.run(page=True)
    out = tiny_study.out
    table = pd.read_csv(out / "group" / "scores.tsv", sep="\t", dtype={"participant": str})
    assert set(table.loc[table["network"] == "acoustics", "layer"]) == {"cochleagram"}
    assert json.loads((out / "group" / "scores.json").read_text())["Measure"] == "linear partial correlation (Pearson)"
    measure = load_study(tiny_study.file).settings.rsa.measure
    acoustics = rsa.load_rdms(out / "rdms" / "network-acoustics_rdms.h5")
    controls = acoustics.subset("layer", ["mfcc"])
    (brain,) = (out / "sub-01").rglob("*rdms.h5")
    brains = rsa.load_rdms(brain)
    expected = rsa.compare_rdms_partial(acoustics.subset("layer", ["cochleagram"]), brains, controls, measure=measure)
    own = table[(table["network"] == "acoustics") & (table["participant"] == "01")].set_index("roi")["score"]
    regions = [str(roi) for roi in brains.rdm_descriptors["roi"]]
    np.testing.assert_allclose(own[regions], expected[0])
    everybody = rsa.stack_rdms([rsa.load_rdms(path) for path in sorted(out.glob("sub-*/**/*rdms.h5"))])
    bounds = rsa.partial_ceilings(everybody, controls, measure=measure).set_index("roi")
    found = pd.read_csv(out / "group" / "ceilings.tsv", sep="\t").set_index("roi")
    np.testing.assert_allclose(found["upper"], bounds.loc[found.index, "upper"])
    page = (out / "report.html").read_text()
    assert "What the acoustic model mfcc explains was partialled out" in page
    assert "<dt>Removed from layers and brain</dt><dd>mfcc</dd>" in page
    assert "compared by a linear partial correlation (Pearson)" in page
    tiny_study.edit(('control_for = ["mfcc"]', "control_for = []"))
    assert {"sub-01_rois", "group_rois"} <= tiny_study.run()


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ('\n[rsa]\ncontrol_for = ["mfcc"]\n', "there are none"),
        (BASELINES + 'control_for = ["cochleogram"]\n', "did you mean 'cochleagram'"),
    ],
)
def test_controls_that_are_no_baselines_are_said(tiny_study: Any, section: str, words: str) -> None:
    tiny_study.edit(("\n[rsa]\n", section))
    with pytest.raises(InputError, match=words):
        load_study(tiny_study.file)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.slow
def test_the_order_of_events_is_controlled_for_where_betas_know_it(tiny_study: Any, known: bool) -> None:
    """`noise-only` has the form of the brain's dissimilarity, here correlation."""
    light = ("[searchlight]\nradius_mm = 6.0\n", "")
    silent = (
        "[explain]\nmaximization = { steps = 2, classes = 2, channels = 1, best_layers = 1, judges = 'none' }\n",
        "",
    )
    tiny_study.edit(
        light,
        silent,
        PEARSON,
        ("\n[rsa]\n", '\n[rsa]\ncontrol_for = ["noise-only"]\n'),
        ('dissimilarity = "crossnobis"', 'dissimilarity = "correlation"'),
    )
    text = tiny_study.file.read_text()
    first, third = text.index("[[brain]]"), text.rindex("[[brain]]")
    only = text[third:].replace("betas_run-{run}.nii", "s_run-{run}_desc-lsa_betas.nii")
    tiny_study.file.write_text(text[:first] + only)
    own = tiny_study.folder / "sub-03"
    for image in own.glob("betas_run-*.nii.gz"):
        image.rename(own / image.name.replace("betas_", "s_").replace(".nii", "_desc-lsa_betas.nii"))
    if not known:
        (problem,) = check_study(Context(load_study(tiny_study.file))).problems
        assert "participant 03: [rsa] control_for: 'noise-only' needs the order of the events" in problem
        with pytest.raises(InputError, match="needs the order of the events"):
            tiny_study.run()
        return
    names, file = sound_ids(), own / "s_desc-lsa_designrdms.h5"
    variance = np.linspace(2.0, 5.0, len(names))

    def write(seed: int, level: str = "stimulus", known: bool = True) -> None:
        vectors = np.random.default_rng(seed).random((2, len(names) * (len(names) - 1) // 2))
        items = {"stimulus_id": names} | ({"noise_variance": variance} if known else {})
        rdms = RDMs(
            vectors,
            dissimilarity_measure="seconds",
            descriptors={"level": level},
            rdm_descriptors={"name": ["noise-only", "elapsed-time"]},
            pattern_descriptors=items,
        )
        rsa.save_rdms(rdms, file)

    write(0, "condition")
    (problem,) = check_study(Context(load_study(tiny_study.file))).problems
    assert "s_desc-lsa_designrdms.h5 is of conditions, and [rsa] items = 'stimulus'" in problem
    write(0, known=False)
    problems = check_study(Context(load_study(tiny_study.file))).problems
    assert any("do not hold the noise of each item" in one for one in problems)
    write(0)
    assert check_study(Context(load_study(tiny_study.file))).problems == ()
    tiny_study.run(page=True)
    table = pd.read_csv(tiny_study.out / "group" / "scores.tsv", sep="\t", dtype={"participant": str})
    (path,) = (tiny_study.out / "sub-03").rglob("*rdms.h5")
    models = rsa.load_rdms(tiny_study.out / "rdms" / "network-net_rdms.h5")
    control = rsa.load_rdms(file).subset("name", ["noise-only"])
    i, j = np.triu_indices(len(names), 1)
    covariance = (variance[i] + variance[j] - control.dissimilarities) / 2
    control.dissimilarities = 1 - covariance / np.sqrt(variance[i] * variance[j])
    expected = rsa.compare_rdms_partial(models, rsa.load_rdms(path), control, measure="pearson")
    np.testing.assert_allclose(table["score"], expected.ravel())
    page = (tiny_study.out / "report.html").read_text()
    assert "own order of events explains (the noise-only RDM" in page
    assert "What the acoustic models" not in page
    write(1)
    assert {"sub-03_rois", "group_rois"} <= tiny_study.run()


@pytest.mark.parametrize(
    ("controls", "words"),
    [
        (
            ["mfcc"],
            "takes 6 columns, got 8; take more items or fewer controls",
        ),
        (["mfcc", "cochleagram"], "takes 18 columns, got 8"),
        (["mfcc", "cochleagram", "elapsed-time"], "takes 16 columns, got 8"),
    ],
)
def test_controls_that_take_more_columns_than_the_items_allow_are_said_beforehand(
    tiny_study: Any, controls: list[str], words: str
) -> None:
    tiny_study.edit(("\n[rsa]\n", BASELINES + f"control_for = {json.dumps(controls)}\n"))
    found = [line for line in check_study(Context(load_study(tiny_study.file))).problems if "columns" in line]
    assert len(found) == 1
    assert words in found[0]
    assert "'pearson', which removes straight lines only" in found[0]
    tiny_study.edit(PEARSON)
    findings = check_study(Context(load_study(tiny_study.file)))
    assert not [line for line in findings.problems if "columns" in line]
    assert any("pearson removes what the controls explain along straight lines" in note for note in findings.notes)


def test_three_controls_with_items_enough_are_noted_as_a_switch(tiny_study: Any, monkeypatch: Any) -> None:
    tiny_study.edit(("\n[rsa]\n", BASELINES + 'control_for = ["mfcc", "cochleagram", "elapsed-time"]\n'))
    context = Context(load_study(tiny_study.file))
    monkeypatch.setattr(Context, "stimuli", {f"s{k}": f"w{k}" for k in range(24)})
    switch, halves = check_pairs(context)
    assert "3 controls are too many for ranks" in switch
    assert "best layers are not chosen" in halves
    assert context.study.settings.rsa.score == "spline partial correlation (Pearson)"


@pytest.mark.parametrize("measure", ["tau-a", "cosine", "corr_cov"])
def test_measures_without_a_partial_form_are_refused(tiny_study: Any, measure: str) -> None:
    tiny_study.edit(("\n[rsa]\n", BASELINES + 'control_for = ["mfcc"]\n'), (PEARSON[0], f'measure = "{measure}"'))
    with pytest.raises(
        InputError, match=r"expected measure 'rho-a', 'spearman', 'pearson', got .* no partial form that is 0"
    ):
        load_study(tiny_study.file)
