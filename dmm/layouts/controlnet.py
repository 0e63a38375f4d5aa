"""Names of the ControlNet: the single file's (cldm) <-> diffusers. Shapes are the same in both.

It is the first half of a UNet, with an embedding of the condition picture before it and a
convolution that starts at zero behind every block.
"""

from __future__ import annotations

from collections.abc import Iterable

from dmm.layouts.renaming import Source, Table, count, inverse, rename
from dmm.layouts.unet import unet_to_diffusers, unet_to_ldm

ENDS = {"middle_block_out.0": "controlnet_mid_block"}


def controlnet_to_diffusers(keys: Iterable[str]) -> dict[str, Source]:
    """diffusers name -> `Source` in the single file (without prefix). No style tensors."""
    keys = sorted(keys)
    table = _table(
        convolutions=(count(keys, r"input_hint_block\.(\d+)\.") + 1) // 2,
        outputs=count(keys, r"zero_convs\.(\d+)\."),
    )
    return unet_to_diffusers(keys) | rename(keys, table)


def controlnet_to_single(keys: Iterable[str]) -> dict[str, Source]:
    """Name in the single file (without prefix) -> `Source` in diffusers. No style tensors."""
    keys = sorted(keys)
    table = _table(
        convolutions=count(keys, r"controlnet_cond_embedding\.blocks\.(\d+)\.") + 2,
        outputs=count(keys, r"controlnet_down_blocks\.(\d+)\."),
    )
    return unet_to_ldm(keys) | rename(keys, inverse(table))


def _table(convolutions: int, outputs: int) -> Table:
    """What a ControlNet has besides its half of a UNet.

    Args:
        convolutions: in the embedding of the condition picture; in the single file, activations
            between them count too.
        outputs: of the blocks on the way down.
    """
    blocks = (f"blocks.{block}" for block in range(convolutions - 2))
    embedding = ("conv_in", *blocks, "conv_out")
    return (
        ENDS
        | {f"zero_convs.{index}.0": f"controlnet_down_blocks.{index}" for index in range(outputs)}
        | {
            f"input_hint_block.{2 * index}": f"controlnet_cond_embedding.{name}"
            for index, name in enumerate(embedding)
        }
    )
