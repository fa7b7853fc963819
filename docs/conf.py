"""Configuration of the documentation site, built by `make docs` without the network."""

import html
import posixpath
import re
from pathlib import Path

from docutils.nodes import SkipNode

DOCS = Path(__file__).parent
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")

project = "scoredistill"
author = "the scoredistill authors"
extensions = ["myst_parser", "sphinx_copybutton"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = "scoredistill"
html_math_renderer = "source"
exclude_patterns = ["_build"]


def rewrite_links(app, docname, source):
    """Adapt links of pages written for the forge: the site holds docs/ alone, so links out of it become plain text."""
    folder = posixpath.dirname(docname)

    def rewrite(match: re.Match) -> str:
        image, text, target = match.groups()
        if image or re.match(r"[a-z]+:|#", target):
            return match[0]
        path, hash_, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(folder, path))
        if (DOCS / path).is_dir() and (DOCS / path / "README.md").exists():
            return f"[{text}](/{path}/README.md{hash_}{anchor})"
        return match[0] if not path.startswith("..") and (DOCS / path).is_file() else text

    source[0] = LINK.sub(rewrite, source[0])


def inline_math(translator, node):
    """Write a formula as its TeX source: MathJax would have to come from the network."""
    translator.body.append(f'<code class="math">{html.escape(node.astext())}</code>')
    raise SkipNode


def block_math(translator, node):
    """Write a displayed formula as its TeX source."""
    translator.body.append(f'<pre class="math" style="white-space: pre-wrap">{html.escape(node.astext())}</pre>')
    raise SkipNode


def setup(app):
    app.connect("source-read", rewrite_links)
    app.add_html_math_renderer("source", (inline_math, None), (block_math, None))
