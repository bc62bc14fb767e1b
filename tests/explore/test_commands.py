"""What a page is told equals what the library computes by itself."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from brainmap import features
from brainmap.errors import BrainmapWarning, InputError
from brainmap.explore.commands import ANSWERS, run_command
from brainmap.explore.looking import BINS
from brainmap.explore.messages import COMMANDS, encode_json
from brainmap.explore.sources import Memory, Source, open_source
from tests.explore.running import flac

SOUND = {"network": "net", "sound": "dog_ben"}
ROW = 3


@pytest.fixture(scope="module")
def model(opening: dict[str, Any]) -> torch.nn.Module:
    return features.load_network(opening["checkpoints"][0])


@pytest.fixture(scope="module")
def sounds(opening: dict[str, Any]) -> features.Sounds:
    return features.load_checkpoint(opening["checkpoints"][0]).load_sounds(opening["sounds"])


def ask(source: Source, command: str, **given: str) -> dict[str, Any]:
    found = run_command(source, command, given)
    assert isinstance(found, dict)
    return found


def test_a_page_may_ask_for_every_answer_but_that_to_a_sent_file() -> None:
    assert set(ANSWERS) == {*COMMANDS, "receive"}


def test_arrays_come_back_as_they_were() -> None:
    given = np.array([[1.5, -2.0]], dtype=">f4")
    found = json.loads(encode_json({"a": given, "b": np.float32(0.5), "c": [np.nan, np.inf], "d": np.int64(3)}))
    assert found["a"]["shape"] == [1, 2]
    assert np.frombuffer(base64.b64decode(found["a"]["base64"]), "<f4").tolist() == [1.5, -2.0]
    assert (found["b"], found["c"], found["d"]) == (0.5, [None, None], 3)


def test_scores_are_the_logits(source: Source, model: torch.nn.Module, sounds: features.Sounds) -> None:
    found = ask(source, "scores", **SOUND)
    with torch.no_grad():
        wanted = model(torch.as_tensor(sounds.waveforms[ROW : ROW + 1]))[0]
    assert found["classes"] == ["cat", "dog", "tree", "yes"]
    assert found["logits"] == pytest.approx(wanted.numpy(), abs=1e-5)


@pytest.mark.parametrize("method", ["grad-cam", "hires-cam", "layer-cam"])
def test_maps_of_classes_are_those_of_the_library_in_points(
    source: Source, model: torch.nn.Module, sounds: features.Sounds, method: Any
) -> None:
    found = ask(source, "map", **SOUND, method=method, classes="yes\ncat")
    whole = features.class_activation_maps(model, sounds, method=method).maps[ROW]
    assert found["kind"] == "time"
    assert found["limit"] == pytest.approx(float(np.abs(whole).max()), rel=1e-4)
    for one, k in zip(found["maps"], (3, 0), strict=True):
        assert len(one["values"]) == BINS
        assert one["values"] == pytest.approx(whole[k].reshape(BINS, -1).mean(axis=1), abs=1e-5)
        assert one["high"] == pytest.approx(whole[k].reshape(BINS, -1).max(axis=1), abs=1e-5)
        assert one["sum"] == pytest.approx(float(whole[k].sum()), rel=1e-3, abs=1e-5)


def test_relevance_and_what_biases_take_are_the_logit(source: Source, model: torch.nn.Module) -> None:
    found = ask(source, "map", **SOUND, method="lrp", rules="epsilon", classes="dog")["maps"][0]
    heard = source.network("net")
    wanted = features.relevance(model, source.sound(heard, "dog_ben"), targets=np.array([[1]]), rules="epsilon")
    assert found["logit"] == pytest.approx(float(wanted.logits[0, 0]), rel=1e-4)
    assert found["sum"] == pytest.approx(float(wanted.maps.sum()), rel=1e-3, abs=1e-5)


def test_rules_change_relevance(source: Source) -> None:
    maps = [
        ask(source, "map", **SOUND, method="lrp", rules=rules, classes="dog")["maps"][0]["values"]
        for rules in ("epsilon", "epsilon-plus")
    ]
    assert not np.allclose(*maps)


def test_strips_are_the_activations_of_every_layer(
    source: Source, model: torch.nn.Module, sounds: features.Sounds
) -> None:
    found = ask(source, "strips", **SOUND)["layers"]
    listed = features.list_layers(model, sounds)
    assert [one["name"] for one in found] == [layer.name for layer in listed]
    for strip, layer in zip(found, listed, strict=True):
        with torch.no_grad(), features.tap(model, layer.name) as heard:
            model(torch.as_tensor(sounds.waveforms[ROW : ROW + 1]))
            values = heard[layer.name][0].reshape(layer.shape[0], -1).numpy()
        assert strip["most"] == pytest.approx(values.max(), rel=1e-4)
        row, column = np.unravel_index(int(values.argmax()), values.shape)
        shown = strip["picture"][row // strip["rows_of"], column // strip["columns_of"]]
        assert shown == 255
        if len(layer.shape) == 2 and layer.stride:
            assert strip["step"] == pytest.approx(layer.stride / 16_000)
            assert strip["start"] == pytest.approx(layer.center / 16_000)


def test_the_course_of_a_unit_is_its_row(source: Source, model: torch.nn.Module, sounds: features.Sounds) -> None:
    found = ask(source, "unit", **SOUND, layer="conv3", unit="5")
    with torch.no_grad(), features.tap(model, "conv3") as heard:
        model(torch.as_tensor(sounds.waveforms[ROW : ROW + 1]))
        assert found["values"] == pytest.approx(heard["conv3"][0, 5].numpy(), abs=1e-5)


def test_neighbors_are_the_nearest_by_correlation(
    source: Source, model: torch.nn.Module, sounds: features.Sounds
) -> None:
    found = ask(source, "neighbors", **SOUND, layer="conv3")
    values = np.asarray(features.extract_activations(model, sounds, layers=["conv3"])["conv3"][:])
    far = 1 - np.corrcoef(values)[ROW]
    far[ROW] = np.inf
    wanted = [sounds.items[k] for k in np.argsort(far, kind="stable")[: len(found["layer"])]]
    assert [one["id"] for one in found["layer"]] == wanted
    assert found["layer"][0]["distance"] == pytest.approx(far.min(), abs=1e-6)
    far = 1 - np.corrcoef(sounds.waveforms[:, 0])[ROW]
    far[ROW] = np.inf
    assert found["waveform"][0]["id"] == sounds.items[int(far.argmin())]


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_the_plane_is_the_embedding_of_the_layer(
    source: Source, model: torch.nn.Module, sounds: features.Sounds, method: Any
) -> None:
    found = ask(source, "embedding", network="net", layer="conv3", method=method)
    activations = features.extract_activations(model, sounds, layers=["conv3"])
    with pytest.warns(BrainmapWarning, match="never change"):
        wanted = features.embed(activations, layer="conv3", method=method, perplexity=7 / 3)
    assert found["items"] == list(sounds.items)
    assert found["axes"] == list(wanted.axes)
    if method == "pca":
        assert np.abs(found["points"]) == pytest.approx(np.abs(wanted.points), abs=1e-4)
    assert any("never change" in note for note in found["notes"])
    again = ask(source, "embedding", network="net", layer="conv3", method=method)
    assert again["notes"] == found["notes"]  # what was said is said again
    assert found["trustworthiness"] == pytest.approx(wanted.trustworthiness, abs=0.2)


def test_a_sent_copy_is_nearest_to_its_own_sound(opening: dict[str, Any], tmp_path: Path) -> None:
    source = open_source(**opening)
    row = list(source.items).index("tree_anna")
    original = source.network("net").sounds.table["path"].iloc[row]
    copy = tmp_path / "digest"
    copy.write_bytes(Path(original).read_bytes())
    sent = source.receive(copy, "mine", 60.0)["sound"]
    for space in ("layer", "waveform"):
        found = ask(source, "neighbors", network="net", sound=sent, layer="conv3")[space]
        assert found[0]["id"] == "tree_anna"
        assert found[0]["distance"] == pytest.approx(0, abs=1e-6)
        assert len(found) == 6


def test_favorites_of_a_unit_are_its_exemplars(source: Source, model: torch.nn.Module, sounds: features.Sounds) -> None:
    strip = ask(source, "strips", **SOUND)["layers"][0]
    unit = int(strip["picture"].max(axis=1).argmax())  # one that speaks
    found = ask(source, "favorites", network="net", layer="conv1", unit=str(unit))
    wanted = features.find_exemplars(model, sounds, layer="conv1", units=[unit], k=6)
    assert [one["id"] for one in found["exemplars"]] == list(wanted.table["item"])
    assert [one["value"] for one in found["exemplars"]] == pytest.approx(list(wanted.table["value"]), rel=1e-5)
    kernel = features.layer_filters(model, sounds).kernels[unit]
    assert found["filter"]["kernel"] == pytest.approx(kernel, abs=1e-6)
    assert found["pattern"] is None
    sound, kind = run_command(source, "crop", {"network": "net", "layer": "conv1", "unit": str(unit), "rank": "0"})
    assert kind == "audio/wav"
    wave, rate = soundfile.read(io.BytesIO(sound))
    assert (rate, len(wave) >= rate // 2) == (16_000, True)


@pytest.mark.parametrize("stimulus", ["tone", "noise"])
def test_tuning_is_that_of_the_library(
    source: Source, model: torch.nn.Module, sounds: features.Sounds, stimulus: Any
) -> None:
    strip = ask(source, "strips", **SOUND)["layers"][0]
    unit = int(strip["picture"].max(axis=1).argmax())
    found = ask(source, "tuning", network="net", layer="conv1", unit=str(unit), stimulus=stimulus)
    settings = features.TuningSettings(stimulus=stimulus, per_step=6)
    wanted = features.measure_tuning(model, sounds, layers=["conv1"], settings=settings)
    assert found["hertz"] == pytest.approx(wanted.frequencies, rel=1e-6)
    for level, curve in zip(found["levels"], found["curves"], strict=True):
        assert curve == pytest.approx(wanted.curves("conv1", level_db=level)[unit], abs=1e-6)
    assert found["best"] == pytest.approx(found["hertz"][found["curves"][-1].argmax()], rel=1e-6)


def test_a_sound_is_grown_that_drives_a_unit_and_is_kept(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    strip = ask(source, "strips", **SOUND)["layers"][0]
    unit = int(strip["picture"].max(axis=1).argmax())
    given = {"network": "net", "layer": "conv1", "unit": str(unit)}
    found = ask(source, "pattern", **given)
    assert (found["stored"], found["label"], found["prior"]) == (False, f"conv1-{unit}", "audio")
    assert found["objective"] > found["best_clip"]
    monkeypatch.setattr("brainmap.explore.units.maximize_activation", None)
    sound, kind = run_command(source, "patternsound", given)
    assert (sound[:4], kind) == (b"RIFF", "audio/wav")
    with pytest.raises(InputError, match="unit: expected 0 to 31"):
        run_command(source, "pattern", {**given, "unit": "32"})


def test_what_is_played_is_what_the_network_hears(source: Source, sounds: features.Sounds) -> None:
    sound, _ = run_command(source, "audio", SOUND)
    wave, rate = soundfile.read(io.BytesIO(sound))
    heard = sounds.waveforms[ROW, 0]
    assert rate == 16_000
    assert np.corrcoef(wave, heard)[0, 1] > 0.9999


def test_what_is_done_to_a_sound_is_said(opening: dict[str, Any], tmp_path: Path) -> None:
    source = open_source(**opening)
    for name, seconds, words in (("long", 0.5, "it is cut"), ("short", 0.1, "the rest is zeros")):
        path = tmp_path / name
        path.write_bytes(flac(seconds=seconds))
        sent = source.receive(path, name, 60.0)["sound"]
        notes = ask(source, "sound", network="net", sound=sent)["notes"]
        assert any(words in note for note in notes), notes
    assert ask(source, "sound", **SOUND)["notes"] == []


def test_the_loudest_point_of_a_tone_is_at_its_frequency(opening: dict[str, Any], tmp_path: Path) -> None:
    source = open_source(**opening)
    path = tmp_path / "tone"
    path.write_bytes(flac(hertz=1000.0))
    found = ask(source, "sound", network="net", sound=source.receive(path, "tone", 60.0)["sound"])
    row = int(found["picture"].mean(axis=1).argmax())
    assert found["hertz"][row] == pytest.approx(1000, rel=0.1)


def test_a_map_that_was_computed_is_not_computed_again(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ask(source, "map", **SOUND, method="xgrad-cam", classes="cat")
    monkeypatch.setattr("brainmap.explore.looking.class_activation_maps", None)
    again = ask(source, "map", **SOUND, method="xgrad-cam", classes="dog\ncat")
    assert np.array_equal(first["maps"][0]["values"], again["maps"][1]["values"])


def test_memory_gives_up_what_was_used_least() -> None:
    memory = Memory(most_bytes=100)
    calls: list[str] = []

    def make() -> Any:
        calls.append(key)
        return np.zeros(5)

    for key in ("a", "b", "a", "c", "a", "b"):
        memory.remember(key, make)
    assert calls == ["a", "b", "c", "b"]


def test_a_study_or_a_checkpoint_with_sounds_is_needed(opening: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="expected a study, or a checkpoint and sounds"):
        open_source(checkpoints=opening["checkpoints"])


LARGE = ("scipy.signal", "scipy.stats", "sympy", "torch._dynamo", "numba", "nilearn", "rsatoolbox", "matplotlib.pyplot")
USES = """
import json, sys
from brainmap.explore.commands import run_command
from brainmap.explore.sources import open_source

