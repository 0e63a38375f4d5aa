"""A studio: a merged checkpoint, loaded once, that paints picture after picture in any style."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor

from dmm.errors import DmmError
from dmm.injection import styled
from dmm.merged import read_styles
from dmm.regions import Regions
from trainer.checkpoint import open_checkpoint
from trainer.sampling import decode, sample_latents, sdxl_time_ids
from trainer.text import TextEmbedding, TextEncoders

Size = tuple[int, int]
"""Width and height, in pixels."""


class Studio:
    """Paints from a merged checkpoint, on the GPU where there is one.

    Attributes:
        styles: the file's.
        size: at which it was trained.

    Raises:
        DmmError: the file cannot be read, or has no styles.
    """

    def __init__(self, path: Path) -> None:
        self.styles = read_styles(path)
        self._checkpoint = open_checkpoint(path)
        self.size = trained_size(self._checkpoint.metadata.get("modelspec.resolution", ""))
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._text = TextEncoders(self._checkpoint, device=self._device)
        self._unet = self._checkpoint.load_unet().to(self._device)
        self._vae = self._checkpoint.load_vae().to(self._device)
        self._encoded = lru_cache(maxsize=16)(self._encode)

    def paint(
        self,
        prompt: str,
        style: Tensor | Regions | None,
        *,
        negative: str = "",
        size: Size | None = None,
        seed: int = 0,
        steps: int = 25,
        guidance: float = 7.0,
        progress: str | None = None,
    ) -> Image:
        """Paints one picture.

        Args:
            style: the vector of a mix, [d], or regions; None = no style, the average.
            size: None = as the file was trained.
            progress: title of a progress bar; None = no bar.

        Raises:
            DmmError: the size is not a multiple of 8.
        """
        width, height = size or self.size
        refuse_odd_size((width, height))
        factor = 2 ** (len(self._checkpoint.vae_config["block_out_channels"]) - 1)
        with styled(self._unet, style):
            latents = sample_latents(
                self._unet,
                self._encoded(prompt),
                self._encoded(negative),
                shape=(self._unet.config.in_channels, height // factor, width // factor),
                seeds=[seed],
                steps=steps,
                guidance=guidance,
                prediction_type=self._checkpoint.prediction_type,
                time_ids=sdxl_time_ids(width, height),
                progress=progress,
            )
        return decode(self._vae, latents)[0]

    def _encode(self, prompt: str) -> TextEmbedding:
        return self._text.encode([prompt])


def trained_size(said: str) -> Size:
    """Width and height from "512x768", a stranger's word; 512 × 512 where it makes no sense."""
    sides = [int(side) for side in said.split("x") if side.isdecimal()]
    return (sides[0], sides[1]) if len(sides) == 2 else (512, 512)


def refuse_odd_size(size: Size) -> None:
    """Raises DmmError where a picture's width or height is not a multiple of 8."""
    if any(side % 8 or side < 8 for side in size):
        raise DmmError(
            f"The size {size[0]} x {size[1]} is not a multiple of 8. Choose one that is."
        )
