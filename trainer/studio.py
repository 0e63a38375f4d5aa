"""A studio: a merged checkpoint, loaded once, that paints picture after picture in any style."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL.Image import Image
from torch import Tensor

from dmm.errors import DmmError
from dmm.injection import styled
from dmm.merged import read_styles
from dmm.metadata import Sampling
from dmm.regions import Regions
from trainer.buckets import Size
from trainer.checkpoint import Checkpoint, open_checkpoint
from trainer.fold import open_adapter
from trainer.sampling import MOST_LCM_STEPS, SAMPLERS, decode, sample_latents, sdxl_time_ids
from trainer.text import TextEmbedding, TextEncoders


class Studio:
    """Paints from a merged checkpoint, on the GPU where there is one.

    Args:
        path: a merged checkpoint, or an adapter.
        base: the checkpoint that an adapter is for.

    Attributes:
        styles: the file's.
        sampling: how the file wants to be painted from.
        size: at which it was trained.

    Raises:
        DmmError: the file cannot be read, has no styles, or wants a sampler that is not known.
    """

    def __init__(self, path: Path, base: Path | None = None) -> None:
        self.path, self.styles = path, read_styles(path)
        self.sampling = self.styles.sampling or Sampling(25, 7.0, "dpm++")
        if self.sampling.sampler not in SAMPLERS:
            raise DmmError(
                f"{path} wants the sampler {self.sampling.sampler!r}, which is not known here."
            )
        self._checkpoint = open_adapter(path, base) if base else open_checkpoint(path)
        self.size = trained_size(self._checkpoint)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._encoded = lru_cache(maxsize=16)(self._encode)

    def paint(
        self,
        prompts: Sequence[str],
        style: Tensor | Regions | None,
        *,
        negative: str = "",
        size: Size | None = None,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        progress: str | None = None,
    ) -> list[Image]:
        """Paints a picture of each prompt, the next ones from the next seeds.

        Args:
            style: the vector of a mix, [d], or regions; None = no style, the average.
            size: None = as the file was trained.
            steps, guidance: None = as the file wants it.
            progress: title of a progress bar; None = no bar.

        Raises:
            DmmError: the size is not a multiple of 8, or the file paints in few steps and many
                are asked for.
        """
        width, height = size or self.size
        refuse_odd_size((width, height))
        self.refuse_steps(steps)
        with styled(self._unet, style):
            latents = sample_latents(
                self._unet,
                self._encoded(*prompts),
                self._encoded(negative),
                shape=self._checkpoint.latent_shape((width, height)),
                seeds=[seed + index for index in range(len(prompts))],
                steps=steps or self.sampling.steps,
                guidance=guidance or self.sampling.guidance,
                prediction_type=self._checkpoint.prediction_type,
                time_ids=sdxl_time_ids(width, height),
                sampler=self.sampling.sampler,
                progress=progress,
            )
        return decode(self._vae, latents)

    def refuse_steps(self, steps: int | None) -> None:
        """Raises DmmError where the file paints in few steps and so many are too many."""
        if self.sampling.sampler == "lcm" and (steps or 1) > MOST_LCM_STEPS:
            raise DmmError(
                f"{self.path} paints in few steps ({self.sampling}); {steps} are too many. "
                f"Choose {MOST_LCM_STEPS} at most."
            )

    # Loaded when they are first needed: what is asked for wrongly is refused before.

    @cached_property
    def _text(self) -> TextEncoders:
        return TextEncoders(self._checkpoint, device=self._device)

    @cached_property
    def _unet(self) -> UNet2DConditionModel:
        return self._checkpoint.load_unet().to(self._device)

    @cached_property
    def _vae(self) -> AutoencoderKL:
        return self._checkpoint.load_vae().to(self._device)

    def _encode(self, *prompts: str) -> TextEmbedding:
        return self._text.encode(prompts)


def picture_size(size: tuple[int | None, int | None], trained: Size) -> Size:
    """As asked for, else as trained.

    Raises:
        DmmError: it is not a multiple of 8.
    """
    width, height = (given or side for given, side in zip(size, trained, strict=True))
    refuse_odd_size((width, height))
    return width, height


def trained_size(checkpoint: Checkpoint) -> Size:
    """Width and height that its metadata say, "512x768"; 512 × 512 where they make no sense."""
    sides = checkpoint.metadata.get("modelspec.resolution", "").split("x")
    if len(sides) != 2 or not all(side.isdecimal() for side in sides):
        return 512, 512
    return int(sides[0]), int(sides[1])


def refuse_odd_size(size: Size) -> None:
    """Raises DmmError where a picture's width or height is not a multiple of 8."""
    if any(side % 8 or side < 8 for side in size):
        raise DmmError(
            f"The size {size[0]} x {size[1]} is not a multiple of 8. Choose one that is."
        )
