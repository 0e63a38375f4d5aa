"""A checkpoint in one file: the LDM layout of SD1 and the sgm layout of SDXL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from dmm import layouts
from dmm.errors import DmmError
from dmm.layouts import UNET_PREFIX, Renamed, with_prefix
from dmm.metadata import SCALING_FACTOR, Family, PredictionType
from dmm.tensors import TensorFile, open_tensors
from trainer.architecture import VAE_SCALING_FACTOR, Misfit, read_config, unet_family
from trainer.checkpoint.checkpoint import Checkpoint
from trainer.checkpoint.network import (
    Renaming,
    checked_network,
    shapes_of,
    style_tensors,
    without_values,
)
from trainer.recognise import recognise


def open_single_file(path: Path) -> Checkpoint:
    """Open a file with a UNet, and with a VAE and text encoders or without.

    Raises:
        DmmError: the file cannot be read.
        Misfit: it holds something else, or not all of it.
    """
    file = open_tensors(path)
    _refuse_other_kinds(file)
    values = without_values(file)
    unet = with_prefix(values, UNET_PREFIX)
    family = unet_family(shapes_of(Renamed(unet, layouts.unet_to_diffusers(unet))))
    scaling_factor = _scaling_factor(path, file.metadata, family)
    networks = {}
    for name, (prefix, to_diffusers, to_single) in _networks(family).items():
        stored = with_prefix(file, prefix)
        sources = to_diffusers(stored)
        if sources:
            shapes = shapes_of(Renamed(with_prefix(values, prefix), sources))
            config = read_config(name, shapes, scaling_factor)
            spell = _speller(prefix, to_single)
            tensors = Renamed(stored, sources)
            networks[name] = checked_network(name, config, tensors, shapes, spell)
    return Checkpoint(
        path=path,
        family=family,
        networks=networks,
        prediction_type=_prediction_type(file),
        metadata=file.metadata,
        weight_files=(path,),
        styles=style_tensors(with_prefix(file, UNET_PREFIX)),
    )


def _networks(family: Family) -> dict[str, tuple[str, Renaming, Renaming]]:
    """Each network's prefix in the file, and the ways to diffusers' names and back."""
    networks: dict[str, tuple[str, Renaming, Renaming]] = {
        "unet": (UNET_PREFIX, layouts.unet_to_diffusers, layouts.unet_to_ldm),
        "vae": (layouts.VAE_PREFIX, layouts.vae_to_diffusers, layouts.vae_to_ldm),
        "text_encoder": (layouts.CLIP_PREFIX[family], layouts.clip, layouts.clip),
    }
    if family == "sdxl":
        networks["text_encoder_2"] = (
            layouts.OPEN_CLIP_PREFIX,
            layouts.open_clip_to_transformers,
            layouts.open_clip_to_single,
        )
    return networks


def _speller(prefix: str, to_single: Renaming) -> Callable[[Iterable[str]], dict[str, str]]:
    """From all diffusers names of a network to how the file spells each."""

    def spell(names: Iterable[str]) -> dict[str, str]:
        sources = to_single(names)
        return {key: prefix + name for name, source in sources.items() for key in source.keys}

    return spell


def _refuse_other_kinds(file: TensorFile) -> None:
    has_unet = any(key.startswith(f"{UNET_PREFIX}input_blocks.") for key in file)
    # A ControlNet of old comes with the whole checkpoint that it was trained on.
    if not has_unet or any(key.startswith("control_model.") for key in file):
        raise Misfit(f"is {recognise(file)}")
    if "edm_mean" in file:
        raise Misfit("is a Playground 2.5 model, whose UNet predicts something else (EDM)")


def _prediction_type(file: TensorFile) -> PredictionType:
    """By the marks that trainers leave: an empty tensor `v_pred`, or modelspec metadata."""
    said = file.metadata.get("modelspec.prediction_type", "")
    return "v_prediction" if "v_pred" in file or said.startswith("v") else "epsilon"


def _scaling_factor(path: Path, metadata: Mapping[str, str], family: Family) -> float:
    """What the VAE's latents are multiplied by; our own small nets say it in the metadata."""
    said = metadata.get(SCALING_FACTOR, VAE_SCALING_FACTOR[family])
    try:
        return float(said)
    except ValueError as error:
        raise DmmError(
            f"{path} has {said!r} for {SCALING_FACTOR} in its metadata, which is no number. "
            "Get the file again from where it came."
        ) from error
