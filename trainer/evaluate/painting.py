"""Pictures to be measured: every contestant paints the prompts, and none twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from PIL import Image

from dmm.errors import DmmError
from trainer.cache import Examples
from trainer.checkpoint import Checkpoint
from trainer.evaluate.contestants import Contestants
from trainer.evaluate.prompts import Texts
from trainer.fingerprint import fingerprint, tensors_fingerprint
from trainer.painting import Painter, PaintSettings, paint_latents
from trainer.sampling import decode
from trainer.teachers import Teacher
from trainer.text import TextEncoders


@dataclass(frozen=True)
class Commission:
    """What painting needs beside the painter.

    Attributes:
        pictures: of each set; prompts run out are begun anew from other noise.
        settings: sampler, sizes and the seed of the first set.
        folder: the cache, where a run that was stopped goes on.
    """

    prompts: Texts
    pictures: int
    settings: PaintSettings
    folder: Path
    device: torch.device
    dtype: torch.dtype
    batch_size: int


@dataclass(frozen=True)
class PictureSet:
    """Latents of one painter, with the checkpoint whose VAE turns them into pictures."""

    examples: Examples
    painted_by: Checkpoint
    device: torch.device

    @cached_property
    def fingerprint(self) -> str:
        """Equal for equal pictures."""
        vae = tensors_fingerprint(self.painted_by.vae_tensors())
        scale = self.painted_by.vae_config["scaling_factor"]
        return fingerprint(self.examples.fingerprint, vae, scale)

    @property
    def captions(self) -> list[str]:
        return [self.examples.caption(row) for row in range(len(self.examples))]

    def pictures(self, rows: Sequence[int]) -> Iterator[Image.Image]:
        """Decodes pictures, one after the other."""
        for row in rows:
            yield from decode(self._vae, self.examples.latent(row).float()[None])

    def release(self) -> None:
        """Gives the VAE's memory back; it is read again where it is needed."""
        self.__dict__.pop("_vae", None)

    @cached_property
    def _vae(self) -> AutoencoderKL:
        return self.painted_by.load_vae().to(self.device)


@dataclass(frozen=True)
class Paintings:
    """All sets, one a style in each list.

    Attributes:
        teachers: the first set of each teacher, which others are compared with.
        again: its second set, from other noise; the floor.
        students: from the second set's noise, so that they stand where `again` does.
    """

    teachers: list[PictureSet]
    again: list[PictureSet]
    students: list[PictureSet]


class Painting:
    """Paints the sets of an evaluation, a step for each set.

    Iterate over `steps`, which tells before each what comes, then take `paintings`.
    """

    def __init__(self, contestants: Contestants, commission: Commission) -> None:
        self._contestants, self._commission = contestants, commission
        self.paintings = Paintings([], [], [])

    @property
    def count(self) -> int:
        """How many sets there are."""
        return 3 * len(self._contestants.rows)

    def steps(self) -> Iterator[str]:
        contestants, commission = self._contestants, self._commission
        first = commission.settings
        second = replace(first, seed=first.seed + commission.pictures)
        sets = self.paintings
        for name, teacher in zip(contestants.names, contestants.teachers, strict=True):
            for where, settings in ((sets.teachers, first), (sets.again, second)):
                yield f"{name}, by its teacher"
                where.append(self._set(teacher, teacher.styles[0], settings))
        for name, row in zip(contestants.names, contestants.rows, strict=True):
            yield f"{name}, by the merged checkpoint"
            sets.students.append(self._set(contestants.student, row, second))

    def _set(self, teacher: Teacher, style: int, settings: PaintSettings) -> PictureSet:
        commission = replace(self._commission, settings=settings)
        return paint_set(teacher, style, commission, self._contestants.checkpoint)


def paint_set(
    teacher: Teacher, style: int, commission: Commission, spare: Checkpoint
) -> PictureSet:
    """Paints one set, or finds it in the cache.

    Args:
        spare: whose VAE serves where the painter has none: pruned teachers are used with another's.
    """
    text = TextEncoders(teacher.checkpoint, teacher.clip_skip, commission.device)
    examples = paint_latents(
        [Painter(teacher, style, text)],
        commission.prompts,
        [commission.settings],
        commission.folder,
        pictures_per_teacher=commission.pictures,
        device=commission.device,
        dtype=commission.dtype,
        batch_size=commission.batch_size,
    )
    has_vae = teacher.checkpoint.vae_config is not None
    return PictureSet(examples, teacher.checkpoint if has_vae else spare, commission.device)


def latent_shape(checkpoint: Checkpoint, size: tuple[int, int]) -> tuple[int, int, int]:
    """(channels, height, width) of the latent of a picture of `size` (width, height).

    Raises:
        DmmError: the UNet cannot halve such a latent as often as it does.
    """
    width, height = size
    halved = len(checkpoint.unet_config["block_out_channels"]) - 1
    multiple = checkpoint.vae_scale_factor * 2**halved
    if width % multiple or height % multiple or min(size) < multiple:
        raise DmmError(
            f"The size {width} x {height} does not fit this checkpoint: both must be multiples of "
            f"{multiple}."
        )
    return checkpoint.latent_shape(size)
