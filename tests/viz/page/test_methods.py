"""The methods section tells what was done on the brain side: the GLM, and where its noise came from."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainmap.rsa.rdm.dissimilarity import compute_dissimilarities
from brainmap.study.settings.brain import Glm
from brainmap.study.settings.study import Rsa
from brainmap.viz.page import methods
from brainmap.viz.page.citations import (
    WORKS,
    list_works,
    write_bibliography,
    write_latex,
    write_markdown,
    write_references,
)
from brainmap.viz.page.methods import methods_paragraph

CROSSNOBIS = {"rsa": {"dissimilarity": "crossnobis"}}


def said(**brain: Any) -> str:
    return methods_paragraph({**CROSSNOBIS, "brain": [{"participants": ["01"], "noise": "runs", **brain}]})


@pytest.mark.parametrize(
    ("glm", "words"),
    [
        ({}, ["one of each trial_type", "glover hemodynamic response", "AR(1)", "high-pass chosen so that"]),
        ({"model": "lss", "noise_model": "ols"}, ["least squares, separate", "by ordinary least squares"]),
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
    assert "residuals of the general linear models, shrunk" in said(noise="residuals", covariance="shrinkage")
    assert "over runs, for each run from those of the other runs; only variances" in said(covariance="diag")
    assert "shrunk" not in said(covariance="full")
    both = [{"noise": "runs", "participants": ["01", "02"]}, {"noise": "none", "participants": ["03"]}]
    text = methods_paragraph({**CROSSNOBIS, "brain": both, "searchlight": {"dissimilarity": "crossnobis"}})
    mixed = (
        "in 01, 02 it came from the deviations of patterns from their mean over runs, for each run from the other runs"
    )
    assert f"not treated alike in all participants: {mixed}; in 03 patterns were not weighted by it." in text
    assert f"not treated alike in all participants ({mixed}; in 03" in text


def test_participants_with_other_runs_are_named() -> None:
    text = methods_paragraph({"facts": {"participants": 3, "unequal_runs": "3 each, but 2 of 03"}})
    assert "3 participants were analyzed, with 3 each, but 2 of 03 runs." not in text
    assert "3 participants were analyzed (runs: 3 each, but 2 of 03)." in text


def compare_two(x: np.ndarray, kernel: Callable[[np.ndarray, np.ndarray], float]) -> float:
    """The mean of a function of two runs' patterns of two items over all pairs of different runs."""
    return float(np.mean([kernel(x[m], x[n]) for m in range(len(x)) for n in range(len(x)) if m != n]))


def multiply(a: np.ndarray, b: np.ndarray) -> float:
    return float((a[0] - a[1]) @ (b[0] - b[1]) / a.shape[1])


def correlate(a: np.ndarray, b: np.ndarray) -> float:
    r = np.corrcoef(a, b)[:2, 2:]
    return float((r[0, 0] + r[1, 1]) / 2 - r[0, 1])


def measure_angles(a: np.ndarray, b: np.ndarray) -> float:
    c = np.array([[x @ y / np.sqrt(x @ x * (y @ y)) for y in b] for x in a])
    return float((c[0, 0] + c[1, 1]) / 2 - c[0, 1])


PRODUCT = "product of the difference of two patterns in one run with their difference in another"


