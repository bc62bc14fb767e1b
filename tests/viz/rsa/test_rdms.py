"""RDMs as pictures: items where they belong, ranks as measures see them, mistakes named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from rsatoolbox.rdm.rdms import RDMs
from scipy.spatial.distance import squareform
from scipy.stats import rankdata

from brainmap.errors import InputError
from brainmap.viz import plot_rdm, plot_rdm_pair
from brainmap.viz.rsa.rdms import plot_correlation_matrix

RNG = np.random.default_rng(3)


def shown(figure: Any, at: Any = 0) -> Any:
    return np.asarray(figure.axes[at].images[0].get_array().filled(np.nan))


def rdms(values: Any, names: Any, **rdm_descriptors: Any) -> Any:
    return RDMs(np.atleast_2d(values), pattern_descriptors={"stimulus_id": names}, rdm_descriptors=rdm_descriptors)


def test_items_of_a_condition_lie_side_by_side() -> None:
    values = RNG.uniform(size=6)
    figure = plot_rdm(values, labels=["bed", "cat", "bed", "cat"])
    square = squareform(values)
    np.fill_diagonal(square, np.nan)
    np.testing.assert_array_equal(shown(figure), square[np.ix_([0, 2, 1, 3], [0, 2, 1, 3])])
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["bed", "cat"]


def test_ranks_are_those_of_the_pairs() -> None:
    values = RNG.uniform(size=10)
    picture = shown(plot_rdm(values, rank=True))
    np.testing.assert_allclose(picture[np.triu_indices(5, 1)], (rankdata(values) - 1) / 9)


def test_pairs_without_a_value_stay_empty_and_leave_the_ranks_of_others_alone() -> None:
    values = np.array([3.0, np.nan, 1.0])
    picture = shown(plot_rdm(values, rank=True))
    np.testing.assert_array_equal(picture[np.triu_indices(3, 1)], [1.0, np.nan, 0.0])


def test_every_rdm_is_drawn_with_its_own_title() -> None:
    figure = plot_rdm(rdms(RNG.uniform(size=(3, 6)), list("abcd"), layer=["conv1", "conv2", "conv3"]))
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[:3] == ["conv1", "conv2", "conv3"]


def test_a_pair_is_aligned_by_label_not_by_position() -> None:
    square = squareform(RNG.uniform(size=10))
    order = [3, 0, 4, 1, 2]
    names = list("abcde")
    model = rdms(squareform(square), names)
    brain = rdms(squareform(square[np.ix_(order, order)]), [names[i] for i in order])
    figure = plot_rdm_pair(model, brain)
    np.testing.assert_allclose(shown(figure, 0), shown(figure, 1))


def test_participants_are_averaged() -> None:
    brain = RNG.uniform(size=(4, 10))
    figure = plot_rdm_pair(RNG.uniform(size=10), brain, rank=False)
    np.testing.assert_allclose(shown(figure, 1)[np.triu_indices(5, 1)], brain.mean(axis=0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot_rdm(np.ones(4)), r"expected RDMs of shape \(n, n\), .* got \(4,\)"),
        (lambda: plot_rdm(np.ones(3), labels=["a"]), "expected 3 labels, one per item, got 1"),
        (lambda: plot_rdm_pair(np.ones(3), np.ones(6)), "got 3 in the model and 4 in the brain"),
        (lambda: plot_rdm_pair(rdms(np.ones(3), list("abc")), rdms(np.ones(3), list("abd"))), "stimulus_id differs"),
        (
            lambda: plot_correlation_matrix(pd.DataFrame([[1.0]], index=["a"], columns=["b"])),
            "expected equal index and columns",
        ),
    ],
)
def test_mistakes_are_named(call: Any, message: Any) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_the_correlation_matrix_prints_its_numbers() -> None:
    table = pd.DataFrame([[1, 0.25], [0.25, 1]], index=["conv1", "conv2"], columns=["conv1", "conv2"])
    figure = plot_correlation_matrix(table, marked=["conv2"])
    assert [t.get_text() for t in figure.axes[0].texts] == [".25", ".25"]
    assert len(figure.axes[0].patches) == 1
