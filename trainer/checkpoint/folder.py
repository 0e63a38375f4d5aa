"""A checkpoint in a folder, in the diffusers layout; the authors' release is one too."""

from __future__ import annotations

import inspect
import json
from collections import ChainMap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel

from dmm import layouts
from dmm.errors import DmmError
from dmm.folders import weight_files
from dmm.layouts import Renamed, Source
from dmm.metadata import PredictionType
from dmm.tensors import TensorFile, open_tensors
from trainer.architecture import (
    NETWORKS,
    VAE_SCALING_FACTOR,
    Config,
    Misfit,
    read_config,
    unet_family,
)
from trainer.checkpoint.checkpoint import Checkpoint
from trainer.checkpoint.network import (
    Renaming,
    checked_network,
    shapes_of,
    style_tensors,
    without_values,
)


def _without_styles(keys: Iterable[str]) -> dict[str, Source]:
    return {key: Source((key,)) for key in set(keys) - layouts.style_keys(keys)}


TO_TODAY: dict[str, Renaming] = {
    "unet": _without_styles,
    "vae": layouts.vae_to_today,
    "text_encoder": layouts.clip,
    "text_encoder_2": layouts.clip,
}
"""From the names in a folder of any age to those of diffusers and transformers today."""

AUTHORS_EMBEDDINGS = {"model_merge": None, "model_merge_xl": "text_time"}
"""`addition_embed_type` in the authors' configs -> that of the UNet without its style prompts."""


def open_folder(path: Path) -> Checkpoint:
    """Open a folder with a unet folder in it, and with vae and text_encoder folders or without.

    Raises:
        DmmError: a file in it cannot be read.
        Misfit: it holds something else, or not all of it.
    """
    if not (path / "unet").is_dir():
        raise Misfit(f"is a folder without a unet folder in it{_hint(path)}")
    files = {name: _open_weights(path / name) for name in NETWORKS if (path / name).is_dir()}
    family = unet_family(_shapes("unet", files["unet"]))
    networks = {}
    for name, parts in files.items():
        shapes = _shapes(name, parts)
        config = read_config(name, shapes, VAE_SCALING_FACTOR[family])
        config |= _said_config(name, path / name / "config.json", config)
        tensors = ChainMap(*parts)
        renamed = Renamed(tensors, TO_TODAY[name](tensors))
        networks[name] = checked_network(name, config, renamed, shapes)
    return Checkpoint(
        path=path,
        family=family,
        networks=networks,
        prediction_type=_prediction_type(path / "scheduler" / "scheduler_config.json"),
        metadata=dict(ChainMap(*(file.metadata for file in files["unet"]))),
        weight_files=tuple(file.path for file in files["unet"]),
        styles=style_tensors(ChainMap(*files["unet"])),
    )


def _shapes(name: str, files: list[TensorFile]) -> dict[str, tuple[int, ...]]:
    values = ChainMap(*(without_values(file) for file in files))
    return shapes_of(Renamed(values, TO_TODAY[name](values)))


def _hint(path: Path) -> str:
    if (path / "transformer").is_dir():
        return "; it has a transformer folder, as Flux and Stable Diffusion 3 have"
    if (path.parent / "model_index.json").is_file():
        return f", but a part of {path.parent}, which is the folder to give"
    return ""


def _open_weights(folder: Path) -> list[TensorFile]:
    files = weight_files(folder)
    if not files:
        raise DmmError(
            f"{folder} holds no weights (diffusion_pytorch_model or model, .safetensors or .bin). "
            "Download or copy the folder again."
        )
    return [open_tensors(file) for file in files]


def _said_config(name: str, file: Path, read: Config) -> Config:
    """What the folder's own config says, which is more than the tensors tell."""
    said = _read_json(file) if file.is_file() else {}
    if name in ("unet", "vae"):
        network = UNet2DConditionModel if name == "unet" else AutoencoderKL
        known = set(inspect.signature(network.__init__).parameters)
    else:
        # Not the token ids: CLIP's published configs have them wrong (eos_token_id 2).
        known = {*read, "layer_norm_eps"} - {"bos_token_id", "eos_token_id"}
    config = {key: value for key, value in said.items() if key in known}
    if config.get("addition_embed_type") in AUTHORS_EMBEDDINGS:
        config["addition_embed_type"] = AUTHORS_EMBEDDINGS[config["addition_embed_type"]]
    return config


def _prediction_type(scheduler: Path) -> PredictionType:
    said = _read_json(scheduler).get("prediction_type") if scheduler.is_file() else None
    if said not in (None, "epsilon", "v_prediction"):
        raise Misfit(f"predicts {said!r}, neither epsilon nor v, as its scheduler_config.json says")
    return said or "epsilon"


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DmmError(f"{file} cannot be read as JSON: {error}. Get the folder again.") from error
    if not isinstance(content, dict):
        raise DmmError(f"{file} is not a table of settings. Get the folder again.")
    return content
