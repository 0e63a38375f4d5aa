"""One network of a checkpoint: its config, and its tensors, read when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dmm import layouts
from dmm.layouts import Renamed, Source
from dmm.tensors import TensorFile
from trainer.architecture import (
    Config,
    Misfit,
    Shapes,
    check_tensors,
    empty_network,
    file_name,
    listed,
)

Renaming = Callable[[Iterable[str]], dict[str, Source]]
"""From the tensor names of one layout to where each of the other layout's comes from."""


@dataclass(frozen=True)
class Network:
    """A UNet, VAE or text encoder.

    Attributes:
        name: a key of `trainer.architecture.NETWORKS`.
        config: keyword arguments of its class in diffusers or transformers.
        tensors: exactly those the network has, by the names in diffusers' or transformers' files.
    """

    name: str
    config: Config
    tensors: Mapping[str, Tensor]

    def load(self, dtype: torch.dtype) -> nn.Module:
        """The network on the CPU, with a copy of the tensors of its own."""
        module = empty_network(self.name, self.config)
        weights = {
            name: self.tensors[file_name(self.name, name)].to(dtype, copy=True)
            for name in module.state_dict()
        }
        module.load_state_dict(weights, assign=True)
        _fill_position_ids(module)
        return module.eval()


def checked_network(
    name: str,
    config: Config,
    tensors: Renamed,
    shapes: Shapes,
    spell: Callable[[Iterable[str]], Mapping[str, str]] | None = None,
) -> Network:
    """A network whose tensors are all there; tensors that it does not use are left out.

    Args:
        tensors: in diffusers' names.
        spell: all the network's names -> how the file spells each, for messages.

    Raises:
        Misfit: tensors are missing, have other shapes, or (UNet) do not belong.
    """
    needed = check_tensors(name, config, shapes, spell)
    kept = Renamed(tensors.tensors, {key: tensors.sources[key] for key in needed})
    if name == "unet":
        _refuse_strangers(kept)
    return Network(name, config, kept)


def without_values(file: TensorFile) -> dict[str, Tensor]:
    """The file's tensors on the meta device, which has shapes only."""
    return {key: torch.empty(file.shape(key), device="meta") for key in file}


def shapes_of(tensors: Renamed) -> dict[str, tuple[int, ...]]:
    """Shapes under the names of the other layout.

    Raises:
        Misfit: a tensor has a shape that cannot be taken to the other layout.
    """
    shapes = {}
    for key in tensors:
        try:
            shapes[key] = tuple(tensors[key].shape)
        except (RuntimeError, IndexError) as error:
            stored = ", ".join(tensors.sources[key].keys)
            raise Misfit(f"has {stored} in a shape that no {key} has: {error}") from error
    return shapes


def style_tensors(unet: Mapping[str, Tensor]) -> Renamed:
    """The style tensors among a UNet's tensors."""
    return Renamed(unet, {key: Source((key,)) for key in sorted(layouts.style_keys(unet))})


def _refuse_strangers(unet: Renamed) -> None:
    """A UNet with tensors that diffusers' UNet does not use computes something else."""
    used = {key for source in unet.sources.values() for key in source.keys}
    strangers = set(unet.tensors) - used - layouts.style_keys(unet.tensors)
    if strangers:
        raise Misfit(f"has {listed(strangers)} tensors in its UNet that do not belong there")


def _fill_position_ids(module: nn.Module) -> None:
    """Give CLIP its position ids, a buffer that files leave out and the meta device left empty."""
    for part in module.modules():
        ids = getattr(part, "position_ids", None)
        if isinstance(ids, Tensor) and ids.is_meta:
            part.position_ids = torch.arange(ids.shape[-1]).expand(ids.shape)
