"""Eight more styles than there are hands: Twemoji's art, seen through fixed filters.

Each takes and gives an RGB picture, drawn several times larger than it is shown.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps

Filter = Callable[[Image.Image], Image.Image]

BLOCKS = 16  # a side, of a pixelated picture
DOTS = 21  # a side, of a halftone


def pixelated(picture: Image.Image) -> Image.Image:
    return picture.resize((BLOCKS, BLOCKS), Image.BOX).resize(picture.size, Image.NEAREST)


def posterised(picture: Image.Image) -> Image.Image:
    """Eight colours in all: each channel is full or empty."""
    return picture.convert("RGB").point(lambda value: 255 if value > 127 else 0)


def negative(picture: Image.Image) -> Image.Image:
    return ImageOps.invert(picture)


def duotone(picture: Image.Image) -> Image.Image:
    return ImageOps.colorize(ImageOps.grayscale(picture), "#3b0f70", "#fde725")


def blueprint(picture: Image.Image) -> Image.Image:
    """White outlines on blue."""
    return ImageOps.colorize(_outlines(picture), "#123f9c", "white")


def embossed(picture: Image.Image) -> Image.Image:
    """Lit from the upper left, in grey."""
    grey = np.asarray(_smooth(ImageOps.grayscale(picture), picture.width / 128), np.float32)
    reach = max(picture.width // 64, 1)
    lit = 128 + (grey - np.roll(grey, (reach, reach), axis=(0, 1)))
    return Image.fromarray(lit.clip(0, 255).astype(np.uint8)).convert("RGB")


def halftone(picture: Image.Image) -> Image.Image:
    """Black dots on white, the larger the darker, in rows across the diagonal."""
    width, height = picture.size
    cell = width / DOTS
    rows, columns = np.mgrid[:height, :width] / cell
    across, along = (columns + rows) / np.sqrt(2), (columns - rows) / np.sqrt(2)
    screen = 0.5 + 0.25 * (np.cos(2 * np.pi * across) + np.cos(2 * np.pi * along))
    light = np.asarray(_smooth(ImageOps.grayscale(picture), cell / 3), np.float32) / 255
    return Image.fromarray(np.where(light > 0.98 * screen, 255, 0).astype(np.uint8)).convert("RGB")


def ink_wash(picture: Image.Image) -> Image.Image:
    """Soft greys on warm paper, outlined."""
    wash = _smooth(ImageOps.autocontrast(ImageOps.grayscale(picture)), picture.width / 40)
    drawn = ImageChops.multiply(wash, ImageOps.invert(_outlines(picture)))
    return ImageOps.colorize(drawn, "#1b1a20", "#f4ead5")


FILTERS: dict[str, Filter] = {
    "pixelated": pixelated,
    "posterised": posterised,
    "negative": negative,
    "duotone": duotone,
    "blueprint": blueprint,
    "embossed": embossed,
    "halftone": halftone,
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
