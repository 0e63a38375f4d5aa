"""SDXL: its styles and regions, and that they leave no trace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.comfyui.checkpoints import small_styles
from tests.hosts import find_host
from tests.webui.checkpoints import write_sdxl_checkpoint
from tests.webui.server import WebUI
from tests.webui.test_regions import WIDE, difference

SDXL_YAML = "repositories/generative-models/configs/inference/sd_xl_base.yaml"
OIL, CLAY = {"styles": {"oil": 1}}, {"styles": {"clay": 1}}


@pytest.fixture(scope="module")
def models(running: WebUI, kind: str, checkpoints: Path) -> Iterator[None]:
    """ "xl" with the styles oil and clay, and "xl-plain": the same without styles."""
    yaml = find_host(kind).path / SDXL_YAML if kind == "webui" else None
    styles = {"xl": small_styles(("oil", "clay"), "sdxl"), "xl-plain": None}
    for name, of_file in styles.items():
        write_sdxl_checkpoint(checkpoints / f"{name}.safetensors", of_file, yaml)
    running.post("/sdapi/v1/refresh-checkpoints", {})
    yield
    running.choose("merged")
    for file in checkpoints.glob("xl*"):
        file.unlink()
    running.post("/sdapi/v1/refresh-checkpoints", {})


@pytest.fixture
def sdxl(running: WebUI, models: None) -> WebUI:
    """The server, with "xl" chosen."""
    running.choose("xl")
    return running


def test_styles_change_the_picture_and_leave_no_trace(sdxl: WebUI) -> None:
    plain = sdxl.paint()
    pictures = [sdxl.paint(dmm).pictures.tobytes() for dmm in (OIL, CLAY, OIL)]
    assert len({plain.pictures.tobytes(), *pictures}) == 3
    assert pictures[2] == pictures[0]
    assert sdxl.paint() == plain
    sdxl.choose("xl-plain")
    assert sdxl.paint() == plain


def test_each_region_is_painted_in_its_style(sdxl: WebUI) -> None:
    oil, clay = (sdxl.paint(dmm, **WIDE) for dmm in (OIL, CLAY))
    both = sdxl.paint({"columns": [1, 1], "regions": ["oil", "clay"]}, **WIDE)
    left, right = np.s_[:, :64], np.s_[:, 64:]
    assert difference(both, oil)[left].mean() < difference(both, clay)[left].mean()
    assert difference(both, clay)[right].mean() < difference(both, oil)[right].mean()
    one = {"columns": [1, 1], "regions": ["oil", "oil"]}
    assert sdxl.paint(one, **WIDE) == oil


def test_checkpoints_of_both_families_take_turns(sdxl: WebUI) -> None:
    oil = sdxl.paint(OIL)
    sdxl.choose("merged")
    ink = sdxl.paint({"styles": {"ink": 1}})
    sdxl.choose("xl")
    assert sdxl.paint(OIL) == oil
    sdxl.choose("merged")
    assert sdxl.paint({"styles": {"ink": 1}}) == ink
