"""What the figures of the benchmarks cannot pass: arithmetic counted on networks without weights.

  python -m bench.limits --help

SD1.5 at its full size, on torch's meta device: a few seconds, on any machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
import typer
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextModel

from bench.report import print_ratios, print_table
from bench.workshop import SD15_CLIP, SD15_UNET, SD15_VAE

LATENT = 8  # pixels
TOKENS = 77


def main(
    pixels: Annotated[int, typer.Option(help="Width and height of the picture.")] = 512,
    regions: Annotated[int, typer.Option(help="R of the regional pass.")] = 8,
) -> None:
    """Print the arithmetic of a pass and of a training step, and the limits that follow."""
    side = pixels // LATENT
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SD15_UNET)
        vae, clip = AutoencoderKL(**SD15_VAE), CLIPTextModel(SD15_CLIP)
        latent, text = torch.empty(1, 4, side, side), torch.empty(1, TOKENS, 768)
        picture, tokens = torch.empty(1, 3, pixels, pixels), torch.empty(1, TOKENS).long()
        moment = torch.empty(1)
    one_pass = flops(lambda: unet(latent, moment, text))
    extra = regional_flops(unet, lambda: unet(latent, moment, text), regions)
    encode = flops(lambda: vae.encode(picture).latent_dist.mean)
    caption = flops(lambda: clip(tokens))
    # Of one pair: the student forwards and backwards, which is twice as much, and its teacher.
    step = 4 * one_pass
    print_table(
        ("of a picture", "GFLOP"),
        [
            ("a pass of the UNet", f"{one_pass / 1e9:.1f}"),
            (f"{regions} regions, in the same pass", f"{extra / 1e9:.2f}"),
            ("the picture encoded by the VAE", f"{encode / 1e9:.1f}"),
            ("a caption encoded by CLIP", f"{caption / 1e9:.1f}"),
            ("a training step for one pair", f"{step / 1e9:.1f}"),
        ],
    )
    print_ratios(
        {
            "regions_flops": 1 + extra / one_pass,
            # The authors encode a picture and its caption, twice, at each step.
            "samples_per_second_to_authors": 1 + (encode + 2 * caption) / step,
        }
    )


def flops(run: Callable[[], object]) -> int:
    """Floating-point operations of matrix products and convolutions; a multiply-add is two."""
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        run()
    return counted.get_total_flops()


def regional_flops(unet: UNet2DConditionModel, run: Callable[[], object], regions: int) -> int:
    """What regions add to a pass: at each residual block a projection a region more than one, and
    the blend of what comes out by the masks."""
    total = 0

    def count(block: ResnetBlock2D, _inputs: object, output: torch.Tensor) -> None:
        nonlocal total
        projection = block.time_emb_proj
        total += 2 * (regions - 1) * projection.in_features * projection.out_features
        total += 2 * regions * output[0].numel()

    blocks = [block for block in unet.modules() if isinstance(block, ResnetBlock2D)]
    hooks = [block.register_forward_hook(count) for block in blocks]
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return total


if __name__ == "__main__":
    typer.run(main)
