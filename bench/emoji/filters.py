"""Eight more styles than there are hands: Twemoji's art, seen through fixed filters.

Each takes and gives an RGB picture, drawn several times larger than it is shown.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps

Filter = Callable[[Image.Image], Image.Image]

BLOCKS = 16  # a side, of a pixelated picture


def pixelated(picture: Image.Image) -> Image.Image:
    return picture.resize((BLOCKS, BLOCKS), Image.BOX).resize(picture.size, Image.NEAREST)


def posterised(picture: Image.Image) -> Image.Image:
    """Eight colours in all: each channel is full or empty."""
    return picture.point(lambda value: 255 if value > 127 else 0)


def recoloured(picture: Image.Image) -> Image.Image:
    """Each colour's opposite, as bright as it was."""
    hue, saturation, value = picture.convert("HSV").split()
    turned = hue.point(lambda angle: (angle + 128) % 256)
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


def duotone(picture: Image.Image) -> Image.Image:
    return ImageOps.colorize(ImageOps.grayscale(picture), "#3b0f70", "#fde725")


def biro(picture: Image.Image) -> Image.Image:
    """Blue outlines on white."""
    return ImageOps.colorize(_outlines(picture), "white", "#123f9c")


def embossed(picture: Image.Image) -> Image.Image:
    """White paper, lit from the upper left."""
    grey = np.asarray(_smooth(ImageOps.grayscale(picture), picture.width / 128), np.float32)
    reach = max(picture.width // 64, 1)
    lit = 240 + (grey - np.roll(grey, (reach, reach), axis=(0, 1)))
    return Image.fromarray(lit.clip(0, 255).astype(np.uint8)).convert("RGB")


def sepia(picture: Image.Image) -> Image.Image:
    return ImageOps.colorize(ImageOps.grayscale(picture), "#3a1f0b", "white", mid="#c08a4e")


def ink_wash(picture: Image.Image) -> Image.Image:
    """Soft greys on warm paper, outlined."""
    wash = _smooth(ImageOps.autocontrast(ImageOps.grayscale(picture)), picture.width / 40)
    drawn = ImageChops.multiply(wash, ImageOps.invert(_outlines(picture)))
    return ImageOps.colorize(drawn, "#1b1a20", "#f4ead5")


FILTERS: dict[str, Filter] = {
    "pixelated": pixelated,
    "posterised": posterised,
    "recoloured": recoloured,
    "duotone": duotone,
    "biro": biro,
    "embossed": embossed,
    "sepia": sepia,
    "ink-wash": ink_wash,
}


def _smooth(picture: Image.Image, radius: float) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(radius))


def _outlines(picture: Image.Image) -> Image.Image:
    """Where any colour changes: white on black, about two shown pixels wide."""
    width = max(picture.width // 64, 1) * 2 + 1
    thick = ImageChops.difference(
        picture.filter(ImageFilter.MaxFilter(width)), picture.filter(ImageFilter.MinFilter(width))
    )
    strongest = np.asarray(thick).max(axis=2)
    return ImageOps.autocontrast(Image.fromarray(strongest))
