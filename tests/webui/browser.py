"""The hosts' own page in a headless Chromium, with the words a test needs for the accordion."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tests.webui.server import WebUI

if TYPE_CHECKING:  # without playwright the tests are skipped, not broken
    from playwright.sync_api import Locator, Page

TIMEOUT_SECONDS = 60  # for machines that have much else to do

SHOWN_WEIGHTS = """(weights) => {
    const rows = document.querySelectorAll("#script_txt2img_dmm_styles_sliders .dmm-row");
    return weights === JSON.stringify(Array.from(rows, (row) => [
        row.querySelector(".dmm-name").textContent,
        Number(row.querySelector("input[type=range]").value),
    ]));
}"""


class Txt2Img:
    """The tab txt2img, set to paint what `server.PAINT` says, with the accordion open."""

    def __init__(self, page: Page, webui: WebUI) -> None:
        self.page = page
        self.url = webui.url
        page.set_default_timeout(TIMEOUT_SECONDS * 1000)
        self.open()

    def open(self) -> None:
        """Loads the page anew, as if nothing had been set."""
        # The page asks for fonts elsewhere, so it may never be loaded whole.
        self.page.goto(self.url, wait_until="domcontentloaded")
        told = self.part("sliders").locator(".dmm-row, .dmm-notice:not(:empty)")  # styles, or none
        told.first.wait_for(state="attached")
        self.part("enabled").locator(".label-wrap").first.click()
        self.prompt.fill("a cat")
        self.set(width=64, height=64, steps=2)
        self._set("#txt2img_seed input", "1")

    def set(self, **settings: int) -> None:
        """Sets sliders of the host's, by their names in its page."""
        for setting, value in settings.items():
            self._set(f"#txt2img_{setting} input[type=number]", str(value))

    def part(self, name: str) -> Locator:
        return self.page.locator(f"#script_txt2img_dmm_styles_{name}").first

    def text(self, name: str) -> Locator:
        return self.part(name).locator("textarea, input").first

    def number(self, name: str) -> Locator:
        return self.part(name).locator("input[type=number]")

    @property
    def prompt(self) -> Locator:
        return self.page.locator("#txt2img_prompt textarea")

    def slider(self, style: str) -> Locator:
        return self.part("sliders").get_by_role("slider", name=f"Weight of {style}", exact=True)

    def shows(self, weights: dict[str, float]) -> None:
        """Waits until the sliders show these weights."""
        self.page.wait_for_function(
            SHOWN_WEIGHTS, arg=json.dumps([*weights.items()], separators=(",", ":"))
        )

    def says(self, notice: str) -> None:
        """Waits until this stands where the sliders are else."""
        self.part("sliders").get_by_text(notice).wait_for()

    def press(self, button: str) -> None:
        self.part("sliders").get_by_role("button", name=button).click()

    def choose(self, checkpoint: str) -> None:
        """Chooses a checkpoint in the header."""
        box = self.page.locator("#setting_sd_model_checkpoint input, .model_selection input").first
        box.fill(checkpoint)
        self.page.get_by_text(f"{checkpoint}.safetensors").first.wait_for()
        box.press("Enter")
        box.blur()

    def generate(self) -> str:
        """Paints, once for a page, and returns what stands below: the infotext, notices, errors."""
        self.page.locator("#txt2img_generate").click()
        log = self.page.locator("#html_log_txt2img").first
        log.get_by_text("Time taken").wait_for()
        return f"{self.page.locator('#html_info_txt2img').first.inner_text()}\n{log.inner_text()}"

    def picture(self) -> np.ndarray:
        """The picture [H, W, 3] that was painted last."""
        return np.asarray(self._file().convert("RGB"))

    def infotext(self) -> str:
        """What the file of the picture says of how it was painted."""
        return self._file().info["parameters"]

    def paste(self, infotext: str) -> None:
        """Puts an infotext into the prompt and presses the arrow that reads it."""
        self.prompt.fill(infotext)
        self.page.locator("#txt2img_tools #paste").click()
        self.page.wait_for_function(
            "document.querySelector('#txt2img_prompt textarea').value.indexOf('Steps:') < 0"
        )

    def _file(self) -> Image.Image:
        source = self.page.locator("#txt2img_gallery img").first.get_attribute("src")
        return Image.open(io.BytesIO(self.page.request.get(source).body()))

    def _set(self, field: str, value: str) -> None:
        self.page.locator(field).first.fill(value)
        self.page.locator(field).first.press("Tab")
