"""The teachers: any number of them, few in memory at a time.

A teacher waits as its own memory-mapped file, which the system keeps in free memory as far as there
is any, and is copied into a slot on the device when its turn comes. All teachers have the student's
architecture, so one slot serves them all.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from trainer.checkpoint import Checkpoint
from trainer.diffusion import PredictionType
from trainer.features import captured_features
from trainer.student import predict
from trainer.text import TextEmbedding


class TeacherPool:
    """Teachers in turn on a few slots, the longest unused giving way.

    Args:
        checkpoints: of one architecture.
        prediction_types: what each teacher predicts.
        device, dtype: where, and in what, they compute.
        slots: how many stay on the device at once.
    """

    def __init__(
        self,
        checkpoints: Sequence[Checkpoint],
        prediction_types: Sequence[PredictionType],
        device: torch.device | str,
        dtype: torch.dtype,
        slots: int,
    ) -> None:
        self.prediction_types = list(prediction_types)
        self._checkpoints = list(checkpoints)
        self._device, self._dtype, self._slots = device, dtype, slots
        self._resident: dict[int, UNet2DConditionModel] = {}  # the longest unused comes first

    @torch.no_grad()
    def predict(
        self,
        teacher: int,
        noisy: Tensor,
        timesteps: Tensor,
        text: TextEmbedding,
        time_ids: Tensor | None = None,
        with_features: bool = False,
    ) -> tuple[Tensor, list[Tensor]]:
        """A teacher's prediction, in its own parametrisation, and its blocks' outputs."""
        unet = self.unet(teacher)
        with captured_features(unet, with_features) as features:
            output = predict(
                unet,
                noisy.to(self._dtype),
                timesteps,
                text.to(self._device, self._dtype),
                None if time_ids is None else time_ids.to(self._dtype),
            )
        return output.float(), features

    def unet(self, teacher: int) -> UNet2DConditionModel:
        """A teacher, on the device."""
        unet = self._resident.pop(teacher, None)
        if unet is None:
            unet = self._load(teacher)
        self._resident[teacher] = unet
        return unet

    def _load(self, teacher: int) -> UNet2DConditionModel:
        checkpoint = self._checkpoints[teacher]
        if len(self._resident) < self._slots:
            unet = checkpoint.load_unet(self._dtype).to(self._device)
            return unet.requires_grad_(False)
        longest_unused = next(iter(self._resident))
        unet = self._resident.pop(longest_unused)
        tensors = checkpoint.unet_tensors()
        for name, parameter in unet.named_parameters():
            parameter.copy_(tensors[name])
        return unet
