"""Our names against diffusers' own single-file converters, and round trips."""

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)

from dmm import layouts
from dmm.layouts import Renamed
from tests.nets import (
    file_tensors,
    small_bigg,
    small_clip,
    small_sd1_unet,
    small_sdxl_unet,
    small_vae,
    write_single_file,
)

CUT_MID = {"mid_block_type": "UNetMidBlock2D"}
NO_MID = {"mid_block_type": None}
THREE_LEVELS = {
    "block_out_channels": (64, 64, 128),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": [1, 1, 2],
    "layers_per_block": 2,
    "transformer_layers_per_block": [1, [2, 1], [3, 3]],
    "reverse_transformer_layers_per_block": [[3, 4, 5], [2, 1, 1], 1],
}
UNETS = {
    "sd1": lambda: small_sd1_unet(),
    "sd1 without mid block": lambda: small_sd1_unet(**NO_MID),
    "sdxl": lambda: small_sdxl_unet(),
    "sdxl with a mid block of one resnet": lambda: small_sdxl_unet(**CUT_MID),
    "sdxl of uneven depths": lambda: small_sdxl_unet(**THREE_LEVELS, **CUT_MID),
}


def assert_equal(found, expected):
    assert set(found) == set(expected)
    for key in expected:
        assert torch.equal(found[key], expected[key]), key


@pytest.mark.parametrize("unet", UNETS.values(), ids=UNETS.keys())
def test_unet_names_are_those_diffusers_converts(unet):
    unet = unet()
    state = unet.state_dict()
    single = Renamed(state, layouts.unet_to_ldm(state))

    prefixed = {layouts.UNET_PREFIX + key: tensor for key, tensor in single.items()}
    assert_equal(convert_ldm_unet_checkpoint(prefixed, dict(unet.config)), state)

    assert_equal(Renamed(single, layouts.unet_to_diffusers(single)), state)


def test_unet_with_different_resnets_a_level_comes_back():
    state = small_sd1_unet(layers_per_block=(2, 1)).state_dict()
    single = Renamed(state, layouts.unet_to_ldm(state))
    assert "input_blocks.3.0.op.weight" in single
    assert_equal(Renamed(single, layouts.unet_to_diffusers(single)), state)


def test_vae_names_are_those_diffusers_converts():
    vae = small_vae()
    state = vae.state_dict()
    single = Renamed(state, layouts.vae_to_ldm(state))
    assert single["decoder.mid.attn_1.q.weight"].shape == (64, 64, 1, 1)
    assert single["decoder.mid.attn_1.q.bias"].shape == (64,)

    prefixed = {layouts.VAE_PREFIX + key: tensor for key, tensor in single.items()}
    assert_equal(convert_ldm_vae_checkpoint(prefixed, dict(vae.config)), state)

    assert_equal(Renamed(single, layouts.vae_to_diffusers(single)), state)


def test_vae_of_an_old_diffusers_folder_gets_todays_names():
    state = small_vae().state_dict()
    old_names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {}
    for key, tensor in state.items():
        for today, before in old_names.items():
            key = key.replace(f"attentions.0.{today}.", f"attentions.0.{before}.")
        old[key] = tensor
    assert "encoder.mid_block.attentions.0.proj_attn.bias" in old
    assert_equal(Renamed(old, layouts.vae_to_today(old)), state)
    assert_equal(Renamed(state, layouts.vae_to_today(state)), state)


def test_clip_names_are_those_diffusers_converts():
    state = file_tensors(small_clip())
    single = Renamed(state, layouts.clip(state))
    prefixed = {layouts.CLIP_PREFIX["sd1"] + key: tensor for key, tensor in single.items()}
    assert_equal(convert_ldm_clip_checkpoint(prefixed), state)


def test_clip_without_its_inner_prefix_and_with_position_ids():
    state = file_tensors(small_clip())
    short = {key.removeprefix("text_model."): tensor for key, tensor in state.items()}
    short["embeddings.position_ids"] = torch.arange(77)[None].float()
    assert_equal(Renamed(short, layouts.clip(short)), state)


def test_open_clip_names_are_those_diffusers_converts():
    encoder = small_bigg()
    with torch.no_grad():  # zeros would hide a mixed-up bias
        for parameter in encoder.parameters():
            parameter.normal_()
    state = encoder.state_dict()
    single = Renamed(state, layouts.open_clip_to_single(state))
    prefixed = {layouts.OPEN_CLIP_PREFIX + key: tensor for key, tensor in single.items()}
    converted = convert_open_clip_checkpoint(encoder, prefixed, prefix=layouts.OPEN_CLIP_PREFIX)
    assert_equal(converted, state)

    assert_equal(Renamed(single, layouts.open_clip_to_transformers(single)), state)


STYLE = {
    "model_embedding.weight": torch.randn(3, 256),
    **{
        f"{{mlp}}.linear_{i}.{kind}": torch.randn(*shape)
        for i in (1, 2)
        for kind, shape in (("weight", (256, 256)), ("bias", (256,)))
    },
}


@pytest.mark.parametrize(
    ("unet", "mlp"), [(small_sd1_unet, "add_embedding"), (small_sdxl_unet, "add_embedding2")]
)
def test_style_tensors_are_no_part_of_the_unet_in_either_layout(unet, mlp):
    state = unet().state_dict()
    styles = {key.format(mlp=mlp): tensor for key, tensor in STYLE.items()}
    single = Renamed(state, layouts.unet_to_ldm(state))
    for names in (state, single):
        assert layouts.style_keys({*names, *styles}) == set(styles)
        assert layouts.style_keys(names) == set()
    assert_equal(Renamed(state, layouts.unet_to_ldm({*state, *styles})), single)
    assert_equal(Renamed(single, layouts.unet_to_diffusers({*single, *styles})), state)


@pytest.mark.parametrize("unet", [small_sd1_unet, small_sdxl_unet])
def test_diffusers_loads_a_single_file_of_ours_as_a_plain_model(tmp_path, unet):
    unet, vae = unet(), small_vae()
    text_encoders = [small_clip()]
    if unet.config.addition_embed_type:
        text_encoders.append(small_bigg())
    path = write_single_file(tmp_path / "model.safetensors", unet, vae, text_encoders)
    for network, subfolder in ((unet, "unet"), (vae, "vae")):
        network.save_config(tmp_path / "config" / subfolder)
        kind = UNet2DConditionModel if subfolder == "unet" else AutoencoderKL
        loaded = kind.from_single_file(
            str(path), config=str(tmp_path / "config"), subfolder=subfolder, local_files_only=True
        )
        assert_equal(loaded.state_dict(), network.state_dict())
