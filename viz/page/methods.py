"""Write a methods section, with citations, from the settings of a study."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from brainmap.rsa.comparison.measures import find_measure
from brainmap.rsa.comparison.splines import choose_form, count_columns, name_partial

_FOLDER = Path(__file__).with_name("templates")
_MEASURES = {
    "rho-a": "rank correlation rho-a, whose expected value under random tie-breaking suits models with ties",
    "tau-a": "Kendall's tau-a",
    "tau-b": "Kendall's tau-b",
    "spearman": "Spearman correlation",
    "pearson": "Pearson correlation",
    "corr": "Pearson correlation",
    "cosine": "cosine similarity",
    "corr_cov": "correlation whitened by the covariance of dissimilarities (Diedrichsen et al. 2021, "
    "doi:10.51628/001c.27664)",
    "cosine_cov": "cosine similarity whitened by the covariance of dissimilarities (Diedrichsen et al. 2021, "
    "doi:10.51628/001c.27664)",
    "bures": "Bures similarity",
}
_GEOMETRIES = {
    "correlation": "one minus the Pearson correlation between patterns",
    "euclidean": "the squared Euclidean distance between patterns, divided by their number of channels",
    "crossnobis": "the cross-validated Mahalanobis distance (crossnobis): the product of the difference of two "
    "patterns in one run with their difference in another, averaged over all pairs of different runs that have both "
    "and divided by the number of voxels; negative estimates were kept (Walther et al. 2016, "
    "doi:10.1016/j.neuroimage.2015.12.012)",
    "mahalanobis": "the squared Mahalanobis distance between patterns, divided by their number of channels",
    "cosine": "one minus the cosine between patterns",
}
_BETWEEN_RUNS = {  # the same where two runs or more were measured
    "correlation": "the correlation distance between runs: with r(a, b) the Pearson correlation of pattern a in one "
    "run with pattern b in another, averaged over all pairs of different runs that have both items, the distance of "
    "items i and j was (r(i, i) + r(j, j)) / 2 - r(i, j)",
    "cosine": "the cosine distance between runs: with c(a, b) the cosine of pattern a in one run and pattern b in "
    "another, averaged over all pairs of different runs that have both items, the distance of items i and j was "
    "(c(i, i) + c(j, j)) / 2 - c(i, j)",
    "euclidean": "the squared Euclidean distance between runs: the product of the difference of two patterns in one "
    "run with their difference in another, averaged over all pairs of different runs that have both and divided by the "
    "number of voxels; negative estimates were kept",
    "mahalanobis": "the squared Mahalanobis distance between runs, which is crossnobis (Walther et al. 2016, "
    "doi:10.1016/j.neuroimage.2015.12.012): the product of the difference of two patterns in one run with their "
    "difference in another, averaged over all pairs of different runs that have both and divided by the number of "
    "voxels; negative estimates were kept",
}
_TESTS = {
    "signed-rank": "a one-sided Wilcoxon signed-rank test over participants",
    "t": "a one-sided t test over participants",
    "sign-flip": "a one-sided sign-flip permutation test over participants",
}
_PAIRED = {"signed-rank": "a Wilcoxon signed-rank test", "t": "a t test", "sign-flip": "a sign-flip permutation test"}
_CORRECTIONS = {
    "fdr": "the false discovery rate over layers and regions was controlled at .05 "
    "(Benjamini and Hochberg 1995, doi:10.1111/j.2517-6161.1995.tb02031.x)",
    "max-t": "the family-wise error rate was controlled at .05 by the distribution of the maximal statistic "
    "(Nichols and Holmes 2002, doi:10.1002/hbm.1058)",
    "cluster-mass": "the family-wise error rate was controlled at .05 by the distribution of the largest cluster mass, "
    "the sum over a cluster of what t exceeds the threshold by (Bullmore et al. 1999, doi:10.1109/42.750253)",
    "tfce": "the family-wise error rate was controlled at .05 by the distribution of the largest threshold-free "
    "cluster enhancement (E = .5, H = 2, exact integral; Smith and Nichols 2009, doi:10.1016/j.neuroimage.2008.03.061)",
    "none": "p values were not corrected for the number of tests",
    "bonferroni": "the family-wise error rate was controlled at .05 by Bonferroni's method",
}


def _list_values(value: Any) -> list[Any]:
    """Return a table or a list of tables, as study files allow, as a list."""
    if value is None or isinstance(value, jinja2.Undefined):
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _describe_dissimilarity(key: Any, between_runs: Any = False) -> str:
    """Describe a dissimilarity in words; between runs, only products of different runs are used."""
    named = str(key)
    known = _GEOMETRIES | _BETWEEN_RUNS if between_runs else _GEOMETRIES
    return known.get(named, named)


def _describe_noise(brain: Any) -> str:
    """Describe whose noise was estimated from what, where groups of participants differ."""
    who: dict[str, list[str]] = {}
    for group in _list_values(brain):
        who.setdefault(str(group.get("noise")), []).extend(map(str, group.get("participants") or ()))
    said = {
        "runs": "it came from the deviations of patterns from their mean over runs, for each run from the other runs",
        "residuals": "it came from the residuals of the general linear models",
        "none": "patterns were not weighted by it",
    }
    return "; ".join(
        f"in {', '.join(people) or 'some'} {said.get(noise, noise)}" for noise, people in who.items() if noise in said
    )


def _describe_controls(rsa: Mapping[str, Any]) -> str:
    """Describe in words how control models were partialled out of the comparison."""
    measure, n = find_measure(str(rsa["measure"])), len(rsa["control_for"])
    form, name = choose_form(measure, n), name_partial(measure, n)
    columns = f"({count_columns(form, n)} columns)"
    how = {
        "ranks": f"a cubic spline of the control's ranks {columns}"
        if n == 1
        else f"the values of both controls and the products of cubic splines of their ranks {columns}",
        "additive": f"the sum of a cubic spline of each control {columns}; more than two controls are too many for "
        "ranks, and interactions of controls stay",
        "linear": "the controls; what both share with a control along a curve stays",
    }[form]
    what = "ranks" if form == "ranks" else "dissimilarities"
    return f"a {name}: what was left of the {what} of both after regression was correlated. The regression was on {how}"


def _join_words(words: Mapping[str, str]) -> Any:
    return lambda key: words.get(str(key), str(key))


@functools.cache
def _load_template() -> jinja2.Template:
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(_FOLDER), undefined=jinja2.ChainableUndefined)
    environment.filters |= {
        "several": _list_values,
        "measure": _join_words(_MEASURES),
        "geometry": _describe_dissimilarity,
        "test": _join_words(_TESTS),
        "paired": _join_words(_PAIRED),
        "correction": _join_words(_CORRECTIONS),
        "partial": _describe_controls,
        "noise": _describe_noise,
        "thousands": lambda n: f"{n:,}",
    }
    return environment.get_template("methods.txt.j2")


def methods_paragraph(settings: Mapping[str, Any]) -> str:
    """Write the methods section of a study from its settings; missing settings are not mentioned.

    Parameters
    ----------
    settings : mapping
        The sections of a study file as plain values: `study`, `stimuli`, `network` (a table or a list), `brain`
        (a table or a list), `rsa`, `searchlight`, `explain`, `baselines`. A section `facts` may add what the study
        found: `stimuli`, `conditions`, `participants`, `runs`, `mask_voxels`, `sphere_voxels` (numbers),
        `unequal_runs` (who has how many, in words),
        `networks` (mapping name -> {"parameters", "layers", "accuracy", "fed"}), `simulated` (bool), `planted` (mapping
        roi -> layer), `between_runs` (bool: brain dissimilarities took products of different runs only), `halved`
        (bool: best layers were chosen on one half of the items), `tests` (mapping "scores" and "differences" -> which
        test came first: "relabeling", "bootstrap" or "participants"), `best_layers` (bool: best layers of networks were
        compared), `exchanged` and `relabelings` (what relabeling exchanged, and how many
        relabelings there were, in words), `version` (str).

    Returns
    -------
    str
        Paragraphs separated by an empty line.

    Examples
    --------
    >>> text = methods_paragraph({"rsa": {"items": "condition", "dissimilarity": "correlation", "measure": "spearman"}})
    >>> "Spearman correlation" in text, "searchlight" in text
    (True, False)
    """
    text = _load_template().render(**settings)
    # Tags leave spaces before punctuation, which are removed; the space before ".05" is kept.
    paragraphs = (re.sub(r" ([.,;])(?=\s|$)", r"\1", " ".join(part.split())) for part in text.split("¶"))
    return "\n\n".join(part for part in paragraphs if part)
