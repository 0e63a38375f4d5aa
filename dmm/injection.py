"""Injection: style vectors added to a diffusers UNet's timestep embedding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


def style_site(unet: nn.Module) -> nn.Module:
    """The module whose output the style vector is added to, in the authors' order of additions.

    SD1.5 computes ``time_embedding(t) + V``; SDXL ``time_embedding(t) + (add_embedding(text, size)
    + V)``, so the sum there begins at `add_embedding`.
    """
    has_text_time = unet.config.addition_embed_type == "text_time"
    return unet.add_embedding if has_text_time else unet.time_embedding


@contextmanager
def styled(unet: nn.Module, vectors: Tensor | None) -> Iterator[nn.Module]:
    """Within the block, `unet` paints in the given style; afterwards it is as it was.

    Args:
        unet: a diffusers `UNet2DConditionModel`.
        vectors: V(w), [d] for the whole batch or [B, d] for a style a sample (with classifier-free
            guidance B counts both halves: the style is added to both passes). None adds nothing,
            which is the average of the styles (rebuttal Q.21).
    """
    if vectors is None:
        yield unet
        return

    def add_vectors(_module: nn.Module, _inputs: tuple, embedding: Tensor) -> Tensor:
        return embedding + vectors.to(embedding)

    handle = style_site(unet).register_forward_hook(add_vectors)
    try:
        yield unet
    finally:
        handle.remove()
