"""The editor of regions on the hosts' page, with the words a test needs for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.webui.browser import Txt2Img

if TYPE_CHECKING:
    from playwright.sync_api import Locator

Point = tuple[float, float]
"""x and y in fractions of the picture."""


class RegionEditor:
    """The editor in txt2img, opened."""

    def __init__(self, tab: Txt2Img) -> None:
        self.page = tab.page
        self.panel = tab.part("region_editor")
        self.lines = tab.text("regions")
        tab.part("layout").locator(".label-wrap").first.click()
        self.canvas = self.panel.locator("canvas")
        self.canvas.scroll_into_view_if_needed()

    def text(self) -> str:
        """The regions, a line each."""
        return self.lines.input_value()

    def drag(self, start: Point, end: Point) -> None:
        """Draws, moves, resizes or paints with the mouse, whatever there is to be done there."""
        self.page.mouse.move(*self._on_page(start))
        self.page.mouse.down()
        self.page.mouse.move(*self._on_page(end), steps=4)
        self.page.mouse.up()

    def drag_finger(self, start: Point, end: Point) -> None:
        session = self.page.context.new_cdp_session(self.page)
        for kind, point in (("touchStart", start), ("touchMove", end), ("touchEnd", None)):
            points = [dict(zip("xy", self._on_page(point), strict=True))] if point else []
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def drag_slider(self, style: str, end: float) -> None:
        """Drags a style's weight, with a look at several on the way."""
        slider = self.slider(style)
        slider.scroll_into_view_if_needed()
        box = slider.bounding_box()
        middle = box["y"] + box["height"] / 2
        self.page.mouse.move(box["x"] + 2, middle)
        self.page.mouse.down()
        self.page.mouse.move(box["x"] + end * box["width"], middle, steps=6)
        self.page.mouse.up()

    def press(self, button: str) -> None:
        self.panel.get_by_role("button", name=button, exact=True).click()

    def field(self, label: str) -> Locator:
        return self.panel.get_by_label(label, exact=True)

    def slider(self, style: str) -> Locator:
        return self.panel.get_by_role("slider", name=f"Weight of {style}", exact=True)

    def regions(self) -> list[str]:
        """What the list says of each region."""
        return self.panel.locator(".dmm-region").all_inner_texts()

    def _on_page(self, point: Point) -> Point:
        box = self.canvas.bounding_box()
        return box["x"] + point[0] * box["width"], box["y"] + point[1] * box["height"]
