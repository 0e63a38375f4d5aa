"""Names of the text encoders: CLIP and OpenCLIP in a single file <-> transformers.

CLIP keeps its names. OpenCLIP, SDXL's second encoder, fuses the three projections of an attention
into one tensor and stores the text projection transposed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from dmm.layouts.renaming import Source, Table, count, inverse, rename

POSITIONS = ("positional_embedding", "text_model.embeddings.position_embedding.weight")
PROJECTION = ("text_projection", "text_projection.weight")
ENDS = {
    "token_embedding": "text_model.embeddings.token_embedding",
    "ln_final": "text_model.final_layer_norm",
}
LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
PROJECTIONS = ("q_proj", "k_proj", "v_proj")


def clip(keys: Iterable[str]) -> dict[str, Source]:
    """Name in either layout -> `Source` in the other: the names are the same.

    Some files leave out `text_model.`. The position ids, a mere range that merging tools have
    been known to round, are left out.
    """
    return {
        key if key.startswith("text_") else f"text_model.{key}": Source((key,))
        for key in keys
        if not key.endswith("position_ids")
    }


def open_clip_to_transformers(keys: Iterable[str]) -> dict[str, Source]:
    """transformers name -> `Source` in the single file (without prefix)."""
    keys = set(keys)
    layers = count(keys, r"transformer\.resblocks\.(\d+)\.")
    sources = rename(sorted(keys), _table(layers))
    if POSITIONS[0] in keys:
        sources[POSITIONS[1]] = Source((POSITIONS[0],))
    if PROJECTION[0] in keys:
        sources[PROJECTION[1]] = Source((PROJECTION[0],), _transposed)
    for fused, parts in _attentions(layers):
        if fused in keys:
            sources |= {part: Source((fused,), _third(i)) for i, part in enumerate(parts)}
    return sources


def open_clip_to_single(keys: Iterable[str]) -> dict[str, Source]:
    """Name in the single file (without prefix) -> `Source` in transformers."""
    keys = set(keys)
    layers = count(keys, r"text_model\.encoder\.layers\.(\d+)\.")
    sources = rename(sorted(keys), inverse(_table(layers)))
    if POSITIONS[1] in keys:
        sources[POSITIONS[0]] = Source((POSITIONS[1],))
    if PROJECTION[1] in keys:
        sources[PROJECTION[0]] = Source((PROJECTION[1],), _transposed)
    for fused, parts in _attentions(layers):
        if keys.issuperset(parts):
            sources[fused] = Source(parts, _joined)
    return sources


def _table(layers: int) -> Table:
    return ENDS | {
        f"transformer.resblocks.{layer}.{a}": f"text_model.encoder.layers.{layer}.{b}"
        for layer in range(layers)
        for a, b in LAYER.items()
    }


def _attentions(layers: int) -> Iterable[tuple[str, tuple[str, ...]]]:
    """The fused tensor of every attention, and the three it is made of."""
    for layer in range(layers):
        attention = f"text_model.encoder.layers.{layer}.self_attn"
        for kind in ("weight", "bias"):
            fused = f"transformer.resblocks.{layer}.attn.in_proj_{kind}"
            yield fused, tuple(f"{attention}.{part}.{kind}" for part in PROJECTIONS)


def _transposed(weight: Tensor) -> Tensor:
    return weight.T.contiguous()


def _third(index: int) -> Callable[[Tensor], Tensor]:
    return lambda fused: fused.tensor_split(3)[index]


def _joined(*parts: Tensor) -> Tensor:
    return torch.cat(parts)
