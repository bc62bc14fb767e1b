"""Keras files: what Keras itself predicts is what brainmap reads, and no code of a file runs."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from brainmap import features
from brainmap.errors import InputError
from brainmap.features.activations.store import hash_weights
from brainmap.features.layers.listing import list_layers
from brainmap.features.networks.checkpoints import load_network
from brainmap.features.networks.controls import control_network
from brainmap.features.networks.feeding import describe_feeding
from brainmap.features.networks.keras_graph import import_keras
from brainmap.features.networks.keras_modules import SamePadding
from tests.features.networks.keras_networks import NAMES, SAMPLES, build_keras, predict, save_keras

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' own


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Any, Path]]:
    folder = tmp_path_factory.mktemp("keras")
    known: dict[tuple[str, str], tuple[Any, Path]] = {}

    def find(name: str, ending: str = ".keras") -> tuple[Any, Path]:
        if (name, ending) not in known:
            network = build_keras(name)
            known[name, ending] = network, save_keras(network, folder / f"{name}{ending}")
        return known[name, ending]

    return find


def make_input(name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Noise as brainmap gives it, and as Keras takes it."""
    rng = np.random.default_rng(2)
    if name == "picture":
        x = rng.standard_normal((3, 1, 20, 24), np.float32)
        return x, x.transpose(0, 2, 3, 1)
    x = rng.standard_normal((3, 1, SAMPLES), np.float32)
    return x, {"first": x, "flat": x[:, 0]}.get(name, x.transpose(0, 2, 1))


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_those_that_keras_predicts(saved, name: str, ending: str) -> None:
    if (name, ending) == ("odd", ".h5"):
        pytest.skip("Keras itself does not read `x * 2.0` back from HDF5")
    network, path = saved(name, ending)
    ours, theirs = make_input(name)
    model = load_network(path)
    with torch.no_grad():
        found = model(torch.as_tensor(ours)).numpy()
    np.testing.assert_allclose(found, predict(network, theirs), atol=1e-5)
    assert np.ptp(found, axis=0).max() > 1e-3  # it depends on the sounds


@pytest.mark.parametrize(
    ("name", "layer", "theirs"),
    [
        ("cnn", "conv1", "relu1"), ("cnn", "conv2", "conv2"), ("flat", "hidden", "leaky_re_lu"),
        ("odd", "strided", "strided"), ("odd", "separable", "separable"), ("odd", "dense", "dense"),
        ("odd", "depthwise", "depthwise"), ("recurrent", "both", "both"), ("recurrent", "gru", "gru"),
        ("picture", "conv", "activation"),
    ],
)  # fmt: skip
def test_activations_are_those_of_the_layers_of_keras(saved, name: str, layer: str, theirs: str) -> None:
    """A convolution comes with its normalization and nonlinearity, with time last."""
    keras = import_keras()
    network, path = saved(name)
    ours, given = make_input(name)
    out = next(one for one in network.layers if one.name.startswith(theirs)).output
    wanted = predict(keras.Model(network.inputs, out), given)
    found = features.extract_activations(load_network(path), ours, layers=[layer], pooling="none")
    np.testing.assert_allclose(found[layer], np.moveaxis(wanted, -1, 1), atol=1e-5)


def test_layers_are_listed_with_units_and_time(saved) -> None:
    shown = {
        name: [(one.name, one.kind, one.shape, one.positions) for one in list_layers(load_network(saved(name)[1]), x)]
        for name, x in ((name, make_input(name)[0]) for name in ("cnn", "recurrent", "picture"))
    }
    assert shown["cnn"] == [
        ("conv1", "Conv1d", (4, 400), ("time",)),
        ("conv2", "Conv1d", (6, 96), ("time",)),
        ("output", "Linear", (4,), ()),
    ]
    assert shown["recurrent"][1:3] == [("both", "Bidirectional", (6, 49), ("time",)), ("gru", "GRU", (5,), ())]
    assert shown["picture"][0] == ("conv", "Conv2d", (4, 10, 12), ("frequency", "time"))
    conv2 = list_layers(load_network(saved("cnn")[1]), make_input("cnn")[0])[1]
    assert (conv2.receptive_field, conv2.stride, conv2.center) == (9 + 3 + 4 * 4, 4, 9.5)


