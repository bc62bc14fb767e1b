"""The bootstrap: equal to rsatoolbox for equal draws, honest where rsatoolbox stops, calibrated."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from rsatoolbox.inference import eval_bootstrap_pattern, eval_bootstrap_rdm, eval_dual_bootstrap, evaluate
from rsatoolbox.model import ModelFixed
from rsatoolbox.rdm.rdms import RDMs

from brainmap.errors import BrainmapWarning, InputError
from brainmap.rsa.comparison.measures import compare_vectors
from brainmap.rsa.inference.bootstrap import bootstrap, bootstrap_vectors
from brainmap.rsa.inference.exchange import find_units
from brainmap.types import Measure

THEIRS = {
    "pearson": "corr",
    "cosine": "cosine",
    "spearman": "spearman",
    "rho-a": "rho-a",
    "tau-a": "tau-a",
    "corr_cov": "corr_cov",
    "cosine_cov": "cosine_cov",
}
pytestmark = pytest.mark.filterwarnings(
    "ignore:bootstrap. in .* is constant:brainmap.errors.BrainmapWarning",
    "ignore:Noise ceiling for tau",
    "ignore:invalid value encountered:RuntimeWarning",  # rsatoolbox: an RDM without variance in a resample
)


def rsatoolbox_result(
    models: Any, data: Any, participants: Any, conditions: Any, measure: str, patch: pytest.MonkeyPatch
) -> Any:
    """rsatoolbox's bootstrap with the draws it is given in place of its own."""
    n = len(participants if participants is not None else conditions)
    turn = iter(range(n))

    def both(rdms: Any, **kwargs: Any) -> Any:
        k = next(turn)
        sample = rdms.subsample("index", participants[k]).subsample_pattern("index", conditions[k])
        return sample, participants[k], conditions[k]

    def people(rdms: Any, descriptor: Any) -> Any:
        k = next(turn)
        return rdms.subsample("index", participants[k]), participants[k]

    def items(rdms: Any, descriptor: Any) -> Any:
        k = next(turn)
        return rdms.subsample_pattern("index", conditions[k]), conditions[k]

    patch.setattr(evaluate, "bootstrap_sample", both)
    patch.setattr(evaluate, "bootstrap_sample_rdm", people)
    patch.setattr(evaluate, "bootstrap_sample_pattern", items)
    patch.setattr(evaluate.tqdm, "trange", range)
    fixed = [ModelFixed(str(k), RDMs(row[None])) for k, row in enumerate(models)]
    run = eval_dual_bootstrap
    if conditions is None:
        run = eval_bootstrap_rdm
    elif participants is None:
        run = eval_bootstrap_pattern
    return run(fixed, RDMs(data), method=THEIRS[measure], N=n)


def planted(rng: np.random.Generator, n_models: int, n_people: int, n_items: int, *, ties: bool = False) -> Any:
    n_pairs = n_items * (n_items - 1) // 2
    truth = rng.random(n_pairs)
    models = rng.random((n_models, n_pairs))
    models[0] += truth
    data = truth + rng.random((n_people, n_pairs))
    return (models.round(1), data.round(1)) if ties else (models, data)


def draws(rng: np.random.Generator, n: int, size: int) -> Any:
    return rng.integers(0, size, size=(n, size))


def assert_equal_to_rsatoolbox(over: str, measure: Measure, models: Any, data: Any, people: Any, items: Any) -> None:
    people, items = (None if over == "conditions" else people), (None if over == "participants" else items)
    found = bootstrap_vectors(models, data, measure=measure, participants=people, conditions=items)
    with pytest.MonkeyPatch.context() as patch:
        theirs = rsatoolbox_result(models, data, people, items, measure, patch)
    assert found.over == over
    close: dict[str, Any] = {"atol": 1e-10, "rtol": 0}
    if over == "both":
        expected = theirs.evaluations[:, :, 0, 0].transpose(2, 0, 1)
        ceilings = theirs.noise_ceiling[:, :, 0].transpose(2, 1, 0)
    else:
        expected, ceilings = theirs.evaluations[None], theirs.noise_ceiling.T[None]
    np.testing.assert_allclose(found.samples[..., :-2], expected, **close)
    if not measure.endswith("cov"):  # rsatoolbox pools those on a scale that is not their own
        np.testing.assert_allclose(found.samples[..., -2:], ceilings, **close)
    np.testing.assert_allclose(found.variances, np.atleast_1d(theirs.model_var), **close)
    a, b = np.triu_indices(len(models), 1)
    np.testing.assert_allclose(found.difference_variances[a, b], theirs.diff_var, **close)
    np.testing.assert_allclose(found.table()["p"], theirs.test_zero(), atol=1e-8)
    if len(models) > 1:
        np.testing.assert_allclose(found.pairs()["p"], theirs.test_pairwise()[a, b], atol=1e-8)


