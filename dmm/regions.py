"""Regions: which style holds where in a picture, as vectors and masks that sum to 1 everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dmm.errors import DmmError

HeightWidth = tuple[int, int]
"""Of masks or features, as torch has them; the trainer's `Size` is width and height."""


@dataclass(frozen=True, eq=False)
class Regions:
    """The styles of a batch of pictures at one moment of the sampling.

    Attributes:
        vectors: [B, R, d], a style vector a region; a region of zeros has no style.
        masks: [B, R, H, W], each region's share of every place, summing to 1 over R. None where
            one style covers the whole picture (R = 1).

    In either, B is 1 where all pictures are alike. For a larger batch they are repeated in turn.
    """

    vectors: Tensor
    masks: Tensor | None = None

    @property
    def constant(self) -> bool:
        """True: the same at every step (see `dmm.schedules.Plan`)."""
        return True

    @property
    def has_style(self) -> bool:
        """False where nothing is to be added to the UNet anywhere."""
        return bool(self.vectors.any())

    def at(self, progress: float) -> Regions:
        """Itself (see `dmm.schedules.Plan`)."""
        return self

    def check_batch(self, batch: int) -> None:
        """Raises DmmError where the styles or masks do not go evenly into a batch of pictures."""
        for tensor, what in ((self.vectors, "styles"), (self.masks, "masks")):
            if tensor is not None and batch % len(tensor):
                raise DmmError(
                    f"There are {what} for {len(tensor)} pictures, but the batch has {batch}. "
                    f"Make the batch {len(tensor)} pictures, or a multiple of that."
                )

    def check_shape(self, height: int, width: int) -> None:
        """Raises DmmError where the masks are not of the picture's shape, whatever their size."""
        if self.masks is None:
            return
        mask_height, mask_width = self.masks.shape[-2:]
        # Sizes are multiples of 8, so two of one shape may still differ by a rounded pixel.
        if abs(mask_width * height - width * mask_height) >= 8 * max(mask_height, height):
            raise DmmError(
                f"The masks are {mask_width}×{mask_height}, which is not the shape of the picture, "
                f"{width}×{height}. Paint them on a picture of that size."
            )


def whole_picture(vector: Tensor) -> Regions:
    """One style, [d], for the whole of every picture."""
    return Regions(vector[None, None])


def no_style(dim: int) -> Regions:
    """The average of the styles (rebuttal Q.21); `dim` is d, the width of the style vectors."""
    return whole_picture(torch.zeros(dim))


def spatial(tensor: Tensor) -> HeightWidth:
    """The height and width of masks or features [..., H, W]."""
    return tensor.shape[-2], tensor.shape[-1]


def resize(masks: Tensor, size: HeightWidth) -> Tensor:
    """Masks [B, R, H, W] at another size: where they shrink, each place is an average."""
    return masks if masks.shape[-2:] == size else F.interpolate(masks, size=size, mode="area")


