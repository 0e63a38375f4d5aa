"""Tiles of a picture that a script cuts up and paints one by one, such as "SD upscale".

Such scripts have `images.split_grid` of the host cut, which tells nobody where a tile is from. So
every tile gets its window along, for regions to be cropped to.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from modules import images
from PIL import Image

from sd_webui_dmm.painting.stand_in import StandIn
from sd_webui_dmm.regions.windows import TILE_WINDOW, Window


def _with_windows(split_grid: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(split_grid)
    def split(image: Image.Image, *args: Any, **options: Any) -> Any:
        grid = split_grid(image, *args, **options)
        width, height = grid.image_w, grid.image_h
        for top, high, row in grid.tiles:
            for left, wide, tile in row:
                box = (top / height, left / width, (top + high) / height, (left + wide) / width)
                setattr(tile, TILE_WINDOW, Window((height, width), *box))
        return grid

    return split


_stand_in = StandIn(images, "split_grid", _with_windows)


def follow() -> None:
    """From now on tiles have their windows."""
    _stand_in.step_in()


def unfollow() -> None:
    _stand_in.step_back()
