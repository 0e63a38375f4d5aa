"""Regions: which style holds where in a picture, as vectors and masks that sum to 1 everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dmm.errors import DmmError


@dataclass(frozen=True, eq=False)
class Regions:
    """The styles of a batch of pictures at one moment of the sampling.

    Attributes:
        vectors: [B, R, d], a style vector a region; a region of zeros has no style.
        masks: [B, R, H, W], each region's share of every place, summing to 1 over R. None where
            one style covers the whole picture (R = 1).

    B is 1 where all pictures are painted alike, in either of the two.
    """

    vectors: Tensor
    masks: Tensor | None = None

    @property
    def dim(self) -> int:
        return self.vectors.shape[-1]

    @property
    def has_style(self) -> bool:
        """False where nothing is to be added to the UNet anywhere."""
        return bool(self.vectors.any())

    @property
    def pictures(self) -> int:
        """How many pictures are told apart; 1 where all are painted alike."""
        return max(len(self.vectors), 1 if self.masks is None else len(self.masks))

    def at(self, progress: float) -> Regions:
        """Itself: a style that does not change over the steps (see `dmm.schedules.Style`)."""
        return self

    def mask_or_ones(self, size: tuple[int, int]) -> Tensor:
        """The masks, [B, R, *size] for a style that covers the whole picture."""
        return torch.ones(1, 1, *size) if self.masks is None else self.masks

    def resized(self, size: tuple[int, int]) -> Regions:
        """The same with masks of (H, W) `size`."""
        if self.masks is None:
            return self
        return Regions(self.vectors, resize_masks(self.masks, size))

    def repeated(self, batch: int) -> Regions:
        """For a batch of pictures, repeated in turn: picture i is painted as picture i mod B.

        Raises:
            DmmError: the batch is not a multiple of the pictures told apart.
        """
        if batch % self.pictures:
            raise DmmError(
                f"The styles or masks are for {self.pictures} pictures, but the batch has {batch}. "
                f"Make the batch {self.pictures} pictures, or a multiple of that."
            )
        masks = None if self.masks is None else _repeat(self.masks, batch)
        return Regions(_repeat(self.vectors, batch), masks)


def whole_picture(vector: Tensor) -> Regions:
    """One style, [d], for the whole of every picture."""
    return Regions(vector[None, None])


def no_style(dim: int) -> Regions:
    """The average of the styles (rebuttal Q.21), for a UNet whose time embedding has `dim` d."""
    return whole_picture(torch.zeros(dim))


def share(masks: Sequence[Tensor]) -> Tensor:
    """Divides every place among regions and a base.

    Where masks overlap beyond 1 they share the place; what they leave goes to the base.

    Args:
        masks: a mask a region, [H, W] or [B, H, W], from 0 to 1.

    Returns:
        [B, R + 1, H, W] summing to 1 over its second dimension, the base first.

    Raises:
        DmmError: a mask is empty, holds NaN, or differs from the others in size or batch.
    """
    checked = [_checked(mask, number) for number, mask in enumerate(masks, start=1)]
    batch = max(len(mask) for mask in checked)
    for number, mask in enumerate(checked, start=1):
        if mask.shape[1:] != checked[0].shape[1:]:
            raise DmmError(
                f"The mask of region {number} is {_size(mask)}, that of region 1 {_size(checked[0])}"
                ". Paint all masks of a picture at one size, best that of the picture."
            )
        if len(mask) not in (1, batch):
            raise DmmError(
                f"The mask of region {number} is a batch of {len(mask)}, another is one of {batch}."
                " Give every region one mask, or one for each picture."
            )
    stacked = torch.stack([mask.expand(batch, -1, -1) for mask in checked], dim=1)
    total = stacked.sum(dim=1, keepdim=True)
    base = (1 - total).clamp(min=0)
    return torch.cat([base, stacked / total.clamp(min=1)], dim=1)


def feather(mask: Tensor, pixels: int) -> Tensor:
    """Softens a mask's edges, so that it rises from 0 to 1 over twice that many pixels.

    Args:
        mask: [H, W] or [B, H, W]; a uniform one stays exactly as it is.
        pixels: of the mask, on either side of an edge.
    """
    if pixels <= 0:
        return mask
    soft = mask.reshape(-1, 1, *mask.shape[-2:]).float()
    # A box twice half as wide is a triangle. The average of equal numbers is exactly that number.
    for radius in (pixels // 2, pixels - pixels // 2):
        for kernel in ((2 * radius + 1, 1), (1, 2 * radius + 1)):
            margin = (kernel[1] // 2, kernel[1] // 2, kernel[0] // 2, kernel[0] // 2)
            soft = F.avg_pool2d(F.pad(soft, margin, mode="replicate"), kernel, stride=1)
    return soft.reshape(mask.shape)


def compose(weights: Tensor, parts: Sequence[Regions]) -> Regions:
    """Lays several styles into one picture.

    Args:
        weights: [B, P, H, W], each part's share of every place, summing to 1 over P.
        parts: P styles, which may be divided into regions themselves.

    Returns:
        Regions with those that cover nothing left out; one that covers all has no mask, and so
        paints exactly as the same style without regions.
    """
    size = tuple(weights.shape[-2:])
    masks = [
        weights[:, number : number + 1] * part.mask_or_ones(size).to(weights)
        for number, part in enumerate(_of_one_size([Regions(weights, weights), *parts])[1:])
    ]
    batch = max(len(tensor) for tensor in (*masks, *(part.vectors for part in parts)))
    mask = torch.cat([_repeat(mask, batch) for mask in masks], dim=1)
    vectors = torch.cat([_repeat(part.vectors, batch) for part in parts], dim=1)
    covers = [region for region in range(mask.shape[1]) if mask[:, region].any()]
    vectors, mask = vectors[:, covers], mask[:, covers]
    return Regions(vectors) if len(covers) == 1 and (mask == 1).all() else Regions(vectors, mask)
