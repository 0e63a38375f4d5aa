"""The student: one UNet and the style prompts that steer it."""

from __future__ import annotations

from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from dmm.injection import styled
from dmm.style_prompts import StylePrompts
from trainer.features import captured_features
from trainer.text import TextEmbedding


class Student(nn.Module):
    """A diffusers UNet that paints in N styles (paper, section 3.3)."""

    def __init__(self, unet: UNet2DConditionModel, style_prompts: StylePrompts) -> None:
        super().__init__()
        self.unet = unet
        self.style_prompts = style_prompts

    def forward(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        text: TextEmbedding,
        weights: Tensor,
        time_ids: Tensor | None = None,
        with_features: bool = False,
    ) -> tuple[Tensor, list[Tensor]]:
        """Predicts in the UNet's own parametrisation.

        Args:
            noisy: x_t [P, c, h, w].
            timesteps: [P].
            weights: of the styles, [P, N].
            time_ids: SDXL's sizes and crop, [P, 6].

        Returns:
            The prediction [P, c, h, w], and the outputs of all blocks (empty unless asked for).
        """
        with (
            styled(self.unet, self.style_prompts(weights)),
            captured_features(self.unet, with_features) as features,
        ):
            output = predict(self.unet, noisy, timesteps, text, time_ids)
        return output, features


def predict(
    unet: UNet2DConditionModel,
    noisy: Tensor,
    timesteps: Tensor,
    text: TextEmbedding,
    time_ids: Tensor | None = None,
) -> Tensor:
    """One forward of a UNet, SD1.5's or SDXL's."""
    added = None
    if unet.config.addition_embed_type == "text_time":
        added = {"text_embeds": text.pooled, "time_ids": time_ids}
    return unet(
        noisy,
        timesteps,
        encoder_hidden_states=text.hidden,
        added_cond_kwargs=added,
        return_dict=False,
    )[0]
