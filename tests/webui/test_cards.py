"""The cards of the tab "DMM" among the extra networks, and their pictures."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tests.comfyui.checkpoints import small_styles
from tests.hosts import find_host
from tests.webui.browser import Txt2Img
from tests.webui.checkpoints import write_checkpoint
from tests.webui.conftest import STYLES
from tests.webui.server import Refused, WebUI

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ODD = ('50%25 <b>bold</b> & "it\'s" {x|y}', "in\\k: wa__sh", "<img src=x onerror=window.harmed=1>")
PROMPT = "a house by a lake, a tree, mountains"


@pytest.fixture(scope="module")
def odd_checkpoint(running: WebUI, checkpoints: Path) -> Iterator[str]:
    """ "odd", whose styles have names that mean something to prompts, pages and scripts."""
    webui = find_host("webui")
    sd1_yaml = webui.path / "configs" / "v1-inference.yaml" if webui else None
    file = write_checkpoint(checkpoints / "odd.safetensors", small_styles(ODD), sd1_yaml)
    running.post("/sdapi/v1/refresh-checkpoints", {})
    yield "odd"
    running.choose("merged")
    file.unlink()
    running.post("/sdapi/v1/refresh-checkpoints", {})


@pytest.fixture
def previews(running: WebUI) -> Iterator[Path]:
    folder = running.base / "dmm_previews"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def tab(running: WebUI, webui: WebUI, chromium: Browser, previews: Path) -> Iterator[Txt2Img]:
    context = chromium.new_context(viewport={"width": 1400, "height": 1000})
    tab = Txt2Img(context.new_page(), webui)
    tab.page.locator(
        "#txt2img_extra_tabs button", has_text=re.compile(r"^\s*DMM\s*$")
    ).first.click()
    yield tab
    context.close()


def shows(tab: Txt2Img, names: tuple[str, ...]) -> None:
    """Waits until there is a card for each of these."""
    tab.page.wait_for_function(
        """(names) => {
            const cards = document.querySelectorAll("#txt2img_dmm_cards .card");
            const shown = Array.from(cards, (card) => card.querySelector(".name").textContent);
            return JSON.stringify(shown) === JSON.stringify(names);
        }""",
        arg=list(names),
    )


def test_a_preview_is_painted_at_the_styles_own_size(webui: WebUI, previews: Path) -> None:
    address = webui.post("/dmm/preview", {"style": "ink"})["preview"]
    (file,) = previews.iterdir()
    assert file.name in address
    with Image.open(file) as picture:
        said = re.search(r"Sampler: ([^,]+), Schedule type: ([^,]+)", picture.info["parameters"])
        painted = webui.paint(
            {"styles": "ink"}, prompt=PROMPT, steps=20, sampler_name=said[1], scheduler=said[2]
        )
        assert np.array_equal(np.asarray(picture.convert("RGB")), painted.pictures[0])
        assert 'DMM mix: "ink:1.0"' in picture.info["parameters"]


def test_a_preview_of_an_unknown_style_is_refused(webui: WebUI, previews: Path) -> None:
    with pytest.raises(Refused) as refused:
        webui.post("/dmm/preview", {"style": "../ink"})
    assert refused.value.status == 422
    assert "There is no style '../ink' in this file." in refused.value.answer["detail"]
    assert not previews.exists()


def test_a_click_puts_the_tag_into_the_prompt_and_takes_it_out(tab: Txt2Img) -> None:
    shows(tab, STYLES)
    card = tab.page.locator("#txt2img_dmm_cards .card", has_text="anime")
    # The host's page fetches its options, the separator among them, and does not wait for them.
    tab.page.wait_for_function("opts.extra_networks_add_text_separator !== undefined")
    card.click()
    assert tab.prompt.input_value() == "a cat <dmm:anime:1>"
    card.click()
    assert tab.prompt.input_value() == "a cat"


def test_pictures_are_painted_by_one_click_and_stay(tab: Txt2Img, previews: Path) -> None:
    shows(tab, STYLES)
    tools = tab.page.locator("#txt2img_dmm_cards_html .dmm-previews")
    tools.get_by_role("button", name="Paint previews").click()
    tools.get_by_text("Painting ink, 1 of 3").wait_for()
    tools.get_by_role("button", name="Paint previews").wait_for()
    assert len(list(previews.iterdir())) == len(STYLES)
    tab.page.wait_for_function(
        """(count) => {
            const pictures = document.querySelectorAll("#txt2img_dmm_cards img.preview");
            return pictures.length === count && Array.from(pictures, (p) => p).every(
                (picture) => picture.complete && picture.naturalWidth === 64
            );
        }""",
        arg=len(STYLES),
    )


def test_painting_can_be_stopped(tab: Txt2Img, previews: Path) -> None:
    shows(tab, STYLES)
    tools = tab.page.locator("#txt2img_dmm_cards_html .dmm-previews")
    tools.get_by_role("button", name="Paint previews").click()
    tools.get_by_role("button", name="Stop").click()
    tools.get_by_role("button", name="Paint previews").wait_for()
    assert len(list(previews.iterdir())) == 1


def test_cards_follow_the_checkpoint(tab: Txt2Img, odd_checkpoint: str, webui: WebUI) -> None:
    """Names from strangers are text on the cards, and safe in a tag."""
    shows(tab, STYLES)
    tab.choose(odd_checkpoint)
    shows(tab, ODD)
    for card in tab.page.locator("#txt2img_dmm_cards .card").all():
        card.click()
    assert tab.page.evaluate("window.harmed") is None
    prompt = tab.prompt.input_value()
    assert webui.paint(prompt=prompt) == webui.paint({"styles": [1, 1, 1]})
    tab.choose("plain")
    tools = tab.page.locator("#txt2img_dmm_cards_html .dmm-previews")
    tools.get_by_text("plain.safetensors is a plain checkpoint without styles").wait_for()
    assert not tools.get_by_role("button").is_visible()
