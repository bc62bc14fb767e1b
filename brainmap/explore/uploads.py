"""Take sounds that a page sends: raw bodies of a limited size, kept in a folder of this session."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from starlette.requests import Request

from brainmap.resources import is_running

_PREFIX = "brainmap-explore-"  # the number of the process follows, and then chance

_DRAINED = 10  # bodies of so many times the limit are read to their end, so that the browser hears the refusal

MEGABYTE = 1_000_000


class TooLargeError(Exception):
    """Report a body that is larger than the limit."""


class Uploads:
    """Keep the sounds that were sent, each under the SHA-256 of its bytes, until the explorer ends.

    Parameters
    ----------
    most_bytes : int
        Largest body.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        remove_remains()
        self._folder = tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-")

    @property
    def folder(self) -> Path:
        """Return the folder, which lies among the system's temporary files."""
        return Path(self._folder.name)

    async def receive(self, request: Request) -> Path:
        """Write the body of a request to a file, and return it.

        Raises
        ------
        TooLargeError
            The body is, or says that it is, larger than the limit; nothing of it is kept.
        """
        said = request.headers.get("content-length", "0")
        too_large = said.isdecimal() and int(said) > self.most_bytes
        digest, size = hashlib.sha256(), 0
        with tempfile.NamedTemporaryFile(dir=self.folder, prefix="part-", delete=False) as part:
            beside = Path(part.name)
            try:
                async for chunk in request.stream():
                    size += len(chunk)
                    too_large = too_large or size > self.most_bytes
                    if size > _DRAINED * self.most_bytes:
                        break
                    if not too_large:
                        digest.update(chunk)
                        part.write(chunk)
            except BaseException:
                beside.unlink()
                raise
        if too_large:
            beside.unlink()
            raise TooLargeError(
                f"The file is larger than {self.most_bytes / MEGABYTE:g} MB; cut it, or start the explorer "
                "with a larger --largest-upload."
            )
        path = self.folder / digest.hexdigest()
        beside.replace(path)
        return path

    def close(self) -> None:
        """Remove all of them."""
        self._folder.cleanup()


def remove_remains() -> None:
    """Remove the folders of explorers of this user that were killed together with their computing process."""
    own = os.getuid() if hasattr(os, "getuid") else 0
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        number = folder.name.removeprefix(_PREFIX).partition("-")[0]
        mine = folder.is_dir() and not folder.is_symlink() and folder.stat().st_uid == own
        if mine and number.isdecimal() and not is_running(int(number)):
            shutil.rmtree(folder, ignore_errors=True)
