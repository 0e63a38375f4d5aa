"""The accordion as people use it, in a headless Chromium."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from dmm.metadata import Sampling
from dmm.tensors import save_tensors
from tests.comfyui.checkpoints import small_styles, styles_metadata
from tests.webui.browser import Txt2Img
from tests.webui.server import WebUI

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route


@pytest.fixture
def tab(page: Page, webui: WebUI) -> Txt2Img:
    return Txt2Img(page, webui)


def test_sliders_and_mix_say_the_same(tab: Txt2Img) -> None:
    tab.shows({"ink": 0, "anime": 0, "photo": 0})
    tab.slider("ink").fill("0.7")
    tab.slider("photo").fill("0.25")
    assert tab.text("mix").input_value() == "ink:0.7, photo:0.25"
    tab.text("mix").fill("Anime:0.5, photo")
    tab.shows({"ink": 0, "anime": 0.5, "photo": 1})
    tab.slider("anime").press("ArrowRight")
    assert tab.text("mix").input_value() == "Anime:0.51, photo:1"
    tab.press("Equal")
    assert tab.text("mix").input_value() == "ink:1, anime:1, photo:1"
    tab.press("Random")
    assert re.fullmatch(r"ink:[\d.]+, anime:[\d.]+, photo:[\d.]+", tab.text("mix").input_value())
    tab.press("Clear")
    assert tab.text("mix").input_value() == ""
    tab.shows({"ink": 0, "anime": 0, "photo": 0})


def test_what_the_sliders_say_is_painted(tab: Txt2Img, webui: WebUI) -> None:
    tab.slider("ink").fill("0.7")
    tab.slider("photo").fill("0.3")
    infotext = tab.generate()
    assert 'DMM mix: "ink:0.7, photo:0.3"' in infotext
    painted = webui.paint(
        {"styles": {"ink": 0.7, "photo": 0.3}},
        sampler_name=re.search(r"Sampler: ([^,]+)", infotext)[1],
        scheduler=re.search(r"Schedule type: ([^,]+)", infotext)[1],
    )
    assert np.array_equal(tab.picture(), painted.pictures[0])


def test_a_pasted_infotext_sets_everything(tab: Txt2Img, webui: WebUI) -> None:
    dmm = {
        "styles": {"anime": 0.6},
        "normalise": False,
        "strength": 0.85,
        "mixing": "after MLP",
        "columns": [1, 2],
        "rows": [1, 1],
        "regions": ["ink:1", ""],
        "feather": 6,
    }
    painted = webui.paint(dmm)
    tab.paste(painted.infotexts[0])
    tab.part("layout").locator(".label-wrap").first.click()
    tab.shows({"ink": 0, "anime": 0.6, "photo": 0})
    assert tab.text("mix").input_value() == "anime:0.6"
    assert tab.number("strength").input_value() == "0.85"
    assert not tab.part("normalise").locator("input").is_checked()
    assert tab.part("mixing").get_by_label("after MLP").is_checked()
    assert tab.text("columns").input_value() == "1,2"
    assert tab.text("rows").input_value() == "1,1"
    assert tab.text("regions").input_value() == "ink:1.0"
    assert tab.number("feather").input_value() == "6"
    tab.generate()
    assert np.array_equal(tab.picture(), painted.pictures[0])


def test_sliders_follow_the_checkpoint(tab: Txt2Img) -> None:
    tab.slider("ink").fill("1")
    tab.choose("plain")
    tab.says("plain is a plain checkpoint without styles")
    tab.shows({})
    said = tab.generate()
    assert "plain.safetensors is a plain checkpoint without styles" in said
    assert "DMM mix" not in said
    tab.choose("merged")
    tab.shows({"ink": 1, "anime": 0, "photo": 0})


def test_a_wrong_name_is_shown_under_the_picture(tab: Txt2Img) -> None:
    tab.text("mix").fill("inc:1")
    assert "There is no style 'inc' in this file. Did you mean 'ink'?" in tab.generate()


def test_after_a_restart_the_sliders_come_back(page: Page, webui: WebUI) -> None:
    """The page asks again by itself, though nothing was changed in it."""
    page.route("**/dmm/styles*", lambda route: route.abort())
    tab = Txt2Img(page, webui)
    tab.says("The WebUI does not answer")
    page.unroute("**/dmm/styles*")
    tab.shows({"ink": 0, "anime": 0, "photo": 0})


def test_names_from_strangers_are_text(page: Page, webui: WebUI) -> None:
    """What the server says of a file nobody should have: a name like HTML."""
    name = "<img src=x onerror=window.harmed=1>"

    def answer(route: Route) -> None:
        said = {"checkpoint": "merged", "styles": [name]}
        route.fulfill(content_type="application/json", body=json.dumps(said))

    page.route("**/dmm/styles*", answer)
    Txt2Img(page, webui).shows({name: 0})
    assert page.evaluate("window.harmed") is None


def test_an_adapter_in_the_prompt_brings_its_styles(tab: Txt2Img, webui: WebUI) -> None:
    """This one wants to be sampled in few steps, too."""
    styles = small_styles(("chalk", "neon"))
    lora = {"lora_unet_conv_in.alpha": torch.tensor(1.0)}
    path = webui.models / "Lora" / "crayons.safetensors"
    metadata = styles_metadata(styles) | Sampling(4, 1.0, "lcm").to_metadata()
    save_tensors(path, styles.tensors() | lora, metadata, overwrite=True)
    tab.shows({"ink": 0, "anime": 0, "photo": 0})
    tab.prompt.fill("a cat <lora:crayons:1>")
    tab.shows({"chalk": 0, "neon": 0})
    tab.says("Made for 4 steps, CFG 1, sampler LCM.")
    tab.prompt.fill("a cat")
    tab.shows({"ink": 0, "anime": 0, "photo": 0})
