"""The cross-validated bootstrap: equal to rsatoolbox for equal draws and folds, unbiased where fitting flatters."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from rsatoolbox.inference import bootstrap_crossval, crossvalsets, eval_dual_bootstrap, evaluate
from rsatoolbox.model import ModelFixed, ModelSelect
from rsatoolbox.rdm.rdms import RDMs

from brainmap import rsa
from brainmap.errors import InputError
from brainmap.rsa.inference.crossvalidation import Fold, bootstrap_fits, bootstrap_models, draw_folds
from brainmap.types import Measure

pytestmark = pytest.mark.filterwarnings("ignore:bootstrap_models:brainmap.errors.BrainmapWarning")


def planted(rng: np.random.Generator, n_models: int, n_people: int, n_items: int) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances: the data follow the first model."""
    i, j = np.triu_indices(n_items, 1)
    points = rng.normal(size=(n_models, n_items, 3))
    models = ((points[:, i] - points[:, j]) ** 2).sum(axis=2)
    noisy = points[0] + 0.7 * rng.normal(size=(n_people, n_items, 3))
    return models, ((noisy[:, i] - noisy[:, j]) ** 2).sum(axis=2)


def labelled(vectors: np.ndarray, **described: Any) -> RDMs:
    n = round((1 + np.sqrt(1 + 8 * vectors.shape[1])) / 2)
    return RDMs(vectors, rdm_descriptors=described, pattern_descriptors={"stimulus_id": [f"s{k}" for k in range(n)]})