def test_the_softmax_at_the_end_is_taken_off(saved) -> None:
    keras = import_keras()
    network, path = saved("cnn")
    ours, theirs = make_input("cnn")
    found = features.extract_activations(load_network(path), ours, layers="output")["output"]
    pooled = predict(keras.Model(network.inputs, network.get_layer("mean").output), theirs)
    kernel, bias = network.get_layer("classes").get_weights()
    np.testing.assert_allclose(found, pooled @ kernel + bias, atol=1e-5)


def test_class_activation_maps_are_those_of_zhou(saved) -> None:
    """sum_k w_kc A_tk over the activations that Keras itself gives."""
    keras = import_keras()
    network, path = saved("cnn")
    ours, theirs = make_input("cnn")
    maps = features.class_activation_maps(load_network(path), ours, method="cam", layer="conv2", upsample=False).maps
    activation = predict(keras.Model(network.inputs, network.get_layer("conv2").output), theirs)
    wanted = np.einsum("ntk,kc->nct", activation, network.get_layer("classes").get_weights()[0])
    np.testing.assert_allclose(maps, wanted, atol=1e-5)


@pytest.mark.parametrize("name", ["flat", "odd", "recurrent", "first"])
def test_gradients_are_those_through_keras_itself(saved, name: str) -> None:
    network, path = saved(name)
    ours, theirs = make_input(name)
    found = features.attribute(load_network(path), ours, method="saliency", classes=[1], absolute=False).maps[:, 0]
    x = torch.as_tensor(theirs.copy()).requires_grad_()
    (gradient,) = torch.autograd.grad(network(x, training=False)[:, 1].sum(), x)
    np.testing.assert_allclose(found.reshape(len(ours), -1), gradient.reshape(len(ours), -1), atol=1e-5)


def test_a_sound_that_maximizes_a_class_does_so_in_keras(saved) -> None:
    network, path = saved("flat")
    model = load_network(path)
    ours, _ = make_input("flat")
    settings = features.MaximizationSettings(steps=32, jitter_ms=0.0)
    found = features.maximize_activation(
        model, units=[2], settings=settings, sounds=ours, rate=8000, rng=np.random.default_rng(0)
    )
    pattern = found.patterns[0].reshape(1, -1)
    noise = ours[:, 0] * np.sqrt(np.mean(pattern**2) / np.mean(ours**2))
    best, other = (predict(network, np.asarray(x, np.float32))[:, 2] for x in (pattern, noise))
    assert best[0] > other.max() + 3 * other.std()


def test_controls_draw_and_shuffle_weights_of_every_layer(saved) -> None:
    model = load_network(saved("recurrent")[1])
    one, again, other = (control_network(model, rng=np.random.default_rng(k)) for k in (0, 0, 1))
    for name, weight in model.named_parameters():
        assert torch.equal(one.get_parameter(name), again.get_parameter(name))
        if "bias" not in name:
            assert not torch.equal(one.get_parameter(name), weight)
            assert not torch.equal(one.get_parameter(name), other.get_parameter(name))
    shuffled = control_network(model, "permuted", rng=np.random.default_rng(0))
    for name, weight in model.named_parameters():
        assert torch.equal(shuffled.get_parameter(name).flatten().sort()[0], weight.flatten().sort()[0])


def test_the_batch_and_the_number_of_threads_change_nothing(saved) -> None:
    model = load_network(saved("recurrent")[1])
    ours, _ = make_input("recurrent")
    whole, single = (
        features.extract_activations(model, ours, layers=["both", "gru"], batch_size=size, threads=threads)
        for size, threads in ((3, 1), (1, 2))
    )
    for layer in ("both", "gru"):
        np.testing.assert_allclose(whole[layer], single[layer], atol=1e-6)


