"""The memory that a process may take: of the machine, of control groups, of the address space; and who asks for it."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from torch import nn

import brainmap.resources
from brainmap.errors import InputError
from brainmap.resources import collect_less, find_available_memory, keep_freed_memory, require_memory

GB = 10**9
MEMINFO = "MemTotal: 64000000 kB\nMemFree: 1000000 kB\nMemAvailable: 40000000 kB\nSwapFree: 2000000 kB\n"


def write(root: Path, **files: str) -> Path:
    """Files of `proc` and `sys`, by their paths with `__` in place of slashes."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_what_is_free_or_easily_made_free_counts(tmp_path: Path) -> None:
    assert find_available_memory(write(tmp_path, proc__meminfo=MEMINFO)) == 42_000_000 * 1024


def test_the_tightest_control_group_counts_without_its_cache(tmp_path: Path) -> None:
    write(
        tmp_path,
        proc__meminfo=MEMINFO,
        proc__self__cgroup="0::/batch/job7\n",
        sys__fs__cgroup__batch__job7__cgroup="",
    )
    job, batch = tmp_path / "sys/fs/cgroup/batch/job7", tmp_path / "sys/fs/cgroup/batch"
    (job / "memory.max").write_text("max\n")
    (job / "memory.current").write_text("1000\n")
    (batch / "memory.max").write_text(f"{8 * GB}\n")
    (batch / "memory.current").write_text(f"{5 * GB}\n")
    (batch / "memory.stat").write_text(f"anon {3 * GB}\ninactive_file {2 * GB}\n")
    assert find_available_memory(tmp_path) == 5 * GB


def test_control_groups_of_the_first_version_count_too(tmp_path: Path) -> None:
    write(tmp_path, proc__meminfo=MEMINFO, proc__self__cgroup="9:cpu:/x\n4:memory:/of/the/host\n0::/\n")
    mount = tmp_path / "sys/fs/cgroup/memory"  # within a container the group of the host is not there
    mount.mkdir(parents=True)
    (mount / "memory.limit_in_bytes").write_text(str(3 * GB))
    (mount / "memory.usage_in_bytes").write_text(str(GB))
    assert find_available_memory(tmp_path) == 2 * GB


def test_a_group_that_is_full_leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path, proc__meminfo=MEMINFO, proc__self__cgroup="0::/\n", sys__fs__cgroup__memory="")
    (tmp_path / "sys/fs/cgroup/memory").unlink()
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("100")
    (tmp_path / "sys/fs/cgroup/memory.current").write_text("200")
    assert find_available_memory(tmp_path) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is of Linux")
def test_a_limit_of_the_address_space_counts() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2_000_000_000,) * 2); "
        "from brainmap.resources import find_available_memory; print(find_available_memory())"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert GB < int(said) < 2 * GB


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is of Linux")
@pytest.mark.parametrize("most", [280_000_000, 360_000_000])
def test_a_command_begins_only_where_libraries_can_be_loaded(most: int) -> None:
    """OpenBLAS hung for such limits; a command now ends in a line, within a second."""
    code = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({most},) * 2); import brainmap.cli; "
    code += "import sys; sys.argv = ['brainmap', 'networks']; brainmap.cli.main()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr.startswith("brainmap: expected 500 MB of memory that this process may address, got ")


def test_this_machine_tells_its_memory() -> None:
    available = find_available_memory()
    assert available is not None
    assert 0 < available < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 4


