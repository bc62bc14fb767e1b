import pytest
from torch import nn

from brainmap.errors import InputError
from brainmap.features.layers.layer import Layer
from brainmap.features.layers.selection import choose
from brainmap.features.networks.zoo import build_network

NAMES = (*(f"conv{i}" for i in range(1, 9)), "output")
MODULES = dict(build_network("ch32").named_modules())
LISTED = tuple(
    Layer(
        name,
        "Linear" if name == "output" else "Conv1d",
        (4, 9),
        5,
        1,
        0.0,
        10,
        classes=("Linear",) if name == "output" else ("Conv1d", "_ConvNd"),
    )
    for name in NAMES
)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("all", NAMES),
        ("conv3", ("conv3",)),
        ("conv[2-4]", ("conv2", "conv3", "conv4")),
        ("last-conv", ("conv8",)),
        ("conv", NAMES[:-1]),
        ("Conv1d", NAMES[:-1]),
        ("linear", ("output",)),
        ("Linear", ("output",)),
        ("MaxPool1d", tuple(f"pool{i}" for i in range(1, 8))),
        ("1:3", ("conv2", "conv3")),
        ("-2:", ("conv8", "output")),
        ("::4", ("conv1", "conv5", "output")),
        ("depth:0", ("conv1",)),
        ("depth:1", ("output",)),
        ("depth:0.5", ("conv5",)),
        ("depth:.25-.5", ("conv3", "conv4", "conv5")),
        (["linear", "depth:0.1", "conv1", "pool2"], ("conv1", "conv2", "output", "pool2")),
    ],
)
def test_layers_are_chosen_by_name_pattern_kind_place_or_depth(
    pattern: str | list[str], expected: tuple[str, ...]
) -> None:
    assert choose(pattern, LISTED, MODULES) == expected


def test_a_name_comes_before_its_other_meanings() -> None:
    net = nn.Sequential()
    for name in ("linear", "conv"):
        net.add_module(name, nn.Conv1d(1, 1, 1))
    listed = [
        Layer(name, "Conv1d", (1, 4), 1, 1, 0.0, 2, classes=("Conv1d", "_ConvNd")) for name, _ in net.named_children()
    ]
    assert choose("conv", listed, dict(net.named_modules())) == ("conv",)
    assert choose("linear", listed, dict(net.named_modules())) == ("linear",)
    assert choose("Conv1d", listed, dict(net.named_modules())) == ("linear", "conv")


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("conv9", "did you mean 'conv[78]'"),
        ("Conv1D", "did you mean 'Conv1d'"),
        ("convs*", "nothing fits 'convs\\*'"),
        ("5:3", "nothing fits '5:3'"),
        ("depth:0.41-0.45", "nothing fits"),
        ("depth:1.5", "nothing fits"),
        ("depth:half", "depth:0.5"),
        ("", "nothing fits ''"),
    ],
)
def test_what_fits_nothing_is_told_with_the_nearest_name(pattern: str, hint: str) -> None:
    with pytest.raises(InputError, match=hint) as caught:
        choose(["conv1", pattern], LISTED, MODULES)
    assert "\n" not in str(caught.value)
