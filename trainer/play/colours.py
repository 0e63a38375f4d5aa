"""Regions painted with the mouse: a colour a style."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL.Image import Image, Resampling
from torch import Tensor
from torch.nn import functional as F

PALETTE = (
    "#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#42d4f4", "#f032e6", "#bfef45",
    "#fabed4", "#469990", "#dcbeff", "#9a6324", "#fffac8", "#800000", "#aaffc3", "#808000",
)  # fmt: skip
"""Colours that people tell apart; styles beyond them have none."""


def masks_of(layers: Sequence[Image], colours: Sequence[str], size: tuple[int, int]) -> Tensor:
    """What was painted in each colour, [C, H, W], 0 or 1.

    Args:
        layers: RGBA, the last one on top; what is transparent was not painted.
        colours: such as "#e6194b". A soft edge counts for the colour that is nearest.
        size: width and height of the picture.
    """
    wanted = torch.tensor([_rgb(colour) for colour in colours]).float()
    masks = torch.zeros(len(colours), size[1], size[0])
    for layer in layers:
        small = layer.convert("RGBA").resize(size, Resampling.NEAREST)
        pixels = torch.tensor(np.asarray(small)).float()  # [H, W, 4]
        nearest = (pixels[..., None, :3] - wanted).square().sum(dim=-1).argmin(dim=-1)
        colour_of = F.one_hot(nearest, len(colours)).permute(2, 0, 1).float()
        masks = torch.where(pixels[..., 3] > 127, colour_of, masks)
    return masks


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue
