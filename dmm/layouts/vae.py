"""Names of the VAE: LDM <-> diffusers, and diffusers of old.

The attention's linear layers are 1x1 convolutions in the single file: [C, C] and [C, C, 1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor

from dmm.layouts.renaming import Source, Table, count, inverse, rename

SIDES = ("encoder", "decoder")
ENDS = {
    "encoder.conv_in": "encoder.conv_in",
    "encoder.norm_out": "encoder.conv_norm_out",
    "encoder.conv_out": "encoder.conv_out",
    "decoder.conv_in": "decoder.conv_in",
    "decoder.norm_out": "decoder.conv_norm_out",
    "decoder.conv_out": "decoder.conv_out",
    "quant_conv": "quant_conv",
    "post_quant_conv": "post_quant_conv",
}
ATTENTION = {
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
}
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""diffusers' own names of these layers before version 0.15; folders of that age are still about."""


def vae_to_diffusers(keys: Iterable[str]) -> dict[str, Source]:
    """diffusers name -> `Source` in the single file (without prefix)."""
    keys = list(keys)
    table = _table(
        levels=count(keys, r"decoder\.up\.(\d+)\."),
        resnets=count(keys, r"(?:encoder\.down|decoder\.up)\.\d+\.block\.(\d+)\."),
    )
    return _change_attention(rename(keys, table), ATTENTION.values(), _to_linear)


def vae_to_ldm(keys: Iterable[str]) -> dict[str, Source]:
    """Name in the single file (without prefix) -> `Source` in diffusers."""
    keys = list(keys)
    table = _table(
        levels=count(keys, r"decoder\.up_blocks\.(\d+)\."),
        resnets=count(keys, r"(?:encoder\.down|decoder\.up)_blocks\.\d+\.resnets\.(\d+)\."),
    )
    return _change_attention(rename(keys, inverse(table)), ATTENTION, _to_convolution)


def vae_to_today(keys: Iterable[str]) -> dict[str, Source]:
    """Today's diffusers name -> `Source` in a diffusers folder of any age."""
    keys = list(keys)
    table = {side: side for side in (*SIDES, "quant_conv", "post_quant_conv")} | {
        f"{side}.mid_block.attentions.0.{old}": f"{side}.mid_block.attentions.0.{new}"
        for side in SIDES
        for old, new in OLD_ATTENTION.items()
    }
    return _change_attention(rename(keys, table), ATTENTION.values(), _to_linear)


def _table(levels: int, resnets: int) -> Table:
    """Every module of a VAE. The single file numbers the decoder's levels from the picture on."""
    table = dict(ENDS)
    for level in range(levels):
        up = levels - 1 - level
        table[f"encoder.down.{level}.downsample"] = f"encoder.down_blocks.{level}.downsamplers.0"
        table[f"decoder.up.{up}.upsample"] = f"decoder.up_blocks.{level}.upsamplers.0"
        for index in range(resnets):
            table |= _resnet(
                f"encoder.down.{level}.block.{index}",
                f"encoder.down_blocks.{level}.resnets.{index}",
            )
            table |= _resnet(
                f"decoder.up.{up}.block.{index}",
                f"decoder.up_blocks.{level}.resnets.{index}",
            )
    for side in SIDES:
        table |= _resnet(f"{side}.mid.block_1", f"{side}.mid_block.resnets.0")
        table |= _resnet(f"{side}.mid.block_2", f"{side}.mid_block.resnets.1")
        for single, diffusers in ATTENTION.items():
            table[f"{side}.mid.attn_1.{single}"] = f"{side}.mid_block.attentions.0.{diffusers}"
    return table


def _resnet(single: str, diffusers: str) -> Table:
    return {single: diffusers, f"{single}.nin_shortcut": f"{diffusers}.conv_shortcut"}


def _change_attention(
    sources: dict[str, Source], layers: Iterable[str], change: Callable[[Tensor], Tensor]
) -> dict[str, Source]:
    """Change the attention's weights on the way; norms are vectors and pass as they are."""
    ends = tuple(f".{layer}.weight" for layer in layers)
    return {
        key: Source(source.keys, change) if ".mid" in key and key.endswith(ends) else source
        for key, source in sources.items()
    }


def _to_linear(weight: Tensor) -> Tensor:
    return weight.flatten(1) if weight.ndim > 2 else weight


def _to_convolution(weight: Tensor) -> Tensor:
    return weight[:, :, None, None] if weight.ndim == 2 else weight
