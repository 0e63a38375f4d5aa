"""ComfyUI's real front end in a headless Chromium, with the words a test needs for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.comfyui.server import ComfyUI
from tests.server import ROOT

if TYPE_CHECKING:  # without playwright the tests are skipped, not broken
    from playwright.sync_api import ConsoleMessage, Page, Request

WORKFLOWS = ROOT / "example_workflows"
READY = "window.app?.extensionManager && app.graph && app.vueAppReady && !app.configuringGraph"

TIMEOUT_SECONDS = 120  # for machines that have much else to do
NEXT_FRAME = "new Promise((done) => requestAnimationFrame(() => setTimeout(done, 30)))"

FIND_WIDGET = """([nodeId, name]) => {
    const node = app.graph.getNodeById(nodeId);
    const widget = node.widgets.find((candidate) => candidate.name === name);
"""
WIDGET_VALUE = FIND_WIDGET + "return widget.value; }"
WIDGET_PLACE = (
    FIND_WIDGET
    + """
    const corner = app.canvas.canvas.getBoundingClientRect();
    const place = (x) => {
        const at = [node.pos[0] + x, node.pos[1] + widget.y];
        const point = app.canvas.ds.convertOffsetToCanvas(at);
        return [point[0] + corner.left, point[1] + corner.top + 10 * app.canvas.ds.scale];
    };
    return [place(15), place(node.size[0] - 15)];
}"""
)
SLIDERS = """(nodeId) => Object.fromEntries(app.graph.getNodeById(nodeId).widgets
    .filter((widget) => widget.type === "slider")
    .map((widget) => [widget.label, widget.value]))"""
NOTE = """(nodeId) => {
    const drawn = [];
    const context = { save() {}, restore() {}, fillText: (line) => drawn.push(line) };
    const node = app.graph.getNodeById(nodeId);
    const note = node.widgets.find((widget) => widget.type === "dmm_note" && !widget.hidden);
    note?.draw(context, node, node.size[0], 0, 20, false);
    return drawn.join("").trim();
}"""


class FrontEnd:
    """One page of the front end."""

    def __init__(self, page: Page, comfyui: ComfyUI) -> None:
        self.page = page
        self.comfyui = comfyui
        self.problems: list[str] = []
        self._under_way: set[Request] = set()
        page.set_default_timeout(TIMEOUT_SECONDS * 1000)
        page.on("request", lambda request: self._under_way.add(request))
        for end in ("requestfinished", "requestfailed"):
            page.on(end, lambda request: self._under_way.discard(request))
        page.on("console", self._note_console)
        page.on("pageerror", lambda error: self._note(f"{error}\n{error.stack}"))
        page.goto(comfyui.url)
        self.wait_until_ready()

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._note(f"{message.text} {message.location}")

    def _note(self, problem: str) -> None:
        """Keeps what comes from our files; the host has errors of its own."""
        if "/dmm/" in problem:
            self.problems.append(problem)

    def wait_until_ready(self) -> None:
        self.page.wait_for_function(READY)

    def reload(self) -> None:
        self._under_way.clear()
        self.page.reload()
        self.wait_until_ready()

    def open(self, workflow: dict[str, Any]) -> None:
        self.page.evaluate("(workflow) => app.loadGraphData(workflow)", workflow)
        self.page.evaluate("app.canvas.ds.scale = 1, app.canvas.ds.offset = [60, 160]")
        self.settle()

    def settle(self) -> None:
        """Waits until no request is under way, and the canvas has been drawn since."""
        drawn = 0
        while drawn < 3:
            self.page.evaluate(NEXT_FRAME)
            drawn = 0 if self._under_way else drawn + 1

    def node(self, node_type: str) -> int:
        """The id of the one node of that type."""
        find = (
            "(type) => app.graph.nodes.filter((node) => node.type === type).map((node) => node.id)"
        )
        (node_id,) = self.page.evaluate(find, node_type)
        return node_id

    def value(self, node: int, widget: str) -> Any:
        return self.page.evaluate(WIDGET_VALUE, [node, widget])

    def sliders(self, node: int) -> dict[str, float]:
        """Value by label, from top to bottom."""
        return self.page.evaluate(SLIDERS, node)

    def note(self, node: int) -> str:
        """What the node says below its widgets."""
        return self.page.evaluate(NOTE, node)

    def click(self, node: int, widget: str) -> None:
        self.page.mouse.click(*self._place(node, widget, 0.5))
        self.settle()

    def choose(self, node: int, widget: str, entry: str) -> None:
        """Opens a widget's menu and takes an entry of it."""
        self.click(node, widget)
        self.take(entry)

    def take(self, entry: str) -> None:
        """An entry of the menu that was opened last."""
        menu = self.page.locator(".litecontextmenu").last
        menu.get_by_text(entry.replace("<", "‹"), exact=True).click()
        self.settle()

    def drag(self, node: int, slider: str, share: float) -> None:
        """Drags a style's slider to `share` of its length."""
        self.page.mouse.move(*self._place(node, f"style {slider}", 0.4))
        self.page.mouse.down()
        self.page.mouse.move(*self._place(node, f"style {slider}", share), steps=3)
        self.page.mouse.up()
        self.settle()

    def _place(self, node: int, widget: str, share: float) -> tuple[float, float]:
        (left, y), (right, _) = self.page.evaluate(WIDGET_PLACE, [node, widget])
        return left + share * (right - left), y

    def prompt(self) -> dict[str, Any]:
        """The graph in API format, as it would be queued."""
        return self.page.evaluate("app.graphToPrompt().then(({ output }) => output)")


def example(name: str, **files: str) -> dict[str, Any]:
    """An example workflow.

    Args:
        files: what to choose in a loader instead, by the name of its widget's node type.
    """
    workflow = json.loads(Path(WORKFLOWS, f"{name}.json").read_text(encoding="utf-8"))
    for node in workflow["nodes"]:
        if node["type"] in files:
            node["widgets_values"][0] = files[node["type"]]
    return workflow
