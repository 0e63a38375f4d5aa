"""The student as an adapter: a LoRA (arXiv 2106.09685) learns, and the base stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor, nn

from dmm.metadata import Family
from trainer.config import Adapter
from trainer.lora import kohya_names

ATTENTION = "attentions."
"""In the names of what `layers: attention` trains: the transformers of a UNet."""


class LowRank(nn.Module):
    """What is added to a layer's output, up · down · input; 0 before the first step."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, rank: int) -> None:
        super().__init__()
        self.down: nn.Module
        self.up: nn.Module
        if isinstance(layer, nn.Conv2d):
            seen = (layer.kernel_size, layer.stride, layer.padding)
            self.down = nn.Conv2d(layer.in_channels, rank, *seen, bias=False)
            self.up = nn.Conv2d(rank, layer.out_channels, 1, bias=False)
        else:
            self.down = nn.Linear(layer.in_features, rank, bias=False)
            self.up = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.up(self.down(inputs.to(self.down.weight.dtype)))


def add_adapter(unet: nn.Module, said: Adapter) -> None:
    """Freezes a UNet and gives its layers what learns in their place, in float32."""
    unet.requires_grad_(False)
    for name, layer in list(unet.named_modules()):
        if isinstance(layer, (nn.Linear, nn.Conv2d)) and _is_trained(name, said):
            layer.lora = LowRank(layer, said.rank)
            layer.register_forward_hook(_add_low_rank)


def lora_tensors(unet: nn.Module, family: Family) -> dict[str, Tensor]:
    """The LoRA of a UNet that was given one, in kohya's spelling, which every host reads."""
    trained = {name: layer.lora for name, layer in unet.named_modules() if hasattr(layer, "lora")}
    spelled = kohya_names(
        "unet", (name for name in unet.state_dict() if ".lora." not in name), family
    )
    tensors = {}
    for name, lora in trained.items():
        module = spelled[f"{name}.weight"]
        tensors |= {
            f"{module}.lora_down.weight": lora.down.weight,
            f"{module}.lora_up.weight": lora.up.weight,
            f"{module}.alpha": torch.tensor(float(len(lora.down.weight))),
        }
    return tensors


def trained_parameters(unet: Mapping[str, Tensor], said: Adapter) -> int:
    """How many numbers `add_adapter` adds to a UNet with these tensors."""
    return sum(
        said.rank * (len(tensor) + prod(tensor.shape[1:]))
        for name, tensor in unet.items()
        if tensor.ndim > 1 and _is_trained(name, said)
    )


def _is_trained(name: str, said: Adapter) -> bool:
    return said.layers == "all" or ATTENTION in name


def _add_low_rank(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    return output + layer.lora(inputs[0]).to(output.dtype)
