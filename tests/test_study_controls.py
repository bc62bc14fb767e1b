"""`[rsa] control_for`: acoustic models are partialled out of the scores and ceilings of regions."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from brainmap import rsa
from brainmap.errors import InputError
from brainmap.study import load_study

BASELINES = '\n[baselines]\nmodels = ["mfcc", "cochleagram"]\n\n[rsa]\n'


def test_scores_and_ceilings_are_partial_and_a_control_is_no_longer_compared(tiny_study: Any) -> None:
    controlled = BASELINES + 'control_for = ["mfcc"]\n'
    silent = ("[explain]\nmaximization = { steps = 2, classes = 2, channels = 1, best_layers = 1 }\n", "")
    tiny_study.edit(("\n[rsa]\n", controlled), ("[searchlight]\nradius_mm = 6.0\n", ""), silent)
    tiny_study.run(page=True)
    out = tiny_study.out
    table = pd.read_csv(out / "group" / "scores.tsv", sep="\t", dtype={"participant": str})
    assert set(table.loc[table["network"] == "acoustics", "layer"]) == {"cochleagram"}
    assert json.loads((out / "group" / "scores.json").read_text())["Measure"].startswith("partial ")
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
    assert "mfcc explain was partialled out" in (out / "report.html").read_text()
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
