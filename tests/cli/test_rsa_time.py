"""brainmap rsa rdm --over time and rsa compare --figure: when a layer's geometry is a region's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from brainmap import rsa
from brainmap.features.activations.stored import open_activations
from brainmap.viz.rsa.time_courses import plot_time_course

ITEMS = [f"{word}_{voice}" for word in ("cat", "dog", "tree", "yes") for voice in ("anna", "ben")]


@pytest.fixture
def activations(tmp_path: Path, tiny_inputs: Any, brainmap_command: Callable[..., Any]) -> Callable[[str], Path]:
    """A store of activations of two convolutions and the logits."""

    def extract(pooling: str) -> Path:
        out = tmp_path / f"{pooling}.zarr"
        given = ("--checkpoint", tiny_inputs.folder / "net.safetensors", "--sounds", tiny_inputs.folder / "stimuli.tsv")
        layers = ("--layers", "conv1,conv5,output", "--pooling", pooling)
        answer = brainmap_command("features", "activations", *given, *layers, "--out", out)
        assert answer.code == 0, answer.err
        return out

    return extract


def test_layers_over_time_are_compared_and_drawn(
    tmp_path: Path, activations: Callable[[str], Path], brainmap_command: Callable[..., Any]
) -> None:
    store = activations("none")
    acts = open_activations(store)
    times = acts.frame_times("conv1")
    assert times is not None
    inside = (times >= 0.05) & (times < 0.10)
    truth = np.asarray(acts["conv1"])[..., inside].mean(-1)
    people = []
    for person in ("01", "02", "03"):
        noisy = truth + 0.2 * truth.std(axis=0) * np.random.default_rng(int(person)).normal(size=truth.shape)
        described = {"stimulus_id": ITEMS, "participant": person, "roi": "belt"}
        brain = rsa.compute_rdms(noisy, units="zscore", descriptors=described)
        people.append(rsa.save_rdms(brain, tmp_path / f"{person}.h5"))
    over = ("--over", "time", "--window", 50, "--step", 25)
    answer = brainmap_command("rsa", "rdm", "--activations", store, *over, "--out", tmp_path / "m.h5")
    assert answer.code == 0, answer.err
    assert "(conv1, conv5; 5 windows of 50 ms) of 8 stimuli, correlation" in answer.out
    assert "'output' are left out, because they keep no time" in answer.err
    course = ("--figure", tmp_path / "course.png", "--statistics", tmp_path / "tests.tsv")
    answer = brainmap_command(
        "rsa",
        "compare",
        tmp_path / "m.h5",
        *people,
        "--out",
        tmp_path / "s.tsv",
        *course,
        "--ceilings",
        tmp_path / "c.tsv",
        "--measure",
        "spearman",
    )
    assert answer.code == 0, answer.err
    assert (tmp_path / "course.png").stat().st_size > 10_000
    scores = pd.read_csv(tmp_path / "s.tsv", sep="\t", dtype={"participant": str})
    mean = scores[scores["layer"] == "conv1"].groupby("time")["score"].mean()
    assert mean.idxmax() == 0.075
    assert set(pd.read_csv(tmp_path / "tests.tsv", sep="\t")["time"]) == set(scores["time"])


def test_what_has_no_time_is_refused_in_one_line(
    tmp_path: Path, activations: Callable[[str], Path], lines_of: Callable[..., Any]
) -> None:
    store, out = activations("mean"), ("--out", tmp_path / "m.h5")
    ask = ("rsa", "rdm", "--activations", store, *out)
    for words, message in (
        ((*ask, "--over", "time"), "extract them with pooling='none' (--pooling none) from sounds with a rate"),
        ((*ask, "--over", "tiem"), "did you mean 'time'?"),
        (("rsa", "rdm", "--cams", store, *out, "--over", "time"), "--over time: expected --activations, got none"),
        ((*ask, "--dissimilarity", "poisson_cv"), "poisson_cv: expected patterns of two runs or more, got one set"),
    ):
        code, _, err = lines_of(*words)
        assert code == 2
        assert len(err) == 1
        assert message in err[0]
    assert lines_of(*ask)[0] == 0
    compare = ("rsa", "compare", tmp_path / "m.h5", tmp_path / "m.h5", "--figure")
    code, _, err = lines_of(*compare, tmp_path / "x.png")
    assert (code, "--over time" in err[-1], (tmp_path / "x.png").exists()) == (2, True, False)
    assert lines_of(*compare, tmp_path / "x.doc")[0] == 2


def test_a_time_course_shows_each_region_with_its_peak_and_ceiling() -> None:
    time = np.arange(12) / 20
    rows = [
        {
            "roi": roi,
            "layer": layer,
            "participant": who,
            "time": t,
            "score": peak * np.exp(-(((t - when) / 0.1) ** 2)) + 0.01 * who,
        }
        for roi in ("A1", "belt")
        for layer, when, peak in (("conv1", 0.2, 0.4), ("conv2", 0.4, 0.6))
        for who in (1, 2, 3)
        for t in time
    ]
    ceilings = pd.DataFrame({"roi": ["A1", "belt"], "lower": [0.5, np.nan], "upper": [0.8, np.nan]})
    figure = plot_time_course(pd.DataFrame(rows), ceilings, measure="rho-a")
    first, second = figure.axes
    assert first.get_title(loc="left") == "A1: conv2 is nearest at 0.4 s (.62)"
    assert [text.get_text() for text in first.texts] == ["noise ceiling"]
    assert not second.texts, "a ceiling that is not known is not drawn"
    assert (first.get_ylabel(), first.get_xlabel()) == ("rho-a", "center of the window in the sound [s]")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["conv1", "conv2"]


def test_a_time_course_without_what_it_needs_is_refused() -> None:
    from brainmap.errors import InputError

    with pytest.raises(InputError, match=r"'time'. is missing"):
        plot_time_course(pd.DataFrame({"layer": ["a"], "score": [1.0]}))
    with pytest.raises(InputError, match="expected at least one score"):
        plot_time_course(pd.DataFrame({"layer": ["a"], "time": [0.1], "score": [np.nan]}))
