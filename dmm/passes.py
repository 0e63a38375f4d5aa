"""Passes: regions painted on their own, and laid side by side as they come out of the UNet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dmm.regions import Regions, repeat, resize, spatial


def a_pass_for_each(
    unet: nn.Module, site: nn.Module, regions: Regions
) -> Iterator[RemovableHandle]:
    """Hooks that run a UNet once a region, and blend its predictions by the masks.

    Within a pass all of the picture is in that region's style, so regions see one another only
    through the latents, from step to step: MultiDiffusion (arXiv 2302.08113, eq. 5) with a style
    instead of a prompt for each mask.

    Args:
        unet: gives out a tensor [B, C, h, w].
        site: the module whose output the style vector is added to.
        regions: with masks.
    """
    masks = regions.masks
    assert masks is not None
    current = 0
    inputs_of_others: list[tuple[Any, Any]] = []

    def add_style(_module: nn.Module, _inputs: tuple[Any, ...], embedding: Tensor) -> Tensor:
        vectors = regions.vectors[:, current].to(embedding)
        return embedding + repeat(vectors, len(embedding))

    def keep_inputs(_unet: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        others = range(1, regions.vectors.shape[1])
        inputs_of_others[:] = [(_copied(inputs), _copied(named)) for _ in others]

    def blend(unet: nn.Module, _inputs: Any, _named: Any, prediction: Tensor) -> Tensor:
        nonlocal current
        shares = resize(masks.to(prediction), spatial(prediction))
        shares = repeat(shares, len(prediction))
        blended = shares[:, :1] * prediction
        try:
            for inputs, named in inputs_of_others:
                current += 1
                blended += shares[:, current, None] * unet.forward(*inputs, **named)
        finally:
            current = 0
        return blended

    yield site.register_forward_hook(add_style)
    yield unet.register_forward_pre_hook(keep_inputs, with_kwargs=True)
    yield unet.register_forward_hook(blend, with_kwargs=True)


def _copied(inputs: Any) -> Any:
    """The same tensors in containers of their own: Forge's UNet empties the lists it is given."""
    if isinstance(inputs, dict):
        return {name: _copied(value) for name, value in inputs.items()}
    if isinstance(inputs, list | tuple):
        return type(inputs)(map(_copied, inputs))
    return inputs
