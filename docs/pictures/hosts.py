"""Takes the pictures of the hosts' pages, from the real ComfyUI and the real AUTOMATIC1111.

    .venv/bin/python -m docs.pictures.hosts

The hosts are those that the tests find; CONTRIBUTING.md says how. Small checkpoints are made for
them, since only the page is shown.
"""

from __future__ import annotations

import base64
import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Locator, sync_playwright

from tests.comfyui.checkpoints import small_styles
from tests.comfyui.front_end.browser import FrontEnd, example
from tests.comfyui.front_end.conftest import SETTINGS
from tests.comfyui.server import ComfyUI
from tests.comfyui.test_routes import write_styles
from tests.conftest import BROWSERS
from tests.hosts import find_host
from tests.webui.browser import Txt2Img
from tests.webui.checkpoints import write_checkpoint
from tests.webui.region_editor import RegionEditor
from tests.webui.server import WebUI

FOLDER = Path(__file__).parent
NAMED = (
    "ink wash",
    "anime",
    "oil painting",
    "low poly",
    "film 1970s",
    "watercolour",
    "水墨",
    "pixel art",
)
STYLES = ("ink", "anime", "photo")
MIX = "ink wash:0.5, watercolour:0.35, film 1970s:0.15"
PLACE_GRAPH = """() => {
    const boxes = app.graph.groups.map((group) => [...group.pos, ...group.size]);
    const left = Math.min(...boxes.map(([x]) => x)), top = Math.min(...boxes.map(([, y]) => y));
    const right = Math.max(...boxes.map(([x, , width]) => x + width));
    const bottom = Math.max(...boxes.map(([, y, , height]) => y + height));
    const scale = 0.7, [x, y] = [90, 130];
    app.canvas.ds.scale = scale;
    app.canvas.ds.offset = [x / scale - left, y / scale - top];
    app.canvas.setDirty(true, true);
    const corner = app.canvas.canvas.getBoundingClientRect();
    return [x - 10 + corner.left, y - 10 + corner.top,
            (right - left) * scale + 20, (bottom - top) * scale + 20];
}"""
"""Draws the graph beside the page's own bars, and gives the rectangle that it fills."""
SHOW = """(source) => {
    const picture = new Image();
    picture.src = source;
    document.querySelector("#txt2img_gallery").append(picture);
}"""


def main() -> None:
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, BROWSERS)))
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        comfyui(browser, Path(name))
        webui(browser, Path(name))
        browser.close()


def comfyui(browser: Browser, folder: Path) -> None:
    server = ComfyUI(find_host("comfyui"), folder / "comfyui")
    try:
        write_styles(server.checkpoints / "named.safetensors", NAMED)
        server.post("/settings", SETTINGS | {"Comfy.NodeBadge.NodeSourceBadgeMode": "None"})
        page = browser.new_page(viewport={"width": 1400, "height": 860}, locale="en-GB")
        front_end = FrontEnd(page, server)
        chosen = {"DMM_CheckpointLoader": "named.safetensors", "DMM_StyleMix": MIX}
        front_end.open(example("Mix styles", **chosen))
        left, top, width, height = page.evaluate(PLACE_GRAPH)
        front_end.settle()
        clip = {"x": left, "y": top, "width": width, "height": height}
        page.screenshot(path=FOLDER / "comfyui.png", clip=clip)
    finally:
        server.stop()


def webui(browser: Browser, folder: Path) -> None:
    host = find_host("webui")
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir()
    sd1_yaml = host.path / "configs" / "v1-inference.yaml"
    write_checkpoint(checkpoints / "merged.safetensors", small_styles(STYLES), sd1_yaml)
    (folder / "webui").mkdir()
    server = WebUI(host, "webui", folder / "webui", checkpoints)
    try:
        server.choose("merged")
        page = browser.new_page(viewport={"width": 1400, "height": 1500})
        schedule(Txt2Img(page, server))
        regions(Txt2Img(page, server))
    finally:
        server.stop()


def schedule(tab: Txt2Img) -> None:
    tab.text("mix").fill("ink:0.7, photo:0.3")
    tab.text("mix").press("Tab")
    tab.shows({"ink": 0.7, "anime": 0, "photo": 0.3})
    tab.part("schedule").locator(".label-wrap").first.click()
    for name, value in (("end", "0.9"), ("fade", "0.9")):
        tab.number(name).fill(value)
        tab.number(name).press("Tab")
    tab.text("otherwise").fill("anime:1")
    take(tab.part("enabled"), "schedule.png")


def regions(tab: Txt2Img) -> None:
    """A rectangle over the sky, a painted mask over the house."""
    tab.set(width=768, height=512)
    file = io.BytesIO()
    landscape().save(file, "PNG")
    source = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    tab.page.evaluate(SHOW, source)
    editor = RegionEditor(tab)
    tab.page.wait_for_timeout(1000)
    editor.drag((0.0, 0.0), (1.0, 0.5))
    editor.field("Mix of the region").fill("ink:1")
    editor.press("Add painted mask")
    for height in (0.6, 0.66, 0.72, 0.78):
        editor.drag((0.19, height), (0.33, height))
    editor.field("Mix of the region").fill("ink:0.4, anime:0.6")
    tab.number("feather").fill("16")
    tab.number("feather").press("Tab")
    take(tab.part("layout"), "regions.png")


def take(part: Locator, name: str) -> None:
    part.page.wait_for_timeout(1000)
    part.screenshot(path=FOLDER / name)


def landscape() -> Image.Image:
    """Hills under a blue sky, and a house."""
    picture = Image.new("RGB", (768, 512))
    draw = ImageDraw.Draw(picture)
    for y in range(512):
        share = y / 512
        sky = (70 + 150 * share, 130 + 80 * share, 210 - 20 * share)
        draw.line((0, y, 768, y), tuple(map(round, sky)))
    draw.ellipse((560, 60, 660, 160), (245, 240, 210))
    for left, top, colour in ((-100, 290, (96, 135, 130)), (300, 270, (84, 130, 118))):
        draw.ellipse((left, top, left + 600, top + 500), colour)
    draw.ellipse((-300, 360, 1100, 900), (52, 100, 70))
    draw.rectangle((150, 320, 250, 420), (200, 90, 60))
    draw.polygon(((135, 325), (265, 325), (200, 265)), (150, 70, 50))
    draw.rectangle((165, 345, 190, 370), (240, 215, 130))
    draw.rectangle((205, 365, 235, 420), (90, 60, 45))
    return picture


if __name__ == "__main__":
    main()
