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

# What the WebUI's configs/v1-inference.yaml says of the UNet, for `SD1_UNET`.
_SMALL = {
    "channel_mult: [ 1, 2, 4, 4 ]": "channel_mult: [ 1, 1 ]",
    "attention_resolutions: [ 4, 2, 1 ]": "attention_resolutions: [ 1 ]",
    "num_res_blocks: 2\n        channel_mult": "num_res_blocks: 1\n        channel_mult",
}

# With all of SD1.5's blocks, which ControlNet's extension counts on, a tenth as wide.
NARROW_UNET = {
    "block_out_channels": (32, 64, 128, 128),
    "layers_per_block": 2,
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
    "cross_attention_dim": 768,
}
NARROW_DIM = 4 * 32  # of the time embedding
_NARROW = {"model_channels: 320": "model_channels: 32"}


def write_checkpoint(
    path: Path, styles: Styles | None, sd1_yaml: Path | None, *, narrow: bool = False
) -> Path:
    """Writes a checkpoint as the trainer would.

    Args:
        styles: None for a plain checkpoint.
        sd1_yaml: the WebUI's description of SD1.5; None for Forge.
        narrow: with `NARROW_UNET`, which Forge does not know.
    """
    vae, text_encoder = _vae_and_text_encoder()
    write_single_file(
        path,
        small_sd1_unet(0, **(NARROW_UNET if narrow else SD1_UNET)),
        vae=vae,
        text_encoders=[text_encoder],
        metadata=styles_metadata(styles) if styles else {},
        styles=style_tensors(styles) if styles else None,
        dtype=torch.float16,
    )
    if sd1_yaml:
        text = sd1_yaml.read_text(encoding="utf-8")
        for usual, small in (_NARROW if narrow else _SMALL).items():
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
