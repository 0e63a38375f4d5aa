"""Every YAML, JSON and Python example of every page is read by what it is for."""

from __future__ import annotations

import ast
import json
import re

import pytest

from sd_webui_dmm.api import read_request
from sd_webui_dmm.request import Request
from tests.docs.house import STYLES, furnish
from tests.docs.pages import PAGES, blocks
from trainer.config_file import load_config

NEEDS_A_HUB = "from_single_file("  # diffusers fetches the configuration of what it loads

MASK = (  # white, 8 × 8 pixels
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAIAQAAAADsdIMmAAAADUlEQVR4nGP4z8SADAEPcQEOqa2awA"
    "AAAABJRU5ErkJggg=="
)


def examples(language: str) -> list:
    return [
        pytest.param(page, block.text, id=f"{page}-{number}")
        for page in PAGES
        if not page.startswith("docs/reference/")  # which is written from the code
        for number, block in enumerate(blocks(page, language))
    ]


@pytest.mark.parametrize(("page", "text"), examples("yaml"))
def test_yaml(page, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    furnish(tmp_path, page)
    name = re.match(r"# (\S+\.yaml)", text)
    assert name, f"{page}: say on top how the file is called, as in '# mine.yaml'"
    load_config(tmp_path / name[1])


@pytest.mark.parametrize(("page", "text"), examples("json"))
def test_json(page, text):
    said = json.loads(text.replace("iVBORw0KGgo…", MASK))
    if isinstance(said, list):  # the names of a file's styles
        assert all(isinstance(name, str) for name in said)
        return
    [values] = said["alwayson_scripts"]["dmm styles"]["args"]
    assert read_request(values, STYLES, Request()) != Request()


@pytest.mark.parametrize(("page", "text"), examples("python"))
def test_python(page, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    furnish(tmp_path, page)
    if NEEDS_A_HUB in text:
        imports = [node for node in ast.parse(text).body if isinstance(node, ast.ImportFrom)]
        text = "\n".join(map(ast.unparse, imports))
    exec(compile(text, page, "exec"), {})
