"""Sounds about which two networks disagree most are found, whatever each is fed, and are a stimulus folder."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from brainmap.errors import InputError
from brainmap.features.evaluation.controversial import pick_controversial, save_stimuli
from brainmap.features.evaluation.judges import Judge
from brainmap.features.networks.description import Checkpoint
from brainmap.features.sounds.files import Sounds, load_sounds, sounds_from_array

RATE, N = 16_000, 1_600


class Scores(nn.Module):
    """Two logits that are planted in the mean of a sound: its first and its second half."""

    def __init__(self, sign: float) -> None:
        super().__init__()
        self.sign = sign
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, sounds: Tensor) -> Tensor:
        size = sounds[:, 0, : N // 2].square().mean(1).sqrt() / sounds[:, 0].square().mean(1).sqrt()
        return torch.stack([self.sign * (size - 1) * 9, torch.zeros_like(size)], 1)


@pytest.fixture
def pool() -> Sounds:
    rng = np.random.default_rng(0)
    waves = 0.1 * rng.standard_normal((8, 1, N))
    for row in range(8):
        waves[row, :, : N // 2] *= 0.3 + 0.2 * row
    return sounds_from_array(waves, rate=RATE, items=[f"s{k}" for k in range(8)], conditions=["a", "b"] * 4)


def judge(name: str, sign: float, classes: tuple[str, ...] = ("up", "down")) -> Judge:
    about = Checkpoint(architecture="", classes=classes, n_samples=N)
    return Judge(name=name, model=Scores(sign), checkpoint=about)


def test_the_most_controversial_sounds_are_those_of_an_exhaustive_search(pool: Sounds) -> None:
    one, other = judge("one", 1.0), judge("other", -1.0)
    found = pick_controversial(one, other, pool, n=4)
    with torch.no_grad():
        p = [j.model(torch.as_tensor(pool.waveforms)).double().softmax(1).numpy() for j in (one, other)]
    wanted = []
    for a, b in zip(*p, strict=True):
        x, y = a.argmax(), b.argmax()
        wanted.append(min(a[x] - a[y], b[y] - b[x]))
    order = np.argsort(wanted)[::-1][:4]
    assert found.rows.tolist() == order.tolist()
    np.testing.assert_allclose(found.table["controversy"], np.array(wanted)[order], atol=1e-6)
    assert (found.table["one"] != found.table["other"]).all()
    few = pick_controversial(one, other, pool, n=2, per_condition=1)
    assert set(few.table["condition"]) == {"a", "b"}


def test_classes_in_another_order_are_the_same_classes(pool: Sounds) -> None:
    same = judge("turned", -1.0, ("down", "up"))

    class Turned(nn.Module):
        def forward(self, sounds: Tensor) -> Tensor:
            scores: Tensor = Scores(1.0)(sounds)
            return scores.flip(1)

    agree = Judge(name="turned", model=Turned(), checkpoint=same.checkpoint)
    with pytest.raises(InputError, match="found 0"):
        pick_controversial(judge("one", 1.0), agree, pool, n=1)


def test_predictions_differ_in_standard_deviations(pool: Sounds) -> None:
    found = pick_controversial(judge("one", 1.0), judge("other", -1.0), pool, n=3, output="up")
    with torch.no_grad():
        x = Scores(1.0)(torch.as_tensor(pool.waveforms))[:, 0].double().numpy()
    z = (x - x.mean()) / x.std(ddof=1)
    np.testing.assert_allclose(found.table["controversy"], np.sort(2 * np.abs(z))[::-1][:3], rtol=1e-5)
    with pytest.raises(InputError, match="did you mean 'up'"):
        pick_controversial(judge("one", 1.0), judge("other", -1.0), pool, n=3, output="upp")


def test_the_folder_is_one_of_stimuli(pool: Sounds, tmp_path) -> None:
    found = pick_controversial(judge("one", 1.0), judge("other", -1.0), pool, n=2)
    path = save_stimuli(found, pool, tmp_path / "stimuli", about={})
    again = load_sounds(path, seconds=N / RATE, level="none")
    assert list(again.items) == [pool.items[row] for row in found.rows]
    np.testing.assert_allclose(again.waveforms, pool.take(found.rows).waveforms, atol=1 / 32_768)
    with pytest.raises(InputError, match="exists"):
        save_stimuli(found, pool, tmp_path / "stimuli", about={})
    with pytest.raises(InputError, match="1 to 8 sounds"):
        pick_controversial(judge("one", 1.0), judge("other", -1.0), pool, n=9)
