"""Styled UNets against float64 copies whose embedding has the style in its last bias.

Adding a vector to the output of a linear layer is the same as adding it to the layer's bias, so the
copies need nothing of the injection, nor its choice of module.
"""

from copy import deepcopy

import pytest
import torch

from dmm.injection import styled
from tests.nets import POOLED_WIDTH, small_sd1_unet, small_sdxl_unet

BATCH = 3


@pytest.fixture(params=[small_sd1_unet, small_sdxl_unet], ids=["sd1", "sdxl"])
def unet(request):
    return request.param()


def inputs(unet):
    arguments = {
        "sample": torch.randn(BATCH, 4, 8, 8),
        "timestep": torch.tensor([1, 500, 999]),
        "encoder_hidden_states": torch.randn(BATCH, 5, unet.config.cross_attention_dim),
    }
    if unet.config.addition_embed_type == "text_time":
        arguments["added_cond_kwargs"] = {
            "text_embeds": torch.randn(BATCH, POOLED_WIDTH),
            "time_ids": torch.tensor([[64.0, 48, 0, 8, 64, 48]]).repeat(BATCH, 1),
        }
    return arguments


def style_vectors(unet, *shape):
    return torch.randn(*shape, unet.time_embedding.linear_2.out_features)


def reference(unet, arguments, vector):
    shifted = deepcopy(unet).double()
    shifted.time_embedding.linear_2.bias.data += vector.double()
    return shifted(**in_float64(arguments)).sample


def in_float64(value):
    if isinstance(value, dict):
        return {key: in_float64(entry) for key, entry in value.items()}
    return value.double() if value.is_floating_point() else value


@torch.no_grad()
def test_one_style_for_the_whole_batch(unet):
    arguments, vector = inputs(unet), style_vectors(unet)
    plain = unet(**arguments).sample
    with styled(unet, vector) as same:
        assert same is unet
        painted = unet(**arguments).sample
    expected = reference(unet, arguments, vector)
    torch.testing.assert_close(painted.double(), expected, rtol=1e-4, atol=1e-5)
    assert (painted - plain).abs().max() > 1e-3


@torch.no_grad()
def test_a_style_for_each_sample(unet):
    arguments, vectors = inputs(unet), style_vectors(unet, BATCH)
    with styled(unet, vectors):
        painted = unet(**arguments).sample
    for sample, vector in enumerate(vectors):
        expected = reference(unet, arguments, vector)[sample]
        torch.testing.assert_close(painted[sample].double(), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_style_vectors_take_the_dtype_of_the_unet(unet):
    arguments, vector = inputs(unet), style_vectors(unet)
    expected = reference(unet, arguments, vector)
    with styled(unet.double(), vector):
        painted = unet(**in_float64(arguments)).sample
    assert painted.dtype == torch.float64
    torch.testing.assert_close(painted, expected, rtol=1e-9, atol=1e-11)


@torch.no_grad()
def test_no_style_changes_no_bit(unet):
    arguments = inputs(unet)
    plain = unet(**arguments).sample
    with styled(unet, None):
        assert torch.equal(unet(**arguments).sample, plain)


@torch.no_grad()
def test_afterwards_the_unet_is_as_before(unet):
    arguments = inputs(unet)
    plain, state = unet(**arguments).sample, deepcopy(unet.state_dict())
    with styled(unet, style_vectors(unet)):
        unet(**arguments)
    assert torch.equal(unet(**arguments).sample, plain)
    with pytest.raises(KeyboardInterrupt), styled(unet, style_vectors(unet)):
        raise KeyboardInterrupt
    assert torch.equal(unet(**arguments).sample, plain)
    assert all(torch.equal(tensor, state[key]) for key, tensor in unet.state_dict().items())


def test_gradients_reach_the_style(unet):
    vectors = style_vectors(unet, BATCH).requires_grad_()
    with styled(unet, vectors):
        unet(**inputs(unet)).sample.square().mean().backward()
    assert (vectors.grad.abs().amax(dim=1) > 0).all()
