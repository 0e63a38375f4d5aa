"""What travels along the wires between the nodes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from comfy_api.latest import io
from torch import Tensor

from dmm.errors import DmmError
from dmm.metadata import Family
from dmm.regions import no_style
from dmm.schedules import Plan

DmmStyles = io.Custom("DMM_STYLES")
"""A file's styles, `dmm.merged.Styles`."""

DmmStyle = io.Custom("DMM_STYLE")
"""A style to paint in, `Style`."""

DmmRegions = io.Custom("DMM_REGIONS")
"""Regions of a picture, `tuple[Region, ...]`."""


@dataclass(frozen=True)
class Style:
    """A style to paint in, whatever it is made of.

    Attributes:
        plan: the styles over the picture, the batch and the steps.
        family: of the UNet it is for.
        dim: d, the width of that UNet's time embedding.
        separate: paint regions from latents of their own, one pass a region.
    """

    plan: Plan
    family: Family
    dim: int
    separate: bool = False

    def without(self) -> Style:
        """No style, for the same UNet."""
        return replace(self, plan=no_style(self.dim), separate=False)


@dataclass(frozen=True)
class Region:
    """A style and the mask where it holds."""

    mask: Tensor
    style: Style


def combined(styles: list[Style], plan: Plan) -> Style:
    """A style made of others.

    Raises:
        DmmError: they are for different UNets.
    """
    first = styles[0]
    for style in styles[1:]:
        if (style.family, style.dim) != (first.family, first.dim):
            raise DmmError(
                "The styles are for different models, SD 1.5 and SDXL. "
                "Take all of them from the same merged checkpoint."
            )
    return Style(plan, first.family, first.dim, any(style.separate for style in styles))
