"""DMM Style Mix and DMM Style in the real front end."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dmm.mixes import parse_mix
from dmm.tensors import save_tensors
from tests.comfyui.front_end.browser import SLIDERS, FrontEnd, example
from tests.comfyui.front_end.conftest import NAMES
from tests.comfyui.test_routes import write_styles

MIX, LOADER, STYLE = "DMM_StyleMix", "DMM_CheckpointLoader", "DMM_Style"


@pytest.fixture
def mixing(front_end: FrontEnd, styles_file: Path) -> FrontEnd:
    """The example of mixing, with the four styles' file chosen and nothing said of styles yet."""
    workflow = example("Mix styles", DMM_CheckpointLoader=styles_file.name, DMM_StyleMix="")
    front_end.open(workflow)
    return front_end


def test_choosing_a_file_brings_its_styles(mixing: FrontEnd, other_file: Path):
    node, loader = mixing.node(MIX), mixing.node(LOADER)
    assert list(mixing.sliders(node)) == list(NAMES)
    mixing.choose(loader, "ckpt_name", other_file.name)
    assert len(mixing.sliders(node)) == 3
    assert mixing.note(node) == "Not in this file: ink wash. Choose above."


def test_a_file_that_is_named_first_has_its_first_style_on(mixing: FrontEnd):
    node = mixing.node(MIX)
    assert mixing.value(node, "mix") == "ink wash:1"
    assert mixing.note(node) == ""


def test_moving_sliders_writes_the_mix(mixing: FrontEnd):
    node = mixing.node(MIX)
    mixing.drag(node, "水墨", 0.6)
    mixing.drag(node, "ink wash", 0.2)
    said = parse_mix(mixing.value(node, "mix"))
    assert list(said) == ["ink wash", "水墨"]
    assert said == pytest.approx({"ink wash": 0.2, "水墨": 0.6}, abs=0.02)
    assert mixing.sliders(node) == {"anime": 0, "low poly": 0} | said
    mixing.drag(node, "ink wash", 0)
    mixing.drag(node, "水墨", 0)
    assert list(parse_mix(mixing.value(node, "mix")).values()) == [0]


def test_the_mix_moves_the_sliders(mixing: FrontEnd):
    node = mixing.node(MIX)
    mixing.click(node, "mix")
    mixing.page.keyboard.press("Control+A")
    mixing.page.keyboard.type("ANIME:0.25, low poly, nobody:2")
    mixing.page.keyboard.press("Enter")
    mixing.settle()
    said = {"ink wash": 0, "anime": 0.25, "水墨": 0, "low poly": 1}
    assert mixing.sliders(node) == said
    assert "nobody" in mixing.note(node)
    mixing.drag(node, "ink wash", 1)
    assert mixing.value(node, "mix") == "ink wash:1, anime:0.25, low poly:1"
    assert mixing.note(node) == ""


def test_free_weights_may_be_negative(mixing: FrontEnd):
    node = mixing.node(MIX)
    mixing.click(node, "normalise")
    mixing.drag(node, "anime", 0)
    mixing.drag(node, "水墨", 1)
    assert mixing.value(node, "mix") == "ink wash:1, anime:-1, 水墨:2"


def test_only_the_mix_is_queued_and_saved(mixing: FrontEnd):
    node = mixing.node(MIX)
    inputs = mixing.prompt()[str(node)]["inputs"]
    assert set(inputs) == {"styles", "mix", "normalise", "strength", "mixing"}
    saved = mixing.page.evaluate("app.graph.serialize().nodes")
    values = next(entry["widgets_values"] for entry in saved if str(entry["id"]) == str(node))
    assert values == ["ink wash:1", True, 1, "before MLP"]


def test_a_mix_from_another_node_switches_the_sliders_off(mixing: FrontEnd):
    node = mixing.node(MIX)
    mixing.page.evaluate(
        """(nodeId) => {
            const mix = app.graph.getNodeById(nodeId);
            const text = LiteGraph.createNode("PrimitiveString");
            app.graph.add(text);
            text.connect(0, mix, mix.inputs.findIndex((input) => input.name === "mix"));
        }""",
        node,
    )
    mixing.settle()
    before = mixing.value(node, "mix")
    mixing.drag(node, "anime", 0.9)
    assert mixing.value(node, "mix") == before


WAYS = ["reroute", "bypass", "primitive", "subgraph", "loader in a subgraph", "both", "promoted"]


@pytest.mark.parametrize("way", WAYS)
def test_the_link_is_followed(mixing: FrontEnd, way: str):
    node, loader = mixing.node(MIX), mixing.node(LOADER)
    mixing.page.evaluate(
        """([way, mixId, loaderId]) => {
            const [mix, loader] = [mixId, loaderId].map((id) => app.graph.getNodeById(id));
            mix.disconnectInput(0);
            const file = loader.inputs.findIndex((input) => input.name === "ckpt_name");
            if (way === "reroute") {
                const reroute = LiteGraph.createNode("Reroute");
                app.graph.add(reroute);
                loader.connect(3, reroute, 0);
                reroute.connect(0, mix, 0);
            } else if (way === "primitive") {
                const primitive = LiteGraph.createNode("PrimitiveNode");
                app.graph.add(primitive);
                primitive.connect(0, loader, file);
                loader.widgets[0].value = "something else";
                loader.connect(3, mix, 0);
            } else if (way === "bypass") {
                const through = LiteGraph.createNode("DMM_Style");
                through.addOutput("through", "DMM_STYLES");
                app.graph.add(through);
                through.mode = 4;
                loader.connect(3, through, 0);
                through.connect(1, mix, 0);
            } else {
                loader.connect(3, mix, 0);
                const held = way !== "subgraph" && app.graph.convertToSubgraph(new Set([loader]));
                if (way === "promoted") {
                    const [inner] = held.subgraph.nodes;
                    held.subgraph.addInput("file", "COMBO").connect(inner.inputs[file], inner);
                    inner.widgets[0].value = "something else";
                } else if (way !== "loader in a subgraph") {
                    app.graph.convertToSubgraph(new Set([mix]));
                }
            }
        }""",
        [way, node, loader],
    )
    mixing.page.mouse.click(5, 500)  # the front end looks for changes when the mouse is released
    mixing.settle()
    labels = mixing.page.evaluate(
        """() => [app.graph, ...app.graph.subgraphs.values()].flatMap((graph) => graph.nodes)
            .find((node) => node.type === "DMM_StyleMix").widgets
            .filter((widget) => widget.type === "slider").map((widget) => widget.label)"""
    )
    assert labels == list(NAMES)


