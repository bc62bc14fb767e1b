"""The page of a study of stories says where a control or sounds alone predict better than the network."""

from __future__ import annotations

import pandas as pd

from brainmap.study.stages.content.better import count_better, describe_better, find_better

ROWS = [
    ("net", "conv1", "A1", 0.70, 0.01),
    ("net", "conv2", "A1", 0.75, 0.01),
    ("net-untrained", "conv1", "A1", 0.80, 0.01),
    ("net-untrained", "conv2", "A1", 0.74, 0.01),
    ("speech", "sound-energy", "A1", 0.83, 0.01),
    ("speech", "word-rate", "A1", 0.10, 0.30),
    ("net", "conv1", "STG", 0.80, 0.01),
    ("net-untrained", "conv1", "STG", 0.70, 0.01),
    ("speech", "sound-energy", "STG", -0.10, 0.90),
    ("net", "conv1", "noise", 0.01, 0.60),
    ("speech", "sound-energy", "noise", 0.02, 0.50),
]
TABLE = pd.DataFrame(ROWS, columns=["network", "layer", "roi", "mean", "p_corrected"])


def test_a_region_that_sound_energy_or_the_untrained_network_predicts_better_is_named() -> None:
    found = find_better(TABLE, {"net": ["net-untrained"]}, ["speech"])
    assert [(one.roi, one.layer) for one in found] == [("A1", "conv2"), ("STG", "conv1")], "nothing predicts noise"
    assert found[0].better == [("sound-energy", 0.83), ("its untrained control", 0.80)]
    assert found[1].better == []
    assert list(describe_better(found)) == [
        "In A1, the mean r of sound-energy (.83) and its untrained control (.80) is higher than that of the best layer "
        "of net (conv2, .75)."
    ]
    figure, said = next(count_better(found))
    assert figure == "1 of 2"
    assert said.endswith("(no test); behind in A1 (sound-energy and its untrained control)")


def test_a_network_that_was_compared_with_nothing_is_not_called_ahead() -> None:
    assert find_better(TABLE[TABLE["network"] == "net"], {"net": []}, ["speech"]) == []
