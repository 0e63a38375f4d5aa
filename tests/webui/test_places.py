"""Regions as people write them, and the places they name; which need no host."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from dmm.errors import DmmError
from sd_webui_dmm.regions.lines import Region, parse_region
from sd_webui_dmm.regions.places import MASK_SIDE, Mask, Rectangle
from sd_webui_dmm.regions.shares import shares
from sd_webui_dmm.regions.windows import Window


def in_base64(picture: Image.Image, kind: str = "PNG") -> str:
    file = io.BytesIO()
    picture.save(file, kind)
    return base64.b64encode(file.getvalue()).decode()


def painted(width: int, height: int) -> Image.Image:
    """Black, with a white right half and an edge of grey."""
    picture = np.zeros((height, width), np.uint8)
    picture[:, width // 2 :] = 255
    picture[:, width // 2 - 1] = 77
    return Image.fromarray(picture)


@pytest.mark.parametrize(
    ("line", "region"),
    [
        ("ink:0.7, anime:0.3", Region("ink:0.7, anime:0.3")),
        ("", Region("")),
        ("ink @ 0, 0.25, 0.5, 0.75", Region("ink", Rectangle(0, 0.25, 0.5, 0.75))),
        (" a @ b:1 @0,0,.5,1  feather 12", Region("a @ b:1", Rectangle(0, 0, 0.5, 1), 12)),
        ("@ 0, 0, 1, 1", Region("", Rectangle(0, 0, 1, 1))),
    ],
)
def test_a_line_is_read_and_written(line: str, region: Region) -> None:
    assert parse_region(line) == region
    assert parse_region(str(region)) == region


@pytest.mark.parametrize("size", [(50, 30), (1024, 512), (300, 700)])
def test_a_mask_in_a_line_is_kept_small_and_then_as_it_is(size: tuple[int, int]) -> None:
    region = parse_region(f"ink @ mask data:image/png;base64,{in_base64(painted(*size))} feather 3")
    assert parse_region(str(region)) == region
    width, height = Image.open(io.BytesIO(base64.b64decode(region.place.png))).size
    assert max(width, height) == min(max(size), MASK_SIDE)
    assert len(region.place.png) < 500
    mask = region.place.mask((64, 64))
    assert mask[:, :28].max() < 0.05 and mask[:, 36:].min() > 0.95


def test_only_white_paint_is_a_mask() -> None:
    """As in programs that keep what is not painted transparent, whatever its colour."""
    transparent = Image.new("RGBA", (8, 8), (255, 255, 255, 0))
    transparent.paste((255, 255, 255, 255), (0, 0, 4, 8))
    mask = Mask.parse(in_base64(transparent)).mask((8, 8))
    assert torch.equal(mask, torch.cat([torch.ones(8, 4), torch.zeros(8, 4)], dim=1))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ink @ left", "The place 'left' is no rectangle"),
        ("ink @ 0, 0, 1", "The place '0, 0, 1' is no rectangle"),
        ("ink @ 0.5, 0, 0.6, 1", "0.5, 0, 0.6, 1 reaches outside the picture"),
        ("ink @ -0.5, 0, 0.6, 1", "reaches outside the picture"),
        ("ink @ 0, 0, 0.5, 0", "has no area"),
        ("ink @ 0, 0, nan, 1", "no finite number"),
        ("ink @ 0, 0, 1, 1 feather soft", "The feather 'soft' of a region"),
        ("ink @ 0, 0, 1, 1 feather 5000", "1024 at most"),
        ("ink @ mask äöü", "The mask 'äöü' is no picture"),
        (f"ink @ mask {base64.b64encode(b'#!/bin/sh' * 9).decode()}", "is no picture"),
        (f"ink @ mask {in_base64(painted(8, 8))[:60]}", "is no picture"),
        (f"ink @ mask {in_base64(painted(8, 8), 'TIFF')}", "is no picture"),
        (f"ink @ mask {in_base64(Image.new('L', (8, 8)))}", "The mask is black"),
    ],
)
def test_a_line_that_makes_no_sense_is_refused(line: str, message: str) -> None:
    with pytest.raises(DmmError, match=message):
        parse_region(line)


def test_a_rectangle_covers_its_pixels_and_never_none() -> None:
    mask = Rectangle(0.25, 0.5, 0.5, 0.5).mask((8, 16))
    assert mask.sum() == 32 and mask[4:, 4:12].all()
    assert Rectangle(0.999, 0, 0.001, 0.001).mask((8, 8)).sum() == 1


def test_regions_and_layout_share_every_place() -> None:
    lines = "ink\nphoto\nanime @ 0, 0, 0.5, 0.5 feather 2\nink @ 0.2, 0.2, 0.8, 0.8"
    found = list(shares("1,1", "", lines, 4, Window((32, 48))))
    assert [mix for mix, _ in found] == ["anime", "ink", "ink", "photo"]
    torch.testing.assert_close(sum(mask for _, mask in found), torch.ones(32, 48))


def test_a_window_is_a_part_of_the_masks() -> None:
    (_, whole), *_ = shares("", "", "ink @ 0.25, 0, 0.5, 1", 0, Window((64, 64)))
    (_, part), *_ = shares("", "", "ink @ 0.25, 0, 0.5, 1", 0, Window((64, 64), 0.5, 0, 1, 0.5))
    assert torch.equal(part, whole[32:, :32])


def test_masks_go_on_where_a_window_reaches_beyond_the_picture() -> None:
    (_, mask), *_ = shares("", "", "ink @ 0, 0, 0.5, 1", 0, Window((32, 32), left=-1))
    assert mask.shape == (32, 64)
    assert mask[:, :48].all() and not mask[:, 48:].any()


def test_masks_of_a_huge_picture_are_drawn_smaller() -> None:
    window = Window((4096, 8192), left=0.5)
    (_, mask), *_ = shares("", "", "ink @ 0.75, 0, 0.25, 1 feather 64", 0, window)
    assert mask.shape == (256, 256)
    soft = ((mask[0] > 0) & (mask[0] < 1)).nonzero()
    assert soft.min() == 128 - 4 and soft.max() == 128 + 3


def test_a_mask_whose_data_end_early_is_refused() -> None:
    file = bytearray(base64.b64decode(in_base64(painted(8, 8))))
    file[file.index(b"IDAT") - 1] -= 8  # the length of its chunk
    with pytest.raises(DmmError, match="is no picture"):
        Mask.parse(base64.b64encode(file).decode())
