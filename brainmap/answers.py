"""Keep answers that take seconds to compute in the user's cache, under a digest of everything that they depend on.

An answer is asked for again with the content of its inputs. It is computed again where these, any file of brainmap, or
the version of a package that networks run on has changed, so that it is never older than what it is about.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from brainmap.caches import find_user_cache, open_versioned_folder, yield_files
from brainmap.errors import BrainmapError, BrainmapWarning
from brainmap.record import atomic, content_key, find_versions, versions

_NETWORKS_RUN_ON = ("transformers", "tokenizers", "safetensors", "keras", "h5py")


def keep_answer(
    kind: str, key: str, compute: Callable[[], Any], *, unless: Callable[[Any], bool] = lambda _: False
) -> Any:
    """Return what `compute` returns as plain values, from the user's cache where it was computed before.

    Parameters
    ----------
    kind : str
        What is asked, as a word for the name of a file.
    key : str
        Digest of everything that the answer depends on, except the code and its versions.
    compute : callable
        Returns values that JSON holds; an error is passed on and nothing is kept.
    unless : callable
        Tells of a new answer whether it must not be kept.

    Returns
    -------
    object
        The answer as JSON holds it, so that a new one equals a kept one: tuples become lists.

    Warns
    -----
    BrainmapWarning
        What `compute` warned of, whether it runs or not.
    """
    file = _open_folder() / f"{kind}-{content_key(kind, key)}.json"
    held = _read_answer(file, key)
    if held is None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", BrainmapWarning)
            answer = compute()
        said = [str(one.message) for one in caught if issubclass(one.category, BrainmapWarning)]
        held = json.loads(json.dumps({"key": key, "answer": answer, "warnings": said}))
        if not unless(answer):
            with contextlib.suppress(OSError, BrainmapError), atomic(file) as beside:  # a full disk, say
                beside.write_text(json.dumps(held), encoding="utf-8")
        for one in caught:
            if not issubclass(one.category, BrainmapWarning):
                warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    for line in held["warnings"]:
        warnings.warn(line, BrainmapWarning, stacklevel=2)
    return held["answer"]


def digest_files(paths: Sequence[str | Path]) -> str:
    """Compute one digest of the names and contents of files."""
    digest = hashlib.sha256()
    for path in map(Path, paths):
        with path.open("rb") as file:
            digest.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode(errors="replace"))
    return digest.hexdigest()


def _read_answer(file: Path, key: str) -> dict[str, Any] | None:
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    known = isinstance(held, dict) and held.get("key") == key and "answer" in held
    return held if known and isinstance(held.get("warnings"), list) else None


@functools.cache
def _open_folder() -> Path:
    """Create the folder for answers of the present code on the present versions."""
    return open_versioned_folder(find_user_cache("answers"), _name_version())


def _name_version() -> str:
    return content_key(_list_versions(), _digest_package())[:16]


def _list_versions() -> dict[str, str]:
    return versions() | find_versions(_NETWORKS_RUN_ON)


def _digest_package() -> str:
    """Compute a digest of all modules of the package, and of the networks that lie in it."""
    package = Path(__file__).parent
    files = yield_files(package, (".py", ".safetensors"))
    return content_key([[path.relative_to(package).as_posix(), digest_files([path])] for path in files])
