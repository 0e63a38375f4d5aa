"""The weights of a MODEL, a CLIP and a VAE for a file, which ComfyUI gives out in two ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from comfy import model_management
from torch import Tensor

from dmm.computed import Computed
from dmm.errors import DmmError

SCALES = ("scale_weight", "weight_scale", "scaled_fp8", "comfy_quant")
"""Where ComfyUI, over its versions, keeps what quantised weights mean nothing without."""


def checkpoint_tensors(model: Any, clip: Any, vae: Any) -> Mapping[str, Tensor]:
    """The weights as they paint now, LoRAs merged in, under the names of the single-file layout.

    Args:
        clip: None leaves the text encoder out.
        vae: None leaves the VAE out.

    Raises:
        DmmError: the MODEL or the CLIP is quantised with scales, which no other file would have.
    """
    loaded = [model] if clip is None else [model, clip.load_model()]
    vae_tensors = None if vae is None else vae.get_sd()
    # From ComfyUI 0.12 on a LoRA may be merged in no sooner than a weight is read, so the MODEL
    # itself gives them out; from 0.22 on the CLIP too.
    reads_late = hasattr(model, "state_dict_for_saving")
    clip_tensors = None
    if clip is not None:
        clip_tensors = getattr(clip, "state_dict_for_saving", clip.get_sd)()
    model_management.load_models_gpu(loaded, force_patch_weights=not reads_late)
    source = model if reads_late else model.model
    tensors = source.state_dict_for_saving(clip_tensors, vae_tensors)
    _refuse_quantised(tensors)
    if getattr(model.get_model_object("model_sampling"), "zsnr", False):
        tensors["ztsnr"] = torch.tensor([])  # how files tell that their schedule ends in pure noise
    # Whatever it is asked for, `to` is what merges a LoRA in that is not merged yet.
    return Computed(tensors, lambda name: tensors[name].to("cpu"))


def _refuse_quantised(tensors: Mapping[str, Tensor]) -> None:
    scales = [name for name in tensors if name.rpartition(".")[2] in SCALES]
    if scales:
        raise DmmError(
            f"The model's weights are quantised ({scales[0]}) and cannot be saved from here. Load "
            "the checkpoint in fp16, bf16 or fp32."
        )