@pytest.mark.parametrize(
    ("measure", "over"),
    [
        ("pearson", "both"),
        ("spearman", "both"),
        ("cosine", "conditions"),
        ("rho-a", "participants"),
    ],
)
def test_equal_draws_and_folds_give_the_evaluations_and_variances_of_rsatoolbox(
    measure: Measure, over: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    np.random.seed(0)  # noqa: NPY002  # rsatoolbox's folds; where models tie in one, rounding may choose either
    models, data = planted(rng, 4, 6, 14)
    n, repeats, folds = 6, 2, (2, 2)
    people, items = rng.integers(0, 6, (n, 6)), rng.integers(0, 14, (n, 14))
    seen: list[list[Fold]] = []

    def recorded(rdms: Any, **given: Any) -> Any:
        """rsatoolbox's own folds, written down."""
        parts: list[Fold] = []
        which = rdms.rdm_descriptors["index"]
        train, test, ceil = crossvalsets.sets_k_fold(rdms, **given)
        for (one, conditions), (other, held) in zip(train, test, strict=True):
            mine, rest = (np.unique(side.rdm_descriptors["index"]) for side in (one, other))
            parts.append(
                Fold(
                    train_people=mine,
                    test_people=rest,
                    train_conditions=np.array(conditions),
                    test_conditions=np.array(held),
                )
            )
        assert set(which) >= {p for part in parts for p in part.test_people}
        seen.append(parts)
        return train, test, ceil

    turn = iter(range(n))

    def draw(rdms: Any, **_: Any) -> Any:
        k = next(turn)
        if over == "both":
            return rdms.subsample("index", people[k]).subsample_pattern("index", items[k]), people[k], items[k]
        return (
            (rdms.subsample("index", people[k]), people[k])
            if over == "participants"
            else (rdms.subsample_pattern("index", items[k]), items[k])
        )

    for name in ("bootstrap_sample", "bootstrap_sample_rdm", "bootstrap_sample_pattern"):
        monkeypatch.setattr(evaluate, name, draw)
    monkeypatch.setattr(evaluate, "sets_k_fold", recorded)
    monkeypatch.setattr(evaluate.tqdm, "trange", range)
    families = [ModelSelect("net", RDMs(models)), ModelFixed("one", RDMs(models[1:2]))]
    named = {"pearson": "corr"}.get(measure, measure)
    given: Any = {"method": named, "N": n, "k_rdm": 2, "k_pattern": 2, "n_cv": repeats}
    if over == "both":
        theirs: Any = eval_dual_bootstrap(families, RDMs(data), **given)
        evaluations = theirs.evaluations.mean(axis=(2, 3)).transpose(2, 0, 1)
        lower = theirs.noise_ceiling[0].mean(axis=1).T
    else:
        boot_type = {"participants": "rdm", "conditions": "pattern"}[over]
        theirs = bootstrap_crossval(families, RDMs(data), boot_type=boot_type, **given)
        evaluations, lower = theirs.evaluations.mean(axis=(2, 3))[None], theirs.noise_ceiling[0].mean(axis=1)[None]

    replay = iter(seen)
    found = bootstrap_fits(
        {"net": ("selected", models), "one": ("fixed", models[1:2])},
        data,
        measure=measure,
        members=[np.array([k]) for k in range(14)],
        participants=None if over == "conditions" else people,
        conditions=None if over == "participants" else items,
        repeats=repeats,
        least=(2, 6),
        folding=lambda a, b: next(replay, draw_folds(a, b, *folds, rng)),
    )
    np.testing.assert_allclose(found.samples[:, :, :-2], evaluations, atol=1e-10)
    np.testing.assert_allclose(found.samples[:, :, -2], lower, atol=1e-10)
    assert found.df == theirs.dof
    np.testing.assert_allclose(found.variances, theirs.model_var, atol=1e-10)
    np.testing.assert_allclose(found.difference_variances[0, 1], theirs.diff_var[0], atol=1e-10)


def test_the_upper_ceiling_lies_above_the_lower_one_and_the_true_model_between() -> None:
    rng = np.random.default_rng(1)
    models, data = planted(rng, 3, 8, 20)
    found = bootstrap_models(
        {"true": labelled(models[:1]), "net": labelled(models)},
        labelled(data),
        kind={"true": "fixed", "net": "selected"},
        n=12,
        measure="pearson",
        rng=rng,
    )
    assert found.ceiling[0] < found.scores[0] <= found.ceiling[1]
    assert found.scores[1] == pytest.approx(found.scores[0], abs=0.02), "the layer is found in every fold"
    assert (found.noise_ceilings[:, 0] < found.noise_ceilings[:, 1]).all()
    table = found.table()
    assert (table["p"] < 0.01).all()
    assert table["ci_low"][0] < found.scores[0] < table["ci_high"][0]
    assert found.samples.shape == (3, 12, 4)
    assert found.evaluations.shape == (12, 2)


def test_a_family_of_noise_scores_nothing_though_its_fit_does() -> None:
    """Without held-out conditions a sum of many random RDMs fits anything; cross-validated it is worth 0."""
    rng = np.random.default_rng(2)
    noise, data = rng.random((12, 66)), rng.random((6, 66)) + rng.random(66)
    flattered = rsa.compare_vectors(rsa.fit_weights(noise, data, measure="pearson") @ noise, data, measure="pearson")
    assert flattered.mean() > 0.15
    for kind in ("weighted", "selected", "interpolated"):
        found = bootstrap_models(
            {"net": labelled(noise)},
            labelled(data),
            kind=kind,
            over="participants",
            n=12,
            repeats=1,
            measure="pearson",
            rng=rng,
        )
        assert abs(found.scores[0]) < 0.15
        assert found.table()["p"][0] > 0.01


def test_conditions_are_drawn_and_parted_with_all_their_stimuli() -> None:
    """Tokens of a word are alike: were they parted, a model that knows only words would be scored on its own."""
    rng = np.random.default_rng(3)
    words = np.repeat([f"w{k}" for k in range(10)], 2)
    members = rng.normal(size=(6, 20, 4)) + np.repeat(rng.normal(size=(10, 4)), 2, axis=0)
    items = {"stimulus_id": [f"s{k}" for k in range(20)], "condition": words.tolist()}
    data = rsa.stack_rdms(
        [rsa.compute_rdms(x, descriptors={**items, "participant": str(k)}) for k, x in enumerate(members)]
    )
    model = rsa.compute_rdms(members[0], descriptors=items)
    found = bootstrap_models({"m": model}, data, kind="fixed", n=10, measure="pearson", rng=rng)
    assert found.n_conditions == 10
    for fold in draw_folds(np.arange(6), np.arange(10), 2, 2, rng):
        assert not set(fold.train_conditions) & set(fold.test_conditions)
        assert not set(fold.train_people) & set(fold.test_people)
        assert set(fold.train_conditions) | set(fold.test_conditions) == set(range(10))


def test_a_variance_that_is_corrected_away_is_no_evidence() -> None:
    """Resamples that differ by their foldings only leave a variance around 0, and half of the time below."""
    rng = np.random.default_rng(6)
    models, data = planted(rng, 3, 4, 12)
    same = np.tile(np.arange(4), (4, 1))
    found = None
    for seed in range(8):
        folds = np.random.default_rng(seed)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = bootstrap_fits(
                {"net": ("selected", models)},
                data,
                measure="pearson",
                members=[np.array([k]) for k in range(12)],
                participants=same,
                conditions=None,
                repeats=2,
                least=(2, 6),
                folding=lambda a, b, folds=folds: draw_folds(a, b, 2, 2, folds),  # type: ignore[misc]
            )
        if found.variances[0] <= 0:
            break
    assert found is not None
    assert found.variances[0] <= 0, "a seed in eight"
    assert any("so that there is no p" in str(one.message) for one in said)
    assert np.isnan(found.table()["p"][0])


@pytest.mark.parametrize("measure", ["tau-a", "corr_cov", "cosine_cov"])
def test_other_measures_are_scored_too(measure: Measure) -> None:
    rng = np.random.default_rng(4)
    models, data = planted(rng, 3, 4, 12)
    found = bootstrap_models(
        {"net": labelled(models)}, labelled(data), over="participants", n=4, repeats=1, measure=measure, rng=rng
    )
    assert found.scores[0] > 0.3
    assert np.isfinite(found.samples).any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "best"}, "kind: expected one of"),
        ({"kind": "fixed"}, "fixed model: expected one RDM, got 3"),
        ({"condition_folds": 1, "participant_folds": 1}, "nothing is held out"),
        ({"condition_folds": 5}, "expected 1 to 4 folds of 12 conditions, got 5"),
        ({"participant_folds": 5}, "expected 1 to 4 folds of 4 participants, got 5"),
        ({"n": 1}, "n of at least 2, got 1"),
        ({"repeats": 0}, "repeats of at least 1, got 0"),
        ({"measure": "bures"}, "bures needs every pair"),
        ({"over": "subjects"}, "over: expected one of"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], words: str) -> None:
    rng = np.random.default_rng(5)
    models, data = planted(rng, 3, 4, 12)
    with pytest.raises(InputError, match=words):
        bootstrap_models({"net": labelled(models)}, labelled(data), **{"n": 5, "rng": rng, **change})
    with pytest.raises(InputError, match="expected at least one model, got none"):
        bootstrap_models({}, labelled(data), rng=rng)
