"""A real WebUI, Forge and reForge for all the tests here, and the small checkpoints they load."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.comfyui.checkpoints import small_styles
from tests.hosts import find_host, why_skipped
from tests.webui.checkpoints import NARROW_DIM, write_checkpoint
from tests.webui.companions import CONTROLNET_PACK, TILED_DIFFUSION_PACK, write_companions
from tests.webui.server import Painted, WebUI

if TYPE_CHECKING:  # without playwright the tests in a browser are skipped, not broken
    from playwright.sync_api import Browser, Page

STYLES = ("ink", "anime", "photo")
HOST_STYLES = "name,prompt,negative_prompt\nmine,{prompt}<dmm:photo:1>,\n"
WILDCARDS = "stable-diffusion-webui-wildcards"


@pytest.fixture(scope="session", params=["webui", "forge", "reforge"])
def kind(request: pytest.FixtureRequest) -> str:
    if find_host(request.param) is None:
        pytest.skip(why_skipped(request.param))
    return request.param


@pytest.fixture(scope="session")
def checkpoints(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ "merged" with the styles ink, anime and photo, and "plain": the same without styles."""
    folder = tmp_path_factory.mktemp(f"checkpoints-{kind}")
    webui = find_host("webui")
    sd1_yaml = webui.path / "configs" / "v1-inference.yaml" if webui else None
    write_checkpoint(folder / "merged.safetensors", small_styles(STYLES), sd1_yaml)
    write_checkpoint(folder / "plain.safetensors", None, sd1_yaml)
    return folder


@pytest.fixture(scope="session")
def running(
    kind: str, checkpoints: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebUI]:
    base = tmp_path_factory.mktemp(kind)
    (base / "styles.csv").write_text(HOST_STYLES, encoding="utf-8")
    if kind != "webui":
        write_companions(base / "models", checkpoints / "merged.safetensors")
    server = WebUI(find_host(kind), kind, base, checkpoints, packs=[WILDCARDS])
    yield server
    server.stop()


@pytest.fixture
def webui(running: WebUI) -> WebUI:
    """The server, with "merged" chosen."""
    running.choose("merged")
    return running


@pytest.fixture
def page(running: WebUI, chromium: Browser) -> Iterator[Page]:
    """An empty page of a browser of its own."""
    context = chromium.new_context(viewport={"width": 1400, "height": 1300})
    yield context.new_page()
    context.close()


@pytest.fixture(scope="session")
def unstyled(running: WebUI) -> Painted:
    """What "plain" paints, which is what "merged" paints without a style."""
    running.choose("plain")
    return running.paint()


@dataclass
class Untouched:
    """A host without the extension."""

    merged: Painted
    plain: Painted
    changed_modules: list[str]


@pytest.fixture(scope="session")
def untouched(kind: str, checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Untouched:
    base = tmp_path_factory.mktemp("untouched")
    server = WebUI(find_host(kind), kind, base, checkpoints, ours=False)
    try:
        merged, modules = server.paint(), server.get("/test/changed-modules")
        server.choose("plain")
        return Untouched(merged, server.paint(), modules)
    finally:
        server.stop()


@pytest.fixture(scope="session")
def in_company(
    request: pytest.FixtureRequest, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebUI]:
    """A server with those whom styles meet: a Forge, which brings them, or a WebUI with packs."""
    if kind != "webui":
        yield request.getfixturevalue("running")
        return
    webui = find_host(kind)
    folder = tmp_path_factory.mktemp("narrow")
    styles = small_styles(STYLES, dim=NARROW_DIM)
    sd1_yaml = webui.path / "configs" / "v1-inference.yaml"
    merged = write_checkpoint(folder / "merged.safetensors", styles, sd1_yaml, "narrow")
    base = tmp_path_factory.mktemp("company")
    write_companions(base / "models", merged)
    server = WebUI(webui, kind, base, folder, [CONTROLNET_PACK, TILED_DIFFUSION_PACK])
    yield server
    server.stop()


@pytest.fixture
def company(in_company: WebUI) -> WebUI:
    """The server of `in_company`, with "merged" chosen."""
    in_company.choose("merged")
    return in_company
