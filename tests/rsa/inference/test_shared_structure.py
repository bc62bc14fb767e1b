"""Whether participants share what a model leaves, against enumeration by hand and simulated studies."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
from rsatoolbox.rdm.rdms import RDMs
from scipy.spatial.distance import pdist

from brainmap.errors import InputError
from brainmap.rsa.inference.shared_structure import residual_structure


def labelled(vectors: np.ndarray, **described: list[str]) -> RDMs:
    n = round((1 + np.sqrt(1 + 8 * vectors.shape[-1])) / 2)
    return RDMs(
        vectors,
        descriptors={"level": "stimulus"},
        rdm_descriptors=described,
        pattern_descriptors={"stimulus_id": [f"s{k:02d}" for k in range(n)]},
    )


def spread(rng: np.random.Generator, n_items: int) -> np.ndarray:
    """The RDM of random points, of mean 0 and unit spread."""
    return np.asarray(scipy.stats.zscore(pdist(rng.normal(size=(n_items, 6)), "sqeuclidean")))


def study(rng: np.random.Generator, n_items: int, people: int, *, lacks: float) -> tuple[RDMs, RDMs]:
    """A model, and participants whose common RDM is the model but for a share of its variance."""
    model, more = spread(rng, n_items), spread(rng, n_items)
    common = np.sqrt(1 - lacks) * model + np.sqrt(lacks) * more
    data = np.array([common + 1.5 * spread(rng, n_items) for _ in range(people)])
    return labelled(model[None], layer=["conv1"]), labelled(data, participant=[f"{k:02d}" for k in range(people)])


def by_hand(model: np.ndarray, data: np.ndarray, *, ranks: bool) -> tuple[float, float]:
    """Mean correlation of rests and p, from polynomials with truncated cubes, least squares and every flip."""
    columns = [np.ones(len(model)), model]
    if ranks:
        x = scipy.stats.zscore(scipy.stats.rankdata(model))
        data = np.apply_along_axis(scipy.stats.rankdata, 1, data)
        columns = [*(x**k for k in range(4)), *(np.maximum(x - q, 0) ** 3 for q in np.quantile(x, [1 / 3, 2 / 3]))]
    z = np.column_stack(columns)
    rests = [y - z @ np.linalg.lstsq(z, y, rcond=None)[0] for y in data]
    unit = np.array([e / np.linalg.norm(e) for e in rests])

    def total(signs: tuple[int, ...]) -> float:
        flipped = unit * np.array(signs)[:, None]
        return float(sum(flipped[i] @ flipped[j] for i, j in itertools.permutations(range(len(unit)), 2)))

    sums = [total(signs) for signs in itertools.product([1, -1], repeat=len(unit))]
    return sums[0] / (len(unit) * (len(unit) - 1)), float(np.mean([s >= sums[0] - 1e-9 for s in sums]))


@pytest.mark.parametrize("measure", ["rho-a", "tau-b", "pearson", "cosine"])
def test_it_is_the_share_of_flips_of_whole_rests(measure: str) -> None:
    ranks = measure in ("rho-a", "tau-b")
    model, data = study(np.random.default_rng(0), 13, 7, lacks=0.2)
    found = residual_structure(model, data, measure=measure).iloc[0]
    shared, p = by_hand(model.dissimilarities[0], data.dissimilarities, ranks=ranks)
    assert found["shared"] == pytest.approx(shared)
    assert found["p"] == pytest.approx(p)
    assert found["smallest_p"] == 2.0**-6


def test_fewer_than_six_participants_are_not_tested_and_it_is_said() -> None:
    model, data = study(np.random.default_rng(1), 12, 6, lacks=0.5)
    six, five = residual_structure(model, data), residual_structure(model, data[list(range(5))])
    assert six["p"][0] >= six["smallest_p"][0] == 1 / 32
    assert np.isnan(five["p"][0])
    assert np.isfinite(five["shared"][0])
    assert "fewer than 6 participants are not tested" in five.attrs["note"]
    assert "participants share structure that this model lacks" in six.attrs["note"]


def test_missing_pairs_weigh_nothing_and_a_constant_model_is_not_tested() -> None:
    model, data = study(np.random.default_rng(2), 14, 8, lacks=0.3)
    vectors = data.dissimilarities.copy()
    vectors[0, :20] = np.nan
    vectors[1] = 1.0
    both = labelled(np.concatenate([model.dissimilarities, np.ones((1, vectors.shape[1]))]), layer=["a", "flat"])
    found = residual_structure(both, labelled(vectors, participant=list("abcdefgh")))
    assert found["n"].tolist() == [7, 0]
    assert np.isfinite(found["p"][0])
    assert np.isnan(found["p"][1])


def test_regions_are_apart_and_a_participant_twice_is_refused() -> None:
    model, data = study(np.random.default_rng(3), 12, 12, lacks=0.3)
    people, rois = list("abcdef") * 2, ["HG"] * 6 + ["V1"] * 6
    both = labelled(data.dissimilarities, participant=people, roi=rois)
    found = residual_structure(model, both, correction="bonferroni")
    alone = [residual_structure(model, data[list(k)])["p"][0] for k in (range(6), range(6, 12))]
    assert found["p"].tolist() == alone
    np.testing.assert_allclose(found["p_corrected"], np.minimum(1, 2 * np.array(alone)))
    with pytest.raises(InputError, match="one RDM of 'HG' from participant 'a', got 2"):
        residual_structure(model, labelled(data.dissimilarities, participant=people, roi=["HG"] * 12))


@pytest.mark.slow
@pytest.mark.parametrize("measure", ["rho-a", "pearson"])
def test_the_true_model_keeps_the_level_and_one_that_lacks_a_tenth_is_found(measure: str) -> None:
    rng = np.random.default_rng(4)
    p = [
        [residual_structure(*study(rng, 24, 12, lacks=lacks), measure=measure)["p"][0] for _ in range(300)]
        for lacks in (0.0, 0.1)
    ]
    level, power = np.mean(np.array(p) <= 0.05, axis=1)
    assert 0.02 <= level <= 0.085
    assert power >= 0.75


def test_the_note_tells_models_that_leave_nothing_from_too_few_participants() -> None:
    rng, items = np.random.default_rng(0), {"stimulus_id": list("abcdefgh")}
    people = {"participant": list("1234567")}
    brains = RDMs(rng.normal(size=(7, 28)), pattern_descriptors=items, rdm_descriptors=people)
    layers = {"layer": ["one", "flat"]}
    models = RDMs(np.stack([rng.normal(size=28), np.ones(28)]), pattern_descriptors=items, rdm_descriptors=layers)
    table = residual_structure(models, brains)
    assert table["n"].tolist() == [7, 0]
    assert "over 1 tests" in table.attrs["note"]
    assert "1 are not tested, as the model is constant" in table.attrs["note"]
    assert "fewer than" not in table.attrs["note"]
