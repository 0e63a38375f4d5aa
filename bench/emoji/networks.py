"""The benchmark's own networks: Stable Diffusion 1.5's three, for 64 pixels."""

from __future__ import annotations

from dataclasses import dataclass

from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

SCALING_FACTOR = 0.18215  # SD1.5's, so that its loaders need not be told
LATENT_CHANNELS = 16
LATENT = (LATENT_CHANNELS, 8, 8)
VOCABULARY = 2048
MAX_TOKENS = 24


@dataclass(frozen=True)
class Widths:
    """Channels of the VAE's four levels, of the UNet's two, and of the text encoder."""

    vae: tuple[int, int, int, int]
    unet: tuple[int, int]
    text: int


WIDTHS = {
    "tiny": Widths((32, 32, 32, 32), (32, 64), 64),
    "gpu": Widths((64, 64, 128, 128), (192, 320), 256),
}


def new_vae(widths: Widths) -> AutoencoderKL:
    """64 x 64 pixels <-> 16 x 8 x 8 latents."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=widths.vae,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        sample_size=64,
        scaling_factor=SCALING_FACTOR,
    )


def new_unet(widths: Widths) -> UNet2DConditionModel:
    """Attention at 8 x 8 and in the middle block, 8 heads as in SD1.5."""
    return UNet2DConditionModel(
        sample_size=LATENT[-1],
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=widths.unet,
        layers_per_block=2,
        cross_attention_dim=widths.text,
        attention_head_dim=8,
    )


def new_text_encoder(widths: Widths) -> CLIPTextModel:
    """Two layers of CLIP's text transformer; the last token of the vocabulary ends a caption."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=VOCABULARY,
            hidden_size=widths.text,
            intermediate_size=4 * widths.text,
            num_hidden_layers=2,
            num_attention_heads=widths.text // 64,
            max_position_embeddings=MAX_TOKENS,
            hidden_act="quick_gelu",
            bos_token_id=VOCABULARY - 2,
            eos_token_id=VOCABULARY - 1,
            pad_token_id=VOCABULARY - 1,
        )
    )
