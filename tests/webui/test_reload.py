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
from tests.webui.server import Refused, WebUI

INK = {"styles": {"ink": 1}}
REGIONS = {"columns": [1, 1], "regions": ["ink", "photo"]}


@pytest.fixture(scope="module")
def running(
    kind: str, checkpoints: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebUI]:
    server = WebUI(find_host(kind), kind, tmp_path_factory.mktemp("reloaded"), checkpoints)
    yield server
    server.stop()


@pytest.mark.parametrize("dmm", [INK, REGIONS], ids=["a style", "regions"])
def test_reload_ui(webui: WebUI, untouched: Untouched, dmm: dict) -> None:
    before = webui.paint(dmm)
    reload_ui(webui)
    assert webui.paint(dmm) == before
    assert webui.get("/test/changed-modules") == untouched.changed_modules
    assert webui.paint() == untouched.merged


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
