"""The tools of the layouts: prefix tables, and tensors seen under other names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

Table = dict[str, str]
"""Prefix of a tensor name in the single file -> the same in diffusers."""


def unchanged(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True)
class Source:
    """Where a tensor of one layout comes from in the other: its names there, and what to do."""

    keys: tuple[str, ...]
    change: Callable[..., Tensor] = unchanged

    def read(self, tensors: Mapping[str, Tensor]) -> Tensor:
        return self.change(*(tensors[key] for key in self.keys))


class Renamed(Mapping[str, Tensor]):
    """Tensors under the names of the other layout; none is read before it is asked for."""

    def __init__(self, tensors: Mapping[str, Tensor], sources: Mapping[str, Source]) -> None:
        self.tensors = tensors
        self.sources = sources

    def __getitem__(self, key: str) -> Tensor:
        return self.sources[key].read(self.tensors)

    def __iter__(self) -> Iterator[str]:
        return iter(self.sources)

    def __len__(self) -> int:
        return len(self.sources)


def with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> Renamed:
    """The tensors whose names start with the prefix, under the rest of their names."""
    found = {key[len(prefix) :]: Source((key,)) for key in tensors if key.startswith(prefix)}
    return Renamed(tensors, found)


def rename(keys: Iterable[str], table: Table) -> dict[str, Source]:
    """Rename by the longest prefix in the table; a name that no prefix fits is left out."""
    sources = {}
    for key in keys:
        head, _, tail = key.rpartition(".")
        while head and head not in table:
            head, _, part = head.rpartition(".")
            tail = f"{part}.{tail}"
        if head:
            sources[f"{table[head]}.{tail}"] = Source((key,))
    return sources


def inverse(table: Table) -> Table:
    return {diffusers: single for single, diffusers in table.items()}


def count(keys: Iterable[str], pattern: str) -> int:
    """One more than the largest number that the pattern's group finds at the start of a name."""
    numbers = [int(match[1]) for key in keys if (match := re.match(pattern, key))]
    # No network has a thousand blocks; a made-up name should not make us go through them.
    return max((number for number in numbers if number < 1000), default=-1) + 1
