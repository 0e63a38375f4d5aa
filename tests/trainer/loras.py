"""LoRA files with random weights, and what they add, computed apart in float64."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dmm.tensors import save_tensors

RANK = 3


def factors(shape: tuple[int, ...], seed: int, rank: int = RANK) -> tuple[Tensor, Tensor]:
    """Random `down` and `up` for a weight [out, in] or [out, in, h, w]."""
    generator = torch.Generator().manual_seed(seed)
    down = torch.randn(rank, *shape[1:], generator=generator) * 0.1
    up = torch.randn(shape[0], rank, *(1 for _ in shape[2:]), generator=generator) * 0.1
    return down, up


def product(down: Tensor, up: Tensor, scale: float) -> np.ndarray:
    """scale · up · down by numpy in float64, in the shape of the weight."""
    left = up.double().numpy().reshape(len(up), -1)
    right = down.double().numpy().reshape(len(down), -1)
    return (scale * left @ right).reshape(len(up), *down.shape[1:])


def write_lora(
    path: Path,
    names: Mapping[str, str],
    weights: Mapping[str, Tensor],
    *,
    ends: tuple[str, str] = ("lora_down.weight", "lora_up.weight"),
    alpha: float | None = None,
    metadata: Mapping[str, str] | None = None,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Writes a LoRA, and gives what it adds to each weight.

    Args:
        names: weight -> its module as the file shall spell it.
        weights: the network's tensors, for their shapes.
        ends: how the file calls `down` and `up`.
        alpha: None leaves it out, and its scale is 1.
    """
    tensors, added = {}, {}
    for number, (weight, module) in enumerate(names.items()):
        down, up = factors(tuple(weights[weight].shape), seed * 1000 + number)
        tensors |= {f"{module}.{ends[0]}": down, f"{module}.{ends[1]}": up}
        if alpha is not None:
            tensors[f"{module}.alpha"] = torch.tensor(alpha)
        added[weight] = product(down, up, 1 if alpha is None else alpha / RANK)
    save_tensors(path, tensors, metadata or {"made": "by hand"})
    return added


def layers(network: nn.Module) -> list[str]:
    """The weights of all linear and convolutional layers."""
    return [
        f"{name}.weight"
        for name, module in network.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d))
    ]


def assert_changed(
    found: Mapping[str, Tensor],
    before: Mapping[str, Tensor],
    added: Iterable[dict[str, np.ndarray]],
) -> None:
    """Every tensor is what it was and what was added, computed in float64."""
    added = list(added)
    assert set(found) == set(before)
    for key, tensor in before.items():
        changes = [change[key] for change in added if key in change]
        if not changes:
            assert torch.equal(found[key], tensor), key
        else:
            expected = tensor.double().numpy() + sum(c.reshape(tensor.shape) for c in changes)
            assert not np.allclose(expected, tensor.double().numpy(), atol=1e-4), key
            np.testing.assert_allclose(
                found[key].double().numpy(), expected, atol=2e-6, err_msg=key
            )
