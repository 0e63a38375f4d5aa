"""Regions in a picture that other extensions paint in tiles: every tile has its part of the masks.

One step from noise that is given cannot let tiles meet. So a picture in tiles is the weighted mean
of pictures painted one by one, with the masks cropped by hand.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.webui.companions import TILED_DIFFUSION_PACK, controlnet, part, tiled_diffusion
from tests.webui.server import Refused, WebUI, encoded

METHODS = ("MultiDiffusion", "Mixture of Diffusers")
STEP = {"steps": 1, "height": 64}

# In latents of 8 pixels: a picture 16 wide, the border of whose regions is at 6; the tiles are 8.
REGIONS = {"columns": "3,5", "regions": ["ink", "photo"]}
CROPPED = {
    0: {"columns": "3,1", "regions": ["ink", "photo"]},
    4: {"columns": "1,3", "regions": ["ink", "photo"]},
    8: {"styles": "photo"},
}


@pytest.fixture(autouse=True)
def skip_without_pack(company: WebUI) -> None:
    if company.kind == "webui" and not company.has_pack(TILED_DIFFUSION_PACK):
        pytest.skip(f"{TILED_DIFFUSION_PACK} is not in the host's folder of packs")


@pytest.fixture
def noise() -> Tensor:
    return torch.randn(1, 4, 8, 16)


def weights(method: str) -> Tensor:
    """Of the places of a tile: the hosts' Gaussian has its middle half a pixel below the tile's."""
    if method == "MultiDiffusion":
        return torch.ones(8, 8)
    rows, columns = (torch.arange(8) - middle for middle in (4, 3.5))
    distance = rows[:, None] ** 2 + columns**2
    return torch.exp(-distance / 8**2 / (2 * 0.01))


def nearly(one: Tensor, other: Tensor) -> None:
    """Equal but for the rounding of a sum in another order."""
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("tiles", [1, 4], ids=["one by one", "in batches"])
@pytest.mark.parametrize("overlap", [0, 4])
@pytest.mark.parametrize("method", METHODS)
def test_a_tile_is_painted_with_its_part_of_the_masks(
    company: WebUI, noise: Tensor, method: str, overlap: int, tiles: int
) -> None:
    others = tiled_diffusion(company, method, overlap, tiles=tiles)
    painted = company.sample(REGIONS, others, noise, width=128, **STEP)
    total, weight_sum = torch.zeros_like(painted), torch.zeros(8, 16)
    for left in range(0, 9, 8 - overlap):
        columns = slice(left, left + 8)
        alone = company.sample(CROPPED[left], noise=noise[..., columns], width=64, **STEP)
        total[..., columns] += weights(method) * alone
        weight_sum[:, columns] += weights(method)
    nearly(painted, total / weight_sum)
    assert not torch.equal(painted, company.sample(None, others, noise, width=128, **STEP))


@pytest.mark.parametrize("method", METHODS)
def test_the_hint_of_a_controlnet_is_cropped_along(
    company: WebUI, noise: Tensor, method: str
) -> None:
    if company.kind == "reforge":
        pytest.skip("reForge's MultiDiffusion fails beside a ControlNet")
    hint = np.random.default_rng(0).integers(0, 256, (64, 128, 3), np.uint8)
    others = tiled_diffusion(company, method, 0) | controlnet(company, hint)
    painted = company.sample(REGIONS, others, noise, width=128, **STEP)
    for left in (0, 8):
        columns = slice(left, left + 8)
        part_of_hint = controlnet(company, hint[:, 8 * left : 8 * left + 64])
        part_of_noise = noise[..., columns]
        alone = company.sample(CROPPED[left], part_of_hint, part_of_noise, width=64, **STEP)
        nearly(painted[..., columns], alone)


@pytest.mark.parametrize("method", METHODS)
def test_pictures_of_a_batch_have_their_own_masks(company: WebUI, method: str) -> None:
    regions = {"columns": "3,5", "regions": ["ink"]}
    settings = {"others": tiled_diffusion(company, method, 4), "width": 128, **STEP}
    matrix = {"script_name": "prompt matrix", "batch_size": 2}
    matrix["script_args"] = [False, False, "positive", "comma", 0]
    both = company.sample(regions, prompt="a cat|<dmm:photo:1>", **settings, **matrix)
    cats = [
        company.sample(regions, prompt=prompt, **settings)
        for prompt in ("a cat", "a cat, <dmm:photo:1>")
    ]
    nearly(both, torch.cat(cats))
    assert not torch.allclose(*cats)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("dmm", "left", "right"),
    [
        (None, {"styles": "anime"}, None),
        ({"styles": "ink"}, {"styles": "anime"}, {"styles": "ink"}),
        (
            {"columns": "3,5", "regions": ["ink"]},
            {"columns": "3,1", "regions": ["ink", "anime"]},
            None,
        ),
    ],
    ids=["a tag alone", "a tag before a style", "a tag beside regions"],
)
def test_a_part_with_a_prompt_of_its_own_has_its_own_tags(
    company: WebUI, noise: Tensor, method: str, dmm: dict | None, left: dict, right: dict | None
) -> None:
    if company.kind != "webui":
        pytest.skip("Forge's MultiDiffusion has no prompts for parts")
    dog = part(0, 0, 0.5, 1, "a dog <dmm:anime:1>")
    tree = part(0.5, 0, 0.5, 1, "a tree")
    others = tiled_diffusion(company, method, 4, parts=[dog, tree])
    painted = company.sample(dmm, others, noise, width=128, **STEP)
    halves = (
        (left, "a cat, a dog", noise[..., :8]),
        (right, "a cat, a tree", noise[..., 8:]),
    )
    alone = [
        company.sample(said, noise=half, prompt=prompt, width=64, **STEP)
        for said, prompt, half in halves
    ]
    nearly(painted, torch.cat(alone, dim=-1))


def test_parts_that_cannot_be_followed_are_refused(company: WebUI) -> None:
    if company.kind != "webui":
        pytest.skip("Forge's MultiDiffusion has no noise inversion")
    others = tiled_diffusion(company, METHODS[1], 4, parts=[part(0, 0, 0.5, 1, "a dog")])
    others["tiled diffusion"]["args"][12] = True  # noise inversion
    picture = np.full((64, 128, 3), 128, np.uint8)
    source = {"init_images": [encoded(picture)], "width": 128, "height": 64}
    with pytest.raises(Refused, match="Noise Inversion does not tell which part"):
        company.paint(REGIONS, "img2img", others, **source)
    company.paint({"styles": "ink"}, "img2img", others, **source)


def test_demofusion_is_refused(company: WebUI) -> None:
    if company.kind != "webui":
        pytest.skip("Forge has no DemoFusion")
    noise_inversion, how = [False, 10, 1, 1, 64], [False, False]
    weights = [3.0, 1.0, 1.0, True, 0.85, 0.6, 4, True]
    args = [True, "DemoFusion", True, 64, 32, 4, 2, *noise_inversion, *how, *weights]
    with pytest.raises(Refused, match="DemoFusion paints parts that are spread over the picture"):
        company.sample(REGIONS, {"demofusion": {"args": args}}, steps=2, width=128, height=64)
