"""Regions in diffusers' UNets, against every place's bias worked out by itself in float64."""

from copy import deepcopy
from math import ceil

import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D

from dmm.injection import styled
from dmm.regions import Regions
from tests.nets import POOLED_WIDTH, small_sd1_unet, small_sdxl_unet

BATCH, SIZE = 4, (6, 10)


@pytest.fixture(params=[small_sd1_unet, small_sdxl_unet], ids=["sd1", "sdxl"])
def unet(request):
    return request.param()


def make_inputs(unet):
    arguments = {
        "sample": torch.randn(BATCH, 4, *SIZE),
        "timestep": torch.tensor([1, 300, 500, 999]),
        "encoder_hidden_states": torch.randn(BATCH, 5, unet.config.cross_attention_dim),
    }
    if unet.config.addition_embed_type == "text_time":
        arguments["added_cond_kwargs"] = {
            "text_embeds": torch.randn(BATCH, POOLED_WIDTH),
            "time_ids": torch.tensor([[64.0, 48, 0, 8, 64, 48]]).repeat(BATCH, 1),
        }
    return arguments


def make_regions(unet, pictures, regions):
    masks = torch.rand(pictures, regions, 2 * SIZE[0], 2 * SIZE[1])
    vectors = torch.randn(pictures, regions, unet.time_embedding.linear_2.out_features)
    return Regions(vectors, masks / masks.sum(dim=1, keepdim=True))


def in_float64(value):
    if isinstance(value, dict):
        return {key: in_float64(entry) for key, entry in value.items()}
    return value.double() if value.is_floating_point() else value


def share_of(mask, size):
    """The average of a mask [H, W] over what each place of a smaller picture stands for."""
    spans = [
        [(i * full // part, ceil((i + 1) * full / part)) for i in range(part)]
        for full, part in zip(mask.shape, size, strict=True)
    ]
    return torch.stack(
        [torch.stack([mask[a:b, c:d].mean() for c, d in spans[1]]) for a, b in spans[0]]
    )


def blocks_that_blend_plainly(regions):
    def forward(self, x, temb):
        features = self.conv1(self.nonlinearity(self.norm1(x)))
        biases = torch.zeros_like(features)
        for sample in range(len(x)):
            picture = sample % len(regions.vectors)
            for vector, mask in zip(regions.vectors[picture], regions.masks[picture], strict=True):
                bias = self.time_emb_proj(self.nonlinearity(temb[sample] + vector))
                biases[sample] += bias[:, None, None] * share_of(mask, features.shape[-2:])
        hidden = self.conv2(self.nonlinearity(self.norm2(features + biases)))
        return (x if self.conv_shortcut is None else self.conv_shortcut(x)) + hidden

    return forward


@torch.no_grad()
@pytest.mark.parametrize(("pictures", "regions"), [(1, 2), (2, 3), (BATCH, 5)])
def test_every_place_of_every_picture_has_its_style(unet, monkeypatch, pictures, regions):
    inputs, regions = make_inputs(unet), make_regions(unet, pictures, regions)
    exact, exact_inputs = deepcopy(unet).double(), in_float64(inputs)
    exact_regions = Regions(regions.vectors.double(), regions.masks.double())
    with styled(unet, regions):
        painted = unet(**inputs).sample
    with styled(exact, exact_regions):
        painted_exactly = exact(**exact_inputs).sample
    with monkeypatch.context() as patched:
        patched.setattr(ResnetBlock2D, "forward", blocks_that_blend_plainly(exact_regions))
        expected = exact(**exact_inputs).sample
    torch.testing.assert_close(painted_exactly, expected, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(painted.double(), expected, rtol=1e-4, atol=1e-5)
    assert (unet(**inputs).sample - painted).abs().max() > 1e-3


@torch.no_grad()
def test_afterwards_the_unet_is_as_before(unet):
    inputs = make_inputs(unet)
    plain = unet(**inputs).sample
    with pytest.raises(KeyboardInterrupt), styled(unet, make_regions(unet, 1, 2)):
        raise KeyboardInterrupt
    assert torch.equal(unet(**inputs).sample, plain)
