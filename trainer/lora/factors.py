"""What a LoRA adds to one weight, stored as factors.

LoRA (arXiv 2106.09685): ΔW = α/r · up · down; for a convolution, `down` has r channels and `up` is
1x1, and LoCon may put a `mid` between them. LoHa (LyCORIS, arXiv 2309.14859): ΔW = α/r ·
(w1_a w1_b) ⊙ (w2_a w2_b), with a core `t` in each product where a convolution is decomposed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, prod

import torch
from torch import Tensor

from dmm.tensors import TensorFile
from trainer.architecture import Misfit

SUFFIXES = {
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".lora_mid.weight": "mid",
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    "_lora.down.weight": "down",
    "_lora.up.weight": "up",
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    ".hada_w1_a": "w1_a",
    ".hada_w1_b": "w1_b",
    ".hada_w2_a": "w2_a",
    ".hada_w2_b": "w2_b",
    ".hada_t1": "t1",
    ".hada_t2": "t2",
    ".alpha": "alpha",
}
"""The end of a tensor's name -> which factor it is."""

COMPLETE = (
    {"up", "down"},
    {"up", "mid", "down"},
    {"w1_a", "w1_b", "w2_a", "w2_b"},
    {"w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2"},
)
"""The factors that make a change, `alpha` aside."""


@dataclass(frozen=True)
class Factors:
    """The factors of one change, in a file; read when they are multiplied.

    Attributes:
        keys: factor -> its name in the file.
        scale: α/r where the file has no `alpha` for this change.

    Raises:
        Misfit: factors are missing, or do not go together.
    """

    file: TensorFile
    keys: Mapping[str, str]
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.keys.keys() - {"alpha"} not in COMPLETE:
            raise Misfit(f"has only a part of a change: {', '.join(sorted(self.keys.values()))}")
        try:
            sound = self.rank > 0 and len(self.shape) > 1
            sound = sound and ("alpha" not in self.keys or prod(self._shape("alpha")) == 1)
        except (RuntimeError, IndexError):
            sound = False
        if not sound:
            shapes = [f"{key} {list(self.file.shape(key))}" for key in self.keys.values()]
            raise Misfit(f"has tensors that make no change: {', '.join(shapes)}")
        if "alpha" in self.keys and not isfinite(self._alpha):
            raise Misfit(f"has no strength: {self.keys['alpha']} is {self._alpha}")

    @property
    def rank(self) -> int:
        return self._shape("w1_b" if "w1_b" in self.keys else "down")[0]

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """[out, in] or [out, in, h, w] of the change; LoHa's may be [out, in · h · w]."""
        parts = {part: torch.empty(self._shape(part), device="meta") for part in self.keys}
        return tuple(_product(parts).shape)

    def fits(self, weight: tuple[int, ...]) -> bool:
        """Whether a weight of this shape can be changed; 1x1 convolutions are linear layers."""
        return prod(self.shape) == prod(weight) and self.shape[0] == weight[0]

    def change(self, weight: float = 1.0) -> Tensor:
        """weight · ΔW in float32, of `shape`; a tensor of its own."""
        parts = {part: self.file[key].float() for part, key in self.keys.items()}
        scale = self._alpha / self.rank if "alpha" in parts else self.scale
        first = "up" if "up" in parts else "w1_a"
        parts[first] = parts[first] * (weight * scale)
        return _product(parts)

    @cached_property
    def _alpha(self) -> float:
        return float(self.file[self.keys["alpha"]])

    def _shape(self, part: str) -> tuple[int, ...]:
        return self.file.shape(self.keys[part])


def _product(parts: Mapping[str, Tensor]) -> Tensor:
    if "w1_a" in parts:
        return _hadamard_factor(parts, "1") * _hadamard_factor(parts, "2")
    up, down = parts["up"].flatten(1), parts["down"]
    if "mid" in parts:
        return _around(parts["mid"], up.T, down.flatten(1))
    return (up @ down.flatten(1)).reshape(len(up), *down.shape[1:])


def _hadamard_factor(parts: Mapping[str, Tensor], number: str) -> Tensor:
    a, b = parts[f"w{number}_a"], parts[f"w{number}_b"]
    if f"t{number}" in parts:
        return _around(parts[f"t{number}"], a, b)
    return a @ b


def _around(core: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Σ core[r, s, …] left[r, o] right[s, i], as [o, i, …].

    The longer of the two sums comes first, so that little is held between them, whatever the file.
    """
    if len(left) > len(right):
        return torch.einsum("so...,si->oi...", torch.einsum("rs...,ro->so...", core, left), right)
    return torch.einsum("ri...,ro->oi...", torch.einsum("rs...,si->ri...", core, right), left)
