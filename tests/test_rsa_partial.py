"""Partial and semi-partial comparison against regressions and formulas by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
from rsatoolbox.rdm.rdms import RDMs

from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.ceiling import noise_ceilings
from brainmap.rsa.compare import compare_vectors
from brainmap.rsa.inference import split_half_best_layer
from brainmap.rsa.partial import compare_rdms_partial, compare_vectors_partial, partial_ceilings


def tied(rng: np.random.Generator, n: int, pairs: int = 45) -> np.ndarray:
    return rng.gamma(2.0, size=(n, pairs)).round(1)


def residual(y: np.ndarray, z: np.ndarray) -> np.ndarray:
    z = np.column_stack([*z, np.ones(len(y))])
    return np.asarray(y - z @ np.linalg.lstsq(z, y, rcond=None)[0])


@pytest.mark.parametrize("kind", ["partial", "semi-partial"])
@pytest.mark.parametrize("measure", ["pearson", "spearman"])
def test_it_is_the_correlation_of_residuals(measure: str, kind: Any) -> None:
    rng = np.random.default_rng(0)
    models, data, controls = tied(rng, 3), tied(rng, 4), tied(rng, 2)
    data += controls[0]
    found = compare_vectors_partial(models, data, controls, measure=measure, kind=kind)
    x, y, z = (v if measure == "pearson" else np.apply_along_axis(scipy.stats.rankdata, 1, v)
               for v in (models, data, controls))
    for i, j in np.ndindex(found.shape):
        mine, brain = residual(x[i], z), residual(y[j], z) if kind == "partial" else y[j]
        assert found[i, j] == pytest.approx(np.corrcoef(mine, brain)[0, 1])


def test_the_square_of_the_semi_partial_is_what_the_model_alone_explains() -> None:
    rng = np.random.default_rng(1)
    model, data, controls = tied(rng, 1), tied(rng, 1), tied(rng, 2)

    def r2(z: np.ndarray) -> float:
        return 1 - float((residual(data[0], z) ** 2).sum()) / float(((data - data.mean()) ** 2).sum())

    found = compare_vectors_partial(model, data, controls, measure="pearson", kind="semi-partial")
    assert found[0, 0] ** 2 == pytest.approx(r2(np.concatenate([controls, model])) - r2(controls))


@pytest.mark.parametrize(("measure", "same"), [("rho-a", "spearman"), ("tau-a", "tau-b")])
def test_without_ties_the_a_measures_equal_the_others(measure: str, same: str) -> None:
    x, y, z = np.random.default_rng(2).normal(size=(3, 2, 45))
    found = compare_vectors_partial(x, y, z, measure=measure)
    np.testing.assert_allclose(found, compare_vectors_partial(x, y, z, measure=same), atol=1e-12)


def test_rho_a_is_the_mean_over_random_orders_of_ties_for_large_numbers() -> None:
    rng = np.random.default_rng(3)
    control = rng.integers(0, 2, size=20_000).astype(float)
    model, data = (control + rng.integers(0, 3, size=20_000) for _ in range(2))
    data = data + (model > 2)
    ranks = [scipy.stats.rankdata(v + 1e-6 * rng.random(len(v))) for v in (model, data)]
    z = scipy.stats.rankdata(control)[None]
    expected = np.corrcoef(residual(ranks[0], z), residual(ranks[1], z))[0, 1]
    found = compare_vectors_partial(model, data, control, measure="rho-a")[0, 0]
    assert found == pytest.approx(expected, abs=0.02)
    assert found < compare_vectors_partial(model, data, control, measure="spearman")[0, 0]


@pytest.mark.parametrize("measure", ["tau-b", "cosine"])
def test_one_control_follows_kendalls_formula(measure: str) -> None:
    rng = np.random.default_rng(4)
    x, y, z = tied(rng, 1), tied(rng, 1), tied(rng, 1)
    xy, xz, yz = (compare_vectors(a, b, measure=measure)[0, 0] for a, b in ((x, y), (x, z), (y, z)))
    found = compare_vectors_partial(x, y, z, measure=measure)[0, 0]
    assert found == pytest.approx((xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2)))
    if measure == "tau-b":
        assert xy == pytest.approx(scipy.stats.kendalltau(x[0], y[0]).statistic)


@pytest.mark.parametrize("measure", ["tau-a", "tau-b"])
def test_tau_with_several_controls_is_the_partial_cosine_of_signs(measure: str) -> None:
    rng = np.random.default_rng(5)
    x, y, z = tied(rng, 1, 21), tied(rng, 1, 21), tied(rng, 2, 21)
    i, j = np.triu_indices(21, 1)
    signs = [np.sign(v[:, i] - v[:, j]) for v in (x, y, z)]
    weights = np.linalg.solve(signs[2] @ signs[2].T, signs[2] @ np.concatenate(signs[:2]).T)
    left, right = np.concatenate(signs[:2]) - weights.T @ signs[2]
    own = [float(left @ left), float(right @ right)]
    if measure == "tau-a":  # tied pairs of model and data count as broken at random
        own = [o + float((s == 0).sum()) for o, s in zip(own, signs[:2], strict=True)]
    found = compare_vectors_partial(x, y, z, measure=measure)[0, 0]
    assert found == pytest.approx(left @ right / np.sqrt(own[0] * own[1]))


@pytest.mark.parametrize("measure", ["rho-a", "spearman", "tau-a", "tau-b", "pearson", "cosine"])
def test_a_category_that_both_contain_is_removed_whole(measure: str) -> None:
    rng = np.random.default_rng(6)
    category = rng.integers(0, 2, size=2000).astype(float)
    model, data = category + 0.5 * rng.normal(size=(2, 2000)) + 3
    assert compare_vectors(model, data, measure=measure)[0, 0] > 0.25
    ones = np.ones(2000)  # cosine knows no mean: it is a control too
    controls = np.stack([category, ones]) if measure == "cosine" else category
    left = compare_vectors_partial(model, data, controls, measure=measure)[0, 0]
    assert abs(left) < (0.2 if measure.startswith("tau") else 0.06)


def labelled(vectors: np.ndarray, names: list[str], **described: list[str]) -> RDMs:
    return RDMs(vectors, descriptors={"level": "stimulus"}, rdm_descriptors=described,
                pattern_descriptors={"stimulus_id": np.array(names)})


def test_items_are_matched_by_label_and_missing_pairs_left_out() -> None:
    rng = np.random.default_rng(7)
    vectors = tied(rng, 4, 45)
    names = [f"b{k}" for k in range(10)]
    square = np.zeros((4, 10, 10))
    i, j = np.triu_indices(10, 1)
    square[:, i, j] = square[:, j, i] = vectors
    order = rng.permutation(10)
    moved = square[:, order][:, :, order][:, i, j]
    controls = labelled(moved[2:], [names[k] for k in order])
    one, data = labelled(vectors[:1], names), labelled(vectors[1:2], names)
    found = compare_rdms_partial(one, data, controls, measure="spearman")
    np.testing.assert_allclose(found, compare_vectors_partial(vectors[:1], vectors[1:2], vectors[2:],
                                                              measure="spearman"))
    holed = vectors.copy()
    holed[0, 3] = holed[1, 5] = holed[2, 8] = np.nan
    rest = np.setdiff1d(np.arange(45), [3, 5, 8])
    np.testing.assert_allclose(compare_vectors_partial(holed[:1], holed[1:2], holed[2:]),
                               compare_vectors_partial(vectors[:1, rest], vectors[1:2, rest], vectors[2:, rest]))


def test_ceilings_lose_what_participants_share_with_the_control() -> None:
    rng = np.random.default_rng(8)
    control, own = rng.normal(size=(2, 66))
    data = labelled(control + 0.5 * own + 0.5 * rng.normal(size=(6, 66)), [f"i{k}" for k in range(12)], roi=["A1"] * 6)
    removed = partial_ceilings(data, labelled(control[None], [f"i{k}" for k in range(12)]), measure="pearson")
    whole = noise_ceilings(data, measure="pearson")
    assert list(removed) == list(whole)
    assert 0.3 < removed["lower"].item() < removed["upper"].item() < whole["upper"].item()
    residuals = np.stack([residual(x, control[None]) for x in data.dissimilarities])
    expected = noise_ceilings(labelled(residuals, [f"i{k}" for k in range(12)], roi=["A1"] * 6), measure="pearson")
    assert removed["lower"].item() == pytest.approx(expected["lower"].item(), abs=0.02)


def test_a_model_that_is_its_control_has_no_score() -> None:
    x, y = np.random.default_rng(9).normal(size=(2, 1, 45))
    with pytest.warns(BrainmapWarning, match="1 of 1 comparisons"):
        assert np.isnan(compare_vectors_partial(2 * x + 1, y, x, measure="pearson")).all()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"measure": "corr_cov"}, "no partial form"),
        ({"measure": "spermann"}, "did you mean 'spearman'"),
        ({"kind": "half"}, "wanted one of 'partial', 'semi-partial'"),
        ({"controls": np.ones((1, 45))}, "control RDM 1 has no variance"),
        ({"controls": np.ones((1, 44))}, "45, 45 and 44 pairs"),
        ({"controls": np.empty((0, 45))}, "no control RDMs"),
        ({"controls": np.random.default_rng(0).normal(size=(45, 45))}, "45 controls for 45 pairs"),
    ],
)
def test_bad_input_is_said(given: dict[str, Any], words: str) -> None:
    x, y, z = np.random.default_rng(10).normal(size=(3, 1, 45))
    with pytest.raises(InputError, match=words):
        compare_vectors_partial(x, y, given.pop("controls", z), **given)


def test_the_best_layer_is_chosen_and_scored_without_the_control() -> None:
    rng = np.random.default_rng(11)
    names = [f"i{k:02d}" for k in range(16)]
    control, one, two = rng.normal(size=(3, 120))
    layers = labelled(np.stack([control + 0.2 * one, two + 0.1 * control]), names, layer=["conv1", "conv2"])
    data = labelled(2 * control + two + 0.3 * rng.normal(size=(4, 120)), names, roi=["A1"] * 4,
                    participant=list("1234"))
    best = [split_half_best_layer(layers, data, measure="pearson", by="stimulus", rng=np.random.default_rng(0),
                                  control_rdms=controls)["layer"].item()
            for controls in (None, labelled(control[None], names))]
    assert best == ["conv1", "conv2"]


def of_people(vectors: np.ndarray, people: list[str]) -> RDMs:
    n = round((1 + np.sqrt(1 + 8 * vectors.shape[-1])) / 2)
    items = {"stimulus_id": [f"s{k:02d}" for k in range(n)]}
    return RDMs(vectors.copy(), rdm_descriptors={"participant": people}, pattern_descriptors=items)


def confounded(rng: np.random.Generator, strength: float) -> tuple[RDMs, RDMs, RDMs]:
    """A model, and six participants whose RDMs hold nothing but noise and their own order in time, like the model's."""
    n_items, people = 20, [f"{k:02d}" for k in range(1, 7)]
    i, j = np.triu_indices(n_items, 1)
    common = np.arange(n_items) + rng.normal(0, 2, n_items)
    orders = [np.argsort(np.argsort(common + rng.normal(0, 4, n_items))) for _ in people]
    elapsed = np.array([np.abs(order[i] - order[j]) for order in orders], dtype=float)
    model = np.abs(common[i] - common[j])[None] + rng.normal(size=(1, len(i)))
    data = strength * elapsed / elapsed.std() + rng.normal(size=elapsed.shape)
    return of_people(model, ["model"]), of_people(data, people), of_people(elapsed, people)


