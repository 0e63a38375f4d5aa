"""The published configs of whole models, as far as they shape tensors, and one made narrower."""

from __future__ import annotations

from dataclasses import dataclass

from dmm.metadata import Family
from trainer.architecture import Config

SD15 = {
    "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "transformer_layers_per_block": 1,
    "use_linear_projection": False,
}
SDXL = {
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 2,
    "cross_attention_dim": 2048,
    "attention_head_dim": [5, 10, 20],
    "transformer_layers_per_block": [1, 2, 10],
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
VAE = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 4,
    "scaling_factor": 0.18215,
}
CLIP_L = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
}
BIG_G = CLIP_L | {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "projection_dim": 1280,
}


@dataclass(frozen=True)
class Model:
    """A family's networks.

    Attributes:
        networks: UNet, VAE and text encoders, by their names in a diffusers folder.
    """

    family: Family
    networks: dict[str, Config]

    @property
    def controlnet(self) -> Config:
        """Of the ControlNet that belongs to the UNet."""
        unet = self.networks["unet"]
        shared = {key: value for key, value in unet.items() if key != "up_block_types"}
        return shared | {"conditioning_embedding_out_channels": (16, 32, 96, 256)}


FULL_SD15 = Model("sd1", {"unet": SD15, "vae": VAE, "text_encoder": CLIP_L})
FULL_SDXL = Model(
    "sdxl", {"unet": SDXL, "vae": VAE, "text_encoder": CLIP_L, "text_encoder_2": BIG_G}
)

_NARROW = {"vocab_size": 520, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
NARROW_SDXL = Model(
    "sdxl",
    {
        "unet": SDXL
        | {
            "block_out_channels": [32, 64, 128],
            "attention_head_dim": [1, 1, 2],
            "cross_attention_dim": 128,
            "projection_class_embeddings_input_dim": 64 + 6 * 256,
        },
        "vae": VAE | {"block_out_channels": [32] * 4, "layers_per_block": 1},
        "text_encoder": CLIP_L | _NARROW | {"num_attention_heads": 1},
        "text_encoder_2": BIG_G | _NARROW | {"num_attention_heads": 1, "projection_dim": 64},
    },
)
"""SDXL a tenth as wide, as deep as it is: ten transformer layers at the innermost level."""
