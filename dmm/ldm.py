"""Injection into the UNets of the LDM family: ComfyUI's, the WebUI's (LDM and sgm), Forge's.

They share the names of their parts: `time_embed`, SDXL's `label_emb`, and ResBlocks whose
`emb_layers` turn the embedding into a bias for each channel. That bias is [B, C] as a rule, and is
accepted as [B, C, h, w] too, which is what lets every place of a picture have its own style in one
pass: attention still sees the whole picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dmm.errors import DmmError
from dmm.metadata import Family
from dmm.regions import Regions, Size, repeat, resize

# The width of the text embedding tells the models of the family apart.
_MODELS = {768: "SD 1.5", 1024: "SD 2", 1280: "the SDXL refiner", 2048: "SDXL"}
_TEXT_WIDTHS: dict[Family, int] = {"sd1": 768, "sdxl": 2048}


def check_fits(unet: nn.Module, family: Family, dim: int) -> None:
    """Raises DmmError where a style of that family and width cannot be injected into `unet`.

    Args:
        unet: the host's diffusion model, of whatever kind.
        family: of the file the style is from.
        dim: d, the width of the style vectors.
    """
    wanted = f"The style is for {_MODELS[_TEXT_WIDTHS[family]]} (width {dim}), but the model is "
    way_out = ". Choose the merged checkpoint that the style is from."
    if not hasattr(unet, "time_embed") or not hasattr(unet, "input_blocks"):
        raise DmmError(f"{wanted}a {type(unet).__name__}{way_out}")
    modules = unet.named_modules()
    text_width = next((m.in_features for name, m in modules if name.endswith("attn2.to_k")), None)
    width = unet.time_embed[-1].out_features
    if text_width != _TEXT_WIDTHS[family] or width != dim:
        raise DmmError(f"{wanted}{_MODELS.get(text_width, 'another')} (width {width}){way_out}")


def style_site(unet: nn.Module) -> nn.Module:
    """The module whose output the style vector is added to, in the authors' order of additions."""
    is_sdxl = getattr(unet, "label_emb", None) is not None
    return unet.label_emb if is_sdxl else unet.time_embed


def res_blocks(unet: nn.Module) -> Iterator[nn.Module]:
    """The blocks through which the time embedding enters the UNet."""
    middle = unet.middle_block  # None in SDXL models that were pruned of it
    for stage in (*unet.input_blocks, *([] if middle is None else [middle]), *unet.output_blocks):
        for layer in stage:
            if getattr(layer, "emb_layers", None) is not None:
                yield layer


@contextmanager
def styled(unet: nn.Module, regions: Regions | None) -> Iterator[nn.Module]:
    """Within the block, `unet` paints in the given styles; afterwards it is as it was.

    Args:
        unet: the host's diffusion model.
        regions: the styles, on any device and in any dtype. Where they tell B pictures apart,
            sample i of the UNet's batch is painted as picture i mod B, so both halves of a batch
            for classifier-free guidance are styled. None adds nothing.
    """
    with ExitStack() as hooks:
        if regions is not None:
            for handle in _hooks(unet, regions):
                hooks.callback(handle.remove)
        yield unet


def _hooks(unet: nn.Module, regions: Regions) -> Iterator[RemovableHandle]:
    masks = None if regions.masks is None else _SizedMasks(regions.masks)

    def add_style(_module: nn.Module, _inputs: tuple, embedding: Tensor) -> Tensor:
        vectors = repeat(regions.vectors, len(embedding)).to(embedding)
        return embedding + (vectors[:, 0] if masks is None else vectors.transpose(0, 1))

    yield style_site(unet).register_forward_hook(add_style)
    if masks is not None:
        for block in res_blocks(unet):
            yield from _blend(block, masks)


def _blend(block: nn.Module, masks: _SizedMasks) -> Iterator[RemovableHandle]:
    """Lets a ResBlock blend the R biases that it makes of embeddings [R, B, d]."""
    size = (0, 0)

    def note_size(_module: nn.Module, _inputs: tuple, features: Tensor) -> None:
        nonlocal size
        size = tuple(features.shape[-2:])

    def blend(_module: nn.Module, _inputs: tuple, biases: Tensor) -> Tensor:
        shares = repeat(masks.at(size, biases), biases.shape[1]).flatten(2)
        return (biases.permute(1, 2, 0) @ shares).unflatten(2, size)

    yield block.in_layers[-1].register_forward_hook(note_size)
    yield block.emb_layers.register_forward_hook(blend)


class _SizedMasks:
    """Masks at every size the UNet's blocks ask for, each made once."""

    def __init__(self, masks: Tensor) -> None:
        self.masks = masks
        self.sized: dict[Size, Tensor] = {}

    def at(self, size: Size, biases: Tensor) -> Tensor:
        """Masks [B, R, *size] in the dtype and on the device of a block's biases."""
        masks = self.sized.get(size)
        if masks is None or masks.dtype != biases.dtype or masks.device != biases.device:
            masks = self.sized[size] = resize(self.masks.to(biases), size)
        return masks
