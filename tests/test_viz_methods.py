"""The methods section tells what was done on the brain side: the GLM, and where its noise came from."""

from __future__ import annotations

from typing import Any

import pytest

from brainmap.study_inputs import Glm
from brainmap.viz.methods import methods_paragraph

CROSSNOBIS = {"rsa": {"dissimilarity": "crossnobis"}}


def said(**brain: Any) -> str:
    return methods_paragraph({**CROSSNOBIS, "brain": [{"participants": ["01"], "noise": "runs", **brain}]})


@pytest.mark.parametrize(
    ("glm", "words"),
    [
        ({}, ["one of each trial_type", "glover hemodynamic response", "AR(1)", "high-pass chosen so that"]),
        ({"model": "lss", "noise": "ols"}, ["least squares, separate", "by ordinary least squares"]),
        ({"model": "lss"}, ["for ARMA(1,1) noise, whose parameters were found by restricted maximum likelihood"]),
        ({"model": "lsa", "afni_grid": 4}, ["for ARMA(1,1) noise of each voxel", "of AFNI's 3dREMLfit (-Grid 4)"]),
        ({"polort": "A"}, ["Legendre polynomials"]),
        ({"high_pass": 100.0, "strategy": "motion6+csf-wm"}, ["high-pass 100.0 s", "regressors: motion6+csf-wm."]),
    ],
)
def test_the_general_linear_model_is_described_where_a_study_begins_with_bold(
    glm: dict[str, Any], words: list[str]
) -> None:
    text = said(kind="bold", glm=Glm(**glm).model_dump())
    for word in words:
        assert word in text, text
    assert "None" not in text
    assert "linear model" not in said(kind="betas", glm=Glm().model_dump())


def test_noise_is_of_the_source_and_the_estimate_that_were_used() -> None:
    assert "residuals of the general linear models, shrunk" in said(noise="residuals", precision="shrinkage")
    assert "over runs; only variances" in said(precision="diag")
    assert "shrunk" not in said(precision="full")
    both = [{"noise": "runs"}, {"noise": "none"}]
    assert "another way in some groups" in methods_paragraph({**CROSSNOBIS, "brain": both})
