"""A LoRA's file: opened, its tensors sorted by what they change, or refused with the reason."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite, sqrt
from pathlib import Path

from dmm.errors import DmmError
from dmm.layouts import UNET_PREFIX
from dmm.tensors import TensorFile, open_tensors
from trainer.architecture import Misfit, listed
from trainer.checkpoint import Checkpoint
from trainer.hashed_files import HashedFiles
from trainer.lora.factors import SUFFIXES, Factors
from trainer.lora.kinds import made_for, other_kind
from trainer.lora.names import NETWORKS, spellings
from trainer.recognise import recognise

ADAPTER_METADATA = "lora_adapter_metadata"
"""Where diffusers says α; its files have no `alpha` tensors."""

MERGE_IT = "Merge it into its checkpoint with the tool it was made with, and give that."


@dataclass(frozen=True)
class Lora:
    """A LoRA and how strongly it applies.

    Attributes:
        modules: module as the file spells it -> factor -> the tensor's name in the file.
        weight: what its changes are multiplied by.
    """

    file: TensorFile
    modules: Mapping[str, Mapping[str, str]]
    weight: float

    @property
    def path(self) -> Path:
        return self.file.path

    @cached_property
    def hashed(self) -> HashedFiles:
        return HashedFiles([self.path], self.path.name)

    def __str__(self) -> str:
        return self.path.name if self.weight == 1 else f"{self.weight:g} × {self.path.name}"

    @property
    def ranks(self) -> list[int]:
        """All ranks of its changes, the smallest first."""
        parts = [keys.get("down", keys.get("w1_b")) for keys in self.modules.values()]
        shapes = [self.file.shape(key) for key in parts if key]
        return sorted({shape[0] for shape in shapes if shape})

    def changes(self, checkpoint: Checkpoint) -> list[tuple[str, str, Factors]]:
        """What it changes in a checkpoint: network, weight by its name in diffusers, change.

        Raises:
            DmmError: a part of it fits nothing in the checkpoint.
        """
        places = {
            spelled: (network, weight)
            for network in NETWORKS
            if network in checkpoint.networks
            for spelled, weight in spellings(network, checkpoint.networks[network].tensors).items()
        }
        strangers = [module for module in self.modules if module not in places]
        if strangers:
            raise self._misfit(
                checkpoint,
                f"{listed(strangers)} of the {len(self.modules)} modules it changes are not there",
            )
        changes = []
        for module, keys in self.modules.items():
            network, weight = places[module]
            factors = self._factors(keys)
            if "down" in keys and self.file.metadata.get(ADAPTER_METADATA):
                factors = replace(factors, scale=self._said_scale(network, module, factors.rank))
            shape = tuple(checkpoint.networks[network].tensors[weight].shape)
            if not factors.fits(shape):
                raise self._misfit(
                    checkpoint,
                    f"its change of {module} has shape {list(factors.shape)}, the weight there "
                    f"{list(shape)}",
                )
            changes.append((network, weight, factors))
        return changes

    def _factors(self, keys: Mapping[str, str]) -> Factors:
        try:
            return Factors(self.file, keys)
        except Misfit as misfit:
            raise DmmError(f"{self.path} {misfit}. Download or copy it again.") from misfit

    def _misfit(self, checkpoint: Checkpoint, reason: str) -> DmmError:
        architecture = made_for(self.file)
        guess = f" It seems to be made for {architecture}." if architecture else ""
        return DmmError(
            f"{self.path} does not fit {checkpoint.path}: {reason}.{guess} Choose a LoRA of the "
            "checkpoint's architecture."
        )

    def _said_scale(self, network: str, module: str, rank: int) -> float:
        """α/r as diffusers' metadata says it; 1 where they are silent about it."""
        try:
            entry = json.loads(self.file.metadata[ADAPTER_METADATA])
            patterns = entry.get(f"{network}.alpha_pattern") or {}
            ends = [alpha for end, alpha in patterns.items() if f".{module}".endswith(f".{end}")]
            alpha = float([*ends, entry.get(f"{network}.lora_alpha", rank)][0])
            if not isfinite(alpha):
                raise ValueError(f"{alpha} is no strength")
            return alpha / (sqrt(rank) if entry.get(f"{network}.use_rslora") else rank)
        except (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise DmmError(
                f"{self.path} says its strength in its metadata ({ADAPTER_METADATA}) in a way that "
                f"cannot be read: {error}. Download it again."
            ) from error


def open_lora(path: str | Path, weight: float = 1.0, besides: Collection[str] = ()) -> Lora:
    """Opens a LoRA, LoCon or LoHa in the spelling of kohya, diffusers or ComfyUI.

    Args:
        besides: tensors of the file that are no part of the LoRA.

    Raises:
        DmmError: the file cannot be read, is of another kind, or holds something unknown.
    """
    file = open_tensors(path)
    own = [key for key in file if key not in besides]
    modules: dict[str, dict[str, str]] = {}
    unknown = []
    for key in own:
        suffix = next((suffix for suffix in SUFFIXES if key.endswith(suffix)), None)
        if suffix is None:
            unknown.append(key)
        else:
            modules.setdefault(key.removesuffix(suffix), {})[SUFFIXES[suffix]] = key
    if other := other_kind(own):
        kind, names = other
        raise DmmError(
            f"{path} is {kind}: {listed(names)}. LoRA, LoCon and LoHa can be used here. {MERGE_IT}"
        )
    if not modules:
        whole = any(key.startswith(UNET_PREFIX) for key in file)
        kind = "a checkpoint" if whole else recognise(file)
        raise DmmError(f"{path} is {kind}; a LoRA is needed here.")
    if unknown:
        raise DmmError(
            f"{path} holds tensors besides its LoRA that cannot be used here: {listed(unknown)}. "
            f"{MERGE_IT}"
        )
    return Lora(file, modules, weight)
