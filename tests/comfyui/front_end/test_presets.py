"""Presets in the front end: saved under a name, recalled in another workflow, deleted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.comfyui.front_end.browser import FrontEnd, example

NAME = "<b onclick='window.harmed=1'>dusk</b>"


@pytest.fixture
def presets_file(front_end: FrontEnd) -> Path:
    path = front_end.comfyui.base / "user" / "default" / "dmm_presets.json"
    path.unlink(missing_ok=True)
    return path


def open_mix(front_end: FrontEnd, file: Path, mix: str) -> int:
    workflow = example("Mix styles", DMM_CheckpointLoader=file.name, DMM_StyleMix=mix)
    front_end.open(workflow)
    return front_end.node("DMM_StyleMix")


def save_preset(front_end: FrontEnd, node: int, name: str) -> None:
    front_end.choose(node, "presets", "Save this mix…")
    front_end.page.get_by_role("dialog").get_by_role("textbox").fill(name)
    front_end.page.keyboard.press("Enter")
    front_end.settle()


def test_a_preset_goes_from_workflow_to_workflow(
    front_end: FrontEnd, styles_file: Path, presets_file: Path
):
    node = open_mix(front_end, styles_file, "ink wash:0.7, 水墨:1.5")
    front_end.click(node, "normalise")
    save_preset(front_end, node, NAME)
    preset = {
        "mix": "ink wash:0.7, 水墨:1.5",
        "normalise": False,
        "strength": 1,
        "mixing": "before MLP",
    }
    assert json.loads(presets_file.read_text(encoding="utf-8")) == {NAME: preset}

    node = open_mix(front_end, styles_file, "anime:1")
    front_end.choose(node, "presets", NAME)
    assert front_end.value(node, "mix") == preset["mix"]
    assert front_end.value(node, "normalise") is False
    assert front_end.sliders(node)["水墨"] == 1.5
    assert front_end.page.evaluate("window.harmed") is None

    front_end.click(node, "presets")
    front_end.page.get_by_text("Delete a preset").click()
    front_end.take(NAME)
    dialog = front_end.page.get_by_role("dialog")
    assert NAME in dialog.inner_text()
    dialog.get_by_role("button", name="Confirm").click()
    front_end.settle()
    assert json.loads(presets_file.read_text(encoding="utf-8")) == {}


def test_replacing_a_preset_is_asked_for(
    front_end: FrontEnd, styles_file: Path, presets_file: Path
):
    node = open_mix(front_end, styles_file, "anime:1")
    save_preset(front_end, node, "one")
    node = open_mix(front_end, styles_file, "水墨:1")
    save_preset(front_end, node, "one")
    assert json.loads(presets_file.read_text(encoding="utf-8"))["one"]["mix"] == "anime:1"
    front_end.page.get_by_role("dialog").get_by_role("button", name="Confirm").click()
    front_end.settle()
    assert json.loads(presets_file.read_text(encoding="utf-8"))["one"]["mix"] == "水墨:1"


def test_a_refusal_is_shown(front_end: FrontEnd, styles_file: Path, presets_file: Path):
    node = open_mix(front_end, styles_file, "anime:1")
    save_preset(front_end, node, "x" * 101)
    notice = front_end.page.locator(".p-toast-message").last
    assert "A preset needs a name of 1 to 100 characters." in notice.inner_text()
    assert not presets_file.exists()
    (refused,) = front_end.problems  # Chromium itself notes the refused request
    assert "400" in refused
    front_end.problems.clear()
