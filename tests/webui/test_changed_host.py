"""A WebUI in which something moved that we need: it says so once, and paints without us."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hosts import find_host
from tests.webui.companions import CONTROLNET_PACK
from tests.webui.server import Refused, WebUI

MOVE = """
from modules import images

images.draw_annotations_of_grid = images.draw_grid_annotations
del images.draw_grid_annotations
"""

BREAK_CONTROLNET = """
from modules import script_callbacks, scripts

def break_it(*_):
    for data in scripts.scripts_data:
        for name in ("parse_remote_call", "get_enabled_units"):
            if hasattr(data.script_class, name):
                delattr(data.script_class, name)

script_callbacks.on_app_started(break_it)
"""


def test_it_names_what_moved_and_paints_on(kind: str, checkpoints: Path, tmp_path: Path) -> None:
    scripts = tmp_path / "base" / "extensions" / "0-newer-host" / "scripts"
    scripts.mkdir(parents=True)
    (scripts / "newer_host.py").write_text(MOVE, encoding="utf-8")
    webui = WebUI(find_host(kind), kind, tmp_path / "base", checkpoints)
    try:
        told = [line for line in webui.log().splitlines() if "DMM needs" in line]
        assert len(told) == 1
        assert "modules.images.draw_grid_annotations, which this WebUI has not" in told[0]
        assert webui.paint().pictures.any()
        scripts = webui.get("/sdapi/v1/scripts")
        assert not any("dmm style" in title for title in scripts["txt2img"])
    finally:
        webui.stop()


def test_a_controlnet_that_cannot_be_read_leaves_jobs_alone(
    kind: str, checkpoints: Path, tmp_path: Path
) -> None:
    scripts = tmp_path / "base" / "extensions" / "0-broken-controlnet" / "scripts"
    scripts.mkdir(parents=True)
    (scripts / "broken_controlnet.py").write_text(BREAK_CONTROLNET, encoding="utf-8")
    packs = [CONTROLNET_PACK] if kind == "webui" else []
    webui = WebUI(find_host(kind), kind, tmp_path / "base", checkpoints, packs)
    try:
        if packs and not webui.has_pack(CONTROLNET_PACK):
            pytest.skip(f"{CONTROLNET_PACK} is not in the host's folder of packs")
        plain, styled = webui.paint(), webui.paint({"styles": "ink"})
        assert plain.pictures.any() and styled != plain
        with pytest.raises(Refused, match="AttributeError"):
            webui.paint({"controls": ["canny"]})
        assert webui.paint() == plain
    finally:
        webui.stop()
