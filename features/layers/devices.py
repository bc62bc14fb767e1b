"""Choose the device on which networks run."""

from __future__ import annotations

from brainmap.errors import InputError
from brainmap.types import Device


def choose_device(device: Device) -> str:
    """Return the torch device of that name; auto takes the fastest available.

    Raises
    ------
    InputError
        Another name, or a device this machine lacks.
    """
    if device == "cpu":
        return device
    import torch  # slow to import

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(name for name, found in there.items() if found)
    if not there[device]:
        raise InputError(f"--device: torch finds no {device} here; take --device auto")
    return device
