"""Open a network without loading it: what was found out from its files before is kept in the user's cache."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainmap.answers import digest_files, keep_answer
from brainmap.errors import BrainmapWarning
from brainmap.features.networks.description import Checkpoint, describe_checkpoint, restore_checkpoint
from brainmap.features.networks.files import list_files
from brainmap.record import content_key
from brainmap.references import is_reference

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, eq=False)
class Opened:
    """Hold a network that is loaded when its model is first needed.

    Attributes
    ----------
    checkpoint : Checkpoint
        How it is built and fed.
    key : str
        Digest of the content of its files, and of what else it is built and fed by.
    runs_code : bool
        Whether code of the user's builds it or its input. Nothing is kept of such a network, since that code may
        change in any file.
    load : callable
        Loads the model.
    """

    checkpoint: Checkpoint
    key: str
    runs_code: bool
    load: Callable[[], nn.Module]

    @cached_property
    def model(self) -> nn.Module:
        """Load the network; what there is to warn of was said when it was opened."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BrainmapWarning)
            return self.load()

    def keep(self, kind: str, key: object, compute: Callable[[], Any]) -> Any:
        """Return what `compute` finds out about the network, as plain values, and compute it only once.

        Parameters
        ----------
        kind : str
            What is asked, as a word for the name of a file.
        key : object
            What the answer depends on beside the network, as `content_key` takes it.
        compute : callable
            As `keep_answer` takes it.
        """
        return keep_answer(kind, content_key(self.key, key), compute, unless=lambda _: self.runs_code)


def open_network(
    path: str | Path,
    *,
    describe: Callable[[], Checkpoint],
    settings: object,
    architecture: str | None = None,
    variant: str | None = None,
    n_classes: int | None = None,
) -> Opened:
    """Open a network; the first time that its files are seen it is loaded.

    Parameters
    ----------
    path : path
        As `load_network` takes it.
    describe : callable
        Returns how it is fed, from its file and what the user says beside it.
    settings : object
        What the user says, as `content_key` takes it.
    architecture, variant, n_classes : optional
        As `load_network` takes them.

    Raises
    ------
    InputError
        As `load_network` and `describe` raise it.
    """

    @functools.cache
    def load() -> nn.Module:
        from brainmap.features.networks.checkpoints import load_network  # slow to import

        return load_network(path, architecture=architecture, variant=variant, n_classes=n_classes)

    new: list[Checkpoint] = []

    def find_out() -> dict[str, Any]:
        load()
        new.append(describe())
        code = new[0].names_code or is_reference(architecture or "")
        return {"checkpoint": describe_checkpoint(new[0]), "code": code}

    try:
        content = digest_files(_list_read_files(Path(path)))
    except OSError:
        load()  # it says what is wrong with the file
        raise
    key = content_key(content, architecture, variant, n_classes, settings)
    found = keep_answer("network", key, find_out, unless=lambda answer: answer["code"])
    checkpoint = new[0] if new else restore_checkpoint(found["checkpoint"])
    return Opened(checkpoint, key, found["code"], load)


def _list_read_files(path: Path) -> list[Path]:
    """List every file that the content of a network may lie in."""
    inside = [*path.glob("*.json"), *path.glob("*.safetensors")] if path.is_dir() else []
    return sorted({*list_files(path), *inside})
