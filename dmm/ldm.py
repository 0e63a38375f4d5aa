"""Injection into the UNets of the LDM family: ComfyUI's, the WebUI's (LDM and sgm), Forge's.

They share the names of their parts: `time_embed`, SDXL's `label_emb`, and ResBlocks whose
`emb_layers` turn the embedding into a bias for each channel. That bias is [B, C] as a rule, and is
accepted as [B, C, h, w] too, which is what lets every place of a picture have its own style in one
pass: attention still sees the whole picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dmm.errors import DmmError
from dmm.hooks import Blend, attached, style_adder
from dmm.metadata import Family
from dmm.passes import a_pass_for_each
from dmm.regions import HeightWidth, Regions, spatial

# The width of the text embedding tells the models of the family apart.
_MODELS = {768: "SD 1.5", 1024: "SD 2", 1280: "the SDXL refiner", 2048: "SDXL"}
_TEXT_WIDTHS: dict[Family, int] = {"sd1": 768, "sdxl": 2048}


def check_fits(unet: Any, family: Family, dim: int) -> None:
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
        raise DmmError(
            f"{wanted}{_MODELS.get(text_width or 0, 'another')} (width {width}){way_out}"
        )


def style_site(unet: Any) -> Any:
    """The module whose output the style vector is added to, in the authors' order of additions."""
    is_sdxl = getattr(unet, "label_emb", None) is not None
    return unet.label_emb if is_sdxl else unet.time_embed


def res_blocks(unet: Any) -> Iterator[Any]:
    """The blocks through which the time embedding enters the UNet."""
    middle = unet.middle_block  # None in SDXL models that were pruned of it
    for stage in (*unet.input_blocks, *([] if middle is None else [middle]), *unet.output_blocks):
        for layer in stage:
            if getattr(layer, "emb_layers", None) is not None:
                yield layer


@contextmanager
def styled(unet: Any, regions: Regions | None, *, separate: bool = False) -> Iterator[Any]:
    """Within the block, `unet` paints in the given styles; afterwards it is as it was.

    Args:
        unet: the host's diffusion model.
        regions: the styles, on any device and in any dtype. Where they tell B pictures apart,
            sample i of the UNet's batch is painted as picture i mod B, so both halves of a batch
            for classifier-free guidance are styled. None adds nothing.
        separate: paint each region in a pass of its own (see `dmm.passes`), at the cost of that.
    """
    with attached(_hooks(unet, regions, separate)):
        yield unet


def _hooks(unet: Any, regions: Regions | None, separate: bool) -> Iterator[RemovableHandle]:
    if regions is None:
        return
    if separate and regions.masks is not None:
        yield from a_pass_for_each(unet, style_site(unet), regions)
        return
    yield style_site(unet).register_forward_hook(style_adder(regions))
    if regions.masks is not None:
        blend = Blend(regions.masks)
        for block in res_blocks(unet):
            yield from _blended(block, blend)


def _blended(block: Any, blend: Blend) -> Iterator[RemovableHandle]:
    """Lets a ResBlock blend the biases [R, B, C] that it makes of embeddings [R, B, d]."""
    size: HeightWidth = (0, 0)

    def note_size(_module: nn.Module, _inputs: Any, features: Tensor) -> None:
        nonlocal size
        size = spatial(features)

    def blend_biases(_module: nn.Module, _inputs: Any, biases: Tensor) -> Tensor:
        return blend(biases, size)

    yield block.in_layers[-1].register_forward_hook(note_size)
    yield block.emb_layers.register_forward_hook(blend_biases)
