"""Styles in the company of other extensions: each keeps its effect, and styles keep theirs."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.webui.companions import (
    CONTROLNET_PACK,
    LORA,
    TILED_DIFFUSION_PACK,
    controlnet,
    ip_adapter,
    tiled_diffusion,
)
from tests.webui.server import WebUI, encoded

SIZE = {"width": 128, "height": 64}
INK, PHOTO = {"styles": {"ink": 1}}, {"styles": {"photo": 1}}
HALVES = {"columns": [1, 1], "regions": ["ink", "photo"]}
EVERYWHERE = {"columns": [1, 1], "regions": ["ink", "ink"]}


def hint(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (64, 128, 3), np.uint8)


def with_controlnet(webui: WebUI) -> dict[str, Any]:
    return {"others": controlnet(webui, hint())}


def with_ip_adapter(webui: WebUI) -> dict[str, Any]:
    if webui.kind != "webui":
        pytest.skip("Forge's IP-Adapter takes no embedding, and needs CLIP's vision model")
    return {"others": ip_adapter(webui)}


def with_lora(_webui: WebUI) -> dict[str, Any]:
    return {"prompt": f"a cat <lora:{LORA}:1>"}


def with_hypertile(webui: WebUI) -> dict[str, Any]:
    if webui.kind == "forge":
        pytest.skip("Forge has no hypertile")
    size = {"width": 256, "height": 128}
    if webui.kind == "reforge":
        return {"others": {"hypertile integrated": {"args": [True, 32, 1, 3, False]}}} | size
    # The smallest of its tiles is 128 pixels; at depth 0 it divides the attention to them.
    hypertile = {"hypertile_enable_unet": True, "hypertile_max_depth_unet": 3}
    hypertile |= {"hypertile_max_tile_unet": 32, "hypertile_swap_size_unet": 1}
    return {"override_settings": hypertile} | size


def in_tiles(method: str) -> Any:
    return lambda webui: {"others": tiled_diffusion(webui, method, 4)}


COMPANY = {
    "ControlNet": (with_controlnet, CONTROLNET_PACK),
    "IP-Adapter": (with_ip_adapter, CONTROLNET_PACK),
    "LoRA": (with_lora, None),
    "hypertile": (with_hypertile, None),
    "MultiDiffusion": (in_tiles("MultiDiffusion"), TILED_DIFFUSION_PACK),
    "Mixture of Diffusers": (in_tiles("Mixture of Diffusers"), TILED_DIFFUSION_PACK),
}


def skip_without(webui: WebUI, pack: str | None) -> None:
    if webui.kind == "webui" and pack and not webui.has_pack(pack):
        pytest.skip(f"{pack} is not in the host's folder of packs")


def all_differ(pictures: list[Tensor]) -> bool:
    return not any(torch.equal(one, other) for one, other in combinations(pictures, 2))


@pytest.mark.parametrize("case", COMPANY)
def test_in_company(company: WebUI, case: str) -> None:
    said, pack = COMPANY[case]
    skip_without(company, pack)
    others = said(company)

    def paint(dmm: Any = None, **more: Any) -> Tensor:
        return company.sample(dmm, **(SIZE | more))

    bare = paint(**others)
    ink, photo, both = (paint(dmm, **others) for dmm in (INK, PHOTO, HALVES))
    size = {side: others[side] for side in SIZE if side in others}
    alone = [paint(dmm, **size) for dmm in (None, INK, HALVES)]
    assert all_differ([bare, ink, photo, both, *alone])
    assert all(latents.isfinite().all() for latents in (bare, ink, photo, both))
    assert torch.equal(paint(EVERYWHERE, **others), ink)
    assert torch.equal(paint(**others), bare)
    assert torch.equal(paint(**size), alone[0])


def test_every_picture_of_a_script_that_paints_several(company: WebUI) -> None:
    """The loopback does so with one job, in which ControlNet's extension too stands in for the
    host's sampling."""
    skip_without(company, CONTROLNET_PACK)
    settings = {"way": "img2img", "others": controlnet(company, hint()), "denoising_strength": 0.5}
    settings |= SIZE

    def paint(picture: np.ndarray, **more: Any) -> np.ndarray:
        return company.paint(INK, init_images=[encoded(picture)], **settings, **more).pictures

    loopback = {"script_name": "loopback", "script_args": [2, 0.5, "Linear", "None"]}
    loopback |= {"override_settings": {"return_grid": False}}
    paint(hint(1), seed=2)  # the VAE draws its noise from where the last seed left off
    loops = paint(hint(1), **loopback)
    second = paint(paint(hint(1))[0], seed=2)[0]
    assert any(np.array_equal(picture, second) for picture in loops)
