"""[explain]: patterns of classes judged by other networks, by the prior that is asked for."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from brainmap.errors import InputError
from brainmap.features.representations.files import open_maximizations
from tests.conftest import write_checkpoint

ROIS_ONLY = ("[searchlight]\nradius_mm = 6.0\n", "")


@pytest.mark.slow
def test_classes_are_judged_by_named_networks_and_the_page_says_so(tiny_study: Any) -> None:
    write_checkpoint(tiny_study.folder / "judge.safetensors", seed=7)
    tiny_study.edit(ROIS_ONLY, ("judges = 'none'", 'judges = ["judge.safetensors"], prior = "none"'))
    ran = tiny_study.run(page=True)
    assert "explain_maximization" in ran
    table = pd.read_csv(tiny_study.out / "features" / "network-net_maximization.tsv", sep="\t", na_values="n/a")
    classes = table[table["layer"] == "output"]
    assert set(classes["prior"]) == {"none"}
    assert classes["transfer"].isin([0, 1]).all()
    assert classes[["random_transfer", "best_random", "noise_voiced"]].notna().all(axis=None)
    assert table.loc[table["layer"] != "output", "transfer"].isna().all()
    patterns = open_maximizations(tiny_study.out / "features" / "network-net_features.zarr")
    assert patterns["output"].prior == "none"
    page = (tiny_study.out / "report.html").read_text()
    assert "without any prior" in page
    assert "no other network" in page or "1 of 1 networks" in page
    assert "took no part in the ascent judged the patterns" in page
    assert "explain_maximization" not in tiny_study.run()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('judges = ["nobody.safetensors"]', "nobody.safetensors"),
        ("prior = 'decoder', judges = 'none'", "give a decoder of that rate and length"),
        ("prior = 'audio', decoder = 'mine.safetensors', judges = 'none'", "takes no decoder"),
        ("prior = 'audo', judges = 'none'", "'audio'"),
    ],
)
def test_priors_and_judges_are_checked_before_anything_runs(tiny_study: Any, change: str, said: str) -> None:
    from brainmap.study.check import check_study
    from brainmap.study.run import Context
    from brainmap.study.settings.study import load_study

    tiny_study.edit(ROIS_ONLY, ("judges = 'none'", change))
    try:
        problems = " ".join(check_study(Context(load_study(tiny_study.file))).problems)
    except InputError as error:
        problems = str(error)
    assert said in problems