@pytest.mark.parametrize(
    ("dissimilarity", "kernel", "within", "between"),
    [
        ("correlation", correlate, "one minus the Pearson correlation", "(r(i, i) + r(j, j)) / 2 - r(i, j)"),
        ("cosine", measure_angles, "one minus the cosine", "(c(i, i) + c(j, j)) / 2 - c(i, j)"),
        ("euclidean", multiply, "squared Euclidean distance between patterns, divided by", PRODUCT),
        ("crossnobis", multiply, PRODUCT, PRODUCT),
        ("mahalanobis", multiply, "squared Mahalanobis distance between patterns, divided by", PRODUCT),
    ],
)
def test_each_dissimilarity_is_what_the_methods_say(
    dissimilarity: Any, kernel: Callable[[np.ndarray, np.ndarray], float], within: str, between: str
) -> None:
    """Sentence and number side by side: what is written of runs is computed by numpy alone, and so is one set."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 2, 8)) + 2
    root = rng.normal(size=(8, 20))
    precision = root @ root.T if dissimilarity in ("crossnobis", "mahalanobis") else None
    whitened = x if precision is None else x @ np.linalg.cholesky(precision)
    (found,) = compute_dissimilarities(x, dissimilarity=dissimilarity, precision=precision)
    assert found == pytest.approx(compare_two(whitened, kernel), rel=1e-12)
    for key in ("rsa", "searchlight"):
        settings = {key: {"dissimilarity": dissimilarity}, "brain": [{"noise": "runs"}]}
        assert between in methods_paragraph({**settings, "facts": {"between_runs": True}})
        alone = methods_paragraph({**settings, "facts": {"between_runs": False}})
        assert within in alone
        assert ("different runs" in alone) == (dissimilarity == "crossnobis")
    if dissimilarity != "crossnobis":
        (found,) = compute_dissimilarities(x[0], dissimilarity=dissimilarity, precision=precision)
        assert found == pytest.approx(kernel(whitened[0], whitened[0]), rel=1e-12)


def test_a_searchlight_by_crossnobis_without_noise_is_called_euclidean() -> None:
    text = methods_paragraph({"searchlight": {"dissimilarity": "crossnobis"}, "brain": [{"noise": "none"}]})
    assert "without weights, so that it is a squared Euclidean distance" in text


def test_methods_say_how_many_relabelings_there_were() -> None:
    settings = {"rsa": {"inference": {"permutations": 2000}, "measure": "rho-a"}}
    facts = {"tests": {"scores": "relabeling"}, "exchanged": "8 conditions exchanged"}
    exact = methods_paragraph({**settings, "facts": {**facts, "relabelings": "all 40,320 relabelings"}})
    assert "(all 40,320 relabelings; 8 conditions exchanged; Kriegeskorte" in exact
    assert "(at most 2,000 relabelings, all where there are fewer;" in methods_paragraph({**settings, "facts": facts})


def of_tests(facts: dict[str, Any], **inference: Any) -> str:
    rsa = Rsa(inference=inference).model_dump()
    return methods_paragraph({"rsa": rsa, "facts": {"participants": 12, **facts}})


def test_the_first_test_is_told_with_the_one_over_participants_beside_it() -> None:
    both = of_tests(
        {
            "tests": {"scores": "relabeling", "differences": "bootstrap"},
            "bootstrapped": True,
            "exchanged": "16 whole conditions exchanged",
        }
    )
    assert "one-sided, by relabeling the sounds of the layers, jointly for all participants" in both
    assert "16 whole conditions exchanged" in both
    assert "Beside it stands a one-sided Wilcoxon signed-rank test over participants" in both
    assert "It takes the sounds as fixed and speaks of these sounds only." in both
    assert "1,000 bootstrap resamples of participants and conditions at once" in both
    assert "no claim about networks" not in both


def test_where_the_test_over_participants_stands_alone_no_claim_is_made_about_networks() -> None:
    alone = of_tests(
        {"tests": {"scores": "participants", "differences": "participants"}, "bootstrapped": False},
        test="sign-flip",
    )
    assert "Scores were tested against zero by a one-sided sign-flip permutation test over participants" in alone
    assert "relabeling" not in alone
    assert "bootstrap" not in alone
    assert "over participants, two-sided: of these sounds only, with no claim about networks" in alone


def test_sounds_that_were_chosen_to_differ_are_no_sample() -> None:
    assert "no sample of sounds" in methods_paragraph({"stimuli": {"table": "s.tsv", "selected": True}})
    assert "no sample" not in methods_paragraph({"stimuli": {"table": "s.tsv", "selected": False}})


def test_methods_are_copied_in_three_formats_with_the_works_that_they_cite() -> None:
    text = (
        "Compared by rho-a at 5 % (a toolbox; Nili et al. 2014, doi:10.1371/journal.pcbi.1003553), by relabeling "
        "(Kriegeskorte et al. 2008), in spheres of x_1 (Kriegeskorte et al. 2006, doi:10.1073/pnas.0600244103)."
    )
    assert [work.key for work in list_works(text)] == ["kriegeskorte2006", "kriegeskorte2008", "nili2014"]
    assert "(a toolbox; @nili2014), by relabeling (@kriegeskorte2008), in spheres of x\\_1" in write_markdown(text)
    latex = write_latex(text)
    assert "at 5 \\% (a toolbox; \\citealp{nili2014})" in latex
    assert "x\\_1 (\\citealp{kriegeskorte2006})" in latex
    entries = write_bibliography(text)
    assert entries.count("@article{") == 3
    assert "  author = {Nili, Hamed and Wingfield, Cai and" in entries
    assert "  pages = {3863--3868}," in entries
    assert write_references(text).endswith("doi:10.1371/journal.pcbi.1003553")


def test_every_work_with_a_doi_in_a_methods_section_is_known() -> None:
    """A citation that is added to the template must be added to the list of works, too."""
    folder = Path(str(methods.__file__)).parent
    for file in (folder / "templates" / "methods.txt.j2", folder / "methods.py"):
        source = re.sub(r'"\s*\n\s*f?"', "", file.read_text(encoding="utf-8"))
        found = re.findall(r'doi:(10\.[^\s;,}]+?)[.):"]*(?=[\s;,{}]|$)', source)
        assert found
        known = {work.doi for work in WORKS}
        assert {doi for doi in found if doi not in known and not doi.startswith("10.1016/S0047")} == set()
    assert len({work.key for work in WORKS}) == len(WORKS)


@pytest.mark.parametrize(
    ("fed", "words"),
    [
        ({}, "at 22,050 Hz, 2 s long, scaled to an RMS of 0.05 of full scale. Activations"),
        ({"level": "none", "cut": 3}, "2 s long (3 of 24 were cut), at the level of the files. Activations"),
        ({"padded": 24, "padding": 0.414}, "24 of 24 sounds were shorter and padded with zeros, 41 % of all that was"),
        ({"own_lengths": True, "level": "peak"}, "at its own length, scaled to a peak of 0.5 of full scale."),
        ({"own_lengths": True, "cut": 2}, "at its own length up to 2 s (2 were cut),"),
    ],
)
def test_how_a_network_was_fed_is_told(fed: dict[str, Any], words: str) -> None:
    plain = {"rate": 22_050, "seconds": 2.0, "level": "rms", "own_lengths": False, "sounds": 24, "cut": 0, "padded": 0}
    facts = {"networks": {"mini": {"layers": 3, "fed": {**plain, "padding": 0.0, **fed}}}}
    network = {"name": "mini", "layers": "all", "pooling": "mean"}
    assert words in methods_paragraph({"network": network, "facts": facts})
    assert "heard every sound. Activations" in methods_paragraph(
        {"network": network, "facts": {"networks": {"mini": {}}}}
    )
