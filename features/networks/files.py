"""Name the files that a network is read from, and say that one cannot be read."""

from __future__ import annotations

from pathlib import Path

from brainmap.errors import InputError
from brainmap.references import first_line

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
"""Files of a Hugging Face folder."""


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
