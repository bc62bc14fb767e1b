"""A readout network predicts what the matrix predicts, ends behind its layer, and goes through features."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from rsatoolbox.data.dataset import Dataset
from torch import nn

from brainmap import features, rsa
from brainmap.errors import BrainmapWarning, InputError


class Functional(nn.Module):
    """Nonlinearities are functions, one module is called twice, and time comes before units at the end."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(1, 6, 9, stride=2), nn.Conv1d(6, 6, 5, padding=2)
        self.norm, self.last = nn.BatchNorm1d(6), nn.Linear(6, 4)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv1(x)))
        x = torch.tanh(self.conv2(x)) + x
        x = torch.tanh(self.conv2(x))
        return self.last(x.transpose(1, 2).mean(1))


def sounds_of(n=60, seed=0, shape=(1, 800)):
    return np.random.default_rng(seed).normal(size=(n, *shape)).astype(np.float32)


def fit_weights(acts, layer, seed=1, n_voxels=4):
    """Weights of an encoding model of voxels in which the layer is planted."""
    rng = np.random.default_rng(seed)
    x = np.asarray(acts[layer], np.float64).reshape(len(acts.items), -1)
    z = (x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1)
    voxels = 3 + z @ rng.normal(size=(x.shape[1], n_voxels)) + rng.normal(size=(len(x), n_voxels))
    data = Dataset(voxels, obs_descriptors={"stimulus_id": list(acts.items)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BrainmapWarning)
        return rsa.encode(acts, data, layers=[layer]).weights(layer), x


def read_out(model, sounds, layer, found, **given):
    return features.readout_network(
        model,
        sounds,
        layer=layer,
        weights=found.weights,
        mean=found.mean,
        sd=found.sd,
        intercept=found.intercept,
        **given,
    )


@pytest.mark.parametrize(
    ("build", "layer", "shape"),
    [
        (lambda: features.build_network("ch32", n_classes=4, n_samples=2400, variant="bn"), "conv3", (1, 2400)),
        (lambda: features.build_network("ch32", n_classes=4, n_samples=2400), "output", (1, 2400)),
        (Functional, "conv1", (1, 800)),
        (Functional, "conv2#2", (1, 800)),
        (lambda: nn.Sequential(nn.Conv2d(1, 5, 3), nn.ELU(), nn.MaxPool2d(2), nn.Conv2d(5, 3, 3)), "0", (1, 16, 30)),
    ],
)
def test_outputs_equal_the_matrix_prediction(build, layer, shape):
    torch.manual_seed(0)
    model, sounds = build().eval(), sounds_of(shape=shape)
    acts = features.extract_activations(model, sounds, layers=[layer])
    found, x = fit_weights(acts, layer)
    voxels = read_out(model, sounds, layer, found, names=["a", "b", "c", "d"])
    predicted = voxels(torch.as_tensor(sounds)).detach().numpy()
    np.testing.assert_allclose(predicted, found.predict(x), rtol=1e-5, atol=1e-5)
    assert voxels.classes == ("a", "b", "c", "d")


@pytest.mark.parametrize("pooling", ["max", "rms", "flatten"])
def test_pooling_is_that_of_the_features(pooling):
    torch.manual_seed(0)
    model, sounds = Functional().eval(), sounds_of(shape=(1, 60))
    acts = features.extract_activations(model, sounds, layers=["conv1"], pooling=pooling)
    found, x = fit_weights(acts, "conv1")
    voxels = read_out(model, sounds, "conv1", found, pooling=pooling)
    np.testing.assert_allclose(voxels(torch.as_tensor(sounds)).detach(), found.predict(x), rtol=1e-5, atol=1e-5)


def test_the_network_ends_behind_the_layer_and_the_model_is_as_it_was():
    torch.manual_seed(0)
    model, sounds = features.build_network("ch32", n_classes=4, n_samples=2400).train(), sounds_of(shape=(1, 2400))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    acts = features.extract_activations(model, sounds, layers=["conv2"])
    found, _ = fit_weights(acts, "conv2")
    voxels = read_out(model, sounds, "conv2", found)
    names = [layer.name for layer in features.list_layers(voxels, sounds)]
    assert names == ["network.conv1", "network.conv2", "output"]
    kept = {name.rpartition(".")[0] for name in voxels.state_dict()}
    assert not any("conv3" in name or "fc" in name for name in kept)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_commands_of_features_take_it_as_any_network():
    torch.manual_seed(0)
    model, sounds = features.build_network("ch32", n_classes=4, n_samples=2400).eval(), sounds_of(shape=(1, 2400))
    acts = features.extract_activations(model, sounds, layers=["conv3"])
    found, x = fit_weights(acts, "conv3", n_voxels=3)
    voxels = read_out(model, sounds, "conv3", found, names=["v1", "v2", "v3"])
    again = features.extract_activations(voxels, sounds, layers=["output", "network.conv1"], threads=2, batch_size=8)
    np.testing.assert_allclose(again["output"], found.predict(x), rtol=1e-4, atol=1e-4)
    settings = features.MaximizationSettings(steps=3)
    am = features.maximize_activation(
        voxels, units=[1], sounds=sounds[:8], class_names=voxels.classes, settings=settings
    )
    assert am.trace[-1].mean() > am.trace[0].mean()
    cams = features.class_activation_maps(voxels, sounds[:4], method="grad-cam", layer="network.conv3")
    assert cams.maps.shape[:2] == (4, 3)
    assert np.abs(cams.maps).max() > 0
    saliency = features.attribute(voxels, sounds[:4], method="saliency", classes="all")
    assert np.abs(saliency.maps).max() > 0


def test_gradients_of_outputs_are_those_of_the_composed_function():
    torch.manual_seed(0)
    model, sounds = Functional().eval(), sounds_of()
    acts = features.extract_activations(model, sounds, layers=["conv1"])
    found, _ = fit_weights(acts, "conv1")
    voxels = read_out(model, sounds, "conv1", found)
    x = torch.as_tensor(sounds[:2]).requires_grad_()
    (own,) = torch.autograd.grad(voxels(x)[:, 0].sum(), x)
    w = torch.as_tensor(found.weights[:, 0] / found.sd, dtype=torch.float32)
    pooled = torch.relu(model.norm(model.conv1(x))).mean(2)
    (wanted,) = torch.autograd.grad((pooled @ w).sum(), x)
    torch.testing.assert_close(own, wanted, rtol=1e-4, atol=1e-6)


def test_constant_units_have_no_weight_and_what_does_not_fit_is_refused():
    model, sounds = Functional().eval(), sounds_of(4)
    given = {"weights": np.ones((6, 2)), "mean": np.zeros(6), "sd": np.r_[np.zeros(1), np.ones(5)]}
    voxels = features.readout_network(model, sounds, layer="conv1", **given)
    assert not voxels.readout.weight[:, 0].any()
    with pytest.raises(InputError, match="did you mean 'conv1'"):
        features.readout_network(model, sounds, layer="cnv1", **given)
    with pytest.raises(InputError, match=r"the 6 units of 'conv1' .* got 5"):
        features.readout_network(model, sounds, layer="conv1", weights=np.ones((5, 2)), mean=np.zeros(5), sd=np.ones(5))
    with pytest.raises(InputError, match="got shapes"):
        features.readout_network(model, sounds, layer="conv1", **{**given, "mean": np.zeros(5)})
    with pytest.raises(InputError, match="expected 2 different names, got 2"):
        features.readout_network(model, sounds, layer="conv1", names=["a", "a"], **given)
    with pytest.raises(InputError, match="pooling: expected one of"):
        features.readout_network(model, sounds, layer="conv1", pooling="none", **given)


@pytest.mark.parametrize("layer", ["conv2", "output"])
def test_a_saved_readout_is_the_same_network_with_its_names(layer, tmp_path):
    base = features.Checkpoint(architecture="ch32", variant="bn", classes=("a", "b", "c", "d"), n_samples=2400)
    torch.manual_seed(0)
    model, sounds = base.build().eval(), sounds_of(shape=(1, 2400))
    found, _ = fit_weights(features.extract_activations(model, sounds, layers=[layer]), layer, n_voxels=2)
    voxels = read_out(model, sounds, layer, found, names=["left-STG", "right-STG"])
    features.save_checkpoint(voxels, tmp_path / "encoder.safetensors", base)
    again, said = (read(tmp_path / "encoder.safetensors") for read in (features.load_network, features.load_checkpoint))
    torch.testing.assert_close(again(torch.as_tensor(sounds)), voxels(torch.as_tensor(sounds)), rtol=0, atol=0)
    assert said.classes == again.classes == ("left-STG", "right-STG")
    assert said.whole == base
    features.save_checkpoint(again, tmp_path / "copy.safetensors", said)
    assert features.load_checkpoint(tmp_path / "copy.safetensors") == said
    drawn, other = said.build().state_dict(), voxels.state_dict()
    assert {name: value.shape for name, value in drawn.items()} == {name: v.shape for name, v in other.items()}


@pytest.mark.parametrize("name", ["wav2vec2-group", "whisper", pytest.param("clap", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_a_saved_readout_of_a_hugging_face_folder_needs_no_folder(name, tmp_path):
    from tests.features.networks.folders import make_folder

    folder = make_folder(tmp_path, name)
    model, base = features.load_network(folder), features.load_checkpoint(folder)
    sounds = sounds_of(40, shape=(1, base.rate // 4))
    found, _ = fit_weights(features.extract_activations(model, sounds, layers=["hidden.1"]), "hidden.1", n_voxels=2)
    voxels = read_out(model, sounds, "hidden.1", found, names=["A1", "STG"])
    features.save_checkpoint(voxels, tmp_path / "encoder.safetensors", base)
    folder.rename(tmp_path / "elsewhere")
    again = features.load_network(tmp_path / "encoder.safetensors")
    torch.testing.assert_close(again(torch.as_tensor(sounds[:4])), voxels(torch.as_tensor(sounds[:4])), rtol=0, atol=0)
    assert features.load_checkpoint(tmp_path / "encoder.safetensors").rate == base.rate


def test_a_readout_is_saved_only_with_the_checkpoint_of_its_network(tmp_path):
    base = features.Checkpoint(architecture="ch32", classes=("a", "b"), n_samples=2400)
    given = {"weights": np.ones((32, 1)), "mean": np.zeros(32), "sd": np.ones(32)}
    voxel = features.readout_network(base.build().eval(), sounds_of(1, shape=(1, 2400)), layer="conv1", **given)
    wrong = features.Checkpoint(architecture="ch64", classes=("a", "b"), n_samples=2400)
    with pytest.raises(InputError, match="the checkpoint of the network that was read out, got that of 'ch64'"):
        features.save_checkpoint(voxel, tmp_path / "x.safetensors", wrong)
    with pytest.raises(InputError, match="got the checkpoint of a program"):
        features.save_checkpoint(voxel, tmp_path / "x.safetensors", features.Checkpoint(architecture=""))
    assert not (tmp_path / "x.safetensors").exists()