def test_the_styles_of_a_style_file(mixing: FrontEnd):
    write_styles(mixing.comfyui.base / "models" / "dmm_styles" / "small.safetensors", ["clay"])
    node = mixing.node(MIX)
    mixing.page.evaluate("app.refreshComboInNodes()")
    mixing.page.evaluate(
        """(nodeId) => {
            const loader = LiteGraph.createNode("DMM_StylesLoader");
            loader.widgets[0].value = "small.safetensors";
            app.graph.add(loader);
            loader.connect(0, app.graph.getNodeById(nodeId), 0);
        }""",
        node,
    )
    mixing.settle()
    assert list(mixing.sliders(node)) == ["clay"]


def test_a_batch_lists_the_names(front_end: FrontEnd, styles_file: Path):
    front_end.open(example("Style grid", DMM_CheckpointLoader=styles_file.name))
    note = front_end.note(front_end.node("DMM_StyleBatch"))
    assert note == "In this file: ink wash, anime, 水墨, low poly."


def test_what_is_missing_is_said(mixing: FrontEnd):
    node, loader = mixing.node(MIX), mixing.node(LOADER)
    save_tensors(mixing.comfyui.checkpoints / "bare.safetensors", {"a": torch.zeros(1)}, {})
    mixing.page.evaluate("app.refreshComboInNodes()")
    mixing.settle()
    mixing.choose(loader, "ckpt_name", "bare.safetensors")
    assert "bare.safetensors has no style prompts" in mixing.note(node)
    assert mixing.sliders(node) == {}
    mixing.page.evaluate("(id) => app.graph.getNodeById(id).disconnectInput(0)", node)
    mixing.settle()
    assert mixing.note(node).startswith("Connect Load DMM Checkpoint")


def test_a_server_that_was_away_is_asked_again(mixing: FrontEnd):
    node, page = mixing.node(MIX), mixing.page
    page.route("**/dmm/styles?*", lambda route: route.abort())
    page.evaluate("app.refreshComboInNodes()")
    mixing.settle()
    assert mixing.sliders(node) == {}
    assert "TypeError" in mixing.note(node)
    page.unroute("**/dmm/styles?*")
    page.wait_for_function(f"Object.keys(({SLIDERS})({node})).length")
    assert list(mixing.sliders(node)) == list(NAMES)
    mixing.problems.clear()  # the browser tells of every request that fails


def test_names_from_strangers_are_text(front_end: FrontEnd, other_file: Path):
    front_end.open(example("Pick a style", DMM_CheckpointLoader=other_file.name))
    node = front_end.node(STYLE)
    html = "<img src=x onerror=window.harmed=1>"
    assert front_end.value(node, "style") == html
    front_end.choose(node, "style", "a:0.5")
    assert front_end.value(node, "style") == "a:0.5"
    front_end.choose(node, "style", html)
    assert front_end.value(node, "style") == html
    assert front_end.page.evaluate("window.harmed") is None
    assert front_end.prompt()[str(node)]["inputs"]["style"] == html


def test_a_style_that_is_called_like_an_input(front_end: FrontEnd, other_file: Path):
    workflow = example(
        "Mix styles", DMM_CheckpointLoader=other_file.name, DMM_StyleMix="mix:1, a:0.5:1"
    )
    front_end.open(workflow)
    node = front_end.node(MIX)
    front_end.drag(node, "mix", 0)
    assert front_end.value(node, "mix") == "a:0.5:1"


def test_the_picture_comes(front_end: FrontEnd, whole_file: Path):
    workflow = example(
        "Mix styles", DMM_CheckpointLoader=whole_file.name, DMM_StyleMix="ink:1, anime:0.4"
    )
    front_end.open(workflow)
    front_end.page.evaluate(
        """() => {
            const small = { width: 64, height: 64, steps: 1, control_after_generate: "fixed" };
            for (const widget of app.graph.nodes.flatMap((node) => node.widgets ?? []))
                if (widget.name in small) widget.value = small[widget.name];
        }"""
    )
    node = front_end.node(MIX)
    shown = "app.graph.nodes.find((one) => one.type === 'SaveImage').imgs?.[0]?.src"
    seen = []
    for share in (0.0, 1.0):
        front_end.drag(node, "photo", share)
        front_end.page.get_by_role("button", name="Run", exact=True).first.click()
        front_end.page.wait_for_function(f"({shown}) && !{seen}.includes({shown})")
        seen.append(front_end.page.evaluate(shown))
    first, second = (front_end.page.request.get(address).body() for address in seen)
    assert first.startswith(b"\x89PNG")
    assert first != second
    assert b"photo:1" not in first
    assert b"photo:1" in second
