"""A whole checkpoint in one file: which prefix holds which network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from dmm.layouts.renaming import Renamed
from dmm.layouts.text_encoder import clip, open_clip_to_single
from dmm.layouts.unet import unet_to_ldm
from dmm.layouts.vae import vae_to_ldm

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."
CLIP_PREFIX = {
    "sd1": "cond_stage_model.transformer.",
    "sdxl": "conditioner.embedders.0.transformer.",
}
OPEN_CLIP_PREFIX = "conditioner.embedders.1.model."


def single_file_tensors(
    family: str,
    unet: Mapping[str, Tensor],
    vae: Mapping[str, Tensor] | None = None,
    text_encoders: Sequence[Mapping[str, Tensor]] = (),
) -> dict[str, Tensor]:
    """One checkpoint in the single-file layout, of networks in diffusers' names.

    Args:
        family: "sd1", with one text encoder, or "sdxl", with two (CLIP, then OpenCLIP).
    """
    parts = {UNET_PREFIX: Renamed(unet, unet_to_ldm(unet))}
    if vae:
        parts[VAE_PREFIX] = Renamed(vae, vae_to_ldm(vae))
    if text_encoders:
        parts[CLIP_PREFIX[family]] = Renamed(text_encoders[0], clip(text_encoders[0]))
    if len(text_encoders) > 1:
        open_clip = text_encoders[1]
        parts[OPEN_CLIP_PREFIX] = Renamed(open_clip, open_clip_to_single(open_clip))
    return {prefix + key: tensor for prefix, part in parts.items() for key, tensor in part.items()}
