"""The estimate of a study's time and memory: what it counts, how it grows, and whether it is honest."""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainmap.errors import BrainmapWarning
from brainmap.study.stages import costs
from brainmap.study.stages.costs import Light, count_spheres, estimate, measure_speed, price
from brainmap.study.stages.example_costs import EXAMPLES, tabulate_examples

ROOT = Path(__file__).resolve().parents[2]
DEMO = list(EXAMPLES.values())[1]
LIGHT: Any = DEMO.light


def test_the_table_of_the_documents_is_that_of_the_estimate() -> None:
    assert tabulate_examples() in (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")


def test_every_count_has_a_price_and_every_price_is_counted() -> None:
    counted: set[str] = set()
    whole = replace(DEMO, encoded=100, bold_volumes=800, light=replace(LIGHT, enhanced=True))
    for size in (whole, replace(whole, light=replace(LIGHT, slides=True))):
        for count in (
            costs.count_networks,
            costs.count_betas,
            costs.count_regions,
            costs.count_ceilings,
            costs.count_group_maps,
            costs.count_encoding,
            costs.count_explanations,
            costs.count_page,
        ):
            counted |= set(count(size))
        counted |= set(count_spheres(size.light, size.items, size.runs, size.models))
    assert counted == set(costs.NANOSECONDS)


def test_more_cores_and_a_faster_machine_take_less_time_and_the_processor_works_as_much() -> None:
    two, eight = estimate(DEMO, cores=2), estimate(DEMO, cores=8)
    assert two.total / 4 < eight.total < two.total
    assert eight.cpu_seconds == two.cpu_seconds
    assert estimate(DEMO, cores=2, speed=2 * costs.SPEED).total == pytest.approx(two.total / 2)


@pytest.mark.parametrize(
    ("changes", "least", "most"),
    [
        ({"participants": 16}, 1.9, 2.1),
        ({"light": {"voxels": 58_796}}, 1.99, 2.01),
        ({"runs": 8, "patterns": 384}, 1.2, 2.0),
        ({"items": 96, "sounds": 96, "patterns": 384}, 2.5, 4.0),
        ({"light": {"ceilings": False}}, 1.0, 1.0),
    ],
)
def test_searchlights_grow_with_what_they_hold(changes: dict[str, Any], least: float, most: float) -> None:
    light = changes.pop("light", {})
    larger = replace(DEMO, **changes, light=replace(LIGHT, **light))
    growth = estimate(larger, cores=1).seconds["searchlights"] / estimate(DEMO, cores=1).seconds["searchlights"]
    assert least <= growth <= most


def test_explanations_beside_the_rest_take_at_most_what_they_would_after_it() -> None:
    explained = DEMO.explained
    assert explained is not None
    for steps in (200, 2_000, 20_000):
        size = replace(DEMO, explained=replace(explained, steps=steps))
        own, found = price(costs.count_explanations(size)), estimate(size, cores=2)
        rest = estimate(replace(size, explained=None), cores=2).total
        assert found.seconds["explanations"] < own
        assert found.total > max(own, rest)
        assert found.total >= found.cpu_seconds / 2  # no more than two cores work
    assert estimate(DEMO, cores=1).seconds["explanations"] == price(costs.count_explanations(DEMO))
    few = replace(DEMO, explained=replace(explained, steps=100))  # the imports of a second process would cost more
    assert estimate(few, cores=2).seconds["explanations"] == price(costs.count_explanations(few)) / 2


def test_memory_holds_the_patterns_of_everybody_only_for_ceilings() -> None:
    fine = replace(DEMO, participants=20, patterns=800, light=Light(voxels=200_000, sphere=300))
    assert 20 * 800 * 200_000 * 4 < costs.count_bytes(fine, 2) < 20 * 800 * 200_000 * 8
    alone = replace(fine, light=replace(LIGHT, voxels=200_000, sphere=300, ceilings=False))
    assert 800 * 200_000 * 8 < costs.count_bytes(alone, 2) < 3 * 800 * 200_000 * 8


def test_a_line_says_time_memory_parts_and_what_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "find_available_memory", lambda: 10**9)
    said = costs.describe_here(DEMO)
    assert said.startswith("about ")
    for words in ("core", "GB of memory", "explanations", "searchlights", "compiles", "are not counted"):
        assert words in said
    assert said.endswith("; only 1 GB of memory are available")


def test_measuring_the_machine_takes_milliseconds() -> None:
    start = time.process_time()
    speed = measure_speed()
    assert time.process_time() - start < 0.2
    assert 0.5 < speed < 500


def test_the_check_measures_the_study_that_it_has_read(
    tiny_study: Any, lines_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from brainmap.study.check import check_study
    from brainmap.study.results.context import Context
    from brainmap.study.settings.study import load_study

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)
        found = check_study(Context(load_study(tiny_study.file)))
    assert found.measure is not None
    size = found.measure()
    assert (size.sounds, size.items, size.participants, size.runs, size.patterns) == (8, 8, 3, 3, 24)
    assert (size.grid, len(size.regions), size.models, size.explained.steps) == (210, 3, 3, 2)
    assert size.light.voxels == 168
    assert 10 < size.light.sphere <= 33
    assert size.networks[0].products > 1e6
    monkeypatch.chdir(tiny_study.folder)
    code, out, _ = lines_of("check", "study.toml")
    assert code == 0
    assert [line for line in out if line.startswith("estimate: about ")]


def test_what_a_study_takes_is_not_said_where_something_is_wrong(tiny_study: Any) -> None:
    from brainmap.study.check import check_study
    from brainmap.study.results.context import Context
    from brainmap.study.settings.study import load_study

    tiny_study.edit(("radius_mm = 6.0", "radius_mm = 0.1"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)
        assert check_study(Context(load_study(tiny_study.file))).measure is None


@pytest.mark.slow
@pytest.mark.parametrize("dissimilarity", ["crossnobis", "correlation"])
def test_the_estimate_of_a_larger_searchlight_is_within_a_factor_of_three(dissimilarity: Any) -> None:
    import nibabel as nib
    import rsatoolbox

    from brainmap.rsa import searchlight

    rng, n, shape = np.random.default_rng(0), 72, (12, 24, 24)
    labels = [f"s{k}" for k in range(n)]
    models = rsatoolbox.rdm.RDMs(
        rng.random((20, n * (n - 1) // 2)),
        rdm_descriptors={"name": [f"m{k}" for k in range(20)]},
        pattern_descriptors={"stimulus_id": labels},
    )

    def run(x: Any) -> float:
        mask = nib.Nifti1Image(np.ones(x.shape[2:], np.float32), np.eye(4))
        start = time.process_time()
        searchlight(
            x.reshape(*x.shape[:2], -1),
            models,
            mask=mask,
            labels=labels,
            radius_mm=3.0,
            dissimilarity=dissimilarity,
            measure="rho-a",
            threads=1,
        )
        return time.process_time() - start

    run(rng.normal(size=(6, n, 3, 7, 7)))  # compiles
    light = Light(voxels=int(np.prod(shape)), sphere=100, slides=dissimilarity == "crossnobis")
    said = price(count_spheres(light, n, 6, 20)) * costs.SPEED / measure_speed()
    took = run(rng.normal(size=(6, n, *shape)))
    assert said / 3 < took < 3 * said