def test_networks_that_differ_in_an_activation_have_another_hash(tmp_path: Path) -> None:
    keras = import_keras()
    found = []
    for activation in ("celu", "exponential"):  # neither is a module of torch here
        network = keras.Sequential(
            [keras.Input((40, 1)), keras.layers.Conv1D(2, 3, activation=activation, name="conv")]
        )
        network.set_weights([np.ones(w.shape) for w in network.get_weights()])
        found.append(hash_weights(load_network(save_keras(network, tmp_path / f"{activation}.keras"))))
    assert found[0] != found[1]


@pytest.mark.parametrize("length", [7, 8, 9, 30])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(5, 1, 1), (4, 1, 1), (4, 3, 1), (8, 3, 1), (3, 1, 4), (2, 5, 1)]
)
def test_same_padding_is_that_of_keras(length: int, kernel: int, stride: int, dilation: int) -> None:
    keras = import_keras()
    x = torch.as_tensor(np.random.default_rng(0).standard_normal((1, 1, length)), dtype=torch.float32)
    weight = torch.arange(1.0, kernel + 1)[None, None]
    padded = SamePadding((kernel,), (stride,), (dilation,))(x)
    found = torch.nn.functional.conv1d(padded, weight, stride=stride, dilation=dilation)
    wanted = keras.ops.conv(
        x.transpose(1, 2), weight.permute(2, 1, 0), strides=stride, padding="same", dilation_rate=dilation
    )
    torch.testing.assert_close(found, wanted.transpose(1, 2))


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_a_lambda_layer_is_refused_and_does_not_run(tmp_path: Path, ending: str) -> None:
    keras = import_keras()
    mark = tmp_path / "it-ran"
    code = keras.layers.Lambda(
        lambda x, at=str(mark): (__import__("os").mkdir(at), x)[1], output_shape=(40, 1), name="evil"
    )
    network = keras.Sequential([keras.Input((40, 1)), code])
    path = save_keras(network, tmp_path / f"evil{ending}")
    assert not mark.exists()  # Keras does not call it either, since the shape of its output is said
    with pytest.raises(InputError, match=r"holds code of its own .*Lambda 'evil'.* is refused") as said:
        load_network(path)
    assert "\n" not in str(said.value)
    assert not mark.exists()


def rewrite_config(path: Path, target: Path, change: Callable[[str], str]) -> Path:
    """Copy a Keras file with its configuration changed."""
    if path.suffix == ".h5":
        target.write_bytes(path.read_bytes())
        with h5py.File(target, "r+") as file:
            file.attrs["model_config"] = change(str(file.attrs["model_config"]))
        return target
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as copy:
        for name in source.namelist():
            content = source.read(name)
            copy.writestr(name, change(content.decode()).encode() if name == "config.json" else content)
    return target


RELU = '"module": "keras.layers", "class_name": "ReLU"'
FUNCTION = '{"module": "builtins", "class_name": "function", "config": "f"}'


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (RELU, '"module": "os", "class_name": "system"', r"class os\.system"),
        (RELU, '"module": "keras.utils", "class_name": "get_file"', "get_file"),
        ('"class_name": "ReLU"', '"class_name": "TorchModuleWrapper"', "code of its own .*TorchModuleWrapper"),
        ('"class_name": "ReLU"', '"class_name": "StringLookup"', "StringLookup"),
        ('"class_name": "ReLU"', '"class_name": "mine>Layer"', "mine>Layer"),
        ('"class_name": "ReLU"', '"class_name": "NoSuchLayer"', "cannot load"),
        ('"activation": "relu"', f'"activation": {FUNCTION}', "function 'f'"),
        ('"filters": 4', '"filters": 5', "cannot load"),
        ('{"module"', '{"module', "no readable Keras file"),
    ],
)  # fmt: skip
def test_what_is_not_of_keras_or_damaged_is_refused_in_a_line(saved, tmp_path, old: str, new: str, said: str) -> None:
    path = rewrite_config(saved("cnn")[1], tmp_path / "changed.keras", lambda text: text.replace(old, new))
    with pytest.raises(InputError, match=said) as found:
        load_network(path)
    assert "\n" not in str(found.value)


