"""Injection: styles added to a diffusers UNet's timestep embedding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dmm.hooks import Blend, attached, style_adder
from dmm.regions import Regions, spatial


def style_site(unet: Any) -> Any:
    """The module whose output the style vector is added to, in the authors' order of additions.

    SD1.5 computes ``time_embedding(t) + V``; SDXL ``time_embedding(t) + (add_embedding(text, size)
    + V)``, so the sum there begins at `add_embedding`.
    """
    has_text_time = unet.config.addition_embed_type == "text_time"
    return unet.add_embedding if has_text_time else unet.time_embedding


@contextmanager
def styled(unet: Any, style: Tensor | Regions | None) -> Iterator[Any]:
    """Within the block, `unet` paints in the given style; afterwards it is as it was.

    Args:
        unet: a diffusers `UNet2DConditionModel`.
        style: V(w), [d] for the whole batch, [B, d] for a style a picture, or regions. Sample i of
            the UNet's batch is painted as picture i mod B, so both halves of a batch with
            classifier-free guidance have their styles. None adds nothing, which is the average of
            the styles (rebuttal Q.21).
    """
    if isinstance(style, Tensor):
        style = Regions(style.reshape(-1, 1, style.shape[-1]))
    with attached(_hooks(unet, style)):
        yield unet


def _hooks(unet: Any, regions: Regions | None) -> Iterator[RemovableHandle]:
    if regions is None:
        return
    yield style_site(unet).register_forward_hook(style_adder(regions))
    if regions.masks is not None:
        blend = Blend(regions.masks)
        for block in unet.modules():
            if hasattr(block, "time_emb_proj"):
                yield from _blended(block, blend)


def _blended(block: Any, blend: Blend) -> Iterator[RemovableHandle]:
    """Lets a ResnetBlock2D take embeddings [R, B, d].

    It has no room for a bias with height and width. So it goes on with the first region's, and the
    difference to the blend of all is added to the features just before, which `conv1` gives out.
    """
    biases: Tensor

    def take_first(_module: nn.Module, inputs: Any) -> Any:
        nonlocal biases
        features, embeddings, *others = inputs
        biases = block.time_emb_proj(block.nonlinearity(embeddings))
        return (features, embeddings[0], *others)

    def add_difference(_module: nn.Module, _inputs: Any, features: Tensor) -> Tensor:
        blended = blend(biases, spatial(features))
        return features + (blended - biases[0][:, :, None, None])

    yield block.register_forward_pre_hook(take_first)
    yield block.conv1.register_forward_hook(add_difference)