def repeat(tensor: Tensor, batch: int) -> Tensor:
    """[B, …] for a batch that is a multiple of B, repeated in turn: sample i is i mod B."""
    if len(tensor) == 1:
        return tensor.expand(batch, *tensor.shape[1:])
    return tensor.repeat(batch // len(tensor), *(1,) * (tensor.ndim - 1))


def feather(mask: Tensor, pixels: int) -> Tensor:
    """Softens a mask's edges: it rises from 0 to 1 within so many pixels on either side of them.

    Args:
        mask: [H, W] or [B, H, W]. Where it is uniform it stays exactly as it is.
    """
    soft = mask.reshape(-1, 1, *mask.shape[-2:]).float()
    # Two boxes of half the width make a ramp that starts and ends smoothly.
    for radius in (pixels // 2, pixels - pixels // 2):
        for kernel in ((2 * radius + 1, 1), (1, 2 * radius + 1)):
            high, wide = kernel[0] // 2, kernel[1] // 2
            padded = F.pad(soft, (wide, wide, high, high), mode="replicate")
            soft = F.avg_pool2d(padded, kernel, stride=1)
    return soft.reshape(mask.shape)


def share(masks: Sequence[Tensor]) -> Tensor:
    """Divides every place of a picture among regions, and a base where they leave something.

    Overlapping masks share: where they add up to more than 1 they are scaled to 1.

    Args:
        masks: a mask a region, [H, W] or [B, H, W], from 0 to 1.

    Returns:
        [B, R + 1, H, W] summing to 1 over the second dimension, whose first entry is the base.

    Raises:
        DmmError: a mask is empty or holds NaN, or its size or batch differs from the others'.
    """
    masks = [_checked(mask, number) for number, mask in enumerate(masks, start=1)]
    batch = max(len(mask) for mask in masks)
    for number, mask in enumerate(masks, start=1):
        if mask.shape[1:] != masks[0].shape[1:]:
            sizes = [f"{mask.shape[2]}×{mask.shape[1]}" for mask in (masks[0], mask)]
            raise DmmError(
                f"The mask of region 1 is {sizes[0]}, that of region {number} is {sizes[1]}. "
                "Paint all masks at one size, best that of the picture."
            )
        if len(mask) not in (1, batch):
            raise DmmError(
                f"The mask of region {number} is a batch of {len(mask)}, another one of {batch}. "
                "Give every region one mask for all pictures, or one for each."
            )
    regions = torch.stack([mask.expand(batch, -1, -1) for mask in masks], dim=1)
    total = regions.sum(dim=1, keepdim=True)
    return torch.cat([(1 - total).clamp(min=0), regions / total.clamp(min=1)], dim=1)


def compose(weights: Tensor, *parts: Regions) -> Regions:
    """Lays several styles into one picture.

    Args:
        weights: [B, P, H, W], each part's share of every place, summing to 1 over P.
        parts: P styles, which may be divided into regions themselves.

    Returns:
        All their regions but those that cover nothing. One that covers everything has no mask, and
        so paints bit for bit as the same style for the whole picture.
    """
    size = spatial(weights)
    masks = []
    for weight, part in zip(weights.split(1, dim=1), parts, strict=True):
        part.check_shape(*size)
        masks.append(weight if part.masks is None else weight * resize(part.masks, size))
    mask = _side_by_side(masks)
    vectors = _side_by_side([part.vectors for part in parts])
    used = [region for region in range(mask.shape[1]) if mask[:, region].any()]
    covers_all = len(used) == 1 and bool((mask[:, used] == 1).all())
    return Regions(vectors[:, used], None if covers_all else mask[:, used])


def mix_regions(first: Regions, second: Regions, weight: float) -> Regions:
    """What lies between two styles: (1 − weight) · first + weight · second."""
    masks = first.masks if second.masks is None else second.masks
    if masks is None:
        both = _side_by_side([first.vectors, second.vectors])
        return Regions(torch.lerp(both[:, :1], both[:, 1:], weight))
    weights = torch.tensor([1 - weight, weight]).reshape(1, 2, 1, 1)
    return compose(weights.expand(-1, -1, *masks.shape[-2:]), first, second)


def aligned(parts: Sequence[Regions]) -> list[Regions]:
    """The same styles with equally many regions, and masks of one size or none: ready to stack.

    The regions that are added cover nothing.
    """
    sizes = [spatial(part.masks) for part in parts if part.masks is not None]
    if not sizes:
        return list(parts)
    size, regions = max(sizes), max(part.vectors.shape[1] for part in parts)
    padded = []
    for part in parts:
        part.check_shape(*size)
        whole = part.vectors.new_ones(1, 1, *size)
        masks = whole if part.masks is None else resize(part.masks, size)
        missing = regions - part.vectors.shape[1]
        padded.append(
            Regions(F.pad(part.vectors, (0, 0, 0, missing)), F.pad(masks, (0,) * 5 + (missing,)))
        )
    return padded


def per_picture(*parts: Regions) -> Regions:
    """A style for each picture of the batch, each of them for a single picture.

    Raises:
        DmmError: a part is for several pictures itself.
    """
    for part in parts:
        part.check_batch(1)
    stacked = aligned(parts)
    masks = [part.masks for part in stacked if part.masks is not None]
    vectors = torch.cat([part.vectors for part in stacked])
    return Regions(vectors, torch.cat(masks) if masks else None)


def _side_by_side(tensors: Sequence[Tensor]) -> Tensor:
    """[B, ·, …] along the second dimension, what is alike for all pictures being repeated."""
    batch = max(len(tensor) for tensor in tensors)
    for tensor in tensors:
        if batch % len(tensor):
            raise DmmError(
                f"One style is for {len(tensor)} pictures, another for {batch}. "
                "Give both equally many pictures."
            )
    return torch.cat([repeat(tensor, batch) for tensor in tensors], dim=1)


def _checked(mask: Tensor, number: int) -> Tensor:
    """A mask as float [B, H, W] from 0 to 1."""
    if mask.ndim not in (2, 3) or 0 in mask.shape:
        raise DmmError(
            f"The mask of region {number} has the shape {list(mask.shape)}. "
            "Give a mask [height, width], or a batch of them."
        )
    mask = mask.detach().float().cpu().reshape(-1, *mask.shape[-2:])
    if not mask.isfinite().all():
        raise DmmError(f"The mask of region {number} holds NaN or infinity. Paint it again.")
    if not (mask > 0).any():
        raise DmmError(
            f"The mask of region {number} is empty: it covers nothing. "
            "Paint where its style shall hold, or remove the region."
        )
    return mask.clamp(0, 1)
