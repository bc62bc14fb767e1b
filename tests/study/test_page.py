"""The page answers for every network of the study, and shows what controls reach."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pandas as pd

from tests.conftest import TinyStudy

TWO = """
[[network]]
name = "other"
checkpoint = "net.safetensors"
layers = ["conv2", "conv4"]
controls = ["untrained"]

[[brain]]
participants = ["01", "02"]"""


def test_the_page_answers_for_all_networks_and_shows_controls(tiny_study: TinyStudy) -> None:
    tiny_study.edit(('\n[[brain]]\nparticipants = ["01", "02"]', TWO), ("[searchlight]\nradius_mm = 6.0\n", ""))
    tiny_study.run(page=True)
    page = (tiny_study.out / "report.html").read_text(encoding="utf-8")
    table = pd.read_csv(tiny_study.out / "group" / "statistics.tsv", sep="\t")
    best = table.loc[table.groupby("network")["mean"].idxmax()].set_index("network")
    facts = re.search(r'<dl class="facts">.*?</dl>', page, re.S)
    assert facts is not None
    for network in ("net", "other"):
        assert f"regions that some layer of {network} explains" in facts[0]
        top = best.loc[network].to_dict()
        assert f"of {network}: {top['layer']} in {top['roi']}" in facts[0]
    assert "its untrained control reaches" in facts[0]
    labels = re.findall(r'<label for="network-\d">(\w+)</label>', page)
    assert labels == ["net", "other"]
    assert all((tiny_study.out / "figures" / f"layer-profile{end}.svg").exists() for end in ("", "-other"))
    assert "Gray dashed lines are controls, the same network without what it learned (other-untrained)" in page
    assert "The RDMs are those of layers of net, the network that this study explains" in page
    cells = set(re.findall(r"<td>([\w-]+)</td>", page))
    assert {"net", "other", "other-untrained"} <= cells


def test_the_headline_counts_regions_of_its_own_network_only() -> None:
    from types import SimpleNamespace

    from brainmap.study.stages.page import _collect_key_results

    rows: list[dict[str, Any]] = [
        {"network": "a", "layer": "x", "roi": "R", "mean": 0.1, "p_corrected": 0.5},
        {"network": "a-untrained", "layer": "x", "roi": "R", "mean": 0.4, "p_corrected": 0.001},
        {"network": "b", "layer": "y", "roi": "R", "mean": 0.3, "p_corrected": 0.01},
    ]
    context: Any = SimpleNamespace(study=SimpleNamespace(settings=SimpleNamespace(rsa=SimpleNamespace(score="rho-a"))))
    tables = {"statistics": pd.DataFrame(rows), "recovery": None, "clusters": None}
    found = _collect_key_results(context, tables, {"a": ["a-untrained"], "b": []})
    assert [figure for figure, _ in found] == ["0 of 1", ".10", "1 of 1", ".30"]
    assert found[1][1] == "highest mean rho-a of a: x in R; its untrained control reaches .40 there"


def test_conditions_that_are_no_classes_are_left_out_of_the_maps_and_said(tiny_study: TinyStudy) -> None:
    from brainmap.features.networks.checkpoints import load_checkpoint, load_network, save_checkpoint

    path = tiny_study.folder / "net.safetensors"
    about = replace(load_checkpoint(path), classes=("cat", "dog", "tree", "owl"))  # no "yes"
    save_checkpoint(load_network(path), path, about)
    tiny_study.edit(("[searchlight]\nradius_mm = 6.0\n", ""))
    tiny_study.run(page=True)
    page = (tiny_study.out / "report.html").read_text(encoding="utf-8")
    assert "sounds of 1 conditions have no map of their own class and are left out of the maps" in page
    assert (tiny_study.out / "figures" / "cam.png").exists()
