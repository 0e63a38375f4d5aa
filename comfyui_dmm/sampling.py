"""Styles while ComfyUI samples: wrappers on a clone of the MODEL, nothing on the model itself.

At each step every conditioning gets the style vectors (and masks) of that moment as tensors of the
same shapes, so that the host goes on running positive and negative in one batch. They come back
out of the batch around the UNet, where they are injected for that call alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache, partial
from typing import Any

import comfy.conds
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrapperExecutor, WrappersMP
from torch import Tensor

from comfyui_dmm.sockets import ChosenStyle
from dmm.errors import DmmError
from dmm.ldm import check_fits, styled
from dmm.regions import Regions, aligned, resize

KEY = "dmm"
VECTORS, MASKS = "dmm_vectors", "dmm_masks"
STYLE = "dmm_style"

# Masks travel at twice the latents' size: packs that sample in tiles crop what has the latents'
# number of dimensions by the ratio of the sizes, and stumble over a ratio of 1.
MASK_SCALE = 2
PIXELS = 8  # a latent's

Cond = dict[str, Any]
StyledCond = tuple[Cond, Regions | None]


def with_style(model: ModelPatcher, style: ChosenStyle | None) -> ModelPatcher:
    """A clone of the MODEL that paints in a style, instead of the one it had.

    Args:
        style: None for none but those that conditionings bring along.

    Raises:
        DmmError: the style is not for this model.
    """
    if style is not None:
        check_fits(model.model.diffusion_model, style.family, style.dim)
    wrappers = _StyleWrappers(style)
    clone = model.clone()
    for kind, wrapper in (
        (WrappersMP.OUTER_SAMPLE, wrappers.outer_sample),
        (WrappersMP.CALC_COND_BATCH, wrappers.calc_cond_batch),
        (WrappersMP.DIFFUSION_MODEL, wrappers.diffusion_model),
    ):
        clone.remove_wrappers_with_key(kind, KEY)
        # The first is the outermost: who divides the picture, as our tiles do, divides our masks.
        clone.wrappers[kind] = {KEY: [wrapper], **clone.wrappers.get(kind, {})}
    return clone


def set_style(conditioning: list, style: ChosenStyle) -> list:
    """A copy of a CONDITIONING whose prompts bring their own style along."""
    return [
        [text, {**said, "model_conds": {**said.get("model_conds", {}), STYLE: _StyleCond(style)}}]
        for text, said in conditioning
    ]


class _StyleCond(comfy.conds.CONDRegular):
    """A style that a prompt brings along; it is replaced by its tensors before the host uses it."""

    def process_cond(self, batch_size: int, **kwargs: Any) -> None:
        raise DmmError(
            "A prompt has a DMM style, but the MODEL knows nothing of styles. Load it with Load "
            "DMM Checkpoint, or put Apply DMM Style between its loader and the sampler."
        )


class _MaskCond(comfy.conds.CONDNoiseShape):
    """Masks [B, R, h, w] at `MASK_SCALE` times the latents' size."""

    def process_cond(self, batch_size: int, area: list[int] | None, **kwargs: Any) -> _MaskCond:
        scaled = None if area is None else [MASK_SCALE * number for number in area]
        return super().process_cond(batch_size, scaled, **kwargs)


class _StyleWrappers:
    """The wrappers of one MODEL, and what they remember during a sampling run."""

    def __init__(self, style: ChosenStyle | None) -> None:
        self.style = style
        # No more than live side by side in a step: those that fade are new at each.
        self._fit = lru_cache(maxsize=8)(_fitted)
        # Each answer costs the device twenty halts, and the next picture has the same steps.
        self._progress_at = lru_cache(maxsize=1024)(progress_at)
        self._wanted = self._injected = False

    def outer_sample(self, executor: WrapperExecutor, *args: Any, **kwargs: Any) -> Tensor:
        """Around a sampling run: refuses styles that do not fit, or that were ignored."""
        guider = executor.class_obj
        for cond in (cond for group in guider.conds.values() for cond in group):
            if (style := _carried(cond)) is not None:
                check_fits(guider.model_patcher.model.diffusion_model, style.family, style.dim)
        self._wanted = self._injected = False
        try:
            samples = executor(*args, **kwargs)
        finally:
            self._fit.cache_clear()
        if self._wanted and not self._injected:
            raise DmmError(
                "The DMM style had no effect, because another node on this MODEL goes around its "
                "UNet. Remove that node, or Apply DMM Style."
            )
        return samples

    def calc_cond_batch(
        self,
        executor: WrapperExecutor,
        model: Any,
        conds: list[list[Cond] | None],
        x_in: Tensor,
        timestep: Tensor,
        model_options: dict,
    ) -> list[Tensor]:
        """Around a step: gives every conditioning the styles of that moment."""

        @cache
        def progress() -> float:
            return self._progress_at(model.model_sampling, float(timestep[0]))

        def in_style(cond: Cond) -> Iterator[StyledCond]:
            style = _carried(cond) or self.style
            regions = style and style.plan.at(0 if style.plan.constant else progress())
            if not regions or not regions.has_style:
                yield cond, None
            elif regions.masks is None or not style.separate:
                yield cond, self._fit(regions, x_in.shape, x_in.device)
            else:
                fitted = self._fit(regions, x_in.shape, x_in.device)
                yield from _a_pass_for_each(cond, fitted, x_in)

        groups = [group and [pair for cond in group for pair in in_style(cond)] for group in conds]
        self._wanted |= any(regions for group in groups for _, regions in group or ())
        return executor(model, _as_tensors(groups), x_in, timestep, model_options)

    def diffusion_model(
        self,
        executor: WrapperExecutor,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        y: Tensor | None,
        control: dict | None,
        transformer_options: dict,
        **kwargs: Any,
    ) -> Tensor:
        """Around the UNet: injects the styles of its batch."""
        vectors, masks = kwargs.pop(VECTORS, None), kwargs.pop(MASKS, None)
        if vectors is not None:
            self._injected = True
            if masks is None:
                transformer_options = _with_emb_patch(transformer_options, vectors)
            else:
                executor = partial(_in_regions, executor, Regions(vectors, masks))
        return executor(x, timesteps, context, y, control, transformer_options, **kwargs)


