"""Build the site into docs/_build/html: `make docs`, or `python docs/build.py` where the extra is installed."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
NEEDED = ("sphinx", "pydata_sphinx_theme", "numpydoc", "myst_parser", "sphinx_gallery", "transformers")


def list_missing() -> list[str]:
    """List the packages of the extras that are not installed; an example of the gallery needs transformers."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def build(out: Path, *, gallery: bool) -> int:
    """Build the site, and return the exit status; a warning is an error."""
    os.environ["BRAINMAP_DOCS_GALLERY"] = "1" if gallery else "0"
    os.environ.setdefault("MPLBACKEND", "agg")
    from sphinx.cmd.build import build_main

    words = ["-b", "html", "-W", "--keep-going", "-q", "-d", str(out.parent / "doctrees"), str(HERE), str(out)]
    return int(build_main(words))


def main(words: Sequence[str] | None = None) -> int:
    """Read the command line, and build the site."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "_build" / "html", help="folder of the site")
    parser.add_argument("--without-gallery", action="store_true", help="show examples without running them")
    given = parser.parse_args(words)
    if missing := list_missing():
        sys.stderr.write(
            f"docs: expected the extras docs and transformers, got no {', '.join(missing)}; type: "
            f"{sys.executable} -m pip install -c constraints.txt -e '.[docs,transformers]'\n"
        )
        return 2
    status = build(given.out, gallery=not given.without_gallery)
    if status == 0:
        sys.stdout.write(f"Open {given.out / 'index.html'} in a browser.\n")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
