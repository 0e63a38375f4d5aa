"""Windows: the part of the picture that the host paints, to which regions are cropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dmm.regions import Size

MASK_SIDE = 512
"""Regions of larger pictures are drawn smaller, which takes an eighth of the time at 1024 pixels:
their masks shrink to the latents' size anyhow."""

_LATENT = 8  # pixels


@dataclass(frozen=True)
class Window:
    """A part of a picture, the whole of it as a rule.

    Attributes:
        picture: the height and width of the whole, in pixels.
        top, left, bottom, right: of the part, as fractions of the whole.
    """

    picture: Size
    top: float = 0.0
    left: float = 0.0
    bottom: float = 1.0
    right: float = 1.0

    @property
    def scale(self) -> float:
        """How large masks are, in pixels of theirs for a pixel of the picture."""
        return min(MASK_SIDE / max(self.picture), 1.0)

    @property
    def mask_size(self) -> Size:
        """The height and width of masks for the whole picture."""
        height, width = (max(round(side * self.scale), 1) for side in self.picture)
        return height, width

    def crop(self, masks: Tensor) -> Tensor:
        """The part of masks [..., H, W] for the whole picture."""
        rows = _span(self.top, self.bottom, masks.shape[-2])
        columns = _span(self.left, self.right, masks.shape[-1])
        return masks[..., rows, columns]


def window_of(p: Any) -> Window:
    """What the host paints now.

    Inpainting "only masked" paints a part of the picture at a size of its own; hires fix to a given
    width and height cuts off what does not fit that shape.

    Args:
        p: the host's StableDiffusionProcessing, in the midst of its work.
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


def _span(start: float, end: float, length: int) -> slice:
    first = min(round(start * length), length - 1)
    return slice(first, max(round(end * length), first + 1))
