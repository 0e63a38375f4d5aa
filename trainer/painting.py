"""Prompts as all the data there is: the teachers paint the training latents."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from dmm.injection import styled
from trainer.cache import Examples, refuse_not_finite
from trainer.data import Prompts
from trainer.fingerprint import fingerprint
from trainer.sampling import sample_latents, sdxl_time_ids
from trainer.shards import Batch, Shards, batched, compute
from trainer.teachers import Teacher
from trainer.text import TextEmbedding, TextEncoders

ROWS_PER_SHARD = 32  # a painting costs some 25 times what encoding a picture does


@dataclass(frozen=True)
class Painter:
    """A teacher that paints in one of its styles."""

    teacher: Teacher
    style: int
    text: TextEncoders

    def vector(self) -> Tensor | None:
        """What makes the teacher paint in the style, [d]."""
        vectors = self.teacher.vectors(torch.tensor([self.style]))
        return None if vectors is None else vectors[0]


@dataclass(frozen=True)
class PaintSettings:
    """How to paint; the defaults are the paper's."""

    shape: tuple[int, int, int]  # channels, height and width of a latent
    resolution: tuple[int, int]  # width and height of the picture, which SDXL is told
    steps: int = 25
    guidance: float = 7.0
    negative: str = ""
    seed: int = 0  # picture j of a teacher starts from noise `seed + j`


def paint_latents(
    painters: Sequence[Painter],
    prompts: Prompts,
    settings: PaintSettings,
    folder: Path,
    *,
    pictures_per_teacher: int | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    batch_size: int = 8,
) -> Examples:
    """Let the teachers paint, one after the other, whatever was not painted before.

    Args:
        painters: the teachers, on one latent space.
        prompts: dealt out to the teachers in turn, each painted once.
        settings: sampler, sizes and seed.
        folder: the cache folder.
        pictures_per_teacher: instead, each teacher paints this many: the first prompts, and all
            over again from other noise where they run out.
        device: where the teachers compute.
        dtype: in what their UNets compute.
        batch_size: pictures at once.

    Raises:
        DmmError: a teacher's numbers overflow, or the disk is full.
    """
    parts = []
    for turn, painter in enumerate(painters):
        if pictures_per_teacher is None:
            texts = prompts.captions[turn :: len(painters)]
        else:
            rounds = -(-pictures_per_teacher // len(prompts))
            texts = (prompts.captions * rounds)[:pictures_per_teacher]
        if texts:
            parts.append(_paint(painter, texts, settings, folder, device, dtype, batch_size))
    return Examples(parts)


def _paint(
    painter: Painter,
    texts: list[str],
    settings: PaintSettings,
    folder: Path,
    device: torch.device | str,
    dtype: torch.dtype,
    batch_size: int,
) -> Shards:
    @functools.cache
    def unet() -> UNet2DConditionModel:
        return painter.teacher.checkpoint.load_unet(dtype).to(device)

    @functools.cache
    def negative() -> TextEmbedding:
        return painter.text.encode([settings.negative]).to(device, dtype)

    def paint(rows: range) -> Iterator[Batch]:
        for batch in batched(rows, batch_size):
            prompts = [texts[row] for row in batch]
            with styled(unet(), painter.vector()) as painting:
                latents = sample_latents(
                    painting,
                    painter.text.encode(prompts).to(device, dtype),
                    negative(),
                    shape=settings.shape,
                    seeds=[settings.seed + row for row in batch],
                    steps=settings.steps,
                    guidance=settings.guidance,
                    prediction_type=painter.teacher.prediction_type,
                    time_ids=sdxl_time_ids(*settings.resolution),
                )
            path = painter.teacher.checkpoint.path
            refuse_not_finite(latents, [f"{path}: {text}" for text in prompts])
            yield {"latents": latents}

    made_from = {
        "unet": painter.teacher.checkpoint.sha256,
        "style": painter.style if painter.teacher.prompts else None,
        "encoders": painter.text.fingerprint,
        "prediction_type": painter.teacher.prediction_type,
        "prompts": fingerprint(texts),
        "settings": vars(settings),
        "dtype": str(dtype),
    }
    shards = compute(
        folder,
        "painted",
        made_from,
        count=len(texts),
        line=lambda row: {"caption": texts[row]},
        batches=paint,
        rows_per_shard=ROWS_PER_SHARD,
    )
    painter.text.release()
    return shards
