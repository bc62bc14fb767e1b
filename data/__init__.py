"""What the demo needs: spoken words and trained networks; `README.md` beside this file says where each came from."""

from pathlib import Path

if __name__ != "brainmap.data":
    raise ImportError("import brainmap.data, not data")


def folder() -> Path:
    """Where the shipped words and networks lie on this machine."""
    return Path(__file__).resolve().parent
