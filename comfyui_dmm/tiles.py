"""Pictures larger than the UNet knows, painted in overlapping tiles at every step.

Tiles are laid where the host evaluates its conditionings, so whatever belongs to a place is cropped
along: masks, areas, our regions, the inpainting image and the hints of ControlNets.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import comfy.conds
import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrapperExecutor, WrappersMP
from comfy.utils import common_upscale
from torch import Tensor

from dmm.errors import DmmError
from dmm.tiles import Tile, Tiling

KEY = "dmm_tiles"

Cond = dict[str, Any]


def in_tiles(model: ModelPatcher, tiling: Tiling) -> ModelPatcher:
    """A clone of the MODEL that paints in tiles, instead of those it had."""
    wrappers = _TileWrappers(tiling)
    clone = model.clone()
    for kind, wrapper in (
        (WrappersMP.OUTER_SAMPLE, wrappers.outer_sample),
        (WrappersMP.CALC_COND_BATCH, wrappers.calc_cond_batch),
    ):
        clone.remove_wrappers_with_key(kind, KEY)
        clone.add_wrapper_with_key(kind, KEY, wrapper)
    return clone


class _TileWrappers:
    """The wrappers of one MODEL, and the ControlNets cropped for a sampling run."""

    def __init__(self, tiling: Tiling) -> None:
        self.tiling = tiling
        self._controls: dict[tuple[Any, Tile], Any] = {}

    def outer_sample(self, executor: WrapperExecutor, *args: Any, **kwargs: Any) -> Tensor:
        """Around a sampling run: forgets its ControlNets at the end."""
        try:
            return executor(*args, **kwargs)
        finally:
            self._controls.clear()

    def calc_cond_batch(
        self,
        executor: WrapperExecutor,
        model: Any,
        conds: list[list[Cond] | None],
        x_in: Tensor,
        timestep: Tensor,
        model_options: dict,
    ) -> list[Tensor]:
        """Around a step: paints tile by tile."""
        groups = [group and list(_without_areas(group, x_in, timestep)) for group in conds]
        sums = [torch.zeros_like(x_in) for _ in groups]
        weight_sum = torch.zeros_like(x_in[:1, :1])
        tiles = self.tiling.tiles(*x_in.shape[-2:])
        weights = self.tiling.weights(tiles[0], x_in.device).to(x_in.dtype)[None, None]
        for tile in tiles:
            cropped = [group and list(self._crop(group, tile)) for group in groups]
            parts = executor(model, cropped, tile.crop(x_in), timestep, model_options)
            for picture, part in zip((weight_sum, *sums), (1, *parts), strict=True):
                tile.add(picture, weights * part)
        return [picture / weight_sum for picture in sums]

    def _crop(self, group: list[Cond], tile: Tile) -> Iterator[Cond]:
        """The conditionings that have a say in a tile, cropped to it."""
        for cond in group:
            cropped = {**cond, "model_conds": _crop_model_conds(cond["model_conds"], tile)}
            if "mask" in cond:
                cropped["mask"] = tile.crop(cond["mask"])
                if not cropped["mask"].any():
                    continue
            if "control" in cond:
                cropped["control"] = self._crop_control(cond["control"], tile)
            yield cropped

    def _crop_control(self, control: Any, tile: Tile) -> Any:
        """A ControlNet that sees its hint's part, the same object at every step of the run."""
        if (control, tile) not in self._controls:
            cropped = copy.copy(control)
            cropped.cond_hint = cropped.extra_concat = None
            cropped.cond_hint_original = _crop_hint(control.cond_hint_original, control, tile)
            cropped.extra_concat_orig = [
                _crop_hint(extra, control, tile) for extra in control.extra_concat_orig
            ]
            if control.previous_controlnet is not None:
                cropped.previous_controlnet = self._crop_control(control.previous_controlnet, tile)
            self._controls[control, tile] = cropped
        return self._controls[control, tile]


def _without_areas(group: list[Cond], x_in: Tensor, timestep: Tensor) -> Iterator[Cond]:
    """Conditionings whose areas have become masks, with the host's own soft edges."""
    for cond in group:
        if "gligen" in cond:
            raise DmmError(
                "GLIGEN places its boxes in the whole picture, which does not go with DMM Mixture "
                "of Diffusers. Remove one of them."
            )
        if "area" not in cond:
            yield cond
        elif (placed := comfy.samplers.get_area_and_mult(cond, x_in, timestep)) is not None:
            high, wide, top, left = placed.area
            mask = torch.zeros_like(x_in[:, 0])
            mask[:, top : top + high, left : left + wide] = placed.mult[:, 0]
            replaced = ("area", "mask", "mask_strength", "strength")
            kept = {name: value for name, value in cond.items() if name not in replaced}
            yield {**kept, "mask": mask}


def _crop_model_conds(conds: dict[str, Any], tile: Tile) -> dict[str, Any]:
    return {
        name: value._copy_with(tile.crop(value.cond))
        if isinstance(value, comfy.conds.CONDNoiseShape)
        else value
        for name, value in conds.items()
    }


def _crop_hint(hint: Tensor, control: Any, tile: Tile) -> Tensor:
    scale = control.compression_ratio
    if control.vae is not None:
        scale *= control.vae.spacial_compression_encode()
    size = (tile.picture_width * scale, tile.picture_height * scale)
    return tile.crop(common_upscale(hint, *size, control.upscale_algorithm, "center"))
