"""The block outputs that feature imitation compares."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from dmm.hooks import attached


def feature_blocks(unet: UNet2DConditionModel) -> list[nn.Module]:
    """All down, mid and up blocks, in the order they run (some pruned UNets have no mid block)."""
    mid = [unet.mid_block] if unet.mid_block is not None else []
    return [*unet.down_blocks, *mid, *unet.up_blocks]


@contextmanager
def captured_features(unet: UNet2DConditionModel, wanted: bool = True) -> Iterator[list[Tensor]]:
    """Within the block, each forward of `unet` fills the list with its blocks' outputs.

    Args:
        wanted: False leaves the list empty, at no cost.
    """
    features: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: tuple, output: Tensor | tuple) -> None:
        # A down block gives (hidden states, residuals for the skip connections).
        features.append(output[0] if isinstance(output, tuple) else output)

    blocks = feature_blocks(unet) if wanted else []
    with attached(block.register_forward_hook(keep) for block in blocks):
        yield features
