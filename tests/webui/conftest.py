"""A real WebUI and a real Forge for all the tests here, and the small checkpoints they load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.comfyui.checkpoints import small_styles
from tests.hosts import find_host, why_skipped
from tests.webui.checkpoints import write_checkpoint
from tests.webui.server import Painted, WebUI

STYLES = ("ink", "anime", "photo")


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ "merged" with the styles ink, anime and photo, and "plain": the same without styles."""
    folder = tmp_path_factory.mktemp("checkpoints")
    webui = find_host("webui")
    sd1_yaml = webui.path / "configs" / "v1-inference.yaml" if webui else None
    write_checkpoint(folder / "merged.safetensors", small_styles(STYLES), sd1_yaml)
    write_checkpoint(folder / "plain.safetensors", None, sd1_yaml)
    return folder


@pytest.fixture(scope="session", params=["webui", "forge"])
def running(
    request: pytest.FixtureRequest, checkpoints: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebUI]:
    host = find_host(request.param)
    if host is None:
        pytest.skip(why_skipped(request.param))
    server = WebUI(host, request.param, tmp_path_factory.mktemp(request.param), checkpoints)
    yield server
    server.stop()


@pytest.fixture
def webui(running: WebUI) -> WebUI:
    """The server, with "merged" chosen."""
    running.choose("merged")
    return running


@pytest.fixture(scope="session")
def unstyled(running: WebUI) -> Painted:
    """What "plain" paints, which is what "merged" paints without a style."""
    running.choose("plain")
    return running.paint()
