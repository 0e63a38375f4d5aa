"""`run.py play`: the page in a real browser, painting from a real file."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
import torch
from PIL import Image

from dmm.merged import Styles, write_merged
from dmm.metadata import Style, merged_metadata
from dmm.mixes import parse_mix
from dmm.style_prompts import StylePrompts
from dmm.tensors import open_tensors
from tests.nets import small_clip, small_sd1_unet, small_vae, write_single_file
from trainer.play.colours import masks_of
from trainer.play.pictures import Settings, save

RUN = Path(__file__).parents[2] / "trainer" / "run.py"
STYLES = ["ink", "<b>oil</b>", "pen"]
SIZE = (64, 48)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A small merged checkpoint of random weights, one of whose names tries to be HTML."""
    folder = tmp_path_factory.mktemp("play")
    unet = small_sd1_unet()
    plain = write_single_file(
        folder / "plain.safetensors", unet, small_vae(), [small_clip(vocab_size=49408)]
    )
    styles = [Style(name) for name in STYLES]
    metadata = merged_metadata(
        styles, {}, family="sd1", title="m", resolution=SIZE, prediction_type="epsilon"
    )
    prompts = StylePrompts(len(styles), 4 * unet.config.block_out_channels[0])
    path = folder / "merged.safetensors"
    write_merged(path, open_tensors(plain), Styles(prompts, styles, "sd1"), metadata)
    return path


@pytest.fixture(scope="module")
def address(checkpoint) -> Iterator[str]:
    command = [sys.executable, str(RUN), "play", str(checkpoint), "--no-browser"]
    log = checkpoint.with_name("play.log")
    with log.open("w", encoding="utf-8") as written:
        process = subprocess.Popen(command, stdout=written, stderr=subprocess.STDOUT)
    try:
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text("utf-8"))):
            assert process.poll() is None, log.read_text("utf-8")
            time.sleep(0.2)
        yield found[0]
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def open_page(chromium, address):
    """Opens the page in a window of its own."""
    pages = []

    def opened():
        page = chromium.new_page(viewport={"width": 1280, "height": 1200})
        pages.append(page)
        page.set_default_timeout(60_000)
        page.goto(address)
        page.get_by_label("Prompt").first.fill("a fox, sleeping")
        page.get_by_label("Seed").first.fill("7")
        page.get_by_role("button", name="More").click()
        page.get_by_label("Steps").first.fill("2")
        return page

    yield opened
    for page in pages:
        page.close()


@pytest.fixture
def page(open_page):
    return open_page()


def press(page, button: str) -> None:
    page.get_by_role("button", name=button, exact=True).locator("visible=true").click()


def paint(page, button: str, folder: Path, count: int) -> list[Image.Image]:
    """Presses a button and waits for its pictures, as they are kept in the folder."""
    before = set(folder.glob("*.png"))
    press(page, button)
    return painted(page, folder, before, count)


def painted(page, folder: Path, before: set[Path], count: int) -> list[Image.Image]:
    while len(new := sorted(set(folder.glob("*.png")) - before)) < count:
        page.wait_for_timeout(100)
        assert not page.get_by_text("Error", exact=True).locator("visible=true").count()
    return [Image.open(path) for path in new]


@pytest.fixture
def pictures(checkpoint) -> Path:
    return checkpoint.with_name("merged-pictures")


def mix_of(picture: Image.Image) -> str:
    return re.search(r'DMM mix: "?([^"\n]*)', picture.info["parameters"])[1]


def test_sliders_paint_their_mix_and_the_picture_says_so(page, pictures):
    page.get_by_role("button", name="Equal").click()
    page.wait_for_function("document.querySelector('input[aria-label*=\"ink\"]').value == '1'")
    [picture] = paint(page, "Paint", pictures, 1)
    assert picture.size == SIZE
    assert mix_of(picture).startswith("ink:1")
    for said in ("a fox, sleeping\n", "Steps: 2,", "Seed: 7,", "Size: 64x48", "Model: merged"):
        assert said in picture.info["parameters"]
    page.wait_for_selector(".dmm-picture img")


