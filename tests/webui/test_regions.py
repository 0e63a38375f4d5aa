"""Regions by layout, by rectangle and by mask, painted in one pass or in several."""

from __future__ import annotations

import numpy as np
import pytest

from tests.webui.server import Painted, Refused, WebUI, encoded
from tests.webui.test_styles import hires

WIDE = {"width": 128, "height": 64}
LEFT = np.zeros((64, 128, 3), np.uint8)
LEFT[:, :64] = 255


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


@pytest.fixture(scope="session")
def halves(running: WebUI) -> Painted:
    """Ink on the left, photo on the right."""
    running.choose("merged")
    return running.paint({"columns": [1, 1], "regions": ["ink", "photo"]}, **WIDE)


@pytest.mark.parametrize(
    "place",
    [{"rectangle": [0, 0, 0.5, 1]}, {"mask": encoded(LEFT)}, {"mask": f"data:,{encoded(LEFT)}"}],
    ids=["rectangle", "mask", "data URL"],
)
def test_a_place_is_covered(webui: WebUI, halves: Painted, place: dict) -> None:
    dmm = {"styles": "photo", "regions": [{"styles": {"ink": 1}, **place}]}
    painted = webui.paint(dmm, **WIDE)
    assert painted == halves
    if webui.kind != "forge":  # Forge's API fails on every infotext; see test_region_editor.py
        assert webui.paint(infotext=painted.infotexts[0], **WIDE) == halves


def test_places_lie_on_the_layout(webui: WebUI, halves: Painted) -> None:
    rectangle = {"styles": "ink", "rectangle": [0, 0, 0.5, 0.5]}
    cells = {"columns": [1, 1], "rows": [1, 1], "regions": ["", "photo", "ink", "photo"]}
    cells["regions"].insert(0, rectangle)
    assert webui.paint(cells, **WIDE) == halves


def test_a_place_has_a_feather_of_its_own(webui: WebUI, halves: Painted) -> None:
    place = {"styles": "ink", "rectangle": [0, 0, 0.5, 1], "feather": 16}
    soft = webui.paint({"styles": "photo", "regions": [place]}, **WIDE)
    assert soft != halves
    sharp = {"styles": "photo", "feather": 16, "regions": [place | {"feather": 0}]}
    assert webui.paint(sharp, **WIDE) == halves
    cells = webui.paint({"columns": "1,1", "regions": ["ink", "photo"], "feather": 16}, **WIDE)
    assert difference(cells, soft).max() <= 1  # their shares are added up in another order


def test_regions_of_the_whole_picture_are_cropped_with_it(webui: WebUI, halves: Painted) -> None:
    """Inpainting "only masked" paints a square of the picture, here one half of it."""
    source = {"way": "img2img", "init_images": [encoded(halves.pictures[0])], "mask_blur": 0}
    source |= {"denoising_strength": 0.8, "inpaint_full_res": True, "inpaint_full_res_padding": 0}
    regions = {"columns": [1, 1], "regions": ["ink", "photo"]}
    for style, half in (("ink", np.s_[:, :64]), ("photo", np.s_[:, 64:])):
        mask = np.zeros((64, 128, 3), np.uint8)
        mask[half] = 255
        source["mask"] = encoded(mask)
        plain = webui.paint(**source)  # the first, too, which in Forge differs a little from others
        assert webui.paint(regions, **source) == webui.paint({"styles": style}, **source) != plain


@pytest.mark.parametrize("batch_size", [1, 2])
def test_regions_of_the_whole_picture_are_cropped_to_its_tiles(
    webui: WebUI, halves: Painted, batch_size: int
) -> None:
    """ "SD upscale" paints a large picture tile by tile, here one half of it after the other."""
    source = {"way": "img2img", "init_images": [encoded(halves.pictures[0])]}
    source |= {"denoising_strength": 0.8, "batch_size": batch_size}
    source |= {"script_name": "sd upscale", "script_args": ["", 0, "None", 1.0]}
    webui.paint(**source)  # the first, which in Forge differs a little from others
    both = webui.paint({"columns": [1, 1], "regions": ["ink", "photo"]}, **source)
    for style, half in (("ink", np.s_[:, :64]), ("photo", np.s_[:, 64:])):
        whole = webui.paint({"styles": style}, **source)
        assert difference(both, whole)[half].max() <= batch_size - 1  # a batch rounds otherwise
        assert difference(both, whole).max() > 1


