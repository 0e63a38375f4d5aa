"""Small files for those whom styles meet: ControlNets, an IP-Adapter, a LoRA; and their arguments.

They are made for a checkpoint's UNet, with random weights that are plainly seen.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dmm.layouts import CONTROLNET_PREFIX, UNET_PREFIX
from tests.comfyui.checkpoints import small_styles, styles_metadata, write_lora
from tests.webui.server import WebUI, encoded

CONTROLNET, IP_ADAPTER, LORA = "small_controlnet", "small_ip-adapter", "small_lora"
CONTROLS = ("canny", "depth", "pose")
MERGED_CONTROLNET = "canny_depth_pose"  # hosts find it by the kind of control that is chosen
CONTROLNET_PACK = "sd-webui-controlnet"
TILED_DIFFUSION_PACK = "multidiffusion-upscaler-for-automatic1111"

_TEXT_WIDTH = 768
_IMAGE_WIDTH = 64  # of the picture's embedding that the IP-Adapter takes
_IMAGE_TOKENS = 4
_HINT_CHANNELS = (16, 16, 32, 32, 96, 96, 256)

Args = dict[str, dict[str, list[Any]]]  # what the API takes for a script, by its title


def write_companions(models: Path, checkpoint: Path) -> None:
    """Writes them into the folders where both hosts look for them."""
    for folder in ("ControlNet", "Lora"):
        (models / folder).mkdir(parents=True, exist_ok=True)
    unet = {
        name.removeprefix(UNET_PREFIX): tensor
        for name, tensor in load_file(checkpoint).items()
        if name.startswith(UNET_PREFIX)
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        save_file(_controlnet(unet), models / "ControlNet" / f"{CONTROLNET}.safetensors")
        save_file(_ip_adapter(unet), models / "ControlNet" / f"{IP_ADAPTER}.safetensors")
        _write_merged_controlnet(models / "ControlNet", _controlnet(unet))
    write_lora(models / "Lora" / f"{LORA}.safetensors", checkpoint)


def controlnet(webui: WebUI, picture: np.ndarray) -> Args:
    """The API's arguments for the ControlNet, with a picture as its hint."""
    none = "none" if webui.kind == "webui" else "None"
    unit = {"model": _model(webui, CONTROLNET), "module": none, "image": encoded(picture)}
    return {"controlnet": {"args": [unit | {"enabled": True, "weight": 1.0}]}}


def ip_adapter(webui: WebUI) -> Args:
    """The API's arguments for the IP-Adapter, with an embedding in the place of a picture."""
    file = io.BytesIO()
    generator = torch.Generator().manual_seed(4)
    torch.save({"image_embeds": torch.randn(1, _IMAGE_WIDTH, generator=generator)}, file)
    embedding = base64.b64encode(file.getvalue()).decode()
    unit = {"model": _model(webui, IP_ADAPTER), "module": "ip-adapter_clip_h"}
    return {"controlnet": {"args": [unit | {"enabled": True, "ipadapter_input": [embedding]}]}}


def tiled_diffusion(
    webui: WebUI, method: str, overlap: int, *, tiles: int = 4, parts: list[list[Any]] | None = None
) -> Args:
    """The API's arguments for tiles of 64 x 64 pixels: of Tiled Diffusion, or Forge's own.

    Args:
        overlap: of neighbours, in latents.
        tiles: how many make a batch.
        parts: those with a prompt of their own (see `part`), instead of a background in tiles.
    """
    if webui.kind != "webui":
        args = [True, method, 64, 64, 8 * overlap, tiles]
        return {"multidiffusion integrated": {"args": args}}
    size, upscaling = [False, True, 1024, 1024, 8, 8, overlap, tiles], ["None", 2.0]
    noise_inversion, control_on_cpu = [False, 10, 1, 1, 64], [False]
    control = [parts is not None, False, False, *(value for one in parts or [] for value in one)]
    args = [True, method, *size, *upscaling, *noise_inversion, *control_on_cpu, *control]
    return {"tiled diffusion": {"args": args}}


