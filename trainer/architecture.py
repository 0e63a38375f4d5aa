"""How a network is built, read off the names and shapes of its tensors. No hub is asked.

Names are those of diffusers and transformers; configs are keyword arguments of their classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from dmm.errors import DmmError
from dmm.layouts.renaming import count
from dmm.metadata import Family

Config = dict[str, Any]
Shapes = Mapping[str, tuple[int, ...]]

NETWORKS = {
    "unet": "UNet",
    "vae": "VAE",
    "text_encoder": "text encoder",
    "text_encoder_2": "second text encoder",
}
"""What the networks are called, in a diffusers folder and to people."""

TITLES = NETWORKS | {"controlnet": "ControlNet"}
"""Of all networks there are; a ControlNet is no part of a checkpoint."""

# Tensors do not tell how attention is cut into heads: SD1 has eight everywhere, SDXL and the CLIP
# text models have heads of 64 numbers.
SD1_HEADS = 8
HEAD_SIZE = 64

# SDXL is told six numbers of the picture's sizes, each spread over this many sines.
SDXL_SIZE_EMBED = 256

VAE_SCALING_FACTOR = {"sd1": 0.18215, "sdxl": 0.13025}
SAMPLE_SIZE = {"sd1": 64, "sdxl": 128}


class Misfit(DmmError):
    """A network's tensors do not make a network: some are missing, or do not fit the others."""


def unet_family(shapes: Shapes) -> Family:
    """Which family a UNet belongs to.

    Raises:
        Misfit: it is a Stable Diffusion UNet of another kind; the message says which.
    """
    channels_in = _shape(shapes, "unet", "conv_in.weight")[1]
    channels_out = _shape(shapes, "unet", "conv_out.weight")[0]
    if channels_in != channels_out:
        kinds = {9: "an inpainting UNet", 8: "an InstructPix2Pix UNet", 7: "an upscaler's UNet"}
        kind = kinds.get(channels_in, "a UNet with extra inputs")
        raise Misfit(f"is {kind} ({channels_in} input channels, {channels_out} output channels)")
    context = _cross_attention_dim(shapes)
    if "add_embedding.linear_1.weight" in shapes:
        if _shape(shapes, "unet", "add_embedding.linear_1.weight")[1] == 2560 and context == 1280:
            raise Misfit("is an SDXL refiner")
        return "sdxl"
    if context == 1024 and _linear_projection(shapes):
        raise Misfit("is a Stable Diffusion 2 UNet (context of 1024 numbers a token)")
    return "sd1"


def unet_config(shapes: Shapes) -> Config:
    """The config of a UNet2DConditionModel of the SD1 or SDXL family, with blocks cut out or not.

    Raises:
        Misfit: tensors that tell the architecture are missing, or it is of another family.
    """
    family = unet_family(shapes)
    down = _down(shapes)
    up = [_depths(shapes, f"up_blocks.{level}") for level in range(len(down))]
    mid = _depths(shapes, "mid_block")
    return {
        "sample_size": SAMPLE_SIZE[family],
        "out_channels": _shape(shapes, "unet", "conv_out.weight")[0],
        "up_block_types": [_block_type("UpBlock2D", depths) for depths in up],
        **_downward_config("unet", shapes, family, down, mid),
        **_transformer_layers(down, mid, up),
    }


def controlnet_config(shapes: Shapes) -> Config:
    """The config of a ControlNetModel for a UNet of the SD1 or SDXL family.

    Raises:
        Misfit: tensors that tell the architecture are missing.
    """
    down, mid = _down(shapes), _depths(shapes, "mid_block")
    embedding = "controlnet_cond_embedding"
    first = _shape(shapes, "controlnet", f"{embedding}.conv_in.weight")
    halving = range(1, count(shapes, rf"{embedding}\.blocks\.(\d+)\."), 2)
    widths = [
        _shape(shapes, "controlnet", f"{embedding}.blocks.{block}.weight")[0] for block in halving
    ]
    return {
        "conditioning_channels": first[1],
        "conditioning_embedding_out_channels": [first[0], *widths],
        **_downward_config("controlnet", shapes, controlnet_family(shapes), down, mid),
        # Nothing goes up: as if what did were the way down, turned round.
        **_transformer_layers(down, mid, down[::-1]),
    }


def controlnet_family(shapes: Shapes) -> Family:
    """Which family of UNets a ControlNet is for."""
    return "sdxl" if "add_embedding.linear_1.weight" in shapes else "sd1"