def _fitted(regions: Regions, latents: torch.Size, device: torch.device) -> Regions:
    """Checked against latents [B, 4, h, w], with masks at their travelling size, on a device."""
    batch, _, height, width = latents
    regions.check_batch(batch)
    regions.check_shape(height * PIXELS, width * PIXELS)
    size = (height * MASK_SCALE, width * MASK_SCALE)
    masks = None if regions.masks is None else resize(regions.masks, size).to(device)
    return Regions(regions.vectors.to(device), masks)


def progress_at(model_sampling: Any, sigma: float) -> float:
    """How far the sampling is, from 0 to 1, by the host's measure of start and end percents."""
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        if model_sampling.percent_to_sigma(middle) > sigma:
            low = middle
        else:
            high = middle
    return high


def _carried(cond: Cond) -> ChosenStyle | None:
    """The style that a prompt brings along."""
    carried = cond["model_conds"].get(STYLE)
    return carried and carried.cond


def _a_pass_for_each(cond: Cond, regions: Regions, x_in: Tensor) -> Iterator[StyledCond]:
    """A region a prompt, which the host paints in passes of their own and blends by the masks.

    Args:
        regions: vectors [B, R, d], masks [B, R, H, W].
        x_in: [B, 4, h, w].

    Returns:
        R prompts, whose masks are [B, h, w] and whose vectors [B, 1, d].
    """
    masks = resize(regions.masks, tuple(x_in.shape[-2:]))
    for region in range(masks.shape[1]):
        mask = masks[:, region] * cond["mask"] if "mask" in cond else masks[:, region]
        yield {**cond, "mask": mask}, Regions(regions.vectors[:, region : region + 1])


def _as_tensors(groups: list[list[StyledCond] | None]) -> list[list[Cond] | None]:
    """The conditionings with their styles as tensors of one shape, for the host to batch them."""
    styles = [regions for group in groups for _, regions in group or ()]
    first = next((regions for regions in styles if regions), None)
    if first is None:
        return [group and [_replace_style(cond, {}) for cond, _ in group] for group in groups]
    no_style = Regions(torch.zeros_like(first.vectors[:1, :1]))
    ready = iter(aligned([regions or no_style for regions in styles]))
    return [
        group and [_replace_style(cond, _tensors(next(ready))) for cond, _ in group]
        for group in groups
    ]


def _tensors(regions: Regions) -> dict[str, comfy.conds.CONDRegular]:
    vectors = {VECTORS: comfy.conds.CONDRegular(regions.vectors)}
    return vectors if regions.masks is None else {**vectors, MASKS: _MaskCond(regions.masks)}


def _replace_style(cond: Cond, tensors: dict[str, comfy.conds.CONDRegular]) -> Cond:
    others = {name: value for name, value in cond["model_conds"].items() if name != STYLE}
    return {**cond, "model_conds": {**others, **tensors}}


def _with_emb_patch(transformer_options: dict, vectors: Tensor) -> dict:
    """Adds a whole picture's style to the timestep embedding, where the host has a hook for it."""

    def add_style(emb: Tensor, _model_channels: int, _transformer_options: dict) -> Tensor:
        return emb + vectors[:, 0].to(emb)

    patches = transformer_options.get("patches", {})
    emb_patch = [*patches.get("emb_patch", []), add_style]
    return {**transformer_options, "patches": {**patches, "emb_patch": emb_patch}}


@torch.compiler.disable  # a compiled UNet would not see the hooks
def _in_regions(executor: WrapperExecutor, regions: Regions, *args: Any, **kwargs: Any) -> Tensor:
    with styled(executor.class_obj, regions):
        return executor(*args, **kwargs)
