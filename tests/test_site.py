"""The documentation site: every page is reached from its table of contents."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_every_page_is_in_the_table_of_contents_once():
    trees = re.findall(r"```\{toctree\}\n(.*?)```", (DOCS / "index.md").read_text(encoding="utf-8"), re.S)
    listed = sorted(line for tree in trees for line in tree.split("\n") if line and not line.startswith(":"))
    built = DOCS / "_build"
    pages = [page for page in DOCS.rglob("*.md") if built not in page.parents and page != DOCS / "index.md"]
    assert listed == sorted(page.relative_to(DOCS).with_suffix("").as_posix() for page in pages)