@pytest.mark.parametrize("measure", ["rho-a", "pearson"])
def test_a_confound_of_each_participants_own_order_falls_to_nothing(measure: str) -> None:
    rng, raw, left, shared = np.random.default_rng(8), [], [], []
    for _ in range(10):
        model, data, elapsed = confounded(rng, strength=1.0)
        raw.append(compare_vectors(model.dissimilarities, data.dissimilarities, measure=measure).mean())
        left.append(compare_rdms_partial(model, data, elapsed, measure=measure).mean())
        bounds = partial_ceilings(data, elapsed, measure=measure)
        shared.append((noise_ceilings(data, measure=measure)["lower"][0], bounds["lower"][0]))
    assert np.mean(raw) > 0.25
    assert abs(np.mean(left)) < 0.04
    assert np.mean(shared, axis=0)[0] > 0.25
    assert abs(np.mean(shared, axis=0)[1]) < 0.06


def test_own_controls_are_those_of_each_participant_in_any_order_of_items_and_people() -> None:
    rng = np.random.default_rng(9)
    model, data, elapsed = confounded(rng, strength=0.5)
    everybodys = of_people(np.concatenate([rng.normal(size=(1, 190)), elapsed.dissimilarities[::-1]]),
                           ["", *elapsed.rdm_descriptors["participant"][::-1]])  # fmt: skip
    found = compare_rdms_partial(model, data, everybodys)
    for k in range(6):
        own = np.stack([everybodys.dissimilarities[0], elapsed.dissimilarities[k]])
        alone = compare_vectors_partial(model.dissimilarities, data.dissimilarities[[k]], own)
        assert found[0, k] == pytest.approx(alone[0, 0])
    same = of_people(np.tile(elapsed.dissimilarities[:1], (6, 1)), elapsed.rdm_descriptors["participant"])
    once = RDMs(elapsed.dissimilarities[:1], pattern_descriptors=dict(data.pattern_descriptors))
    np.testing.assert_allclose(compare_rdms_partial(model, data, same), compare_rdms_partial(model, data, once))
    layers = RDMs(rng.normal(size=(2, 190)), rdm_descriptors={"layer": ["a", "b"]},
                  pattern_descriptors=dict(data.pattern_descriptors))  # fmt: skip
    one, two = (
        split_half_best_layer(layers, data, splits=4, rng=np.random.default_rng(0), by="stimulus", control_rdms=it)
        for it in (same, once)
    )
    np.testing.assert_allclose(one["score"], two["score"])


