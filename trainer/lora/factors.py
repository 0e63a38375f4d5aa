"""What a LoRA adds to one weight, stored as factors.

LoRA (arXiv 2106.09685): ΔW = α/r · up · down; for a convolution, `down` is one of r channels and
`up` a 1x1 convolution; LoCon's `mid` stands between them. LoHa (LyCORIS, arXiv 2309.14859):
ΔW = α/r · (w1_a w1_b) ⊙ (w2_a w2_b), for a convolution with a core tensor t in each product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

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

LORA = ({"up", "down"}, {"mid"})
LOHA = ({"w1_a", "w1_b", "w2_a", "w2_b"}, {"t1", "t2"})
"""The factors there must be, and those there may be."""


@dataclass(frozen=True)
class Factors:
    """The factors of one change, in a file.

    Attributes:
        keys: factor -> its name in the file.
        scale: α/r where the file's metadata says it; an `alpha` tensor goes before.

    Raises:
        Misfit: factors are missing, or do not go together.
    """

    file: TensorFile
    keys: Mapping[str, str]
    scale: float | None = None

    def __post_init__(self) -> None:
        there = self.keys.keys() - {"alpha"}
        if not any(must <= there <= must | may for must, may in (LORA, LOHA)):
            raise Misfit(f"has only some of the tensors of a change: {', '.join(self.names)}")
        if len({"t1", "t2"} & there) == 1 or not self._fit_together():
            shapes = ", ".join(f"{key} {list(self.file.shape(key))}" for key in self.names)
            raise Misfit(f"has tensors that cannot be multiplied: {shapes}")

    @property
    def names(self) -> list[str]:
        return sorted(self.keys.values())

    @property
    def rank(self) -> int:
        return self._shape("w1_b" if "w1_b" in self.keys else "down")[0]

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether this can be added to a weight; linear layers and 1x1 convolutions are alike."""
        return prod(self.shape) == prod(shape) and self.shape[0] == shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """[out, in] or [out, in, h, w] of the change; LoHa's may be flat: [out, in · h · w]."""
        if "t1" in self.keys:
            return (self._shape("w1_a")[1], self._shape("w1_b")[1], *self._shape("t1")[2:])
        if "w1_a" in self.keys:
            return (self._shape("w1_a")[0], *self._shape("w1_b")[1:])
        kernel = self._shape("mid")[2:] if "mid" in self.keys else self._shape("down")[2:]
        return (self._shape("up")[0], self._shape("down")[1], *kernel)

    def multiplied(self) -> Tensor:
        """ΔW in float32, of `shape`."""
        parts = {part: self.file[key].float() for part, key in self.keys.items()}
        if "w1_a" in parts:
            change = _product(parts, "1") * _product(parts, "2")
        elif "mid" in parts:
            up, down = parts["up"].flatten(1), parts["down"].flatten(1)
            change = torch.einsum("or,rs...,si->oi...", up, parts["mid"], down)
        else:
            change = parts["up"].flatten(1) @ parts["down"].flatten(1)
        scale = 1.0 if self.scale is None else self.scale
        if "alpha" in parts:
            scale = parts["alpha"].item() / self.rank
        return change.mul_(scale).reshape(self.shape)

    def _shape(self, part: str) -> tuple[int, ...]:
        return self.file.shape(self.keys[part])

    def _fit_together(self) -> bool:
        if any(len(self._shape(part)) < 2 for part in self.keys if part != "alpha"):
            return False
        rank = self.rank
        sound = rank > 0 and ("alpha" not in self.keys or prod(self._shape("alpha")) == 1)
        if "up" in self.keys:
            up, down = self._shape("up"), self._shape("down")
            sound = sound and up[1] == rank and prod(up) == up[0] * rank
            if "mid" in self.keys:
                mid = self._shape("mid")
                sound = sound and mid[:2] == (rank, rank) and prod(down) == rank * down[1]
            return sound
        outer = 0 if "t1" in self.keys else 1  # where w_a has its rank
        for one in "12":
            a, b = self._shape(f"w{one}_a"), self._shape(f"w{one}_b")
            sound = sound and len(a) == len(b) == 2 and a[outer] == b[0]
            if outer == 0:
                sound = sound and self._shape(f"t{one}")[:2] == (a[0], b[0])
        same = ("a", "b", "t") if "t1" in self.keys else ("a", "b")
        for end in same:
            names = (f"t{one}" if end == "t" else f"w{one}_{end}" for one in "12")
            sound = sound and len({self._shape(name) for name in names}) == 1
        return sound


def _product(parts: Mapping[str, Tensor], number: str) -> Tensor:
    """One of LoHa's two factors, itself a product."""
    a, b = parts[f"w{number}_a"], parts[f"w{number}_b"]
    if f"t{number}" in parts:
        return torch.einsum("rs...,ro,si->oi...", parts[f"t{number}"], a, b)
    return a @ b
