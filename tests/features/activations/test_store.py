import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from brainmap import features
from brainmap.errors import InputError, RunError
from brainmap.features.activations import store as stores

WHERE = ("activations", "conv1", "abc")


def writer(root: object, n: int = 5) -> stores.ArrayWriter:
    return stores.ArrayWriter(root, WHERE, shape=(n, 3), dtype="float32", attributes={"items": list("abcde")})  # type: ignore[arg-type]


def test_an_array_is_nan_until_written_and_found_only_when_complete(tmp_path: Path) -> None:
    root = stores.open_store(tmp_path / "s.zarr")
    rows = np.arange(15, dtype=np.float32).reshape(5, 3)
    half = writer(root)
    assert np.isnan(half.array[:]).all()
    half.write(rows[:2])
    assert stores.find_array(root, *WHERE) is None
    with pytest.raises(RunError, match="2 rows came for 5 items"):
        half.finish()
    assert stores.find_array(root, *WHERE) is None
    again = writer(root)
    again.write(rows[:2])
    again.write(rows[2:])
    again.finish()
    found = stores.find_array(stores.open_store(tmp_path / "s.zarr", create=False), *WHERE)
    assert found is not None
    np.testing.assert_array_equal(found[:], rows)
    assert found.attrs["items"] == list("abcde")


def test_rows_may_come_in_any_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "_CHUNK_BYTES", 24)  # two rows a chunk
    rows = np.random.default_rng(0).standard_normal((11, 3)).astype(np.float32)
    for portions in ([11], [1] * 11, [3, 1, 4, 3], [2, 9]):
        one = writer(stores.open_store(None), 11)
        assert one.array.chunks == (2, 3)
        for part in np.split(rows, np.cumsum(portions)[:-1]):
            one.write(part)
        np.testing.assert_array_equal(one.finish()[:], rows)


def test_a_key_is_one_of_weights_and_settings() -> None:
    net = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU())
    elu = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ELU())
    elu.load_state_dict(net.state_dict())
    digest = stores.hash_weights(net)
    assert digest != stores.hash_weights(elu)
    with torch.no_grad():
        next(net.parameters())[0, 0, 0] += 1e-6
    assert digest != stores.hash_weights(net)


def test_what_is_current_must_be_complete(tmp_path: Path) -> None:
    root = stores.open_store(tmp_path / "s.zarr")
    writer(root)
    stores.set_current(root, "activations", {"conv1": "abc"}, network="n")
    with pytest.raises(InputError, match=r"activations of conv1 in .* are incomplete"):
        stores.get_current_arrays(root, "activations")


EXTRACTION = """
import os, signal
import numpy as np, torch
from torch import nn
from brainmap import features

torch.manual_seed(0)
net = nn.Sequential(nn.Conv1d(1, 4, 5), nn.ReLU(), nn.Conv1d(4, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2))
x = np.random.default_rng(0).standard_normal((12, 1, 20), np.float32)
"""
KILLED_IN_THE_MIDDLE = """
features.extract_activations(net, x, store=store, layers=["0"])
seen = []
net[2].register_forward_hook(lambda *_: seen.append(1))
net.register_forward_pre_hook(lambda *_: os.kill(os.getpid(), signal.SIGKILL) if len(seen) >= 4 else None)
features.extract_activations(net, x, store=store, layers="all", batch_size=2)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.slow
def test_a_killed_extraction_goes_on_with_the_layers_that_are_missing(tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    program = f"{EXTRACTION}\nstore = {str(store)!r}\n{KILLED_IN_THE_MIDDLE}"
    killed = subprocess.run([sys.executable, "-c", program], env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    assert killed.returncode == -signal.SIGKILL
    finished = {p: p.stat().st_mtime_ns for p in (store / "activations/0").rglob("*") if p.is_file()}
    assert finished
    assert list((store / "activations").glob("2/*/zarr.json"))  # begun
    same: dict[str, Any] = {}
    with torch.random.fork_rng():
        exec(EXTRACTION, same)
    resumed = features.extract_activations(same["net"], same["x"], store=store)
    whole = features.extract_activations(same["net"], same["x"])
    assert {p: p.stat().st_mtime_ns for p in finished} == finished
    for layer in ("0", "2", "output"):
        np.testing.assert_array_equal(np.asarray(resumed[layer]), np.asarray(whole[layer]))
