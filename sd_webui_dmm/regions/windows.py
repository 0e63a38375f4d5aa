"""Windows: the part of the picture that the host paints, to which regions are cropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dmm.regions import HeightWidth

MASK_SIDE = 512
"""Regions of larger pictures are drawn smaller, which takes an eighth of the time at 1024 pixels:
their masks shrink to the latents' size anyhow."""

TILE_WINDOW = "dmm_window"
"""The attribute of an input that is a tile of a larger picture (see `grid_tiles`): its window."""

_LATENT = 8  # pixels


@dataclass(frozen=True)
class Window:
    """A part of a picture, the whole of it as a rule.

    Attributes:
        picture: the height and width of the whole, in pixels.
        top, left, bottom, right: of the part, as fractions of the whole; below 0 or above 1 where
            it reaches beyond.
    """

    picture: HeightWidth
    top: float = 0.0
    left: float = 0.0
    bottom: float = 1.0
    right: float = 1.0

    @property
    def scale(self) -> float:
        """How large masks are, in pixels of theirs for a pixel of the picture."""
        return min(MASK_SIDE / max(self.picture), 1.0)

    @property
    def mask_size(self) -> HeightWidth:
        """The height and width of masks for the whole picture."""
        height, width = (max(round(side * self.scale), 1) for side in self.picture)
        return height, width

    def crop(self, masks: Tensor) -> Tensor:
        """The part of masks [..., H, W] for the whole picture, which go on beyond its edges."""
        rows = _pixels(self.top, self.bottom, masks.shape[-2])
        columns = _pixels(self.left, self.right, masks.shape[-1])
        return masks[..., rows[:, None], columns]


def windows_of(p: Any) -> list[Window]:
    """What the host paints now: a window for each picture of the batch, or one for all.

    Args:
        p: the host's StableDiffusionProcessing, in the midst of its work.
    """
    inputs = getattr(p, "init_images", None) or ()
    tiles = [getattr(image, TILE_WINDOW) for image in inputs if hasattr(image, TILE_WINDOW)]
    return tiles or [_window_of_all(p)]


def _window_of_all(p: Any) -> Window:
    """The window of whole pictures.

    Inpainting "only masked" paints a part of the picture at a size of its own; hires fix to a given
    width and height cuts off what does not fit that shape.
    """
    picture = (p.height, p.width)
    if getattr(p, "paste_to", None) and p.mask_for_overlay:
        width, height = p.mask_for_overlay.size
        left, top, wide, high = p.paste_to
        box = (top / height, left / width, (top + high) / height, (left + wide) / width)
        return Window((height, width), *box)
    if getattr(p, "is_hr_pass", False) and (p.truncate_x or p.truncate_y):
        height, width = p.hr_upscale_to_y // _LATENT, p.hr_upscale_to_x // _LATENT
        top, left = p.truncate_y // 2, p.truncate_x // 2
        bottom, right = height - (p.truncate_y + 1) // 2, width - (p.truncate_x + 1) // 2
        return Window(picture, top / height, left / width, bottom / height, right / width)
    return Window(picture)


def _pixels(start: float, end: float, length: int) -> Tensor:
    first = min(round(start * length), length - 1)
    last = max(round(end * length), first + 1)
    return torch.arange(first, last).clamp(0, length - 1)
