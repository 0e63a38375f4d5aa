"""The section "DMM styles" of the settings page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.webui.server import WebUI

DEFAULTS = {"dmm_strength": 1.0, "dmm_mixing": "before MLP"}


@pytest.fixture
def settings(webui: WebUI) -> Iterator[None]:
    webui.post("/sdapi/v1/options", {"dmm_strength": 0.5, "dmm_mixing": "after MLP"})
    yield
    webui.post("/sdapi/v1/options", DEFAULTS)


@pytest.mark.usefixtures("settings")
def test_strength_and_mixing_hold_where_nothing_else_is_said(webui: WebUI) -> None:
    mix = "ink:0.5, photo:0.5"
    weaker = webui.paint({"styles": mix, "strength": 0.5, "mixing": "after MLP"})
    painted = webui.paint({"styles": mix})
    assert painted == weaker
    assert webui.paint(prompt=f"a cat <dmm:{mix}>") == weaker
    assert "DMM strength: 0.5, DMM mixing: after MLP" in painted.infotexts[0]
    other = webui.paint({"styles": mix, "strength": 1, "mixing": "before MLP"})
    webui.post("/sdapi/v1/options", DEFAULTS)
    assert webui.paint({"styles": mix}) == other
    assert other != weaker
