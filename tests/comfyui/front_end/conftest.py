"""A headless Chromium with ComfyUI's front end, for all the tests here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.comfyui.front_end.browser import FrontEnd
from tests.comfyui.server import ComfyUI
from tests.comfyui.test_routes import write_styles

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("ink wash", "anime", "水墨", "low poly")
SETTINGS = {"Comfy.TutorialCompleted": True, "Comfy.Minimap.Visible": False}


@pytest.fixture(scope="module")
def opened(comfyui: ComfyUI, chromium: Browser) -> Iterator[FrontEnd]:
    comfyui.post("/settings", SETTINGS)
    context = chromium.new_context(viewport={"width": 1500, "height": 900}, locale="en-GB")
    yield FrontEnd(context.new_page(), comfyui)
    context.close()


@pytest.fixture
def front_end(opened: FrontEnd) -> Iterator[FrontEnd]:
    """The front end, seen by all tests of a module; none of our files may complain in it."""
    opened.problems.clear()
    yield opened
    assert opened.problems == []


@pytest.fixture(scope="session")
def styles_file(comfyui: ComfyUI) -> Path:
    """A small file with the styles `NAMES`; enough for the front end, which runs nothing."""
    return write_styles(comfyui.checkpoints / "four styles.safetensors", NAMES)


@pytest.fixture(scope="session")
def other_file(comfyui: ComfyUI) -> Path:
    """Styles called as nobody should: like HTML, like an input, like a weight."""
    names = ["<img src=x onerror=window.harmed=1>", "mix", "a:0.5"]
    return write_styles(comfyui.checkpoints / "other styles.safetensors", names)
