"""Write the page: one HTML file with embedded pictures, sounds and tables that opens without internet access."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from brainmap.errors import RunError
from brainmap.record import atomic
from brainmap.viz.page.answers import show_answers
from brainmap.viz.page.brain import draw_brains
from brainmap.viz.page.cards import (
    arrange_panels,
    describe_cam_cards,
    find_sheet_ends,
    make_cam_cards,
    make_sheet_cards,
)
from brainmap.viz.page.citations import write_bibliography, write_latex, write_markdown, write_references
from brainmap.viz.page.content import ReportContent
from brainmap.viz.page.designs import show_designs
from brainmap.viz.page.encoding import draw_encoding
from brainmap.viz.page.helper import Helper
from brainmap.viz.page.layers import draw_families, draw_hypotheses
from brainmap.viz.page.methods import methods_paragraph
from brainmap.viz.page.people import show_people
from brainmap.viz.page.pictures import Pictures
from brainmap.viz.page.region_cards import draw_listening
from brainmap.viz.page.sheet import are_heard
from brainmap.viz.page.tables import make_table
from brainmap.viz.page.viewer import make_viewer
from brainmap.viz.style import assign_layer_colors, encode_data_uri, with_style

__all__ = ["ReportContent", "methods_paragraph", "write_report"]

_SHOWN = {"clusters": 12, "difference_clusters": 12, "counts": 18}  # rows on the page; the file has all rows
_PEAKS = (
    "network",
    "layer",
    "hemisphere",
    "x",
    "y",
    "z",
    "voxels",
    "vertices",
    "mean",
    "statistic",
    "p_corrected",
    "peak_roi",
    "rois",
)
_COLUMNS = {  # columns on the page; the file has all columns
    "bootstrap": ("network", "layer", "roi", "mean", "ci_low", "ci_high", "p_corrected", "below_ceiling", "n"),
    "statistics": (
        "network",
        "layer",
        "time",
        "roi",
        "mean",
        "chance",
        "standard_error",
        "statistic",
        "p_corrected",
        "p_these_sounds_corrected",
        "test",
        "n",
    ),
    "differences": (
        "network",
        "layer",
        "other_network",
        "other_layer",
        "roi",
        "difference",
        "standard_error",
        "p_corrected",
        "p_these_sounds_corrected",
        "test",
    ),
    "network_differences": (
        "network",
        "other_network",
        "roi",
        "difference",
        "standard_error",
        "p_corrected",
        "p_these_sounds_corrected",
        "test",
        "n",
    ),
    "best_layers": (
        "network",
        "roi",
        "layer",
        "chosen_share",
        "score",
        "standard_error",
        "p",
        "position",
        "position_sd",
        "n",
    ),
    "recovery": ("roi", "planted", "recovered", "score", "ceiling_lower", "ceiling_upper"),  # fit beside the matrix
    "clusters": _PEAKS,
    "difference_clusters": _PEAKS,
}
TEMPLATES = Path(__file__).with_name("templates")
_SCRIPTS = ("report.js", "mesh.js", "slices.js", "cortex.js", "viewer.js")


def write_report(
    content: ReportContent,
    path: str | Path,
    *,
    figures: str | Path | None = None,
    memory: Path | None = None,
    helper: Helper | None = None,
    svg: bool = False,
) -> Path:
    """Write the page, and every figure on it as PNG and SVG beside it.

    Parameters
    ----------
    content : ReportContent
        The content to show.
    path : path
        File of the page; an existing file is replaced.
    figures : path, optional
        Folder of the figures; by default `figures/` beside the page.
    memory : path, optional
        File with the keys of the figures in the folder. A figure that an earlier page drew of the same content is taken
        from its files, which are the same to the last byte.
    helper : Helper, optional
        A process that draws some of the figures.
    svg : bool
        Write figures that are mostly pixels as SVG, too: with text and lines as such, and maps as pixels.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    InputError
        If a table or picture does not fit its figure.
    RunError
        If the page cannot be written there.
    """
    path = Path(path)
    drawn = Pictures(Path(figures) if figures is not None else path.parent / "figures", memory, helper)
    view = _make_view(content, drawn)
    drawn.draw()
    html = _make_environment().get_template("report.html.j2").render(view=view)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn.save()
        if svg:
            drawn.save_vectors()
        with atomic(path) as beside:
            beside.write_text(html, encoding="utf-8")
    except OSError as error:
        raise RunError(f"report: cannot write {path}: {error.strerror or error}") from error
    return path


def _make_environment() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    made = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    made.undefined = jinja2.StrictUndefined
    made.globals["source"] = lambda name: Markup((TEMPLATES / name).read_text(encoding="utf-8"))
    script = _join_scripts()
    made.globals["script"], made.globals["paints"] = Markup(script), _Paints()
    made.globals["policy"] = lambda style: _compose_policy(script, style)
    made.filters["minus"] = lambda name: name.replace(" - ", " \N{MINUS SIGN} ")
    made.filters["number"] = lambda value: f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return made


def _join_scripts() -> str:
    """Join the scripts in one scope; mesh.js, which the explorer takes as a module, loses the word export."""
    parts = [(TEMPLATES / name).read_text(encoding="utf-8") for name in _SCRIPTS]
    return "\n".join(["(() => {", '"use strict";', *(part.replace("\nexport ", "\n") for part in parts), "})();"])


class _Paints:
    """Name a class of the page's one style sheet for each color, so that no element needs a style of its own.

    Examples
    --------
    >>> paints = _Paints()
    >>> paints.chip("#440154"), paints.rules()
    ('c440154', Markup('.c440154 { --c:#440154; }'))
    """

    def __init__(self) -> None:
        self._rules: dict[str, str] = {}

    def chip(self, color: str) -> str:
        """Return the class of a swatch."""
        name = "c" + color.removeprefix("#")
        self._rules[name] = f".{name} {{ --c:{color}; }}"
        return name

    def cell(self, background: str, ink: str) -> str:
        """Return the class of a cell with a color behind its text."""
        name = f"b{background.removeprefix('#')}{ink.removeprefix('#')}"
        self._rules[name] = f".{name} {{ background:{background}; color:{ink}; }}"
        return name

    def rules(self) -> Markup:
        """Return the rules of all classes so far."""
        return Markup("\n").join(Markup(rule) for rule in self._rules.values())


def _compose_policy(script: str, style: str) -> str:
    """Return the page's content security policy: its own script and style, only embedded content, load nothing."""
    own, look = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, str(style)))
    return (
        f"default-src 'none'; script-src 'sha256-{own}'; style-src 'sha256-{look}'; img-src data:; media-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


@with_style
def _make_view(content: ReportContent, drawn: Pictures) -> dict[str, Any]:
    """Collect what the template shows, with every item already a picture, a table or text."""
    layers = content.order_layers()
    tables = {
        name: make_table(
            table,
            f"{name}.tsv",
            colors=assign_layer_colors(layers),
            most=_SHOWN.get(name, 60),
            columns=_COLUMNS.get(name),
        )
        for name in (
            "scores",
            "statistics",
            "bootstrap",
            "differences",
            "network_differences",
            "ceilings",
            "residual_structure",
            "reliability",
            "best_layers",
            "recovery",
            "clusters",
            "difference_clusters",
            "people",
            "counts",
        )
        if (table := getattr(content, name)) is not None and len(table)
    }
    cards = (
        make_cam_cards(content.sounds, content.cams) if content.cams is not None and content.sounds is not None else []
    )
    brains = draw_brains(content, drawn)
    view: dict[str, Any] = {
        "content": content,
        "layers": layers,
        "colors": assign_layer_colors(layers),
        "answers": show_answers(content),
        "pictures": drawn.draw_overview(content, layers),
        "pairs": drawn.draw_pairs(content.rdm_pairs),
        "families": draw_families(content, drawn),
        "hypotheses": draw_hypotheses(content, drawn),
        "brains": brains,
        "viewer": make_viewer(content, brains),
        "people": show_people(content.persons),
        "designs": show_designs(content.designs),
        "encoding": draw_encoding(content, drawn),
        "listening": draw_listening(content, drawn),
        "tables": tables,
        "panels": arrange_panels(content.maximization, assign_layer_colors(layers)),
        "sheet_title": "Network beside brain" if are_heard(content.sheet) else "Best layers in the brain",
        "sheet_heard": are_heard(content.sheet),
        "sheet_cards": make_sheet_cards(content.sheet),
        "sheet_ends": find_sheet_ends(content.sheet),
        "cams": cards,
        "cams_note": describe_cam_cards(content.sounds, content.cams) if cards else "",
        "sounds_notes": list(content.sounds_notes),
        "methods": [_link_dois(part) for part in content.methods.split("\n\n") if part.strip()],
        "copies": _copy_methods(content.methods),
        "provenance": list(content.provenance.items()),
    }
    inner = [len(tabs) for brain in brains for tabs in (brain.maps, brain.differences)]
    most = max(*(len(view[name]) for name in ("families", "pairs", "brains", "copies")), *inner)
    return {**view, "most_tabs": most}  # tabs that lie side by side


def _copy_methods(methods: str) -> list[dict[str, str]]:
    """Write the methods section in every format, and the works that it cites as BibTeX."""
    if not methods.strip():
        return []
    texts = [
        ("Plain text", "methods.txt", write_references(methods)),
        ("Markdown", "methods.md", write_markdown(methods)),
        ("LaTeX", "methods.tex", write_latex(methods)),
        ("BibTeX", "methods.bib", write_bibliography(methods)),
    ]
    return [
        {
            "format": kind,
            "name": name,
            "text": text,
            "download": encode_data_uri(text.encode(), "text/plain;charset=utf-8"),
        }
        for kind, name, text in texts
        if text.strip()
    ]


def _link_dois(paragraph: str) -> Markup:
    """Turn the DOIs of a paragraph into links."""
    words = []
    for word in paragraph.split():
        core = word.removeprefix("(").rstrip(".,;:)")
        if core.startswith("doi:10."):
            before, after = word.split(core, 1)
            link = Markup('<a href="https://doi.org/{0}">doi:{0}</a>').format(core.removeprefix("doi:"))
            words.append(escape(before) + link + escape(after))
        else:
            words.append(escape(word))
    return Markup(" ").join(words)
