"""Load DMM ControlNet and Load DMM Adapter in the real front end: names from the chosen file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from dmm.layouts import CONTROLNET_PREFIX
from dmm.merged import Styles
from dmm.metadata import Style, styles_metadata
from dmm.style_prompts import StylePrompts
from dmm.tensors import save_tensors
from tests.comfyui.front_end.browser import FrontEnd

CONTROLS = ("canny", "depth", "人物姿态")


def small(names: Sequence[str]) -> Styles:
    return Styles(StylePrompts(len(names), 8), [Style(name) for name in names], "sd1")


def write_controls(path: Path, names: Sequence[str]) -> None:
    """A merged ControlNet's controls alone; enough for the front end, which runs nothing."""
    controls = small(names)
    tensors = controls.tensors(CONTROLNET_PREFIX)
    save_tensors(path, tensors, styles_metadata(controls.styles, {}), overwrite=True)


def add(front_end: FrontEnd, node_type: str, widget: str, value: str) -> int:
    front_end.page.evaluate("app.graph.clear()")
    front_end.page.evaluate("app.refreshComboInNodes()")
    front_end.page.evaluate(
        """([type, widget, value]) => {
            const node = LiteGraph.createNode(type);
            node.pos = [100, 100];
            app.graph.add(node);
            node.widgets.find((one) => one.name === widget).value = value;
        }""",
        [node_type, widget, value],
    )
    front_end.page.mouse.click(5, 500)  # the front end looks for changes when it is released
    front_end.settle()
    return front_end.node(node_type)


def test_the_controls_of_a_file_are_offered(front_end: FrontEnd):
    folder = front_end.comfyui.base / "models" / "controlnet"
    write_controls(folder / "three.safetensors", CONTROLS)
    write_controls(folder / "two.safetensors", ("lines", "depth"))
    node = add(front_end, "DMM_ControlNetLoader", "control_net_name", "three.safetensors")
    assert front_end.value(node, "control") == "canny"
    front_end.choose(node, "control", "人物姿态")
    prompt = front_end.prompt()[str(node)]["inputs"]
    assert prompt == {"control_net_name": "three.safetensors", "control": "人物姿态"}
    assert front_end.note(node) == ""
    front_end.choose(node, "control_net_name", "two.safetensors")
    assert front_end.note(node) == "Not in this file: 人物姿态. Choose above."
    front_end.choose(node, "control", "lines")
    assert front_end.note(node) == ""


def test_a_plain_controlnet_says_that_it_is_plain(front_end: FrontEnd):
    folder = front_end.comfyui.base / "models" / "controlnet"
    save_tensors(
        folder / "plain.safetensors",
        {f"{CONTROLNET_PREFIX}zero_convs.0.0.weight": torch.zeros(1)},
        {},
        overwrite=True,
    )
    node = add(front_end, "DMM_ControlNetLoader", "control_net_name", "plain.safetensors")
    assert "plain.safetensors has no style prompts" in front_end.note(node)


def test_the_styles_of_an_adapter_are_offered(front_end: FrontEnd):
    path = front_end.comfyui.base / "models" / "loras" / "pens.safetensors"
    styles = small(("chalk", "neon"))
    lora = {"lora_unet_conv_in.alpha": torch.tensor(1.0)}
    metadata = styles_metadata(styles.styles, {})
    save_tensors(path, styles.tensors() | lora, metadata, overwrite=True)
    loader = add(front_end, "DMM_AdapterLoader", "adapter_name", "pens.safetensors")
    front_end.page.evaluate(
        """(loaderId) => {
            const mix = LiteGraph.createNode("DMM_StyleMix");
            app.graph.add(mix);
            app.graph.getNodeById(loaderId).connect(1, mix, 0);
        }""",
        loader,
    )
    front_end.settle()
    assert list(front_end.sliders(front_end.node("DMM_StyleMix"))) == ["chalk", "neon"]
