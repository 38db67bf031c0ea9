"""The documentation as a site: `make docs` builds it from README.md and docs/, without a network."""

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

project = "rtseg"
author = "the rtseg authors"
project_copyright = "the rtseg authors, Apache-2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "rtseg"
exclude_patterns = ["examples"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
nitpicky = False

# Pages from outside docs/: page of the site -> file of the checkout.
_INCLUDED = {"overview": "README.md", "protocol": "benchmarks/PROTOCOL.md", "contributing": "CONTRIBUTING.md",
             "changes": "CHANGELOG.md"}  # fmt: skip


def _follow_links(app: Sphinx, page: str, source: list[str]) -> None:
    """Points links between files of the checkout at the pages of the site."""
    text = source[0]
    if page in _INCLUDED:
        text = (ROOT / _INCLUDED[page]).read_text(encoding="utf-8")
    for name, file in _INCLUDED.items():
        text = re.sub(rf"\((?:\.\./)?{re.escape(file)}(#[^)]*)?\)", rf"({name}.md\1)", text)
    text = re.sub(r"\((?:\.\./)?docs/([\w-]+\.(?:md|png))", r"(\1", text)
    source[0] = text


def setup(app: Sphinx) -> None:
    """What Sphinx calls at the start."""
    app.connect("source-read", _follow_links)
