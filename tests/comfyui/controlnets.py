"""ControlNets that the real hosts accept, random and as small as they allow, merged and plain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor

from dmm.layouts import CONTROLNET_PREFIX, controlnet_to_single
from dmm.merged import Styles
from dmm.metadata import Family
from dmm.tensors import save_tensors
from tests.comfyui.checkpoints import SD1_UNET, SDXL_UNET, small_styles, styles_metadata
from tests.nets import small_sd1_unet, small_sdxl_unet


def small_unet(family: Family) -> UNet2DConditionModel:
    """That of ComfyUI's small checkpoints."""
    return small_sdxl_unet(0, **SDXL_UNET) if family == "sdxl" else small_sd1_unet(0, **SD1_UNET)


def controlnet(unet: UNet2DConditionModel) -> ControlNetModel:
    """The first half of a UNet, whose outputs are not 0."""
    torch.manual_seed(0)
    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(16, 32, 96, 256))
    zero = [net.controlnet_cond_embedding.conv_out, net.controlnet_mid_block]
    for layer in (*zero, *net.controlnet_down_blocks):
        torch.nn.init.normal_(layer.weight, std=0.02)
    return net.eval()


def tensors_of(net: ControlNetModel) -> dict[str, Tensor]:
    names = net.state_dict()
    sources = controlnet_to_single(names)
    return {CONTROLNET_PREFIX + name: source.read(names) for name, source in sources.items()}


def write_merged(
    path: Path,
    names: Sequence[str],
    family: Family = "sd1",
    unet: UNet2DConditionModel | None = None,
) -> Styles:
    """A merged ControlNet as the trainer writes it; gives its controls."""
    net = controlnet(unet or small_unet(family))
    dim = net.time_embedding.linear_2.out_features
    controls = small_styles(names, family, seed=5, dim=dim)
    tensors = tensors_of(net) | controls.tensors(CONTROLNET_PREFIX)
    save_tensors(path, tensors, styles_metadata(controls))
    return controls


def write_in_control(
    path: Path, controls: Styles, number: int, unet: UNet2DConditionModel | None = None
) -> None:
    """A plain ControlNet that always follows one control: the vector is baked into its biases."""
    net = controlnet(unet or small_unet(controls.family))
    with torch.no_grad():
        vector = controls.prompts(torch.eye(len(controls.names))[number])
        is_sdxl = controls.family == "sdxl"
        embedding = net.add_embedding if is_sdxl else net.time_embedding
        embedding.linear_2.bias += vector
    save_tensors(path, tensors_of(net), {})
