"""The discriminator in training: what the student hears from it, and how it learns itself."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from trainer.batches import Batch
from trainer.diffusion import Diffusion
from trainer.discriminator import Discriminator, discriminator_loss, look, student_loss


class Adversary:
    """A discriminator with an optimizer of its own; `accelerator` saves and resumes both.

    It is small and the same on every process, whichever way the student is spread over them.

    Args:
        backbone: the UNet it looks with, on the device and in the dtype it computes in.
        num_styles: N.
        learning_rate: of AdamW; the paper takes the student's.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        backbone: UNet2DConditionModel,
        num_styles: int,
        learning_rate: float,
    ) -> None:
        self._accelerator = accelerator
        self._backbone = backbone.requires_grad_(False)
        self._backbone.up_blocks = nn.ModuleList()  # never run, and most of the weights
        self._diffusion = Diffusion(accelerator.device)
        channels = backbone.config.block_out_channels[-1]
        self.discriminator = Discriminator(channels, num_styles).to(accelerator.device)
        self._optimizer = torch.optim.AdamW(self.discriminator.parameters(), lr=learning_rate)
        accelerator.register_for_checkpointing(self.discriminator, self._optimizer)

    def look(self, latents: Tensor, batch: Batch) -> Tensor:
        """What the backbone sees in latents x̂_0, [P, c, h, w], once they are noised anew."""
        dtype = self._backbone.dtype
        noisy = self._diffusion.add_noise(
            latents, batch.discriminator_noise, batch.discriminator_timesteps
        )
        return look(
            self._backbone,
            noisy.to(dtype),
            batch.discriminator_timesteps,
            batch.text.to(dtype),
            batch.time_ids,
        )

    def student_loss(self, student: Tensor, styles: Tensor) -> Tensor:
        """L_adv of each pair, [P]. Its gradient reaches the latents and leaves the discriminator.

        Args:
            student: what was seen in the student's latents.
            styles: of the pairs, [P].
        """
        self.discriminator.requires_grad_(False)
        logits = self.discriminator(student)
        self.discriminator.requires_grad_(True)
        return student_loss(logits, styles)

    def learn(self, student: Tensor, teachers: Tensor, styles: Tensor, share: float) -> Tensor:
        """Adds a micro-batch to the discriminator's gradients, and gives its loss, [P].

        Args:
            student, teachers: what was seen in the latents of both.
            styles: of the pairs, [P].
            share: of one pair in the step's gradient.
        """
        logits = self.discriminator(torch.cat([student, teachers]).detach())
        losses = discriminator_loss(*logits.chunk(2), styles)
        # Not the accelerator's backward: all of this is float32 and needs no loss scaling.
        (losses.sum() * share).backward()
        return losses.detach()

    def step(self) -> None:
        """Updates the discriminator with the gradients of all micro-batches and processes."""
        for parameter in self.discriminator.parameters():
            parameter.grad = self._accelerator.reduce(parameter.grad, "mean")
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
