"""Regions: several styles side by side in one picture."""

from __future__ import annotations

from dataclasses import replace

from comfy_api.latest import io
from torch import Tensor

from comfyui_dmm.combos import choose, is_option
from comfyui_dmm.sockets import ChosenStyle, DmmRegions, DmmStyle, Region, combined
from dmm.regions import feather as soft
from dmm.schedules import Regional
from dmm.words import MAX_FEATHER, ONE_PASS, SEPARATE

METHODS = {ONE_PASS: False, SEPARATE: True}
"""Whether regions are painted from latents of their own."""


class AddRegion(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DMM_Region",
            display_name="DMM Region",
            category="DMM",
            description="A mask and the style that holds there. Chain one for each region.",
            inputs=[
                io.Mask.Input(
                    "mask",
                    tooltip="Where the style holds, painted at the shape of the picture. One for "
                    "all pictures of a batch, or one for each.",
                ),
                DmmStyle.Input("style", tooltip="From any of the DMM style nodes."),
                io.Int.Input(
                    "feather",
                    default=0,
                    min=0,
                    max=MAX_FEATHER,
                    tooltip="Softens the mask's edge by so many of its pixels, on either side.",
                ),
                DmmRegions.Input("regions", optional=True, tooltip="The regions so far."),
            ],
            outputs=[DmmRegions.Output(display_name="regions", tooltip="With this one added.")],
        )

    @classmethod
    def execute(
        cls, mask: Tensor, style: ChosenStyle, feather: int, regions: tuple[Region, ...] = ()
    ) -> io.NodeOutput:
        return io.NodeOutput((*regions, Region(soft(mask, feather), style)))


class RegionalStyles(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DMM_RegionalStyles",
            display_name="DMM Regional Styles",
            category="DMM",
            description="Paints every region of a picture in its own style.",
            inputs=[
                DmmRegions.Input(
                    "regions", tooltip="A chain of DMM Region. Where they overlap they share."
                ),
                DmmStyle.Input(
                    "base_style",
                    optional=True,
                    tooltip="The style of what no region covers. Not connected: no style.",
                ),
                io.Combo.Input(
                    "method",
                    options=list(METHODS),
                    default="one pass",
                    tooltip=(
                        "One pass: regions see one another, and cost next to nothing. Per-region "
                        "latents: strictly apart, at the cost of one pass a region."
                    ),
                ),
            ],
            outputs=[DmmStyle.Output(display_name="style", tooltip="The styles, to be applied.")],
        )

    @classmethod
    def validate_inputs(cls, method: str | None) -> bool | str:
        return is_option(METHODS, method, "method")

    @classmethod
    def execute(
        cls, regions: tuple[Region, ...], method: str, base_style: ChosenStyle | None = None
    ) -> io.NodeOutput:
        base = base_style or regions[0].style.without()
        styles = [region.style for region in regions]
        masks = [region.mask for region in regions]
        plan = Regional(masks, [style.plan for style in styles], base.plan)
        style = combined([base, *styles], plan)
        return io.NodeOutput(replace(style, separate=choose(METHODS, method, "method")))


NODES = [AddRegion, RegionalStyles]