def test_every_style_and_what_lies_between(page, pictures):
    page.get_by_role("tab", name="Every style").click()
    none, *each = paint(page, "Paint every style", pictures, 1 + len(STYLES))
    assert "DMM mix" not in none.info["parameters"]
    assert [next(iter(parse_mix(mix_of(picture)))) for picture in each] == STYLES
    pixels = [picture.tobytes() for picture in (none, *each)]
    assert len(set(pixels)) == len(pixels), "a style paints as another does"
    page.get_by_role("tab", name="Between two styles").click()
    strip = paint(page, "Paint the strip", pictures, 11)
    assert strip[0].tobytes() == each[0].tobytes()
    assert strip[-1].tobytes() == each[-1].tobytes()
    assert page.locator("b", has_text="oil").count() == 0, "a style's name became HTML"


def test_regions_painted_with_the_mouse(page, pictures):
    [plain] = paint(page, "Paint", pictures, 1)
    page.get_by_role("tab", name="Regions").click()
    page.get_by_role("button", name="Brush", exact=True).click()
    page.get_by_role("button", name="Color").click()
    page.locator("button.color").nth(2).click()
    canvas = page.locator("canvas").first.bounding_box()
    left, top = canvas["x"] + canvas["width"] / 2, canvas["y"] + canvas["height"] / 2
    page.mouse.move(left, top)
    page.mouse.down()
    page.mouse.move(left + 60, top, steps=8)
    page.mouse.up()
    [picture] = paint(page, "Paint", pictures, 1)
    assert mix_of(picture) == "ink:1, with painted regions of pen"
    assert picture.tobytes() != plain.tobytes()


def test_two_windows_do_not_paint_into_one_another(open_page, pictures):
    page, other = open_page(), open_page()
    page.get_by_role("tab", name="Every style").click()
    for window in (page, other):
        window.get_by_label("Steps").first.fill("30")
    alone = [paint(page, "Paint every style", pictures, 1 + len(STYLES))]
    alone.append(paint(other, "Paint", pictures, 1))
    before = set(pictures.glob("*.png"))
    press(page, "Paint every style")
    press(other, "Paint")
    together = painted(other, pictures, before, 2 + len(STYLES))
    assert sorted(map(pixels, together)) == sorted(map(pixels, chain(*alone)))


def pixels(picture: Image.Image) -> bytes:
    return picture.tobytes()


def test_nothing_on_the_page_uploads(page, pictures):
    paint(page, "Paint", pictures, 1)
    page.wait_for_selector(".dmm-picture img")
    assert page.get_by_role("button", name="Download").locator("visible=true").count()
    assert not page.get_by_role("button", name="Share").count()


def test_without_gradio_it_says_how_to_get_it(checkpoint):
    hide = "import runpy, sys; sys.modules['gradio'] = None; sys.argv = sys.argv[1:]; "
    run = "runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", hide + run, str(RUN), "play", str(checkpoint)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 2
    assert f"{sys.executable} -m pip install gradio" in done.stderr
    assert "Traceback" not in done.stderr


def test_masks_of_colours():
    layer = Image.new("RGBA", (8, 8))
    layer.paste((230, 25, 75, 255), (0, 0, 4, 8))
    layer.paste((70, 100, 220, 255), (4, 0, 8, 4))  # nearly the second colour
    layer.paste((60, 180, 75, 40), (4, 4, 8, 8))  # too faint
    red, blue = masks_of([layer], ["#e6194b", "#4363d8"], (4, 4))
    assert torch.equal(red, torch.tensor([[1.0, 1, 0, 0]] * 4))
    assert torch.equal(blue, torch.tensor([[0.0, 0, 1, 1]] * 2 + [[0.0] * 4] * 2))


def test_pictures_are_numbered_and_none_is_lost(tmp_path):
    settings = Settings("a\nfox", "blur", 1.0, 3, 4, 7.0, 8, 8)
    (tmp_path / "00041.png").touch()
    path = save(Image.new("RGB", (8, 8)), tmp_path, settings, "merged, mine", "ink:1.0", "dpm++")
    assert path.name == "00042.png"
    said = Image.open(path).info["parameters"]
    assert said.startswith("a\nfox\nNegative prompt: blur\nSteps: 4, ")
    assert 'Model: "merged, mine", DMM mix: "ink:1.0"' in said
