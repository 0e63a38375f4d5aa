"""What a LoRA's file is and was made for, told by its tensor names and metadata."""

from __future__ import annotations

import re
from collections.abc import Iterable

from dmm.tensors import TensorFile
from trainer.architecture import Family

OTHER_KINDS = {
    "an adapter of peft's own, whose strength stands in another file": r"^base_model\.model\.",
    "a LoKr (LyCORIS)": r"\.lokr_",
    "a GLoRA (LyCORIS)": r"\.[ab][12]\.weight$",
    "a DoRA, which scales the weights besides": r"dora_scale$|lora_magnitude_vector",
    "an OFT or BOFT, which turns the weights": r"\.(oft|boft)_",
    "an (IA)³, which scales the layers' outputs": r"\.on_input$",
    "an adapter of a merge, whose styles a LoRA has no place for": r"model_embedding\.weight$",
    "a difference of whole weights": r"\.(diff|diff_b|w_norm|b_norm|set_weight)$",
}
"""What else it can be -> what is in one of its names. The first that is there holds."""

ARCHITECTURES = {
    "Flux": r"double_blocks|single_transformer_blocks|flux",
    "Stable Diffusion 3": r"joint_blocks|stable-diffusion-v?3|sd3",
    "SDXL": r"^lora_te2_|^text_encoder_2\.|^lora_unet_input_blocks_|sdxl|diffusion-xl",
    "Stable Diffusion 2": r"sd_v2|stable-diffusion-v2",
    "Stable Diffusion 1": r"^lora_te_|sd_v1|stable-diffusion-v1",
}
"""Architecture -> what is in one of its names, or in what the trainer said. The first holds."""

CONTEXT = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "SDXL"}
"""How many numbers a token the UNet's cross-attention reads."""

SAID_BY_TRAINERS = ("ss_base_model_version", "modelspec.architecture")

SORTED_BY = {
    "sd1": {
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "ss_base_model_version": "sd_v1",
    },
    "sdxl": {
        "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
        "ss_base_model_version": "sdxl_base_v1-0",
    },
}
"""What hosts sort LoRAs by."""


def host_metadata(family: Family, base: str, rank: int) -> dict[str, str]:
    """What hosts want to know of a LoRA; keys with `ss_` are kohya's.

    Args:
        base: the name of the checkpoint it is made for.
        rank: of every layer; α is the same, so that nothing is scaled.
    """
    return {
        **SORTED_BY[family],
        "ss_sd_model_name": base,
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(rank),
    }


def other_kind(keys: Iterable[str]) -> tuple[str, list[str]] | None:
    """What a file is that this trainer cannot add to a weight, and the names that tell so."""
    keys = list(keys)
    for kind, pattern in OTHER_KINDS.items():
        names = [key for key in keys if re.search(pattern, key)]
        if names:
            return kind, names
    return None


def made_for(file: TensorFile) -> str | None:
    """The architecture that a LoRA was trained for; None where nothing tells."""
    for key in file:
        width = file.shape(key)[-1:]
        if re.search(r"attn2[._]to_k\b.*(down|lora_A)", key) and width and width[0] in CONTEXT:
            return CONTEXT[width[0]]
    said = [file.metadata[key] for key in SAID_BY_TRAINERS if key in file.metadata]
    for architecture, pattern in ARCHITECTURES.items():
        if any(re.search(pattern, text) for text in (*said, *file)):
            return architecture
    return None
