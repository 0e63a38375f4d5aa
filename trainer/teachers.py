"""The teachers: any number of them, few in memory at a time.

A teacher waits as its own memory-mapped file, which the system keeps in free memory as far as there
is any, and is copied into a slot on the device when its turn comes. All teachers have the student's
architecture, so one slot serves them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from dmm.injection import styled
from dmm.style_prompts import StylePrompts
from trainer.checkpoint import Checkpoint
from trainer.diffusion import PredictionType
from trainer.features import captured_features
from trainer.student import predict
from trainer.text import TextEmbedding


@dataclass(frozen=True)
class Teacher:
    """What the student learns one style from, or several.

    Several come from its former self: the merged checkpoint that a merge extends, frozen, which
    keeps the student from forgetting the styles it has (paper, section 3.5).

    Attributes:
        prediction_type: what it predicts.
        clip_skip: how its captions are read; None = as its family does.
        styles: the rows of the student's codebook that it teaches.
        prompts: the former self's; its rows are the first of the student's.
    """

    checkpoint: Checkpoint
    prediction_type: PredictionType
    clip_skip: int | None
    styles: tuple[int, ...]
    prompts: StylePrompts | None = None

    @torch.no_grad()
    def vectors(self, styles: Tensor) -> Tensor | None:
        """What makes it paint in those rows' styles, [P, d]; None for one that has one style."""
        if self.prompts is None:
            return None
        return self.prompts(torch.eye(self.prompts.num_styles)[styles.cpu()])


class TeacherPool:
    """Teachers in turn on a few slots, the longest unused giving way.

    Args:
        teachers: of one architecture.
        device, dtype: where, and in what, they compute.
        slots: how many stay on the device at once.
    """

    def __init__(
        self,
        teachers: Sequence[Teacher],
        device: torch.device | str,
        dtype: torch.dtype,
        slots: int,
    ) -> None:
        self.teachers = list(teachers)
        self._device, self._dtype, self._slots = device, dtype, slots
        self._resident: dict[int, UNet2DConditionModel] = {}  # the longest unused comes first

    @torch.no_grad()
    def predict(
        self,
        teacher: int,
        noisy: Tensor,
        timesteps: Tensor,
        text: TextEmbedding,
        styles: Tensor,
        time_ids: Tensor | None = None,
        with_features: bool = False,
        condition: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """A teacher's prediction, in its own parametrisation, and its blocks' outputs.

        Args:
            teacher: its number.
            styles: which of its styles each pair is in, as rows of the student's codebook, [P].
        """
        with (
            self.painting(teacher, styles) as unet,
            captured_features(unet, with_features) as features,
        ):
            output = predict(
                unet,
                noisy.to(self._dtype),
                timesteps,
                text.to(self._device, self._dtype),
                time_ids,
                condition,
            )
        return output.float(), features

    @contextmanager
    def painting(self, teacher: int, styles: Tensor) -> Iterator[UNet2DConditionModel]:
        """Within the block: a teacher on the device, painting samples in the given styles, [P]."""
        with styled(self._unet(teacher), self.teachers[teacher].vectors(styles)) as unet:
            yield unet

    def _unet(self, teacher: int) -> UNet2DConditionModel:
        unet = self._resident.pop(teacher, None)
        if unet is None:
            unet = self._load(teacher)
        self._resident[teacher] = unet
        return unet

    def _load(self, teacher: int) -> UNet2DConditionModel:
        checkpoint = self.teachers[teacher].checkpoint
        if len(self._resident) < self._slots:
            unet = checkpoint.load_unet(self._dtype).to(self._device)
            return unet.requires_grad_(False)
        longest_unused = next(iter(self._resident))
        unet = self._resident.pop(longest_unused)
        tensors = checkpoint.unet_tensors()
        for name, parameter in unet.named_parameters():
            parameter.copy_(tensors[name])
        checkpoint.refuse_changed()  # while it was read: a mixture would be learned from, and saved
        return unet
