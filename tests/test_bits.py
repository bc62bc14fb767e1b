"""The number of threads changes no bit: the same kernel works on the same shapes, however many work side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from brainmap.features import (
    MaximizationSettings,
    build_network,
    extract_activations,
    match_activation,
    maximize_activation,
    softmax_saturation,
)
from brainmap.features.activations.reduction import Reduction
from brainmap.features.layers.running import run_side_by_side

pytestmark = pytest.mark.bits
THREADS = (1, 2, 5)
N_SAMPLES = 2_400


@contextmanager
def torch_on(threads: int) -> Iterator[None]:
    """Torch on so many threads for what does not choose itself."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_network("ch32", n_classes=4, n_samples=N_SAMPLES)


@pytest.fixture(scope="module")
def noises() -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal((7, 1, N_SAMPLES))).astype(np.float32)


def equal_on_all_threads(compute: Callable[[int], dict[str, np.ndarray]]) -> None:
    """What `compute` gives is bit by bit the same, for threads side by side and for torch's own."""
    found = []
    for threads in THREADS:
        with torch_on(threads):
            found.append(compute(threads))
            assert torch.get_num_threads() == threads  # given back
    for other in found[1:]:
        for name, values in found[0].items():
            np.testing.assert_array_equal(other[name], values, err_msg=name)


@pytest.mark.parametrize("layer", ["conv4", "output"])
def test_a_maximization_does_not_depend_on_threads(net: nn.Module, noises: np.ndarray, layer: str) -> None:
    settings = MaximizationSettings(steps=6, seeds=2, micro_batch=3)

    def compute(threads: int) -> dict[str, np.ndarray]:
        found = maximize_activation(net, layer=layer, units=range(4), settings=settings, sounds=noises, threads=threads)
        numbers = found.quality.select_dtypes("number").to_numpy(float)
        return {"patterns": found.by_seed, "trace": found.trace, "quality": numbers}

    equal_on_all_threads(compute)


def test_metamers_and_saturation_do_not_depend_on_threads(net: nn.Module, noises: np.ndarray) -> None:
    metamer = MaximizationSettings.of("metamer", steps=3, micro_batch=2)
    source = MaximizationSettings.of("source", steps=3, micro_batch=3)

    def compute(threads: int) -> dict[str, np.ndarray]:
        made = match_activation(net, noises, layer="conv3", settings=metamer, threads=threads)
        both = softmax_saturation(net, settings=source, sounds=noises, threads=threads)
        return {"metamers": made.patterns, "distance": made.distance, "logit": both.logit}

    equal_on_all_threads(compute)


@pytest.mark.parametrize("reduce", [None, Reduction(kind="pca", dimensions=3)])
def test_activations_do_not_depend_on_threads(net: nn.Module, noises: np.ndarray, reduce: Any) -> None:
    def compute(threads: int) -> dict[str, np.ndarray]:
        found = extract_activations(net, noises, pooling="flatten", reduce=reduce, batch_size=2, threads=threads)
        return {layer: np.asarray(found[layer]) for layer in found.layers}

    equal_on_all_threads(compute)


@pytest.mark.slow
def test_a_study_does_not_depend_on_jobs_nor_on_torchs_threads(tiny_study: Any) -> None:
    tiny_study.edit(("channels = 1", "channels = 12"))  # two micro-batches of a layer
    with torch_on(3):
        tiny_study.run(jobs=3)
    three = tiny_study.files()
    tiny_study.run(jobs=1, overwrite=True)
    assert tiny_study.files() == three


class Keeping(nn.Module):
    """A network that keeps something of a forward pass in itself, which threads must not share."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 3, 3)
        self.kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.kept = self.conv(x)
        for _ in range(50):
            torch.zeros(200, 200) @ torch.zeros(200, 200)  # time for another thread to come between
        return self.kept.amax(2) + x.mean(2)


def test_a_network_that_keeps_things_in_itself_is_not_shared_by_threads() -> None:
    net = Keeping().eval()
    x = np.random.default_rng(1).standard_normal((24, 1, 50)).astype(np.float32)
    one, four = (
        np.asarray(extract_activations(net, x, layers="output", batch_size=1, threads=t)["output"]) for t in (1, 4)
    )
    np.testing.assert_array_equal(one, four)


def test_what_cannot_be_copied_is_worked_on_by_one_thread_and_errors_stop_the_others() -> None:
    class Locked(nn.Linear):
        def __deepcopy__(self, memo: dict[int, Any]) -> None:
            raise TypeError("cannot pickle '_thread.lock' object")

    def thread(own: nn.Module, item: int, advance: Any) -> int:
        advance(1)
        return get_ident()

    steps: list[int] = []
    net = Locked(1, 1)
    found = set(run_side_by_side(thread, net, range(6), modules=[net], threads=3, advance=steps.append))
    assert found == {get_ident()}
    assert steps == [1] * 6

    def fail(own: nn.Module, item: int, advance: Any) -> int:
        if item == 1:
            raise ValueError("item 1")
        while True:
            advance(1)

    plain = nn.Linear(1, 1)
    with pytest.raises(ValueError, match="item 1"):
        for _ in run_side_by_side(fail, plain, [1, 0, 2], modules=[plain], threads=3, advance=lambda _: None):
            pass


def test_threads_share_weights() -> None:
    net = nn.Linear(2, 2)
    net.register_buffer("told", torch.zeros(1))

    def weights(own: nn.Module, item: int, advance: Any) -> tuple[int, int]:
        return id(own.weight), id(own.told)

    found = set(run_side_by_side(weights, net, range(9), modules=[net], threads=3, advance=lambda _: None))
    assert found == {(id(net.weight), id(net.told))}
