"""A unit of ControlNet on the hosts' own page, with the words a test needs for it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tests.webui.browser import Txt2Img

if TYPE_CHECKING:  # without playwright the tests are skipped, not broken
    from playwright.sync_api import Locator


class Unit:
    """A unit of ControlNet in the tab txt2img, with its accordion open."""

    def __init__(self, tab: Txt2Img, number: int) -> None:
        self._part = f"#txt2img_controlnet_ControlNet-{number}_"
        self._page = tab.page
        model = self.part("controlnet_model_dropdown")
        unit = self._page.locator("#txt2img_controlnet .input-accordion > .label-wrap")
        for accordion in (self._page.locator("#controlnet > .label-wrap").first, unit.nth(number)):
            if not model.is_visible():
                accordion.click()
        self.control = self._page.locator("#txt2img_controlnet .dmm-control").nth(number)
        self.choice = self.control.locator("select")

    def part(self, name: str) -> Locator:
        return self._page.locator(f"{self._part}{name}")

    def choose(self, dropdown: str, value: str) -> None:
        box = self.part(f"controlnet_{dropdown}_dropdown").locator("input")
        box.click()
        box.fill(value)
        self._page.locator("ul.options li", has_text=value).first.wait_for()
        box.press("Enter")
        box.blur()

    def choose_kind(self, kind: str) -> None:
        """Chooses a kind of control, upon which the host chooses a preprocessor and a model."""
        self.part("controlnet_type_filter_radio").get_by_text(kind, exact=True).click()
        self._page.wait_for_function(
            "([preprocessor, kind]) => preprocessor.value.includes(kind)",
            arg=[
                self.part("controlnet_preprocessor_dropdown").locator("input").element_handle(),
                kind.lower(),
            ],
        )

    def show(self, picture: np.ndarray) -> None:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG")
        upload = self.part("input_image").locator("input[type=file]").first
        upload.set_input_files(
            {"name": "a.png", "mimeType": "image/png", "buffer": file.getvalue()}
        )

    def offers(self, automatic: str) -> None:
        """Waits until this stands for the automatic choice."""
        self.choice.locator("option", has_text=automatic).wait_for(state="attached")

    def follows(self, value: str) -> None:
        """Waits until this is chosen."""
        self._page.wait_for_function(
            "([choice, value]) => choice.value === value",
            arg=[self.choice.element_handle(), value],
        )
