"""The reference says what the code says, and CONTRIBUTING's map shows the whole house."""

from __future__ import annotations

import re
import subprocess

import pytest

from docs.reference.__main__ import FOLDER, PAGES, render
from tests.docs.pages import ROOT, read_page


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_says(name):
    written = (FOLDER / name).read_text(encoding="utf-8")
    assert written == render(name), (
        f"docs/reference/{name} is stale. Renew it: .venv/bin/python -m docs.reference"
    )


def test_every_page_is_in_the_index():
    assert set(PAGES) <= set(re.findall(r"\((\S+\.md)\)", read_page("docs/reference/README.md")))


def folders() -> set[str]:
    """Top folders of the repository, and the packages within them."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, encoding="utf-8"
    )
    if listed.returncode != 0:
        pytest.skip("not a git clone")
    paths = [line.split("/") for line in listed.stdout.splitlines()]
    return {f"{path[0]}/" for path in paths if len(path) > 1} | {
        f"{path[0]}/{path[1]}/" for path in paths if len(path) == 3 and path[-1] == "__init__.py"
    }


def test_the_map_of_the_house_has_every_folder():
    shown = read_page("CONTRIBUTING.md").split("## The house")[1].split("\n## ")[0]
    missing = [folder for folder in sorted(folders()) if f"`{folder}`" not in shown]
    assert not missing, f"CONTRIBUTING.md, 'The house', lacks {', '.join(missing)}"


def test_the_map_of_the_house_has_nothing_else():
    shown = read_page("CONTRIBUTING.md").split("## The house")[1].split("\n## ")[0]
    gone = [name for name in re.findall(r"`([\w./]+/)`", shown) if not (ROOT / name).is_dir()]
    assert not gone
