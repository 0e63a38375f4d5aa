"""Regions by layout, painted in one pass."""

from __future__ import annotations

import numpy as np
import pytest

from tests.webui.server import Painted, WebUI

WIDE = {"width": 128, "height": 64}


def difference(first: Painted, second: Painted) -> np.ndarray:
    """How much two pictures differ at each place, [H, W]."""
    return np.abs(first.pictures[0].astype(float) - second.pictures[0].astype(float)).mean(axis=-1)


def test_regions_of_one_mix_are_that_mix(webui: WebUI) -> None:
    whole = webui.paint({"styles": {"ink": 1}}, **WIDE)
    columns = {"styles": {"ink": 1}, "columns": [1, 2, 1], "rows": [1, 1], "feather": 16}
    assert webui.paint(columns, **WIDE) == whole
    said = columns | {"styles": {}, "regions": ["ink:1.0"] * 6}
    assert webui.paint(said, **WIDE) == whole


@pytest.mark.parametrize("direction", ["columns", "rows"])
def test_each_region_is_painted_in_its_style(webui: WebUI, direction: str) -> None:
    size = WIDE if direction == "columns" else {"width": 64, "height": 128}
    first = np.s_[:, :64] if direction == "columns" else np.s_[:64]
    second = np.s_[:, 64:] if direction == "columns" else np.s_[64:]
    ink, photo = (webui.paint({"styles": {name: 1}}, **size) for name in ("ink", "photo"))
    both = webui.paint({direction: [1, 1], "regions": ["ink", "photo"]}, **size)
    assert difference(both, ink)[first].mean() < difference(both, photo)[first].mean()
    assert difference(both, photo)[second].mean() < difference(both, ink)[second].mean()


def test_a_region_without_a_mix_has_the_picture_s(webui: WebUI) -> None:
    said = webui.paint({"columns": [1, 1], "regions": ["ink", "photo"]}, **WIDE)
    assert webui.paint({"styles": "photo", "columns": [1, 1], "regions": ["ink"]}, **WIDE) == said
    assert (
        webui.paint({"styles": "ink", "columns": "1,1", "regions": ["", "photo"]}, **WIDE) == said
    )


def test_a_tag_is_the_mix_of_regions_that_have_none(webui: WebUI) -> None:
    said = webui.paint({"columns": [1, 1], "regions": ["ink", "photo"]}, **WIDE)
    tagged = {"columns": [1, 1], "regions": ["ink"]}
    assert webui.paint(tagged, prompt="a cat <dmm:photo:1>", **WIDE) == said


def test_feathering_changes_the_border(webui: WebUI) -> None:
    sides = {"columns": [1, 1], "regions": ["ink", "photo"]}
    assert webui.paint(sides | {"feather": 32}, **WIDE) != webui.paint(sides, **WIDE)
