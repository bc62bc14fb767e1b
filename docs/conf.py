"""Build the site: `make docs`. What the pages of the API and of the commands hold is generated from the code."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "extensions"))

from figures import ORDER, scrape_figures  # noqa: E402

import brainmap  # noqa: E402

project = "brainmap"
author = "the brainmap developers"
copyright = "the brainmap developers"
version = release = brainmap.__version__

extensions = [
    "api_pages",
    "command_pages",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
]
if os.environ.get("BRAINMAP_DOCS_ONLINE") == "1":  # links to other projects need the network
    extensions.append("sphinx.ext.intersphinx")
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", None),
    "numpy": ("https://numpy.org/doc/stable", None),
    "pandas": ("https://pandas.pydata.org/docs", None),
    "torch": ("https://docs.pytorch.org/docs/stable", None),
    "nilearn": ("https://nilearn.github.io/stable", None),
    "rsatoolbox": ("https://rsatoolbox.readthedocs.io/en/stable", None),
}

source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
exclude_patterns = ["_build", "gallery", "extensions", "**/GALLERY_HEADER.rst"]
templates_path = ["_templates"]
smartquotes = False  # --option stays what is typed
default_role = "code"  # docstrings put code between single backticks
nitpicky = False
suppress_warnings = ["config.cache"]  # functions in the settings of the gallery are no reason to build all again

autosummary_generate = True
autodoc_typehints = "none"  # the section Parameters says types, with shapes and units
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "examples",
    "filename_pattern": r"/plot_",
    "within_subsection_order": ORDER,
    "image_scrapers": (scrape_figures,),
    "capture_repr": ("_repr_html_", "__repr__"),
    "ignore_repr_types": r"brainmap\.viz\.style\.Picture",  # the scraper saves these as files
    "reset_modules": (),
    "doc_module": ("brainmap",),
    "backreferences_dir": "reference/examples",
    "reference_url": {"brainmap": None},
    "prefer_full_module": {r"brainmap\."},
    "abort_on_example_error": False,
    "only_warn_on_example_error": False,
    "show_memory": False,
    "min_reported_time": 1,
    "write_computation_times": False,  # its table loads scripts from elsewhere
    "download_all_examples": False,
    "remove_config_comments": True,
    "plot_gallery": os.environ.get("BRAINMAP_DOCS_GALLERY", "1") == "1",
}

html_theme = "pydata_sphinx_theme"
html_title = "brainmap"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "brainmap"},
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": []}
