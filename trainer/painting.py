"""The teachers paint what the student is trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from dmm.injection import styled
from trainer.buckets import Size
from trainer.cache import Examples, refuse_not_finite
from trainer.checkpoint import Checkpoint
from trainer.data import Prompts
from trainer.fingerprint import fingerprint
from trainer.prompt_lines import Prompt
from trainer.sampling import sample_latents, sdxl_time_ids
from trainer.shards import Batch, Shards, compute
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
    """How to paint what a prompt does not say itself; the defaults are the paper's."""

    shape: tuple[int, int, int]  # channels, height and width of a latent
    resolution: Size  # of the picture, which SDXL is told
    steps: int = 25
    guidance: float = 7.0
    negative: str = ""
    seed: int = 0  # picture j of a teacher starts from noise `seed + j`


class OneUNet:
    """The UNet of one checkpoint at a time, from when somebody paints with it to the next.

    Args:
        device: where it computes.
        dtype: in what.
    """

    def __init__(self, device: torch.device | str, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self._checkpoint: Checkpoint | None = None
        self._unet: UNet2DConditionModel | None = None

    def of(self, checkpoint: Checkpoint) -> UNet2DConditionModel:
        """A checkpoint's UNet on the device, read if it is not the last one that was asked for."""
        if checkpoint is not self._checkpoint:
            self._checkpoint = self._unet = None  # there may be no room for two
            self._unet = checkpoint.load_unet(self.dtype).to(self.device)
            self._checkpoint = checkpoint
        return self._unet


def paint_latents(
    painters: Sequence[Painter],
    prompts: Prompts,
    settings: Sequence[PaintSettings],
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
        settings: one a size; prompts without a size of their own take them in turn.
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
    one_unet = OneUNet(device, dtype)
    for turn, painter in enumerate(painters):
        dealt = prompts.prompts
        if pictures_per_teacher is None:
            dealt = dealt[turn :: len(painters)]
        wanted = [
            _filled(dealt[row % len(dealt)], row, row // len(dealt), settings)
            for row in range(pictures_per_teacher or len(dealt))
        ]
        for how in settings:
            orders = [order for order in wanted if order.size == how.resolution]
            if orders:
                parts.append(_paint(painter, orders, how, folder, one_unet, batch_size))
        painter.text.release()
    return Examples(parts)


def _filled(prompt: Prompt, row: int, times: int, settings: Sequence[PaintSettings]) -> Prompt:
    """A prompt with nothing left open.

    Args:
        row: its place among what the teacher paints.
        times: how often the teacher painted it before.
    """
    sizes = [how.resolution for how in settings]
    how = settings[sizes.index(prompt.size) if prompt.size else row % len(settings)]
    return Prompt(
        prompt.text,
        how.negative if prompt.negative is None else prompt.negative,
        how.resolution,
        how.seed + row if prompt.seed is None else prompt.seed + times,
        prompt.steps or how.steps,
        prompt.guidance or how.guidance,
    )


def _paint(
    painter: Painter,
    orders: list[Prompt],
    settings: PaintSettings,
    folder: Path,
    one_unet: OneUNet,
    batch_size: int,
) -> Shards:
    """What a teacher paints at one size."""
    checkpoint, dtype = painter.teacher.checkpoint, one_unet.dtype
    time_ids = sdxl_time_ids(*settings.resolution)

    def embedded(texts: list[str]) -> TextEmbedding:
        return painter.text.encode(texts).to(one_unet.device, dtype)

    def paint(rows: range) -> Iterator[Batch]:
        for batch in _alike(orders[rows.start : rows.stop], batch_size):
            with styled(one_unet.of(checkpoint), painter.vector()) as painting:
                latents = sample_latents(
                    painting,
                    embedded([order.text for order in batch]),
                    embedded([order.negative for order in batch]),
                    shape=settings.shape,
                    seeds=[order.seed for order in batch],
                    steps=batch[0].steps,
                    guidance=batch[0].guidance,
                    prediction_type=painter.teacher.prediction_type,
                    time_ids=time_ids,
                )
            refuse_not_finite(latents, [f"{checkpoint.path}: {order.text}" for order in batch])
            yield {"latents": latents, "time_ids": time_ids.int().expand(len(batch), -1)}

    made_from = {
        "unet": checkpoint.sha256,
        "style": painter.style if painter.teacher.prompts else None,
        "encoders": painter.text.fingerprint,
        "prediction_type": painter.teacher.prediction_type,
        "prompts": fingerprint([vars(order) for order in orders]),
        "shape": settings.shape,
        "dtype": str(dtype),
    }
    return compute(
        folder,
        "painted",
        made_from,
        count=len(orders),
        line=lambda row: {"caption": orders[row].text},
        batches=paint,
        rows_per_shard=ROWS_PER_SHARD,
    )


def _alike(orders: Sequence[Prompt], size: int) -> Iterator[list[Prompt]]:
    """Neighbours that are painted in as many steps and at the same guidance, up to `size`."""
    for _, group in groupby(orders, key=lambda order: (order.steps, order.guidance)):
        while batch := list(islice(group, size)):
            yield batch
