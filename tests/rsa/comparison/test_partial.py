"""Partial and semi-partial comparison against regressions and formulas by hand."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
from rsatoolbox.rdm.rdms import RDMs
from scipy.spatial.distance import pdist

from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.comparison.ceilings import noise_ceilings
from brainmap.rsa.comparison.measures import compare_vectors
from brainmap.rsa.comparison.partial import compare_rdms_partial, compare_vectors_partial, partial_ceilings
from brainmap.rsa.comparison.splines import count_items_needed
from brainmap.rsa.inference.halves import split_half_best_layer
from brainmap.rsa.inference.scores import score_statistics


def tied(rng: np.random.Generator, n: int, pairs: int = 45) -> np.ndarray:
    return rng.gamma(2.0, size=(n, pairs)).round(1)


def residual(y: np.ndarray, z: np.ndarray) -> np.ndarray:
    z = np.column_stack([*z, np.ones(len(y))])
    return np.asarray(y - z @ np.linalg.lstsq(z, y, rcond=None)[0])


def truncated_powers(x: np.ndarray, inner: int) -> list[np.ndarray]:
    """A cubic spline with knots at quantiles in another basis than B-splines: it spans the same curves."""
    x = (x - x.mean()) / x.std()
    knots = np.quantile(x, np.arange(1, inner + 1) / (inner + 1))
    return [*(x**k for k in range(4)), *(np.maximum(x - knot, 0.0) ** 3 for knot in knots)]


def removed_by_hand(z: np.ndarray, measure: str) -> np.ndarray:
    """The columns (n_columns, n_pairs) that controls should take, from polynomials and truncated powers."""
    if measure == "pearson":
        return z
    if len(z) == 1:
        return np.array(truncated_powers(scipy.stats.rankdata(z[0]), 2))
    if len(z) == 2:
        inner = sum(z.shape[1] >= plenty for plenty in (405, 570, 765, 990))
        one, two = (truncated_powers(scipy.stats.rankdata(v), inner) for v in z)
        return np.array([*z, *(a * b for a in one for b in two)])
    return np.array([column for v in z for column in truncated_powers(v, 2)])


@pytest.mark.parametrize("kind", ["partial", "semi-partial"])
@pytest.mark.parametrize(
    ("measure", "n_controls", "pairs"),
    [
        ("pearson", 1, 300),
        ("pearson", 2, 300),
        ("pearson", 3, 300),
        ("rho-a", 1, 300),
        ("spearman", 1, 300),
        *((measure, 2, pairs) for measure in ("rho-a", "spearman") for pairs in (300, 404, 405, 764, 990)),
    ],
)
def test_it_is_the_correlation_of_residuals(measure: str, n_controls: int, pairs: int, kind: Any) -> None:
    rng = np.random.default_rng(0)
    models, data, controls = tied(rng, 3, pairs), tied(rng, 4, pairs), tied(rng, n_controls, pairs)
    data += controls[0]
    found = compare_vectors_partial(models, data, controls, measure=measure, kind=kind)
    x, y = (v if measure == "pearson" else np.apply_along_axis(scipy.stats.rankdata, 1, v) for v in (models, data))
    z = removed_by_hand(controls, measure)
    for i, j in np.ndindex(found.shape):
        mine, brain = residual(x[i], z), residual(y[j], z) if kind == "partial" else y[j]
        assert found[i, j] == pytest.approx(np.corrcoef(mine, brain)[0, 1], abs=1e-9)


def test_three_controls_switch_ranks_to_values_and_added_splines_and_say_so() -> None:
    rng = np.random.default_rng(20)
    model, data, controls = tied(rng, 1, 190), tied(rng, 1, 190), tied(rng, 3, 190)
    data += controls.sum(axis=0)
    with pytest.warns(BrainmapWarning, match=r"3 controls are too many for ranks .* sum of a spline of each"):
        found = compare_vectors_partial(model, data, controls)
    z = removed_by_hand(controls, "added")
    assert found[0, 0] == pytest.approx(np.corrcoef(residual(model[0], z), residual(data[0], z))[0, 1], abs=1e-9)


@pytest.mark.parametrize(("n_items", "n_controls", "needed"), [(11, 1, 12), (19, 2, 20), (18, 3, 19)])
def test_too_few_pairs_for_the_columns_are_refused_and_one_item_more_is_not(
    n_items: int, n_controls: int, needed: int
) -> None:
    rng = np.random.default_rng(21)
    for n in (n_items, n_items + 1):
        x, y, *z = rng.normal(size=(2 + n_controls, n * (n - 1) // 2))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*too many for ranks", BrainmapWarning)
            if n == n_items:
                with pytest.raises(
                    InputError, match=rf"expected at least {needed} items, got .* {n_items} items.*'pearson'"
                ):
                    compare_vectors_partial(x, y, np.array(z))
                assert np.isfinite(compare_vectors_partial(x, y, np.array(z), measure="pearson")).all()
            else:
                assert np.isfinite(compare_vectors_partial(x, y, np.array(z))).all()
    assert count_items_needed("rho-a", n_controls) == needed


def test_a_control_of_two_values_is_removed_by_its_means_and_still_takes_twelve_items() -> None:
    rng = np.random.default_rng(22)
    x, y, z = tied(rng, 1, 66), tied(rng, 1, 66), rng.integers(0, 2, size=66).astype(float)
    ranks = [scipy.stats.rankdata(v[0]) for v in (x, y)]
    for value in (0.0, 1.0):
        for r in ranks:
            r[z == value] -= r[z == value].mean()
    assert compare_vectors_partial(x, y, z)[0, 0] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    with pytest.raises(InputError, match=r"expected at least 12 items, got .* 11 items"):
        compare_vectors_partial(x[:, :55], y[:, :55], z[:55])


def test_data_that_lack_too_many_pairs_are_counted_and_the_others_stay() -> None:
    rng = np.random.default_rng(23)
    x, y, z = rng.normal(size=(1, 78)), rng.normal(size=(2, 78)), rng.normal(size=78)
    whole = compare_vectors_partial(x, y[:1], z)
    i, j = np.triu_indices(13, 1)
    y[1, (i < 2) | (j < 2)] = np.nan
    with pytest.warns(BrainmapWarning, match=r"not defined for 1 \(missing pairs leave too few .*\) of 2"):
        found = compare_vectors_partial(x, y, z)
    assert found[0, 0] == whole[0, 0]
    assert np.isnan(found[0, 1])


def test_the_square_of_the_semi_partial_is_what_the_model_alone_explains() -> None:
    rng = np.random.default_rng(1)
    model, data, controls = tied(rng, 1), tied(rng, 1), tied(rng, 2)

    def r2(z: np.ndarray) -> float:
        return 1 - float((residual(data[0], z) ** 2).sum()) / float(((data - data.mean()) ** 2).sum())

    found = compare_vectors_partial(model, data, controls, measure="pearson", kind="semi-partial")
    assert found[0, 0] ** 2 == pytest.approx(r2(np.concatenate([controls, model])) - r2(controls))


CURVES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda z: z,
    "root": lambda z: np.sqrt(z - z.min()),
    "saturating": lambda z: np.tanh(2 * z),
    "skewed": lambda z: (z - z.min()) ** 2,
    "lognormal": np.exp,
}


def false_positives(curve: str, n_items: int, *, n_controls: int = 1, planted: float = 0, studies: int = 400) -> float:
    """How often a model counts as above 0 in 12 participants who share with it the controls (and a planted part)."""
    rng = np.random.default_rng(n_items)

    def rdm() -> np.ndarray:
        return unit(pdist(rng.normal(size=(n_items, 5))))

    def unit(x: np.ndarray) -> np.ndarray:
        return np.asarray((x - x.mean()) / x.std())

    scores = []
    for _ in range(studies):
        controls = np.array([rdm() for _ in range(n_controls)])
        common = unit(CURVES[curve](controls).sum(axis=0))
        own = rdm()
        data = np.array([common + planted * own + rdm() for _ in range(12)])
        scores.append(compare_vectors_partial(common + own, data, controls)[0])
    return float((score_statistics(np.array(scores), correction="none")["p"] <= 0.05).mean())


@pytest.mark.slow
@pytest.mark.parametrize("n_items", [24, 48])
@pytest.mark.parametrize(("curve", "n_controls"), [(curve, n) for n in (1, 2) for curve in CURVES])
def test_what_is_shared_by_the_control_alone_is_not_found(curve: str, n_controls: int, n_items: int) -> None:
    assert false_positives(curve, n_items, n_controls=n_controls) <= 0.10


@pytest.mark.slow
def test_more_items_take_more_knots_for_two_controls() -> None:
    """Products of cubic polynomials leave a part of two exponentials, which many pairs show (.19 with 18 columns)."""
    assert false_positives("lognormal", 96, n_controls=2, studies=150) <= 0.10


@pytest.mark.slow
@pytest.mark.parametrize("n_items", [12, 16])
def test_few_items_keep_the_level_too(n_items: int) -> None:
    found = {curve: false_positives(curve, n_items) for curve in CURVES}
    assert max(found.values()) <= 0.12, found


@pytest.mark.slow
def test_a_part_of_its_own_is_found() -> None:
    assert false_positives("saturating", 24, planted=0.2, studies=200) >= 0.9


@pytest.mark.parametrize("measure", ["rho-a", "spearman", "pearson"])
def test_a_category_that_both_contain_is_removed_whole(measure: str) -> None:
    rng = np.random.default_rng(6)
    category = rng.integers(0, 2, size=2000).astype(float)
    model, data = category + 0.5 * rng.normal(size=(2, 2000)) + 3
    assert compare_vectors(model, data, measure=measure)[0, 0] > 0.25
    assert abs(compare_vectors_partial(model, data, category, measure=measure)[0, 0]) < 0.06


def labelled(vectors: np.ndarray, names: list[str], **described: list[str]) -> RDMs:
    return RDMs(
        vectors,
        descriptors={"level": "stimulus"},
        rdm_descriptors=described,
        pattern_descriptors={"stimulus_id": np.array(names)},
    )


def test_items_are_matched_by_label_and_missing_pairs_left_out() -> None:
    rng = np.random.default_rng(7)
    vectors = tied(rng, 4, 276)
    names = [f"b{k}" for k in range(24)]
    square = np.zeros((4, 24, 24))
    i, j = np.triu_indices(24, 1)
    square[:, i, j] = square[:, j, i] = vectors
    order = rng.permutation(24)
    moved = square[:, order][:, :, order][:, i, j]
    controls = labelled(moved[2:], [names[k] for k in order])
    one, data = labelled(vectors[:1], names), labelled(vectors[1:2], names)
    found = compare_rdms_partial(one, data, controls, measure="spearman")
    np.testing.assert_allclose(
        found, compare_vectors_partial(vectors[:1], vectors[1:2], vectors[2:], measure="spearman")
    )
    holed = vectors.copy()
    holed[0, 3] = holed[1, 5] = holed[2, 8] = np.nan
    rest = np.setdiff1d(np.arange(276), [3, 5, 8])
    np.testing.assert_allclose(
        compare_vectors_partial(holed[:1], holed[1:2], holed[2:]),
        compare_vectors_partial(vectors[:1, rest], vectors[1:2, rest], vectors[2:, rest]),
    )


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
    with pytest.warns(BrainmapWarning, match=r"not defined for 1 \(nothing is left of a model or data RDM\) of 1"):
        assert np.isnan(compare_vectors_partial(2 * x + 1, y, x, measure="pearson")).all()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        *(
            ({"measure": measure}, "no partial form that is 0 where .* share the controls only; choose 'rho-a'")
            for measure in ("corr_cov", "cosine_cov", "cosine", "bures", "tau-a", "tau-b")
        ),
        ({"measure": "spermann"}, "did you mean 'spearman'"),
        ({"kind": "half"}, "expected one of 'partial', 'semi-partial'"),
        ({"controls": np.ones((1, 45))}, "control RDM 1 has no variance"),
        ({"controls": np.ones((1, 44))}, "got 45, 45 and 44 in models, data and controls"),
        ({"controls": np.empty((0, 45))}, "expected at least one control RDM, got none"),
        (
            {"controls": np.random.default_rng(0).normal(size=(45, 45))},
            "expected at least 68 items, got 45 controls for 45 pairs of 10 items",
        ),
        (
            {"controls": np.random.default_rng(0).normal(size=(45, 45)), "measure": "pearson"},
            "expected fewer controls, got 45",
        ),
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
    data = labelled(
        2 * control + two + 0.3 * rng.normal(size=(4, 120)), names, roi=["A1"] * 4, participant=list("1234")
    )
    best = [
        split_half_best_layer(
            layers, data, measure="pearson", by="stimulus", rng=np.random.default_rng(0), control_rdms=controls
        )["layer"].item()
        for controls in (None, labelled(control[None], names))
    ]
    assert best == ["conv1", "conv2"]


def of_people(vectors: np.ndarray, people: list[str]) -> RDMs:
    n = round((1 + np.sqrt(1 + 8 * vectors.shape[-1])) / 2)
    items = {"stimulus_id": [f"s{k:02d}" for k in range(n)]}
    return RDMs(vectors.copy(), rdm_descriptors={"participant": people}, pattern_descriptors=items)


def confounded(rng: np.random.Generator, strength: float) -> tuple[RDMs, RDMs, RDMs]:
    """A model, and six participants whose RDMs hold nothing but noise and their own order in time, like the model's."""
    n_items, people = 24, [f"{k:02d}" for k in range(1, 7)]
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
    everybodys = of_people(
        np.concatenate([rng.normal(size=(1, 276)), elapsed.dissimilarities[::-1]]),
        ["", *elapsed.rdm_descriptors["participant"][::-1]],
    )
    found = compare_rdms_partial(model, data, everybodys)
    for k in range(6):
        own = np.stack([everybodys.dissimilarities[0], elapsed.dissimilarities[k]])
        alone = compare_vectors_partial(model.dissimilarities, data.dissimilarities[[k]], own)
        assert found[0, k] == pytest.approx(alone[0, 0])
    same = of_people(np.tile(elapsed.dissimilarities[:1], (6, 1)), elapsed.rdm_descriptors["participant"])
    once = RDMs(elapsed.dissimilarities[:1], pattern_descriptors=dict(data.pattern_descriptors))
    np.testing.assert_allclose(compare_rdms_partial(model, data, same), compare_rdms_partial(model, data, once))
    layers = RDMs(
        rng.normal(size=(2, 276)),
        rdm_descriptors={"layer": ["a", "b"]},
        pattern_descriptors=dict(data.pattern_descriptors),
    )
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
    holes = of_people(np.where(np.arange(276) < 5, np.nan, own), elapsed.rdm_descriptors["participant"])
    assert np.isfinite(partial_ceilings(data, holes, measure="rho-a")[["lower", "upper"]].to_numpy()).all()


