"""The two spellings of a checkpoint's tensor names: the single file's (LDM, sgm) and diffusers'.

One module a network. Each derives a table of prefixes from the names that are there, so it holds
for any depth and for networks with blocks cut out, and returns where every tensor of the wanted
layout comes from (`Source`); `Renamed` reads tensors through that.
"""

from dmm.layouts.controlnet import controlnet_to_diffusers, controlnet_to_single
from dmm.layouts.renaming import Renamed, Source, with_prefix
from dmm.layouts.single_file import (
    CLIP_PREFIX,
    CONTROLNET_PREFIX,
    OPEN_CLIP_PREFIX,
    UNET_PREFIX,
    VAE_PREFIX,
    single_file_tensors,
)
from dmm.layouts.text_encoder import clip, open_clip_to_single, open_clip_to_transformers
from dmm.layouts.unet import style_keys, unet_to_diffusers, unet_to_ldm
from dmm.layouts.vae import vae_to_diffusers, vae_to_ldm, vae_to_today

__all__ = [
    "CLIP_PREFIX",
    "CONTROLNET_PREFIX",
    "OPEN_CLIP_PREFIX",
    "UNET_PREFIX",
    "VAE_PREFIX",
    "Renamed",
    "Source",
    "clip",
    "controlnet_to_diffusers",
    "controlnet_to_single",
    "open_clip_to_single",
    "open_clip_to_transformers",
    "single_file_tensors",
    "style_keys",
    "unet_to_diffusers",
    "unet_to_ldm",
    "vae_to_diffusers",
    "vae_to_ldm",
    "vae_to_today",
    "with_prefix",
]
