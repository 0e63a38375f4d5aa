"""Every error that the page quotes is one that the code can say, word for word."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, read_page

SOURCES = ("install.py", "dmm", "trainer", "comfyui_dmm", "sd_webui_dmm")
GAP = "…"


def quoted() -> list[str]:
    """The headings of the page that are a message; it may hold code of its own."""
    headings = re.findall(r"^### (.+)$", read_page("docs/troubleshooting.md"), re.MULTILINE)
    return [heading.strip("` ") for heading in headings if heading.startswith("`")]


@cache
def messages() -> list[str]:
    """Every text in the code, its formatted parts as gaps."""
    files = [
        file
        for source in SOURCES
        for path in [ROOT / source]
        for file in ([path] if path.is_file() else sorted(path.rglob("*.py")))
    ]
    return [text for file in files for text in texts(file)]


def texts(file: Path) -> list[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    inner = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else GAP for part in node.values]
            found.append("".join(parts))
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner
        ):
            found.append(node.value)
    return found


@pytest.mark.parametrize("message", quoted())
def test_the_code_says_so(message):
    plain = message.strip(f"{GAP} ")
    assert any(plain in text for text in messages()), f"nothing in the code says {message!r}"


def test_a_message_that_nobody_says_would_be_found():
    assert not any("is a purple elephant" in text for text in messages())
    assert len(quoted()) > 30
