"""Every node's names, tooltips and help page, in English and in Chinese."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.comfyui.front_end.browser import NOTE, FrontEnd
from tests.comfyui.server import ComfyUI
from tests.server import ROOT

LANGUAGES = ("en", "zh")


def words(language: str, file: str = "nodeDefs.json") -> dict[str, Any]:
    return json.loads((ROOT / "locales" / language / file).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def nodes(comfyui: ComfyUI) -> dict[str, Any]:
    return {name: node for name, node in comfyui.nodes.items() if name.startswith("DMM")}


def spoken(node: dict[str, Any]) -> dict[str, Any]:
    """A node's own words, laid out as a locale has them."""
    inputs = {**node["input"].get("required", {}), **node["input"].get("optional", {})}
    outputs = zip(node["output_name"], node["output_tooltips"], strict=True)
    return {
        "display_name": node["display_name"],
        "description": node["description"],
        "inputs": {
            name: {"name": name, "tooltip": options["tooltip"]}
            for name, (_, options) in inputs.items()
        },
        "outputs": {
            str(number): {"name": name, "tooltip": tooltip}
            for number, (name, tooltip) in enumerate(outputs)
        },
    }


def outline(value: Any) -> Any:
    return {key: outline(part) for key, part in value.items()} if isinstance(value, dict) else None


def test_the_english_locale_says_what_the_nodes_say(nodes: dict[str, Any]):
    assert words("en") == {name: spoken(node) for name, node in nodes.items()}


def test_the_chinese_locale_says_everything():
    for file in ("nodeDefs.json", "main.json"):
        assert outline(words("zh", file)) == outline(words("en", file))


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_host_serves_the_words(comfyui: ComfyUI, language: str):
    served = json.loads(comfyui.get("/i18n"))[language]
    assert served["nodeDefs"] | words(language) == served["nodeDefs"]
    assert served["dmm"] == words(language, "main.json")["dmm"]


def test_every_node_has_a_help_page(nodes: dict[str, Any]):
    pages = ROOT / "comfyui_dmm" / "web" / "docs"
    for name, node in nodes.items():
        english = (pages / f"{name}.md").read_text(encoding="utf-8")
        chinese = (pages / name / "zh.md").read_text(encoding="utf-8")
        for page, language in ((english, "en"), (chinese, "zh")):
            assert page.startswith(f"# {words(language)[name]['display_name']}\n")
        # A page names inputs in bold, in Chinese with the API's name behind; each is one there is.
        known = {*spoken(node)["inputs"], *node["output_name"]}
        named = [*re.findall(r"\*\*([a-z_]+)\*\*", english)]
        named += re.findall(r"\*\* \(`([a-z_]+)`\)", chinese)
        assert set(named) <= known
    assert {path.stem for path in pages.glob("*.md")} == set(nodes)


def test_the_front_end_speaks_chinese(front_end: FrontEnd):
    front_end.comfyui.post("/settings", {"Comfy.Locale": "zh"})
    front_end.reload()
    front_end.page.evaluate("app.graph.add(LiteGraph.createNode('DMM_StyleMix'))")
    front_end.page.mouse.click(5, 500)
    front_end.settle()
    node = front_end.node("DMM_StyleMix")
    shown = front_end.page.evaluate(
        "(id) => [app.graph.getNodeById(id)].map((one) => [one.title, one.widgets[0].label])[0]",
        node,
    )
    front_end.page.wait_for_function(f"({NOTE})({node})")
    said = front_end.note(node)
    front_end.comfyui.post("/settings", {"Comfy.Locale": "en"})
    front_end.reload()
    assert shown == ["DMM 风格混合", "混合"]
    assert said == words("zh", "main.json")["dmm"]["connectLoader"]
