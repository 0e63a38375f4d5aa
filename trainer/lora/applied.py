"""A checkpoint with LoRAs on it, which the rest of the trainer takes for a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from dmm.computed import Computed
from trainer.checkpoint import Checkpoint
from trainer.fingerprint import fingerprint
from trainer.lora.factors import Factors
from trainer.lora.file import Lora


@dataclass(frozen=True)
class LoraCheckpoint(Checkpoint):
    """A checkpoint whose tensors are changed as they are read.

    Attributes:
        plain: the checkpoint without them.
    """

    plain: Checkpoint
    loras: tuple[Lora, ...]

    @property
    def kind(self) -> str:
        return "lora"

    @property
    def source(self) -> str:
        return " + ".join([self.plain.source, *map(str, self.loras)])

    @property
    def made_of(self) -> Mapping[str, Any]:
        return {
            "checkpoint": {"path": self.plain.source, "sha256": self.plain.sha256},
            "loras": [
                {"path": lora.path.name, "sha256": lora.hashed.sha256, "weight": lora.weight}
                for lora in self.loras
            ],
        }

    @cached_property
    def sha256(self) -> str:
        """Hash of the hashes of checkpoint and LoRAs, and of the weights."""
        loras = [(lora.hashed.sha256, lora.weight) for lora in self.loras]
        return fingerprint("loras on a checkpoint", self.plain.sha256, loras)

    def refuse_changed(self) -> None:
        self.plain.refuse_changed()
        for lora in self.loras:
            lora.hashed.refuse_changed()


def with_loras(checkpoint: Checkpoint, loras: Sequence[Lora]) -> LoraCheckpoint:
    """The checkpoint with LoRAs on it, one after the other; nothing is computed yet.

    Raises:
        DmmError: a LoRA does not fit the checkpoint.
    """
    added: dict[str, dict[str, list[tuple[float, Factors]]]] = {}
    for lora in loras:
        for network, weight, factors in lora.changes(checkpoint):
            of_network = added.setdefault(network, {})
            of_network.setdefault(weight, []).append((lora.weight, factors))
    networks = {
        name: replace(network, tensors=_changed(network.tensors, added[name]))
        if name in added
        else network
        for name, network in checkpoint.networks.items()
    }
    same = {field.name: getattr(checkpoint, field.name) for field in fields(Checkpoint)}
    return LoraCheckpoint(**(same | {"networks": networks}), plain=checkpoint, loras=tuple(loras))


def _changed(
    tensors: Mapping[str, Tensor], changes: Mapping[str, Sequence[tuple[float, Factors]]]
) -> Computed:
    """Tensors with changes added as they are read: W + Σ weight · ΔW, in float32.

    Those that nothing changes stay as they are.
    """

    def change(key: str) -> Tensor:
        tensor = tensors[key]
        for weight, factors in changes.get(key, ()):
            tensor = factors.change(weight).reshape(tensor.shape).add_(tensor)
        return tensor

    return Computed(tensors, change)
