"""ControlNets that the real ComfyUI accepts, random and as small as it allows, merged and plain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import ControlNetModel
from torch import Tensor

from dmm.layouts import CONTROLNET_PREFIX, controlnet_to_single
from dmm.merged import Styles
from dmm.metadata import Family
from dmm.tensors import save_tensors
from tests.comfyui.checkpoints import SD1_UNET, SDXL_UNET, small_styles, styles_metadata
from tests.nets import small_sd1_unet, small_sdxl_unet


def controlnet(family: Family) -> ControlNetModel:
    """The first half of the small checkpoints' UNet, whose outputs are not 0."""
    unet = small_sdxl_unet(0, **SDXL_UNET) if family == "sdxl" else small_sd1_unet(0, **SD1_UNET)
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


def write_merged(path: Path, names: Sequence[str], family: Family = "sd1") -> Styles:
    """A merged ControlNet as the trainer writes it; gives its controls."""
    controls = small_styles(names, family, seed=5)
    tensors = tensors_of(controlnet(family)) | controls.tensors(CONTROLNET_PREFIX)
    save_tensors(path, tensors, styles_metadata(controls))
    return controls


def write_in_control(path: Path, controls: Styles, number: int) -> None:
    """A plain ControlNet that always follows one control: the vector is baked into its biases."""
    net = controlnet(controls.family)
    with torch.no_grad():
        vector = controls.prompts(torch.eye(len(controls.names))[number])
        is_sdxl = controls.family == "sdxl"
        embedding = net.add_embedding if is_sdxl else net.time_embedding
        embedding.linear_2.bias += vector
    save_tensors(path, tensors_of(net), {})
