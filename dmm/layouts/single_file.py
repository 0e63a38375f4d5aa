"""A whole checkpoint in one file: which prefix holds which network."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence

from torch import Tensor

from dmm.layouts.renaming import Renamed, Source
from dmm.layouts.text_encoder import clip, open_clip_to_single
from dmm.layouts.unet import unet_to_ldm
from dmm.layouts.vae import vae_to_ldm

UNET_PREFIX = "model.diffusion_model."
CONTROLNET_PREFIX = "control_model."
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
) -> Mapping[str, Tensor]:
    """One checkpoint in the single-file layout, of networks in diffusers' names; read lazily.

    Args:
        family: "sd1", with one text encoder, or "sdxl", with two (CLIP, then OpenCLIP).
    """
    parts = [_prefixed(UNET_PREFIX, unet, unet_to_ldm(unet))]
    if vae:
        parts.append(_prefixed(VAE_PREFIX, vae, vae_to_ldm(vae)))
    if text_encoders:
        text = text_encoders[0]
        parts.append(_prefixed(CLIP_PREFIX[family], text, clip(text)))
    if len(text_encoders) > 1:
        text = text_encoders[1]
        parts.append(_prefixed(OPEN_CLIP_PREFIX, text, open_clip_to_single(text)))
    return ChainMap(*parts)  # type: ignore[arg-type] # it asks for maps to write to, and only reads


def _prefixed(prefix: str, tensors: Mapping[str, Tensor], sources: Mapping[str, Source]) -> Renamed:
    return Renamed(tensors, {prefix + key: source for key, source in sources.items()})
