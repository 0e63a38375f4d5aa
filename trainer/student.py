"""The student: one UNet and the style prompts that steer it."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from dmm.injection import styled
from dmm.style_prompts import StylePrompts
from trainer.features import captured_features
from trainer.text import TextEmbedding


class Student(nn.Module):
    """A diffusers UNet that paints in N styles (paper, section 3.3).

    What is frozen in it, such as the base under an adapter, is no part of its state.

    Args:
        kept: how many styles, the first of the codebook, it has from its former self. Their style
            prompts stand still, and with them the MLP, so that only the UNet can forget them.
    """

    def __init__(
        self, unet: UNet2DConditionModel, style_prompts: StylePrompts, kept: int = 0
    ) -> None:
        super().__init__()
        self.unet = unet
        self.style_prompts = style_prompts
        self.kept = kept
        if kept:
            style_prompts.linear_1.requires_grad_(False)
            style_prompts.linear_2.requires_grad_(False)
        self.register_state_dict_post_hook(_leave_out_frozen)
        self.register_load_state_dict_post_hook(_miss_no_frozen)

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that learn, by name."""
        return {name: found for name, found in self.named_parameters() if found.requires_grad}

    def forward(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        text: TextEmbedding,
        weights: Tensor,
        time_ids: Tensor | None = None,
        with_features: bool = False,
        condition: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Predicts in the UNet's own parametrisation.

        Args:
            noisy: x_t [P, c, h, w].
            timesteps: [P].
            weights: of the styles, [P, N].
            time_ids: SDXL's sizes and crop, [P, 6].
            condition: what a ControlNet is shown, [P, 3, H, W] from 0 to 1.

        Returns:
            The prediction [P, c, h, w], and the outputs of all blocks (empty unless asked for).
        """
        vectors = self.style_prompts(weights)
        if self.kept:
            is_kept = weights[:, : self.kept].any(1, keepdim=True)
            vectors = torch.where(is_kept, vectors.detach(), vectors)
        with (
            styled(self.unet, vectors),
            captured_features(self.unet, with_features) as features,
        ):
            output = predict(self.unet, noisy, timesteps, text, time_ids, condition)
        return output, features


def _frozen(student: nn.Module) -> list[str]:
    return [name for name, found in student.named_parameters() if not found.requires_grad]


def _leave_out_frozen(student: nn.Module, state: dict, prefix: str, _metadata: object) -> None:
    for name in _frozen(student):
        del state[prefix + name]


def _miss_no_frozen(student: nn.Module, keys: Any) -> None:
    frozen = set(_frozen(student))
    keys.missing_keys[:] = [name for name in keys.missing_keys if name not in frozen]


def predict(
    unet: UNet2DConditionModel,
    noisy: Tensor,
    timesteps: Tensor,
    text: TextEmbedding,
    time_ids: Tensor | None = None,
    condition: Tensor | None = None,
) -> Tensor:
    """One forward of a UNet, SD1.5's or SDXL's, with a ControlNet on it or without."""
    shown = {} if condition is None else {"controlnet_cond": condition}
    added = None
    if unet.config.addition_embed_type == "text_time":
        added = {"text_embeds": text.pooled, "time_ids": time_ids}
    return unet(
        noisy,
        timesteps,
        encoder_hidden_states=text.hidden,
        added_cond_kwargs=added,
        return_dict=False,
        **shown,
    )[0]
