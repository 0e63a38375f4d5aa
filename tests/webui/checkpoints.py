"""Checkpoints that the real WebUI and the real Forge accept, small where they allow it.

Both take a small UNet of 320 channels, Forge by the tensors alone, the WebUI with a `.yaml` beside
the file. Text encoder and VAE have to be of SD1.5's size.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextConfig, CLIPTextModel

from dmm.merged import Styles
from tests.comfyui.checkpoints import SD1_UNET, SD_VAE, style_tensors, styles_metadata
from tests.nets import small_sd1_unet, write_single_file

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
    write_single_file(
        path,
        small_sd1_unet(0, **UNETS[unet]),
        vae=vae,
        text_encoders=[text_encoder],
        metadata=styles_metadata(styles) if styles else {},
        styles=style_tensors(styles) if styles else None,
        dtype=torch.float16,
    )
    if sd1_yaml:
        text = sd1_yaml.read_text(encoding="utf-8")
        for usual, small in _DIFFERENCES[unet].items():
            assert usual in text
            text = text.replace(usual, small)
        path.with_suffix(".yaml").write_text(text, encoding="utf-8")
    return path


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
    text_encoder = CLIPTextModel(config).eval()
    # Both hosts divide by the mean of the text's embedding, which is 0 at initialisation.
    bias = next(b for name, b in text_encoder.named_parameters() if "final_layer_norm.bias" in name)
    torch.nn.init.normal_(bias.data, mean=0.5)
    return AutoencoderKL(**SD_VAE).eval(), text_encoder