def test_regions_are_cut_off_where_hires_fix_cuts_the_picture(webui: WebUI) -> None:
    """The mix of the sides, which the second pass alone has, is not seen: they are cut off."""
    tall = hires(webui) | {"hr_resize_x": 64, "hr_resize_y": 128}
    regions = {"columns": "1,2,1", "regions": ["", "photo", ""]}
    ink, anime = (
        webui.paint(regions, **tall, hr_prompt=f"a cat <dmm:{style}>") for style in ("ink", "anime")
    )
    assert ink.pictures.shape == (1, 128, 64, 3)
    assert ink == anime
    assert webui.paint(regions, **hires(webui), hr_prompt="a cat <dmm:ink>") != ink


def test_per_region_latents_are_strictly_apart(webui: WebUI, halves: Painted) -> None:
    dmm = {"columns": [1, 1], "regions": ["ink", "photo"], "method": "per-region latents"}
    apart = webui.paint(dmm, **WIDE)
    assert "DMM method: per-region latents" in apart.infotexts[0]
    for style, edge in (("ink", np.s_[:, :16]), ("photo", np.s_[:, -16:])):
        whole = webui.paint({"styles": style}, **WIDE)
        assert difference(apart, whole)[edge].mean() < difference(halves, whole)[edge].mean()
    one = {"columns": [1, 1], "regions": ["ink", "ink"], "method": "per-region latents"}
    assert webui.paint(one, **WIDE) == webui.paint({"styles": "ink"}, **WIDE)
    with pytest.raises(Refused, match=r"method is 'apart'\. Give one of: 'one pass', 'per-reg"):
        webui.paint({"method": "apart"})


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ({"mask": "abc"}, "regions[0].mask: The mask 'abc' is no picture."),
        ({"mask": 3}, "regions[0].mask is 3. Give a picture in base64."),
        ({"mask": encoded(0 * LEFT)}, "regions[0].mask: The mask is black: it covers nothing."),
        (
            {"rectangle": [0.5, 0, 0.6, 1]},
            "regions[0].rectangle: The rectangle 0.5, 0, 0.6, 1 reach",
        ),
        (
            {"rectangle": [0, 0, 0, 1]},
            "regions[0].rectangle: The rectangle 0, 0, 0, 1 has no area.",
        ),
        ({"rectangle": [0, 0, 1]}, "regions[0].rectangle: The place '0, 0, 1' is no rectangle."),
        ({"rectangle": [0, 0, 1, "1"]}, "regions[0].rectangle is '1'. Give four numbers."),
        ({"rectangle": "all"}, "regions[0].rectangle is 'all'. Give [x, y, width, height]"),
        (
            {"rectangle": [0, 0, 1, 1], "mask": encoded(LEFT)},
            "regions[0] has a rectangle and a mask.",
        ),
        ({"rectangle": [0, 0, 1, 1], "feather": -1}, "regions[0].feather is -1."),
        ({"feather": 4}, "regions[0].feather needs a rectangle or a mask"),
        (
            {"rectangel": [0, 0, 1, 1]},
            "no field 'rectangel' in regions[0]. Did you mean 'rectangle'?",
        ),
        ({"styles": {"ink": "much"}}, "regions[0].styles.ink is 'much'. Give a number."),
    ],
    ids=str,
)
def test_a_bad_region_is_refused_by_name(webui: WebUI, region: dict, message: str) -> None:
    with pytest.raises(Refused) as refused:
        webui.paint({"regions": [{"styles": {"ink": 1}} | region]})
    assert refused.value.status == 422
    assert message in refused.value.answer["detail"]
