"""After "Reload UI" the next picture is what it was.

On a server of its own, which no browser has seen: gradio 3.41 waits for ever for a page that was
closed while an answer was on its way, and the host with it, with and without us.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts import find_host
from tests.server import CLONE_NAME, START_SECONDS
from tests.webui.conftest import Untouched
from tests.webui.server import Refused, WebUI, encoded

# It is loaded after us, puts its function around ours, once, and leaves it there.
OTHER = """
from modules import images

if not hasattr(images, "split_grid_before"):
    images.split_grid_before = images.split_grid

    def split_grid(*args, **options):
        print("another extension splits the grid")
        return images.split_grid_before(*args, **options)

    images.split_grid = split_grid
"""
INK = {"styles": {"ink": 1}}
REGIONS = {"columns": [1, 1], "regions": ["ink", "photo"]}


@pytest.fixture(scope="module")
def running(
    kind: str, checkpoints: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebUI]:
    base = tmp_path_factory.mktemp("reloaded")
    scripts = base / "extensions" / "z-other" / "scripts"
    scripts.mkdir(parents=True)
    (scripts / "other.py").write_text(OTHER, encoding="utf-8")
    server = WebUI(find_host(kind), kind, base, checkpoints)
    yield server
    server.stop()


@pytest.mark.parametrize("dmm", [INK, REGIONS], ids=["a style", "regions"])
def test_reload_ui(webui: WebUI, untouched: Untouched, dmm: dict) -> None:
    before = webui.paint(dmm)
    reload_ui(webui)
    assert webui.paint(dmm) == before
    assert webui.get("/test/changed-modules") == untouched.changed_modules
    assert webui.paint() == untouched.merged


def test_what_another_extension_put_around_ours_stays(webui: WebUI) -> None:
    picture = encoded(webui.paint(INK, width=128).pictures[0])
    source = {"way": "img2img", "init_images": [picture], "denoising_strength": 0.8}
    source |= {"script_name": "sd upscale", "script_args": ["", 0, "None", 1.0]}
    webui.paint(**source)  # the first, which in Forge differs a little from others
    before = webui.paint(REGIONS, **source)
    for _ in range(2):
        reload_ui(webui)
        splits = webui.log().count("another extension splits the grid")
        assert webui.paint(REGIONS, **source) == before
        assert webui.log().count("another extension splits the grid") == splits + 1


def test_disabling_the_extension(webui: WebUI, untouched: Untouched) -> None:
    painted = webui.paint(INK)
    webui.post("/sdapi/v1/options", {"disabled_extensions": [CLONE_NAME]})
    reload_ui(webui)
    assert webui.paint() == untouched.merged
    with pytest.raises(Refused):
        webui.paint(INK)
    webui.post("/sdapi/v1/options", {"disabled_extensions": []})
    reload_ui(webui)
    assert webui.paint(INK) == painted


def reload_ui(webui: WebUI) -> None:
    """As the button "Reload UI" does: scripts are loaded anew, the checkpoint stays."""
    starts = webui.log().count("Startup time:")
    webui.post("/test/reload", {})
    deadline = time.monotonic() + START_SECONDS
    while webui.log().count("Startup time:") == starts or not webui.answers():
        assert time.monotonic() < deadline, webui.log()[-4000:]
        time.sleep(0.2)
