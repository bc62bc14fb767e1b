"""A network is opened without being loaded where its files were seen before, and never with an answer that is old."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from brainmap.errors import InputError
from brainmap.features.networks import checkpoints
from brainmap.features.networks.checkpoints import load_network, save_checkpoint
from brainmap.features.networks.description import Checkpoint, read_description
from brainmap.features.networks.feeding import describe_feeding
from brainmap.features.networks.opened import Opened, open_network
from brainmap.features.networks.zoo import build_network
from tests.features.networks.folders import make_folder


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The networks that were loaded."""
    found: list[str] = []

    def load(path: str | Path, **given: object) -> nn.Module:
        found.append(str(path))
        return load_network(path, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoints, "load_network", load)
    return found


def open_it(path: Path, **given: str) -> Opened:
    return open_network(path, describe=partial(describe_feeding, path, **given), settings=given, **given)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A network of the zoo in a file; each has other weights."""
    about = Checkpoint(architecture="ch32", classes=("a", "b"), n_samples=4000, training={"epochs": 3})
    return save_checkpoint(build_network("ch32", n_classes=2, n_samples=4000), tmp_path / "net.safetensors", about)


def count_parameters(opened: Opened) -> int:
    found = opened.keep("parameters", None, lambda: sum(p.numel() for p in opened.model.parameters()))
    assert isinstance(found, int)
    return found


def test_a_network_seen_before_is_described_without_being_loaded(file: Path, loads: list[str]) -> None:
    first = open_it(file)
    size = count_parameters(first)
    assert len(loads) == 1
    again = open_it(file)
    assert again.checkpoint == first.checkpoint == read_description(file)
    assert count_parameters(again) == size == sum(p.numel() for p in load_network(file).parameters())
    assert len(loads) == 1
    assert isinstance(again.model, nn.Module)
    assert len(loads) == 2


def test_a_changed_file_is_loaded_again(file: Path, loads: list[str]) -> None:
    open_it(file)
    network = load_network(file)
    with torch.no_grad():
        next(network.parameters())[0] += 1
    described = read_description(file)
    assert described is not None
    save_checkpoint(network, file, described)
    open_it(file)
    assert len(loads) == 2
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    with pytest.raises(InputError, match="changed since it was written"):
        open_it(file)


def test_what_the_user_says_is_part_of_the_question(file: Path, loads: list[str]) -> None:
    assert open_it(file).key != open_it(file, variant="plain").key
    with pytest.raises(InputError, match="level is 'peak'"):
        open_network(file, describe=partial(describe_feeding, file, level="peak"), settings=["peak"])


def test_one_byte_of_a_folder_makes_its_network_another(tmp_path: Path, loads: list[str]) -> None:
    folder = make_folder(tmp_path, "wav2vec2-group")
    before = open_it(folder)
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        other = tmp_path / f"other-{name}"
        shutil.copytree(folder, other)
        content = bytearray((other / name).read_bytes())
        if name.endswith("json"):
            content[-1:] = b" \n"
        else:
            content[-2] ^= 1  # the last bits of one weight
        (other / name).write_bytes(content)
        assert open_it(other).key != before.key
    assert len(loads) == 4
    copied = tmp_path / "copied"
    shutil.copytree(folder, copied)
    again = open_it(copied)  # the same content elsewhere
    assert len(loads) == 4
    assert (again.key, again.checkpoint) == (before.key, before.checkpoint)
    settings = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**settings, "hidden_act": "relu"}))
    assert open_it(copied).key != before.key


def test_a_network_that_code_builds_is_loaded_each_time(
    tmp_path: Path, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "opened_nets.py").write_text("from torch import nn\n\ndef build():\n    return nn.Conv1d(1, 2, 3)\n")
    monkeypatch.chdir(tmp_path)
    torch.save(nn.Conv1d(1, 2, 3).state_dict(), tmp_path / "net.pt")
    fed = Checkpoint(architecture="opened_nets:build", n_samples=100)
    for count in (1, 2):
        opened = open_network(
            tmp_path / "net.pt", describe=lambda: fed, settings=None, architecture="opened_nets:build"
        )
        assert opened.runs_code
        assert count_parameters(opened) == 8
        assert len(loads) == count
    save_checkpoint(
        load_network(tmp_path / "net.pt", architecture="opened_nets:build"), tmp_path / "own.safetensors", fed
    )
    assert open_it(tmp_path / "own.safetensors").runs_code


def test_the_file_of_another_that_names_code_stays_the_file_of_another(file: Path) -> None:
    described = read_description(file)
    assert described is not None
    foreign = replace(described, own=False, input=None)
    opened = open_network(file, describe=lambda: foreign, settings=None)
    assert opened.checkpoint.own is False


def test_a_missing_file_is_told_as_by_loading(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        open_it(tmp_path / "none.safetensors")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"expected a Hugging Face folder with config\.json"):
        open_it(tmp_path / "folder")
