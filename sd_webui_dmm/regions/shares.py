"""Shares: how much of every place in a picture belongs to which mix."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dmm.errors import DmmError
from dmm.regions import feather, share
from sd_webui_dmm.regions import layouts
from sd_webui_dmm.regions.lines import Region, parse_region
from sd_webui_dmm.regions.windows import Window

MOST_REGIONS = 256
"""As many as there are cells in the largest layout. Every one is a mask in memory."""


def shares(
    columns: str, rows: str, regions: str, soft: int, window: Window
) -> Iterator[tuple[str, Tensor]]:
    """The mix of each region, "" for the picture's, and its mask [h, w] of the window.

    The masks add up to 1 everywhere. What no rectangle and no painted mask covers is the layout's.

    Args:
        columns, rows, regions: as the user wrote them.
        soft: pixels on either side of a border in which regions blend, where they do not say it.

    Raises:
        DmmError: a value that the user has to mend.
    """
    lines = regions.rstrip().splitlines()
    if len(lines) > MOST_REGIONS:
        raise DmmError(f"There are {len(lines)} regions. {MOST_REGIONS} is the most.")
    said = [parse_region(line) for line in lines]
    placed = [region for region in said if region.place is not None]
    base = torch.ones(window.mask_size)
    if placed:
        base, *covered = share([_mask(region, soft, window) for region in placed])[0]
        for region, mask in zip(placed, covered, strict=True):
            yield region.mix, window.crop(mask)
    widths = layouts.parse_ratios(columns, "columns")
    heights = layouts.parse_ratios(rows, "rows")
    mixes = [region.mix for region in said if region.place is None]
    mixes = layouts.mixes_of_cells(mixes, len(widths), len(heights))
    cells = layouts.cells(widths, heights, window.mask_size, round(soft * window.scale))
    for mix, cell in zip(mixes, cells, strict=True):
        yield mix, window.crop(base * cell)


def _mask(region: Region, soft: int, window: Window) -> Tensor:
    mask = region.place.mask(window.mask_size)
    pixels = round((soft if region.feather is None else region.feather) * window.scale)
    return feather(mask, pixels) if pixels else mask
