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
"""A style to paint in, `ChosenStyle`."""

DmmRegions = io.Custom("DMM_REGIONS")
"""Regions of a picture, `tuple[Region, ...]`."""


@dataclass(frozen=True)
class ChosenStyle:
    """A style to paint in, whatever it is made of.

    Attributes:
        plan: the styles over the picture, the batch and the steps.
        family: of the UNet it is for.
        dim: d, the width of that UNet's time embedding.
        separate: paint regions from latents of their own, one pass a region. Says nothing of a
            plan that has no regions.
    """

    plan: Plan
    family: Family
    dim: int
    separate: bool = False

    def without(self) -> ChosenStyle:
        """No style, for the same UNet."""
        return replace(self, plan=no_style(self.dim), separate=False)


@dataclass(frozen=True)
class Region:
    """A style and where it holds.

    Attributes:
        mask: [H, W] or [B, H, W] from 0 to 1, in pixels, of the picture's shape if not its size.
        style: what holds there.
    """

    mask: Tensor
    style: ChosenStyle


def combined(styles: list[ChosenStyle], plan: Plan) -> ChosenStyle:
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
    return ChosenStyle(plan, first.family, first.dim, any(style.separate for style in styles))
