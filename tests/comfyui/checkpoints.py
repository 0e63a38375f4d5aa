"""Checkpoints that the real ComfyUI accepts, as small as it allows, with random weights.

It recognises the architecture by the tensors: 320 channels, contexts of 768 or 2048, and for SDXL
the transformer depths of a model it knows (Segmind Vega's are the smallest). Levels, blocks and
channel multipliers are free.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from dmm.layouts import CLIP_PREFIX, UNET_PREFIX
from dmm.merged import Styles
from dmm.metadata import Family, Style, merged_metadata
from dmm.style_prompts import StylePrompts
from dmm.tensors import open_tensors, save_tensors
from tests.nets import small_sd1_unet, small_sdxl_unet, write_single_file

DIM = 1280  # of the time embedding, 4 x 320

SD1_UNET = {"block_out_channels": (320, 320), "cross_attention_dim": 768}
SDXL_UNET = {
    "block_out_channels": (320, 320, 320),
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": [1, 1, 2],
    "attention_head_dim": [5, 5, 5],
    "cross_attention_dim": 2048,
    "projection_class_embeddings_input_dim": 1280 + 6 * 256,
}
SD_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}


def small_styles(
    names: Sequence[str], family: Family = "sd1", seed: int = 0, dim: int = DIM
) -> Styles:
    """Random style prompts, strong enough to be seen in what a random UNet paints."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        prompts = StylePrompts(len(names), dim)
    with torch.no_grad():
        prompts.linear_2.weight *= 8
    return Styles(prompts, [Style(name) for name in names], family, recipe={"steps": 1})


def write_checkpoint(
    path: Path,
    styles: Styles | None = None,
    *,
    family: Family = "sd1",
    named: bool = True,
    whole: bool = False,
    dtype: torch.dtype = torch.float16,
    seed: int = 0,
) -> Path:
    """Writes a checkpoint as the trainer would.

    Args:
        styles: None for a plain checkpoint.
        named: False leaves the metadata out, as the authors' files do.
        whole: with SD1.5's text encoder and VAE, 0.4 GB; without, a UNet alone.
    """
    unet = small_sd1_unet(seed, **SD1_UNET)
    if family == "sdxl":
        unet = small_sdxl_unet(seed, **SDXL_UNET)
    return write_single_file(
        path,
        unet,
        vae=_vae() if whole else None,
        text_encoders=[_text_encoder()] if whole else [],
        metadata=styles_metadata(styles) if styles and named else {},
        styles=style_tensors(styles) if styles else None,
        dtype=dtype,
    )


def style_tensors(styles: Styles) -> dict[str, Tensor]:
    """The style tensors under the authors' names, without the single file's prefix."""
    return {name.removeprefix(UNET_PREFIX): tensor for name, tensor in styles.tensors().items()}


def styles_metadata(styles: Styles) -> dict[str, str]:
    return merged_metadata(
        styles.styles,
        styles.recipe,
        family=styles.family,
        title="Small",
        resolution=(64, 64),
        prediction_type="epsilon",
    )


LORA_PREFIXES = {UNET_PREFIX: "lora_unet_", CLIP_PREFIX["sd1"]: "lora_te_"}
LORA_LAYERS = r"time_embed.*|.*emb_layers.*|.*attn\d?\.(to_[qkv]|[qkv]_proj)"


def write_lora(path: Path, checkpoint: Path, layers: str = LORA_LAYERS, rank: int = 4) -> Path:
    """Writes a LoRA that changes the picture plainly, on the UNet's and text encoder's `layers`."""
    generator = torch.Generator().manual_seed(7)
    file = open_tensors(checkpoint)
    lora = {}
    for key in file:
        prefix = next((prefix for prefix in LORA_PREFIXES if key.startswith(prefix)), key)
        name = key.removeprefix(prefix).removesuffix(".weight")
        if len(file.shape(key)) == 2 and re.fullmatch(layers, name):
            rows, columns = file.shape(key)
            name = LORA_PREFIXES[prefix] + name.replace(".", "_")
            lora[f"{name}.lora_up.weight"] = torch.randn(rows, rank, generator=generator) / 20
            lora[f"{name}.lora_down.weight"] = torch.randn(rank, columns, generator=generator) / 5
    save_tensors(path, lora, {})
    return path


def _vae() -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(**SD_VAE).eval()


def _text_encoder() -> CLIPTextModel:
    """SD1.5's text encoder (CLIP ViT-L/14), whose size ComfyUI does not let vary."""
    torch.manual_seed(0)
    config = CLIPTextConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        projection_dim=768,
    )
    return CLIPTextModel(config).eval()
