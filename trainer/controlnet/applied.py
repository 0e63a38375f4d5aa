"""A checkpoint with a ControlNet on it, which the rest of the trainer takes for a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn

from dmm.errors import DmmError
from trainer.checkpoint import Checkpoint
from trainer.controlnet.file import ControlNetFile

SHARED_SHAPE = ("in_channels", "block_out_channels", "cross_attention_dim", "layers_per_block")
"""What a ControlNet and its UNet have alike, or their blocks do not add up."""


class ControlledUNet(nn.Module):
    """A UNet as a ControlNet steers it; the trainer calls it as it calls a UNet.

    Its parameters are the ControlNet's, and so is the time embedding that styles are added to. Its
    blocks' outputs, which feature imitation compares, are what the ControlNet adds to the UNet's.

    Args:
        unet: frozen, and shared by all ControlNets on it; so it is no part of this module's state.
    """

    def __init__(self, controlnet: ControlNetModel, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.controlnet = controlnet
        self._unet = (unet,)  # in a tuple torch does not find it

    @property
    def unet(self) -> UNet2DConditionModel:
        return self._unet[0]

    @property
    def config(self) -> Any:
        return self.unet.config

    @property
    def dtype(self) -> torch.dtype:
        return self.controlnet.dtype

    @property
    def time_embedding(self) -> nn.Module:
        return self.controlnet.time_embedding

    @property
    def add_embedding(self) -> nn.Module:
        return self.controlnet.add_embedding

    @property
    def down_blocks(self) -> list[nn.Module]:
        return list(self.controlnet.controlnet_down_blocks)

    @property
    def mid_block(self) -> nn.Module:
        return self.controlnet.controlnet_mid_block

    @property
    def up_blocks(self) -> list[nn.Module]:
        return []

    def enable_gradient_checkpointing(self) -> None:
        self.controlnet.enable_gradient_checkpointing()
        self.unet.enable_gradient_checkpointing()

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        controlnet_cond: Tensor,
        added_cond_kwargs: Mapping[str, Tensor] | None = None,
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        """As diffusers' UNets, with the condition pictures [B, 3, H, W] from 0 to 1 besides."""

        def told(network: nn.Module) -> dict[str, Any]:
            dtype, added = network.dtype, added_cond_kwargs
            return {
                "encoder_hidden_states": encoder_hidden_states.to(dtype),
                "added_cond_kwargs": added and {key: one.to(dtype) for key, one in added.items()},
                "return_dict": False,
            }

        net, unet = self.controlnet, self.unet
        down, mid = net(
            sample.to(net.dtype),
            timestep,
            controlnet_cond=controlnet_cond.to(net.dtype),
            **told(net),
        )
        return unet(
            sample.to(unet.dtype),
            timestep,
            down_block_additional_residuals=[part.to(unet.dtype) for part in down],
            mid_block_additional_residual=mid.to(unet.dtype),
            **told(unet),
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ControlledUNet:
        # Where this goes, the UNet goes too; on the way its numbers stay what they are.
        device = next(self.parameters()).device
        super()._apply(fn, recurse)
        now = next(self.parameters()).device
        if now != device:
            self.unet.to(now)
        return self


@dataclass(frozen=True)
class ControlNetCheckpoint(Checkpoint):
    """A checkpoint whose UNet a ControlNet steers.

    Attributes:
        file: the ControlNet.
        frozen: gives the base's UNet, the same one to all.
    """

    file: ControlNetFile
    frozen: Callable[[], UNet2DConditionModel]

    def load_unet(self, dtype: torch.dtype = torch.float32) -> ControlledUNet:
        controlnet = self.file.network.load(dtype)
        self.refuse_changed()  # while it was read
        return ControlledUNet(controlnet, self.frozen())

    def unet_tensors(self) -> Mapping[str, Tensor]:
        """The ControlNet's, by their names in a `ControlledUNet`."""
        tensors = self.file.network.tensors
        return {f"controlnet.{name}": tensor for name, tensor in tensors.items()}

    @property
    def kind(self) -> str:
        return "controlnet"

    @property
    def source(self) -> str:
        return self.file.path.name


def on_base(
    base: Checkpoint, file: ControlNetFile, frozen: Callable[[], UNet2DConditionModel]
) -> ControlNetCheckpoint:
    """The base with a ControlNet on it.

    Raises:
        DmmError: it is for another kind of UNet.
    """
    unet, net = base.unet_config, file.network.config
    differing = [key for key in SHARED_SHAPE if net[key] != unet[key]]
    if file.family != base.family or differing:
        key = differing[0] if differing else "family"
        one, other = (net[key], unet[key]) if differing else (file.family, base.family)
        raise DmmError(
            f"{file.path} is a ControlNet for another UNet than that of {base.path}: `{key}` is "
            f"{one} where the latter has {other}. Choose one for the base's architecture."
        )
    halved = len(net["conditioning_embedding_out_channels"]) - 1
    if 2**halved != base.vae_scale_factor:
        raise DmmError(
            f"{file.path} sees condition pictures {2**halved} times the latents' size, the VAE of "
            f"{base.path} pictures {base.vae_scale_factor} times. Choose a ControlNet for the base."
        )
    same = {field.name: getattr(base, field.name) for field in fields(Checkpoint)}
    own = {"path": file.path, "weight_files": (file.weights,)}
    return ControlNetCheckpoint(**(same | own), file=file, frozen=frozen)
