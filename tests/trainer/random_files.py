"""Model files of any size with random weights, written without ever holding a whole network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from dmm.layouts import CONTROLNET_PREFIX, controlnet_to_single, single_file_tensors
from dmm.tensors import save_tensors
from tests.trainer.loras import factors
from tests.trainer.sizes import Model
from trainer.architecture import Config, network_shapes
from trainer.lora import kohya_names

SPREAD = 0.02


class RandomTensors(Mapping[str, Tensor]):
    """A network's tensors in fp16, made as they are read.

    All are cut from one strip of noise, each at a place of its own: to draw a billion numbers for
    every file would take longer than what is tested with them.
    """

    def __init__(self, network: str, config: Config, seed: int) -> None:
        self.shapes = network_shapes(network, config)
        largest = max(map(math.prod, self.shapes.values()))
        generator = torch.Generator().manual_seed(seed)
        count = largest + 1000 * len(self.shapes)
        self._noise = torch.randn(count, generator=generator).mul_(SPREAD).half()
        self._place = {name: 1000 * number for number, name in enumerate(self.shapes)}

    def __getitem__(self, key: str) -> Tensor:
        shape = self.shapes[key]
        return self._noise[self._place[key] :][: math.prod(shape)].view(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def write_checkpoint(path: Path, model: Model, seed: int) -> None:
    """All of a model in one file."""
    tensors = {name: RandomTensors(name, config, seed) for name, config in model.networks.items()}
    encoders = [found for name, found in tensors.items() if name.startswith("text_encoder")]
    save_tensors(
        path, single_file_tensors(model.family, tensors["unet"], tensors["vae"], encoders), {}
    )


def write_unet_lora(path: Path, model: Model, seed: int) -> None:
    """A LoRA on the whole UNet, in kohya's spelling.

    It changes the weights a little, as real ones do.
    """
    unet = RandomTensors("unet", model.networks["unet"], seed)
    tensors = {}
    for number, (weight, module) in enumerate(kohya_names("unet", unet, model.family).items()):
        if len(unet.shapes[weight]) > 1:
            down, up = factors(unet.shapes[weight], seed * 1000 + number)
            tensors[f"{module}.lora_down.weight"] = down
            tensors[f"{module}.lora_up.weight"] = up * SPREAD
    save_tensors(path, tensors, {})


def write_random_controlnet(path: Path, model: Model, seed: int) -> None:
    """In the layout of ControlNet's authors."""
    net = RandomTensors("controlnet", model.controlnet, seed)
    tensors = {
        CONTROLNET_PREFIX + name: source.read(net)
        for name, source in controlnet_to_single(net).items()
    }
    save_tensors(path, tensors, {})
