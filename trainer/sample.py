"""Pictures from a merged checkpoint, one row a mix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from dmm.errors import DmmError
from dmm.injection import styled
from dmm.merged import read_styles
from dmm.mixes import mix_weights, parse_mix
from trainer.checkpoint import open_checkpoint
from trainer.grid import save_grid
from trainer.sampling import decode, sample_latents, sdxl_time_ids
from trainer.text import TextEncoders


def paint_mixes(
    path: Path,
    prompts: Sequence[str],
    mixes: Sequence[str] | None,
    output: Path,
    *,
    strength: float = 1.0,
    negative: str = "",
    steps: int = 25,
    guidance: float = 7.0,
    size: tuple[int | None, int | None] = (None, None),
    seed: int = 0,
) -> None:
    """Paints every prompt in every mix, from the same noise, and writes one labelled picture.

    Args:
        path: a merged checkpoint.
        mixes: such as "ink:0.7, anime:0.3"; None = every style alone.
        strength: factor on the style vector; 0 = no style, the average.
        size: width and height in pixels; None = as the file was trained.

    Raises:
        DmmError: the file has no styles, a mix names another, or the size is not a multiple of 8.
    """
    styles = read_styles(path)
    checkpoint = open_checkpoint(path)
    wanted = list(mixes or styles.names)
    weights = [mix_weights(parse_mix(mix), styles.names) for mix in wanted]
    width, height = _size(size, checkpoint.metadata.get("modelspec.resolution", ""))
    factor = 2 ** (len(checkpoint.vae_config["block_out_channels"]) - 1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    text = TextEncoders(checkpoint, device=device)
    unet = checkpoint.load_unet().to(device)
    vae = checkpoint.load_vae().to(device)
    rows = []
    for label, row in zip(wanted, weights, strict=True):
        with torch.no_grad():
            vector = strength * styles.prompts(row)
        with styled(unet, vector):
            latents = sample_latents(
                unet,
                text.encode(prompts),
                text.encode([negative]),
                shape=(unet.config.in_channels, height // factor, width // factor),
                seeds=[seed + index for index in range(len(prompts))],
                steps=steps,
                guidance=guidance,
                prediction_type=checkpoint.prediction_type,
                time_ids=sdxl_time_ids(width, height),
                progress=f"Painting {label}",
            )
        rows.append((label, decode(vae, latents)))
    save_grid(output, rows)


def _size(size: tuple[int | None, int | None], trained: str) -> tuple[int, int]:
    said = trained.split("x")
    known = [int(side) for side in said] if all(side.isdecimal() for side in said) else []
    default = known if len(known) == 2 else [512, 512]
    width, height = (given or side for given, side in zip(size, default, strict=True))
    if width % 8 or height % 8:
        raise DmmError(f"The size {width} x {height} is not a multiple of 8. Choose one that is.")
    return width, height
