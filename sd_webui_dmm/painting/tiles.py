"""Extensions that paint a picture in tiles: each tile gets its own part of the masks.

They stack tiles on the batch axis and tell nobody which ones. So their calls are followed:

- Tiled Diffusion, in both its methods, gives ControlNets the hint of the tiles, or of a part that
  has a prompt of its own, just before it calls the UNet;
- Forge's MultiDiffusion calls the UNet for its batches of tiles in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import lru_cache
from typing import Any

from torch import Tensor

from dmm.errors import DmmError
from dmm.regions import HeightWidth, Regions, resize
from dmm.tiles import Tile, crop

Inject = Callable[[Regions], AbstractContextManager[Any]]

_TITLES = ("Tiled Diffusion", "demofusion")  # of the scripts
_WRAPPER = "model_function_wrapper"  # of Forge's UNet


def tiler(p: Any) -> Any | None:
    """What paints this job in tiles, or None where nothing does.

    It is there from when the host has made its sampler (Tiled Diffusion), or from the first step
    of a pass (Forge).
    """
    for script in p.scripts.alwayson_scripts if p.scripts else ():
        delegate = getattr(script, "delegate", None)
        if delegate is not None and script.title() in _TITLES:
            return delegate
    if not hasattr(p.sd_model, "forge_objects"):
        return None
    wrapper = p.sd_model.forge_objects.unet.model_options.get(_WRAPPER)
    wrapper = wrapper.tiler if isinstance(wrapper, _FollowedForge) else wrapper
    return wrapper if hasattr(wrapper, "batched_bboxes") else None


@contextmanager
def styled_in_tiles(p: Any, inject: Inject, styles: Callable[[str], Regions]) -> Iterator[None]:
    """Within the block, the UNet paints each tile in its part of the styles.

    Args:
        p: the host's StableDiffusionProcessing, which has a `tiler`.
        inject: as `dmm.ldm.styled`, for the UNet.
        styles: those of this moment for the whole picture, as they are for "" or for the prompt
            that a part has of its own.

    Raises:
        DmmError: styles that differ from place to place, where tiles cannot be told apart.
    """
    found = tiler(p)
    with ExitStack() as current, ExitStack() as following:
        injection = _Injection(found, inject, styles, current)
        injection.whole_picture()
        if callable(found):
            _follow_forge(p.sd_model.forge_objects.unet.model_options, injection, following)
        else:
            if styles("").masks is not None:
                _refuse_what_cannot_be_followed(found)
            _follow_tiled_diffusion(found, injection, following)
        yield


class _Injection:
    """What is injected for the next call of the UNet.

    Args:
        current: holds the injection.
    """

    def __init__(
        self, tiler: Any, inject: Inject, styles: Callable[[str], Regions], current: ExitStack
    ) -> None:
        self.tiler = tiler
        self._styled = inject
        self._styles = styles
        self._current = current
        self._sized = lru_cache(maxsize=8)(_sized)  # styles stay alike from step to step

    def whole_picture(self) -> None:
        self._inject(self._styles(""))

    def tiles(self, boxes: Sequence[Any], samples: int, prompt: str = "") -> None:
        """Stacked tiles: of each so many samples."""
        regions, size = self._styles(prompt), (self.tiler.h, self.tiler.w)
        if regions.masks is not None:
            tiles = [Tile(box.y, box.x, box.h, box.w, *size) for box in boxes]
            regions = crop(self._sized(regions, size), tiles, samples)
        self._inject(regions)

    def _inject(self, regions: Regions) -> None:
        self._current.close()
        if regions.has_style:
            self._current.enter_context(self._styled(regions))


def _sized(regions: Regions, size: HeightWidth) -> Regions:
    return Regions(regions.vectors, resize(regions.masks, size))


def _follow_tiled_diffusion(delegate: Any, injection: _Injection, following: ExitStack) -> None:
    def before(method: str, act: Callable[..., None]) -> None:
        original = getattr(delegate, method)

        def call(*args: Any, **kwargs: Any) -> Any:
            act(*args)
            return original(*args, **kwargs)

        setattr(delegate, method, call)
        following.callback(delattr, delegate, method)

    def begin_tiles(batch: int, samples: int, *_others: Any) -> None:
        injection.tiles(delegate.batched_bboxes[batch], samples)

    def begin_part(number: int, samples: int) -> None:
        part = delegate.custom_bboxes[number]
        injection.tiles([part], samples, part.prompt)

    before("switch_controlnet_tensors", begin_tiles)
    before("set_custom_controlnet_tensors", begin_part)
    before("reset_controlnet_tensors", injection.whole_picture)


def _refuse_what_cannot_be_followed(delegate: Any) -> None:
    if type(delegate).__name__ == "DemoFusion":
        raise DmmError(
            "DemoFusion paints parts that are spread over the picture, where regions cannot be "
            "followed. Use Tiled Diffusion, or one style for the whole picture."
        )
    if delegate.noise_inverse_enabled and delegate.enable_custom_bbox:
        raise DmmError(
            "Noise Inversion does not tell which part of Region Prompt Control it works on. "
            "Switch one of them off, or use one style for the whole picture."
        )


class _FollowedForge:
    """Stands in for Forge's tiler, whose every call of the UNet is for its next batch of tiles."""

    def __init__(self, injection: _Injection) -> None:
        self.tiler = injection.tiler
        self._injection = injection

    def __call__(self, model_function: Callable[..., Tensor], args: dict[str, Any]) -> Tensor:
        samples, batch = len(args["input"]), 0

        def paint(*tile_args: Any, **tile_kwargs: Any) -> Tensor:
            nonlocal batch
            self._injection.tiles(self.tiler.batched_bboxes[batch], samples)
            batch += 1
            return model_function(*tile_args, **tile_kwargs)

        return self.tiler(paint, args)


def _follow_forge(
    model_options: dict[str, Any], injection: _Injection, following: ExitStack
) -> None:
    model_options[_WRAPPER] = _FollowedForge(injection)
    following.callback(model_options.update, {_WRAPPER: injection.tiler})
