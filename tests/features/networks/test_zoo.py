"""The zoo: the source study's parameter counts, every variant, receptive fields by closed form and by gradient."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
from torch import nn

from brainmap.data import make_words
from brainmap.errors import InputError
from brainmap.features.networks import architectures
from brainmap.features.networks.architectures import ARCHITECTURES, network_names
from brainmap.features.networks.zoo import (
    build_network,
    count_parameters,
    describe_network,
    initialize,
)

COUNTS = {"base": 1_855_056, "ch32": 94_768, "ch64": 363_600, "vgg": 470_736, "ch128": 2_071_184, "base-2d": 1_855_056}
FRAMES = {"base": 8, "ch32": 7, "ch64": 7, "vgg": 7, "ch128": 2, "base-2d": 8}
VARIANTS = ("plain", "do", "bn", "do+bn")
HEADS = ("flatten", "gap", "gmp")


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_are_those_of_the_source_study(name: str) -> None:
    found = describe_network(name)
    assert found.parameters == COUNTS[name]
    assert found.variant == ("bn" if name == "ch128" else "plain")
    assert json.loads(json.dumps(found.as_dict()))["parameters"] == COUNTS[name]
    assert (
        count_parameters(build_network(name, variant="do"))
        + (2 * sum(ARCHITECTURES[name].channels) if name == "ch128" else 0)
        == COUNTS[name]
    )


def test_the_zoo_is_the_source_studys_and_its_words_are_the_demos() -> None:
    assert network_names() == tuple(COUNTS)
    assert architectures.WORDS == make_words.WORDS
    assert architectures.RATE == make_words.RATE


def describe_input(name: str) -> tuple[int, ...]:
    """What a network takes: channels and samples, or channels, mels and frames."""
    return (1, 64, 128) if name == "base-2d" else (1, 16_000)


@pytest.mark.parametrize("name", COUNTS)
def test_every_variant_nonlinearity_and_head_gives_logits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (nn.Conv1d, nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d):
        monkeypatch.setattr(kind, "reset_parameters", lambda self: None)  # shapes alone matter here
    channels, last = ARCHITECTURES[name].channels, ARCHITECTURES[name].channels[-1]
    for variant, activation, head in itertools.product(VARIANTS, ("relu", "elu", "tanh"), HEADS):
        with torch.device("meta"):
            model = build_network(name, variant=variant, activation=activation, head=head, n_classes=11)  # type: ignore[arg-type]
            if activation == "relu":  # a nonlinearity changes no shape
                assert model(torch.zeros(2, *describe_input(name))).shape == (2, 11)
        kinds = [type(m) for m in model]
        norm = nn.BatchNorm2d if name == "base-2d" else nn.BatchNorm1d
        assert kinds.count(norm) == (len(channels) if "bn" in variant else 0)
        assert (nn.Dropout in kinds) == ("do" in variant)
        assert kinds[-1] is nn.Linear  # logits: no softmax inside
        linear = next(m for m in model if isinstance(m, nn.Linear))
        assert linear.in_features == last * (FRAMES[name] if head == "flatten" else 1)
        act = {"relu": nn.ReLU, "elu": nn.ELU, "tanh": nn.Tanh}[activation]
        assert kinds.count(act) == len(channels) + (2 if name.startswith("base") and head == "flatten" else 0)


@pytest.mark.parametrize("name", ["ch32", "ch64", "vgg", "ch128"])
def test_pooled_heads_read_one_number_a_channel(name: str) -> None:
    width = ARCHITECTURES[name].channels[-1]
    for head in ("gap", "gmp"):
        output = build_network(name, head=head).output  # type: ignore[arg-type]
        assert isinstance(output, nn.Linear)
        assert output.in_features == width


def closed_form(name: str) -> list[int]:
    """Receptive field of each convolution: 1 + sum of (kernel - 1) times the stride so far, poolings included."""
    spec, field, stride, found = ARCHITECTURES[name], 1, 1, []
    for i in range(1, len(spec.channels) + 1):
        field += (spec.kernel - 1) * stride
        found.append(field)
        if i % spec.per_pool == 0 and i // spec.per_pool <= spec.pools:
            field += (spec.pool - 1) * stride
            stride *= spec.pool
    return found


@pytest.mark.parametrize("name", COUNTS)
def test_receptive_fields_follow_the_closed_form(name: str) -> None:
    layers = [layer for layer in describe_network(name).layers if str(layer["name"]).startswith("conv")]
    expected = [(n, n) if name == "base-2d" else n for n in closed_form(name)]
    assert [layer["receptive_field"] for layer in layers] == expected
    if name == "ch32":
        assert closed_form(name) == [5, 19, 61, 187, 565, 1699, 5101, 15307]


def test_receptive_fields_are_what_gradients_reach() -> None:
    model = build_network("ch32", activation="tanh")  # tanh: no unit is dead
    for pool in model:
        if isinstance(pool, nn.MaxPool1d):
            pool.forward = lambda x: nn.functional.avg_pool1d(x, 3)  # type: ignore[method-assign]  # max would hide inputs
    sound = torch.randn(1, 1, 4_000, requires_grad=True)
    for i, field in enumerate(closed_form("ch32")[:5], start=1):
        maps = model[: list(dict(model.named_children())).index(f"act{i}") + 1](sound)
        (gradient,) = torch.autograd.grad(maps[0, :, maps.shape[2] // 2].sum(), sound)
        reached = np.flatnonzero(gradient[0, 0].numpy())
        assert reached[-1] - reached[0] + 1 == field


def test_long_filters_and_other_lengths_are_built() -> None:
    model = build_network("ch32", kernel=25, n_samples=8_000).eval()
    assert model(torch.zeros(1, 1, 8_000)).shape == (1, 16)
    first = model.conv1
    assert isinstance(first, nn.Conv1d)
    assert first.kernel_size == (25,)


def test_a_seed_alone_fixes_the_weights_and_leaves_torchs_state_alone() -> None:
    one, two, other = (build_network("ch32", variant="bn") for _ in range(3))
    state = torch.get_rng_state()
    for model, seed in ((one, 5), (two, 5), (other, 6)):
        initialize(model, torch.Generator().manual_seed(seed))
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name])
    weight = one.conv8.weight
    assert isinstance(weight, torch.Tensor)
    assert not torch.equal(weight, other.state_dict()["conv8.weight"])
    bound = (64 * 5) ** -0.5  # torch's default: uniform within 1/sqrt(fan in)
    assert 0.99 * bound < float(weight.detach().abs().max()) <= bound
    assert float(weight.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.02)


def test_the_two_dimensional_counterpart_has_the_parameters_of_base_stage_by_stage() -> None:
    flat, square = build_network("base"), build_network("base-2d")
    one, two = ({name: p.numel() for name, p in net.named_parameters()} for net in (flat, square))
    assert one == two
    assert describe_network("base-2d").input == (1, 64, 128)


def test_log_mel_spectrograms_have_tones_in_their_band_and_clicks_in_their_frame() -> None:
    import librosa

    from brainmap.features.sounds.spectrogram import log_mel

    t = np.arange(16_000) / 16_000
    hertz = librosa.mel_frequencies(n_mels=66, fmax=8000)[1:-1]
    for tone in (300.0, 1500.0, 6000.0):
        picture = log_mel(np.sin(2 * np.pi * tone * t)[None, None])
        assert picture.shape == (1, 1, 64, 128)
        assert abs(hertz[picture[0, 0, :, 64].argmax()] / tone - 1) < 0.1
    click = np.zeros((1, 1, 16_000))
    click[0, 0, 100 * 125] = 1
    assert log_mel(click)[0, 0].sum(axis=0).argmax() == 100
    theirs = librosa.feature.melspectrogram(y=click[0, 0], sr=16_000, n_fft=512, hop_length=125, n_mels=64)
    np.testing.assert_allclose(log_mel(click)[0, 0], np.log(theirs[:, :128] + 1e-6), atol=1e-3)
    with pytest.raises(InputError, match=r"expected sounds .*got \(1, 16000\)"):
        log_mel(np.zeros((1, 16_000)))


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"name": "Ch32"}, "did you mean 'ch32'"),
        ({"variant": "dropout"}, "'do', 'bn', 'do\\+bn'"),
        ({"activation": "gelu"}, "'relu', 'elu', 'tanh'"),
        ({"head": "max"}, "'flatten', 'gap', 'gmp'"),
        ({"kernel": 4}, "odd"),
        ({"kernel": 0}, "kernel of 1 or more, got 0"),
        ({"n_classes": 0}, "n_classes .*got 0"),
        ({"dropout": 1.5}, "dropout .*got 1.5"),
        ({"n_samples": 2_000}, "longer sounds"),
        ({"name": "base", "n_samples": 20}, "longer sounds"),
        ({"name": "base-2d", "n_samples": 3_000}, "longer sounds"),
    ],
)
def test_senseless_choices_are_refused(kwargs: dict[str, object], said: str) -> None:
    name = str(kwargs.pop("name", "ch32"))
    with pytest.raises(InputError, match=said) as found:
        build_network(name, **kwargs)  # type: ignore[arg-type]
    assert "\n" not in str(found.value)