def test_ceilings_with_own_controls_pool_what_the_controls_leave() -> None:
    _, data, elapsed = confounded(np.random.default_rng(10), strength=0.7)
    rest = np.array([residual(x, z[None]) for x, z in zip(data.dissimilarities, elapsed.dissimilarities, strict=True)])
    z = rest / rest.std(axis=1, keepdims=True)
    own = elapsed.dissimilarities
    lower = [np.corrcoef(residual(np.delete(z, k, axis=0).mean(axis=0), own[[k]]), rest[k])[0, 1] for k in range(6)]
    found = partial_ceilings(data, elapsed, measure="pearson")
    assert found["lower"][0] == pytest.approx(np.mean(lower))
    holes = of_people(np.where(np.arange(190) < 5, np.nan, own), elapsed.rdm_descriptors["participant"])
    assert np.isfinite(partial_ceilings(data, holes, measure="rho-a")[["lower", "upper"]].to_numpy()).all()


def test_participants_without_their_controls_are_named() -> None:
    model, data, elapsed = confounded(np.random.default_rng(11), strength=0.7)
    with pytest.raises(InputError, match="participants '03' lack controls"):
        compare_rdms_partial(model, data, elapsed[[0, 1, 3, 4, 5]])
    twice = of_people(np.concatenate([elapsed.dissimilarities, elapsed.dissimilarities[:1] ** 2]),
                      [*elapsed.rdm_descriptors["participant"], "01"])  # fmt: skip
    with pytest.raises(InputError, match="'02', '03', '04', '05', '06' lack controls"):
        compare_rdms_partial(model, data, twice)
    anonymous = RDMs(data.dissimilarities, pattern_descriptors=dict(data.pattern_descriptors))
    with pytest.raises(InputError, match="do not say whose they are"):
        compare_rdms_partial(model, anonymous, elapsed)
