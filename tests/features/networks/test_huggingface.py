"""Hugging Face folders: what transformers itself computes is what brainmap reads."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from brainmap import features
from brainmap.errors import InputError
from brainmap.features.networks.checkpoints import load_network
from brainmap.features.networks.controls import control_network
from brainmap.features.networks.description import load_checkpoint
from brainmap.features.networks.huggingface import FolderNetwork, load_folder
from brainmap.features.sounds.files import Sounds, load_sounds, sounds_from_array
from tests.features.networks.folders import NAMES, STATES, make_folder, network_of

Folders = Callable[[str], Path]
LENGTHS = (8000, 12_000, 8000, 8000, 16_000, 9999, 8000, 8000)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    parent = tmp_path_factory.mktemp("folders")
    return lambda name: parent / name if (parent / name).is_dir() else make_folder(parent, name)


def write_sounds(folder: Path, rate: int) -> list[NDArray[np.float32]]:
    """Write noise of several lengths as float WAV files."""
    rng = np.random.default_rng(0)
    found = []
    (folder / "noise").mkdir(parents=True)
    for k, n in enumerate(LENGTHS):
        found.append((0.05 * rng.standard_normal(n)).astype(np.float32))
        soundfile.write(folder / "noise" / f"{k}.wav", found[-1], rate, subtype="FLOAT")
    return found


States = Callable[[NDArray[np.float32]], tuple[Any, Any]]


def open_by_transformers(folder: Path, name: str) -> States:
    """What gives the hidden states of one sound, and the output of the network, by transformers alone."""
    import transformers

    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    whole: Any = type(network_of(name)[0]).from_pretrained(folder)
    part = {"whisper": lambda: whole.model.encoder, "clap": lambda: whole.audio_model}.get(name, lambda: whole)()

    def run(sound: NDArray[np.float32]) -> tuple[Any, Any]:
        given = extractor(sound, sampling_rate=extractor.sampling_rate, return_tensors="pt")
        taken = {key: given[key] for key in ("input_values", "input_features", "is_longer") if key in given}
        with torch.no_grad():
            if name == "encodec":
                return (), part(**taken)
            found = part(**taken, output_hidden_states=True)
        return found.hidden_states, found

    return run


def real_mean(name: str, state: torch.Tensor, n_samples: int) -> NDArray[np.float32]:
    """The mean of a hidden state over what is no padding, written out for each kind of network."""
    if name == "whisper":
        return state[0, : -(-n_samples // 320)].mean(0).numpy()
    if name == "ast":  # 12 patches of 16 frames in time, a step of 10; 5 in frequency, time inside
        n_frames = 1 + (n_samples - 400) // 160
        kept = [0, 1] + [2 + 12 * f + t for f in range(5) for t in range(12) if 10 * t + 7.5 < n_frames]
        return state[0, kept].mean(0).numpy()
    if name == "clap":  # 2 s in four parts that lie below one another; shorter sounds are repeated
        share = (32_000 // n_samples) * n_samples / 32_000
        size = state.shape[2]
        places = [(r, c) for r in range(size) for c in range(size) if (4 * r // size + (c + 0.5) / size) / 4 < share]
        return torch.stack([state[0, :, r, c] for r, c in places]).mean(0).numpy()
    return state[0].mean(0).numpy()


@pytest.mark.parametrize("name", NAMES)
def test_hidden_states_are_those_of_transformers_alone_or_in_a_batch(
    folders: Folders, tmp_path: Path, name: str
) -> None:
    folder = folders(name)
    about = load_checkpoint(folder)
    waves = write_sounds(tmp_path, about.rate)
    net, sounds = load_network(folder), about.load_sounds(tmp_path)
    assert sounds.n_samples == max(LENGTHS)
    layers = [f"hidden.{k}" for k in range(STATES[name])] or ["encoder.layers.9.conv"]
    acts = [features.extract_activations(net, sounds, layers=layers, batch_size=size) for size in (1, 8)]
    for layer in layers:
        np.testing.assert_allclose(acts[0][layer][:], acts[1][layer][:], atol=2e-6, rtol=1e-5)
    if name == "encodec":  # it gives no states; its output is compared below
        return
    states_of = open_by_transformers(folder, name)
    for item in (0, 1, 4):
        for layer, state in zip(layers, states_of(waves[item])[0], strict=True):
            wanted = real_mean(name, state, len(waves[item]))
            np.testing.assert_allclose(acts[1][layer][item], wanted, atol=2e-6, rtol=1e-5, err_msg=f"{layer} {item}")


def test_whole_hidden_states_and_outputs_equal_those_of_transformers(folders: Folders) -> None:
    wave = (0.05 * np.random.default_rng(1).standard_normal(8000)).astype(np.float32)
    for name in ("wav2vec2-class", "encodec", "clap"):
        net = load_folder(folders(name))
        states, found = open_by_transformers(folders(name), name)(wave)
        kept = features.extract_activations(net, wave[None, None], layers=["output"], pooling="none")
        if name == "encodec":
            np.testing.assert_allclose(kept["output"][:], found.audio_values, atol=1e-6)
        elif name == "wav2vec2-class":
            np.testing.assert_allclose(kept["output"][:], found.logits, atol=1e-6)
            hidden = features.extract_activations(net, wave[None, None], layers=["hidden.2"], pooling="none")[
                "hidden.2"
            ]
            np.testing.assert_allclose(hidden[0], states[2][0].T, atol=1e-6)
            assert load_checkpoint(folders(name)).classes == ("cat", "dog", "tree", "yes")
        else:
            assert kept["output"].shape == (1, 16)


def test_layers_are_named_as_in_transformers_and_know_their_axes_and_frames(folders: Folders) -> None:
    net = load_folder(folders("wav2vec2-group"))
    listed = {one.name: one for one in features.list_layers(net, np.zeros((1, 1, 8000), np.float32))}
    assert {"feature_extractor.conv_layers.0.conv", "encoder.layers.1.feed_forward.output_dense"} < listed.keys()
    assert list(listed)[-2:] == ["hidden.2", "output"]
    assert listed["hidden.1"].shape == (24, 99)
    assert listed["hidden.1"].positions == ("time",)
    assert listed["hidden.0"].stride == listed["hidden.2"].stride == 80
    whisper = features.list_layers(load_folder(folders("whisper")), np.zeros((1, 1, 8000), np.float32))
    assert {(one.name, one.stride) for one in whisper} >= {("conv1", 160), ("hidden.2", 320)}


def test_normalization_is_that_of_the_feature_extractor_and_has_gradients(folders: Folders) -> None:
    from transformers import AutoFeatureExtractor

    wave = (0.3 + 0.05 * np.random.default_rng(1).standard_normal((2, 1, 900))).astype(np.float32)
    net = load_folder(folders("wav2vec2-layer"))
    extractor = AutoFeatureExtractor.from_pretrained(folders("wav2vec2-layer"))
    wanted = extractor(list(wave[:, 0]), sampling_rate=16_000, return_tensors="np")["input_values"]
    sounds = torch.tensor(wave, requires_grad=True)
    found = net.feeding.arguments(sounds)["input_values"]
    np.testing.assert_allclose(found.detach(), wanted, atol=1e-4)
    assert torch.autograd.grad(net(sounds).square().sum(), sounds)[0].abs().sum() > 0


def test_sounds_are_never_padded_and_several_lengths_are_refused_where_time_is_kept(
    folders: Folders, tmp_path: Path
) -> None:
    write_sounds(tmp_path, 16_000)
    net, sounds = load_network(folders("wav2vec2-group")), load_sounds(tmp_path, level="none")  # padded to 1 s
    seen: list[int] = []
    net.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[2]))
    features.extract_activations(net, sounds, layers=["hidden.1"], threads=1)
    assert seen[-6:] == [8000, 12_000, 8000, 16_000, 9999, 8000]  # neighbors of one length share a batch
    with pytest.raises(InputError, match="several lengths; pool over time, or give seconds"):
        features.extract_activations(net, sounds, layers=["hidden.1"], pooling="none")
    with pytest.raises(InputError, match="expected a rate of 16,000 Hz, as the network takes them, got 8,000 Hz"):
        features.extract_activations(net, load_sounds(tmp_path, rate=8000), layers=["hidden.1"])
    cut = load_checkpoint(folders("wav2vec2-group")).cut_to(0.25).load_sounds(tmp_path)
    assert features.extract_activations(net, cut, layers=["hidden.1"], pooling="none")["hidden.1"].shape == (8, 24, 49)


@pytest.mark.parametrize("kind", ["untrained", "permuted"])
@pytest.mark.parametrize("name", ["wav2vec2-group", "whisper", "clap", "encodec"])
def test_controls_have_other_weights_and_the_same_layers(folders: Folders, name: str, kind: Any) -> None:
    net = load_folder(folders(name))
    sounds = (0.05 * np.random.default_rng(0).standard_normal((3, 1, 4000))).astype(np.float32)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    control = control_network(net, kind, rng=np.random.default_rng(0), sounds=sounds)
    again = control_network(net, kind, rng=np.random.default_rng(0), sounds=sounds)
    layer = "hidden.1" if STATES[name] else "encoder.layers.9.conv"
    ours, theirs, twice = (
        features.extract_activations(one, sounds, layers=[layer])[layer][:] for one in (net, control, again)
    )
    assert ours.shape == theirs.shape
    assert not np.allclose(ours, theirs, atol=1e-3)
    np.testing.assert_array_equal(theirs, twice)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    for key, value in control.named_parameters():
        if value.numel() > 8 and value.std() > 0 and kind == "permuted":
            np.testing.assert_allclose(value.detach().flatten().sort().values, before[key].flatten().sort().values)


def test_windows_of_an_attention_are_left_out_of_all_layers_and_named(
    folders: Folders, caplog: pytest.LogCaptureFixture
) -> None:
    """CLAP's attention takes windows as if they were items, so that no axis holds the items alone."""
    sounds = (0.05 * np.random.default_rng(0).standard_normal((2, 1, 8000))).astype(np.float32)
    found = features.extract_activations(load_folder(folders("clap")), sounds, layers="all")
    assert "hidden.1" in found.layers
    assert "layers are left out, since it is not known which of their axes holds units" in caplog.text