@pytest.mark.parametrize("over", ["participants", "conditions", "both"])
@pytest.mark.parametrize("measure", [name for name in THEIRS if name != "tau-a"])
def test_equal_draws_give_the_numbers_of_rsatoolbox(over: str, measure: Measure) -> None:
    rng = np.random.default_rng(0)
    models, data = planted(rng, 3, 6, 9, ties=measure in ("rho-a", "spearman"))
    assert_equal_to_rsatoolbox(over, measure, models, data, draws(rng, 12, 6), draws(rng, 12, 9))


def test_tau_equals_rsatoolbox() -> None:
    rng = np.random.default_rng(10)
    models, data = planted(rng, 2, 4, 7, ties=True)
    assert_equal_to_rsatoolbox("both", "tau-a", models, data, draws(rng, 4, 4), draws(rng, 4, 7))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 4), st.integers(2, 7), st.integers(5, 12)),
    over=st.sampled_from(["participants", "conditions", "both"]),
    measure=st.sampled_from(["pearson", "cosine", "spearman", "rho-a"]),
    ties=st.booleans(),
    missing=st.booleans(),
)
def test_equals_rsatoolbox_for_any_shape_with_ties_and_missing_pairs(
    seed: int, shape: tuple[int, int, int], over: str, measure: Measure, ties: bool, missing: bool
) -> None:
    rng = np.random.default_rng(seed)
    models, data = planted(rng, *shape, ties=ties)
    if missing:  # rsatoolbox takes pairs that all lack
        models[:, 1] = data[:, 1] = np.nan
    items = draws(rng, 6, shape[2])
    items[0, :4], items[1, :4] = np.arange(4), np.arange(1, 5)  # two resamples at least that can be scored
    assert_equal_to_rsatoolbox(over, measure, models, data, draws(rng, 6, shape[1]), items)


def test_pairs_that_one_participant_lacks_are_left_out_for_that_one_alone() -> None:
    rng = np.random.default_rng(1)
    models, data = planted(rng, 2, 5, 8)
    people, items = draws(rng, 10, 5), draws(rng, 10, 8)
    data[3, :7] = np.nan  # the first condition of one participant
    found = bootstrap_vectors(models, data, measure="spearman", participants=people, conditions=items)
    for b in range(10):
        i, j = np.triu_indices(8, 1)
        chosen = np.sort(items[b])
        place = {(x, y): k for k, (x, y) in enumerate(zip(i, j, strict=True))}
        pairs = [place[x, y] for n, x in enumerate(chosen) for y in chosen[n + 1 :] if x != y]
        scores = np.array(
            [compare_vectors(models[:, pairs], data[[p]][:, pairs], measure="spearman")[:, 0] for p in people[b]]
        )
        np.testing.assert_allclose(found.evaluations[b], scores.mean(axis=0), atol=1e-12)
    assert np.isfinite(found.noise_ceilings).all()


def test_written_out_resamples_equal_weighted_ones() -> None:
    """A pair missing in one participant sends everything the slow way: without it both ways agree."""
    from brainmap.rsa.inference import resampling as _resampling

    rng = np.random.default_rng(2)
    models, data = planted(rng, 3, 5, 8, ties=True)
    measures: list[Measure] = ["pearson", "cosine", "spearman", "rho-a"]
    alone, tokens = np.arange(8), np.array([0, 0, 1, 2, 2, 2, 3, 1])
    for measure, units in product(measures, (alone, tokens)):
        fast = _resampling.make_sampler(models, data, measure, units)
        for conditions in (None, rng.integers(0, 8, size=8) if units is alone else np.array([3, 0, 2, 0])):
            slow = _resampling._score_sample(models, data, measure, units, conditions)
            np.testing.assert_allclose(fast(conditions).scores, slow.scores, atol=1e-12)
            counts = np.array([2, 0, 1, 1, 1])
            np.testing.assert_allclose(fast(conditions).ceiling(counts), slow.ceiling(counts), atol=1e-12)


