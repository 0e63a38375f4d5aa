"""A WebUI in which something moved that we need: it says so once, and paints without us."""

from __future__ import annotations

from pathlib import Path

from tests.hosts import find_host
from tests.webui.server import WebUI

MOVE = """
from modules import images

images.draw_annotations_of_grid = images.draw_grid_annotations
del images.draw_grid_annotations
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
