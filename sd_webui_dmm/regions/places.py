"""Places in a picture: rectangles and painted masks, which fit a picture of any size."""

from __future__ import annotations

import base64
import io
import math
import struct
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from dmm.errors import DmmError
from dmm.regions import HeightWidth

MASK_SIDE = 128
"""The longer side of a painted mask: as fine as the latents of a picture of 1024 pixels."""

# What Pillow says of damaged files; base64's errors are ValueErrors.
_NO_PICTURE = (
    *(OSError, EOFError, SyntaxError, ValueError, struct.error),
    Image.DecompressionBombError,
)
_MASK_STEPS = 15  # of grey, so that a mask in an infotext is a few hundred letters
_MOST_PIXELS = 8192**2
_TOLERANCE = 1e-3  # fractions written by hand need not add up to 1


@dataclass(frozen=True)
class Rectangle:
    """A rectangle in fractions of the picture, from its left and top.

    Raises:
        DmmError: it reaches outside the picture, or has no area.
    """

    x: float
    y: float
    width: float
    height: float

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.x, self.y, self.width, self.height))):
            raise DmmError(f"The rectangle {self} has a side that is no finite number.")
        if self.width <= 0 or self.height <= 0:
            raise DmmError(f"The rectangle {self} has no area. {_RECTANGLE}")
        right, bottom = self.x + self.width, self.y + self.height
        if min(self.x, self.y) < -_TOLERANCE or max(right, bottom) > 1 + _TOLERANCE:
            raise DmmError(f"The rectangle {self} reaches outside the picture. {_RECTANGLE}")

    @classmethod
    def parse(cls, text: str) -> Rectangle:
        """Reads ``"0.1, 0.2, 0.5, 0.4"``."""
        try:
            return cls(*map(float, text.split(",")))
        except (ValueError, TypeError):
            raise DmmError(f"The place {text!r} is no rectangle. {_RECTANGLE}") from None

    def __str__(self) -> str:
        return f"{self.x:g}, {self.y:g}, {self.width:g}, {self.height:g}"

    def mask(self, size: HeightWidth) -> Tensor:
        """1 within the rectangle and 0 outside, [H, W]; it never vanishes for being small."""
        mask = torch.zeros(size)
        rows = _span(self.y, self.height, size[0])
        columns = _span(self.x, self.width, size[1])
        mask[rows, columns] = 1
        return mask


_RECTANGLE = (
    "Give x, y, width and height as fractions of the picture, from 0 to 1, such as 0, 0, 0.5, 1."
)


@dataclass(frozen=True)
class Mask:
    """A painted mask, laid over the whole picture.

    Attributes:
        png: a picture file in base64, white where the mask is.
    """

    png: str

    @classmethod
    def parse(cls, text: str) -> Mask:
        """Reads any picture in base64, or a data URL, and reduces it to what is kept of a mask.

        What is kept is kept as it is: the same text comes out of what was read before.

        Raises:
            DmmError: it is no picture, or one without white.
        """
        text = text.partition(",")[2] if text.startswith("data:") else text
        try:
            file = io.BytesIO(base64.b64decode(text, validate=True))
            with Image.open(file, formats=("PNG", "JPEG", "WEBP")) as picture:
                _check_size(picture)
                picture = _white(picture)
        except _NO_PICTURE:
            raise DmmError(
                f"The mask {_shortened(text)!r} is no picture. Give a PNG, JPEG or WebP file in "
                "base64, white where the style holds."
            ) from None
        if not picture.getbbox():
            raise DmmError(
                "The mask is black: it covers nothing. Paint white where its style shall hold, or "
                "remove the region."
            )
        file = io.BytesIO()
        picture.save(file, "PNG", optimize=True)
        return cls(base64.b64encode(file.getvalue()).decode())

    def __str__(self) -> str:
        return f"mask {self.png}"

    def mask(self, size: HeightWidth) -> Tensor:
        """From 0 to 1, [H, W]."""
        mask = self._pixels[None, None]
        smooth = F.interpolate(mask, size, mode="bilinear", antialias=True, align_corners=False)
        return smooth[0, 0].clamp(0, 1)

    @cached_property
    def _pixels(self) -> Tensor:
        with Image.open(io.BytesIO(base64.b64decode(self.png))) as picture:
            return torch.from_numpy(np.asarray(picture, np.float32) / 255)


def _span(start: float, length: float, pixels: int) -> slice:
    first = min(max(round(start * pixels), 0), pixels - 1)
    return slice(first, max(round((start + length) * pixels), first + 1))


def _check_size(picture: Image.Image) -> None:
    """Before it is read: a small file may unfold to a picture that fills the memory."""
    width, height = picture.size
    if width * height > _MOST_PIXELS:
        raise DmmError(f"The mask is {width}×{height} pixels. Give one of 8192×8192 at most.")


def _white(picture: Image.Image) -> Image.Image:
    """How white a picture is, small and in few greys; what is transparent is not."""
    width, height = picture.size
    scale = min(MASK_SIDE / max(width, height), 1)
    rgba = picture.convert("RGBA")
    grey = Image.alpha_composite(Image.new("RGBA", rgba.size, "black"), rgba).convert("L")
    grey = grey.resize((max(round(width * scale), 1), max(round(height * scale), 1)), Image.BOX)
    step = 255 // _MASK_STEPS
    return grey.point([(level + step // 2) // step * step for level in range(256)])


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}…"