def test_tokens_are_drawn_with_their_condition() -> None:
    """Against every pair written down by hand: copies keep their own tokens' pairs and share none with each other."""
    rng = np.random.default_rng(11)
    models, data = planted(rng, 2, 4, 10)
    words = ["cat", "cat", "dog", "dog", "dog", "eel", "fox", "fox", "gnu", "gnu"]
    person = np.arange(4)[None].repeat(4, 0)
    drawn = np.array([[0, 1, 2, 3, 4], [0, 0, 1, 1, 3], [4, 2, 2, 2, 0], [1, 3, 4, 1, 1]])
    items = {"stimulus_id": [f"s{k}" for k in range(10)], "condition": words}
    units = find_units(RDMs(data, pattern_descriptors=items))
    assert units.tolist() == [0, 0, 1, 1, 1, 2, 3, 3, 4, 4]
    found = bootstrap_vectors(models, data, measure="pearson", conditions=drawn, participants=person, units=units)
    assert (found.n_conditions, found.df) == (5, 3)
    place = {pair: k for k, pair in enumerate(combinations(range(10), 2))}
    for b in range(4):
        tokens = [(copy, k) for copy, word in enumerate(drawn[b]) for k in np.flatnonzero(units == word)]
        pairs = [
            place[min(i, j), max(i, j)]
            for (one, i), (two, j) in combinations(tokens, 2)
            if one == two or units[i] != units[j]
        ]
        wanted = compare_vectors(models[:, pairs], data[:, pairs], measure="pearson").mean(axis=1)
        np.testing.assert_allclose(found.evaluations[b], wanted, atol=1e-12)


def labelled(vectors: Any, names: Any = None, **descriptors: Any) -> RDMs:
    n = round((1 + np.sqrt(1 + 8 * vectors.shape[1])) / 2)
    return RDMs(
        vectors,
        rdm_descriptors=descriptors,
        pattern_descriptors={"stimulus_id": list(names or [f"s{k}" for k in range(n)])},
    )


def test_conditions_are_matched_by_label() -> None:
    from brainmap.rsa.rdm.alignment import find_pair_positions

    rng = np.random.default_rng(3)
    models, data = planted(rng, 2, 4, 7)
    order = rng.permutation(7)
    mixed = labelled(models[:, find_pair_positions(order, 7)], [f"s{k}" for k in order], layer=["a", "b"])
    one, two = (
        bootstrap(m, labelled(data), n=20, measure="corr", rng=np.random.default_rng(0))
        for m in (labelled(models, layer=["a", "b"]), mixed)
    )
    np.testing.assert_allclose(one.samples, two.samples, atol=1e-12)
    assert two.models == ("a", "b")
    assert two.table()["model"].tolist() == ["a", "b"]


def test_the_result_says_what_it_holds() -> None:
    models, data = planted(np.random.default_rng(4), 3, 6, 10)
    found = bootstrap(labelled(models), labelled(data), n=50, measure="spearman", rng=np.random.default_rng(0))
    assert (found.n_participants, found.n_conditions, found.df) == (6, 10, 5)
    np.testing.assert_allclose(found.scores, compare_vectors(models, data, measure="spearman").mean(axis=1))
    assert found.ceiling[0] < found.ceiling[1]
    table, pairs = found.table("bonferroni"), found.pairs()
    np.testing.assert_allclose(table["p_corrected"], np.minimum(1, 3 * table["p"]))
    assert table["p"][0] < 0.01 < table["p"][1:].min()
    assert len(pairs) == 3
    assert found.evaluations.shape == (50, 3)
    assert found.noise_ceilings.shape == (50, 2)
    again = bootstrap(labelled(models), labelled(data), n=50, measure="spearman", rng=np.random.default_rng(0))
    np.testing.assert_array_equal(found.samples, again.samples)


def test_one_participant_can_be_resampled_over_conditions() -> None:
    models, data = planted(np.random.default_rng(5), 2, 1, 12)
    found = bootstrap(labelled(models), labelled(data), over="conditions", n=50, rng=np.random.default_rng(0))
    assert found.df == 11
    assert np.isfinite(found.table()["p"]).all()
    assert np.isnan(found.ceiling).all()
    assert np.isnan(found.table()["below_ceiling"]).all()