def test_weights_alone_and_cut_files_are_refused(saved, tmp_path: Path) -> None:
    network, _ = saved("cnn")
    network.save_weights(tmp_path / "cnn.weights.h5")
    with pytest.raises(InputError, match="holds no network"):
        load_network(tmp_path / "cnn.weights.h5")
    older = saved("cnn", ".h5")[1].read_bytes()
    (tmp_path / "cut.h5").write_bytes(older[: len(older) // 2])
    with pytest.raises(InputError, match="no readable Keras file"):
        load_network(tmp_path / "cut.h5")
    broken = network.get_weights()
    broken[0][:] = np.nan
    changed = build_keras("cnn")
    changed.set_weights(broken)
    with pytest.raises(InputError, match="NaN or infinite weights in conv1"):
        load_network(save_keras(changed, tmp_path / "nan.keras"))


def test_masks_and_several_inputs_are_refused(tmp_path: Path) -> None:
    keras = import_keras()
    layers = keras.layers
    masked = keras.Sequential([keras.Input((40, 1)), layers.Masking(), layers.LSTM(3)])
    with pytest.raises(InputError, match="receives a mask"):
        load_network(save_keras(masked, tmp_path / "masked.keras"))
    pair = [keras.Input((40, 1)), keras.Input((40, 1))]
    with pytest.raises(InputError, match="one input, got 2"):
        load_network(save_keras(keras.Model(pair, layers.Add()(pair)), tmp_path / "pair.keras"))


def test_keras_must_be_there_and_on_torch(saved, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved("cnn")[1]
    keras = import_keras()
    with monkeypatch.context() as changed:
        changed.setattr(keras.backend, "backend", lambda: "jax")
        with pytest.raises(InputError, match="imported it on 'jax'; set KERAS_BACKEND=torch"):
            load_network(path)
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(InputError, match=r"pip install 'brainmap\[keras\]'"):
        load_network(path)


def test_the_file_knows_how_many_samples_it_takes(saved) -> None:
    path = saved("cnn")[1]
    assert describe_feeding(path, rate=8000).n_samples == SAMPLES
    assert describe_feeding(path, rate=8000, seconds=0.05).n_samples == SAMPLES
    with pytest.raises(InputError, match=r"expected 0.05, since .* takes 400 samples .* got 1;"):
        describe_feeding(path, rate=8000, seconds=1.0)
    with pytest.raises(InputError, match="does not say how it was fed"):
        describe_feeding(path)
    assert describe_feeding(saved("flat", ".h5")[1], rate=8000).n_samples == SAMPLES
    with pytest.raises(InputError, match="does not say how it was fed"):  # a spectrogram says nothing of samples
        describe_feeding(saved("picture")[1], rate=8000)


def test_sounds_of_other_axes_are_refused(saved) -> None:
    model = load_network(saved("cnn")[1])
    with pytest.raises(InputError, match=r"expected sounds \(n, 1, 400\), as its Keras file says, got \(2, 2, 400\)"):
        model(torch.zeros(2, 2, 400))
    with pytest.raises(InputError, match="expected sounds"):
        model(torch.zeros(2, 1, 20, 24))


def test_the_command_line_lists_the_layers(saved, brainmap_command) -> None:
    answer = brainmap_command("features", "layers", "--checkpoint", saved("cnn")[1], "--rate", 8000, "--json")
    assert answer.code == 0, answer.err
    about = json.loads(answer.out)
    assert about["seconds"] == 0.05
    assert [(one["name"], one["stride_ms"]) for one in about["layers"]] == [
        ("conv1", 0.125),
        ("conv2", 0.5),
        ("output", None),
    ]


def test_a_file_is_known_by_its_content(saved, tmp_path: Path) -> None:
    network, path = saved("cnn")
    (tmp_path / "network.bin").write_bytes(path.read_bytes())
    ours, theirs = make_input("cnn")
    with torch.no_grad():
        found = load_network(tmp_path / "network.bin")(torch.as_tensor(ours)).numpy()
    np.testing.assert_allclose(found, predict(network, theirs), atol=1e-5)
    torch.save({"weight": torch.zeros(2)}, buffer := io.BytesIO())
    (tmp_path / "a.keras").write_bytes(buffer.getvalue())
    with pytest.raises(InputError, match="does not say its architecture"):
        load_network(tmp_path / "a.keras")
