"""The accuracy table: one row a network and variant, from the checkpoints; stopped, gone on with, not mixed up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from brainmap import features
from brainmap.errors import InputError
from brainmap.features.networks import training
from brainmap.features.networks.accuracy import ACCURACY_COLUMNS, train_accuracy_table
from brainmap.features.networks.training import TrainingSettings, evaluate_network
from brainmap.viz import plot_accuracy

RATE = 16_000
TINY = TrainingSettings(epochs=2, batch_size=4, seconds=0.15, learning_rate=3e-3, augmentation=None)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two 'words' (a low and a high tone in noise) by eight speakers, with lists."""
    folder = tmp_path_factory.mktemp("words")
    rng = np.random.default_rng(0)
    t = np.arange(2_400) / RATE
    for word, hertz in (("low", 300.0), ("high", 2_000.0)):
        (folder / word).mkdir()
        for speaker in range(8):
            sound = 0.3 * np.sin(2 * np.pi * hertz * rng.uniform(0.8, 1.2) * t) + 0.05 * rng.standard_normal(len(t))
            soundfile.write(folder / word / f"s{speaker}_nohash_0.wav", sound, RATE)
    for part, speaker in (("validation", 6), ("testing", 7)):
        (folder / f"{part}_list.txt").write_text("".join(f"{w}/s{speaker}_nohash_0.wav\n" for w in ("low", "high")))
    return folder


class Killed(BaseException):
    """Stands for a kill."""


@pytest.mark.slow
def test_a_table_that_is_stopped_goes_on_and_is_that_of_the_networks(
    words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"networks": ["ch32", "ch64"], "variants": ["plain", "do+bn"], "settings": replace(TINY, dropout=0.25)}
    steps: list[str] = []
    trained: list[str] = []
    step, finish = training.Training._compute_learning_rate, training.Training.finish

    def dies(self: training.Training) -> float:
        steps.append(self.out.name)
        if steps.count("ch32-do-bn.safetensors") == 3:  # in the middle of the second network
            raise Killed
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(training.Training, "save_every", 1)
        patch.setattr(training.Training, "_compute_learning_rate", dies)
        with pytest.raises(Killed):
            train_accuracy_table(words, tmp_path / "a", **given)

    def counts(self: training.Training) -> training.Evaluation:
        trained.append(self.out.name)
        return finish(self)

    monkeypatch.setattr(training.Training, "finish", counts)
    found = train_accuracy_table(words, tmp_path / "a", **given)
    assert trained == ["ch32-do-bn.safetensors", "ch64-plain.safetensors", "ch64-do-bn.safetensors"]
    whole = train_accuracy_table(words, tmp_path / "b", **given)
    pd.testing.assert_frame_equal(found.table, whole.table)
    trained.clear()
    pd.testing.assert_frame_equal(train_accuracy_table(words, tmp_path / "a", **given).table, found.table)
    assert trained == []

    table = found.table.set_index(["network", "variant"])
    assert list(found.table.columns) == list(ACCURACY_COLUMNS)
    assert list(table["dropout"]) == [0, 0.25, 0, 0.25]
    assert table.loc[("ch64", "do+bn"), "source_study"] == 0.9497
    assert np.isnan(table.loc[("ch32", "plain"), "source_study"])
    model = features.load_network(found.checkpoints["ch32 do+bn"])
    assert table.loc[("ch32", "do+bn"), "parameters"] == sum(p.numel() for p in model.parameters())
    for name, path in found.checkpoints.items():
        again = evaluate_network(words, path, part="testing")
        assert table.loc[tuple(name.split()), "accuracy"] == again.accuracy
        np.testing.assert_array_equal(found.confusions[name], again.confusion)
        assert list(found.confusions[name].index) == ["high", "low"]
    row = table.loc[("ch32", "do+bn")]
    assert 0 <= row["low"] < row["accuracy"] <= row["high"] <= 1 or row["accuracy"] == 0
    assert row["n"] == 2

    figure = plot_accuracy(found)
    titles = [title for axes in figure.axes if (title := axes.get_title(loc="left"))]
    assert len(titles) == 4
    assert titles[3].startswith(f"do+bn  {row['accuracy']:.1%}")

    with pytest.raises(InputError, match="trained with other settings or sounds"):
        train_accuracy_table(words, tmp_path / "a", **{**given, "settings": replace(TINY, seed=1)})


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"networks": ["ch23"]}, "did you mean 'ch32'"),
        ({"networks": ["ch32", "ch32"]}, "each network once, got ch32, ch32"),
        ({"variants": ["bm"]}, "variant"),
        ({"settings": replace(TINY, start_from="a.safetensors")}, "leave start_from out"),
        ({"settings": replace(TINY, kernel=4)}, "odd kernel"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(
    words: Path, tmp_path: Path, more: dict[str, object], said: str
) -> None:
    given = {"networks": ["ch32", "ch64"], "settings": TINY, **more}
    with pytest.raises(InputError, match=said):
        train_accuracy_table(words, tmp_path / "a", **given)  # type: ignore[arg-type]
    assert not list(tmp_path.rglob("*.safetensors"))


def test_the_command_leaves_table_matrices_and_picture(words: Path, tmp_path: Path, brainmap_command) -> None:
    out, picture = tmp_path / "table", tmp_path / "accuracy.png"
    line = ["accuracy-table", words, "--out", out, "--networks", "ch32", "--head", "gap"]
    line += ["--kernel", 9, "--activation", "elu", "--augment", "none", "--epochs", 1, "--batch-size", 4]
    answer = brainmap_command(*line, "--variants", "plain,bn", "--figure", picture, "--json")
    assert answer.code == 0, answer.err
    rows = json.loads(answer.out)
    assert [row["variant"] for row in rows] == ["plain", "bn"]
    table = pd.read_csv(out / "accuracy.tsv", sep="\t")
    assert list(table["accuracy"]) == [row["accuracy"] for row in rows]
    about = json.loads((out / "accuracy.json").read_text())
    assert about["accuracy"]["Description"].startswith("share of the sounds of the testing part")
    matrix = pd.read_csv(out / "ch32-bn.confusion.tsv", sep="\t", index_col="condition")
    assert matrix.to_numpy().sum() == 2
    assert picture.stat().st_size > 10_000
    stored = features.load_checkpoint(out / "ch32-bn.safetensors")
    assert (stored.kernel, stored.activation, stored.head) == (9, "elu", "gap")
    assert features.load_network(out / "ch32-bn.safetensors").conv1.weight.shape[-1] == 9
    answer = brainmap_command(*line, "--variants", "bn,dn")
    assert answer.code == 2
    assert "--variants: expected one of 'plain', 'do', 'bn', 'do+bn', got 'dn'" in answer.err
