"""What a region is predicted to want: by whom it is judged, on which data, and where it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from brainmap.errors import BrainmapWarning, InputError
from brainmap.explore.commands import run_command
from brainmap.explore.sources import Source, open_source
from brainmap.explore.wanted import find_wanted

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def source(encoding_results: Path) -> Source:
    return open_source(study=str(encoding_results))


def ask(source: Source, command: str, **given: str) -> dict[str, Any]:
    found = run_command(source, command, given)
    assert isinstance(found, dict)
    return found


def test_the_gate_is_the_test_of_the_study(source: Source, encoding_results: Path) -> None:
    table = pd.read_csv(encoding_results.parent / "derivatives" / "brainmap" / "group" / "encoding.tsv", sep="\t")
    for region, planted in (("primary", True), ("lateral", False)):
        gates = {gate["network"]: gate for gate in ask(source, "gates", region=region)["gates"]}
        assert list(gates) == ["first", "second"]
        rows = table[(table["roi"] == region) & (table["network"] == "first")].set_index("layer")
        assert gates["first"]["layer"] == rows["mean"].idxmax()
        assert gates["first"]["p"] == pytest.approx(rows["p_corrected"][rows["mean"].idxmax()])
        assert gates["first"]["passed"] is planted


def test_a_sound_is_judged_by_another_network_on_another_participant(source: Source, encoding_results: Path) -> None:
    from brainmap import features, rsa
    from brainmap.features.activations.stored import open_activations

    found = ask(source, "wanted", region="primary", network="first")
    assert (found["layer"], found["judges"], found["judged_on"]) == ("conv2", "second conv2", "other data")
    assert found["real"]["id"] in source.items
    own = encoding_results.parent / "sub-02"
    rois = rsa.load_rois(
        str(own / "rois.nii.gz"), table=str(encoding_results.parent / "rois.tsv"), mask=str(own / "mask.nii.gz")
    )
    data = rsa.load_patterns(
        [str(own / f"betas_run-{k}.nii.gz") for k in (1, 2, 3)],
        mask=str(own / "mask.nii.gz"),
        rois=rois,
        stimuli=str(encoding_results.parent / "stimuli.tsv"),
    )
    store = encoding_results.parent / "derivatives" / "brainmap" / "features" / "network-second_features.zarr"
    acts = open_activations(store)
    with (
        pytest.warns(BrainmapWarning, match="constant"),  # untrained networks have units that never speak
        pytest.warns(BrainmapWarning, match="largest alpha is the best one"),
    ):
        fit = rsa.encode(acts, data, layers=["conv2"], targets="roi", folds=4).weights("conv2")
    region = list(fit.targets["roi"]).index("primary")
    real = fit.predict(np.asarray(acts["conv2"][:]))[:, region]
    sound = find_wanted(source, "primary", "first")[0].am.patterns
    second = features.load_network(str(encoding_results.parent / "second.safetensors"))
    heard = features.extract_activations(second, sound, layers=["conv2"])
    mine = fit.predict(np.asarray(heard["conv2"][:]))[0, region]
    assert found["judged"] == pytest.approx((mine - real.mean()) / real.std(ddof=1), rel=1e-3)
    assert found["judged"] > found["best_random"]
    body, kind = run_command(source, "wantedsound", {"region": "primary", "network": "first"})
    assert (body[:4], kind) == (b"RIFF", "audio/wav")


def test_a_sound_that_was_found_is_kept(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ask(source, "wanted", region="primary", network="first")
    monkeypatch.setattr("brainmap.explore.wanted.RegionSearch", None)
    assert ask(source, "wanted", region="primary", network="first")["judged"] == first["judged"]


@pytest.mark.parametrize(
    ("region", "network", "said"),
    [
        ("lateral", "first", "no better than chance"),
        ("primry", "first", "did you mean 'primary'?"),
        ("primary", "frist", "did you mean 'first'?"),
    ],
)
def test_what_cannot_be_found_is_refused_in_one_line(source: Source, region: str, network: str, said: str) -> None:
    with pytest.raises(InputError, match=r"^[^\n]*$") as error:
        run_command(source, "wanted", {"region": region, "network": network})
    assert said in str(error.value)


def test_a_study_without_encoding_models_says_so(native_results: Any) -> None:
    with pytest.raises(InputError, match="add \\[encoding\\] to its file"):
        run_command(open_source(study=str(native_results.file)), "gates", {"region": "belt"})