def _down(shapes: Shapes) -> list[Depths]:
    # At least one level, so that a network cut off before it is one that lacks tensors.
    levels = max(count(shapes, r"down_blocks\.(\d+)\."), 1)
    return [_depths(shapes, f"down_blocks.{level}") for level in range(levels)]


def _downward_config(
    network: str, shapes: Shapes, family: Family, down: list[Depths], mid: Depths
) -> Config:
    """What a UNet and a ControlNet have in common: all down to the mid block."""
    channels = [
        _shape(shapes, network, f"down_blocks.{level}.resnets.0.conv1.weight")[0]
        for level in range(len(down))
    ]
    mid_type = "UNetMidBlock2DCrossAttn" if _has_attention(mid) else "UNetMidBlock2D"
    config = {
        "in_channels": _shape(shapes, network, "conv_in.weight")[1],
        "block_out_channels": channels,
        "layers_per_block": _one_if_equal([len(depths) for depths in down]),
        "down_block_types": [_block_type("DownBlock2D", depths) for depths in down],
        "mid_block_type": mid_type if mid else None,
        "cross_attention_dim": _cross_attention_dim(shapes),
        "use_linear_projection": _linear_projection(shapes),
        "attention_head_dim": SD1_HEADS,
    }
    if family == "sdxl":
        embed = _shape(shapes, network, "add_embedding.linear_1.weight")[1]
        config |= {
            "attention_head_dim": [width // HEAD_SIZE for width in channels],
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": SDXL_SIZE_EMBED,
            "projection_class_embeddings_input_dim": embed,
        }
    return config


def vae_config(shapes: Shapes, scaling_factor: float) -> Config:
    """The config of an AutoencoderKL.

    Args:
        scaling_factor: what latents are multiplied by for the UNet; tensors do not tell it.

    Raises:
        Misfit: tensors that tell the architecture are missing.
    """
    levels = count(shapes, r"encoder\.down_blocks\.(\d+)\.")
    channels = [
        _shape(shapes, "vae", f"encoder.down_blocks.{level}.resnets.0.conv1.weight")[0]
        for level in range(levels)
    ]
    return {
        "in_channels": _shape(shapes, "vae", "encoder.conv_in.weight")[1],
        "out_channels": _shape(shapes, "vae", "decoder.conv_out.weight")[0],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "block_out_channels": channels,
        "layers_per_block": count(shapes, r"encoder\.down_blocks\.0\.resnets\.(\d+)\."),
        "latent_channels": _shape(shapes, "vae", "decoder.conv_in.weight")[1],
        "scaling_factor": scaling_factor,
        "use_quant_conv": any(name.startswith("quant_conv.") for name in shapes),
        "use_post_quant_conv": any(name.startswith("post_quant_conv.") for name in shapes),
        "mid_block_add_attention": any("mid_block.attentions" in name for name in shapes),
    }


def text_encoder_config(shapes: Shapes, network: str = "text_encoder") -> Config:
    """The config of a CLIPTextModel, or of OpenCLIP's for "text_encoder_2".

    Raises:
        Misfit: tensors that tell the architecture are missing.
    """
    tokens = _shape(shapes, network, "text_model.embeddings.token_embedding.weight")
    positions = _shape(shapes, network, "text_model.embeddings.position_embedding.weight")
    feed_forward = _shape(shapes, network, "text_model.encoder.layers.0.mlp.fc1.weight")
    vocabulary, width = tokens[0], tokens[1]
    config = {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": feed_forward[0],
        "num_hidden_layers": count(shapes, r"text_model\.encoder\.layers\.(\d+)\."),
        "num_attention_heads": max(width // HEAD_SIZE, 1),
        "max_position_embeddings": positions[0],
        "hidden_act": "quick_gelu",
        # CLIP's last two tokens.
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
    }
    if network == "text_encoder_2":
        config["hidden_act"] = "gelu"
        config["projection_dim"] = _shape(shapes, network, "text_projection.weight")[0]
    return config


def read_config(network: str, shapes: Shapes, vae_scaling_factor: float) -> Config:
    """The config of any of the `NETWORKS`."""
    if network == "unet":
        return unet_config(shapes)
    if network == "vae":
        return vae_config(shapes, vae_scaling_factor)
    return text_encoder_config(shapes, network)


def empty_network(network: str, config: Config) -> nn.Module:
    """The network without weights: its parameters are on the "meta" device.

    Args:
        network: a key of `TITLES`.
    """
    with torch.device("meta"):
        if network == "unet":
            return UNet2DConditionModel(**config)
        if network == "controlnet":
            return ControlNetModel(**config)
        if network == "vae":
            return AutoencoderKL(**config)
        projects = network == "text_encoder_2"
        return (CLIPTextModelWithProjection if projects else CLIPTextModel)(
            CLIPTextConfig(**config)
        )


def network_shapes(network: str, config: Config) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that a network of this config has.

    Raises:
        Misfit: there is no network of this config.
    """
    try:
        state = empty_network(network, config).state_dict()
    except Exception as error:  # whatever makes the class refuse, the config is to blame
        raise Misfit(f"describes a {TITLES[network]} that cannot be built: {error}") from error
    return {file_name(network, name): tuple(tensor.shape) for name, tensor in state.items()}


def file_name(network: str, name: str) -> str:
    """A tensor's name in files, from its name in the module.

    transformers 5 dropped the `text_model.` of CLIPTextModel in memory, not in files.
    """
    if network.startswith("text_encoder") and not name.startswith(("text_model.", "text_proj")):
        return f"text_model.{name}"
    return name


def check_tensors(
    network: str,
    config: Config,
    shapes: Shapes,
    spell: Callable[[Iterable[str]], Mapping[str, str]] | None = None,
) -> list[str]:
    """Check that the tensors of the config's network are there; returns their names.

    Args:
        shapes: of the tensors that are there; more than needed may be.
        spell: all the network's names -> how the file spells each, for the message.

    Raises:
        Misfit: tensors are missing or have other shapes.
    """
    expected = network_shapes(network, config)
    spelled = spell(expected) if spell else {name: name for name in expected}
    title = TITLES[network]
    missing = [spelled[name] for name in expected if name not in shapes]
    if missing:
        raise Misfit(f"lacks {listed(missing)} of the {len(expected)} tensors of its {title}")
    for name, shape in expected.items():
        if shapes[name] != shape:
            raise Misfit(
                f"has the {title} tensor {spelled[name]} with shape {list(shapes[name])}, "
                f"where {list(shape)} would fit the others"
            )
    return list(expected)


def listed(names: Iterable[str]) -> str:
    """How many names, and the first few."""
    names = sorted(set(names))
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"{len(names)} ({shown})"


def _shape(shapes: Shapes, network: str, name: str) -> tuple[int, ...]:
    """Shape of a weight that tells the architecture."""
    if len(shapes.get(name, ())) < 2:
        raise Misfit(f"lacks {name}, without which its {TITLES[network]} cannot be told")
    return shapes[name]


Depths = list["int | None"]
"""Transformer layers behind each resnet of a block; None where there is no attention."""


def _depths(shapes: Shapes, block: str) -> Depths:
    depths: Depths = []
    for index in range(count(shapes, rf"{block}\.resnets\.(\d+)\.")):
        attention = f"{block}.attentions.{index}"
        present = any(name.startswith(f"{attention}.") for name in shapes)
        layers = count(shapes, rf"{attention}\.transformer_blocks\.(\d+)\.")
        depths.append(layers if present else None)
    return depths


def _has_attention(depths: Depths) -> bool:
    return any(depth is not None for depth in depths)


def _block_type(plain: str, depths: Depths) -> str:
    return f"CrossAttn{plain}" if _has_attention(depths) else plain


def _transformer_layers(down: list[Depths], mid: Depths, up: list[Depths]) -> Config:
    """Transformer layers a level, said as shortly as diffusers lets it be said.

    diffusers gives the mid block the last level's number, and ignores that of a level without
    attention, which is 1 by custom.
    """
    down_layers = [_level_layers(depths) for depths in down]
    up_layers = [_level_layers(depths) for depths in up]
    if not _has_attention(down[-1]):
        down_layers[-1] = _level_layers(mid[:1])
    if not _has_attention(up[0]):
        up_layers[0] = down_layers[-1]
    if up_layers[::-1] == down_layers:
        return {"transformer_layers_per_block": _one_if_equal(down_layers)}
    return {
        "transformer_layers_per_block": down_layers,
        "reverse_transformer_layers_per_block": up_layers,
    }


def _level_layers(depths: Depths) -> int | list[int]:
    return _one_if_equal([1 if depth is None else depth for depth in depths] or [1])


def _one_if_equal(values: list[Any]) -> Any:
    return values[0] if all(value == values[0] for value in values) else values


def _cross_attention_dim(shapes: Shapes) -> int:
    for name in shapes:
        if name.endswith("attn2.to_k.weight"):
            return _shape(shapes, "unet", name)[1]
    raise Misfit("has a UNet without cross-attention, so no text could steer it")


def _linear_projection(shapes: Shapes) -> bool:
    return any(
        name.endswith(".proj_in.weight") and len(shape) == 2 for name, shape in shapes.items()
    )