source = open_source(**json.loads(sys.argv[1]))
sound = source.items[0]
about = run_command(source, "network", {"network": "net"})
given = {"network": "net", "sound": sound}
for command, more in (
    ("sound", {}),
    ("scores", {}),
    ("map", {"method": "grad-cam", "classes": about["classes"][0]}),
    ("map", {"method": "lrp", "classes": about["classes"][0]}),
    ("strips", {}),
    ("pattern", {"layer": "conv2", "unit": "1"}),
    ("pattern", {"layer": "output", "unit": "1"}),
):
    run_command(source, command, {**given, **more})
print(*sys.modules)
"""


@pytest.mark.slow
def test_looking_and_listening_import_nothing_large_beside_torch(opening: dict[str, Any]) -> None:
    """Each of these takes 20 to 110 MB, of 600 that the explorer may take."""
    ran = subprocess.run(
        [sys.executable, "-c", USES, json.dumps(opening)], capture_output=True, text=True, check=True, timeout=300
    )
    loaded = set(ran.stdout.split())
    assert "torch" in loaded
    assert loaded.isdisjoint(LARGE), sorted(loaded.intersection(LARGE))


def test_a_sound_made_of_a_picture_plays_at_the_rate_of_sounds() -> None:
    from brainmap.explore.looking import take_wave
    from brainmap.features.sounds.front_ends import read_front_end
    from brainmap.features.sounds.inputs import InputAxes

    axes = InputAxes(front_end=read_front_end("log-mel,mels=8"), rate=4_000, n_samples=2_000)
    picture = np.random.default_rng(0).standard_normal((1, 1, 8, 65)).astype(np.float32)
    am = SimpleNamespace(can_be_heard=True, patterns=picture, axes=axes, rate=129)  # of frames
    wave, rate = take_wave(am, "pattern")  # type: ignore[arg-type]
    assert rate == 4_000
    assert wave.size == pytest.approx(2_000, abs=100)
