"""A ControlNet's file or folder, in the layout of ControlNet's authors or of diffusers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dmm import layouts
from dmm.errors import DmmError
from dmm.layouts import CONTROLNET_PREFIX, Renamed, Source, with_prefix
from dmm.tensors import TensorFile, open_tensors
from trainer.architecture import (
    Family,
    Misfit,
    check_tensors,
    controlnet_config,
    controlnet_family,
    listed,
)
from trainer.checkpoint.network import Network, shapes_of, without_values
from trainer.recognise import recognise

MARKS = (f"{CONTROLNET_PREFIX}input_hint_block.", "input_hint_block.", "controlnet_cond_embedding.")
"""One of these begins the names of a ControlNet's first layers."""

FOLDER_FILES = tuple(
    f"diffusion_pytorch_model{variant}{suffix}"
    for suffix in (".safetensors", ".bin")
    for variant in ("", ".fp16")
)

OTHER_KINDS = {
    "a merged ControlNet, which cannot be a teacher": r"(control_model\.)?model_embedding\.",
    "a union of ControlNets, which is told its kind in a way of its own": (
        r"(control_model\.)?(task_embedding|control_add_embedding)"
    ),
    "a Control-LoRA, a part of a ControlNet": r"lora_controlnet$",
    "a difference between a ControlNet and its base": r"difference$",
}
"""What cannot be merged -> what one of its names begins with."""


@dataclass(frozen=True)
class ControlNetFile:
    """A ControlNet; opening it reads headers only."""

    path: Path
    family: Family
    network: Network
    weights: Path


def is_controlnet(path: Path) -> bool:
    """Whether a file or folder holds a ControlNet.

    Raises:
        DmmError: it cannot be read.
    """
    weights = _weights(path)
    return weights is not None and _is_controlnet(open_tensors(weights))


def open_controlnet(path: Path) -> ControlNetFile:
    """Opens a ControlNet for SD1.5 or SDXL, and checks that every tensor is there.

    Raises:
        DmmError: it cannot be read, is something else, lacks tensors, or has some besides.
    """
    weights = _weights(path)
    if weights is None:
        raise DmmError(f"{path} holds no {FOLDER_FILES[0]}. Give the folder that holds it.")
    file = open_tensors(weights)
    if not _is_controlnet(file):
        raise DmmError(f"{path} is {recognise(file)}; a ControlNet is needed here.")
    for kind, pattern in OTHER_KINDS.items():
        if any(re.match(pattern, key) for key in file):
            raise DmmError(f"{path} is {kind}. Choose the ControlNet of one control.")
    try:
        network = _network(file)
    except Misfit as misfit:
        raise DmmError(
            f"{path} {misfit}. A ControlNet for Stable Diffusion 1.x or SDXL is needed here."
        ) from misfit
    family = controlnet_family(network.tensors)
    return ControlNetFile(path, family, network, weights)


def _weights(path: Path) -> Path | None:
    if not path.is_dir():
        return path
    return next((path / name for name in FOLDER_FILES if (path / name).is_file()), None)


def _is_controlnet(file: TensorFile) -> bool:
    return any(key.startswith(MARKS) for key in file)


def _network(file: TensorFile) -> Network:
    # A ControlNet of old comes with the whole checkpoint that it was trained on.
    prefix = CONTROLNET_PREFIX if any(key.startswith(CONTROLNET_PREFIX) for key in file) else ""
    stored, values = with_prefix(file, prefix), with_prefix(without_values(file), prefix)
    if any(key.startswith("controlnet_cond_embedding.") for key in stored):
        sources = {key: Source((key,)) for key in stored}
    else:
        sources = layouts.controlnet_to_diffusers(stored)
    shapes = shapes_of(Renamed(values, sources))
    config = controlnet_config(shapes)
    needed = check_tensors("controlnet", config, shapes)
    strangers = set(stored) - {key for name in needed for key in sources[name].keys}
    if strangers:
        raise Misfit(f"has {listed(strangers)} tensors that do not belong to a ControlNet")
    tensors = Renamed(stored, {name: sources[name] for name in needed})
    return Network("controlnet", config, tensors)
