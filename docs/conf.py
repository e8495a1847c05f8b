"""Settings of the web site (`./run_all.sh --site`): Sphinx with MyST-NB, the theme Furo, and a
reference that is read from the sources without importing them. Nothing is executed."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

project = "Jets in Linear Time"
author = "The authors of Jets in Linear Time"
copyright = "2026, the authors; code MIT, text and figures CC BY 4.0"
extensions = ["myst_nb", "autoapi.extension", "sphinx.ext.napoleon", "sphinx.ext.githubpages",
              "sphinx-mathjax-offline"]
exclude_patterns = ["README.md"]  # the index includes it

nb_execution_mode = "off"  # the published notebooks hold their outputs
nb_merge_streams = True
nb_number_source_lines = False
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
# Notebooks begin with a long title, and some have no lexer for what they print.
suppress_warnings = ["myst.header", "misc.highlighting_failure", "mystnb.unknown_mime_type",
                     "autoapi", "ref.python", "docutils", "myst.xref_missing"]

autoapi_dirs = [str(ROOT / name) for name in ("lib", "collider", "hcal", "course")]
autoapi_root = "reference"
autoapi_add_toctree_entry = False
autoapi_keep_files = False
autoapi_options = ["members", "show-module-summary"]
autoapi_member_order = "bysource"

html_theme = "furo"
html_title = project
html_static_path = [str(ROOT / "docs" / "static")]
html_css_files = ["site.css"]
html_show_sourcelink = False


def relink(app, error: Exception | None) -> None:
    """Links to notebooks that a notebook printed, as in the map of notebook 00, lead to pages."""
    for page in Path(app.outdir, "notebooks").glob("*.html"):
        text = page.read_text()
        page.write_text(re.sub(r'href="(\d\d_\w+)\.ipynb"', r'href="\1.html"', text))


def setup(app) -> None:
    """Sphinx's door for what settings cannot say."""
    app.connect("build-finished", relink)
