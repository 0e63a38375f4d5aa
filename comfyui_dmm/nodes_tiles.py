"""Large pictures and panoramas, in tiles."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from comfyui_dmm.combos import choose, is_option
from comfyui_dmm.sampling import PIXELS
from comfyui_dmm.tiles import in_tiles
from dmm.errors import DmmError
from dmm.tiles import Tiling

WEIGHTS = {"gaussian": True, "uniform": False}
"""Whether a tile counts most in its middle."""


def pixels(name: str, default: int, low: int, tooltip: str) -> io.Input:
    return io.Int.Input(name, default=default, min=low, max=8192, step=PIXELS, tooltip=tooltip)


class MixtureOfDiffusers(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DMM_MixtureOfDiffusers",
            display_name="DMM Mixture of Diffusers",
            category="DMM",
            description=(
                "Paints pictures larger than the model knows in overlapping tiles. Regions, masks "
                "and ControlNets are followed from tile to tile."
            ),
            inputs=[
                io.Model.Input("model", tooltip="The model, before or after Apply DMM Style."),
                pixels("tile_width", 512, 64, "In pixels: 512 suits SD 1.5, 1024 SDXL."),
                pixels("tile_height", 512, 64, "In pixels: 512 suits SD 1.5, 1024 SDXL."),
                pixels("overlap", 128, 0, "Of neighbouring tiles, in pixels, at least."),
                io.Combo.Input(
                    "weights",
                    options=list(WEIGHTS),
                    default="gaussian",
                    tooltip=(
                        "Gaussian: Mixture of Diffusers, each tile counts most in its middle. "
                        "Uniform: MultiDiffusion, tiles are averaged."
                    ),
                ),
                io.Boolean.Input(
                    "wrap",
                    default=False,
                    tooltip="A panorama: the left and the right edge meet.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model, painting in tiles.")],
        )

    @classmethod
    def validate_inputs(cls, weights: str | None) -> bool | str:
        return is_option(WEIGHTS, weights, "weights")

    @classmethod
    def execute(
        cls,
        model: Any,
        tile_width: int,
        tile_height: int,
        overlap: int,
        weights: str,
        wrap: bool,
    ) -> io.NodeOutput:
        if overlap >= min(tile_width, tile_height):
            raise DmmError(
                f"An overlap of {overlap} pixels is as large as a tile, {tile_width}×{tile_height}."
                " Make the overlap smaller, a quarter of the tile for instance."
            )
        sizes = (tile_height // PIXELS, tile_width // PIXELS, overlap // PIXELS)
        tiling = Tiling(*sizes, gaussian=choose(WEIGHTS, weights, "weights"), wrap=wrap)
        return io.NodeOutput(in_tiles(model, tiling))


NODES = [MixtureOfDiffusers]
