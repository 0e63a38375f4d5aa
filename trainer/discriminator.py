"""The multi-class adversarial loss: a critic that tells N styles, real and fake, apart."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.text import TextEmbedding

GROUPS = 32


class Discriminator(nn.Module):
    """Tells of a latent which teacher's it is, or whose it pretends to be (paper, section 3.4).

    A frozen UNet looks at the latent as far as its middle block (`look`); convolutions, group norms
    and SiLU on top of it give 2N logits: class i is teacher i's own, class N + i the student's in
    style i (supplementary; after DMD2 and SDXL-Lightning). This is what is on top, in float32.

    Args:
        channels: of the frozen UNet's middle block.
        num_styles: N.
    """

    def __init__(self, channels: int, num_styles: int) -> None:
        super().__init__()
        self.head = nn.Sequential(
            *_layer(channels), *_layer(channels), nn.Conv2d(channels, 2 * num_styles, 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        """The logits, float32 [P, 2N], of the middle block's output [P, C, h, w]."""
        with torch.autocast(features.device.type, enabled=False):
            return self.head(features.float()).mean(dim=(2, 3))


def student_loss(logits: Tensor, teachers: Tensor) -> Tensor:
    """L_adv of the student: its latents shall pass for the teacher's own (equation 11).

    Args:
        logits: of the student's latents, [P, 2N].
        teachers: whose style each has, [P].

    Returns:
        [P].
    """
    return F.cross_entropy(logits, teachers, reduction="none")


def discriminator_loss(student_logits: Tensor, teacher_logits: Tensor, teachers: Tensor) -> Tensor:
    """The discriminator's own loss: the student's are fakes, the teachers' are real (algorithm 1).

    Returns:
        [P].
    """
    styles = student_logits.shape[1] // 2
    fake = F.cross_entropy(student_logits, styles + teachers, reduction="none")
    return fake + F.cross_entropy(teacher_logits, teachers, reduction="none")


def look(
    unet: UNet2DConditionModel,
    noisy: Tensor,
    timesteps: Tensor,
    text: TextEmbedding,
    time_ids: Tensor | None = None,
) -> Tensor:
    """A UNet's hidden states after its middle block, [P, C, h, w]; nothing of its way up is run.

    Args:
        noisy: x_t [P, c, h, w].
        timesteps: [P].
        time_ids: SDXL's sizes and crop, [P, 6].
    """
    embedding = unet.time_embedding(unet.time_proj(timesteps).to(noisy.dtype))
    added = {"text_embeds": text.pooled, "time_ids": time_ids}
    extra = unet.get_aug_embed(embedding, text.hidden, added)
    embedding = embedding if extra is None else embedding + extra
    hidden = unet.conv_in(noisy)
    for block in unet.down_blocks:
        hidden = _run(block, hidden, embedding, text.hidden)[0]
    if unet.mid_block is not None:  # some pruned UNets have none
        hidden = _run(unet.mid_block, hidden, embedding, text.hidden)
    return hidden


def _run(block: nn.Module, hidden: Tensor, embedding: Tensor, text: Tensor):
    if getattr(block, "has_cross_attention", False):
        return block(hidden, embedding, encoder_hidden_states=text)
    return block(hidden, embedding)


def _layer(channels: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.GroupNorm(GROUPS, channels),
        nn.SiLU(),
    ]
