"""Name the files that a network is read from, and tell which of them this user wrote.

Name the files that a network is read from, and say that one cannot be read.

Tell files that this user wrote from those of others, so that a file of another never chooses which code runs. A
checkpoint may name a function as its architecture or front end. The code runs where the user names it, or where the
file carries a signature (HMAC-SHA-256, RFC 2104) with a key that lies in the user's own settings.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from brainmap import data
from brainmap.checks import check_file
from brainmap.errors import InputError
from brainmap.references import first_line

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
"""Files of a Hugging Face folder."""


def check_checkpoint(path: str | Path) -> Path:
    """Return the path of a checkpoint; where a missing one has the name of a shipped network, the error says so."""
    path = Path(path)
    shipped = data.folder() / "networks" / path.name
    if path.parent.is_dir() and not path.exists() and shipped.is_file():
        raise InputError(f"checkpoint: no file {path}; brainmap ships a network of that name: copy {shipped} there")
    return check_file(path, "checkpoint")


def list_files(path: str | Path) -> list[Path]:
    """List the files on which a network depends: its checkpoint, or in a Hugging Face folder those that are read."""
    folder = Path(path)
    if not folder.is_dir():
        return [folder]
    named = [CONFIG, *PROCESSORS, *WEIGHTS]
    return sorted(
        {*(folder / name for name in named if (folder / name).is_file()), *folder.glob("model-*.safetensors")}
    )


def report_damage(path: Path, what: str, error: Exception) -> InputError:
    """Return the error that a file of weights cannot be read."""
    return InputError(
        f"checkpoint: {path} ({path.stat().st_size} bytes) is no readable {what} ({first_line(error)}); copy it again"
    )


_BYTES = 32


def compute_signature(text: str) -> str | None:
    """Return the signature of a text by this user; None where no key can be kept.

    Examples
    --------
    >>> signature = compute_signature("text")
    >>> signature is None or is_signed("text", signature)
    True
    """
    key = _read_own_key(create=True)
    return None if key is None else hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def is_signed(text: str, signature: str) -> bool:
    """Tell whether a signature of a text is this user's.

    Examples
    --------
    >>> is_signed("text", "0" * 64)
    False
    """
    key = _read_own_key(create=False)
    if key is None:
        return False
    return hmac.compare_digest(hmac.new(key, text.encode(), hashlib.sha256).hexdigest().encode(), signature.encode())


def _read_own_key(*, create: bool) -> bytes | None:
    """Read the user's key, or make one that nobody else can read; None where there is none."""
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: there is no home
        path = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "brainmap" / "key"
        if create and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_name(f"key.{os.getpid()}")
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(_BYTES))
            with contextlib.suppress(FileExistsError):
                os.link(beside, path)  # never over the key that another process has just made
            beside.unlink()
        key = path.read_bytes()
        return key if len(key) == _BYTES else None
    return None