def test_maps_and_maximizing_sounds_are_made_and_lrp_is_refused_by_name(folders: Folders) -> None:
    net = load_folder(folders("wav2vec2-class"))
    sounds = (0.05 * np.random.default_rng(0).standard_normal((3, 1, 4000))).astype(np.float32)
    found = features.attribute(net, sounds, method="integrated-gradients", classes="all", steps=64)
    assert found.maps.shape == (3, 4, 1, 4000)
    assert np.abs(found.delta).max() < 0.02 * np.abs(found.maps).sum((2, 3)).max()
    cams = features.class_activation_maps(net, sounds, layer="hidden.1")
    assert cams.maps.shape == (3, 4, 4000)
    assert np.abs(cams.maps).sum() > 0
    settings = features.MaximizationSettings(steps=8)
    for layer in ("hidden.1", "output"):
        am = features.maximize_activation(net, layer=layer, units=[2], settings=settings, sounds=sounds)
        assert am.trace.max() > am.trace[0, 0]  # a random network is rough, and the ascent jumps
        reached = features.extract_activations(net, am.patterns, layers=[layer])[layer][0, 2]
        np.testing.assert_allclose(am.quality["objective"][0], reached, rtol=1e-3)
    with pytest.raises(InputError, match=r"lrp.*(scaled_dot_product_attention|layer_norm|softmax|group_norm)"):
        features.attribute(net, sounds, method="lrp")


