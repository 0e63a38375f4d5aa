"""Names of the UNet: LDM / sgm <-> diffusers. Shapes are the same in both."""

from __future__ import annotations

from collections.abc import Iterable

from dmm.layouts.renaming import Source, Table, count, inverse, rename
from dmm.style_prompts import mlp_name, style_tensor_names

ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "middle_block.1": "mid_block.attentions.0",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}


def style_keys(keys: Iterable[str]) -> set[str]:
    """The style tensors among a UNet's names (without prefix), in either layout."""
    keys = set(keys)
    if "model_embedding.weight" not in keys:
        return set()
    return keys & set(style_tensor_names(mlp_name(keys)))


def unet_to_diffusers(keys: Iterable[str]) -> dict[str, Source]:
    """diffusers name -> `Source` in the single file (without prefix). No style tensors."""
    keys = set(keys)
    keys -= style_keys(keys)
    down, up = [0], [(0, False)]
    for block in range(1, count(keys, r"input_blocks\.(\d+)\.")):
        if f"input_blocks.{block}.0.op.weight" in keys:
            down.append(0)
        else:
            down[-1] += 1
    for block in range(count(keys, r"output_blocks\.(\d+)\.")):
        resnets = up[-1][0] + 1
        behind_attention = f"output_blocks.{block}.2.conv.weight" in keys
        up[-1] = resnets, behind_attention
        if behind_attention or f"output_blocks.{block}.1.conv.weight" in keys:
            up.append((0, False))
    return rename(sorted(keys), _table(down, up))


def unet_to_ldm(keys: Iterable[str]) -> dict[str, Source]:
    """Name in the single file (without prefix) -> `Source` in diffusers. No style tensors."""
    keys = set(keys)
    keys -= style_keys(keys)
    down = [
        count(keys, rf"down_blocks\.{level}\.resnets\.(\d+)\.")
        for level in range(count(keys, r"down_blocks\.(\d+)\."))
    ]
    up = [
        (
            count(keys, rf"up_blocks\.{level}\.resnets\.(\d+)\."),
            any(key.startswith(f"up_blocks.{level}.attentions.") for key in keys),
        )
        for level in range(count(keys, r"up_blocks\.(\d+)\."))
    ]
    return rename(sorted(keys), inverse(_table(down, up)))


def _table(down: list[int], up: list[tuple[int, bool]]) -> Table:
    """Every module of a UNet.

    The single file numbers its blocks through all levels. A downsampler is a block of its own; an
    upsampler is a layer of its level's last block, behind the attention where there is one.

    Args:
        down: resnets a level.
        up: resnets a level, and whether the level's upsampler comes behind an attention.
    """
    table = dict(ENDS)
    block = 0
    for level, resnets in enumerate(down):
        for index in range(resnets):
            block += 1
            table |= _resnet(f"input_blocks.{block}.0", f"down_blocks.{level}.resnets.{index}")
            table[f"input_blocks.{block}.1"] = f"down_blocks.{level}.attentions.{index}"
        block += 1
        table[f"input_blocks.{block}.0.op"] = f"down_blocks.{level}.downsamplers.0.conv"
    table |= _resnet("middle_block.0", "mid_block.resnets.0")
    table |= _resnet("middle_block.2", "mid_block.resnets.1")
    block = -1
    for level, (resnets, behind_attention) in enumerate(up):
        for index in range(resnets):
            block += 1
            table |= _resnet(f"output_blocks.{block}.0", f"up_blocks.{level}.resnets.{index}")
            table[f"output_blocks.{block}.1"] = f"up_blocks.{level}.attentions.{index}"
        layer = 2 if behind_attention else 1
        table[f"output_blocks.{block}.{layer}.conv"] = f"up_blocks.{level}.upsamplers.0.conv"
    return table


def _resnet(single: str, diffusers: str) -> Table:
    return {f"{single}.{a}": f"{diffusers}.{b}" for a, b in RESNET.items()}
