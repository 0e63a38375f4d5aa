"""Tensors that are computed when they are asked for, so that one at a time is in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor


class Computed(Mapping[str, Tensor]):
    """A tensor for each name of a mapping, computed from the name.

    Args:
        names: any mapping; only its keys are read here.
    """

    def __init__(self, names: Mapping[str, object], compute: Callable[[str], Tensor]) -> None:
        self._names = names
        self._compute = compute

    def __getitem__(self, name: str) -> Tensor:
        return self._compute(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def stored(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> Computed:
    """Tensors as a file keeps them: whole numbers as they are, all others in `dtype`."""

    def store(name: str) -> Tensor:
        tensor = tensors[name]
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    return Computed(tensors, store)
