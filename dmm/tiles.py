"""Tiles: a picture larger than the UNet knows, divided into parts that overlap.

Mixture of Diffusers (arXiv 2302.02412) blends the predictions of the parts by Gaussian weights,
MultiDiffusion (arXiv 2302.08113) averages them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from dmm.regions import Regions, repeat, resize


@dataclass(frozen=True)
class Tiling:
    """How a picture is divided, in latents.

    Attributes:
        height: of a tile.
        width: of a tile.
        overlap: of neighbours, at least.
        gaussian: weigh a tile's middle most; else all of it alike.
        wrap: the right edge is the left one's neighbour.
    """

    height: int
    width: int
    overlap: int
    gaussian: bool
    wrap: bool

    def tiles(self, height: int, width: int) -> list[Tile]:
        """The tiles of a picture, which cover it."""
        high, wide = min(self.height, height), min(self.width, width)
        rows = _starts(height, high, self.overlap)
        columns = _starts(width, wide, self.overlap, wrap=self.wrap)
        return [Tile(top, left, high, wide, height, width) for top in rows for left in columns]

    def weights(self, tile: Tile, device: torch.device | None = None) -> Tensor:
        """Of a tile's predictions, [height, width]: the same for all tiles of a picture.

        Args:
            device: None for the CPU.
        """
        if not self.gaussian:
            return torch.ones(tile.height, tile.width, device=device)
        return _gaussian(tile.height, device)[:, None] * _gaussian(tile.width, device)


@dataclass(frozen=True)
class Tile:
    """A part of a picture, in latents; it may reach over the right edge back to the left."""

    top: int
    left: int
    height: int
    width: int
    picture_height: int
    picture_width: int

    def columns(self, scale: int = 1, device: torch.device | None = None) -> Tensor:
        """The tile's columns, [width · scale], in a picture `scale` times the latents' size.

        Args:
            device: None for the CPU.
        """
        start, end = self.left * scale, (self.left + self.width) * scale
        return torch.arange(start, end, device=device) % (self.picture_width * scale)

    def crop(self, picture: Tensor) -> Tensor:
        """The tile's part of [..., h, w], at a whole multiple of the latents' size."""
        scale = picture.shape[-1] // self.picture_width
        rows = picture.narrow(-2, self.top * scale, self.height * scale)
        return rows.index_select(-1, self.columns(scale, picture.device))

    def add(self, picture: Tensor, part: Tensor) -> None:
        """Adds the tile's part to a picture of the latents' size, in place."""
        rows = picture.narrow(-2, self.top, self.height)
        rows.index_add_(-1, self.columns(device=picture.device), part)


def crop(regions: Regions, tiles: Sequence[Tile], samples: int) -> Regions:
    """The styles of tiles that the UNet is given as one batch.

    Args:
        tiles: of one picture, one after the other in the batch.
        samples: of each tile, the pictures of `regions` in turn.
    """
    if regions.masks is None:
        return regions
    size = (tiles[0].picture_height, tiles[0].picture_width)
    masks = resize(regions.masks, size)
    return Regions(
        regions.vectors, torch.cat([repeat(tile.crop(masks), samples) for tile in tiles])
    )


def _starts(length: int, tile: int, overlap: int, *, wrap: bool = False) -> list[int]:
    """Where the tiles along one side begin: as few as overlap enough, evenly spread."""
    step = max(tile - overlap, 1)
    if wrap:
        count = ceil(length / step)
        return [number * length // count for number in range(count)]
    gaps = ceil((length - tile) / step)
    return [number * (length - tile) // gaps for number in range(gaps + 1)] if gaps else [0]


def _gaussian(length: int, device: torch.device | None) -> Tensor:
    """The authors' weights: a variance of 0.01 where the tile is 1 long."""
    distance = (torch.arange(length, device=device) - (length - 1) / 2) / length
    return torch.exp(-(distance**2) / (2 * 0.01))
