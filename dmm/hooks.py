"""The forward hooks that inject a style, whatever a UNet calls its parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dmm.regions import HeightWidth, Regions, repeat, resize


@contextmanager
def attached(hooks: Iterable[RemovableHandle]) -> Iterator[None]:
    """Hooks are registered as the block is entered, one by one, and removed as it is left."""
    with ExitStack() as stack:
        for handle in hooks:
            stack.callback(handle.remove)
        yield


def style_adder(regions: Regions) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    """A hook that adds styles to an embedding [B, d].

    It becomes [R, B, d], an embedding a region, where the picture is divided; whatever the UNet
    adds to it thereafter goes to all of them.
    """

    def add(_module: nn.Module, _inputs: Any, embedding: Tensor) -> Tensor:
        vectors = repeat(regions.vectors, len(embedding)).to(embedding)
        return embedding + (vectors[:, 0] if regions.masks is None else vectors.transpose(0, 1))

    return add


class Blend:
    """Blends biases of several regions into one for every place of a block's features.

    Args:
        masks: [B, R, H, W], summing to 1 over R, of any size.
    """

    def __init__(self, masks: Tensor) -> None:
        self.masks = masks
        self._sized: dict[HeightWidth, Tensor] = {}

    def __call__(self, biases: Tensor, size: HeightWidth) -> Tensor:
        """Biases [R, B, C] to [B, C, *size]."""
        shares = repeat(self._at(size, biases), biases.shape[1]).flatten(2)
        blended: Tensor = biases.permute(1, 2, 0) @ shares
        return blended.reshape(*blended.shape[:2], *size)

    def _at(self, size: HeightWidth, biases: Tensor) -> Tensor:
        """The masks at a size, in the dtype and on the device of the biases; made once."""
        masks = self._sized.get(size)
        if masks is None or masks.dtype != biases.dtype or masks.device != biases.device:
            masks = self._sized[size] = resize(self.masks.to(biases), size)
        return masks
