"""The demo's nets: Stable Diffusion 1.5's three, only smaller (3.8 M parameters together)."""

from __future__ import annotations

from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

SCALING_FACTOR = 0.18215  # SD1.5's, so that its loaders need not be told
LATENT_CHANNELS = 16
VOCABULARY = 1024
MAX_TOKENS = 24
TEXT_WIDTH = 128


def new_vae() -> AutoencoderKL:
    """64 x 64 pixels <-> 16 x 8 x 8 latents."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 32, 64, 64),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=32,
        sample_size=64,
        scaling_factor=SCALING_FACTOR,
    )


def new_unet() -> UNet2DConditionModel:
    """Attention at 8 x 8 and in the middle block, 8 heads as in SD1.5."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(64, 96),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=8,
        norm_num_groups=32,
    )


def new_text_encoder() -> CLIPTextModel:
    """Two layers of CLIP's text transformer; the last token of the vocabulary ends a caption."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=VOCABULARY,
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=TEXT_WIDTH // 64,
            max_position_embeddings=MAX_TOKENS,
            hidden_act="quick_gelu",
            bos_token_id=VOCABULARY - 2,
            eos_token_id=VOCABULARY - 1,
            pad_token_id=VOCABULARY - 1,
        )
    )