def test_gradients_of_networks_on_spectrograms_lie_over_their_spectrograms(folders: Folders, tmp_path: Path) -> None:
    write_sounds(tmp_path, 16_000)
    net = load_folder(folders("ast"))
    sounds = load_checkpoint(folders("ast")).load_sounds(tmp_path).take([0, 1])
    found = features.attribute(net, sounds, method="input-x-gradient")
    assert found.maps.shape == (2, 1, 1, 64, 128)
    assert found.rate == 100.0
    for row, n_samples in enumerate(LENGTHS[:2]):
        n_frames = 1 + (n_samples - 400) // 160
        assert found.maps[row, ..., :n_frames].any()
        assert not found.maps[row, ..., n_frames:].any()
    whole = net.spectrograms(torch.from_numpy(next(iter(sounds.batches(1)))))
    torch.testing.assert_close(net(whole), net(torch.from_numpy(next(iter(sounds.batches(1))))))
    settings = features.MaximizationSettings(steps=8)
    am = features.maximize_activation(net, layer="output", units=[1], settings=settings, sounds=sounds)
    assert am.patterns.shape == (1, 1, 64, 128)
    assert am.trace[-1, 0] > am.trace[0, 0]


def changed(folder: Path, target: Path, *, drop: str = "", **config: Any) -> Path:
    """Copy a folder without a file, and with other values in its configuration."""
    shutil.copytree(folder, target)
    if drop:
        (target / drop).unlink()
    if config:
        found = json.loads((target / "config.json").read_text()) | config
        (target / "config.json").write_text(json.dumps(found))
    return target


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drop": "config.json"}, r"expected a Hugging Face folder with config.json"),
        ({"drop": "model.safetensors"}, r"holds no model.safetensors .*save_pretrained"),
        ({"drop": "preprocessor_config.json"}, r"holds no preprocessor_config.json, which says the rate"),
        ({"architectures": ["MyNet"], "auto_map": {"AutoModel": "net.MyNet"}}, r"MyNet.* Python code .* never run"),
        ({"architectures": ["MyNet"]}, r"architecture 'MyNet', which transformers .* does not have"),
        ({"architectures": ["BertModel"]}, r"got BertModel in .*, which reads text"),
        ({"num_hidden_layers": 3}, r"lack .*encoder.layers.2"),
        ({"hidden_size": 16}, r"do not fit its config.json|lack "),
    ],
)
def test_a_folder_that_is_none_is_refused_in_one_line(
    folders: Folders, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    folder = changed(folders("hubert"), tmp_path / "changed", **change)
    with pytest.raises(InputError, match=message) as caught:
        load_network(folder)
    assert "\n" not in str(caught.value)


def test_stereo_and_sounds_that_would_be_cut_are_refused(folders: Folders, tmp_path: Path) -> None:
    folder = changed(folders("encodec"), tmp_path / "stereo", audio_channels=2)
    extractor = json.loads((folder / "preprocessor_config.json").read_text()) | {"feature_size": 2}
    (folder / "preprocessor_config.json").write_text(json.dumps(extractor))
    with pytest.raises(InputError, match="2 channels"):
        load_network(folder)
    with pytest.raises(InputError, match=r"at most 2 s, .* got 2\.5 s, which it would cut"):
        load_network(folders("whisper"))(torch.zeros(1, 1, 40_000))
    with pytest.raises(InputError, match="seconds: expected at most 2"):
        load_checkpoint(folders("whisper")).cut_to(3.0)


def test_nothing_is_fetched_and_no_code_of_the_folder_runs(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = changed(folders("hubert"), tmp_path / "code", auto_map={"AutoModel": "net.Net"})
    (folder / "net.py").write_text("raise SystemExit('code of the folder ran')\n")

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert isinstance(load_network(folder), FolderNetwork)


def test_a_network_is_read_in_its_own_precision(folders: Folders, tmp_path: Path) -> None:
    net, extractor = network_of("hubert")
    net.to(torch.bfloat16).save_pretrained(tmp_path / "half")
    extractor.save_pretrained(tmp_path / "half")
    sounds = np.random.default_rng(0).standard_normal((2, 1, 4000)).astype(np.float32)
    found = features.extract_activations(load_folder(tmp_path / "half"), sounds, layers=["hidden.2"])
    assert np.isfinite(found["hidden.2"][:]).all()


def test_arrays_open_in_xarray_with_named_axes_and_times(folders: Folders, tmp_path: Path) -> None:
    import xarray

    sounds: Sounds = sounds_from_array(np.zeros((2, 1, 8000), np.float32) + 0.1, rate=16_000)
    net = load_folder(folders("whisper"))
    store = tmp_path / "acts.zarr"
    acts = features.extract_activations(net, sounds, layers=["hidden.1"], pooling="none", store=store)
    array = acts.to_xarray("hidden.1")
    assert array.dims == ("item", "unit", "time")
    np.testing.assert_allclose(array["time"][:3], [0.0, 0.02, 0.04])
    opened = xarray.open_zarr(store, group="activations/hidden.1", consolidated=False)
    (found,) = opened.data_vars.values()
    assert found.dims == ("item", "unit", "time")
    np.testing.assert_array_equal(found.values, acts["hidden.1"][:])
