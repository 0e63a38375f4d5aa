"""Checkpoints that the real hosts accept, small where they allow it.

They take a small UNet of 320 channels, Forge and reForge by the tensors alone, the WebUI with a
`.yaml` beside the file. Text encoder and VAE have to be of SD1.5's size; of SDXL's second text
encoder, 2.8 GB in float32, they are taught a small one (see
`test_extension/scripts/dmm_small_bigg.py`).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    PreTrainedModel,
)

from dmm.merged import Styles
from tests.comfyui.checkpoints import SD1_UNET, SD_VAE, SDXL_UNET, style_tensors, styles_metadata
from tests.nets import small_sd1_unet, small_sdxl_unet, write_single_file

# With all of SD1.5's blocks, which ControlNet's extension counts on, and the same a tenth as wide,
# which Forge does not know.
SD15_UNET = {
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
    "cross_attention_dim": 768,
}
NARROW_UNET = SD15_UNET | {"block_out_channels": (32, 64, 128, 128)}
NARROW_DIM = 4 * 32  # of the time embedding

UNETS = {"small": SD1_UNET, "narrow": NARROW_UNET, "sd15": SD15_UNET}

# What is said otherwise than in the WebUI's configs/v1-inference.yaml.
_DIFFERENCES = {
    "small": {
        "channel_mult: [ 1, 2, 4, 4 ]": "channel_mult: [ 1, 1 ]",
        "attention_resolutions: [ 4, 2, 1 ]": "attention_resolutions: [ 1 ]",
        "num_res_blocks: 2\n        channel_mult": "num_res_blocks: 1\n        channel_mult",
    },
    "narrow": {"model_channels: 320": "model_channels: 32"},
    "sd15": {},
}

_SDXL_DIFFERENCES = {
    "channel_mult: [1, 2, 4]": "channel_mult: [1, 1, 1]",
    "transformer_depth: [1, 2, 10]": "transformer_depth: [1, 1, 2]",
    "arch: ViT-bigG-14": "arch: dmm_small_bigg",
}


def write_checkpoint(
    path: Path, styles: Styles | None, sd1_yaml: Path | None, unet: str = "small"
) -> Path:
    """Writes a checkpoint as the trainer would.

    Args:
        styles: None for a plain checkpoint.
        sd1_yaml: the WebUI's description of SD1.5; None for Forge.
        unet: one of `UNETS`.
    """
    vae, text_encoder = _vae_and_text_encoder()
    _write(path, styles, small_sd1_unet(0, **UNETS[unet]), vae, [text_encoder])
    if sd1_yaml:
        _write_yaml(path, sd1_yaml, _DIFFERENCES[unet])
    return path


def write_sdxl_checkpoint(path: Path, styles: Styles | None, sdxl_yaml: Path | None) -> Path:
    """The same for SDXL; `sdxl_yaml` is the WebUI's `sd_xl_base.yaml`."""
    vae, text_encoder = _vae_and_text_encoder()
    _write(path, styles, small_sdxl_unet(0, **SDXL_UNET), vae, [text_encoder, _small_bigg()])
    if sdxl_yaml:
        _write_yaml(path, sdxl_yaml, _SDXL_DIFFERENCES)
    return path


def _write(
    path: Path,
    styles: Styles | None,
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    text_encoders: list[PreTrainedModel],
) -> None:
    write_single_file(
        path,
        unet,
        vae=vae,
        text_encoders=text_encoders,
        metadata=styles_metadata(styles) if styles else {},
        styles=style_tensors(styles) if styles else None,
        dtype=torch.float16,
    )


def _write_yaml(checkpoint: Path, usual_yaml: Path, differences: dict[str, str]) -> None:
    text = usual_yaml.read_text(encoding="utf-8")
    for usual, small in differences.items():
        assert usual in text
        text = text.replace(usual, small)
    checkpoint.with_suffix(".yaml").write_text(text, encoding="utf-8")


@cache
def _vae_and_text_encoder() -> tuple[AutoencoderKL, CLIPTextModel]:
    torch.manual_seed(0)
    config = CLIPTextConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        projection_dim=768,
    )
    return AutoencoderKL(**SD_VAE).eval(), _with_mean(CLIPTextModel(config).eval())


def _small_bigg() -> CLIPTextModelWithProjection:
    """SDXL's second text encoder with 3 layers of 32, the fewest that reForge takes."""
    torch.manual_seed(0)
    config = CLIPTextConfig(
        hidden_size=1280,
        intermediate_size=5120,
        num_hidden_layers=3,
        num_attention_heads=20,
        projection_dim=1280,
        hidden_act="gelu",
    )
    return _with_mean(CLIPTextModelWithProjection(config).eval())


def _with_mean(text_encoder: PreTrainedModel) -> PreTrainedModel:
    """The hosts divide by the mean of the text's embedding, which is 0 at initialisation."""
    parameters = text_encoder.named_parameters()
    bias = next(bias for name, bias in parameters if "final_layer_norm.bias" in name)
    torch.nn.init.normal_(bias.data, mean=0.5)
    return text_encoder
