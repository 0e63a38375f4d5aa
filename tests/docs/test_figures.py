"""Every figure that the README compares with stands in a table of the benchmarks."""

from __future__ import annotations

import re

from tests.docs.pages import PAGES, read_page

TABLES = [page for page in PAGES if page.startswith("bench/") or page == "docs/performance.md"]
_FIGURE = re.compile(r"\d[\d,]*\.?\d*")


def figures(text: str) -> list[float]:
    return [float(found.replace(",", "")) for found in _FIGURE.findall(text)]


def test_the_figures_of_the_comparison():
    section = read_page("README.md").split("## How it compares")[1].split("\n## ")[0]
    rows = [line.replace("SD1.5", "") for line in section.splitlines() if line.startswith("|")]
    compared = [figure for row in rows for figure in figures(row)]
    measured = [figure for page in TABLES for figure in figures(read_page(page))]
    assert compared
    for figure in compared:
        close = any(abs(figure - known) <= 0.005 * known for known in measured)
        assert close, f"no table of the benchmarks has {figure:g}"
