"""Save the figures that an example shows, and order the examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ORDER = "FileNameSortKey"


def scrape_figures(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Save the figure that is the last value of a block, as a notebook would show it, with its title as description."""
    from sphinx_gallery.scrapers import figure_rst

    from brainmap.viz.style import Picture, render_png

    figure = block_vars["example_globals"].get("___")
    if not isinstance(figure, Picture) or getattr(figure, "_in_gallery", False):
        return ""
    figure._in_gallery = True  # type: ignore[attr-defined]
    path = Path(next(block_vars["image_path_iterator"]))
    path.write_bytes(render_png(figure, dpi=144))
    return str(figure_rst([str(path)], gallery_conf["src_dir"], fig_titles=figure.describe()))
