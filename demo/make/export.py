"""Writes a demo checkpoint: one file in SD1.5's layout, half precision, with its licence in it."""

from __future__ import annotations

from pathlib import Path

from denoiser import Denoiser
from diffusers import AutoencoderKL

from dmm.layouts import single_file_tensors
from dmm.tensors import save_tensors

TWEMOJI = "Twemoji (Twitter, Inc. and contributors), CC BY 4.0"
FLUENT = "Fluent Emoji (Microsoft Corporation), MIT"
OPENMOJI = "OpenMoji (openmoji.org and contributors), CC BY-SA 4.0"
CREDITS = {
    "twemoji": TWEMOJI,
    "fluent-3d": FLUENT,
    "high-contrast": FLUENT,
    "openmoji": OPENMOJI,
}
# Every file starts from the base, and the base has seen OpenMoji, so its licence covers them all.
LICENCE = "CC-BY-SA-4.0"


def metadata(name: str) -> dict[str, str]:
    """modelspec 1.0.1 metadata of the base or of a style's checkpoint."""
    base_art = "; ".join(dict.fromkeys(CREDITS.values()))
    if name == "base":
        what = "Four emoji styles at once, no style named."
        author = "The DMM project"
    else:
        what = f"Fine-tuned on {CREDITS[name]}, from a base trained on four styles."
        author = "The DMM project"
    return {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-v1",
        "modelspec.implementation": "https://github.com/CompVis/stable-diffusion",
        "modelspec.title": f"DMM demo: {name}",
        "modelspec.author": author,
        "modelspec.license": LICENCE,
        "modelspec.description": (
            f"A small Stable Diffusion for demonstrations: 64 x 64 pixels. {what} "
            f"The weights were trained on this art: {base_art}; they are shared under {LICENCE}."
        ),
        "modelspec.resolution": "64x64",
        "modelspec.prediction_type": "v",
    }


def save_teacher(path: Path, name: str, denoiser: Denoiser, vae: AutoencoderKL) -> None:
    """Writes fp16 weights in the single-file layout, replacing an older file."""
    tensors = single_file_tensors(
        "sd1",
        denoiser.unet.state_dict(),
        vae.state_dict(),
        [denoiser.text_encoder.state_dict()],
    )
    half = {key: value.half() for key, value in tensors.items()}
    save_tensors(path, half, metadata(name), overwrite=True)
    size, count = path.stat().st_size, sum(value.numel() for value in tensors.values())
    print(f"{path.name}: {count:,} parameters, {size / 1e6:.1f} MB", flush=True)
