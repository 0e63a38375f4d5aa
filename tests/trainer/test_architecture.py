"""Architectures read off names and shapes, at full size on the meta device."""

import pytest

from dmm import layouts
from tests.nets import file_tensors, small_bigg, small_clip, small_sd1_unet, small_vae
from tests.trainer.sizes import BIG_G, CLIP_L, SD15, SDXL, VAE
from trainer.architecture import (
    Misfit,
    check_tensors,
    empty_network,
    network_shapes,
    text_encoder_config,
    unet_config,
    unet_family,
    vae_config,
)

# segmind/small-sd and BK-SDM-Small: one resnet a level less, no mid block.
SMALL_SD = SD15 | {"layers_per_block": 1, "mid_block_type": None}
# segmind/tiny-sd and BK-SDM-Tiny: the innermost level gone too.
TINY_SD = SMALL_SD | {
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["CrossAttnDownBlock2D"] * 3,
    "up_block_types": ["CrossAttnUpBlock2D"] * 3,
}
SSD_1B = SDXL | {
    "mid_block_type": "UNetMidBlock2D",
    "transformer_layers_per_block": [1, 2, 4],
    "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 1],
}
VEGA = SDXL | {"mid_block_type": "UNetMidBlock2D", "transformer_layers_per_block": [1, 1, 2]}
KOALA_700M = SDXL | {
    "mid_block_type": None,
    "layers_per_block": 1,
    "transformer_layers_per_block": [1, 2, 5],
}
UNETS = {
    "SD1.5": SD15,
    "small-sd": SMALL_SD,
    "tiny-sd": TINY_SD,
    "SDXL": SDXL,
    "SSD-1B": SSD_1B,
    "Segmind Vega": VEGA,
    "KOALA-700M": KOALA_700M,
}
"""The published configs of these models, as far as they shape tensors."""


def shapes_of(tensors):
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


def through_the_single_file(shapes):
    single = layouts.unet_to_ldm(shapes)
    back = layouts.unet_to_diffusers(single)
    return {name: shapes[single[source.keys[0]].keys[0]] for name, source in back.items()}


@pytest.mark.parametrize("config", UNETS.values(), ids=UNETS.keys())
def test_full_size_unets_are_told_by_their_single_file(config):
    shapes = network_shapes("unet", config)
    found = through_the_single_file(shapes)
    assert found == shapes

    read = unet_config(found)
    assert {key: read.get(key) for key in config} == config
    assert unet_family(found) == ("sdxl" if "addition_embed_type" in config else "sd1")
    assert network_shapes("unet", read) == shapes


def test_numbers_of_parameters_are_the_published_ones():
    def parameters(config):
        return sum(p.numel() for p in empty_network("unet", config).parameters())

    assert parameters(SD15) == 859_520_964
    assert parameters(SDXL) == 2_567_463_684


def test_levels_with_different_numbers_of_resnets():
    shapes = shapes_of(small_sd1_unet(layers_per_block=(2, 1)).state_dict())
    read = unet_config(through_the_single_file(shapes))
    assert read["layers_per_block"] == [2, 1]
    assert network_shapes("unet", read) == shapes


def test_a_mid_block_deeper_than_an_inner_level_without_attention():
    config = SD15 | {"transformer_layers_per_block": [1, 1, 1, 3]}
    shapes = network_shapes("unet", config)
    assert network_shapes("unet", unet_config(shapes)) == shapes


@pytest.mark.parametrize("config", [VAE, VAE | {"latent_channels": 16, "use_quant_conv": False}])
def test_full_size_vae(config):
    shapes = network_shapes("vae", config)
    read = vae_config(shapes, scaling_factor=0.18215)
    assert {key: read[key] for key in config} == config
    assert network_shapes("vae", read) == shapes


@pytest.mark.parametrize(
    ("network", "config"), [("text_encoder", CLIP_L), ("text_encoder_2", BIG_G)]
)
def test_full_size_text_encoders(network, config):
    shapes = network_shapes(network, config)
    read = text_encoder_config(shapes, network)
    assert {key: read[key] for key in config} == config
    assert network_shapes(network, read) == shapes
    assert (read["bos_token_id"], read["eos_token_id"]) == (49406, 49407)


def test_a_small_vae_and_small_text_encoders():
    vae = shapes_of(small_vae().state_dict())
    assert network_shapes("vae", vae_config(vae, scaling_factor=0.18215)) == vae
    for network, encoder in (("text_encoder", small_clip()), ("text_encoder_2", small_bigg())):
        shapes = shapes_of(file_tensors(encoder))
        read = text_encoder_config(shapes, network)
        assert network_shapes(network, read) == shapes
        assert (read["num_attention_heads"], read["eos_token_id"]) == (1, 519)


OTHERS = {
    "inpainting": SD15 | {"in_channels": 9},
    "InstructPix2Pix": SD15 | {"in_channels": 8},
    "upscaler": SD15 | {"in_channels": 7},
    "extra inputs": SD15 | {"in_channels": 5},
    "Stable Diffusion 2": SD15 | {"cross_attention_dim": 1024, "use_linear_projection": True},
    "refiner": SDXL | {"cross_attention_dim": 1280, "projection_class_embeddings_input_dim": 2560},
}


@pytest.mark.parametrize(("kind", "config"), OTHERS.items(), ids=OTHERS.keys())
def test_unets_of_other_kinds_are_named(kind, config):
    with pytest.raises(Misfit, match=kind):
        unet_config(network_shapes("unet", config))


def test_missing_tensors_are_counted_and_named():
    shapes = network_shapes("unet", SD15)
    kept = {name: shape for name, shape in shapes.items() if "up_blocks.2.resnets.1" not in name}
    with pytest.raises(Misfit, match=r"lacks 12 \(up_blocks\.2\.resnets\.1\.conv1\.bias, .*…\)"):
        check_tensors("unet", unet_config(kept), kept)


def test_a_tensor_of_another_shape_is_named():
    shapes = network_shapes("unet", SD15) | {"up_blocks.1.resnets.0.conv2.bias": (7,)}
    with pytest.raises(Misfit, match=r"up_blocks\.1\.resnets\.0\.conv2\.bias with shape \[7\]"):
        check_tensors("unet", unet_config(shapes), shapes)


def test_a_unet_without_the_tensor_that_tells_its_inputs():
    shapes = network_shapes("unet", SD15)
    del shapes["conv_in.weight"]
    with pytest.raises(Misfit, match=r"lacks conv_in\.weight"):
        unet_config(shapes)