def test_participants_without_their_controls_are_named() -> None:
    model, data, elapsed = confounded(np.random.default_rng(11), strength=0.7)
    with pytest.raises(InputError, match="participants '03' lack controls"):
        compare_rdms_partial(model, data, elapsed[[0, 1, 3, 4, 5]])
    twice = of_people(
        np.concatenate([elapsed.dissimilarities, elapsed.dissimilarities[:1] ** 2]),
        [*elapsed.rdm_descriptors["participant"], "01"],
    )
    with pytest.raises(InputError, match="'02', '03', '04', '05', '06' lack controls"):
        compare_rdms_partial(model, data, twice)
    anonymous = RDMs(data.dissimilarities, pattern_descriptors=dict(data.pattern_descriptors))
    with pytest.raises(InputError, match="do not say whose they are"):
        compare_rdms_partial(model, anonymous, elapsed)


def test_partial_ceilings_count_participants_with_an_rdm_and_have_no_bounds_for_one_alone() -> None:
    rng, items = np.random.default_rng(0), {"stimulus_id": [f"s{k:02d}" for k in range(14)]}
    data, control = rng.normal(size=(4, 91)) + rng.normal(size=91), rng.normal(size=(1, 91))
    controls = RDMs(control, pattern_descriptors=items)

    def ceilings(rows: np.ndarray, rois: str) -> Any:
        people = {"participant": [str(rois[:k].count(roi)) for k, roi in enumerate(rois)], "roi": list(rois)}
        return partial_ceilings(RDMs(rows, pattern_descriptors=items, rdm_descriptors=people), controls)

    missing = np.full((1, 91), np.nan)
    whole = ceilings(data[:3], "AAA").iloc[0]
    found = ceilings(np.concatenate([data[:3], missing, data[3:], missing, missing, missing]), "AAAABBCC")
    assert found["n"].tolist() == [3, 0, 0]
    assert found.loc[0, ["lower", "upper"]].tolist() == pytest.approx([whole["lower"], whole["upper"]], abs=1e-12)
    assert found.loc[1:, ["lower", "upper"]].isna().all(axis=None)
