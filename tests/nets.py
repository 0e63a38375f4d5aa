"""Small real networks of the SD1 and SDXL kinds with random weights, and files of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from dmm.layouts import UNET_PREFIX, single_file_tensors
from dmm.tensors import save_tensors

TEXT_WIDTH = 64
POOLED_WIDTH = 64

SD1_UNET = {
    "sample_size": 8,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": 8,
}
SDXL_UNET = {
    "sample_size": 8,
    "block_out_channels": (64, 128),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 2 * TEXT_WIDTH,
    "attention_head_dim": [1, 2],
    "transformer_layers_per_block": [1, 2],
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": POOLED_WIDTH + 6 * 256,
}
VAE = {
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
}


def small_sd1_unet(seed: int = 0, **config: Any) -> UNet2DConditionModel:
    """Two levels, 32 and 64 channels, attention in the first, conv projections, eight heads."""
    return _random(UNet2DConditionModel, seed, **(SD1_UNET | config))


def small_sdxl_unet(seed: int = 0, **config: Any) -> UNet2DConditionModel:
    """Two levels, 64 and 128 channels, attention in the second, two transformer layers deep."""
    return _random(UNet2DConditionModel, seed, **(SDXL_UNET | config))


def small_vae(seed: int = 0, **config: Any) -> AutoencoderKL:
    """Two levels, so a picture has twice the latent's side."""
    return _random(AutoencoderKL, seed, **(VAE | config))


def small_clip(seed: int = 0, vocab_size: int = 520) -> CLIPTextModel:
    """CLIP, two layers, one head of 64; `vocab_size` - 514 of CLIP's merges."""
    return _random(CLIPTextModel, seed, _clip_config(vocab_size, "quick_gelu"))


def small_bigg(seed: int = 0, vocab_size: int = 520) -> CLIPTextModelWithProjection:
    """SDXL's second text encoder, as small as `small_clip`."""
    return _random(CLIPTextModelWithProjection, seed, _clip_config(vocab_size, "gelu"))


def write_single_file(
    path: str | Path,
    unet: UNet2DConditionModel,
    vae: AutoencoderKL | None = None,
    text_encoders: Sequence[nn.Module] = (),
    metadata: Mapping[str, str] | None = None,
    styles: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write a checkpoint in the LDM layout, or sgm for a UNet with SDXL's text-time embedding."""
    family = "sdxl" if unet.config.addition_embed_type == "text_time" else "sd1"
    tensors = single_file_tensors(
        family,
        unet.state_dict(),
        vae.state_dict() if vae is not None else None,
        [file_tensors(encoder) for encoder in text_encoders],
    )
    style_tensors = {UNET_PREFIX + key: tensor for key, tensor in (styles or {}).items()}
    tensors = {key: tensor.to(dtype) for key, tensor in {**tensors, **style_tensors}.items()}
    save_tensors(path, tensors, metadata or {})
    return Path(path)


def file_tensors(text_encoder: nn.Module) -> dict[str, Tensor]:
    """A text encoder's tensors as files name them, with `text_model.` in front."""
    return {
        key if key.startswith("text_") else f"text_model.{key}": tensor
        for key, tensor in text_encoder.state_dict().items()
    }


def _clip_config(vocab_size: int, activation: str) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=vocab_size,
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=1,
        max_position_embeddings=77,
        hidden_act=activation,
        projection_dim=POOLED_WIDTH,
        bos_token_id=vocab_size - 2,
        eos_token_id=vocab_size - 1,
    )


def _random(network: type[Any], seed: int, *args: Any, **config: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return network(*args, **config).eval()
