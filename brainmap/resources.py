"""Tell how much memory this process may still take, and refuse what needs more before anything is computed."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from brainmap.errors import InputError
from brainmap.types import Device

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # options of mallopt
_NEGLIGIBLE = 1 << 28  # bytes that are not worth a look at what is available
_LEAST_ADDRESSES = 500_000_000  # bytes; OpenBLAS asks for its buffers again and again where there are none, and hangs


@contextmanager
def collect_less() -> Iterator[None]:
    """Let the collector of cycles run less often within the block, and not at all when the process ends after it.

    Libraries make hundreds of thousands of objects that live on. To walk over them takes a tenth of the time of the
    imports, and when the process ends more than a second.
    """
    before = gc.get_threshold()
    gc.set_threshold(10_000, 10, 10)
    atexit.register(gc.freeze)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def keep_freed_memory() -> None:
    """Let the C library keep up to 256 MB that were freed, in blocks below 32 MB, as tensors of networks take (glibc).

    It gives them back to the system otherwise, which clears their pages before the next tensor gets them: a forward
    pass takes twice the time. What the user's environment says of it (MALLOC_TRIM_THRESHOLD_) stays.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_MMAP_THRESHOLD, 32 << 20)
        set_option(_TRIM_THRESHOLD, 256 << 20)


def find_available_memory(root: Path = Path("/")) -> int | None:
    """Return how many bytes this process can still take, or None where the system does not tell.

    This is the least of the memory that is free or easily made free (with swap), what is left of the limits of the
    control groups (containers, batch queues) that the process belongs to, and what is left of its address space.

    Parameters
    ----------
    root : path
        Where `proc` and `sys` lie.
    """
    known = [*_read_machine(root), *_read_control_groups(root), *_read_address_space(root)]
    return max(0, min(known)) if known else None


def require_memory(n_bytes: float, *, what: str, do: str) -> None:
    """Refuse an array, or several, for which there is no memory.

    Parameters
    ----------
    n_bytes : float
    what : str
        What takes this memory, with its size, in the plural.
    do : str
        The ways out.

    Raises
    ------
    InputError
        Less memory is available.

    Examples
    --------
    >>> require_memory(1e21, what="rsa rdm: RDMs of 10,000,000,000 items", do="take fewer items")
    Traceback (most recent call last):
    brainmap.errors.InputError: rsa rdm: RDMs of 10,000,000,000 items take 1,000,000,000 TB of memory, and ...
    """
    if n_bytes < _NEGLIGIBLE:
        return
    available = find_available_memory()
    if available is not None and n_bytes > available:
        raise InputError(
            f"{what} take {format_bytes(n_bytes)} of memory, and {format_bytes(available)} are available; {do}"
        )


def require_address_space() -> None:
    """Refuse to begin where so few addresses are allowed (`ulimit -v`) that a library would wait for memory forever.

    Raises
    ------
    InputError
        Fewer than 500 MB are left.
    """
    for left in _read_address_space(Path("/")):
        if left < _LEAST_ADDRESSES:
            raise InputError(
                f"expected {format_bytes(_LEAST_ADDRESSES)} of memory that this process may address, got "
                f"{format_bytes(max(left, 0))}; raise its limit (ulimit -v)"
            )


def find_float64_device(device: Device, what: str) -> str | None:
    """Return the torch device that computes in float64, or None for the CPU without torch.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda", "mps"}
        auto takes cuda if there is one.
    what : str
        What is computed, for the message.

    Raises
    ------
    InputError
        cuda is asked for and there is none, or mps is, which has no float64.
    """
    if device == "mps":
        raise InputError(f"{what}: mps has no float64; take --device cpu")
    if device == "cpu":
        return None
    import torch  # slow to import

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise InputError(f"{what}: torch finds no cuda here; take --device auto")
    return None


def format_bytes(n: float) -> str:
    """Write a number of bytes in two digits.

    Examples
    --------
    >>> format_bytes(27_400_000), format_bytes(3_100)
    ('27 MB', '3.1 kB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.2g} {unit}" if n < 99.5 else f"{n:.0f} {unit}"
        n /= 1000
    return f"{n:.2g} TB" if n < 99.5 else f"{n:,.0f} TB"


def format_seconds(seconds: float) -> str:
    """Write a time in the unit that a reader would take.

    Examples
    --------
    >>> format_seconds(42.4), format_seconds(250), format_seconds(9000)
    ('42 s', '4 min', '2.5 h')
    """
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _read_machine(root: Path) -> Iterator[int]:
    """Yield the memory of the machine that is free or can be freed; all that it has, where only that is known."""
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        found = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if len(line.split()) > 2}
        yield found["MemAvailable"] + found.get("SwapFree", 0)
    except (OSError, KeyError, ValueError):
        names = getattr(os, "sysconf_names", {})
        if "SC_PHYS_PAGES" in names and "SC_PAGE_SIZE" in names:
            yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _read_control_groups(root: Path) -> Iterator[int]:
    """Yield what is left of the memory of each control group of this process that has a limit (versions 1 and 2)."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            mount, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            mount = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = mount / path.strip("/")  # within a container its own group may be the mount itself
        for folder in (group, *group.parents):
            left = _read_left_of_group(folder, *names)
            if left is not None:
                yield left
            if folder == mount:
                break


def _read_left_of_group(folder: Path, limit: str, used: str, cache: str) -> int | None:
    """Return what is left of a control group's memory; files in the cache are given up when memory is needed."""
    try:
        most, taken = int((folder / limit).read_text()), int((folder / used).read_text())
    except (OSError, ValueError):  # no such group, or "max"
        return None
    try:
        pairs = [line.split(" ", 1) for line in (folder / "memory.stat").read_text().splitlines()]
        freed = sum(int(value) for name, value in pairs if name == cache)
    except (OSError, ValueError):
        freed = 0
    return most - taken + freed


def _read_address_space(root: Path) -> Iterator[int]:
    """Yield what is left of the address space, where it is limited (`ulimit -v`)."""
    try:
        import resource
    except ImportError:  # Windows
        return
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    if most == resource.RLIM_INFINITY:
        return
    try:
        pages = int((root / "proc/self/statm").read_text().split()[0])
    except (OSError, ValueError):
        return
    yield most - pages * resource.getpagesize()


def is_running(pid: int) -> bool:
    """Tell whether a process of this machine is running."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
