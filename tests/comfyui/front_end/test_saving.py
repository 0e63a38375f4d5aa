"""What was set survives saving, reloading, copying and undoing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.comfyui.front_end.browser import FrontEnd, example
from tests.comfyui.front_end.conftest import NAMES

SAID = "ink wash:0.25, 水墨:0.5"
SLIDERS = dict(zip(NAMES, (0.25, 0, 0.5, 0), strict=True))


@pytest.fixture
def mix(front_end: FrontEnd, styles_file: Path) -> int:
    """The node of the example of mixing, set to `SAID`."""
    workflow = example("Mix styles", DMM_CheckpointLoader=styles_file.name, DMM_StyleMix=SAID)
    front_end.open(workflow)
    return front_end.node("DMM_StyleMix")


def test_a_saved_workflow_opens_with_the_same_values(front_end: FrontEnd, mix: int):
    front_end.drag(mix, "anime", 1.0)
    front_end.page.keyboard.press("Control+s")
    front_end.page.get_by_role("dialog").get_by_role("textbox").fill("my mix")
    front_end.page.keyboard.press("Enter")
    front_end.settle()
    path = front_end.comfyui.base / "user" / "default" / "workflows" / "my mix.json"
    saved = json.loads(path.read_text(encoding="utf-8"))
    front_end.reload()
    for workflow in (None, saved):  # what the front end opens by itself, and what it saved
        if workflow is not None:
            front_end.open(workflow)
        front_end.page.wait_for_function(f"app.graph.getNodeById({mix})?.widgets.length > 6")
        assert front_end.value(mix, "mix") == "ink wash:0.25, anime:1, 水墨:0.5"
        assert front_end.sliders(mix) == SLIDERS | {"anime": 1}


def test_a_picture_carries_the_workflow(front_end: FrontEnd, mix: int):
    """What goes into a picture's metadata holds the mix, and no slider."""
    saved = front_end.page.evaluate("app.graphToPrompt().then(({ workflow }) => workflow)")
    (node,) = (node for node in saved["nodes"] if str(node["id"]) == str(mix))
    assert node["widgets_values"] == [SAID, True, 1, "before MLP"]
    assert [slot["name"] for slot in node["inputs"]] == ["styles"]


def test_copies_are_independent(front_end: FrontEnd, mix: int):
    front_end.page.evaluate(
        """(id) => {
            app.canvas.selectItems([app.graph.getNodeById(id)]);
            app.canvas.copyToClipboard();
            app.canvas.pasteFromClipboard({ connectInputs: true });
        }""",
        mix,
    )
    front_end.page.mouse.click(5, 500)
    front_end.settle()
    ids = front_end.page.evaluate(
        "app.graph.nodes.filter((one) => one.type === 'DMM_StyleMix').map((one) => one.id)"
    )
    (copy,) = set(ids) - {mix}
    assert front_end.value(copy, "mix") == SAID
    assert front_end.sliders(copy) == SLIDERS
    front_end.page.evaluate("(id) => { app.graph.getNodeById(id).pos = [0, 500]; }", copy)
    front_end.drag(mix, "low poly", 1.0)
    assert front_end.sliders(mix)["low poly"] == 1
    assert front_end.sliders(copy) == SLIDERS


def test_undoing_takes_a_slider_back(front_end: FrontEnd, mix: int):
    front_end.drag(mix, "low poly", 1.0)
    front_end.page.keyboard.press("Control+z")
    front_end.page.wait_for_function(
        "([id, said]) => app.graph.getNodeById(id)?.widgets[0].value === said", arg=[mix, SAID]
    )
    front_end.settle()
    assert front_end.sliders(mix) == SLIDERS
    front_end.page.keyboard.press("Control+y")
    front_end.page.wait_for_function(
        "([id, said]) => app.graph.getNodeById(id)?.widgets[0].value !== said", arg=[mix, SAID]
    )
    front_end.settle()
    assert front_end.sliders(mix) == SLIDERS | {"low poly": 1}
