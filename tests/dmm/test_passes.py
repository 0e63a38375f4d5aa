"""Per-region latents, against passes that were made one by one."""

from __future__ import annotations

from itertools import count

import pytest
import torch
from torch import Tensor, nn

from dmm.ldm import styled
from dmm.regions import Regions
from tests.nets import TEXT_WIDTH, small_sd1_unet

BATCH, SIZE = 4, (6, 10)


class LdmUNet(nn.Module):
    """A real UNet with the interface of the LDM family's; it empties a list, as Forge's does."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = small_sd1_unet()
        self.time_embed = self.unet.time_embedding

    def forward(
        self, x: Tensor, timesteps: Tensor, context: Tensor, control: dict[str, list[Tensor]]
    ) -> Tensor:
        return self.unet(x, timesteps, context).sample + control["output"].pop()


@pytest.fixture
def unet() -> LdmUNet:
    return LdmUNet()


def predict(unet: LdmUNet) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(BATCH, 4, *SIZE, generator=generator)
    context = torch.randn(BATCH, 5, TEXT_WIDTH, generator=generator)
    control = {"output": [torch.randn(x.shape, generator=generator)]}
    with torch.no_grad():
        return unet(x, torch.tensor([1, 300, 500, 999]), context=context, control=control)


@pytest.mark.parametrize("pictures", [1, 2])
def test_predictions_of_a_pass_for_each_region_are_blended(unet: LdmUNet, pictures: int) -> None:
    masks = torch.rand(pictures, 3, *SIZE)
    masks = masks / masks.sum(dim=1, keepdim=True)
    vectors = torch.randn(pictures, 3, unet.time_embed.linear_2.out_features)
    passes = []
    for region in range(3):
        with styled(unet, Regions(vectors[:, region : region + 1])):
            passes.append(predict(unet))
    shares = masks.repeat(BATCH // pictures, 1, 1, 1)
    expected = sum(shares[:, region, None] * passes[region] for region in range(3))

    with styled(unet, Regions(vectors, masks), separate=True):
        torch.testing.assert_close(predict(unet), expected)


def test_hard_regions_are_those_of_their_own_passes(unet: LdmUNet) -> None:
    left = torch.zeros(1, 1, 8 * SIZE[0], 8 * SIZE[1])
    left[..., : 4 * SIZE[1]] = 1
    vectors = torch.randn(1, 2, unet.time_embed.linear_2.out_features)
    with styled(unet, Regions(vectors, torch.cat([left, 1 - left], dim=1)), separate=True):
        both = predict(unet)
    for region, half in enumerate((slice(None, SIZE[1] // 2), slice(SIZE[1] // 2, None))):
        with styled(unet, Regions(vectors[:, region : region + 1])):
            assert torch.equal(both[..., half], predict(unet)[..., half])


def test_nothing_is_left_behind_by_a_pass_that_fails(unet: LdmUNet) -> None:
    plain = predict(unet)
    masks = torch.full((1, 2, *SIZE), 0.5)
    regions = Regions(torch.randn(1, 2, unet.time_embed.linear_2.out_features), masks)
    calls = count(1)

    def interrupt(*_call: object) -> None:
        if next(calls) == 2:
            raise KeyboardInterrupt

    with styled(unet, regions, separate=True):
        expected = predict(unet)
        with unet.unet.register_forward_hook(interrupt), pytest.raises(KeyboardInterrupt):
            predict(unet)
        assert torch.equal(predict(unet), expected)
    assert torch.equal(predict(unet), plain)
