"""The hosts' own page in a headless Chromium, with the words a test needs for the accordion."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tests.webui.server import WebUI

if TYPE_CHECKING:  # without playwright the tests are skipped, not broken
    from playwright.sync_api import Locator, Page

TIMEOUT_SECONDS = 120  # for machines that have much else to do


class Txt2Img:
    """The tab txt2img, set to paint what `server.PAINT` says, with the accordion open."""

    def __init__(self, page: Page, webui: WebUI) -> None:
        self.page = page
        page.set_default_timeout(TIMEOUT_SECONDS * 1000)
        # The page asks for fonts elsewhere, so it may never be loaded whole.
        page.goto(webui.url, wait_until="domcontentloaded")
        self.part("sliders").locator(".dmm-row").first.wait_for(state="attached")
        self.part("enabled").locator(".label-wrap").first.click()
        self.prompt.fill("a cat")
        for setting, value in {"width": 64, "height": 64, "steps": 2}.items():
            self._set(f"#txt2img_{setting} input[type=number]", str(value))
        self._set("#txt2img_seed input", "1")

    def part(self, name: str) -> Locator:
        return self.page.locator(f"#script_txt2img_dmm_styles_{name}").first

    def text(self, name: str) -> Locator:
        return self.part(name).locator("textarea, input").first

    def number(self, name: str) -> Locator:
        return self.part(name).locator("input[type=number]")

    @property
    def prompt(self) -> Locator:
        return self.page.locator("#txt2img_prompt textarea")

    @property
    def notice(self) -> str:
        return self.part("sliders").locator(".dmm-notice").inner_text()

    def slider(self, style: str) -> Locator:
        return self.part("sliders").get_by_role("slider", name=f"Weight of {style}", exact=True)

    def weights(self) -> dict[str, float]:
        """What the sliders show."""
        rows = self.part("sliders").locator(".dmm-row")
        rows = [rows.nth(index) for index in range(rows.count())]
        return {
            row.locator(".dmm-name").inner_text(): float(
                row.locator("input[type=range]").input_value()
            )
            for row in rows
        }

    def press(self, button: str) -> None:
        self.part("sliders").get_by_role("button", name=button).click()

    def choose(self, checkpoint: str) -> None:
        """Chooses a checkpoint in the header, and waits for the sliders to follow."""
        box = self.page.locator("#setting_sd_model_checkpoint input, .model_selection input").first
        box.fill(checkpoint)
        self.page.get_by_text(f"{checkpoint}.safetensors").first.wait_for()
        with self.page.expect_response(re.compile(rf"dmm/styles\?checkpoint={checkpoint}\.")):
            box.press("Enter")
            box.blur()

    def generate(self) -> str:
        """Paints, and returns the infotext or the error under the picture."""
        told = self.page.locator("#html_info_txt2img, #html_log_txt2img").first
        before = self.page.locator("#html_log_txt2img").first.inner_html()
        self.page.locator("#txt2img_generate").click()
        self.page.wait_for_function(
            "before => document.querySelector('#html_log_txt2img').innerHTML !== before", arg=before
        )
        log = self.page.locator("#html_log_txt2img").first.inner_text()
        return f"{told.inner_text()}\n{log}"

    def picture(self) -> np.ndarray:
        """The picture [H, W, 3] that was painted last."""
        source = self.page.locator("#txt2img_gallery img").first.get_attribute("src")
        file = self.page.request.get(source).body()
        return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))

    def paste(self, infotext: str) -> None:
        """Puts an infotext into the prompt and presses the arrow that reads it."""
        self.prompt.fill(infotext)
        self.page.locator("#txt2img_tools #paste").click()
        self.page.wait_for_function(
            "document.querySelector('#txt2img_prompt textarea').value.indexOf('Steps:') < 0"
        )

    def _set(self, field: str, value: str) -> None:
        self.page.locator(field).first.fill(value)
        self.page.locator(field).first.press("Tab")
