"""Tiles of a picture that a script cuts up and paints one by one, such as "SD upscale".

Such scripts have `images.split_grid` of the host cut, which tells nobody where a tile is from. So
every tile gets its window along, for regions to be cropped to.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from modules import images
from PIL import Image

from sd_webui_dmm.regions.windows import TILE_WINDOW, Window

_split_grid = images.split_grid  # the host's own


def follow() -> None:
    """From now on tiles have their windows."""
    images.split_grid = _split_with_windows


def unfollow() -> None:
    images.split_grid = _split_grid


@wraps(_split_grid)
def _split_with_windows(image: Image.Image, *args: Any, **options: Any) -> Any:
    grid = _split_grid(image, *args, **options)
    width, height = grid.image_w, grid.image_h
    for top, high, row in grid.tiles:
        for left, wide, tile in row:
            box = (top / height, left / width, (top + high) / height, (left + wide) / width)
            setattr(tile, TILE_WINDOW, Window((height, width), *box))
    return grid
