"""What a file is that is no checkpoint, told by its tensor names."""

from __future__ import annotations

import re
from collections.abc import Iterable

from dmm.merged import is_adapter

KINDS = {
    "a LoRA, which changes a checkpoint and is none (a teacher's stands under `loras`)": (
        r"lora_(unet|te\d?|transformer)_|.*[._](lora[._](A|B|up|down)|hada_w\d|lokr_w\d)\b"
    ),
    "a merged ControlNet": r"control_model\.model_embedding\.",
    "a ControlNet": r"control_model\.|controlnet_cond_embedding\.|input_hint_block\.",
    "a video model": r".*(time_stack|motion_modules|temporal_transformer)\.",
    "a textual inversion (an embedding of words)": r"string_to_param|emb_params$|clip_[lg]$",
    "a Flux model": r"(model\.diffusion_model\.)?double_blocks\.",
    "a Stable Diffusion 3 model": r"(model\.diffusion_model\.)?joint_blocks\.",
    "an IP-Adapter": r"(ip_adapter|image_proj)\.",
    "a style file (the styles of a merged checkpoint without its UNet)": (
        r"(model\.diffusion_model\.)?model_embedding\.weight$"
    ),
    "a bare UNet; give the folder or the whole checkpoint it belongs to": (
        r"(down_blocks|input_blocks)\.\d"
    ),
    "a VAE": r"(first_stage_model\.)?(encoder|decoder)\.(conv_in|mid|mid_block)\.",
    "a text encoder": (
        r"(cond_stage_model\.|conditioner\.|text_encoders\.)?.*"
        r"(text_model|embeddings\.token_embedding|resblocks|encoder\.block)\b"
    ),
    "an upscaler": r"(params(_ema)?\.)?(RDB|body\.\d|conv_first\.|model\.\d+\.sub\.)",
}
"""What it is -> a pattern that fits one of its names from the start. The first that fits holds."""


def recognise(keys: Iterable[str]) -> str:
    """Say what a file with these tensors is: "a LoRA"; the names themselves where nothing fits."""
    keys = list(keys)
    if is_adapter(dict.fromkeys(keys)):
        return "an adapter, which holds styles for its base; `run.py fold` makes one file of both"
    for kind, pattern in KINDS.items():
        if any(re.match(pattern, key) for key in keys):
            return kind
    return f"an unknown kind of model (its {len(keys)} tensors begin with {', '.join(keys[:3])})"
