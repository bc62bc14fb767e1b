"""Damaged checkpoints, sounds and searchlight pieces: one line, and what carries a digest is never read as another."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from brainmap.errors import BrainmapError, InputError
from brainmap.features.layers.running import forward
from brainmap.features.networks.checkpoints import load_network, save_checkpoint
from brainmap.features.networks.description import Checkpoint, load_checkpoint
from brainmap.features.sounds.files import load_sounds
from brainmap.features.sounds.reading import read_sound
from brainmap.study.results.pieces import Piece, Scored, read_piece, save_piece
from tests.mutations import mutate


def build() -> nn.Module:
    return nn.Sequential(nn.Conv1d(1, 3, 5), nn.Linear(10, 3))


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType("builders")
    module.build = build  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "builders", module)
    return module


def weights(path: Path) -> tuple[Any, ...]:
    with torch.random.fork_rng():
        network = load_network(path, architecture="builders:build")
    about = load_checkpoint(path) if path.suffix == ".safetensors" else None
    return about, *(v.numpy().tobytes() for v in network.state_dict().values())


def wave(path: Path) -> bytes:
    return load_sounds(path, seconds=0.1).waveforms.tobytes()


def piece(path: Path) -> tuple[Any, ...]:
    found = read_piece(path)
    if found is None:
        raise InputError("none of ours")
    return found.key, found.share, *(found.arrays[name].tobytes() for name in ("voxels", "scores", "counts"))


def write_checkpoint(folder: Path) -> Path:
    about = Checkpoint(architecture="builders:build", classes=("a", "b", "c"))
    return save_checkpoint(build(), folder / "a.safetensors", about)


def write_state(folder: Path) -> Path:
    torch.save(build().state_dict(), folder / "a.pt")
    return folder / "a.pt"


def write_flac(folder: Path) -> Path:
    soundfile.write(folder / "a.flac", np.sin(np.arange(2000) / 20) * 0.3, 16_000)
    return folder / "a.flac"


def write_wav(folder: Path) -> Path:
    soundfile.write(folder / "a.wav", np.sin(np.arange(2000) / 20) * 0.3, 16_000)
    return folder / "a.wav"


def write_piece(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    scored = Scored({"voxels": np.arange(9), "scores": rng.normal(size=(2, 9)), "counts": np.arange(9, dtype=np.int32)})
    return save_piece(Piece("01", 0, 9, folder, "key"), scored, share="1/2")


@pytest.mark.parametrize(
    ("write", "read", "sealed"),
    [
        (write_checkpoint, weights, True),
        (write_state, weights, False),
        (write_flac, wave, True),
        (write_wav, wave, False),
        (write_piece, piece, True),
    ],
)
def test_damage_is_one_line_and_what_has_a_digest_is_never_another(
    tmp_path: Path, builder: types.ModuleType, write: Callable[[Path], Path], read: Callable[[Path], Any], sealed: bool
) -> None:
    path = write(tmp_path)
    content, right = path.read_bytes(), read(path)
    damaged, refused = tmp_path / f"damaged{path.suffix}", 0
    for seed in range(100):
        damaged.write_bytes(mutate(content, Random(seed)))
        try:
            found = read(damaged)
            assert not sealed or found == right, seed
        except BrainmapError:
            refused += 1
    assert refused > (80 if sealed else 5)


def test_a_header_that_promises_more_than_the_file_holds_takes_no_memory(tmp_path: Path) -> None:
    path = write_flac(tmp_path)
    content = bytearray(path.read_bytes())
    for total in (10**9, 2**36 - 1):  # samples: 36 bits behind the rate, channels and depth
        bits = int.from_bytes(content[18:26], "big")
        content[18:26] = ((bits & ~(2**36 - 1)) | total).to_bytes(8, "big")
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"expected at most 4 h|cut short|cannot be read"):
            read_sound(path, rate=16_000)


def test_long_sounds_are_the_same_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stereo = np.random.default_rng(0).uniform(-0.5, 0.5, (5000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", stereo, 16_000, subtype="FLOAT")
    whole = read_sound(tmp_path / "a.wav", rate=16_000)
    monkeypatch.setattr("brainmap.features.sounds.reading._BLOCK", 512)
    np.testing.assert_array_equal(read_sound(tmp_path / "a.wav", rate=16_000), whole)
    np.testing.assert_array_equal(whole, stereo.mean(axis=1))


def test_a_builder_that_ends_the_program_is_an_error(
    builder: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_state(tmp_path)
    builder.build = lambda: sys.exit(0)  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="SystemExit"):
        load_network(path, architecture="builders:build")
    (tmp_path / "leaves_at_import.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="SystemExit"):
        load_network(path, architecture="leaves_at_import:build")


def test_a_network_that_ends_the_program_is_an_error() -> None:
    class Leaves(nn.Module):
        def forward(self, _: torch.Tensor) -> torch.Tensor:
            sys.exit(0)

    with pytest.raises(InputError, match=r"sys\.exit"):
        forward(Leaves(), torch.zeros(1, 1, 8))


def test_a_user_who_stops_a_builder_is_heard(builder: types.ModuleType, tmp_path: Path) -> None:
    def stopped() -> nn.Module:
        raise KeyboardInterrupt

    builder.build = stopped  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt):
        load_network(write_state(tmp_path), architecture="builders:build")
