"""The axes that the X/Y/Z plot gets."""

from __future__ import annotations

import numpy as np
import pytest

from tests.webui.server import Painted, WebUI


def plot(webui: WebUI, axis: str, values: str, **more: object) -> Painted:
    """Paints a plot of one axis; its pictures, without grids."""
    scripts = webui.get("/sdapi/v1/script-info")
    arguments = next(script["args"] for script in scripts if script["name"] == "x/y/z plot")
    args = [argument["value"] for argument in arguments]
    labels = [argument["label"] for argument in arguments]
    choices = arguments[labels.index("X type")]["choices"]
    for index, label in enumerate(labels):
        if label in ("X type", "Y type", "Z type"):
            args[index] = choices.index(axis if label == "X type" else "Nothing")
    args[labels.index("X values")] = values
    args[labels.index("Draw legend")] = False
    args[labels.index("Include Sub Images")] = True
    args[labels.index("Use text inputs instead of dropdowns")] = True
    return webui.paint(script_name="x/y/z plot", script_args=args, **more)


@pytest.mark.parametrize(
    ("axis", "values", "cells"),
    [
        ("style", "ink, photo", [{"styles": {"ink": 1}}, {"styles": {"photo": 1}}]),
        (
            "mix",
            '"ink:0.7, photo:0.3", photo',
            [{"styles": "ink:0.7, photo:0.3"}, {"styles": "photo"}],
        ),
        (
            "style weight",
            "ink:0.5, ink:1",
            [{"styles": "ink:0.5, anime:1"}, {"styles": "ink, anime"}],
        ),
        (
            "strength",
            "0, 0.5",
            [{"styles": "anime", "strength": strength} for strength in (0, 0.5)],
        ),
    ],
)
def test_axes(webui: WebUI, axis: str, values: str, cells: list[dict]) -> None:
    grid = plot(webui, f"[DMM] {axis}", values, dmm={"styles": "anime"})
    expected = [webui.paint(cell) for cell in cells]
    assert len(grid.pictures) == len(expected)
    for picture, cell in zip(grid.pictures, expected, strict=True):
        assert np.array_equal(picture, cell.pictures[0])
