"""The editor of regions as people use it, in a headless Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from sd_webui_dmm.regions.lines import Region, parse_region
from tests.webui.browser import Txt2Img
from tests.webui.region_editor import RegionEditor
from tests.webui.server import Painted, WebUI

if TYPE_CHECKING:
    from playwright.sync_api import Browser


CANVAS_HAS_SHAPE = """(shape) => {
    const { width, height } = document.querySelector("#tab_img2img .dmm-region-canvas");
    return height && Math.abs(width / height / shape - 1) < 0.02;
}"""


@pytest.fixture
def tab(running: WebUI, webui: WebUI, chromium: Browser) -> Iterator[Txt2Img]:
    context = chromium.new_context(viewport={"width": 1400, "height": 1300}, has_touch=True)
    yield Txt2Img(context.new_page(), webui)
    context.close()


@pytest.fixture
def editor(tab: Txt2Img) -> RegionEditor:
    return RegionEditor(tab)


def said(editor: RegionEditor) -> list[Region]:
    return [parse_region(line) for line in editor.text().splitlines()]


def sides(region: Region) -> list[float]:
    place = region.place
    return [place.x, place.y, place.width, place.height]


def near(*numbers: float) -> object:
    return pytest.approx(numbers, abs=0.01)  # a pixel of the page


def test_rectangles_are_drawn_dragged_resized_and_deleted(editor: RegionEditor) -> None:
    editor.drag((0.1, 0.1), (0.5, 0.4))
    editor.drag((0.6, 0.5), (0.9, 0.9))
    first, second = said(editor)
    assert (first.mix, second.mix) == ("ink:1", "anime:1")
    assert sides(first) == near(0.1, 0.1, 0.4, 0.3)
    assert sides(second) == near(0.6, 0.5, 0.3, 0.4)
    editor.drag((0.3, 0.3), (0.35, 0.5))
    assert sides(said(editor)[0]) == near(0.15, 0.3, 0.4, 0.3)
    editor.drag((0.55, 0.6), (0.6, 0.8))  # its corner
    assert sides(said(editor)[0]) == near(0.15, 0.3, 0.45, 0.5)
    editor.drag((0.2, 0.4), (0.9, 0.4))
    assert sides(said(editor)[0]) == near(0.55, 0.3, 0.45, 0.5), "it stays in the picture"
    editor.canvas.press("Delete")
    assert said(editor) == [second]
    editor.press("Undo")
    assert len(said(editor)) == 2


def test_a_region_has_sliders_a_place_and_a_feather(editor: RegionEditor) -> None:
    editor.press("Add rectangle")
    editor.slider("photo").fill("0.5")
    editor.field("Width %").fill("25")
    editor.field("Feather, in pixels").fill("8")
    assert editor.text() == "ink:1, photo:0.5 @ 0.3, 0.3, 0.25, 0.4 feather 8"
    assert editor.regions() == ["1 ink:1, photo:0.5"]


def test_a_drag_is_one_step_to_undo(editor: RegionEditor) -> None:
    editor.press("Add rectangle")
    drawn = editor.text()
    editor.drag_slider("photo", 0.5)
    dragged = editor.text()
    assert "photo" in dragged
    editor.drag_slider("anime", 0.8)
    editor.press("Equal")
    editor.press("Clear")
    steps = []
    for _ in range(5):
        steps.append(editor.text())
        editor.press("Undo")
    assert [*steps[3:], editor.text()] == [dragged, drawn, ""]
    assert len({*steps}) == 5


def test_the_last_hundred_steps_are_kept(editor: RegionEditor) -> None:
    editor.press("Add rectangle")
    for _ in range(60):
        editor.canvas.press("ArrowLeft")
        editor.canvas.press("ArrowRight")
    undo = editor.panel.get_by_role("button", name="Undo")
    undo.evaluate("(button) => { for (let step = 0; step < 99; step++) button.click(); }")
    assert undo.is_enabled()
    undo.click()
    assert not undo.is_enabled()
    assert editor.text(), "the first steps are forgotten"


def test_the_keyboard_and_a_finger_do(editor: RegionEditor) -> None:
    editor.press("Add rectangle")
    editor.canvas.press("ArrowLeft")
    editor.canvas.press("Shift+ArrowDown")
    assert sides(said(editor)[0]) == near(0.29, 0.3, 0.4, 0.41)
    editor.drag_finger((0.4, 0.4), (0.5, 0.5))
    assert sides(said(editor)[0]) == near(0.39, 0.4, 0.4, 0.41)
    editor.press("Add painted mask")
    editor.canvas.press("ArrowUp")
    editor.canvas.press(" ")
    mask = said(editor)[1].place.mask((64, 64))
    assert mask[31, 32] > 0.9 and mask[50, 32] == 0


def test_a_mask_is_painted_erased_cleared_and_loaded(editor: RegionEditor, tmp_path: Path) -> None:
    editor.press("Add painted mask")
    editor.drag((0.2, 0.5), (0.8, 0.5))
    stroke = said(editor)[0].place.mask((64, 64))
    assert (stroke[31, 14:50] > 0.9).all() and stroke[20].max() == 0
    editor.press("Eraser")
    editor.drag((0.5, 0.2), (0.5, 0.8))
    assert said(editor)[0].place.mask((64, 64))[31, 32] == 0
    editor.press("Clear mask")
    assert editor.text() == ""
    picture = np.zeros((50, 100, 3), np.uint8)
    picture[:, 50:] = 255
    Image.fromarray(picture).save(tmp_path / "right.png")
    editor.panel.locator("input[type=file]").set_input_files(tmp_path / "right.png")
    editor.page.wait_for_function("(box) => box.value", arg=editor.lines.element_handle())
    mask = said(editor)[0].place.mask((10, 20))
    assert (mask[:, 11:] > 0.99).all() and mask[:, :9].max() < 0.01


def test_lines_written_by_hand_are_shown(tab: Txt2Img, editor: RegionEditor) -> None:
    text = "ink:1\nphoto:1 @ 0.1, 0.1, 0.5, 0.5\nanime:1 @ nowhere"
    editor.lines.evaluate("(box, text) => { box.value = text; updateInput(box); }", text)
    editor.page.wait_for_function("document.querySelectorAll('.dmm-region').length >= 3")
    assert editor.regions() == ["1 ink:1", "2 photo:1", "3 anime:1 @ nowhere"]
    editor.press("Add rectangle")
    assert editor.text() == f"{text}\nanime:1 @ 0.3, 0.3, 0.4, 0.4"
    assert "The place 'nowhere' is no rectangle." in tab.generate()


def test_the_picture_behind_is_that_of_the_tab(tab: Txt2Img, tmp_path: Path) -> None:
    """Inpainting "only masked" keeps the shape of its input, whatever size is painted."""
    Image.new("RGB", (128, 32)).save(tmp_path / "wide.png")
    page = tab.page
    page.locator("#tabs button").filter(has_text=re.compile("img2img", re.I)).first.click()
    page.locator("#mode_img2img button").filter(has_text="Inpaint").first.click()
    page.locator("#img2maskimg input[type=file]").first.set_input_files(tmp_path / "wide.png")
    panel = page.locator("#script_img2img_dmm_styles_layout")
    page.locator("#script_img2img_dmm_styles_enabled .label-wrap").first.click()
    panel.locator(".label-wrap").first.click()
    page.wait_for_function(CANVAS_HAS_SHAPE, arg=1)
    page.locator("#img2img_inpaint_full_res").get_by_text("Only masked").click()
    page.wait_for_function(CANVAS_HAS_SHAPE, arg=4)


def test_what_is_drawn_is_painted_and_comes_back(tab: Txt2Img, webui: WebUI) -> None:
    """A rectangle on the left, paint on the right; then the infotext in a page of its own."""
    tab.set(width=128, height=64)
    editor = RegionEditor(tab)
    editor.drag((0.01, 0.01), (0.5, 0.99))
    editor.press("Add painted mask")
    editor.panel.get_by_label("Brush size, in percent of the picture").fill("60")
    editor.drag((0.8, 0), (0.8, 1))
    tab.generate()
    painted, infotext = tab.picture(), tab.infotext()
    how = {
        "sampler_name": re.search(r"Sampler: ([^,]+)", infotext)[1],
        "scheduler": re.search(r"Schedule type: ([^,]+)", infotext)[1],
    }
    whole = [
        webui.paint({"styles": style}, width=128, height=64, **how) for style in ("ink", "anime")
    ]
    left, right = np.s_[:, :48], np.s_[:, 80:]
    ink, anime = (difference(painted, picture) for picture in whole)
    assert ink[left].mean() < anime[left].mean()
    assert anime[right].mean() < ink[right].mean()

    tab.open()
    tab.paste(infotext)
    assert len(RegionEditor(tab).regions()) == 2
    tab.generate()
    assert np.array_equal(tab.picture(), painted)


def difference(picture: np.ndarray, painted: Painted) -> np.ndarray:
    return np.abs(picture.astype(float) - painted.pictures[0].astype(float)).mean(axis=-1)


def test_the_picture_behind_is_whole_where_it_is_painted_in_tiles(
    tab: Txt2Img, tmp_path: Path
) -> None:
    """As "SD upscale" does, whose width and height are those of a tile."""
    Image.new("RGB", (128, 32)).save(tmp_path / "wide.png")
    page = tab.page
    page.locator("#tabs button").filter(has_text=re.compile("img2img", re.I)).first.click()
    page.locator("#img2img_image input[type=file]").first.set_input_files(tmp_path / "wide.png")
    page.locator("#script_img2img_dmm_styles_enabled .label-wrap").first.click()
    page.locator("#script_img2img_dmm_styles_layout .label-wrap").first.click()
    page.wait_for_function(CANVAS_HAS_SHAPE, arg=1)
    script = page.locator("#img2img_script_container #script_list input")
    script.fill("SD upscale")
    script.press("Enter")
    page.wait_for_function(CANVAS_HAS_SHAPE, arg=4)
