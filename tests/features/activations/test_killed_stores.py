"""A store whose writer is killed before any one of its changes of the disk ends as that of an undisturbed writer."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from brainmap import features
from brainmap.errors import InputError
from brainmap.features.activations.store import open_store
from brainmap.features.sounds.files import sounds_from_array

CHANGES = ("open", "os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir")
MOST = 400


def extract(store: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv1d(1, 3, 5), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2)).eval()
    waves = np.random.default_rng(0).standard_normal((3, 1, 20)).astype(np.float32)
    features.extract_activations(net, sounds_from_array(waves, rate=1000), store=store, pooling="none", threads=1)


def dies_before(change: int, folder: Path, work: Callable[[], Any]) -> int:
    """Do the work in a process that dies before the given change of a folder; return how it ended."""
    process = os.fork()
    if process == 0:
        count = 0

        def hear(event: str, args: tuple[Any, ...]) -> None:
            nonlocal count
            if event not in CHANGES or not str(args[0]).startswith(str(folder)):
                return
            if event == "open" and not (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
            count += 1
            if count == change:
                os._exit(9)

        try:
            sys.addaudithook(hear)  # it cannot be removed again, so that it needs a process of its own
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def files(store: Path) -> dict[str, bytes]:
    """Every file of a store; a chunk that was being written may stay for a minute."""
    found = (p for p in store.rglob("*") if p.is_file() and p.suffix != ".partial")
    return {p.relative_to(store).as_posix(): p.read_bytes() for p in found}


@pytest.mark.slow
def test_a_writer_that_dies_before_any_change_of_the_disk_is_gone_on_with(tmp_path: Path) -> None:
    extract(tmp_path / "whole")
    wanted = files(tmp_path / "whole")
    codes = []
    for change in range(1, MOST):
        store = tmp_path / f"{change}" / "acts.zarr"
        store.parent.mkdir()
        codes.append(dies_before(change, store, partial(extract, store)))
        extract(store)
        assert files(store) == wanted, change
        if codes[-1] == 0:
            break
    assert set(codes[:-1]) == {9}
    assert codes[-1] == 0  # it came to its end
    assert len(codes) > 40


def test_a_folder_with_other_files_is_refused_beside_a_partial_one(tmp_path: Path) -> None:
    (tmp_path / "zarr.0123456789abcdef0123456789abcdef.partial").write_bytes(b"{")
    open_store(tmp_path)
    (tmp_path / "zarr.json").unlink()
    (tmp_path / "thesis.doc").write_bytes(b"years")
    with pytest.raises(InputError, match="holds something else"):
        open_store(tmp_path)
