"""Exemplars: the crop is what the unit saw, whatever its position, stride, dimension or the order of the sounds."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn
from torch.nn import functional

from brainmap import features
from brainmap.errors import BrainmapWarning, InputError, RunError
from brainmap.features.sounds.files import sounds_from_array
from brainmap.features.units.exemplars import EXEMPLAR_COLUMNS

RATE = 8000


class Stack(nn.Module):
    """Two strided convolutions with functions between them; `pad` zeros around the first."""

    def __init__(self, pad: int = 0, *, dims: int = 1) -> None:
        super().__init__()
        conv = nn.Conv1d if dims == 1 else nn.Conv2d
        self.first, self.second, self.dims = conv(1, 3, 5, padding=pad), conv(3, 4, 4, stride=2), dims
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        pool = functional.max_pool1d if self.dims == 1 else functional.max_pool2d
        y = functional.relu(self.second(pool(torch.tanh(self.first(x)), 3)), inplace=True)
        scores: Tensor = self.head(y.flatten(2).mean(2))
        return scores


def built(pad: int = 0, *, dims: int = 1) -> Stack:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Stack(pad, dims=dims).eval()


def noises(n: int = 12, t: int = 200) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, 1, t)).astype(np.float32)


def activations(net: nn.Module, x: np.ndarray, layer: str) -> np.ndarray:
    with features.tap(net, layer) as heard, torch.no_grad():
        net(torch.as_tensor(x))
    return heard[layer].numpy()


@pytest.mark.parametrize("per_sound", [1, 2])
def test_the_strongest_frames_are_those_of_all_activations(per_sound: int) -> None:
    net, x = built(), noises()
    found = features.find_exemplars(net, x, layer="second", k=5, per_sound=per_sound, batch_size=5)
    every = activations(net, x, "second")
    for unit in range(4):
        table = found.table[found.table["unit"] == unit]
        picked: list[tuple[float, int, int]] = []
        for item in range(len(x)):
            chosen: list[int] = []
            for frame in np.argsort(-every[item, unit], kind="stable"):
                if len(chosen) < per_sound and all(2 * 6 * abs(frame - c) >= 17 for c in chosen):
                    chosen.append(int(frame))
            picked += [(-float(every[item, unit, f]), item, f) for f in chosen]
        expected = [(item, frame) for value, item, frame in sorted(picked)[:5] if value < 0]
        assert [(int(i), f) for i, f in zip(table["item"], table["frame"], strict=True)] == expected
        assert table["rank"].tolist() == list(range(1, len(table) + 1))


def test_a_crop_by_itself_gives_the_same_activation() -> None:
    net, x = built(), noises()
    found = features.find_exemplars(net, sounds_from_array(x, rate=RATE), layer="second", k=6)
    assert found.crops.shape[2] == 5 + 2 + 3 * 3  # kernel, pooling, kernel of stride 3
    for crop, row in zip(found.crops, found.table.itertuples(), strict=True):
        alone = activations(net, crop[None], "second")
        assert alone.shape == (1, 4, 1)
        assert alone[0, row.unit, 0] == pytest.approx(row.value, rel=1e-5)
        source = x[int(row.item.removeprefix("sound"))]
        np.testing.assert_array_equal(crop, source[:, row.start : row.stop])
        assert (row.start_s, row.end_s) == (row.start / RATE, row.stop / RATE)
        assert row.outside == 0


def test_pictures_have_crops_of_their_own_two_axes() -> None:
    net, x = built(dims=2), np.random.default_rng(1).normal(size=(5, 1, 30, 44)).astype(np.float32)
    found = features.find_exemplars(net, x, layer="second", k=2)
    assert found.crops.shape[1:] == (1, 16, 16)
    every = activations(net, x, "second")
    for crop, row in zip(found.crops, found.table.itertuples(), strict=True):
        assert activations(net, crop[None], "second")[0, row.unit].item() == pytest.approx(row.value, rel=1e-5)
        top, left = map(int, row.start.split(","))
        np.testing.assert_array_equal(crop, x[int(row.item)][:, top : top + 16, left : left + 16])
        place = tuple(map(int, row.frame.split(",")))
        assert every[int(row.item), row.unit][place] == every[int(row.item), row.unit].max()
    with pytest.raises(InputError, match="expected crops \\(1, t\\)"):
        found.save_wav("nowhere")


def test_a_field_beyond_the_sound_is_zero_and_said_and_can_be_refused() -> None:
    net, x = built(pad=4), noises(3, 60)
    x[:, :, 0] += 20.0
    found = features.find_exemplars(net, x, layer="first", k=3)
    beyond = found.table[found.table["outside"] > 0]
    assert len(beyond)
    for index, row in beyond.iterrows():
        assert row["start"] < 0
        assert not found.crops[index][0, : -row["start"]].any()
        np.testing.assert_array_equal(found.crops[index][0, -row["start"] :], x[int(row["item"]), 0, : row["stop"]])
        assert row["outside"] == pytest.approx(-row["start"] / 5)
    assert not (features.find_exemplars(net, x, layer="first", k=3, inside=True).table["outside"] > 0).any()
    with pytest.raises(InputError, match="no receptive field of 'second'"):
        features.find_exemplars(built(pad=8), noises(2, 10), layer="second", inside=True)


def test_equal_values_keep_the_earlier_sound_and_frame_whatever_the_batches() -> None:
    x = np.zeros((6, 1, 20), np.float32)
    x[[5, 2, 4], 0, 9] = 1.0
    x[:, 0, 3] = x[:, 0, 9]
    net = nn.Sequential(nn.Conv1d(1, 1, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(20, 2))
    net[0].weight.data.fill_(1.0)
    for size in (1, 4, 6):
        table = features.find_exemplars(net, x, layer="0", k=9, batch_size=size).table
        assert table[["item", "frame"]].values.tolist() == [["2", 3], ["4", 3], ["5", 3]]


def test_permuting_the_sounds_permutes_the_items() -> None:
    net, x = built(), noises()
    order = np.random.default_rng(2).permutation(len(x))
    one = features.find_exemplars(net, x, layer="second", k=4)
    other = features.find_exemplars(net, x[order], layer="second", k=4)
    assert one.table["item"].tolist() == [str(order[int(i)]) for i in other.table["item"]]
    np.testing.assert_array_equal(one.crops, other.crops)


def test_a_dead_unit_has_no_exemplar() -> None:
    net = built()
    net.second.weight.data[2] = 0
    net.second.bias.data[2] = -1
    with pytest.warns(BrainmapWarning, match="no sound drives units 2 of second"):
        found = features.find_exemplars(net, noises(), layer="second", k=2)
    assert found.dead == (2,)
    assert 2 not in set(found.table["unit"])
    with pytest.raises(InputError, match="no sound drives unit 2 of second"):
        found.of(2)
    with pytest.raises(InputError, match="unit 7 of second was not asked for"):
        found.of(7)
    with pytest.warns(BrainmapWarning):
        assert not len(features.find_exemplars(net, noises(), layer="second", units=[2]).table)


def test_classes_see_the_whole_sound_and_can_be_kept_to_their_own() -> None:
    net, x = built(), noises()
    words = ["cat", "dog"] * 6
    sounds = sounds_from_array(x, rate=RATE, conditions=words)
    logits = activations(net, x, "output")
    found = features.find_exemplars(net, sounds, layer="output", k=3, class_names=("cat", "dog"))
    assert found.crops.shape[2] == 200
    assert found.table[found.table["label"] == "dog"]["value"].tolist() == sorted(logits[:, 1].tolist())[::-1][:3]
    own = features.find_exemplars(net, sounds, layer="output", k=3, class_names=("cat", "dog"), own_class=True)
    assert (own.table["label"] == own.table["condition"]).all()
    assert own.table["value"].tolist()[3:] == sorted(logits[1::2, 1].tolist())[::-1][:3]
    with pytest.raises(InputError, match="no sounds of the classes 'owl'"):
        features.find_exemplars(net, sounds, layer="output", class_names=("cat", "owl"), own_class=True)


def test_wav_files_hold_the_crops(tmp_path) -> None:
    net = built()
    net.second.bias.data.fill_(1.0)
    found = features.find_exemplars(net, sounds_from_array(0.1 * noises(), rate=RATE), layer="second", k=2)
    paths = found.save_wav(tmp_path / "wav", seconds=0.01)
    assert [p.name for p in paths[:2]] == [f"second_0_{r.rank}_{r.item}.wav" for r in found.table[:2].itertuples()]
    sound, rate = soundfile.read(paths[0])
    assert (rate, len(sound)) == (RATE, 80)
    np.testing.assert_allclose(sound[:16], found.crops[0, 0], atol=1e-4)


def test_the_network_is_given_back_as_it_was_even_after_an_error() -> None:
    net, x = built(), noises()
    net.train()
    net.first.eval()
    x[7, 0, 50] = np.nan
    with pytest.raises(RunError, match="layer 'second' is not finite for item '7'"):
        features.find_exemplars(net, x, layer="second")
    assert net.training
    assert not net.first.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert all(p.requires_grad for p in net.parameters())


def test_sounds_are_kept_no_longer_than_their_batch() -> None:
    class Stream:
        """Sounds that exist only while they are asked for."""

        rate, conditions, largest = RATE, ["a"] * 50, 0
        items = [str(i) for i in range(50)]  # noqa: RUF012

        def __len__(self) -> int:
            return 50

        def batches(self, size):
            rng = np.random.default_rng(0)
            for start in range(0, 50, size):
                self.largest = max(self.largest, size)
                yield rng.normal(size=(min(size, 50 - start), 1, 200)).astype(np.float32)

    stream = Stream()
    found = features.find_exemplars(built(), stream, layer="second", k=3, batch_size=8)
    assert stream.largest <= 8
    whole = np.concatenate(list(Stream().batches(8)))
    for crop, row in zip(found.crops, found.table.itertuples(), strict=True):
        np.testing.assert_array_equal(crop, whole[int(row.item)][:, row.start : row.stop])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layer": "secnd"}, "did you mean 'second'"),
        ({"layer": "second", "units": [4]}, "expected units from 0 to 3 of 'second', got 4"),
        ({"layer": "second", "units": [-1]}, "expected units from 0 to 3"),
        ({"layer": "second", "units": []}, "expected units from 0 to 3"),
        ({"layer": "second", "units": "al"}, "did you mean 'all'"),
        ({"layer": "second", "k": 0}, "of 1 or more, got 0"),
        ({"layer": "output", "class_names": ["a"]}, "class_names: expected one for each of 2 outputs, got 1"),
        ({"layer": "second", "own_class": True}, "needs class_names"),
        ({"layer": "second", "batch_size": 0}, "batch_size"),
    ],
)
def test_a_mistake_is_one_line(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        features.find_exemplars(built(), noises(), **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_every_column_is_described() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(features.find_exemplars(built(), noises(), layer="second").table) == list(EXEMPLAR_COLUMNS)


class Attended(nn.Module):
    """Frames that see all of the sound, and keep their positions beside an attention."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.attention = nn.Conv1d(1, 4, 8, stride=4), nn.MultiheadAttention(4, 2, batch_first=True)
        self.mix, self.head = nn.Conv1d(4, 4, 3, padding=1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).transpose(1, 2)
        y = y + self.attention(y, y, y, need_weights=False)[0]
        scores: Tensor = self.head(self.mix(y.transpose(1, 2)).mean(2))
        return scores


def test_a_frame_that_sees_all_of_a_sound_gets_all_of_it() -> None:
    x = noises()
    found = features.find_exemplars(Attended().eval(), x, layer="mix", k=3)
    assert (found.table["start"] == 0).all()
    assert (found.table["stop"] == 200).all()
    assert (found.table["outside"] == 0).all()
    np.testing.assert_array_equal(found.crops, x[[int(item) for item in found.table["item"]]])
    assert found.table["frame"].nunique() > 1


def test_a_window_as_long_as_the_sounds_is_no_view_of_all_of_it() -> None:
    torch.manual_seed(0)
    head = (nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(3, 2))
    net = nn.Sequential(nn.Conv1d(1, 3, 200, stride=10, padding=100), nn.ReLU(), *head).eval()
    found = features.find_exemplars(net, noises(), layer="0", k=3)
    assert (found.table["start"] == found.table["frame"] * 10 - 100).all()
    assert (found.table["outside"] > 0).any()