@pytest.fixture
def scarce(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which 1 GB is left."""
    monkeypatch.setattr(brainmap.resources, "find_available_memory", lambda: GB)


def test_a_refusal_says_the_size_what_is_left_and_the_way_out(scarce: None) -> None:
    require_memory(0.9 * GB, what="Maps", do="take fewer")
    with pytest.raises(InputError, match=r"^Maps take 2\.5 GB of memory, and 1 GB are available; take fewer$"):
        require_memory(2.5 * GB, what="Maps", do="take fewer")


def test_where_the_system_does_not_tell_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brainmap.resources, "find_available_memory", lambda: None)
    require_memory(1e18, what="Maps", do="take fewer")


def labels(n: int) -> list[str]:
    return [f"s{k}" for k in range(n)]


class Unread:
    """An array `(n_items, ...)` on disk that must not be read."""

    dtype = np.dtype(np.float32)

    def __init__(self, *shape: int) -> None:
        self.shape, self.ndim = shape, len(shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, where: object) -> Any:
        raise AssertionError("was read")


def test_rdms_of_too_many_items_are_refused_before_features_are_read(scarce: None) -> None:
    from brainmap.rsa import compute_rdms

    said = r"^compute_rdms: the matrices behind 1 RDM of 8,000 items take 3\.1 GB of memory, and 1 GB are available; "
    with pytest.raises(InputError, match=said):
        compute_rdms(Unread(8000, 50), descriptors={"stimulus_id": labels(8000)})


def test_a_searchlight_of_too_many_items_is_refused_before_its_patterns_are_arranged(scarce: None) -> None:
    from rsatoolbox.rdm import RDMs

    from brainmap.rsa import searchlight

    n = 2000
    models = RDMs(
        np.zeros((30, n * (n - 1) // 2), np.float32),
        rdm_descriptors={"name": labels(30)},
        pattern_descriptors={"stimulus_id": labels(n)},
    )
    mask = nib.Nifti1Image(np.ones((3, 3, 3), np.float32), np.eye(4))
    with pytest.raises(InputError, match=r"^searchlight: RDMs of 2,000 items for 30 models .* take [12]\.\d GB of"):
        searchlight(np.zeros((n, 27)), models, mask=mask, labels=labels(n), radius_mm=1.0)


def test_kernels_of_too_many_items_are_refused_before_a_layer_is_read(scarce: None) -> None:
    from rsatoolbox.data.dataset import Dataset

    from brainmap.rsa import encode

    n = 5000
    data = Dataset(np.random.default_rng(0).normal(size=(n, 2)), obs_descriptors={"stimulus_id": labels(n)})
    said = r"^encoding: 5 kernels of 5,000 items take 1\.8 GB of memory, and 1 GB are available; reduce the units"
    with pytest.raises(InputError, match=said):
        encode({"conv1": Unread(n, 9000)}, data, descriptors={"stimulus_id": labels(n)})


def test_activations_with_time_kept_are_refused_where_they_stay_in_memory(scarce: None, tmp_path: Path) -> None:
    from brainmap.features import extract_activations

    class Silence:
        """Sounds that exist only when they are asked for."""

        items = labels(40_000)
        conditions = items

        def __len__(self) -> int:
            return len(self.items)

        def batches(self, size: int) -> Any:
            yield np.zeros((1, 1, 400), np.float32)

    net = nn.Sequential(nn.Conv1d(1, 32, 5), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 396, 3))
    said = r"^activations: 40,000 items in 2 layers, with time kept take 2 GB of memory.*; give a store on disk"
    with pytest.raises(InputError, match=said):
        extract_activations(net, Silence(), pooling="none")


def test_patterns_of_too_many_volumes_are_refused_before_an_image_is_read(
    scarce: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import brainmap.rsa.patterns.volume as volume
    from brainmap.rsa.patterns.table import Pattern

    plan = [Pattern(0, k, f"s{k}", f"s{k}", "1") for k in range(2000)]
    monkeypatch.setattr(volume, "load_image", lambda name: pytest.fail("was read"))
    with pytest.raises(InputError, match=r"^patterns: 2,000 volumes of 250,000 voxels take 4 GB of memory"):
        volume._read_volumes(["a.nii.gz"], plan, np.ones((50, 50, 100), bool), "float64")


def test_the_collector_runs_less_often_within_a_command_alone() -> None:
    before = gc.get_threshold()
    with collect_less():
        assert gc.get_threshold()[0] > before[0]
    assert gc.get_threshold() == before


def _hear_options(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    heard: list[tuple[int, int]] = []
    library = SimpleNamespace(mallopt=lambda option, value: heard.append((option, value)))
    monkeypatch.setattr("brainmap.resources.ctypes.CDLL", lambda _: library)
    monkeypatch.setattr("sys.platform", "linux")
    keep_freed_memory()
    return heard


def test_freed_memory_is_kept_unless_the_environment_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"HOME": "/"})
    assert _hear_options(monkeypatch) == [(-3, 32 << 20), (-1, 256 << 20)]
    monkeypatch.setattr(os, "environ", {"MALLOC_TRIM_THRESHOLD_": "0"})
    assert not _hear_options(monkeypatch)
