"""Regions: places of a picture with a mix of their own, as people write them.

A line a region. The place follows an @, and is a rectangle's x, y, width and height as fractions of
the picture, or a painted mask: a picture in base64, white where the mix holds. Either may have a
feather of its own:

    ink:0.7, anime:0.3 @ 0.1, 0.2, 0.5, 0.4
    photo @ mask iVBORw0KGgo… feather 16

Lines without a place are for the cells of the layout, row by row.
"""

from __future__ import annotations

from dataclasses import dataclass

from dmm.errors import DmmError
from dmm.words import MAX_FEATHER
from sd_webui_dmm.regions.places import Mask, Rectangle


@dataclass(frozen=True)
class Region:
    """A mix and where it holds.

    Attributes:
        mix: ``"ink:0.7, anime:0.3"``, or empty for that of the picture.
        place: None for the next cell of the layout.
        feather: pixels on either side of the place's edge, in which it blends with what is beside
            it; None for as many as the layout's.
    """

    mix: str
    place: Rectangle | Mask | None = None
    feather: int | None = None

    def __str__(self) -> str:
        """The region's line, which `parse_region` reads."""
        if self.place is None:
            return self.mix
        feather = "" if self.feather is None else f" feather {self.feather}"
        return f"{self.mix} @ {self.place}{feather}".lstrip()


def parse_region(line: str) -> Region:
    """Reads a region's line.

    Raises:
        DmmError: what follows the @ is no place in the picture, or the feather is no number.
    """
    line = line.strip()
    mix, at, place = line.rpartition("@")
    if not at or (mix and not mix[-1].isspace()):
        return Region(line)
    words = place.split()
    feather = None
    if words[-2:-1] == ["feather"]:
        feather = _parse_feather(words[-1])
        words = words[:-2]
    if words[:1] == ["mask"]:
        return Region(mix.strip(), Mask.parse("".join(words[1:])), feather)
    return Region(mix.strip(), Rectangle.parse(" ".join(words)), feather)


def _parse_feather(text: str) -> int:
    if not text.isdecimal() or int(text) > MAX_FEATHER:
        raise DmmError(
            f"The feather {text!r} of a region is not a whole number of pixels, "
            f"{MAX_FEATHER} at most."
        )
    return int(text)