def test_resamples_with_a_constant_model_score_zero_and_are_counted() -> None:
    rng = np.random.default_rng(6)
    _, data = planted(rng, 1, 4, 6)
    i, j = np.triu_indices(6, 1)
    category = ((i < 1) != (j < 1)).astype(float)[None]
    conditions = np.array([[1, 2, 3, 4, 5, 5], [0, 1, 2, 3, 4, 5], [0, 0, 1, 2, 3, 4]])
    with pytest.warns(BrainmapWarning, match="in 1 of 3 resamples"):
        found = bootstrap_vectors(category, data, measure="spearman", conditions=conditions)
    assert found.evaluations[0, 0] == 0
    assert (found.evaluations[1:] != 0).all()


def test_too_few_different_conditions_are_no_resample() -> None:
    rng = np.random.default_rng(7)
    models, data = planted(rng, 1, 4, 6)
    conditions = np.array([[1, 1, 1, 2, 2, 2], [0, 1, 2, 3, 4, 5], [0, 0, 1, 2, 3, 4]])
    found = bootstrap_vectors(models, data, measure="pearson", conditions=conditions)
    assert np.isnan(found.samples[0, 0]).all()
    assert np.isfinite(found.samples[0, 1:]).all()
    with pytest.raises(InputError, match="that all participants share, got 0 of 2"):
        bootstrap_vectors(models, data, measure="pearson", conditions=conditions[[0, 0]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"over": "subjects"}, "over: expected one of"),
        ({"measure": "sperman"}, "did you mean 'spearman'"),
        ({"n": 1}, "at least 2 resamples, got 1"),
        ({"data": 1}, "expected at least 2 participants, got 1; choose over='conditions'"),
        ({"items": 3}, "expected at least 4 conditions, got 3"),
        ({"items": 2, "over": "participants"}, "expected at least 3 conditions, got 2"),
        ({"names": list("abcdefgh")}, "the items of the two sides differ"),
        ({"constant": "models"}, "models 'model 1': all dissimilarities are equal"),
        ({"constant": "data"}, "data RDMs 1: all dissimilarities are equal"),
        ({"missing": True}, "no participant has an RDM of 'all voxels'"),
        ({"layer": ["conv1", "conv1"]}, "models: 'conv1' occur twice"),
        ({"roi": ["a", "a", "b", "b"]}, "2 ROIs"),
        ({"participant": ["01", "01", "02", "03"]}, "one RDM per participant, got more of '01'"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], message: str) -> None:
    models, data = planted(np.random.default_rng(8), 2, change.get("data", 4), change.get("items", 8))
    if "constant" in change:
        {"models": models, "data": data}[change["constant"]][0] = 0.5
    if "missing" in change:
        data[:] = np.nan
    model_rdms = labelled(models, change.get("names"), **{k: v for k, v in change.items() if k == "layer"})
    data_rdms = labelled(data, **{k: v for k, v in change.items() if k in ("roi", "participant")})
    options = {k: v for k, v in change.items() if k in ("over", "measure", "n")}
    with pytest.raises(InputError, match=message):
        bootstrap(model_rdms, data_rdms, **options, rng=np.random.default_rng(0))


@pytest.mark.slow
@pytest.mark.parametrize("over", ["participants", "conditions", "both"])
def test_false_positives_stay_below_the_conservative_level_and_true_models_are_found(over: str) -> None:
    """Null over participants: RDMs independent of the model and each other; else a shared geometry without the model.

    Participant tests against 0 rightly reject when participants share a geometry that happens to fall on the model's
    side, so that null is for resampled conditions only.
    """
    n_people, n_items, n_resamples, simulations = 8, 12, 60, 2000
    rng = np.random.default_rng(9)
    i, j = np.triu_indices(n_items, 1)

    def distances(points: Any) -> Any:
        return ((points[..., i, :] - points[..., j, :]) ** 2).sum(axis=-1)

    def p_value(strength: float) -> float:
        model = rng.normal(size=(n_items, 5))
        shared = strength * model + rng.normal(size=(n_items, 5)) * (over != "participants")
        data = distances(shared + rng.normal(size=(n_people, n_items, 5)))
        found = bootstrap_vectors(
            distances(model)[None],
            data,
            measure="pearson",
            participants=None if over == "conditions" else draws(rng, n_resamples, n_people),
            conditions=None if over == "participants" else draws(rng, n_resamples, n_items),
        )
        return float(found.table("none")["p"].iloc[0])

    false = np.mean([p_value(0.0) < 0.05 for _ in range(simulations)])
    power = np.mean([p_value(2.0) < 0.05 for _ in range(100)])
    assert false <= 0.065, f"false positives {false:.3f}, power {power:.2f}"
    assert power > 0.8, f"false positives {false:.3f}, power {power:.2f}"
