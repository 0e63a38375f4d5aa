"""Every link and picture of every page leads somewhere."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest

from tests.docs.pages import PAGES, ROOT, read_page

_LINK = re.compile(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"")
HOST_SERVED = "comfyui_dmm/web/docs/"  # whose links are the host's


def anchors(page: str) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", read_page(page), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES)
def test_links(page):
    for found in _LINK.finditer(read_page(page)):
        target = found[1] or found[2]
        if target.startswith(("http://", "https://", "mailto:")) or page.startswith(HOST_SERVED):
            continue
        name, _, anchor = unquote(target).partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), f"{page}: there is no {target}"
        if anchor:
            within = path.resolve().relative_to(ROOT).as_posix()
            assert anchor in anchors(within), f"{page}: {within} has no heading {anchor}"


def test_every_page_of_the_docs_is_in_the_index():
    index = read_page("docs/README.md")
    pages = [page for page in PAGES if re.fullmatch(r"docs/[\w-]+\.md", page)]
    missing = [page for page in pages if f"({page.removeprefix('docs/')})" not in index]
    assert set(missing) <= {"docs/README.md"}


def test_every_graph_is_in_the_page_on_comfyui():
    page = read_page("docs/comfyui.md")
    graphs = [path.stem for path in (ROOT / "example_workflows").glob("*.json")]
    assert graphs
    assert [name for name in graphs if f"| {name} |" not in page] == []
