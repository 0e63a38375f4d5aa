"""Runs in ComfyUI's Python: its real UNet with injected styles, against the same done plainly.

Prints, as JSON, how far each case is off (relative to the largest number), and what is left on the
model afterwards.
"""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from copy import deepcopy
from math import ceil

import torch
from comfy import ops
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, UNetModel
from torch.nn import functional as F

from dmm.ldm import styled
from dmm.regions import Regions

BATCH, SIZE, DIM = 4, (13, 18), 128
SMALL = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": DIM // 4,
    "channel_mult": (1, 2),
    "num_res_blocks": [1, 1],
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1] * 4,
    "transformer_depth_middle": 1,
    "num_head_channels": 16,
    "context_dim": 24,
    "use_spatial_transformer": True,
    "operations": ops.disable_weight_init,
}
KINDS = {"sd1": {}, "sdxl": {"num_classes": "sequential", "adm_in_channels": 20}}


def make_unet(kind: str) -> UNetModel:
    unet = UNetModel(**SMALL, **KINDS[kind])
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.copy_(torch.randn(parameter.shape) / parameter[0].numel() ** 0.5)
    return unet


def make_inputs(kind: str) -> dict[str, torch.Tensor]:
    inputs = {
        "x": torch.randn(BATCH, 4, *SIZE),
        "timesteps": torch.tensor([3.0, 500.0, 700.0, 990.0]),
        "context": torch.randn(BATCH, 5, 24),
    }
    return inputs if kind == "sd1" else inputs | {"y": torch.randn(BATCH, 20)}


def make_regions(pictures: int, regions: int) -> Regions:
    vectors = torch.randn(pictures, regions, DIM)
    if regions == 1:
        return Regions(vectors)
    masks = torch.rand(pictures, regions, 2 * SIZE[0], 2 * SIZE[1])
    return Regions(vectors, masks / masks.sum(dim=1, keepdim=True))


def share_of(mask: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The average of a mask [H, W] over what each place of a smaller picture stands for."""
    (high, wide), (h, w) = mask.shape, size
    spans = [
        [(i * full // part, ceil((i + 1) * full / part)) for i in range(part)]
        for full, part in ((high, h), (wide, w))
    ]
    return torch.stack(
        [torch.stack([mask[a:b, c:d].mean() for c, d in spans[1]]) for a, b in spans[0]]
    )


@contextmanager
def blocks_computed_plainly(regions: Regions):
    """ResBlocks that work out the bias of every sample, place and region by itself."""

    def forward(self, x, emb):
        features = self.in_layers(x)
        size = tuple(features.shape[-2:])
        biases = torch.zeros_like(features)
        for sample in range(len(x)):
            vectors = regions.vectors[sample % len(regions.vectors)]
            for number, vector in enumerate(vectors):
                bias = self.emb_layers[1](F.silu(emb[sample] + vector))
                share = torch.ones(size).to(x)
                if regions.masks is not None:
                    share = share_of(regions.masks[sample % len(regions.masks), number], size)
                biases[sample] += bias[:, None, None] * share
        return self.skip_connection(x) + self.out_layers(features + biases)

    original, ResBlock.forward = ResBlock.forward, forward
    try:
        yield
    finally:
        ResBlock.forward = original


def doubled(regions: Regions) -> Regions:
    return Regions(
        regions.vectors.double(), None if regions.masks is None else regions.masks.double()
    )


def hooks_on(unet: UNetModel) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in unet.modules()
    )


@torch.no_grad()
def main() -> None:
    torch.manual_seed(0)
    off, left = {}, 0
    for kind in KINDS:
        unet, inputs = make_unet(kind), make_inputs(kind)
        exact_unet = deepcopy(unet).double()
        exact_unet.dtype = torch.float64
        exact_inputs = {name: tensor.double() for name, tensor in inputs.items()}
        plain = unet(**inputs)
        for pictures in (1, 2, BATCH):
            for number in (1, 2, 5):
                regions = make_regions(pictures, number)
                with blocks_computed_plainly(doubled(regions)):
                    expected = exact_unet(**exact_inputs)
                case = f"{kind}, {pictures} pictures, {number} regions"
                with styled(unet, regions):
                    off[f"{case}, float32"] = difference(unet(**inputs), expected)
                with styled(exact_unet, doubled(regions)):
                    off[f"{case}, float64"] = difference(exact_unet(**exact_inputs), expected)
        with suppress(ZeroDivisionError), styled(unet, regions):
            raise ZeroDivisionError
        left += hooks_on(unet) + (not torch.equal(unet(**inputs), plain))
        with styled(unet, None):
            left += hooks_on(unet)
    print(json.dumps({"off": off, "left": left, "style": difference(plain, expected.float())}))


def difference(painted: torch.Tensor, expected: torch.Tensor) -> float:
    return ((painted - expected).abs().max() / expected.abs().max()).item()


main()
