"""The shell in which documents are typed, and the folders in which most of them are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs import folders
from tests.docs.shell import Shell, open_shell


@pytest.fixture(scope="session")
def shell() -> Iterator[Shell]:
    with open_shell() as opened:
        yield opened


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory, shell: Shell) -> Path:
    """48 words, three participants and their RDMs; to be copied and never changed."""
    folder = tmp_path_factory.mktemp("pages") / "words"
    folder.mkdir()
    folders.write_words(folder)
    assert shell.run(folders.RDMS, folder) == []
    return folder
