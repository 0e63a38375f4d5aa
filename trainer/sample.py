"""Pictures from a merged checkpoint, one row a mix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from dmm.errors import DmmError
from dmm.injection import styled
from dmm.merged import read_styles
from dmm.metadata import Sampling
from dmm.mixes import mix_weights, parse_mix
from trainer.checkpoint import open_checkpoint
from trainer.fold import open_adapter
from trainer.grid import save_grid
from trainer.sampling import MOST_LCM_STEPS, SAMPLERS, decode, sample_latents, sdxl_time_ids
from trainer.text import TextEncoders


def paint_mixes(
    path: Path,
    prompts: Sequence[str],
    mixes: Sequence[str] | None,
    output: Path,
    *,
    base: Path | None = None,
    strength: float = 1.0,
    negative: str = "",
    steps: int | None = None,
    guidance: float | None = None,
    size: tuple[int | None, int | None] = (None, None),
    seed: int = 0,
) -> None:
    """Paints every prompt in every mix, from the same noise, and writes one labelled picture.

    Args:
        path: a merged checkpoint, or an adapter.
        mixes: such as "ink:0.7, anime:0.3"; None = every style alone.
        base: the checkpoint that an adapter is for.
        strength: factor on the style vector; 0 = no style, the average.
        steps, guidance: None = as the file wants it, else 25 and 7.
        size: width and height in pixels; None = as the file was trained.

    Raises:
        DmmError: the file has no styles, a mix names another, the size is not a multiple of 8, or
            the file paints in few steps and many are asked for.
    """
    styles = read_styles(path)
    how = styles.sampling or Sampling(25, 7.0, "dpm++")
    if how.sampler not in SAMPLERS:
        raise DmmError(f"{path} wants the sampler {how.sampler!r}, which is not known here.")
    if how.sampler == "lcm" and (steps or 1) > MOST_LCM_STEPS:
        raise DmmError(
            f"{path} paints in few steps ({how}); {steps} are too many. "
            f"Choose {MOST_LCM_STEPS} at most."
        )
    checkpoint = open_adapter(path, base) if base else open_checkpoint(path)
    wanted = list(mixes or styles.names)
    weights = [mix_weights(parse_mix(mix), styles.names) for mix in wanted]
    width, height = picture_size(size, checkpoint.metadata.get("modelspec.resolution", ""))
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
                steps=steps or how.steps,
                guidance=guidance or how.guidance,
                prediction_type=checkpoint.prediction_type,
                time_ids=sdxl_time_ids(width, height),
                sampler=how.sampler,
                progress=f"Painting {label}",
            )
        rows.append((label, decode(vae, latents)))
    save_grid(output, rows)


def picture_size(size: tuple[int | None, int | None], trained: str) -> tuple[int, int]:
    """Width and height in pixels: as asked for, else as trained, else 512.

    Args:
        trained: `modelspec.resolution`, such as "512x768"; a stranger's.

    Raises:
        DmmError: it is not a multiple of 8.
    """
    said = trained.split("x")
    known = [int(side) for side in said] if all(side.isdecimal() for side in said) else []
    default = known if len(known) == 2 else [512, 512]
    width, height = (given or side for given, side in zip(size, default, strict=True))
    if width % 8 or height % 8:
        raise DmmError(f"The size {width} x {height} is not a multiple of 8. Choose one that is.")
    return width, height
