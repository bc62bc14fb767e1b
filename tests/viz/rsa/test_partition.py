"""The figure of shares: every share a bar where it belongs, negative ones to the left."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from rsatoolbox.rdm.rdms import RDMs

from brainmap.errors import InputError
from brainmap.rsa.comparison.partition import Partition, partition_variance
from brainmap.rsa.inference.partition import partition_statistics
from brainmap.viz.rsa.partition import plot_partition


@pytest.fixture
def partition() -> Partition:
    rng = np.random.default_rng(0)
    signal, nuisance = rng.normal(size=(2, 66))

    def rdms(vectors: np.ndarray, **described: list[str]) -> RDMs:
        return RDMs(
            np.atleast_2d(vectors),
            descriptors={"level": "stimulus"},
            rdm_descriptors=described,
            pattern_descriptors={"stimulus_id": np.array([f"i{k:02d}" for k in range(12)])},
        )

    people = rdms(
        signal + 0.3 * rng.normal(size=(10, 66)), roi=["A1"] * 5 + ["belt"] * 5, participant=list("12345") * 2
    )
    return partition_variance({"both": rdms(signal + nuisance), "nuisance": rdms(nuisance)}, people)


def test_bars_are_mean_shares_and_the_last_is_their_sum(partition: Partition) -> None:
    figure = plot_partition(partition, partition_statistics(partition))
    first, second = figure.axes[:2]
    assert [axes.get_title(loc="left") for axes in (first, second)] == ["A1", "belt"]
    widths = [patch.get_width() for patch in first.patches]  # type: ignore[attr-defined]
    np.testing.assert_allclose(widths[:-1], partition.shares[:, :5].mean(axis=1))
    assert widths[-1] == pytest.approx(sum(widths[:-1]))
    assert widths[2] < -0.2  # suppression is shown, not clipped
    told = [text.get_text() for text in first.texts]
    assert len(told) == 4
    assert told[2].startswith("−")
    limits = first.get_xlim()
    assert limits[0] < min(widths)
    assert limits[1] > max(widths)


def test_stars_are_those_of_the_statistics(partition: Partition) -> None:
    table = pd.DataFrame(
        {"sets": partition.names * 2, "roi": ["A1"] * 3 + ["belt"] * 3, "p_corrected": [0.01, 0.9, 0.9, 0.9, 0.9, 0.01]}
    )
    figure = plot_partition(partition, table)
    starred = [[text.get_text().endswith("*") for text in axes.texts] for axes in figure.axes[:2]]
    assert starred == [[True, False, False, False], [False, False, True, False]]


def test_a_table_without_p_is_refused(partition: Partition) -> None:
    with pytest.raises(InputError, match="p_corrected"):
        plot_partition(partition, pd.DataFrame({"sets": ["a"], "roi": ["A1"]}))
