"""Banded ridge regression of stories: what each band adds, and the same numbers by weights of units and of scans."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from brainmap import rsa
from brainmap.errors import InputError
from brainmap.rsa.encoding import band_fits
from tests.rsa.encoding.test_stories import T_R, Windows, make_stories, respond

pytestmark = pytest.mark.filterwarnings("ignore:encoding. (there are no repetitions|the (largest|smallest) alpha)")


def test_a_band_that_was_planted_has_all_unique_variance_and_the_delayed_one_of_speech_none() -> None:
    rng = np.random.default_rng(0)
    heard, other = make_stories(rng, n=3, units=3), make_stories(rng, n=3, units=2)
    bands = {"net": Windows(heard), "speech": Windows(other)}
    responses = respond(heard, rng, delay=2, noise=0.5, voxels=3)
    fit = rsa.encode_story_bands(bands, responses, t_r=T_R, n_iter=4, high_pass=None, delays=[2.0, 4.0], inner_folds=2)
    assert fit.bands == ("net", "speech")
    assert fit.folds.by == "story"
    mean = fit.scores.groupby("band")[["joint", "unique", "product"]].mean()
    assert mean.loc["net", "joint"] > 0.4
    assert mean.loc["net", "unique"] == pytest.approx(mean.loc["net", "joint"], abs=0.06)
    assert mean.loc["speech", "unique"] == pytest.approx(0, abs=0.03)
    assert mean["product"].sum() == pytest.approx(mean.loc["net", "joint"], abs=1e-9)
    tested = fit.test(permutations=19, rng=rng)
    assert (tested["p"] == 1 / 20).all()
    assert "blocks of 10 scans or more exchanged within each story" in tested.attrs["note"]
    assert set(fit.preference(tested)["band"]) == {"net"}


def test_weights_of_units_and_of_scans_give_the_same_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    one, two = make_stories(rng, n=3, units=3), make_stories(rng, n=3, units=2)
    responses = respond(one, rng, delay=1, noise=1.0, voxels=4)
    bands = {"a": Windows(one), "b": Windows(two)}
    called, fit_units = [0], band_fits._fit_units

    def fit(*given: Any) -> Any:
        called[0] += 1
        return fit_units(*given)

    monkeypatch.setattr(band_fits, "_fit_units", fit)
    units = rsa.encode_story_bands(bands, responses, t_r=T_R, n_iter=5).scores
    assert called[0] > 0
    monkeypatch.setattr(band_fits, "_fit_units", None)
    wide = {name: Windows({s: np.tile(x, (1, 40)) for s, x in own.items()}) for name, own in (("a", one), ("b", two))}
    scans = rsa.encode_story_bands(wide, responses, t_r=T_R, n_iter=5).scores  # more units than scans, the same kernels
    for column in ("r", "joint", "unique", "product"):
        np.testing.assert_allclose(units[column], scans[column], rtol=1e-6, atol=1e-8, err_msg=column)


def test_a_band_of_constants_and_no_seeds_are_refused() -> None:
    rng = np.random.default_rng(2)
    stories = make_stories(rng, n=3)
    responses = respond(stories, rng, delay=1, noise=1.0)
    flat = {"a": Windows(stories), "b": Windows({name: np.ones_like(x) for name, x in stories.items()})}
    with pytest.raises(InputError, match="expected units that vary in each band"):
        rsa.encode_story_bands(flat, responses, t_r=T_R)
    with pytest.raises(InputError, match="expected at least one seed"):
        rsa.encode_story_bands(flat, responses, t_r=T_R, seeds=())
