"""How LoRA files spell the weights they change, looked up from the names a network has."""

from __future__ import annotations

from collections.abc import Iterable

from dmm import layouts
from trainer.architecture import Family

NETWORKS = ("unet", "text_encoder", "text_encoder_2")

FLAT = {
    "unet": ("lora_unet_",),
    "text_encoder": ("lora_te_", "lora_te1_"),
    "text_encoder_2": ("lora_te2_",),
}
"""kohya's prefixes, before a module's name with "_" for "."; `lora_te_` where there is but one."""

DOTTED = {
    "unet": ("unet.", ""),
    "text_encoder": ("text_encoder.",),
    "text_encoder_2": ("text_encoder_2.",),
}
"""The prefixes of diffusers and peft; the oldest files have none for the UNet."""

COMFYUI = "diffusion_model."
"""What ComfyUI's own LoRA node puts before the UNet's names in the single file."""

OLD_ATTENTION = {
    ".to_q": ".processor.to_q",
    ".to_k": ".processor.to_k",
    ".to_v": ".processor.to_v",
    ".to_out.0": ".processor.to_out",
    ".q_proj": ".to_q",
    ".k_proj": ".to_k",
    ".v_proj": ".to_v",
    ".out_proj": ".to_out",
}
"""Ends of an attention's modules -> in diffusers' files of 2023."""


def spellings(network: str, tensors: Iterable[str]) -> dict[str, str]:
    """Every way that files spell a module of the network -> the name of its weight in diffusers.

    Args:
        network: "unet", "text_encoder" or "text_encoder_2".
        tensors: all the network's names in diffusers' files.
    """
    tensors = list(tensors)
    found = {}
    for module, weight in _modules(tensors).items():
        dotted = [module, *_old_names(module)]
        # transformers 5 dropped this part in memory, and diffusers saves what is in memory.
        dotted += [name.removeprefix("text_model.") for name in dotted]
        found |= {prefix + name: weight for prefix in DOTTED[network] for name in dotted}
        found |= {prefix + _flat(module): weight for prefix in FLAT[network]}
    if network == "unet":
        for module, weight in _ldm_modules(tensors).items():
            found |= {FLAT["unet"][0] + _flat(module): weight, COMFYUI + module: weight}
    return found


def kohya_names(network: str, tensors: Iterable[str], family: Family) -> dict[str, str]:
    """The name of each weight -> its module in kohya's spelling, which every host reads.

    That of SDXL's UNet is made of the single file's names, all others of diffusers'.
    """
    tensors = list(tensors)
    in_ldm = network == "unet" and family == "sdxl"
    modules = _ldm_modules(tensors) if in_ldm else _modules(tensors)
    prefixes = FLAT[network]
    prefix = prefixes[-1] if family == "sdxl" else prefixes[0]
    return {weight: prefix + _flat(module) for module, weight in modules.items()}


def _modules(tensors: Iterable[str]) -> dict[str, str]:
    return {name.removesuffix(".weight"): name for name in tensors if name.endswith(".weight")}


def _ldm_modules(tensors: list[str]) -> dict[str, str]:
    sources = layouts.unet_to_ldm(tensors)
    return {module: sources[name].keys[0] for module, name in _modules(sources).items()}


def _flat(module: str) -> str:
    return module.replace(".", "_")


def _old_names(module: str) -> list[str]:
    return [
        module.removesuffix(end) + old for end, old in OLD_ATTENTION.items() if module.endswith(end)
    ]