def part(x: float, y: float, width: float, height: float, prompt: str) -> list[Any]:
    """A part of the picture with a prompt of its own."""
    return [True, x, y, width, height, prompt, "", "Background", 0.2, 1]


def _model(webui: WebUI, name: str) -> str:
    """A ControlNet's or IP-Adapter's name as the host lists it."""
    models = webui.get("/controlnet/model_list", update="true")["model_list"]
    return next(model for model in models if model.startswith(name))


def _random(*shape: int) -> Tensor:
    fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
    return torch.randn(shape) / fan_in**0.5


def _controlnet(unet: dict[str, Tensor]) -> dict[str, Tensor]:
    """The UNet's own encoder, which takes a hint and whose outputs are added to the UNet's."""
    encoder = ("time_embed.", "input_blocks.", "middle_block.")
    net = {name: tensor.float() for name, tensor in unet.items() if name.startswith(encoder)}
    channels = list(_block_channels(unet))
    for number, width in enumerate(channels):
        net[f"zero_convs.{number}.0.weight"] = _random(width, width, 1, 1)
        net[f"zero_convs.{number}.0.bias"] = torch.zeros(width)
    net["middle_block_out.0.weight"] = _random(channels[-1], channels[-1], 1, 1)
    net["middle_block_out.0.bias"] = torch.zeros(channels[-1])
    widths = (3, *_HINT_CHANNELS, channels[0])
    for number, (before, after) in enumerate(pairwise(widths)):
        net[f"input_hint_block.{2 * number}.weight"] = 2 * _random(after, before, 3, 3)
        net[f"input_hint_block.{2 * number}.bias"] = torch.zeros(after)
    return net


def _write_merged_controlnet(folder: Path, net: dict[str, Tensor]) -> None:
    """And a plain one for each of its controls, "only_canny", whose vector is in a bias."""
    bias = "time_embed.2.bias"
    controls = small_styles(CONTROLS, seed=5, dim=len(net[bias]))
    with torch.no_grad():
        controls.prompts.linear_2.weight *= 16  # to be seen beside all that is random in the net
        vectors = controls.prompts(torch.eye(len(CONTROLS)))
    merged = {CONTROLNET_PREFIX + name: tensor for name, tensor in net.items()}
    merged |= controls.tensors(CONTROLNET_PREFIX)
    save_file(merged, folder / f"{MERGED_CONTROLNET}.safetensors", styles_metadata(controls))
    for name, vector in zip(CONTROLS, vectors, strict=True):
        save_file(net | {bias: net[bias] + vector}, folder / f"only_{name}.safetensors")


def _block_channels(unet: dict[str, Tensor]) -> Iterator[int]:
    last_layers = ("weight", "out_layers.3.weight", "op.weight")
    number = 0
    while found := [
        unet[name]
        for name in (f"input_blocks.{number}.0.{layer}" for layer in last_layers)
        if name in unet
    ]:
        yield len(found[0])
        number += 1


def _ip_adapter(unet: dict[str, Tensor]) -> dict[str, Tensor]:
    """A key and a value for each of the UNet's attentions to text, in the adapter's order."""
    stages = ("input_blocks", "output_blocks", "middle_block")
    keys = [
        name
        for stage in stages
        for name in sorted(
            (
                name
                for name in unet
                if name.startswith(stage) and name.endswith("attn2.to_k.weight")
            ),
            key=lambda name: int(name.split(".")[1]),
        )
    ]
    net = {
        "image_proj.proj.weight": _random(_IMAGE_TOKENS * _TEXT_WIDTH, _IMAGE_WIDTH),
        "image_proj.proj.bias": torch.zeros(_IMAGE_TOKENS * _TEXT_WIDTH),
        "image_proj.norm.weight": torch.ones(_TEXT_WIDTH),
        "image_proj.norm.bias": torch.zeros(_TEXT_WIDTH),
    }
    for number, name in enumerate(keys):
        for kind in ("k", "v"):
            weight = 8 * _random(len(unet[name]), _TEXT_WIDTH)
            net[f"ip_adapter.{2 * number + 1}.to_{kind}_ip.weight"] = weight
    return net
