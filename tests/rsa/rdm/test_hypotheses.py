"""Model RDMs of categories, phonemes and users' tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import pdist

from brainmap.data.make_words import WORDS
from brainmap.errors import InputError
from brainmap.rsa.rdm.hypotheses import PRONUNCIATIONS, category_rdm, phonetic_rdm, read_model_rdms
from brainmap.rsa.rdm.phonemes import _CONSONANTS, _DIPHTHONGS, _MONOPHTHONGS, FEATURES, list_phoneme_features


def distance(rdms: object, one: str, other: str) -> float:
    labels = [str(label) for label in next(iter(rdms.pattern_descriptors.values()))]  # type: ignore[attr-defined]
    return float(rdms.get_matrices()[0, labels.index(one), labels.index(other)])  # type: ignore[attr-defined]


def test_categories_are_0_within_and_1_between() -> None:
    rdm = category_rdm(["cat", "one", "dog", "two", "cat"], ["animal", "number", "animal", "number", "animal"])
    assert rdm.descriptors["level"] == "condition"
    assert rdm.pattern_descriptors["condition"].tolist() == ["cat", "one", "dog", "two"]
    assert rdm.dissimilarities.tolist() == [[1, 0, 1, 1, 0, 1]]


def test_every_word_of_the_demo_has_a_pronunciation_and_every_phoneme_its_own_features() -> None:
    assert set(PRONUNCIATIONS) == set(WORDS)
    phonemes = [*_CONSONANTS, *_MONOPHTHONGS, *_DIPHTHONGS]
    assert len(phonemes) == 39
    found = list_phoneme_features(" ".join(phonemes), "all")
    assert found.shape == (39, len(FEATURES))
    assert len(np.unique(found, axis=0)) == 39
    used = {word for told in (*_CONSONANTS.values(), *_MONOPHTHONGS.values()) for word in told.split()}
    assert used <= set(FEATURES)


def test_phonetic_distances_are_those_of_mean_features() -> None:
    rdm = phonetic_rdm(WORDS)
    assert distance(rdm, "three", "tree") < distance(rdm, "three", "house")
    mean = np.stack([list_phoneme_features(PRONUNCIATIONS[word], word).mean(axis=0) for word in WORDS])
    np.testing.assert_allclose(rdm.dissimilarities[0], pdist(mean, "sqeuclidean") / len(FEATURES))
    # K AE T and B AE T differ in one phoneme of three: place (velar, labial) and voice
    others = phonetic_rdm(["cat", "bat", "dog"], pronunciations={"bat": "B AE1 T"})
    assert distance(others, "cat", "bat") == pytest.approx(3 / 9 / len(FEATURES))


def test_stimuli_take_the_distance_of_the_words_they_say() -> None:
    rdm = phonetic_rdm(["cat", "dog", "Cat", "dog"], items=["c1", "d1", "c2", "d2"])
    assert rdm.descriptors["level"] == "stimulus"
    assert distance(rdm, "c1", "c2") == 0
    assert distance(rdm, "c1", "d2") == distance(phonetic_rdm(["cat", "dog", "one"]), "cat", "dog") > 0


def test_tables_of_features_squares_and_pairs_give_the_same_rdm(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, names = rng.normal(size=(4, 3)), ["no", "b10", "b9", "null"]
    pd.DataFrame(x, columns=list("xyz")).assign(condition=names)[["condition", *"xyz"]].to_csv(
        tmp_path / "features.tsv", sep="\t", index=False
    )
    one = read_model_rdms(tmp_path / "features.tsv")
    np.testing.assert_allclose(one.dissimilarities[0], pdist(x, "sqeuclidean") / 3)
    assert one.rdm_descriptors["name"] == ["features"]
    order = ["b9", "null", "no", "b10"]
    square = pd.DataFrame(one.get_matrices()[0], index=names, columns=names).loc[:, order]
    square.rename_axis("condition").to_csv(tmp_path / "square.tsv", sep="\t")
    two = read_model_rdms(tmp_path / "square.tsv", name="mine")
    np.testing.assert_allclose(two.dissimilarities, one.dissimilarities)
    i, j = np.triu_indices(4, 1)
    pairs = pd.DataFrame(
        {
            "condition_1": np.array(names)[j],
            "condition_2": np.array(names)[i],
            "near": one.dissimilarities[0],
            "far": 2 * one.dissimilarities[0],
        }
    ).sample(frac=1)
    pairs.to_csv(tmp_path / "long.tsv", sep="\t", index=False)
    three = read_model_rdms(tmp_path / "long.tsv")
    assert three.rdm_descriptors["name"] == ["near", "far"]
    for a in names:
        for b in names:
            assert distance(three, a, b) == pytest.approx(distance(one, a, b))


def test_unknown_dissimilarities_are_nan_and_unknown_features_refused() -> None:
    pairs = pd.DataFrame({"stimulus_id_1": ["a", "a", "b"], "stimulus_id_2": ["b", "c", "c"], "d": ["1", "n/a", "3"]})
    found = read_model_rdms(pairs)
    assert found.descriptors["level"] == "stimulus"
    np.testing.assert_array_equal(found.dissimilarities, [[1, np.nan, 3]])
    with pytest.raises(InputError, match="a feature of 'b' is missing"):
        read_model_rdms(pd.DataFrame({"condition": ["a", "b", "c"], "size": ["1", "n/a", "3"]}))


SQUARE = {"condition": ["a", "b", "c"], "a": [0, 1, 2], "b": [1, 0, 3], "c": [2, 3, 0]}
LONG = {"condition_1": ["a", "a", "b"], "condition_2": ["b", "c", "c"], "d": [1, 2, 3]}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"word": ["a"], "x": [1]}, "expected a first column 'stimulus_id' or 'condition'"),
        ({"condition": ["a", "b", "c"]}, "then numbers"),
        ({"condition": ["a", "b", "b"], "x": [1, 2, 3]}, "'b' occurs in more than one row"),
        ({"condition": ["a", "b", "c"], "x": [1, "big", 3]}, "expected a number in column 'x', got 'big'"),
        ({"condition": ["a", "b"], "x": [1, 2]}, "expected at least 3 items, got 2"),
        (SQUARE | {"a": [0, 1, 9]}, "expected a symmetric matrix"),
        (SQUARE | {"a": [1, 1, 2]}, "are these similarities"),
        (LONG | {"condition_2": ["b", "b", "c"]}, "'b' is more than once|more than once"),
        (LONG | {"condition_1": ["a", "a", "c"]}, "with itself"),
        ({key: value[:2] for key, value in LONG.items()}, "'b', 'c' is missing"),
        (LONG | {"d": [1, "inf", 2]}, "infinite"),
    ],
)
def test_bad_tables_are_said(table: dict[str, list[object]], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_model_rdms(pd.DataFrame(table))


def test_square_tables_with_other_columns_are_said() -> None:
    with pytest.raises(InputError, match="rows and columns, but they differ in 'c', 'd'"):
        read_model_rdms(pd.DataFrame(SQUARE).rename(columns={"c": "d"}), layout="square")


def test_bad_models_are_said() -> None:
    with pytest.raises(InputError, match="expected one category of 'a', got 'x' and 'y'"):
        category_rdm(["a", "a", "b", "c"], ["x", "y", "x", "y"])
    with pytest.raises(InputError, match="got one category for all 3 items"):
        category_rdm(["a", "b", "c"], ["x", "x", "x"])
    with pytest.raises(InputError, match="got a category of its own for each of 3 items"):
        category_rdm(["a", "b", "c"], ["x", "y", "z"])
    with pytest.raises(InputError, match="each of 3 items, got 2"):
        category_rdm(["a", "b", "c"], ["x", "y"])
    with pytest.raises(InputError, match="no pronunciation of 'sevn'; did you mean 'seven'"):
        phonetic_rdm(["one", "two", "sevn"])
    with pytest.raises(InputError, match="a phoneme 'EYE'"):
        phonetic_rdm(["one", "two", "my"], pronunciations={"my": "M EYE"})
    with pytest.raises(InputError, match="an empty pronunciation"):
        phonetic_rdm(["one", "two", "my"], pronunciations={"my": ""})
